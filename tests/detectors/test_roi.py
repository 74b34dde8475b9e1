import math

import pytest
import torch

from tbkin.detectors.roi import roi_align, roi_pool


def random_map(channels=3, height=6, width=9, seed=0):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


def random_boxes(count, width, height, seed=0):
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed))
    corners = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    return corners * torch.tensor([width, height, width, height])


def read(row, y, x):
    """Bilinear value of one channel at a point in cells; the outermost value goes on outside."""
    height, width = row.shape
    y, x = min(max(y - 0.5, 0), height - 1), min(max(x - 0.5, 0), width - 1)
    top, left = min(math.floor(y), height - 1), min(math.floor(x), width - 1)
    down, across = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = row[top, left] * (1 - (x - left)) + row[top, across] * (x - left)
    lower = row[down, left] * (1 - (x - left)) + row[down, across] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def slow_align(feature_map, boxes, scale_x, scale_y, bins, samples):
    """The definition, one point at a time."""
    out = torch.zeros(len(boxes), len(feature_map), bins, bins)
    for number, (left, top, right, bottom) in enumerate(boxes.tolist()):
        left, right, top, bottom = left * scale_x, right * scale_x, top * scale_y, bottom * scale_y
        wide, high = (right - left) / bins, (bottom - top) / bins
        for channel, row in enumerate(feature_map.tolist()):
            row = torch.tensor(row)
            for i in range(bins):
                for j in range(bins):
                    points = [
                        read(
                            row,
                            top + high * (i + (a + 0.5) / samples),
                            left + wide * (j + (b + 0.5) / samples),
                        )
                        for a in range(samples)
                        for b in range(samples)
                    ]
                    out[number, channel, i, j] = sum(points) / len(points)
    return out


@pytest.mark.parametrize(("bins", "samples"), [(1, 1), (2, 2), (3, 1), (4, 3)])
def test_it_agrees_with_the_slow_loop(bins, samples):
    feature_map = random_map(channels=2)
    boxes = random_boxes(4, 90, 60)
    fast = roi_align(feature_map, boxes, 0.1, 0.1, bins, samples)
    assert fast.shape == (4, 2, bins, bins)
    assert torch.allclose(fast, slow_align(feature_map, boxes, 0.1, 0.1, bins, samples), atol=1e-5)


def test_the_axes_have_their_own_scale():
    # 9 columns over 18 pixels, 6 rows over 60.
    feature_map, boxes = random_map(channels=1), random_boxes(3, 18, 60)
    fast = roi_align(feature_map, boxes, 0.5, 0.1, 2, 2)
    assert torch.allclose(fast, slow_align(feature_map, boxes, 0.5, 0.1, 2, 2), atol=1e-5)


def test_a_constant_map_gives_the_constant():
    feature_map = torch.tensor([3.0, -2])[:, None, None].expand(2, 5, 7)
    boxes = torch.tensor([[0.0, 0, 70, 50], [12, 3, 13, 4], [5, 5, 5, 5], [70, 50, 70, 50]])
    assert torch.allclose(roi_pool(feature_map, boxes, 0.1, 0.1), torch.tensor([3.0, -2]))


def test_a_ramp_gives_the_middle_of_the_box():
    # Cell (row, column) holds column + 0.5 in the first channel and row + 0.5 in the second: the
    # map's own coordinates, linear between the middles of the outermost cells. The mean over a box
    # is then its centre: here (2 + 6) / 2 = 4 and (1 + 4) / 2 = 2.5 cells.
    columns, rows = torch.arange(9) + 0.5, torch.arange(6) + 0.5
    feature_map = torch.stack([columns.expand(6, 9), rows[:, None].expand(6, 9)])
    box = torch.tensor([[20.0, 10, 60, 40]])
    assert roi_pool(feature_map, box, 0.1, 0.1).tolist() == [pytest.approx([4, 2.5])]
    # Halves of the box: centres at 3 and 5 across, 1.75 and 3.25 down.
    cells = roi_align(feature_map, box, 0.1, 0.1, bins=2)[0]
    assert cells[0].tolist() == [pytest.approx([3, 5])] * 2
    assert [row[0] for row in cells[1].tolist()] == pytest.approx([1.75, 3.25])


def test_the_value_of_a_cell_stands_at_its_middle():
    # One point in the middle of cell (2, 3) reads that cell alone; on the edge of two, both.
    feature_map = random_map(channels=4)
    middle = torch.tensor([[35.0, 25, 35, 25]])
    assert torch.allclose(roi_pool(feature_map, middle, 0.1, 0.1)[0], feature_map[:, 2, 3])
    edge = torch.tensor([[40.0, 25, 40, 25]])
    both = (feature_map[:, 2, 3] + feature_map[:, 2, 4]) / 2
    assert torch.allclose(roi_pool(feature_map, edge, 0.1, 0.1)[0], both, atol=1e-6)


def test_the_pooled_vector_is_the_mean_of_the_grid():
    feature_map, boxes = random_map(), random_boxes(5, 90, 60)
    grid = roi_align(feature_map, boxes, 0.1, 0.1)
    assert torch.allclose(roi_pool(feature_map, boxes, 0.1, 0.1), grid.mean(dim=(2, 3)), atol=1e-6)


def test_a_box_reads_nothing_far_from_it():
    feature_map = random_map()
    changed = feature_map.clone()
    changed[:, :, 5:] = 100
    box = torch.tensor([[0.0, 0, 40, 60]])  # columns 0 to 3; the fifth begins one cell further
    assert torch.equal(roi_pool(feature_map, box, 0.1, 0.1), roi_pool(changed, box, 0.1, 0.1))


def test_boxes_do_not_know_of_one_another():
    feature_map, boxes = random_map(), random_boxes(6, 90, 60)
    together = roi_pool(feature_map, boxes, 0.1, 0.1)
    order = torch.tensor([3, 1, 5])
    assert torch.allclose(roi_pool(feature_map, boxes[order], 0.1, 0.1), together[order])


def test_no_boxes_no_rows():
    assert roi_pool(random_map(), torch.zeros(0, 4), 1, 1).shape == (0, 3)
    assert roi_align(random_map(), torch.zeros(0, 4), 1, 1, bins=2).shape == (0, 3, 2, 2)
