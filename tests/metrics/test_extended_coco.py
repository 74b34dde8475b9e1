import importlib
import json

import pytest
import torch

from tbkin.metrics.extended_coco import data_folder, extended_figures
from tbkin.metrics.recall import DIRECTIONS

# Two pictures of two captions each; 99 is a third caption of picture 10, right for picture 20.
OWN = {10: [1, 2], 20: [3, 4]}
FILES = {
    "original_image_to_caption": OWN,
    "eccv_image_to_caption": {20: [3, 4, 2, 99]},
    "eccv_caption_to_image": {2: [10, 20], 4: [20]},
    "cxc_image_to_caption": {10: [1, 2], 20: [2, 3, 4]},
    "cxc_caption_to_image": {2: [10, 20], 3: [20]},
}
IMAGES, CAPTIONS = [20, 10], [4, 1, 3, 2]
#                        caption  4  1    3    2
SCORES = torch.tensor([[0.1, 0.5, 0.3, 0.9], [0.8, 0.2, 0.7, 0.6]])  # pictures 20 and 10


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the same name and files that fails when it is imported."""
    folder = tmp_path / "eccv_caption"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    for name, content in FILES.items():
        (folder / f"data/{name}.json").write_text(json.dumps(content))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return folder


def test_by_hand(package):
    found = extended_figures(SCORES, IMAGES, CAPTIONS)
    # Picture 20: 2 (right), 1, 3 (right), 4 (right). R is 4, of which 99 is not here.
    assert found["eccv_caption"]["image_to_text"] == pytest.approx(
        {"mAP@R": 100 * (1 + 2 / 3 + 3 / 4) / 4, "R-Precision": 75, "R@1": 100}
    )
    # Caption 2: both pictures are right. Caption 4: picture 10 comes before picture 20; R is 1.
    assert found["eccv_caption"]["text_to_image"] == pytest.approx(
        {"mAP@R": 50, "R-Precision": 50, "R@1": 50}
    )
    # Picture 10: 4, 3, 2. Picture 20: 2. Caption 2: both. Caption 3: 10, 20.
    assert found["cxc"]["image_to_text"]["mean_rank"] == (3 + 1) / 2
    assert found["cxc"]["text_to_image"]["mean_rank"] == (1 + 2) / 2
    assert found["cxc"]["text_to_image"]["R@1"] == 50


def test_a_sixth_caption_is_a_candidate_where_it_is_given(package):
    scores = torch.cat([SCORES, torch.tensor([[1.0], [0.0]])], dim=1)
    found = extended_figures(scores, IMAGES, [*CAPTIONS, 99])
    # Picture 20: 99 (right), 2 (right), 1, 3 (right), 4 (right).
    assert found["eccv_caption"]["image_to_text"] == pytest.approx(
        {"mAP@R": 100 * (1 + 1 + 3 / 4) / 4, "R-Precision": 75, "R@1": 100}
    )


def test_other_data_are_refused(package):
    with pytest.raises(ValueError, match=r"1 of COCO's test captions are missing \(ids 2\)"):
        extended_figures(SCORES[:, :3], IMAGES, CAPTIONS[:3])
    with pytest.raises(ValueError, match=r"1 of COCO's test pictures are missing \(ids 10\)"):
        extended_figures(SCORES, [20, 11], CAPTIONS)
    with pytest.raises(ValueError, match=r"1 are foreign \(ids 11\); leave eccv= out"):
        extended_figures(torch.zeros(3, 4), [20, 10, 11], CAPTIONS)


def test_the_extra_is_named_where_the_package_is_missing(monkeypatch):
    monkeypatch.setattr("tbkin.metrics.extended_coco.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tbkin\[eccv-caption\]'"):
        data_folder()


def test_numbers_of_the_real_package():
    pytest.importorskip("importlib.util").find_spec("eccv_caption") or pytest.skip(
        "eccv-caption is not installed"
    )
    # arXiv:2204.03359, table 1: positives of 1,261 pictures and of 1,332 captions.
    published = {
        "eccv_image_to_caption": (1_261, 22_550),
        "eccv_caption_to_image": (1_332, 11_279),
        "cxc_image_to_caption": (5_000, 35_585),
        "cxc_caption_to_image": (24_972, 35_585),
        "original_image_to_caption": (5_000, 25_000),
    }
    for name, numbers in published.items():
        gold = json.loads((data_folder() / f"{name}.json").read_text())
        assert (len(gold), sum(map(len, gold.values()))) == numbers
    # Every picture and caption has an id that is found, and chance finds next to nothing.
    original = json.loads((data_folder() / "original_image_to_caption.json").read_text())
    images, captions = list(map(int, original)), [one for own in original.values() for one in own]
    chance = torch.rand(5_000, 25_000, generator=torch.Generator().manual_seed(0))
    for figures in extended_figures(chance, images, captions).values():
        for direction in DIRECTIONS:
            assert 0 <= figures[direction]["R@1"] < 1
