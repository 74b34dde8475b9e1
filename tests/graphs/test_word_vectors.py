import gzip
import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tbkin.graphs.alignment import alignment_strength
from tbkin.graphs.vector_files import FileVectors, read_vectors
from tbkin.graphs.vector_models import EncoderVectors, SpacyVectors, pool
from tbkin.graphs.word_vectors import (
    STRONG_COSINE,
    WEAK_COSINE,
    VectorSimilarity,
    load_similarity,
)
from tbkin.graphs.words import label_similarity

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "alignment.py"

# Length 1 or 2, so that a cosine is easily told: cos(dog, puppy) = 0.8, cos(dog, cat) = 0.96.
LINES = ["dog 1 0", "puppy 1.6 1.2", "cat 0.96 0.28", "red 0 1", "blue 0 2", "zero 0 0", ". . 3 4"]


def two_dimensional(**words):
    return FileVectors(list(words), np.array(list(words.values()), dtype=float), "made up")


def at(degrees):
    return (math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


@pytest.mark.parametrize("header", [[], ["7 2"]])
@pytest.mark.parametrize("packed", [False, True])
def test_text_files(tmp_path, header, packed):
    content = ("\n".join([*header, *LINES, ""])).encode()
    path = tmp_path / "vectors.txt"  # gzip is told by its content
    path.write_bytes(gzip.compress(content) if packed else content)
    vectors = read_vectors(path)
    assert vectors.vector("dog").tolist() == [1, 0]
    assert vectors.vector("puppy") == pytest.approx([0.8, 0.6])
    assert vectors.vector("zero") is None
    assert vectors.vector("horse") is None
    if header:  # without, the width is that of the first line
        assert vectors.vector(". .") == pytest.approx([0.6, 0.8])
    assert vectors.describe() == "vectors.txt (7 words, 2 numbers each)"


def test_arrays(tmp_path):
    words, matrix = ["dog", "puppy", "dog"], np.array([[2, 0], [0, 3], [0, 1]], dtype=np.float16)
    np.savez(tmp_path / "a.npz", words=np.array(words), vectors=matrix)
    np.save(tmp_path / "b.npy", matrix)
    (tmp_path / "b.words.txt").write_text("dog\npuppy\ndog\n", encoding="utf-8")
    for name in ("a.npz", "b.npy"):
        vectors = read_vectors(tmp_path / name)
        assert vectors.vector("dog").tolist() == [1, 0]  # the first of two
        assert vectors.vector("puppy").tolist() == [0, 1]
    assert isinstance(read_vectors(tmp_path / "b.npy").matrix, np.memmap)


def test_files_that_are_none(tmp_path):
    def fails(name, message, kind=ValueError):
        with pytest.raises(kind, match=message):
            read_vectors(tmp_path / name)

    fails("none.txt", r"no word vectors .*none.txt; GloVe's are at", FileNotFoundError)
    (tmp_path / "a.txt").write_text("dog 1 2\ncat 1\n")
    fails("a.txt", r"a.txt, line 2: not a word and its 2 numbers")
    (tmp_path / "b.txt").write_text("dog 1 2\ncat 1 x\n")
    fails("b.txt", r"b.txt, line 2: .*expected GloVe's text format")
    (tmp_path / "c.txt").write_text("\n")
    fails("c.txt", r"holds no word vectors")
    np.save(tmp_path / "d.npy", np.zeros((2, 3)))
    fails("d.npy", r"needs its words.*d.words.txt, d.txt, words.txt", FileNotFoundError)
    (tmp_path / "words.txt").write_text("dog\n")
    fails("d.npy", r"1 words need a matrix of 1 rows, got one of shape \(2, 3\)")
    np.savez(tmp_path / "e.npz", words=np.array(["dog", None], dtype=object))
    fails("e.npz", r"pickled objects, which are not read")
    np.savez(tmp_path / "f.npz", vectors=np.zeros((1, 2)))
    fails("f.npz", r"must hold one list of strings and one matrix .*got float64 \(1, 2\)")
    (tmp_path / "g.npy").write_bytes(b"no array")
    fails("g.npy", r"no matrix that numpy can read")
    (tmp_path / "h.gz").write_bytes(gzip.compress(b"dog 1 2\n" * 99)[:-9])
    fails("h.gz", r"is damaged")


def test_strength_is_rositas_without_the_tables():
    similarity = VectorSimilarity(
        two_dimensional(dog=at(0), puppy=at(30), wolf=at(60), cat=at(70)), tables=False
    )
    assert similarity("dog", "puppy") == pytest.approx(alignment_strength(math.sqrt(3) / 2))
    assert similarity("dogs", "Wolf") == pytest.approx(alignment_strength(0.5))
    assert similarity("dog", "cat") == 0.0  # cosine 0.34
    assert similarity("dog", "unheard") == 0.0
    assert similarity("dog", "cat,puppy") == similarity("dog", "puppy")
    assert similarity("dog", "dog") == pytest.approx(1.0)
    assert similarity("", "dog") == similarity("dog", "") == 0.0


def test_other_scales_are_mapped_to_the_curves_two_points():
    vectors = two_dimensional(dog=at(0), a=at(30), b=at(45), c=at(50))
    similarity = VectorSimilarity(
        vectors, weak=math.cos(math.radians(45)), strong=math.cos(math.radians(30)), tables=False
    )
    assert similarity("dog", "a") == pytest.approx(0.9, abs=1e-3)
    assert similarity("dog", "b") == pytest.approx(0.5, abs=1e-3)
    assert similarity("dog", "c") == 0.0
    assert alignment_strength(WEAK_COSINE) == pytest.approx(0.5, abs=1e-3)
    assert alignment_strength(STRONG_COSINE) == pytest.approx(0.9, abs=1e-3)
    with pytest.raises(ValueError, match=r"-1 <= weak < strong <= 1, got weak=0.9, strong=0.8"):
        VectorSimilarity(vectors, 0.9, 0.8)


def test_tables_and_vectors_together():
    near = at(5)
    similarity = VectorSimilarity(
        two_dimensional(
            dog=at(0), cat=near, wombat=near, couch=at(0), sofa=at(90), red=at(0), blue=near
        )
    )
    assert similarity("dog", "cat") == 0.0  # two kinds of animal, whatever the vectors say
    assert similarity("dog", "wombat") > 0.9  # the tables know nothing of it
    assert similarity("sofa", "couch") == label_similarity("sofa", "couch") == 0.95
    assert similarity("dog", "dog") == 1.0
    assert similarity("dog", "kangaroo") == 0.0  # no vector
    # Colours are never compared by vectors.
    assert similarity.attribute("red", "blue") == 0.0
    assert similarity.attribute("gray", "grey") == 0.95


def test_compounds_are_looked_up_whole_then_by_their_head():
    similarity = VectorSimilarity(
        two_dimensional(dog=at(0), wombat=at(5), fire_hydrant=at(90), hydrant=at(0), sign=at(0)),
        tables=False,
    )
    assert similarity("giant wombat", "dog") > 0.9
    assert similarity("fire hydrant", "dog") == 0.0  # its own vector
    assert similarity("hot dog", "dog") == 0.0  # no dog
    assert similarity("street sign", "stop sign") == 0.0  # both known by their heads only
    assert similarity("street sign", "sign") == pytest.approx(1.0)
    assert similarity.cosine("unheard", "dog") is None


def test_answers_are_kept_so_that_a_picture_costs_little():
    asked = []

    class Counting:
        def vector(self, name):
            asked.append(name)
            return np.array([1.0, 0.0])

        def describe(self):
            return "counted"

    similarity = VectorSimilarity(Counting())
    for _ in range(50):
        similarity("wombat", "kangaroo")
        similarity("kangaroo", "wombat")
    assert sorted(asked) == ["kangaroo", "wombat"]
    assert similarity.describe().startswith("counted; aligned from cosine 0.44855, strongly from")


def test_short_vectors_have_a_stricter_scale(tmp_path):
    for width, weak in ((50, 0.80), (300, WEAK_COSINE)):
        np.savez(tmp_path / "v.npz", words=np.array(["dog"]), vectors=np.ones((1, width)))
        assert load_similarity(f"glove:{tmp_path}/v.npz").weak == weak
        assert load_similarity(f"glove:{tmp_path}/v.npz", weak=0.3, strong=0.4).weak == 0.3


def test_the_embedded_default_says_how_good_it_is():
    similarity = load_similarity()
    assert "95 %" in similarity.describe()
    assert "benchmarks/alignment.py" in similarity.describe()
    assert similarity("sofa", "couch") == similarity.attribute("big", "large") == 0.95


@pytest.mark.parametrize("source", ["glove", "glove:", "word2vec:x", "", "embedded:x"])
def test_unknown_sources_name_those_there_are(source):
    with pytest.raises(ValueError, match=r"choose from: embedded, glove:FILE, spacy:MODEL, enc"):
        load_similarity(source)


def test_the_embedded_default_has_no_cosines():
    with pytest.raises(ValueError, match=r"vectors=embedded has no cosines"):
        load_similarity("embedded", weak=0.3)


def test_a_spacy_model_needs_vectors(tmp_path):
    spacy = pytest.importorskip("spacy")
    with pytest.raises(ValueError, match=r"'no_such_model' cannot be loaded.*download en_core_web"):
        SpacyVectors("no_such_model")
    model = spacy.blank("en")
    model.to_disk(tmp_path / "small")
    with pytest.raises(ValueError, match=r"has no word vectors.*download en_core_web_md"):
        load_similarity(f"spacy:{tmp_path / 'small'}")
    model.vocab.set_vector("dog", np.array([3.0, 4.0], dtype=np.float32))
    model.to_disk(tmp_path / "large")
    vectors = SpacyVectors(tmp_path / "large")
    assert vectors.vector("dog") == pytest.approx([0.6, 0.8])
    assert vectors.vector("cat") is None
    assert vectors.vector("") is None
    assert vectors.describe().endswith("(1 words, 2 numbers each)")


def test_pooling_over_the_tokens_that_are_there():
    import torch

    states = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(states, mask, "mean").tolist() == [[2, 1]]
    assert pool(states, mask, "max").tolist() == [[3, 2]]
    assert pool(states, mask, "cls").tolist() == [[1, 0]]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """A BERT of 8 numbers with random weights, in sentence-transformers' layout."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "alarm", "clock"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=len(words), num_hidden_layers=1, **size)
    BertModel(config).save_pretrained(folder)
    return folder


def test_a_sentence_encoder(encoder_folder):
    vectors = EncoderVectors(encoder_folder)
    assert vectors.pooling == "mean"
    alone, clock = vectors.vector("dog"), vectors.vector("alarm clock")
    assert np.linalg.norm(alone) == pytest.approx(1)
    # Padding beside a longer text changes nothing.
    assert vectors.vectors(["dog", "alarm clock"])[0] == pytest.approx(alone, abs=1e-6)
    assert not np.allclose(alone, clock, atol=1e-3)
    assert vectors.vector(" ") is None
    similarity = load_similarity(f"encoder:{encoder_folder}")
    assert (similarity.weak, similarity.strong) == EncoderVectors.cosines
    assert similarity.cosine("alarm clock", "dog") == pytest.approx(float(alone @ clock), abs=1e-6)


def test_an_encoders_pooling_is_read(encoder_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no sentence encoder in .*config.json is missing"):
        EncoderVectors(tmp_path)
    encoder_folder = shutil.copytree(encoder_folder, tmp_path / "encoder")
    settings = encoder_folder / "1_Pooling" / "config.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert EncoderVectors(encoder_folder).pooling == "cls"
    settings.write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))
    with pytest.raises(ValueError, match=r"asks for pooling_mode_weightedmean_tokens; known here"):
        EncoderVectors(encoder_folder)


@pytest.mark.skipif(not BENCHMARK.is_file(), reason="benchmarks/ is not part of the package")
def test_what_the_default_says_of_itself_is_true():
    specification = importlib.util.spec_from_file_location("alignment_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # its dataclass looks itself up there
    specification.loader.exec_module(module)
    gold = json.loads(module.GOLD.read_text(encoding="utf-8"))
    assert not gold["seen"].keys() & gold["new"].keys()
    known = {name for _, names, may in gold["new"].values() for name in (*names, *may)}
    assert known <= {*module.CATEGORIES, "*"}
    figures = module.judged(load_similarity(), gold["new"], "new")
    said = load_similarity().describe()
    assert f"finds {100 * figures['new strong R']:.0f} % of" in said
    assert f"and {100 * figures['new strong P']:.0f} % of what it finds" in said
    # "a": a cat is right, a cow left open, the dog not found; "b": both are wrong.
    made_up = {"a": [3, ["cat", "dog"], ["cow"]], "b": [1, [], []]}
    found = module.judged(lambda word, label: float(label in ("cat", "cow")), made_up, "x")
    assert found["x strong P"] == 3 / 5
    assert found["x strong R"] == 3 / 6
