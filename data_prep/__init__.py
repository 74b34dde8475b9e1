"""Offline preparation: ``tbkin prep STEP key=value …`` (= ``python -m data_prep STEP …``).

Steps read official files and write what ``tbkin`` reads; input is never touched, output appears
under a temporary name first, and what is there already is left alone unless ``overwrite=true``.

============== ================================================== ============================
step           reads                                              writes (its only reader)
============== ================================================== ============================
tiny           nothing                                            official files, drawn
regions        pictures, perhaps boxes or features                region store
                                                                  (``tbkin/data/features.py``)
captions       captions, or caption graphs in another form        caption graphs
                                                                  (``tbkin/data/caption_graphs.py``)
knowledge      caption graphs                                     co-occurrence priors
                                                                  (``tbkin/graphs/knowledge.py``)
scene_graphs   region store and captions                          unified scene graphs
                                                                  (``tbkin/graphs/scene_graph.py``)
convert        other people's scene graphs, or ours               the same in another format
                                                                  (``tbkin/graphs/interchange``)
convert_rosita ROSITA's checkpoint, perhaps BERT's vocabulary     model folder
convert_bert   a BERT folder of transformers                      model folder
draw           scene graphs, perhaps pictures                     a page or a picture
pretraining    captions (COCO's or others), pictures              prepared folder
                                                                  (``tbkin/data/prepared.py``)
vqa            VQA 2.0 questions and annotations, pictures        prepared folder
                                                                  (``tbkin/data/prepared.py``)
refcoco        RefCOCO / + / g in any of five layouts, pictures   prepared folder
                                                                  (``tbkin/data/prepared.py``)
retrieval      pictures with captions, in any of four layouts     prepared folder
                                                                  (``tbkin/data/prepared.py``)
persons        CUHK-PEDES, ICFG-PEDES or RSTPReid, pictures       prepared folder
                                                                  (``tbkin/data/prepared.py``)
teachers       prepared folder of retrieval, encoders             teacher features
                                                                  (``tbkin/data/teachers.py``)
towers         a dual encoder of transformers, prepared folder    model folder
overlap        a split and training sets, in their own files      a table; ids; perhaps a prepared
                                                                  folder without shared pictures
============== ================================================== ============================

Steps that take long (regions, scene_graphs, teachers) write numbered shards: a stopped run goes on
where it was, and processes share the work (``tbkin/resume.py``).
"""
