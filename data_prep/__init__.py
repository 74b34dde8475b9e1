"""Offline preparation: ``tbkin prep STEP key=value …`` (= ``python -m data_prep STEP …``).

Steps read official files and write what ``tbkin`` reads; input is never touched, output appears
under a temporary name first, and what is there already is left alone unless ``overwrite=true``.

======== ===================================================== ============================
step     reads                                                 writes (its only reader)
======== ===================================================== ============================
tiny     nothing                                               official files, drawn
regions  a folder of pictures, perhaps boxes or features       region store
                                                               (``tbkin/data/features.py``)
vqa      VQA 2.0 questions and annotations, pictures           prepared folder
                                                               (``tbkin/data/prepared.py``)
======== ===================================================== ============================
"""
