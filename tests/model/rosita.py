"""ROSITA by the formulas, slowly: checkpoints of any size, and what a network makes of a batch.

Written from the description of the network alone, without a line of ``tbkin``.
"""

import math

import torch

GROUPS_OF = {
    "vqa": ("mm_qa_head",),
    "grounding": ("mm_refs_head",),
    "retrieval": ("mm_itm_head",),
    "pretraining": ("text_mlm_head", "imgfeat_head", "mm_itm_head"),
}


def checkpoint(
    task,
    width=192,
    layers=5,
    inner=80,
    vocabulary=23,
    positions=30,
    features=12,
    answers=3,
    objects=7,
    attributes=4,
):
    """A grouped checkpoint of random numbers; nothing in it is at its start value."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    def linear(name, source, target):
        return {
            f"{name}.weight": noise(target, source) * 1.1 / math.sqrt(source),
            f"{name}.bias": 0.1 * noise(target),
        }

    def norm(name, size=width):
        return {f"{name}.weight": 1 + 0.2 * noise(size), f"{name}.bias": 0.1 * noise(size)}

    backbone = {}
    for number in range(layers):
        layer = f"layers.{number}"
        for part in ("v", "k", "q", "merge"):
            backbone |= linear(f"{layer}.mhatt.dense_{part}", width, width)
        backbone |= linear(f"{layer}.ffn.dense0", width, inner)
        backbone |= linear(f"{layer}.ffn.dense1", inner, width)
        backbone |= norm(f"{layer}.layer_norm0") | norm(f"{layer}.layer_norm1")
    words = noise(vocabulary, width)
    groups = {
        "epoch": 3,
        "net_optim": {"state": {}},
        "text_embeddings": {
            "word_embeddings.weight": words,
            "position_embeddings.weight": 0.3 * noise(positions, width),
            "token_type_embeddings.weight": 0.3 * noise(2, width),
            **norm("layer_norm"),
        },
        "visual_embeddings": {
            **linear("dense_imgfeat", features, width),
            **linear("dense_bboxfeat", 5, width),
            **norm("layer_norm"),
        },
        "backbone": backbone,
        "pooler": linear("dense", width, width),
    }
    transform = {**linear("dense", width, width), **norm("layer_norm")}
    heads = {
        "mm_qa_head": {
            **linear("dense0", width, 2 * width),
            **norm("layer_norm", 2 * width),
            **linear("dense1", 2 * width, answers),
        },
        "mm_refs_head": transform | linear("dense_rank", width, 1) | linear("dense_reg", width, 4),
        "mm_itm_head": linear("dense", width, 2),
        "text_mlm_head": transform | {"decode.weight": words, "bias": noise(vocabulary)},
        "imgfeat_head": {
            **linear("dense", width, width),
            **norm("layer_norm"),
            **linear("dense_feat", width, features),
            **linear("dense_obj", width, objects),
            **linear("dense_attr", width, attributes),
        },
    }
    return groups | {name: heads[name] for name in GROUPS_OF[task]}


def forward(groups, ids, text_mask, features, boxes, region_mask):
    """All states and predictions, in double precision.

    Args:
        groups: a checkpoint.
        ids: (B, T).
        text_mask: (B, T), 1 = token.
        features: (B, R, F).
        boxes: (B, R, 5), corners and area in [0, 1].
        region_mask: (B, R), 1 = region.
    """
    flat = {
        f"{group}.{key}": tensor.double()
        for group, tensors in groups.items()
        if group not in ("epoch", "net_optim", "amp")
        for key, tensor in tensors.items()
    }

    def linear(name, states):
        return states @ flat[f"{name}.weight"].T + flat[f"{name}.bias"]

    def norm(name, states):
        centred = states - states.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return flat[f"{name}.weight"] * centred / deviation + flat[f"{name}.bias"]

    def gelu(states):
        return states / 2 * (1 + torch.erf(states / math.sqrt(2)))

    def transform(head, states):
        return norm(f"{head}.layer_norm", gelu(linear(f"{head}.dense", states)))

    text = "text_embeddings"
    words = flat[f"{text}.word_embeddings.weight"]
    places = flat[f"{text}.position_embeddings.weight"][: ids.shape[1]]
    kind = flat[f"{text}.token_type_embeddings.weight"][0]
    texts = norm(f"{text}.layer_norm", words[ids] + places + kind)
    visual = "visual_embeddings"
    seen = linear(f"{visual}.dense_imgfeat", features.double())
    seen = seen + linear(f"{visual}.dense_bboxfeat", boxes.double())
    states = torch.cat([texts, norm(f"{visual}.layer_norm", seen)], dim=1)
    mask = -10000.0 * (1 - torch.cat([text_mask, region_mask], dim=1).double())

    heads, number = states.shape[-1] // 64, 0
    while f"backbone.layers.{number}.layer_norm0.weight" in flat:
        layer = f"backbone.layers.{number}"
        query, key, value = (linear(f"{layer}.mhatt.dense_{one}", states) for one in "qkv")
        mixed = []
        for head in range(heads):
            own = slice(64 * head, 64 * head + 64)
            scores = query[..., own] @ key[..., own].transpose(1, 2) / 8 + mask[:, None, :]
            mixed.append(scores.softmax(-1) @ value[..., own])
        attended = linear(f"{layer}.mhatt.dense_merge", torch.cat(mixed, dim=-1))
        states = norm(f"{layer}.layer_norm0", states + attended)
        inner = gelu(linear(f"{layer}.ffn.dense0", states))
        states = norm(f"{layer}.layer_norm1", states + linear(f"{layer}.ffn.dense1", inner))
        number += 1

    tokens = ids.shape[1]
    found = {
        "text_states": states[:, :tokens],
        "region_states": states[:, tokens:],
        "pooled": torch.tanh(linear("pooler.dense", states[:, 0])),
    }
    if "mm_qa_head" in groups:
        inner = gelu(linear("mm_qa_head.dense0", found["pooled"]))
        found["logits"] = linear("mm_qa_head.dense1", norm("mm_qa_head.layer_norm", inner))
    if "mm_refs_head" in groups:
        inner = transform("mm_refs_head", found["region_states"])
        found["box_logits"] = linear("mm_refs_head.dense_rank", inner)[..., 0]
        found["box_deltas"] = linear("mm_refs_head.dense_reg", inner)
    if "mm_itm_head" in groups:
        found["match_logits"] = linear("mm_itm_head.dense", found["pooled"])
    if "text_mlm_head" in groups:
        inner = transform("text_mlm_head", found["text_states"])
        found["word_logits"] = inner @ words.T + flat["text_mlm_head.bias"]
    if "imgfeat_head" in groups:
        inner = transform("imgfeat_head", found["region_states"])
        found["feature_predictions"] = linear("imgfeat_head.dense_feat", inner)
        found["object_logits"] = linear("imgfeat_head.dense_obj", inner)
        found["attribute_logits"] = linear("imgfeat_head.dense_attr", inner)
    return found


def random_batch(vocabulary=23, features=12, tokens=(6, 4), regions=(5, 3)):
    """A batch in our names, padded, and the same for :func:`forward`."""
    generator = torch.Generator().manual_seed(1)
    text_mask = (torch.arange(max(tokens)) < torch.tensor(tokens)[:, None]).long()
    region_mask = (torch.arange(max(regions)) < torch.tensor(regions)[:, None]).long()
    shape = region_mask.shape
    ids = torch.randint(1, vocabulary, text_mask.shape, generator=generator) * text_mask
    seen = torch.rand(*shape, features, generator=generator) * region_mask[..., None]
    corner = torch.rand(*shape, 2, generator=generator) / 2
    size = torch.rand(*shape, 2, generator=generator) / 2
    boxes = torch.cat([corner, corner + size], dim=-1) * region_mask[..., None]
    left, top, right, bottom = boxes.double().unbind(dim=-1)
    corners_and_area = [left, top, right, bottom, (right - left) * (bottom - top)]
    batch = {
        "input_ids": ids,
        "attention_mask": text_mask,
        "region_features": seen,
        "region_boxes": boxes,
        "region_mask": region_mask,
    }
    return batch, (ids, text_mask, seen, torch.stack(corners_and_area, dim=-1), region_mask)
