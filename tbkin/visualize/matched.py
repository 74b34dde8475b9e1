"""How well a picture and a caption fit, in numbers and on the page."""

from __future__ import annotations

from dataclasses import dataclass

from tbkin.visualize import page


@dataclass
class MatchedPicture:
    """How well a picture and a caption fit, as a model says.

    Attributes:
        probability: that they belong together, of the fused score, in [0, 1].
        cosine: of their embeddings, in [-1, 1]; None: not known.
        rank: the picture's place among those that were searched, from 1; None: none were.
        searched: how many they were.
        true: whether the caption is true of the picture; None: unknown.
        true_rank: the best rank of a picture that it is true of; None: unknown.
    """

    probability: float
    cosine: float | None = None
    rank: int | None = None
    searched: int = 0
    true: bool | None = None
    true_rank: int | None = None

    @property
    def score(self) -> float | None:
        """1 when the picture ranked first is right, 0 when it is wrong; None: unknown."""
        return None if self.true is None or self.rank != 1 else float(self.true)

    def in_words(self) -> str:
        """The rank, or without one the probability."""
        if self.rank is None:
            return f"{self.probability:.1%}"
        return f"rank {self.rank} of {page.count(self.searched, 'picture')}"


def matched_verdict(matched: MatchedPicture) -> str:
    """Where the picture ranks, and whether the caption is true of it; HTML."""
    said = []
    if matched.rank is not None:
        said.append(f"<strong>{matched.in_words().capitalize()}</strong>")
    if matched.cosine is not None:
        said.append(f"Cosine of the embeddings <strong>{matched.cosine:.3f}</strong>")
    truth = {
        None: "Whether the caption is true of this picture is unknown.",
        True: "The caption is true of this picture.",
        False: "The caption is not true of this picture.",
    }[matched.true]
    if matched.true is False and matched.true_rank is not None:
        truth += f" The best one that it is true of has rank {matched.true_rank}."
    scored = matched.true is None or matched.rank == 1  # a later place is neither right nor wrong
    lines = [f"<p>{'. '.join(said)}.</p>"] if said else []
    return "\n".join([*lines, f"<p>{truth} {page.mark(matched.score) if scored else ''}</p>"])
