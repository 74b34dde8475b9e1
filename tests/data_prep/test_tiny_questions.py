"""Everything said about the drawn pictures is read back by a reader of its own."""

import json
import math
import re
from collections import Counter, defaultdict
from itertools import product

import pytest

from data_prep import tiny_questions
from data_prep.tiny import main
from data_prep.tiny_questions import answer_by_ten
from data_prep.tiny_scenes import draw_scene, generator

SPLITS = ("train2014", "val2014", "test2015")
NUMBERS = dict(
    zero=0, one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10
)
SHAPES = {"circle", "square", "triangle", "star", "cross"}
COLORS = {"red", "orange", "yellow", "green", "blue", "purple", "brown", "black"}
KNOWN = SHAPES | COLORS | {"small", "large"}
SINGULAR = {f"{word}s": word for word in (*SHAPES, "thing", "object")} | {"crosses": "cross"}
PREDICATE = r"(?:to the )?(left of|right of|above|below)"
ASPECT_QUESTION = r"What (?:is the )?(size|color|shape) (?:is|of) the (.+)\?"
POSITION_QUESTION = rf"Is the (.+?) {PREDICATE} the (.+)\?"
KINDS = ("attribute", "relation", "count", "existence", "position")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "tiny"
    main([f"output={folder}", "images=120", "questions_per_image=12", "seed=3"])
    return folder


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def things(world):
    return read_things(world)


def read_things(folder):
    """Picture id -> its objects, from the Visual Genome file."""
    return {
        entry["image_id"]: [
            {
                "id": thing["object_id"],
                "words": {*thing["names"], *thing["attributes"]},
                "shape": thing["names"][0],
                "color": thing["attributes"][0],
                "size": thing["attributes"][1],
                "center": (thing["x"] + thing["w"] / 2, thing["y"] + thing["h"] / 2),
            }
            for thing in entry["attributes"]
        ]
        for entry in read(folder, "visual_genome/attributes.json")
    }


@pytest.fixture(scope="module")
def asked(world):
    """Split -> (question, its annotation) of every question."""
    pairs = {}
    for split in SPLITS:
        questions = read(world, f"vqa/v2_OpenEnded_mscoco_{split}_questions.json")["questions"]
        texts = {question["question_id"]: question for question in questions}
        answers = read(world, f"vqa/v2_mscoco_{split}_annotations.json")["annotations"]
        assert len(texts) == len(answers) == len(questions)
        pairs[split] = [(texts[row["question_id"]], row) for row in answers]
    return pairs


def holds(predicate, thing, anchor):
    dx = thing["center"][0] - anchor["center"][0]
    dy = thing["center"][1] - anchor["center"][1]
    if abs(dx) > abs(dy):
        return predicate == ("left of" if dx < 0 else "right of")
    return predicate == ("above" if dy < 0 else "below")


def ratio(thing, anchor):
    """Shorter over longer leg of the vector between the centres."""
    legs = sorted(abs(a - b) for a, b in zip(thing["center"], anchor["center"], strict=True))
    return legs[0] / legs[1]


def fitting(phrase, scene):
    """The objects that "small red circles" or "the star above the cross" may mean."""
    phrase = phrase.replace(" that is ", " ").removeprefix("the ").strip()
    head, *rest = re.split(rf" {PREDICATE} the ", phrase, maxsplit=1)
    words = {SINGULAR.get(word, word) for word in head.split()}
    words -= {"thing", "object"}
    assert words <= KNOWN, phrase
    found = [thing for thing in scene if words <= thing["words"]]
    if rest:
        predicate, anchor_phrase = rest
        (anchor,) = fitting(anchor_phrase, scene)
        found = [thing for thing in found if thing is not anchor]
        found = [thing for thing in found if holds(predicate, thing, anchor)]
    return found


def solve(question, scene):
    """The kind of the question and its answer."""
    if match := re.fullmatch(ASPECT_QUESTION, question):
        aspect, phrase = match.groups()
        (thing,) = fitting(phrase, scene)
        target, *rest = re.split(rf" {PREDICATE} ", phrase)
        assert thing[aspect] not in target.split(), "the question gives its answer away"
        kind = "relation" if rest else "attribute"
        return kind, thing[aspect]
    if match := re.fullmatch(r"How many (.+) are (?:there|in the picture)\?", question):
        return "count", str(len(fitting(match[1], scene)))
    if match := re.fullmatch(POSITION_QUESTION, question):
        (thing,), (anchor,) = fitting(match[1], scene), fitting(match[3], scene)
        return "position", "yes" if holds(match[2], thing, anchor) else "no"
    match = re.fullmatch(
        r"(?:Is there (a|an) (.+?)|Are there any (.+?))(?: in the picture)?\?", question
    )
    assert match, question
    if match[1]:
        assert (match[1] == "an") == (match[2][0] in "aeiou")
    return "existence", "yes" if fitting(match[2] or match[3], scene) else "no"


def test_the_reader_itself():
    def thing(words, x, y):
        size, color, shape = words.split()
        named = {"size": size, "color": color, "shape": shape}
        return {**named, "words": set(words.split()), "center": (x, y)}

    scene = [
        thing("small red circle", 20, 50),
        thing("large red circle", 100, 50),
        thing("small blue square", 60, 55),
        thing("small green star", 60, 100),
    ]
    assert solve("What color is the circle left of the square?", scene) == ("relation", "red")
    # The large circle is 40 right of the star and 50 above it.
    assert solve("Is the large circle right of the star?", scene) == ("position", "no")
    assert solve("Is the large circle above the star?", scene) == ("position", "yes")
    assert solve("What is the size of the square?", scene) == ("attribute", "small")
    assert solve("How many small things are there?", scene) == ("count", "3")
    assert solve("Are there any large squares?", scene) == ("existence", "no")
    nested = "star below the blue thing that is to the right of the small circle"
    assert fitting(nested, scene) == [scene[3]]


def test_every_answer_is_right(asked, things):
    count = 0
    for pairs in asked.values():
        for question, row in pairs:
            assert row["image_id"] == question["image_id"]
            kind, answer = solve(question["question"], things[row["image_id"]])
            assert (kind, answer) == (row["question_type"], row["multiple_choice_answer"]), question
            count += 1
    assert count == 120 * 12


def test_people_would_agree_on_every_relation(asked, things):
    # 10 degrees from the diagonal: the legs are to one another as tan(35 degrees) = 0.700 at most.
    for question, row in asked["train2014"]:
        scene = things[row["image_id"]]
        if row["question_type"] == "position":
            first, _, second = re.fullmatch(POSITION_QUESTION, question["question"]).groups()
            assert ratio(*fitting(first, scene), *fitting(second, scene)) < 0.7003
        if row["question_type"] == "relation":
            phrase = re.fullmatch(ASPECT_QUESTION, question["question"])[2]
            target, predicate, anchor = re.split(rf" {PREDICATE} the ", phrase)
            (anchor,) = fitting(anchor, scene)
            rivals = [thing for thing in fitting(target, scene) if thing is not anchor]
            (chosen,) = (thing for thing in rivals if holds(predicate, thing, anchor))
            assert ratio(chosen, anchor) < 0.7003
            # Whatever else fits is clearly elsewhere.
            assert all(ratio(thing, anchor) < 0.7003 for thing in rivals)


def test_most_relations_are_needed(asked, things):
    needed = []
    for question, row in asked["train2014"]:
        if row["question_type"] == "relation":
            phrase = re.fullmatch(ASPECT_QUESTION, question["question"])[2]
            target = re.split(rf" {PREDICATE} the ", phrase)[0]
            needed.append(len(fitting(target, things[row["image_id"]])) > 1)
    assert sum(needed) / len(needed) > 0.8


def test_things_that_are_not_there_are_near_misses(asked, things):
    for question, row in asked["train2014"]:
        if row["question_type"] == "existence" and row["multiple_choice_answer"] == "no":
            words = set(re.findall(r"[a-z]+", question["question"]))
            words = {SINGULAR.get(word, word) for word in words} & KNOWN
            best = max(len(words & thing["words"]) for thing in things[row["image_id"]])
            assert best == len(words) - 1


@pytest.mark.parametrize("split", SPLITS)
def test_kinds_come_in_equal_shares(asked, split):
    kinds = Counter(row["question_type"] for _, row in asked[split])
    assert set(kinds) == set(KINDS)
    assert max(kinds.values()) - min(kinds.values()) <= 1


@pytest.mark.parametrize("split", SPLITS)
def test_yes_and_no_are_balanced(asked, split):
    for kind in ("existence", "position"):
        answers = Counter(
            row["multiple_choice_answer"] for _, row in asked[split] if row["question_type"] == kind
        )
        assert abs(answers["yes"] - answers["no"]) <= 1


def test_false_positions_use_all_other_predicates(asked, things):
    asked_for, opposite = Counter(), 0
    opposites = {"left of": "right of", "above": "below"}
    opposites |= {b: a for a, b in opposites.items()}
    for question, row in asked["train2014"]:
        if row["question_type"] == "position" and row["multiple_choice_answer"] == "no":
            first, predicate, second = re.fullmatch(
                POSITION_QUESTION, question["question"]
            ).groups()
            scene = things[row["image_id"]]
            (thing,), (anchor,) = fitting(first, scene), fitting(second, scene)
            asked_for[predicate] += 1
            opposite += holds(opposites[predicate], thing, anchor)
    total = sum(asked_for.values())
    assert opposite / total == pytest.approx(1 / 3, abs=0.15)
    assert all(count / total == pytest.approx(1 / 4, abs=0.03) for count in asked_for.values())


@pytest.mark.parametrize(
    ("kind", "limit"),
    [("attribute", 20), ("relation", 20), ("count", 20), ("existence", 51), ("position", 51)],
)
def test_always_giving_the_most_frequent_answer_scores_low(asked, kind, limit):
    """``limit`` is the highest share in per cent of any one answer."""
    answers = Counter(
        row["multiple_choice_answer"]
        for _, row in asked["train2014"]
        if row["question_type"] == kind
    )
    assert 100 * max(answers.values()) / sum(answers.values()) < limit
    if kind in ("attribute", "relation"):
        third = sum(answers.values()) / 3
        for words in (SHAPES, COLORS, {"small", "large"}):
            assert sum(answers[word] for word in words) == pytest.approx(third, abs=2)
    if kind == "count":
        assert set(answers) == set("0123456789")


def test_no_question_is_asked_twice_of_a_picture(asked):
    by_picture = defaultdict(list)
    for question, _ in asked["train2014"]:
        by_picture[question["image_id"]].append(question["question"])
    repeated = sum(len(texts) - len(set(texts)) for texts in by_picture.values())
    assert repeated == 0


def folded(answer):
    """What the official normalisation makes of our annotators' spellings."""
    answer = re.sub(r"^(a|an|the) ", "", answer.lower().rstrip("."))
    return str(NUMBERS.get(answer, answer))


def test_ten_answers_a_question(asked):
    right, plain, confidences = 0, 0, Counter()
    types = {"count": "number", "existence": "yes/no", "position": "yes/no"}
    rows = [row for pairs in asked.values() for _, row in pairs]
    for row in rows:
        written = [record["answer"] for record in row["answers"]]
        assert [record["answer_id"] for record in row["answers"]] == list(range(1, 11))
        assert row["answer_type"] == types.get(row["question_type"], "other")
        counts = Counter(map(folded, written))
        assert counts.most_common(1)[0][0] == row["multiple_choice_answer"]
        assert counts[row["multiple_choice_answer"]] >= 6
        # Four equal raw answers score 100 even without any normalisation.
        assert written.count(row["multiple_choice_answer"]) >= 4
        right += counts[row["multiple_choice_answer"]]
        plain += written.count(row["multiple_choice_answer"])
        confidences.update(record["answer_confidence"] for record in row["answers"])
    assert right / (10 * len(rows)) == pytest.approx(0.93, abs=0.01)
    assert 0.01 < (right - plain) / right < 0.04
    assert confidences["yes"] > confidences["maybe"] > confidences["no"] > 0


def test_the_right_answer_keeps_its_majority_among_careless_people(monkeypatch):
    monkeypatch.setattr(tiny_questions, "RIGHT_SHARE", 0.0)
    monkeypatch.setattr(tiny_questions, "ODD_SPELLING", 1.0)
    scene = draw_scene("val2014", 0, generator(0, "val2014", 0, "scene"))
    asked = [("count", "", "2"), ("existence", "", "no"), ("attribute", "", "cross")]
    for (_, _, right), records in zip(asked, answer_by_ten(scene, asked, 0), strict=True):
        written = [record["answer"] for record in records]
        # Six are made right; two of them, no more, write it in another way.
        assert [folded(answer) for answer in written].count(right) == 6
        assert written.count(right) == 4


def test_every_expression_means_its_object(world, things):
    boxes = {row["id"]: row for row in read(world, "refer/refcoco/instances.json")["annotations"]}
    hops, splits, sent_ids = Counter(), Counter(), []
    for ref in read(world, "refer/refcoco/refs(unc).json"):
        assert boxes[ref["ann_id"]]["image_id"] == ref["image_id"]
        assert boxes[ref["ann_id"]]["category_id"] == ref["category_id"]
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        sent_ids += ref["sent_ids"]
        splits[ref["split"]] += 1
        for sentence in ref["sentences"]:
            assert sentence["tokens"] == sentence["sent"].split()
            (meant,) = fitting(sentence["sent"], things[ref["image_id"]])
            assert meant["id"] == ref["ann_id"]
            hops[len(re.findall(PREDICATE, sentence["sent"]))] += 1
    assert sent_ids == list(range(len(sent_ids)))
    assert set(splits) == {"train", "val", "testA", "testB"}
    assert splits["testA"] == pytest.approx(splits["testB"], abs=2)  # 6 pictures, 3 refs of each
    assert all(hops[number] > 0.1 * hops.total() for number in (0, 1, 2))


def test_every_caption_is_true(world, things):
    kinds = Counter()
    for split in SPLITS:
        for row in read(world, f"annotations/captions_{split}.json")["annotations"]:
            kind, true = check_caption(row["caption"], things[row["image_id"]])
            assert true, row
            kinds[kind] += 1
    # Of the five captions of a picture two state relations and two list objects.
    assert kinds == {"relation": 240, "list": 240, "count": 120}


def check_caption(caption, scene):
    """The kind of the caption, and whether it is true."""
    words = caption.removesuffix(".")
    words = words[0].lower() + words[1:]
    pattern = r"(\w+) (?:shapes|objects), (\w+) of them (\w+), (?:with|among them) an? (.+)"
    if match := re.fullmatch(pattern, words):
        total, same, word, example = match.groups()
        with_word = sum(word in thing["words"] for thing in scene)
        said = len(scene) if same == "all" else NUMBERS[same]
        true = NUMBERS[total] == len(scene) and said == with_word
        return "count", true and bool(fitting(example, scene))
    if re.search(PREDICATE, words):
        first, *rest = re.split(rf" (?:is )?{PREDICATE} an? ", words.replace(" and ", " "))
        first = re.sub(r"^an? ", "", first)
        choices = product(*(fitting(named, scene) for named in (first, *rest[1::2])))
        return "relation", any(
            len({id(thing) for thing in chosen}) == len(chosen)
            and all(
                holds(predicate, chosen[0], other)
                and ratio(chosen[0], other) < math.tan(math.radians(35))
                for predicate, other in zip(rest[::2], chosen[1:], strict=True)
            )
            for chosen in choices
        )
    words = re.sub(r"^(a picture with|we see) | (on a light background|in a picture)$", "", words)
    listed = [item.split(" ", 1) for item in re.split(", | and ", words)]
    listed = [(1 if number in ("a", "an") else NUMBERS[number], named) for number, named in listed]
    everything = bool(re.search("small|large", words)) or sum(n for n, _ in listed) == len(scene)
    return "list", everything and all(len(fitting(named, scene)) == n for n, named in listed)


def test_the_world_knows_which_pictures_a_caption_is_true_of(tmp_path):
    folder = tmp_path / "tiny"
    main([f"output={folder}", "images=60", "test_images=60", "near_duplicates=0.4", "seed=3"])
    scenes, true_of = read_things(folder), read(folder, "karpathy/true_of.json")
    several = Counter()
    for split in ("val2014", "test2015"):
        record = read(folder, f"annotations/captions_{split}.json")
        ids = [image["id"] for image in record["images"]]
        for row in record["annotations"]:
            found = true_of.pop(str(row["id"]))
            kinds, truths = zip(
                *(check_caption(row["caption"], scenes[i]) for i in ids), strict=True
            )
            assert found == [i for i, true in zip(ids, truths, strict=True) if true], row
            assert row["image_id"] in found
            several[kinds[0]] += len(found) > 1
    assert true_of == {}, "training captions are left out"
    assert all(several[kind] > 20 for kind in ("list", "count", "relation"))
