import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.detectors.query_outputs import (
    cells_a_pixel,
    class_scores,
    finest_map,
    query_boxes,
    query_states,
)


def test_scores_of_a_sigmoid_a_class():
    # sigmoid(0) = 1/2, sigmoid(log 3) = 3/4.
    scores = class_scores(torch.tensor([[0.0, math.log(3)]]), 2)
    assert scores.tolist() == [pytest.approx([0.5, 0.75])]


def test_scores_of_a_softmax_with_no_object_last():
    # e^0 : e^log 2 : e^log 5 is 1 : 2 : 5, the last for "no object".
    scores = class_scores(torch.tensor([[0.0, math.log(2), math.log(5)]]), 2)
    assert scores.tolist() == [pytest.approx([1 / 8, 2 / 8])]


def test_classes_without_names_are_refused():
    with pytest.raises(ValueError, match=r"scores 92 classes but its config\.json names 80"):
        class_scores(torch.zeros(1, 92), 80)


def test_boxes_are_centres_and_sizes_as_shares():
    # Centre (50, 10), 40 wide and 10 high.
    boxes = query_boxes(torch.tensor([[0.5, 0.25, 0.4, 0.25]]), 100, 40)
    assert boxes.tolist() == [pytest.approx([30, 5, 70, 15])]


def numbered(cells, channels=2):
    """(1, cells, channels): the first channel counts."""
    return torch.stack([torch.arange(cells).float(), torch.zeros(cells)], dim=1)[None, :, :channels]


def outputs(**changes):
    return SimpleNamespace(**{"encoder_last_hidden_state": None, **changes})


def test_a_list_of_maps_gives_the_first():
    maps = [torch.rand(1, 4, 8, 6), torch.rand(1, 4, 4, 3)]
    found = finest_map(outputs(encoder_last_hidden_state=maps), (64, 48), 5, None)
    assert torch.equal(found, maps[0][0])


def test_one_sequence_is_row_by_row():
    # 64 x 96 at stride 32: 2 rows, 3 columns.
    found = finest_map(outputs(encoder_last_hidden_state=numbered(6)), (64, 96), 5, None)
    assert found.shape == (2, 2, 3)
    assert found[0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_levels_follow_one_another_and_sizes_round_up():
    # 70 x 100: 9 x 13 at stride 8, 5 x 7, 3 x 4, 2 x 2 after that: 117 + 35 + 12 + 4 cells.
    both = numbered(117 + 35 + 12 + 4)
    found = finest_map(outputs(encoder_last_hidden_state_vision=both), (70, 100), 5, None)
    assert found.shape == (2, 9, 13)
    assert found[0, -1, -1] == 116


def test_yolos_patches_stand_between_class_token_and_queries():
    # One token, 2 x 3 patches of 16, 4 queries.
    states, config = numbered(1 + 6 + 4), SimpleNamespace(model_type="yolos", patch_size=16)
    result = SimpleNamespace(last_hidden_state=states)
    assert finest_map(result, (32, 48), 4, config)[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert query_states(result, 4)[:, 0].tolist() == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        ((64, 96), (2, 3), (1 / 32, 1 / 32)),
        ((800, 1199), (25, 38), (1 / 32, 1 / 32)),  # the last column lies partly outside
        ((64, 96), (4, 12), (12 / 96, 4 / 64)),  # no stride explains both
    ],
)
def test_cells_a_pixel(size, shape, expected):
    assert cells_a_pixel(torch.zeros(1, *shape), *size) == pytest.approx(expected)


def test_a_map_of_unknown_shape_says_what_to_do():
    with pytest.raises(ValueError, match=r"7 cells for an input of 96 x 64 .* detector\.source="):
        finest_map(outputs(encoder_last_hidden_state=numbered(7)), (64, 96), 5, None)
    with pytest.raises(ValueError, match=r"no encoder map to pool; .*detector\.source=decoder"):
        finest_map(outputs(), (64, 96), 5, None)
    with pytest.raises(ValueError, match=r"decoder's states; take .* detector\.source=pixels"):
        query_states(SimpleNamespace(last_hidden_state=None), 5)
