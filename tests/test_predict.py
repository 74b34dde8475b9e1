"""One picture and one question, expression or caption, with the evidence."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from tbkin import predict
from tbkin.data.collate import Collator
from tbkin.data.prepared import read_split
from tbkin.detectors.pixels import open_picture
from tbkin.graphs.build import join
from tbkin.model.heads import (
    TBKINForGrounding,
    TBKINForMultiTask,
    TBKINForPreTraining,
    TBKINForQuestionAnswering,
)
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.model.selection import BLOCKS, block_mask, block_numbers, select
from tbkin.visualize.attention import content_words, load_attention
from tbkin.visualize.masked import without_word


@pytest.fixture
def question(tiny_root):
    return next(
        row for row in read_split(tiny_root.prepared, "test") if row["question_type"] == "position"
    )


@pytest.fixture
def picture(tiny_root, question):
    name = f"COCO_test2015_{question['image_id']:012d}.jpg"
    return tiny_root.official / "images" / "test2015" / name


def test_evidence_agrees_with_itself(trained, tiny_root, question, picture):
    predictor = predict.Predictor(trained, tiny_root.prepared / "regions")
    evidence = predictor(open_picture(picture), question["question"], str(question["image_id"]))
    graph = evidence.graph
    assert len(evidence.answers) == 5
    probabilities = [probability for _, probability in evidence.answers]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(evidence.node_kept) == len(evidence.node_relevance) == len(graph.nodes)
    assert len(evidence.edge_kept) == len(graph.edges)
    seen = [n for n, node in enumerate(graph.nodes) if node.type != "word"]
    share = sum(evidence.node_kept[n] for n in seen) / len(seen)
    assert evidence.nodes_kept == pytest.approx(share)
    assert max(evidence.node_relevance[n] for n in seen) == pytest.approx(1.0)
    fates = list(zip(graph.edges, evidence.edge_kept, strict=True))
    silent = [edge.type for edge, kept in fates if kept is None]
    assert set(silent) <= {"spatial", "overlap"}
    touching = [
        kept for edge, kept in fates if kept is not None and graph.nodes[edge.target].type != "word"
    ]
    assert evidence.edges_kept == pytest.approx(sum(touching) / len(touching))
    for weights in evidence.answer_attention:
        assert sum(weights) == pytest.approx(1.0, abs=1e-4)
        assert len(weights) == len(evidence.positions)


def test_training_and_prediction_give_the_same_answer(trained, tiny_root, tmp_path):
    from tbkin import evaluation

    evaluation.main(
        [f"model={trained}", f"data.root={tiny_root.prepared}", "split=test", f"output={tmp_path}"]
    )
    answered = {
        row["question_id"]: row["answer"]
        for row in json.loads((tmp_path / "predictions.json").read_text())
    }
    predictor = predict.Predictor(trained, tiny_root.prepared / "regions")
    for row in read_split(tiny_root.prepared, "test")[:6]:
        regions = predictor.store[row["image_id"]]
        path = next((tiny_root.official / "images").rglob(f"*{row['image_id']:012d}*"))
        evidence = predictor.explain(open_picture(path), regions, row["question"])
        assert evidence.answers[0][0] == answered[row["question_id"]]


def test_command_prints_json_and_writes_the_page(
    trained, tiny_root, question, picture, tmp_path, capsys
):
    report = tmp_path / "why.html"
    words = [f"model={trained}", f"image={picture}", f"question={question['question']}"]
    predict.main([*words, f"report={report}", "json=true"])
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["answers"]) == 5
    assert printed["graph"]["schema"] == "tbkin.scene_graph/1"
    assert question["question"] in report.read_text()


def test_the_models_own_detector_sees_what_the_store_holds(trained, tiny_root, question, picture):
    image = open_picture(picture)
    stored = predict.Predictor(trained, tiny_root.prepared / "regions")
    fresh = predict.Predictor(trained)
    image_id = str(question["image_id"])
    assert (stored.regions(image, image_id).boxes == fresh.regions(image, image_id).boxes).all()


def test_a_picture_that_the_detectors_files_do_not_list(trained, picture):
    with pytest.raises(LookupError, match="no boxes for image 12345"):
        predict.Predictor(trained)(open_picture(picture), "How many things?", "12345")


def test_empty_question(trained, picture, question):
    with pytest.raises(ValueError, match="the question is empty"):
        predict.Predictor(trained)(open_picture(picture), "  ", str(question["image_id"]))


def test_a_detector_that_the_model_was_not_trained_on_is_refused(trained, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["detector"] = {"name": "grid", "rows": 2}
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"detector of the checkpoint .*got 'grid 2x6'"):
        predict.Predictor(folder)(Image.new("RGB", (8, 8)), "What is this?")


# Attention before and after the threshold.


@pytest.fixture
def predictor(trained, tiny_root):
    return predict.Predictor(trained, tiny_root.prepared / "regions")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"selection_rule": "prob", "selection_threshold": 0.05, "selection_renormalize": False},
        {"selection_rule": "entmax15"},
        {"selection_layers": [1], "selection_blocks": ["text-image", "graph"]},
        {"selection_rule": "none", "knowledge_rule": "none"},
        {"graph_encoder": "none", "selection_threshold": 0.3},
        {"attributes_attended": False},
    ],
    ids=lambda changes: ",".join(changes) or "as trained",
)
def test_the_export_is_what_the_model_did(predictor, picture, question, changes):
    if "graph_encoder" in changes:  # weights of another shape
        config = predictor.model.config.changed(changes)
        predictor.model = type(predictor.model)(config).eval()
    else:
        predictor = predictor.changed(**changes)
    image_id = str(question["image_id"])
    regions = predictor.regions(open_picture(picture), image_id)
    evidence = predictor.explain(open_picture(picture), regions, question["question"])
    export, config = evidence.attention, predictor.model.config
    sizes = export.sizes
    assert sum(sizes) == len(export.positions) == export.logits.shape[-1] == len(export.valid)
    assert export.positions[sizes[0]].startswith("0 ")
    assert bool(sizes[2]) == (config.graph_encoder != "none")
    selectable = block_mask(config.selection_blocks, sizes)
    for layer, logits in enumerate(export.logits):
        chosen = layer in (config.selection_layers or [0, 1])
        rule = config.selection_rule if chosen else "none"
        after, keep = select(
            logits,
            export.valid,
            rule,
            config.selection_threshold,
            config.selection_renormalize,
            selectable,
        )
        assert torch.equal(after, export.after[layer])
        assert torch.equal(keep, export.keep[layer])
        assert torch.equal(select(logits, export.valid, "none")[0], export.before[layer])
        assert export.drops(layer) == (rule != "none")
        # Counted anew: a number a block, over heads.
        counted = [
            keep[:, block_numbers(sizes) == block].sum().item() for block in range(len(BLOCKS))
        ]
        assert export.pairs[layer, :, 0].tolist() == counted
    kept, valid = export.pairs.sum(dim=1).unbind(dim=-1)
    assert evidence.attention_kept == pytest.approx((kept / valid).tolist())
    if not config.attributes_attended:
        assert not export.valid[-sizes[2] :].any()


def test_words_of_the_tokens(predictor, picture, question):
    evidence = predictor(open_picture(picture), question["question"], str(question["image_id"]))
    export, words = evidence.attention, evidence.graph.words
    for place, word in enumerate(export.words):
        name = export.positions[place]
        assert name == (words[word].lower() if word >= 0 else name)
        assert (word < 0) == (name in ("[CLS]", "[SEP]"))
    masked = [(view.kind, view.index) for view in evidence.masked]
    assert masked[:-3] == [("word", word) for word in content_words(evidence.graph, export)][:6]
    assert [kind for kind, _ in masked[-3:]] == ["region"] * 3
    for view in evidence.masked:
        assert sum(view.weights) == pytest.approx(1.0, abs=1e-5)
        assert len(view.weights) == export.sizes[view.kind == "word"]
        if view.kind == "region":
            assert view.weights[0] == 0  # [CLS] is no word


def test_words_of_the_tokens_are_the_processors(predictor, picture, question, monkeypatch):
    # The text is cut and spelled in one place, which the example comes from too.
    processor, tokenize = predictor.processor, predictor.processor.tokenize
    monkeypatch.setattr(processor, "tokenize", lambda words: tokenize(words[:3]))
    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    export = predictor.explain(open_picture(picture), regions, question["question"]).attention
    assert export.sizes[0] == 5
    assert export.words == [-1, 0, 1, 2, -1]


def test_a_masked_view_is_one_run_with_the_word_hidden(predictor, picture, question):
    # Slowly: the masked example alone, its row by hand.
    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    text = "What color is the small circle?"
    (view,) = predictor.masked_views(regions, text, [5], [])
    processor = predictor.processor
    graph = without_word(processor.parse(text), 5, "[MASK]")
    seen, known = processor.seen(regions)
    batch = Collator(0)([processor.encode(seen, join(known, graph))])
    assert batch["input_ids"][0, 6] == processor.tokenizer.mask_token_id  # after [CLS]
    outputs = predictor.model(**batch, output_attentions=True)
    tokens = batch["input_ids"].shape[1]
    columns = slice(tokens, tokens + len(regions))
    logits = outputs.attention_logits[-1][0, :, 6, columns].sum(dim=0)
    weights = logits.masked_fill(~outputs.node_keep[0, columns], -torch.inf).softmax(dim=-1)
    assert view.weights == pytest.approx(weights.tolist(), abs=1e-5)


def test_a_masked_view_cannot_know_what_is_masked(predictor, picture, question):
    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    views = [
        predictor.masked_views(regions, f"What color is the small {word}?", [5], [1])
        for word in ("circle", "square", regions.labels[0])
    ]
    assert views[0][0].weights == pytest.approx(views[1][0].weights, abs=1e-5)
    assert views[0][0].weights == pytest.approx(views[2][0].weights, abs=1e-5)
    assert views[0][1].weights != pytest.approx(views[1][1].weights, abs=1e-3)  # the text's word
    other = replace(
        regions,
        labels=[regions.labels[0], "thing", *regions.labels[2:]],
        attributes=[regions.attributes[0], [("red", 0.9)], *regions.attributes[2:]],
        features=regions.features.clone(),
    )
    other.features[1] += 1
    (changed,) = predictor.masked_views(other, "What color is the small circle?", [], [1])
    assert changed.weights == pytest.approx(views[0][1].weights, abs=1e-5)
    (unmasked,) = predictor.masked_views(other, "What color is the small circle?", [], [0])
    (before,) = predictor.masked_views(regions, "What color is the small circle?", [], [0])
    assert unmasked.weights != pytest.approx(before.weights, abs=1e-6)


def test_masking_alone_equals_masking_together(predictor, picture, question):
    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    text = question["question"]
    together = predictor.masked_views(regions, text, [2, 3], [0, 1])
    alone = [
        *predictor.masked_views(regions, text, [2], []),
        *predictor.masked_views(regions, text, [3], []),
        *predictor.masked_views(regions, text, [], [0]),
        *predictor.masked_views(regions, text, [], [1]),
    ]
    for one, other in zip(together, alone, strict=True):
        assert (one.kind, one.index) == (other.kind, other.index)
        assert one.weights == pytest.approx(other.weights, abs=1e-5)
    assert predictor.masked_views(regions, text, [], []) == []


def test_what_cannot_be_masked(predictor, picture, question):
    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    with pytest.raises(ValueError, match=r"no word 9 to mask; there are 4, .* fit in \d+ tokens"):
        predictor.masked_views(regions, "Is there a circle?", [9], [])
    with pytest.raises(ValueError, match="no region 99 to mask"):
        predictor.masked_views(regions, "Is there a circle?", [], [99])


def test_a_tokenizer_without_a_mask_masks_no_words(predictor, picture, question):
    predictor.processor.tokenizer.mask_token = None
    evidence = predictor(open_picture(picture), question["question"], str(question["image_id"]))
    assert {view.kind for view in evidence.masked} == {"region"}
    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    with pytest.raises(ValueError, match="no mask token; it cannot mask words"):
        predictor.masked_views(regions, question["question"], [0], [])


def test_a_word_of_several_pieces_is_masked_whole(predictor, picture, question):
    # "circle" in two pieces: the example with its mask is a token shorter, its row where it was.
    class Pieces:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

        def __call__(self, words, **settings):
            pieces = [
                one for word in words for one in (["cir", "cle"] if "cir" in word else [word])
            ]
            encoding = self.tokenizer(pieces, **settings)
            of_piece = [n for n, word in enumerate(words) for _ in range(1 + ("cir" in word))]
            of_token = [None if one is None else of_piece[one] for one in encoding.word_ids()]
            encoding.word_ids = lambda: of_token
            return encoding

    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    text = "Is the circle above the square?"
    (whole,) = predictor.masked_views(regions, text, [2], [])
    predictor.processor.tokenizer = Pieces(predictor.processor.tokenizer)
    word, region = predictor.masked_views(regions, text, [2], [0])
    assert word.weights == pytest.approx(whole.weights, abs=1e-5)
    assert len(region.weights) == 9  # [CLS] is the cir cle above the square [SEP]
    assert region.weights[0] == region.weights[8] == 0 < region.weights[4]


def test_other_thresholds_on_the_same_weights(predictor, trained, picture, question):
    image, image_id = open_picture(picture), str(question["image_id"])
    regions = predictor.regions(image, image_id)
    shares = []
    for threshold in (0.0, 0.05, 0.5, 1.0):
        other = predictor.changed(selection_threshold=threshold, knowledge_threshold=threshold)
        evidence = other.explain(image, regions, question["question"])
        shares.append((sum(evidence.attention_kept), evidence.nodes_kept))
    assert shares[0] == (2.0, 1.0)
    assert shares == sorted(shares, reverse=True)
    assert shares[3][1] < shares[1][1]
    # The same as reading the weights again under these settings; the old one is as it was.
    read = TBKINForQuestionAnswering.from_pretrained(
        trained, selection_threshold=1.0, knowledge_threshold=1.0
    )
    for name, weight in read.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name])
    predictor_again, predictor.model = predictor.model, read.eval()
    again = predictor.explain(image, regions, question["question"])
    assert again.answers == evidence.answers
    assert predictor_again.config.selection_threshold == 0.05
    with pytest.raises(ValueError, match="did you mean 'selection_threshold'"):
        predictor.changed(selection_treshold=0.1)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_command_writes_the_attention(trained, question, picture, tmp_path, capsys, suffix):
    path = tmp_path / f"attention{suffix}"
    words = [f"model={trained}", f"image={picture}", f"question={question['question']}"]
    predict.main([*words, f"attention={path}"])
    printed = capsys.readouterr().out
    export = load_attention(path)
    for line in export.lines():
        assert f"\n  {line}\n" in printed
    assert printed.count("text-image ") == 2
    assert f"attention: {path}" in printed
    after, keep = select(export.logits, export.valid, "rel_max", 0.05)
    assert torch.equal(keep, export.keep)
    assert torch.equal(after, export.after)
    predict.main([*words, "json=true"])
    blocks = json.loads(capsys.readouterr().out)["attention_blocks"]
    assert [list(layer.values()) for layer in blocks] == export.shares()


def test_a_file_that_cannot_be_written_is_said_first(trained):
    words = [f"model={trained}", "image=missing.jpg", "question=Why?", "attention=a.npz"]
    with pytest.raises(ValueError, match=r"a\.npz: attention is written to"):
        predict.main(words)


def test_the_rule_in_words(predictor, picture, question):
    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    said = []
    for changes in (
        {},
        {"selection_layers": [0], "selection_blocks": ["graph"]},
        {"selection_rule": "none"},
        {"selection_rule": "entmax15", "selection_renormalize": False},
        {"selection_rule": "top_k", "selection_threshold": 4, "selection_phase": "train"},
        {"selection_renormalize": False, "selection_blocks": ["text-image"]},
    ):
        one = predictor.changed(**changes)
        said.append(one.explain(open_picture(picture), regions, "Why?").selection)
    assert said == [
        "rel_max 0.05 in all layers",
        "rel_max 0.05 in layers [0], graph only",
        "none",
        "entmax15 in all layers",
        "top_k 4 in all layers, in training only",
        "rel_max 0.05 in all layers, text-image only, not renormalised",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "relevance rel_max 0.1"),
        ({"knowledge_rule": "none"}, "relevance none"),
        ({"knowledge_rule": "sparsemax"}, "relevance sparsemax"),
        ({"credibility_rule": "prob", "credibility_threshold": 0.02},
         "credibility prob 0.02, relevance rel_max 0.1"),
        ({"credibility_rule": "rel_max", "knowledge_relevance": False}, "credibility rel_max 0.4"),
        ({"knowledge_relevance": False}, "none"),
        ({"credibility_rule": "rel_max", "read_labels": False}, "relevance rel_max 0.1"),
        ({"graph_encoder": "none"}, "no graph"),
    ],
)  # fmt: skip
def test_the_knowledge_sites_rules_in_words(predictor, picture, question, changes, expected):
    config = predictor.model.config.changed(changes)  # some have weights of another shape
    predictor.model = type(predictor.model)(config).eval()
    regions = predictor.regions(open_picture(picture), str(question["image_id"]))
    assert predictor.explain(open_picture(picture), regions, "Why?").knowledge == expected


def test_learned_thresholds_are_shown(trained, picture, question, tmp_path, capsys):
    words = [f"model={trained}", f"image={picture}", f"question={question['question']}"]
    predict.main([*words, "json=true"])
    assert json.loads(capsys.readouterr().out)["attention_thresholds"] is None
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    model = TBKINForQuestionAnswering.from_pretrained(
        trained, selection_learning="straight_through", selection_layers=[1]
    )
    with torch.no_grad():  # the second layer's heads: 0.05 e^s
        for name, shift in model.named_parameters():
            if name.endswith("threshold_shift"):
                shift.copy_(torch.log(torch.linspace(1, 4, len(shift))).view_as(shift))
    model.save_pretrained(folder)
    words[0] = f"model={folder}"
    predict.main([*words, "json=true"])
    first, second = json.loads(capsys.readouterr().out)["attention_thresholds"]
    heads = model.config.num_attention_heads
    assert first is None
    assert second == pytest.approx(torch.linspace(0.05, 0.2, heads).tolist())
    predict.main(words)
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if "learned thresholds" in line]
    said = " ".join(f"{threshold:.3g}" for threshold in second)
    assert shown == [f"  layer 2: learned thresholds of the heads {said}"]
    image, image_id = open_picture(picture), str(question["image_id"])
    evidence = predict.Predictor(folder)(image, question["question"], image_id)
    assert evidence.selection == "rel_max 0.05 in layers [1], learned a head"


# Referring expressions.


@pytest.fixture(scope="module")
def expressions(tiny_root, tmp_path_factory):
    """The tiny world's expressions, prepared on the regions of its questions."""
    import data_prep.refcoco

    folder = tmp_path_factory.mktemp("expressions") / "prepared"
    data_prep.refcoco.main(
        [
            f"data.root={tiny_root.official}",
            f"output={folder}",
            f"regions={tiny_root.prepared / 'regions'}",
            "detector=detected",
        ]
    )
    return folder


@pytest.fixture(scope="module")
def untrained(trained, tmp_path_factory):
    """``make(model class, **changes) ->`` folder of a checkpoint with random weights."""

    def make(model_class, **changes):
        torch.manual_seed(0)
        source = TBKINForQuestionAnswering.from_pretrained(trained).config
        folder = tmp_path_factory.mktemp("untrained")
        model = model_class(source.changed({"initializer_range": 0.2, **changes}))
        model.save_pretrained(folder)
        predict.TBKINProcessor.from_pretrained(trained).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def grounding(untrained):
    return untrained(TBKINForGrounding)


def picture_of(tiny_root, row):
    return next((tiny_root.official / "images").rglob(f"*{row['image_id']:012d}*"))


def test_the_box_is_the_one_that_is_scored(grounding, tiny_root, expressions, tmp_path):
    from tbkin import evaluation

    words = [f"model={grounding}", f"data.root={expressions}", "split=val", f"output={tmp_path}"]
    evaluation.main(["task=grounding", *words])
    scored = json.loads((tmp_path / "predictions.json").read_text())
    predictor = predict.Predictor(grounding, expressions / "regions")
    for row in read_split(expressions, "val")[:6]:
        regions = predictor.store[row["image_id"]]
        image = open_picture(picture_of(tiny_root, row))
        grounded = predictor.explain_box(image, regions, row["expression"]).grounded
        assert grounded.box == pytest.approx(scored[str(row["sentence_id"])], abs=1e-3)
        grounded.true_box = row["box"]
        # By hand: shared area over the rest.
        (left, top, right, bottom), (x, y, across, down) = grounded.box, row["box"]
        shared = max(min(right, across) - max(left, x), 0) * max(min(bottom, down) - max(top, y), 0)
        both = (right - left) * (bottom - top) + (across - x) * (down - y) - shared
        assert grounded.iou == pytest.approx(shared / both, abs=1e-6)


def test_evidence_of_a_box_is_about_the_chosen_region(grounding, tiny_root, expressions):
    row = read_split(expressions, "val")[0]
    predictor = predict.Predictor(grounding, expressions / "regions")
    image = open_picture(picture_of(tiny_root, row))
    evidence = predictor.ground(image, row["expression"], str(row["image_id"]))
    assert (evidence.kind, evidence.answers) == ("expression", [])
    probabilities = evidence.grounded.probabilities
    assert len(probabilities) == len(evidence.graph.of_type("region")) > 1
    assert sum(probabilities) == pytest.approx(1.0)
    # A softmax over the model's scores, run again.
    regions = predictor.store[row["image_id"]]
    batch = Collator(0)([predictor.processor(regions, row["expression"])])
    with torch.no_grad():
        outputs = predictor.model(**batch)
    exponents = outputs.box_logits[0].exp()
    assert probabilities == pytest.approx((exponents / exponents.sum()).tolist(), abs=1e-6)
    (chosen, most), *rest = evidence.grounded.best(5)
    assert chosen == probabilities.index(max(probabilities))
    assert [most, *(one for _, one in rest)] == sorted(probabilities, reverse=True)[:5]
    after = evidence.attention.after.mean(dim=1)  # layers, L, L
    position = evidence.attention.sizes[0] + chosen
    assert evidence.answer_attention == after[:, position].tolist() != after[:, 0].tolist()
    masked = [view.index for view in evidence.masked if view.kind == "region"]
    assert masked == [region for region, _ in evidence.grounded.best(3)]


def test_a_model_that_says_boxes_directly_ranks_none(untrained, tiny_root, expressions, capsys):
    folder = untrained(TBKINForGrounding, grounding_box="direct")
    row = read_split(expressions, "val")[0]
    path = picture_of(tiny_root, row)
    words = [f"model={folder}", f"image={path}", f"expression={row['expression']}"]
    predict.main([*words, f"regions={expressions / 'regions'}"])
    printed = capsys.readouterr().out
    assert "the model says the box directly; it ranks no candidates" in printed
    predictor = predict.Predictor(folder, expressions / "regions")
    evidence = predictor.ground(open_picture(path), row["expression"], str(row["image_id"]))
    assert evidence.grounded.best(5) == []
    after = evidence.attention.after.mean(dim=1)
    assert evidence.answer_attention == after[:, 0].tolist()
    regions = predictor.store[row["image_id"]]
    with torch.no_grad():
        direct = predictor.model(**Collator(0)([predictor.processor(regions, row["expression"])]))
    most = [regions.width, regions.height] * 2
    box = zip(direct.direct_boxes[0].tolist(), most, strict=True)
    cut = [min(max(side, 0), 1) * of for side, of in box]
    assert evidence.grounded.box == pytest.approx(cut, abs=1e-3)


def test_one_model_of_both_tasks_does_both(untrained, tiny_root, expressions, question, picture):
    predictor = predict.Predictor(untrained(TBKINForMultiTask), expressions / "regions")
    image, image_id = open_picture(picture), str(question["image_id"])
    answered = predictor(image, question["question"], image_id)
    assert len(answered.answers) == 5
    assert answered.grounded is None
    assert predictor.ground(image, "the circle", image_id).grounded.box


def test_what_a_model_cannot_be_asked(trained, grounding, untrained, tiny_root, picture):
    image = open_picture(picture)
    with pytest.raises(
        ValueError,
        match=r"TBKINForGrounding, which takes expressions only: expression=…; for a model that "
        r"takes questions: tbkin train task=vqa init_from=",
    ):
        predict.Predictor(grounding)(image, "What is this?")
    with pytest.raises(ValueError, match=r"TBKINForQuestionAnswering, which takes questions only"):
        predict.Predictor(trained).ground(image, "the circle")
    with pytest.raises(ValueError, match=r"the expression is empty; .*expression=\"the red squa"):
        predict.Predictor(grounding).ground(image, " ")
    folder = untrained(TBKINForPreTraining)
    with pytest.raises(
        ValueError,
        match=r"TBKINForPreTraining, which answers no .* and matches no captions; .*vqa or groun",
    ):
        predict.Predictor(folder)


def test_a_picture_without_regions_has_nothing_to_choose(grounding, tiny_root, expressions):
    predictor = predict.Predictor(grounding, expressions / "regions")
    regions = next(predictor.store[image_id] for image_id in predictor.store.places)
    none = replace(
        regions,
        boxes=regions.boxes[:0],
        features=regions.features[:0],
        labels=[],
        scores=[],
        attributes=[],
        relations=[],
    )
    with pytest.raises(ValueError, match=r"picture \d+ has no regions to choose among; give some"):
        predictor.explain_box(None, none, "the circle")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["question=Why?", "expression=the circle"],
        ["question=Why?", "caption=a circle"],
        ["question=Why?", "expression=the circle", "caption=a circle"],
    ],
)
def test_one_text_of_any_kind(grounding, words):
    wanted = r'image=FILE, and one of question="…", expression="…", caption="…"\.'
    with pytest.raises(ValueError, match=wanted):
        predict.main([f"model={grounding}", "image=missing.jpg", *words])


def test_command_grounds_an_expression(grounding, question, picture, tmp_path, capsys):
    words = [f"model={grounding}", f"image={picture}", "expression=the small circle"]
    report, attention = tmp_path / "why.html", tmp_path / "attention.json"
    predict.main([*words, "json=true"])
    printed = json.loads(capsys.readouterr().out)
    assert "question" not in printed
    assert "answers" not in printed
    assert printed["expression"] == "the small circle"
    predict.main([*words, f"report={report}", f"attention={attention}"])
    lines = capsys.readouterr().out.splitlines()
    sides = " ".join(f"{side:.1f}" for side in printed["box"])
    assert lines[0] == f"box: {sides}  (left, top, right, bottom in pixels)"
    for line, one in zip(lines[1:], printed["candidates"], strict=False):
        assert line == f"{one['probability']:6.1%}  {one['name']}"
        assert one["name"].startswith(f"{one['region']} ")
        node = printed["graph"]["nodes"][one["region"]]
        assert node["box"] == one["box"]
    assert lines[len(printed["candidates"]) + 1].startswith("kept: ")
    assert "the small circle" in report.read_text()
    assert load_attention(attention).positions[0] == "[CLS]"


# Captions.


@pytest.fixture(scope="module")
def matching(untrained):
    """A judge whose bias is not where it started."""
    folder = untrained(TBKINForImageTextRetrieval)
    model = TBKINForImageTextRetrieval.from_pretrained(folder)
    torch.nn.init.constant_(model.match_head.bias[1:], 0.3)
    model.save_pretrained(folder)
    return folder


def test_evidence_of_a_match_is_of_picture_and_caption_together(matching, picture, question):
    predictor = predict.Predictor(matching)
    image, image_id = open_picture(picture), str(question["image_id"])
    caption = "A red circle is left of a square."
    evidence = predictor.match(image, caption, image_id)
    assert (evidence.kind, evidence.answers, evidence.grounded) == ("caption", [], None)
    batch = Collator(0)([predictor.processor(predictor.regions(image, image_id), caption)])
    with torch.no_grad():
        outputs = predictor.model.match(**batch, output_attentions=True)
    exponents = outputs.match_logits[0].exp()
    assert evidence.matched.probability == pytest.approx(float(exponents[1] / exponents.sum()))
    other = predictor.match(image, "Two stars.", image_id).matched.probability
    assert other != evidence.matched.probability
    # Words and regions are in one pass: words look at regions.
    words, regions = evidence.attention.sizes[:2]
    assert regions == len(evidence.graph.of_type("region")) > 1
    after = evidence.attention.after
    assert torch.equal(after, torch.stack(outputs.attentions)[:, 0])
    assert after[:, :, :words, words : words + regions].sum() > 0
    assert evidence.answer_attention == after.mean(dim=1)[:, 0].tolist()
    assert evidence.attention_kept == outputs.attention_kept.tolist()
    assert {view.kind for view in evidence.masked} == {"word", "region"}


def test_a_match_of_one_that_only_judges(untrained, picture, question):
    folder = untrained(TBKINForImageTextRetrieval, embedding_size=0)
    with pytest.raises(ValueError, match=r"never learned to judge pairs"):
        predict.Predictor(folder).match(open_picture(picture), "A circle.", "")
    model = TBKINForImageTextRetrieval.from_pretrained(folder)
    torch.nn.init.ones_(model.match_head.bias)
    model.save_pretrained(folder)
    predictor = predict.Predictor(folder)
    evidence = predictor.match(open_picture(picture), "A circle.", str(question["image_id"]))
    assert 0 < evidence.matched.probability < 1


def test_command_matches_a_caption(matching, trained, question, picture, tmp_path, capsys):
    words = [f"model={matching}", f"image={picture}", "caption=a <small> circle"]
    report = tmp_path / "why.html"
    predict.main([*words, "json=true"])
    printed = json.loads(capsys.readouterr().out)
    assert "question" not in printed
    assert "answers" not in printed
    assert printed["caption"] == "a <small> circle"
    predict.main([*words, f"report={report}"])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{printed['probability']:6.1%}  picture and caption belong together"
    assert second.startswith("kept: ")
    assert "a &lt;small&gt; circle" in report.read_text()
    with pytest.raises(ValueError, match=r"which takes captions only: caption=…; for a model that"):
        predict.main([words[0], words[1], "question=Why?"])
    with pytest.raises(ValueError, match=r"takes captions: tbkin train .*matching\.weight=1 init"):
        predict.Predictor(trained).match(open_picture(picture), "A circle.")
    with pytest.raises(ValueError, match=r'the caption is empty; write something: caption="a red'):
        predict.Predictor(matching).match(open_picture(picture), " ")
