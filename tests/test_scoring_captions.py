import hashlib
import json
from pathlib import Path

import pytest

from tbkin.config import run_command
from tbkin.data.caption_graphs import CaptionRow, write_graph_lines
from tbkin.graphs.facts import graph_of_facts, read_facts
from tbkin.scoring import main
from tbkin.scoring_captions import join_rows, load_matching

DEV = Path(__file__).resolve().parents[2] / "shared/data/factual/random_dev.csv"

ROWS = [  # image, region, caption, gold, predicted
    ("1", "7", "a man in a red hat", "( man , in , hat ) , ( hat , is , red )", None),
    ("1", "8", "two dogs", "( dogs , is , 2 )", "( dog , is , 2 )"),
    ("2", "7", "the sky.", "( sky )", ""),
]
INDEX = {  # an own small WordNet: "hat" and "cap" share a set
    "noun": "  1 WordNet 3.0 Copyright\n"
    "cap n 1 0 1 0 00000001\ndog n 1 0 1 0 00000002\nhat n 1 0 1 0 00000001\n",
    "verb": "in v 1 0 1 0 00000004\n",
    "adj": "red a 1 0 1 0 00000003\n",
    "adv": "in r 1 0 1 0 00000005\n",
}


def write_table(path, rows, header="image_id,region_id,caption,scene_graph"):
    lines = [",".join(f'"{cell}"' for cell in row) for row in rows]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def gold(tmp_path):
    return write_table(tmp_path / "gold.csv", [row[:4] for row in ROWS])


@pytest.fixture
def predictions(tmp_path):
    rows = [(*row[:3], row[3] if row[4] is None else row[4]) for row in ROWS]
    return write_table(tmp_path / "predictions.csv", rows)


@pytest.fixture
def wordnet(tmp_path):
    for name, lines in INDEX.items():
        (tmp_path / f"index.{name}").write_text(lines)
        (tmp_path / f"{name}.exc").write_text("")
    return str(tmp_path)


def printed_json(capsys, *arguments):
    main(["captions", *arguments, "json=true"])
    return json.loads(capsys.readouterr().out)


def test_figures_by_hand(gold, predictions, capsys):
    result = printed_json(capsys, f"predictions={predictions}", f"gold={gold}")
    # SPICE: 1; (dog), (dog, 2) against (dogs), (dogs, 2): 0; nothing against (sky): 0.
    # Entities: 2 shared of 3 said and 4 true; attributes: 1 of 2 and 2; the relation is right.
    baselines = result.pop("baselines")
    files = result.pop("files")
    assert result == pytest.approx(
        {
            "set_match": 1 / 3,
            "spice_f1": 1 / 3,
            "spice_precision": 1 / 3,
            "spice_recall": 1 / 3,
            "entity_f1": 4 / 7,
            "attribute_f1": 1 / 2,
            "relation_f1": 1,
            "captions": 3,
            "matching": "exact",
            "protocol": "words as written",
            "joined_by": "image_id, region_id",
        }
    )
    assert set(baselines["empty"].values()) == {0}
    # The words: 2 of 5 ("a" counts once) and of 4 tuples, 1 of 2 and of 2, 1 of 2 and of 1.
    assert baselines["words"]["spice_f1"] == pytest.approx((4 / 9 + 1 / 2 + 2 / 3) / 3)
    # a, man, in, red, hat; two, dogs; the, sky.
    assert baselines["words"]["entity_f1"] == pytest.approx(2 * 4 / (9 + 4))
    assert files["gold"] == {
        "path": gold,
        "sha256": hashlib.sha256(Path(gold).read_bytes()).hexdigest(),
    }
    assert files["predictions"]["path"] == predictions


def test_by_lemma(gold, predictions, capsys):
    result = printed_json(capsys, f"predictions={predictions}", f"gold={gold}", "matching=lemma")
    assert result["set_match"] == pytest.approx(2 / 3)
    assert result["spice_f1"] == pytest.approx(2 / 3)
    assert result["attribute_f1"] == 1


def test_by_synonyms(gold, tmp_path, wordnet, capsys):
    rows = [(*row[:3], row[3].replace("hat", "caps")) for row in ROWS]
    said = write_table(tmp_path / "said.csv", rows)
    result = printed_json(
        capsys, f"predictions={said}", f"gold={gold}", "matching=synonyms", f"wordnet={wordnet}"
    )
    # caps -> cap ~ hat: (cap) and (cap, red) pair; (man, in, cap) does not: WordNet (this one)
    # does not know "man", which is equal alone: 3 of 4. dogs -> dog on both sides.
    assert result["spice_f1"] == pytest.approx((3 / 4 + 1 + 1) / 3)
    assert result["set_match"] == pytest.approx(2 / 3)
    assert result["entity_f1"] == pytest.approx(3 / 4)
    assert "FACTUAL" in result["protocol"]
    assert result["wordnet"] == {"path": wordnet, "version": "3.0"}


def test_table(gold, predictions, capsys):
    main(["captions", f"predictions={predictions}", f"gold={gold}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "Caption graphs in per cent, 3 captions, matching: exact (words as written)"
    )
    assert lines[1].split() == ["predicted", "no", "facts", "all", "words"]
    assert lines[2].split() == ["set", "match", "33.33", "0.00", "0.00"]
    assert lines[6].split()[:4] == ["entity", "f1", "57.14", "0.00"]
    assert lines[-1] == "(joined by image_id, region_id; all words: every word an entity)"


def test_rows_with_ids_may_come_in_any_order(gold, tmp_path, capsys):
    said = write_table(
        tmp_path / "said.csv",
        [(row[1], row[3], row[0], row[2].upper() + "!") for row in reversed(ROWS)],
        "region_id,scene_graph,image_id,caption",
    )
    assert printed_json(capsys, f"predictions={said}", f"gold={gold}")["set_match"] == 1


def test_caption_graph_lines_are_joined_by_position(gold, tmp_path, capsys):
    rows = [
        (CaptionRow("", row[2], {"caption": row[2]}), graph_of_facts(read_facts(row[3])))
        for row in ROWS
    ]
    write_graph_lines(tmp_path / "said.jsonl", rows)
    result = printed_json(capsys, f"predictions={tmp_path}/said.jsonl", f"gold={gold}")
    assert (result["set_match"], result["joined_by"]) == (1, "position")
    # The other way round, the lines are the gold.
    result = printed_json(capsys, f"predictions={gold}", f"gold={tmp_path}/said.jsonl")
    assert result["set_match"] == 1


def test_ids_that_repeat_join_nothing(tmp_path):
    path = Path(write_table(tmp_path / "x.csv", [ROWS[0][:4], ROWS[0][:4]]))
    pairs, joined_by = join_rows(path, path)
    assert (len(pairs), joined_by) == (2, "position")


@pytest.mark.parametrize(
    ("rows", "header", "complaint"),
    [
        (
            [row[:4] for row in ROWS[:2]],
            None,
            r"1 of 3 captions of .*gold\.csv are not in .*said\.csv \(image_id, region_id: 2, 7\)",
        ),
        (
            [*(row[:4] for row in ROWS), ("3", "9", "a", "")],
            None,
            r"1 of 4 captions of .*said\.csv are not in .*gold\.csv \(image_id, region_id: 3, 9\)",
        ),
        (
            [("9", row[1], row[2], row[3]) for row in ROWS[:2]] + [("9", "1", "", "")],
            None,
            r"3 of 3 captions of .*\(image_id, region_id: 1, 7; 1, 8; 2, 7\)",
        ),
        (
            [(*ROWS[0][:2], "a man", ""), *(row[:4] for row in ROWS[1:])],
            None,
            r"said\.csv, row 1 is 'a man', but .*gold\.csv, row 1 is 'a man in a red hat': "
            r"joined by image_id, region_id",
        ),
        (
            [row[2:4] for row in ROWS[:2]],
            "caption,scene_graph",
            r"said\.csv has 2 captions, .*gold\.csv 3; without unique image_id and region_id",
        ),
        (
            [row[2:4] for row in (ROWS[0], ROWS[2], ROWS[1])],
            "caption,scene_graph",
            r"said\.csv, row 2 is 'the sky\.', but .*gold\.csv, row 2 is 'two dogs': joined by po",
        ),
        ([(row[2], "") for row in ROWS], "caption,graph", r"has no column 'scene_graph'"),
        ([(*row[:3], "( a , b )") for row in ROWS], None, r"said\.csv, row 1: .* is not a fact"),
    ],
)
def test_mistakes_name_the_row(gold, tmp_path, capsys, rows, header, complaint):
    header = header or "image_id,region_id,caption,scene_graph"
    said = write_table(tmp_path / "said.csv", rows, header)
    arguments = ["captions", f"predictions={said}", f"gold={gold}"]
    with pytest.raises(ValueError, match=complaint):
        main(arguments)
    assert run_command(main, arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_four_missing_rows_are_three_and_more(tmp_path):
    rows = [("1", str(n), "a", "") for n in range(4)]
    write_table(tmp_path / "gold.csv", rows)
    write_table(tmp_path / "said.csv", [("2", "0", "a", "")])
    with pytest.raises(ValueError, match=r"4 of 4 .*1, 0; 1, 1; 1, 2; …\)"):
        join_rows(tmp_path / "said.csv", tmp_path / "gold.csv")


def test_an_empty_gold_file_scores_nothing(tmp_path):
    path = Path(write_table(tmp_path / "x.csv", []))
    with pytest.raises(ValueError, match=r"x\.csv has no captions"):
        join_rows(path, path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "predictions is missing; add predictions=FILE"),
        (["predictions=x.csv"], "gold is missing; add gold=FILE"),
        (
            ["predictions=x.csv", "gold=x.csv", "matching=soft"],
            "unknown matching 'soft'; choose from: exact, lemma, synonyms",
        ),
        (["predictions=x.csv", "gold=x.csv"], "there is no file x.csv"),
        (
            ["predictions=x.csv", "gold=x.csv", "matching=synonyms", "wordnet=nowhere"],
            "wordnet=nowhere: no folder with index.noun",
        ),
    ],
)
def test_mistakes_in_the_command(arguments, complaint, capsys):
    assert run_command(main, ["captions", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_matching_names(wordnet):
    assert load_matching("exact").lemma is None
    assert load_matching("lemma").lemma("Dogs") == "dog"
    assert load_matching("lemma").synsets is None
    assert load_matching("synonyms", wordnet).lemma("hats") == "hat"


def test_help(capsys):
    assert run_command(main, ["captions", "--help"]) == 0
    text = capsys.readouterr().out
    assert "tbkin score captions predictions=FILE gold=FILE" in text
    for key in ("predictions", "gold", "matching", "wordnet", "json"):
        assert f"\n  {key} " in text


@pytest.mark.skipif(not DEV.is_file(), reason=f"real data not there: {DEV}")
def test_a_real_file_against_itself(capsys):
    result = printed_json(capsys, f"predictions={DEV}", f"gold={DEV}", "matching=lemma")
    figures = {name: result[name] for name in result["baselines"]["empty"]}
    assert set(figures.values()) == {1}
    assert result["captions"] == 1000
    assert 0.3 < result["baselines"]["words"]["spice_f1"] < 0.6
    assert set(result["baselines"]["empty"].values()) == {0}
