"""Local reconstruction of MMRef: hidden words of a caption, restored with its object's reference.

So the reference must keep what single words say. The blocks stand in MMRef's order; their inner
form, what hides a word and how words are predicted are *ours* (see ``mmref.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tbkin.objectives.masked import NOT_MASKED, masked_class_loss

HIDDEN, SWAPPED = 0.8, 0.1  # of the chosen tokens; the rest stay as they are (BERT)


class WordReconstruction(nn.Module):
    """Hides tokens of captions and says what it costs to restore them.

    Args:
        vocabulary: number of different tokens.
        special: ids of tokens that are never hidden: start, end and the like.
        dim: D, width of the references.
        token_dim: E, width of the token embeddings.
        heads: of attention; divides ``dim``.
        mask_probability: share of the tokens that are to be restored, in (0, 1]; BERT's is 0.15.
        seed: of the hiding, which uses no global state.
    """

    def __init__(
        self,
        vocabulary: int,
        special: Sequence[int],
        dim: int,
        token_dim: int,
        heads: int = 4,
        mask_probability: float = 0.15,
        seed: int = 0,
    ):
        super().__init__()
        self.special = torch.tensor(sorted(special), dtype=torch.long)
        self.mask_probability = mask_probability
        self.generator = torch.Generator().manual_seed(seed)
        self.mask_embed = nn.Parameter(0.02 * torch.randn(token_dim, generator=self.generator))
        self.reconstruction = ReferenceReconstruction(vocabulary, dim, token_dim, heads)

    def forward(
        self, token_embeds: Tensor, input_ids: Tensor, mask: Tensor, references: Tensor
    ) -> Tensor:
        """Cross-entropy of the hidden tokens, averaged over them.

        Args:
            token_embeds: (B, T, E), before any layer mixed them: states that have seen their
                neighbours would give the hidden words away.
            input_ids: (B, T) what the tokens are.
            mask: (B, T), 1 = real token.
            references: (B, P, D), those of the captions' objects.

        Returns:
            Scalar >= 0; 0 where nothing was hidden.
        """
        if not len(token_embeds) == len(input_ids) == len(mask) == len(references):
            raise ValueError(
                "hidden words are restored where the captions are: identities are those of "
                f"{len(references)} captions, text_token_embeds of {len(token_embeds)}, input_ids "
                f"of {len(input_ids)}; gather all of them over processes, or none."
            )
        words = mask.bool() & ~torch.isin(input_ids, self.special.to(input_ids.device))
        shown, chosen = hide_words(
            token_embeds, words, self.mask_embed, self.mask_probability, self.generator
        )
        labels = input_ids.masked_fill(~chosen, NOT_MASKED)
        return self.reconstruction(shown, mask, references, labels)


class ReferenceReconstruction(nn.Module):
    """Self-attention, feed-forward, attention to the reference, feed-forward, prediction.

    Each part is added to what it was given, and reads it normalised. With one vector a reference,
    the attention to it adds the same projection of it to every token; several can be told apart.

    Args:
        vocabulary: number of different tokens.
        dim: D, width of the references and of the parts.
        token_dim: E, width of the tokens' embeddings.
        heads: of attention; divides ``dim``.
    """

    def __init__(self, vocabulary: int, dim: int, token_dim: int, heads: int):
        super().__init__()
        self.tokens = nn.Linear(token_dim, dim)
        self.among = AttentionBlock(dim, heads)
        self.to_reference = AttentionBlock(dim, heads)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, vocabulary))

    def forward(self, tokens: Tensor, mask: Tensor, references: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the tokens that have a label, averaged over them.

        Args:
            tokens: (B, T, E) embeddings, some of them hidden. Places are added here.
            mask: (B, T), 1 = real token.
            references: (B, P, D).
            labels: (B, T) int64, -100 where nothing is to be restored.

        Returns:
            Scalar >= 0; 0 where nothing is.
        """
        states = self.tokens(tokens)
        states = states + sinusoidal_places(states).to(states.dtype)
        mask = mask.bool()
        mask = mask | ~mask.any(dim=1, keepdim=True)  # attention to nothing at all is nan
        states = self.among(states, states, mask)
        states = self.to_reference(states, references, None)
        chosen = labels != NOT_MASKED  # before the head: the vocabulary is what costs
        return masked_class_loss(self.head(states[chosen])[None], labels[chosen][None])


class AttentionBlock(nn.Module):
    """Attention to keys, then a feed-forward net; both are added to the states.

    Args:
        dim: D.
        heads: of attention.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.query_norm, self.key_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, states: Tensor, others: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) and keys (B, K, D) with their mask (B, K), 1 = real -> (B, T, D)."""
        keys = self.key_norm(others)
        padding = None if mask is None else ~mask.bool()  # torch's sense is the opposite
        mixed, _ = self.attention(
            self.query_norm(states), keys, keys, key_padding_mask=padding, need_weights=False
        )
        states = states + mixed
        return states + self.feed_forward(states)


def hide_words(
    token_embeds: Tensor,
    words: Tensor,
    mask_embed: Tensor,
    probability: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Choose tokens, and put something else in their place.

    Of the chosen tokens 80 % become ``mask_embed``, 10 % another token of the batch (BERT's draws
    from the vocabulary, whose embeddings are the model's; *ours*) and 10 % stay.

    Args:
        token_embeds: (B, T, E).
        words: (B, T) bool, the tokens that may be chosen.
        mask_embed: (E,).
        probability: that a token is chosen.
        generator: of the CPU, the only source of chance.

    Returns:
        (B, T, E) a copy, and (B, T) bool, what was chosen.
    """
    draws = torch.rand(3, *words.shape, generator=generator).to(words.device)
    chosen = words & (draws[0] < probability)
    hidden = chosen & (draws[1] < HIDDEN)
    swapped = chosen & ~hidden & (draws[1] < HIDDEN + SWAPPED)
    token_embeds = token_embeds.to(mask_embed.dtype)
    pool = token_embeds[words]
    shown = torch.where(hidden[..., None], mask_embed, token_embeds)
    shown[swapped] = pool[(draws[2][swapped] * len(pool)).long()]
    return shown, chosen


def sinusoidal_places(states: Tensor) -> Tensor:
    """Sines and cosines of the places 0 … T - 1, as in "Attention Is All You Need".

    Args:
        states: (B, T, D), whose values do not count.

    Returns:
        (T, D), the sines in the first half of the columns, the cosines in the second; in float32
        at least, since half precision rounds places beyond 256.
    """
    length, dim = states.shape[1:]
    precise = torch.promote_types(states.dtype, torch.float32)
    half = torch.arange((dim + 1) // 2, device=states.device, dtype=precise)
    rates = torch.exp(-math.log(10_000) * 2 * half / dim)
    angles = torch.arange(length, device=states.device, dtype=precise)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim]
