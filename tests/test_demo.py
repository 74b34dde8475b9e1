"""The demo, in miniature."""

import json

import pytest

from tbkin import demo, demo_summary


def test_demo_leaves_a_report_and_a_summary(tmp_path, capsys):
    little = ["images=40", "test_images=8", "seconds=4", "grounding_seconds=4"]
    little += ["retrieval_seconds=4", "rerank=2"]
    demo.main([f"output={tmp_path}", *little, "seed=3"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["seed"] == 3
    assert summary["seconds"] > 8
    scores = summary["vqa"]
    kinds = {"attribute", "relation", "count", "existence", "position"}
    assert set(scores["per_question_kind"]) == kinds
    for key in ("overall", "majority_baseline", "without_graph"):
        assert 0 <= scores[key] <= 100
    page = (tmp_path / "report.html").read_text()
    printed = capsys.readouterr().out
    assert f"{scores['overall']:.2f} %" in page
    assert f"{scores['overall']:.2f} %" in printed
    assert page.count("<svg") >= 4
    boxes = summary["grounding"]
    rows = [
        json.loads(
            (tmp_path / "grounding" / f"eval-refcoco_unc-{name}" / "metrics.json").read_text()
        )
        for name in demo_summary.TESTS
    ]
    assert boxes["sentences"] == sum(row["sentences"] for row in rows)
    right = sum(row["accuracy@0.5"] * row["sentences"] for row in rows)
    assert boxes["accuracy@0.5"] == pytest.approx(right / boxes["sentences"])
    for values in (boxes, boxes["without_graph"], *boxes["candidates"].values()):
        assert 0 <= values["accuracy@0.7"] <= values["accuracy@0.5"] <= 1
    assert boxes["candidates"]["oracle"]["accuracy@0.5"] > 0.9
    assert f"{100 * boxes['accuracy@0.5']:.2f} %" in page
    assert "expression" in page
    found = summary["retrieval"]
    assert (found["pictures"], found["captions"]) == (8, 40)
    directions = ("image_to_text", "text_to_image")
    for direction in directions:  # more is right where all true ones count
        assert found["equivalent"][direction]["R@1"] >= found["own"][direction]["R@1"]
    assert found["second_stage"]["k"] == 2
    run = json.loads((tmp_path / "retrieval" / "run.json").read_text())
    assert run["processes"] == 2  # joined, not two runs in one folder
    assert found["second_stage"]["passes"] < found["second_stage"]["all_pairs"] == 8 * 40
    shown = [
        found["equivalent"][direction]["R@1"] for direction in ("image_to_text", "text_to_image")
    ]
    assert f"{shown[0]:.2f} % and {shown[1]:.2f} %" in printed
    assert "caption" in page
