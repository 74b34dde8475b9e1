"""Learning whether a text and a picture belong together, from wrong pairs that look right."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.config import choose
from tbkin.objectives.masked import check_shape
from tbkin.objectives.similarity import batch_field, output_field

NOT_JUDGED = -100  # label of a pair that does not count
MINING = {"sampled": "drawn by the softmax of their scores", "hardest": "among the best-scoring"}


class Matching(nn.Module):
    """Cross-entropy of "do they belong together?" (image-text matching).

    Source: ROSITA (arXiv:2108.07073), a pre-training term of weight 1.

    Args:
        soft: teachers say how wrong the wrong pairs are, :func:`soft_match_labels`; for models that
            choose them in their batch.
        rows: of such a model too: how many rows of a batch are judged, with wrong partners out of
            the whole batch; 0: all. Judging costs three passes a row, embedding two short ones, and
            a larger batch has more confusable partners.
    """

    def __init__(self, soft: bool = False, rows: int = 0):
        super().__init__()
        if type(rows) is not int or rows < 0:
            raise ValueError(f"objectives.matching.rows is a whole number >= 0, got {rows!r}.")
        if type(soft) is not bool:
            raise ValueError(f"objectives.matching.soft is true or false, got {soft!r}.")
        self.soft, self.rows = soft, rows

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.match_logits`` (P, 2) and their labels (P,).

        A model that chose the wrong pairs itself says so in ``outputs.match_labels``; otherwise
        they are ``batch["match_labels"]``. If ``soft``, it also reads ``outputs.match_negatives``,
        then P is three times the rows judged: the right pairs, each picture with its wrong caption,
        each caption with its wrong picture; and ``batch["own_image_teacher_scores"]`` and
        ``own_text_teacher_scores`` (B, B), of those that the process has chosen among.
        """
        logits = output_field(outputs, "match_logits", "matching")
        labels = getattr(outputs, "match_labels", None)
        if labels is None:
            labels = batch_field(batch, "match_labels", "matching")
        if not self.soft:
            return matching_loss(logits, labels)
        hard = "objectives.matching.soft=false"
        negatives = output_field(outputs, "match_negatives", "matching", f"or {hard}")
        teachers = [
            batch_field(
                batch,
                f"own_{side}_teacher_scores",
                "matching",
                f"set data.teachers, or {hard}",
            )
            for side in ("image", "text")
        ]
        wrong = soft_match_labels(*teachers, HardNegatives(*negatives))
        right = torch.ones_like(wrong[0])
        judged = labels != NOT_JUDGED
        return matching_loss(logits[judged], torch.cat([right, *wrong])[judged])


def matching_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, averaged over the pairs.

    Args:
        logits: (B, 2); class 1 says that text and picture belong together.
        labels: (B,) int64, 0 or 1, or -100 for a pair that is not to be judged; or floats in
            [0, 1], how far they belong together (:func:`soft_match_labels`): class 1 should get
            that share, class 0 the rest.
    """
    if labels.is_floating_point():
        labels = torch.stack([1 - labels, labels], dim=1).to(logits.dtype)
    return F.cross_entropy(logits, labels)


def three_way_matching_loss(
    positive: Tensor, negative_text: Tensor, negative_image: Tensor
) -> Tensor:
    """ROSITA's loss of retrieval (arXiv:2108.07073): as many right pairs as wrong ones.

    The right pairs count twice, since there are two wrong pairs to each.

    Args:
        positive: (B, 2) logits of each text with its own picture.
        negative_text: (B, 2) logits of each picture with a wrong text.
        negative_image: (B, 2) logits of each text with a wrong picture.

    Returns:
        Scalar: twice the cross-entropy of the right pairs, and that of both kinds of wrong pairs.
    """
    return (
        2 * matching_loss(positive, _labels_of(positive, 1))
        + matching_loss(negative_text, _labels_of(negative_text, 0))
        + matching_loss(negative_image, _labels_of(negative_image, 0))
    )


class HardNegatives(NamedTuple):
    """A wrong caption for each picture of a batch, and a wrong picture for each caption.

    Attributes:
        captions: (B,) int64, row of the batch whose caption is wrong for picture i; i itself where
            there is none.
        images: (B,) int64, row whose picture is wrong for caption i; likewise.
        caption_found: (B,) bool, False where every caption of the batch is right for picture i.
        image_found: (B,) bool, likewise.
    """

    captions: Tensor
    images: Tensor
    caption_found: Tensor
    image_found: Tensor


@torch.no_grad()
def hard_negatives(
    scores: Tensor,
    positives: Tensor,
    generator: torch.Generator | None = None,
    mining: Literal["sampled", "hardest"] = "sampled",
    keep: int = 1,
) -> HardNegatives:
    """Wrong pairs of a batch that a fused score should learn to tell from right ones.

    Source: ``"sampled"``, Li et al., "ALBEF" (arXiv:2107.07651): by the softmax of the contrastive
    scores. ``"hardest"``: one of the ``keep`` best-scoring, all equally likely, as ROSITA
    (arXiv:2108.07073) draws in each step one of the 5 that :func:`mine_hardest` found; in the
    batch it is *ours*.

    Args:
        scores: (B, B), picture i and caption j, already divided by a temperature.
        positives: (B, B) bool, what is not wrong: the diagonal, equal identities, perhaps pairs
            that teachers find too alike.
        generator: of the device of ``scores``; the global one without it.
        mining: how they are drawn.
        keep: of ``"hardest"``: among how many, >= 1; 1 is the hardest itself.
    """
    choose(MINING, mining, "mining")
    check_shape("positives", positives, scores.shape)
    captions, caption_found = _wrong_columns(scores, positives, generator, mining, keep)
    images, image_found = _wrong_columns(scores.T, positives.T, generator, mining, keep)
    return HardNegatives(captions, images, caption_found, image_found)


def soft_match_labels(
    image_teacher_scores: Tensor, text_teacher_scores: Tensor, negatives: HardNegatives
) -> tuple[Tensor, Tensor]:
    """How far hard negatives do belong together, as CUSA's teachers see it.

    *Ours*: CUSA (Huang et al., AAAI 2024) softens the labels of matching, but its formula is not
    published. A wrong caption is as right for a picture as the caption's own picture is like it;
    a wrong picture is as right for a caption as the picture's own caption is.

    Args:
        image_teacher_scores: (B, B), cosines of the batch's pictures with one another.
        text_teacher_scores: (B, B), of its captions.
        negatives: of :func:`hard_negatives`.

    Returns:
        Labels in [0, 1] of each picture with its wrong caption, and of each caption with its wrong
        picture, both (B,).
    """
    of_captions = image_teacher_scores.gather(1, negatives.captions[:, None]).squeeze(1)
    of_images = text_teacher_scores.gather(1, negatives.images[:, None]).squeeze(1)
    return of_captions.clamp(0, 1), of_images.clamp(0, 1)


def random_negatives(
    ids: Tensor, other_ids: Tensor, count: int = 128, generator: torch.Generator | None = None
) -> Tensor:
    """Wrong captions (pictures) of a whole data set for each picture (caption) of it.

    Source: ROSITA (arXiv:2108.07073) and its code: before every epoch 128 for each, of which
    :func:`mine_hardest` keeps 5. Drawn with replacement (*ours*), which at its sizes is the same.

    Args:
        ids: (N,) identities of those who need wrong partners.
        other_ids: (M,) identities of the partners there are.
        count: how many for each.
        generator: of their device; the global one without it.

    Returns:
        (N, count) int64, places in ``other_ids``, never of the same identity.

    Raises:
        ValueError: somebody has no wrong partner.
    """
    alike = (other_ids == other_ids[:1]).all()
    if alike and (len(other_ids) == 0 or (ids == other_ids[0]).any()):
        raise ValueError(
            "no wrong pairs can be drawn: all partners have the same identity; use data of more "
            "than one."
        )
    device = other_ids.device
    drawn = torch.randint(len(other_ids), (len(ids), count), generator=generator, device=device)
    while (clash := other_ids[drawn] == ids[:, None]).any():
        again = (int(clash.sum()),)
        drawn[clash] = torch.randint(len(other_ids), again, generator=generator, device=device)
    return drawn


def mine_hardest(scores: Tensor, candidates: Tensor, keep: int = 5) -> Tensor:
    """The candidates that score best.

    Args:
        scores: (N, C), of each with its candidates.
        candidates: (N, C) int64, of :func:`random_negatives`.
        keep: how many; ROSITA (arXiv:2108.07073): 5 of 128.

    Returns:
        (N, min(keep, C)) of ``candidates``, the best first.
    """
    best = scores.topk(min(keep, scores.shape[1]), dim=1).indices
    return candidates.gather(1, best)


def _wrong_columns(
    scores: Tensor, positives: Tensor, generator: torch.Generator | None, mining: str, keep: int
) -> tuple[Tensor, Tensor]:
    """For each row a column that is not positive, and whether there is one; else the row itself."""
    found = ~positives.all(dim=1)
    rows = torch.arange(len(scores), device=scores.device)
    # Masked before the softmax: after it, what is left of a sure row may be all 0.
    wrong = scores.float().masked_fill(positives, -torch.inf)
    wrong = torch.where(found[:, None], wrong, 0.0)
    if mining == "hardest":
        best = wrong.topk(min(keep, wrong.shape[1]), dim=1)
        even = torch.where(best.values.isfinite(), 0.0, -torch.inf)
        wrong = torch.full_like(wrong, -torch.inf).scatter(1, best.indices, even)
    drawn = torch.multinomial(wrong.softmax(dim=1), 1, generator=generator).squeeze(1)
    return torch.where(found, drawn, rows), found


def _labels_of(logits: Tensor, label: int) -> Tensor:
    """The same label for each of (B, 2) logits."""
    return torch.full((len(logits),), label, device=logits.device)
