"""Pairwise scores over the batches of all processes, between the model and its objectives.

Objectives of retrieval compare every picture with every text. Each process makes the embeddings
of its own share of a batch; here those of all are put together, with gradient, before scores are
formed. So objectives never know how many processes there are. Every process then computes the
same loss, and the average that DDP takes of their gradients is that loss's gradient.

A model whose scorer compares regions and words has formed the scores itself, of its process's own
share, since states are too large to be sent around. Then nothing is gathered: every process
computes the loss of its share, and DDP averages these, as with gradient accumulation. The other
processes' pairs are no wrong pairs to it, so the number of processes changes what is learned.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from tbkin.data.teachers import teacher_scores

EMBEDDINGS = (
    "image_embeds",
    "text_embeds",
    "image_uni_embeds",
    "text_uni_embeds",
    "momentum_image_embeds",
    "momentum_text_embeds",
)
IDS = ("image_ids", "caption_ids", "identities")
TEACHERS = ("image_teacher", "text_teacher")
TOKENS = ("input_ids", "attention_mask")


def gathered(accelerator: Accelerator, outputs: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Fill in what retrieval's objectives read; other outputs pass through untouched.

    Args:
        accelerator: says how many processes there are.
        outputs: of a model; with ``image_embeds`` and ``text_embeds`` (b, D) of this process, these
            and all other ones become those of all processes (B, D), ``text_token_embeds``
            (B, T, D) likewise, and ``scores`` (B, B) their products. Where the model has formed
            ``scores`` (b, b) of its own, all stays as it is.
        batch: its ids and tokens become those of all processes likewise; what is of pictures
            stays.

    Returns:
        The batch for the objectives, with ``image_teacher_scores`` and ``text_teacher_scores``
        (B, B), cosines of the teachers' features, where it has these.
    """
    if getattr(outputs, "image_embeds", None) is None:
        return batch
    batch = dict(batch)
    if outputs.get("scores") is None:
        _gather(accelerator, outputs, batch)
        outputs["scores"] = outputs.image_embeds @ outputs.text_embeds.T
    for name in TEACHERS:
        if name in batch:
            batch[f"{name}_scores"] = teacher_scores(batch[name])
    return batch


def _gather(accelerator: Accelerator, outputs: Any, batch: dict[str, Any]) -> None:
    """Embeddings, ids, teachers and tokens of all processes."""
    for name in EMBEDDINGS:
        if outputs.get(name) is not None:
            outputs[name] = _all(accelerator, outputs[name])
    for name in (*IDS, *TEACHERS):
        if name in batch:
            batch[name] = accelerator.gather(batch[name])
    if accelerator.num_processes > 1 and outputs.get("text_token_embeds") is not None:
        _gather_tokens(accelerator, outputs, batch)


def _gather_tokens(accelerator: Accelerator, outputs: Any, batch: dict[str, Any]) -> None:
    """Captions of other processes may be longer: each is padded to the longest of all."""
    embeds = outputs.text_token_embeds
    for name in TOKENS:  # padding is masked, whatever its id
        longest = accelerator.pad_across_processes(batch[name], dim=1)
        batch[name] = accelerator.gather(longest)
    padded = F.pad(embeds, (0, 0, 0, longest.shape[1] - embeds.shape[1]))
    outputs["text_token_embeds"] = _all(accelerator, padded)


def _all(accelerator: Accelerator, rows: Tensor) -> Tensor:
    """(b, …) of each process -> (B, …), with a gradient to every process's own."""
    if accelerator.num_processes == 1:
        return rows
    # torch 2.13 points here from the older names, which it has deprecated.
    from torch.distributed._functional_collectives import all_gather_single_autograd, wait_tensor

    return wait_tensor(
        all_gather_single_autograd(rows.contiguous(), 0, torch.distributed.group.WORLD)
    )
