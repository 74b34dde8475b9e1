import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.objectives.matching import (
    HardNegatives,
    Matching,
    hard_negatives,
    matching_loss,
    mine_hardest,
    random_negatives,
    soft_match_labels,
    three_way_matching_loss,
)
from tbkin.objectives.similarity import positive_mask


def test_worked_by_hand():
    # softmax([0, ln 3]) = [1/4, 3/4]: "together" with 3/4.
    logits = torch.tensor([[0.0, math.log(3.0)]] * 2)
    batch = {"match_labels": torch.tensor([1, 0])}
    loss = Matching()(SimpleNamespace(match_logits=logits), batch)
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_rows_must_be_a_count():
    assert Matching(rows=2).rows == 2
    for wrong in (-1, 1.5, "x", True):
        with pytest.raises(
            ValueError, match=rf"matching\.rows is a whole number >= 0, got {wrong!r}"
        ):
            Matching(rows=wrong)


def test_soft_is_true_or_false():
    for wrong in ("no", 1):
        with pytest.raises(ValueError, match=rf"matching\.soft is true or false, got {wrong!r}"):
            Matching(soft=wrong)


def test_teachers_soften_the_wrong_pairs_alone():
    # softmax([0, ln 3]) says "together" with 3/4. Pictures 0 and 1 are alike to 1/2, captions to 1;
    # of three pairs a row each: right, picture 0 with caption 1 and back, caption 0 with picture 1.
    # Caption 1 has no wrong picture: its pair does not count.
    sure = [0.0, math.log(3.0)]
    outputs = SimpleNamespace(
        match_logits=torch.tensor([sure] * 5 + [[7.0, -7.0]]),
        match_labels=torch.tensor([1, 1, 0, 0, 0, -100]),
        match_negatives=(
            torch.tensor([1, 0]),
            torch.tensor([1, 1]),
            torch.tensor([True, True]),
            torch.tensor([True, False]),
        ),
    )
    batch = {
        "own_image_teacher_scores": torch.tensor([[1.0, 0.5], [0.5, 1.0]]),
        "own_text_teacher_scores": torch.tensor([[1.0, 1.0], [1.0, 1.0]]),
    }
    right = math.log(4 / 3)
    half = (math.log(4) + math.log(4 / 3)) / 2
    loss = Matching(soft=True)(outputs, batch).item()
    assert loss == pytest.approx((2 * right + 2 * half + right) / 5)
    # Teachers that find nothing alike say what hard labels say.
    batch = dict.fromkeys(batch, torch.eye(2))
    hard = Matching()(outputs, {}).item()
    assert Matching(soft=True)(outputs, batch).item() == pytest.approx(hard)
    assert hard == pytest.approx((2 * right + 3 * math.log(4)) / 5)


def test_soft_labels_need_teachers_and_chosen_pairs():
    outputs = SimpleNamespace(match_logits=torch.zeros(3, 2), match_labels=torch.tensor([1, 0, 0]))
    message = (
        r"matching needs 'match_negatives' of the model.* or objectives\.matching\.soft=false\."
    )
    with pytest.raises(ValueError, match=message):
        Matching(soft=True)(outputs, {})
    outputs.match_negatives = (torch.zeros(1).long(),) * 4
    with pytest.raises(ValueError, match=r"'own_image_teacher_scores' .*set data\.teachers, or"):
        Matching(soft=True)(outputs, {})


def test_missing_logits_and_labels_are_named():
    labels = {"match_labels": torch.tensor([1])}
    with pytest.raises(ValueError, match=r"objectives\.matching needs 'match_logits' of the model"):
        Matching()(SimpleNamespace(match_logits=None), labels)
    outputs = SimpleNamespace(match_logits=torch.zeros(1, 2), match_labels=None)
    with pytest.raises(ValueError, match=r"matching needs 'match_labels' in the batch, .* image"):
        Matching()(outputs, {"image_ids": torch.tensor([1])})


def test_the_three_ways_worked_by_hand():
    # All say "together" with 3/4: right for the right pair, wrong for both wrong ones.
    sure = torch.tensor([[0.0, math.log(3.0)]])
    doubtful = torch.tensor([[0.0, 0.0]])
    right, wrong, even = math.log(4 / 3), math.log(4), math.log(2)

    def loss(*logits):
        return three_way_matching_loss(*logits).item()

    assert loss(sure, sure, sure) == pytest.approx(2 * right + wrong + wrong)
    assert loss(doubtful, sure, sure) == pytest.approx(2 * even + wrong + wrong)
    assert loss(sure, doubtful, sure) == pytest.approx(2 * right + even + wrong)
    assert loss(sure, sure, doubtful) == pytest.approx(2 * right + wrong + even)


def test_pairs_that_do_not_count_change_nothing():
    logits, labels = torch.randn(3, 2), torch.tensor([1, -100, 0])
    kept = labels >= 0
    expected = matching_loss(logits[kept], labels[kept]).item()
    assert matching_loss(logits, labels).item() == pytest.approx(expected)


def test_the_order_of_the_pairs_does_not_matter():
    logits, labels = torch.randn(5, 2), torch.tensor([1, 0, 0, 1, 1])
    order = torch.randperm(5)
    assert matching_loss(logits[order], labels[order]).item() == pytest.approx(
        matching_loss(logits, labels).item()
    )


def test_agrees_with_rosita_on_retrieval(reference):
    _, outputs = reference("itr")
    positive = outputs["match_logits"]
    negatives = [outputs[f"match_logits_negative_{side}"] for side in ("text", "image")]
    assert three_way_matching_loss(positive, *negatives).item() == pytest.approx(
        outputs["loss_total"].item(), abs=1e-6
    )
    together = torch.ones(4, dtype=torch.long)
    assert matching_loss(positive, together).item() == pytest.approx(
        outputs["loss_positive"].item(), abs=1e-6
    )
    for side, logits in zip(("text", "image"), negatives, strict=True):
        assert matching_loss(logits, 1 - together).item() == pytest.approx(
            outputs[f"loss_negative_{side}"].item(), abs=1e-6
        )


def test_agrees_with_rosita_on_pre_training(reference):
    inputs, outputs = reference("pretraining")
    loss = Matching()(
        SimpleNamespace(match_logits=outputs["match_logits"]),
        {"match_labels": inputs["match_label"]},
    )
    assert loss.item() == pytest.approx(outputs["loss_match_cross_entropy"].item(), abs=1e-6)


def test_shares_are_labels_too():
    # "Together" with 3/4, and should be with 0.3: 0.3 ln 4/3 + 0.7 ln 4.
    logits = torch.tensor([[0.0, math.log(3.0)]])
    expected = 0.3 * math.log(4 / 3) + 0.7 * math.log(4)
    assert matching_loss(logits, torch.tensor([0.3])).item() == pytest.approx(expected)
    for label in (0, 1):
        whole = matching_loss(logits, torch.tensor([label])).item()
        assert matching_loss(logits, torch.tensor([float(label)])).item() == pytest.approx(whole)


SCORES = torch.tensor(
    [
        [9.0, 1.0, 2.0, 3.0],
        [8.0, 9.0, 1.0, 0.0],
        [3.0, 2.0, 9.0, 7.0],
        [4.0, 5.0, 6.0, 9.0],
    ]
)
IDS = torch.tensor([0, 1, 0, 2])


def test_the_hardest_worked_by_hand():
    # Pictures 0 and 2 are the same, so that (0, 2) and (2, 0) are right.
    found = hard_negatives(SCORES, positive_mask(IDS), mining="hardest")
    assert found.captions.tolist() == [3, 0, 3, 2]
    assert found.images.tolist() == [1, 3, 3, 2]
    assert found.caption_found.all()
    assert found.image_found.all()


def test_what_is_right_need_not_be_symmetric():
    # Picture 2 goes with caption 3 as well, but picture 3 not with caption 2.
    positives = torch.eye(4).bool()
    positives[2, 3] = True
    found = hard_negatives(SCORES, positives, mining="hardest")
    assert found.captions.tolist() == [3, 0, 0, 2]
    assert found.images.tolist() == [1, 3, 3, 0]


def test_one_of_the_hardest_is_drawn_evenly():
    generator = torch.Generator().manual_seed(0)
    positives = torch.eye(4).bool()
    draws = torch.stack(
        [
            hard_negatives(SCORES, positives, generator, "hardest", keep=2).captions
            for _ in range(2000)
        ]
    )
    for row, best in enumerate([(2, 3), (0, 2), (0, 3), (1, 2)]):
        for column in best:
            share = (draws[:, row] == column).float().mean().item()
            assert share == pytest.approx(0.5, abs=0.05)


def test_more_kept_than_wrong_there_are_draws_no_right_ones():
    generator = torch.Generator().manual_seed(0)
    positives = positive_mask(IDS)
    for _ in range(50):
        found = hard_negatives(SCORES, positives, generator, "hardest", keep=10)
        assert not positives[torch.arange(4), found.captions].any()
        assert not positives[found.images, torch.arange(4)].any()


def test_sampling_follows_the_softmax_of_the_wrong_ones():
    # Picture 0's wrong captions count 1, 2 and 5 of 8; caption 0's wrong pictures 3, 1 and 4.
    weights = torch.tensor(
        [[1e6, 1.0, 2.0, 5.0], [3.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [4.0, 1.0, 1.0, 1.0]]
    )
    generator = torch.Generator().manual_seed(0)
    captions, images = torch.zeros(4), torch.zeros(4)
    for _ in range(4000):
        found = hard_negatives(weights.log(), torch.eye(4).bool(), generator)
        captions[found.captions[0]] += 1 / 4000
        images[found.images[0]] += 1 / 4000
    assert captions.tolist() == pytest.approx([0, 1 / 8, 2 / 8, 5 / 8], abs=0.03)
    assert images.tolist() == pytest.approx([0, 3 / 8, 1 / 8, 4 / 8], abs=0.03)


def test_the_generator_decides():
    scores, positives = torch.zeros(8, 8), torch.eye(8).bool()

    def draw(seed):
        return hard_negatives(scores, positives, torch.Generator().manual_seed(seed)).captions

    assert draw(1).tolist() == draw(1).tolist()
    assert draw(1).tolist() != draw(2).tolist()


@pytest.mark.parametrize("mining", ["sampled", "hardest"])
def test_very_sure_scores_still_have_wrong_ones(mining):
    # After a softmax over all of them nothing but the right one is left in float32.
    found = hard_negatives(1e4 * torch.eye(3), torch.eye(3).bool(), mining=mining)
    assert (found.captions != torch.arange(3)).all()
    assert (found.images != torch.arange(3)).all()


@pytest.mark.parametrize("mining", ["sampled", "hardest"])
def test_where_nothing_is_wrong_it_says_so(mining):
    for positives in (torch.ones(1, 1).bool(), torch.ones(3, 3).bool()):
        found = hard_negatives(torch.zeros(positives.shape), positives, mining=mining)
        assert found.captions.tolist() == list(range(len(positives)))
        assert not found.caption_found.any()
        assert not found.image_found.any()


def test_unknown_mining_lists_the_choices():
    with pytest.raises(ValueError, match="unknown mining 'hard'; choose from: hardest, sampled"):
        hard_negatives(SCORES, torch.eye(4).bool(), mining="hard")


def test_soft_labels_worked_by_hand():
    # Picture 0's wrong caption is that of picture 1, as like to it as 0.7; picture 1's that of
    # picture 2, below 0. Caption 0's wrong picture is that of caption 2, as like as 0.2, and so on.
    image_teacher = torch.tensor([[1.0, 0.7, 0.1], [0.7, 1.0, -0.4], [0.1, -0.4, 1.0]])
    text_teacher = torch.tensor([[1.0, 0.3, 0.2], [0.3, 1.0, -0.1], [0.2, -0.1, 1.0]])
    found = torch.ones(3).bool()
    negatives = HardNegatives(torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1]), found, found)
    of_captions, of_images = soft_match_labels(image_teacher, text_teacher, negatives)
    assert of_captions.tolist() == pytest.approx([0.7, 0.0, 0.1])
    assert of_images.tolist() == pytest.approx([0.2, 0.3, 0.0])


def test_random_negatives_are_wrong_and_any_wrong_one_may_come():
    ids, others = torch.tensor([0, 1, 5]), torch.tensor([0, 0, 0, 0, 1, 2])
    drawn = random_negatives(ids, others, 200, torch.Generator().manual_seed(0))
    assert [sorted(set(row)) for row in drawn.tolist()] == [
        [4, 5],
        [0, 1, 2, 3, 5],
        [0, 1, 2, 3, 4, 5],
    ]


def test_random_negatives_need_another_identity():
    same = torch.zeros(3).long()
    for others in (same, same[:0]):
        with pytest.raises(ValueError, match="no wrong pairs can be drawn"):
            random_negatives(same, others)
    assert random_negatives(same + 1, same, 2).shape == (3, 2)  # all others are wrong: fine


def test_the_hardest_of_the_candidates():
    candidates = torch.tensor([[7, 8, 9], [4, 5, 6]])
    scores = torch.tensor([[0.1, 0.3, 0.2], [3.0, 1.0, 2.0]])
    assert mine_hardest(scores, candidates, 2).tolist() == [[8, 9], [4, 6]]
    assert mine_hardest(scores, candidates, 9).shape == (2, 3)
