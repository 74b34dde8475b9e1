"""Batches, losses and soft labels for training the learned parser."""

from __future__ import annotations

import copy
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from learned_parser_targets import Target, facts_of_reading
from torch import Tensor, nn

from tbkin.graphs.facts import Fact
from tbkin.parsers.learned import read_states
from tbkin.parsers.learned_graph import Reading
from tbkin.parsers.learned_model import ParserHeads
from tbkin.parsers.learned_vocabulary import Vocabulary

IGNORED = -100
Encode = Callable[[Sequence[list[str]]], Tensor]  # equally long captions -> states (B, T, D)


@dataclass
class Example:
    """One caption with what the network should say, in numbers.

    Attributes:
        tokens: T of them.
        tags: (T,) label of each token; None when only the teacher says.
        pairs: ordered pairs of phrase ends.
        labels: label of each pair, ``IGNORED`` where the network has no name for it.
        verbs: verb token of each pair, T for none, ``IGNORED`` where there is no relation.
        soft: the teacher's log-probabilities: tags (T, tags), pairs (P, labels), verbs (P, T + 1).
    """

    tokens: list[str]
    tags: list[int] | None
    pairs: list[tuple[int, int]]
    labels: list[int]
    verbs: list[int]
    soft: tuple[Tensor, Tensor, Tensor] | None = None


def names_of_labels(targets: Sequence[Target], least: int) -> tuple[list[str], list[str]]:
    """Labels of tokens and of pairs that occur at least so often."""
    tags = Counter(f"{t.kinds[k]}:{form}" for t in targets for k, form in t.forms.items())
    labels = Counter(
        ("" if verb < 0 else "+") + rest for t in targets for verb, rest in t.relations.values()
    )
    plain = ["E:copy", "A:copy"]
    return (
        ["O", "I", *plain, *(x for x, n in tags.most_common() if n >= least and x not in plain)],
        ["none", "is", *(x for x, n in labels.most_common() if n >= least)],
    )


def example_of(target: Reading, vocabulary: Vocabulary) -> Example:
    """A target in numbers; a form without a label of its own becomes ``copy``."""
    tag = {name: k for k, name in enumerate(vocabulary.tags)}
    label = {name: k for k, name in enumerate(vocabulary.labels)}
    tags = [
        tag[kind] if kind in "OI" else tag.get(f"{kind}:{target.forms[k]}", tag[f"{kind}:copy"])
        for k, kind in enumerate(target.kinds)
    ]
    example = Example(target.tokens, tags, [], [], [])
    for i, j in pairs_of(target):
        example.pairs.append((i, j))
        verb, rest = target.relations.get((i, j), (IGNORED, ""))
        if target.kinds[j] == "A":
            example.labels.append(int((j, i) in target.owners))
        elif verb == IGNORED:
            example.labels.append(0)
        else:
            example.labels.append(label.get(("" if verb < 0 else "+") + rest, IGNORED))
        if verb == -1:
            verb = len(target.tokens)
        example.verbs.append(verb)
    return example


def pairs_of(reading: Reading) -> list[tuple[int, int]]:
    """Entity and other phrase, in the order in which the parser asks about them."""
    ends = {kind: [k for k, x in enumerate(reading.kinds) if x == kind] for kind in "EA"}
    return [
        (i, j)
        for i in ends["E"]
        for j in [*(j for j in ends["E"] if j != i), *ends["A"]]
    ]  # fmt: skip


def batches(
    lengths: Sequence[int], tokens: int, shuffled: random.Random | None = None
) -> list[list[int]]:
    """Numbers of captions of equal length, about ``tokens`` tokens a batch."""
    of_length: dict[int, list[int]] = defaultdict(list)
    for number, length in enumerate(lengths):
        of_length[length].append(number)
    found = []
    for length, numbers in of_length.items():
        if shuffled:
            shuffled.shuffle(numbers)
        size = max(1, tokens // length)
        found += [numbers[at : at + size] for at in range(0, len(numbers), size)]
    if shuffled:
        shuffled.shuffle(found)
    return found


def pair_tensors(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) caption, first and second token of every pair of a batch."""
    rows = [(n, i, j) for n, example in enumerate(examples) for i, j in example.pairs]
    return torch.tensor(rows, dtype=torch.long).reshape(-1, 3).unbind(1)


def loss_of(
    heads: ParserHeads, states: Tensor, examples: Sequence[Example], soft_share: float
) -> Tensor:
    """Mean over captions of the summed cross-entropies of tags, pairs and verbs.

    Args:
        heads: of the network.
        states: (B, T, D) of the captions.
        examples: B of equal length.
        soft_share: weight of the teacher's labels beside the gold ones, in [0, 1]; where there is
            only one kind, that counts fully.

    Returns:
        Scalar >= 0.
    """
    tags = heads.tags(states)
    row, first, second = pair_tensors(examples)
    outputs = [tags.flatten(0, 1)]
    if len(row):
        outputs += heads.pairs(states, row, first, second)
    device = states.device
    gold_share = torch.tensor(
        [
            0.0 if example.tags is None else 1.0 if example.soft is None else 1 - soft_share
            for example in examples
        ],
        device=device,
    )
    length = states.shape[1]
    gold = [
        [tag for e in examples for tag in (e.tags or [IGNORED] * length)],
        [label for e in examples for label in e.labels],
        [verb for e in examples for verb in e.verbs],
    ]
    owner_of = [torch.arange(len(examples), device=device).repeat_interleave(length), row, row]
    total = states.new_zeros(())
    with_soft = [example for example in examples if example.soft is not None]
    for at, logits in enumerate(outputs):
        share = gold_share[owner_of[at]]
        errors = F.cross_entropy(
            logits, torch.tensor(gold[at], device=device), reduction="none", ignore_index=IGNORED
        )
        total = total + (share * errors).sum()
        if len(with_soft) == len(examples):
            soft = torch.cat([example.soft[at].float() for example in examples])
            kind = 1.0 if at < 2 else _relates(examples).to(device)
            cross = -(soft.exp() * logits.log_softmax(1)).sum(1)
            total = total + ((1 - share) * kind * cross).sum()
    return total / len(examples)


def _relates(examples: Sequence[Example]) -> Tensor:
    """(P,) how surely the teacher sees a relation in each pair: the weight of its verb."""
    return torch.cat([1 - example.soft[1][:, :2].float().exp().sum(1) for example in examples])


@torch.no_grad()
def add_soft_labels(
    examples: Sequence[Example], encode: Encode, heads: ParserHeads, vocabulary: Vocabulary
) -> None:
    """Let a teacher label captions; where there is no gold, its own phrases give the pairs."""
    for numbers in batches([len(example.tokens) for example in examples], 2048):
        chosen = [examples[number] for number in numbers]
        captions = [example.tokens for example in chosen]
        states = encode(captions)
        tags = heads.tags(states).log_softmax(2).half()
        for example, reading in zip(
            chosen, read_states(heads, vocabulary, states, captions), strict=True
        ):
            if example.tags is None:
                example.pairs = pairs_of(reading)
                example.labels = example.verbs = [IGNORED] * len(example.pairs)
        row, first, second = pair_tensors(chosen)
        sizes = [len(example.pairs) for example in chosen]
        if len(row):
            labels, verbs = (
                x.log_softmax(1).half().split(sizes)
                for x in heads.pairs(states, row, first, second)
            )
        else:
            labels = [torch.zeros(0, len(vocabulary.labels))] * len(chosen)
            verbs = [torch.zeros(0, states.shape[1] + 1)] * len(chosen)
        for number, example in enumerate(chosen):
            example.soft = (tags[number].clone(), labels[number].clone(), verbs[number].clone())


def readings_of(
    captions: Sequence[list[str]], encode: Encode, heads: ParserHeads, vocabulary: Vocabulary
) -> Iterator[tuple[int, Reading]]:
    """(number, reading) of every caption, by length."""
    with torch.no_grad():
        for numbers in batches([len(tokens) for tokens in captions], 1024):
            chosen = [captions[number] for number in numbers]
            yield from zip(
                numbers, read_states(heads, vocabulary, encode(chosen), chosen), strict=True
            )


def fit(
    net: nn.Module,
    examples: Sequence[Example],
    features: Any,
    rate: float,
    epochs: int,
    config: Any,
    evaluate: Callable[[nn.Module], dict[str, float]],
) -> nn.Module:
    """AdamW, a short warm-up, a straight decline; returns a moving average of the weights.

    Args:
        net: has ``encode`` and ``heads``.
        examples: to learn from.
        features: token lists of equal length -> arguments of ``encode``; its ``hiding`` is true
            while training.
        rate: highest learning rate.
        epochs: passes over the examples.
        config: ``TrainParserConfig``.
        evaluate: gives the scores of the average that are printed after each epoch.
    """
    shuffled = random.Random(config.seed)
    lengths = [len(example.tokens) for example in examples]
    learned = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    steps = epochs * len(batches(lengths, config.batch_tokens))
    warm = min(400, max(1, steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, 1 - step / steps))
    )
    average = copy.deepcopy(net).eval()
    averaged = [p for p in average.parameters() if p.requires_grad]
    step = 0
    for epoch in range(1, epochs + 1):
        net.train()
        features.hiding = True
        started, total = time.time(), 0.0
        for numbers in batches(lengths, config.batch_tokens, shuffled):
            chosen = [examples[number] for number in numbers]
            with torch.autocast("cpu", torch.bfloat16):  # twice as fast where the chip can
                states = net.encode(*features([example.tokens for example in chosen]))
                loss = loss_of(net.heads, states, chosen, config.soft_share)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
            step += 1
            with torch.no_grad():
                torch._foreach_lerp_(averaged, learned, max(0.001, 10 / (step + 10)))
        features.hiding = False
        report(f"epoch {epoch}", total / len(examples), started, evaluate(average))
    return average


def report(name: str, loss: float, started: float, found: dict[str, float]) -> None:
    """One line on stdout."""
    values = "  ".join(f"{key} {value:.2f}" for key, value in found.items())
    print(f"{name}  loss {loss:.3f}  {values}  {time.time() - started:.0f} s", flush=True)


def dev_scores(
    dev: Sequence[tuple[list[str], list[Fact]]],
    encode: Encode,
    heads: ParserHeads,
    vocabulary: Vocabulary,
) -> dict[str, float]:
    """Scores of what the heads read from tokens, against gold facts."""
    heads.eval()
    predicted: list[list[Fact]] = [[]] * len(dev)
    for number, reading in readings_of([tokens for tokens, _ in dev], encode, heads, vocabulary):
        predicted[number] = facts_of_reading(reading, vocabulary.verbs)
    return scores(predicted, [facts for _, facts in dev])


def parts_of(facts: Sequence[Fact]) -> set[tuple]:
    """SPICE's tuples: entities, (entity, attribute) and relations, each once."""
    parts: set[tuple] = set()
    for fact in facts:
        parts.add(fact[:1])
        if len(fact) == 3:
            parts.add(fact if fact[1] != "is" else (fact[0], fact[2]))
            if fact[1] != "is":
                parts.add(fact[2:])
    return parts


def scores(predicted: Sequence[list[Fact]], gold: Sequence[list[Fact]]) -> dict[str, float]:
    """Set match, mean F1 of a caption, micro-F1 of entities, attributes, relations; per cent."""
    equal = sum(set(p) == set(g) for p, g in zip(predicted, gold, strict=True))
    f1 = 0.0
    counts = {size: [0, 0] for size in (1, 2, 3)}
    for p, g in zip(map(parts_of, predicted), map(parts_of, gold), strict=True):
        f1 += 2 * len(p & g) / (len(p) + len(g)) if p or g else 1.0
        for part in p & g:
            counts[len(part)][0] += 2
        for part in [*p, *g]:
            counts[len(part)][1] += 1
    return {
        "set match": 100 * equal / len(gold),
        "F1": 100 * f1 / len(gold),
        **{
            name: 100 * counts[size][0] / max(1, counts[size][1])
            for size, name in ((1, "entities"), (2, "attributes"), (3, "relations"))
        },
    }
