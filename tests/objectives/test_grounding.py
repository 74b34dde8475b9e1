import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tbkin.boxes import cxcywh_to_xyxy, decode_boxes
from tbkin.objectives.grounding import (
    GroundingBox,
    GroundingDirect,
    GroundingRank,
    grounding_box_loss,
    grounding_direct_loss,
    grounding_labels,
    grounding_rank_loss,
)


def test_labels_worked_by_hand():
    # The thing has 10 x 10 pixels, 0 … 9. Region 0 is the same: IoU 1. Region 1 has its left
    # 10 x 6 pixels: 60 of 100. Region 2, 10 x 4 of it: 0.4, too little. Region 3 is padding.
    regions = torch.tensor([[0.0, 0, 9, 9], [0, 0, 5, 9], [6, 0, 9, 9], [0, 0, 9, 9]])
    labels = grounding_labels(regions, torch.tensor([0.0, 0, 9, 9]), torch.tensor([1, 1, 1, 0]))
    assert labels.rank_labels.tolist() == pytest.approx([1 / 1.6, 0.6 / 1.6, 0, 0])
    assert labels.box_label_mask.tolist() == [True, True, False, False]
    # Centres at 5: region 1's is at 3, 2 / 6 of its width away, and it is 10 / 6 too narrow.
    # Region 2's is at 8; it says how it would move too, as ROSITA's labels do.
    assert labels.box_labels[0].tolist() == [0, 0, 0, 0]
    assert labels.box_labels[1].tolist() == pytest.approx(
        [2 / 6 / 0.1, 0, math.log(10 / 6) / 0.2, 0]
    )
    assert labels.box_labels[2].tolist() == pytest.approx(
        [-3 / 4 / 0.1, 0, math.log(10 / 4) / 0.2, 0]
    )
    assert labels.box_labels[3].tolist() == [0, 0, 0, 0]


def test_the_threshold_is_enough_and_counts_last_pixels():
    # 10 x 5 of 10 x 10 pixels is one half exactly; plain differences would say 4 * 9 / 81.
    region, thing = torch.tensor([[0.0, 0, 4, 9]]), torch.tensor([0.0, 0, 9, 9])
    assert grounding_labels(region, thing, torch.ones(1)).box_label_mask.tolist() == [True]
    labels = grounding_labels(region, thing, torch.ones(1), threshold=0.51)
    assert labels.box_label_mask.tolist() == [False]


def test_nothing_is_labelled_where_no_region_covers_the_thing():
    regions = torch.tensor([[50.0, 50, 60, 60], [0, 0, 2, 2], [0, 0, 9, 9]])
    labels = grounding_labels(regions, torch.tensor([0.0, 0, 9, 9]), torch.tensor([1, 1, 0]))
    assert not any(label.any() for label in labels)


def random_batch():
    """Regions, some of them near the thing, and the thing of each of 3 samples."""
    random = torch.Generator().manual_seed(0)
    targets = torch.tensor([[10.0, 20, 60, 70], [0, 0, 30, 90], [40, 5, 90, 30]])
    noise = torch.randint(-8, 9, (3, 6, 4), generator=random)
    regions = targets[:, None] + noise * torch.tensor([0.2, 0.5, 1, 1, 1, 4])[:, None]
    mask = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]])
    return regions, targets, mask


def test_labels_of_a_batch_are_those_of_each_sample():
    regions, targets, mask = random_batch()
    batch = grounding_labels(regions, targets, mask)
    assert batch.box_label_mask.any(dim=1).all()
    for row in range(3):
        alone = grounding_labels(regions[row], targets[row], mask[row])
        for name, label in alone._asdict().items():
            assert torch.equal(getattr(batch, name)[row], label)


def test_regions_that_follow_their_labels_reach_the_thing():
    regions, targets, mask = random_batch()
    labels = grounding_labels(regions, targets, mask)
    moved = decode_boxes(labels.box_labels, regions)[mask.bool()]
    # Right and bottom one further: see decode_boxes.
    reached = targets[:, None].expand(3, 6, 4)[mask.bool()] + torch.tensor([0, 0, 1, 1])
    assert torch.allclose(moved, reached, atol=1e-4)


def test_rank_loss_worked_by_hand():
    # Two samples, 2 + 1 real regions. softmax([ln 3, 0]) = [3/4, 1/4] against [1/2, 1/2]; the
    # other is certain by itself. The third has no label: it adds nothing and does not divide.
    logits = torch.tensor([[math.log(3.0), 0, 5], [1, 9, 9], [2, 3, 4]])
    labels = torch.tensor([[0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    expected = (0.5 * math.log(2 / 3) + 0.5 * math.log(2) + 0) / 3
    assert grounding_rank_loss(logits, labels, mask).item() == pytest.approx(expected, abs=1e-7)


def test_box_loss_worked_by_hand():
    # Differences 0.5 and 3, then 0: (0.5 * 0.25 + 2.5 + 0 + 0) / 4 for the one labelled region.
    deltas = torch.tensor([[[0.5, -3, 1, 1], [7, 7, 7, 7]]])
    labels = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 0, 0]]])
    loss = grounding_box_loss(deltas, labels, torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(2.625 / 4)


def rank_setting():
    """Logits, labels and mask of 3 samples with 6, 4 and 3 real regions."""
    labels = grounding_labels(*random_batch())
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    return logits, labels.rank_labels, random_batch()[2]


def test_padding_never_matters():
    logits, labels, mask = rank_setting()
    loss = grounding_rank_loss(logits, labels, mask)
    other = torch.where(mask.bool(), logits, torch.tensor(50.0))
    assert torch.equal(grounding_rank_loss(other, labels, mask), loss)
    # Nor does the batch: each sample alone, without its padding, weighted by its regions.
    alone = [
        grounding_rank_loss(logits[[row], :real], labels[[row], :real], mask[[row], :real]) * real
        for row, real in enumerate((6, 4, 3))
    ]
    assert loss.item() == pytest.approx(sum(alone).item() / 13)
    wider = [F.pad(given, (0, 2)) for given in (logits, labels, mask)]
    assert grounding_rank_loss(*wider).item() == pytest.approx(loss.item())


def test_the_order_of_regions_and_samples_does_not_matter():
    given = rank_setting()
    regions, samples = torch.randperm(6), torch.randperm(3)
    mixed = [one[samples][:, regions] for one in given]
    assert grounding_rank_loss(*mixed).item() == pytest.approx(grounding_rank_loss(*given).item())


def test_the_best_ranking_is_the_label_itself():
    _, labels, mask = rank_setting()
    logits = (labels + 1e-30).log().requires_grad_()
    loss = grounding_rank_loss(logits, labels, mask)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_padding_gets_a_gradient_of_0_in_every_precision(dtype):
    logits, labels, mask = rank_setting()
    logits = logits.to(dtype).requires_grad_()
    loss = grounding_rank_loss(logits, labels, mask)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad[~mask.bool()].abs().max() == 0
    assert logits.grad[mask.bool()].abs().max() > 0


def test_gradients_are_those_of_finite_differences():
    logits, labels, mask = rank_setting()
    assert torch.autograd.gradcheck(
        lambda given: grounding_rank_loss(given, labels.double(), mask),
        logits.double().requires_grad_(),
    )
    deltas = torch.randn(3, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda given: grounding_box_loss(given, torch.zeros(3, 6, 4).double(), labels > 0), deltas
    )


def test_no_label_gives_0_and_a_gradient_of_0():
    logits, deltas = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    # The second sample has no region at all.
    rank = grounding_rank_loss(logits, torch.zeros(2, 3), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    box = grounding_box_loss(deltas, torch.zeros(2, 3, 4), torch.zeros(2, 3))
    (rank + box).backward()
    assert (rank.item(), box.item()) == (0, 0)
    assert logits.grad.abs().max() == 0
    assert deltas.grad.abs().max() == 0


def test_labels_of_another_shape_are_refused():
    logits, deltas = torch.zeros(2, 3), torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"rank_labels .*\(2, 3\).*, got \(2, 1\)"):
        grounding_rank_loss(logits, logits[:, :1], logits)
    with pytest.raises(ValueError, match=r"region_mask .*\(2, 3\).*, got \(3,\)"):
        grounding_rank_loss(logits, logits, torch.ones(3))
    with pytest.raises(ValueError, match=r"box_labels .*\(2, 3, 4\).*, got \(2, 1, 4\)"):
        grounding_box_loss(deltas, deltas[:, :1], logits)
    with pytest.raises(ValueError, match=r"box_label_mask .*\(2, 3\).*, got \(2, 1\)"):
        grounding_box_loss(deltas, deltas, logits[:, :1])


# Of the box that is said directly


def test_direct_loss_worked_by_hand():
    # The target is the left half, the box the right half: centres (0.75, 0.5) and (0.25, 0.5) of
    # the same size are 0.5 apart; no overlap and nothing between, so GIoU 0.
    right, left = torch.tensor([[0.5, 0.0, 1, 1]]), torch.tensor([[0.0, 0, 0.5, 1]])
    assert grounding_direct_loss(right, left).item() == pytest.approx(5 * 0.5 + 2)
    # The whole picture for the left half: 0.25 apart, 0.5 too wide, IoU and GIoU 0.5.
    whole = torch.tensor([[0.0, 0, 1, 1]])
    assert grounding_direct_loss(whole, left).item() == pytest.approx(5 * 0.75 + 2 * 0.5)
    assert grounding_direct_loss(left, left).item() == 0
    # The mean of a batch; a sample that means nothing neither adds nor divides.
    batch = torch.cat([right, whole, right]), torch.cat([left, left, torch.zeros(1, 4)])
    assert grounding_direct_loss(*batch).item() == pytest.approx((4.5 + 4.75) / 2)
    weighted = grounding_direct_loss(*batch, l1_weight=1, giou_weight=0)
    assert weighted.item() == pytest.approx((0.5 + 0.75) / 2)


def test_the_direct_objective_reads_the_batch_and_has_detrs_weights():
    outputs = SimpleNamespace(direct_boxes=torch.tensor([[0.5, 0.0, 1, 1]]))
    batch = {"target_boxes": torch.tensor([[0.0, 0, 0.5, 1]])}
    assert GroundingDirect()(outputs, batch).item() == pytest.approx(5 * 0.5 + 2 * 1)
    assert GroundingDirect(1, 3)(outputs, batch).item() == pytest.approx(1 * 0.5 + 3 * 1)


def test_gradients_of_the_direct_loss():
    random = torch.Generator().manual_seed(0)
    centres = torch.rand(4, 4, generator=random, dtype=torch.float64) * 0.5 + 0.1
    targets = cxcywh_to_xyxy(torch.rand(4, 4, generator=random, dtype=torch.float64) * 0.5 + 0.1)
    targets[3] = 0
    boxes = cxcywh_to_xyxy(centres).requires_grad_()
    assert torch.autograd.gradcheck(grounding_direct_loss, (boxes, targets))
    grounding_direct_loss(boxes, targets).backward()
    assert (boxes.grad[:3].abs().sum(dim=1) > 0).all()
    assert boxes.grad[3].abs().max() == 0


def test_following_the_gradient_of_the_direct_loss_reaches_the_target():
    logits = torch.zeros(2, 4, requires_grad=True)
    targets = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.6, 0.1, 0.9, 0.9]])
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 400)
        optimizer.zero_grad()
        grounding_direct_loss(cxcywh_to_xyxy(logits.sigmoid()), targets).backward()
        optimizer.step()
    assert torch.allclose(cxcywh_to_xyxy(logits.sigmoid()), targets, atol=0.01)


def test_no_target_gives_0_and_a_gradient_of_0():
    boxes = torch.rand(2, 4, requires_grad=True)
    loss = grounding_direct_loss(boxes, torch.zeros(2, 4))
    loss.backward()
    assert loss.item() == 0
    assert boxes.grad.abs().max() == 0


def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"target_boxes .*\(2, 4\).*, got \(1, 4\)"):
        grounding_direct_loss(torch.zeros(2, 4), torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("objective", "complaint"),
    [
        (GroundingRank, "grounding_rank needs box_logits, .*model.grounding_box=regions"),
        (GroundingBox, "grounding_box needs box_deltas, .*model.grounding_box=regions"),
        (GroundingDirect, "grounding_direct needs direct_boxes, .*model.grounding_box=direct"),
    ],
)
def test_a_model_with_the_other_head_is_refused(objective, complaint):
    outputs = SimpleNamespace(box_logits=None, box_deltas=None, direct_boxes=None)
    with pytest.raises(ValueError, match=complaint):
        objective()(outputs, {})


def test_labels_agree_with_rosita(reference):
    inputs, _ = reference("rec")
    labels = grounding_labels(inputs["region_xyxy"], inputs["target_xyxy"], inputs["region_mask"])
    assert torch.allclose(labels.rank_labels, inputs["rank_label"], rtol=0, atol=1e-6)
    assert torch.allclose(labels.box_labels, inputs["box_label"], rtol=1e-6, atol=1e-5)
    assert torch.equal(labels.box_label_mask.float(), inputs["box_weight"])
    # What the rank loss takes for valid is what ROSITA does.
    valid = (labels.rank_labels > 0).any(dim=1)
    assert torch.equal(valid.float(), inputs["rank_valid"])
    assert torch.equal(valid[:, None] * inputs["region_mask"], inputs["rank_weight"])


def test_losses_agree_with_rosita(reference):
    inputs, recorded = reference("rec")
    outputs = SimpleNamespace(box_logits=recorded["rank_scores"], box_deltas=recorded["box_deltas"])
    batch = {
        "region_mask": inputs["region_mask"],
        "rank_labels": inputs["rank_label"],
        "box_labels": inputs["box_label"],
        "box_label_mask": inputs["box_weight"],
    }

    def losses(objective, rows):
        given = SimpleNamespace(**{name: one[rows] for name, one in vars(outputs).items()})
        return objective(given, {name: one[rows] for name, one in batch.items()}).item()

    rank, box = GroundingRank(), GroundingBox()
    every = range(4)
    assert losses(box, every) == pytest.approx(recorded["loss_box"].item(), abs=1e-6)
    assert losses(rank, every) == pytest.approx(
        recorded["loss_rank_without_padding"].item(), abs=1e-6
    )
    for objective, name in [(rank, "rank"), (box, "box")]:
        alone = [losses(objective, [row]) for row in every]
        assert alone == pytest.approx(recorded[f"loss_{name}_per_sample"].tolist(), abs=1e-6)

    # With ROSITA's softmax, over padding too, the batch agrees as well; and samples 0 and 2, whose
    # 12 regions are all real, cannot tell the difference.
    def published(rows):
        labels, weights = batch["rank_labels"][rows], inputs["rank_weight"][rows]
        log_probabilities = outputs.box_logits[rows].log_softmax(dim=1)
        divergence = torch.xlogy(labels, labels) - labels * log_probabilities
        return ((divergence * weights).sum() / weights.sum()).item()

    assert published(list(every)) == pytest.approx(recorded["loss_rank"].item(), abs=1e-6)
    assert published([0, 2]) == pytest.approx(losses(rank, [0, 2]), abs=1e-6)
    assert losses(rank, [1]) < published([1]) - 1e-3
