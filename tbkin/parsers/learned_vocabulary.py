"""What the learned parser knows by name: words, labels, base forms; and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from tbkin.files import write_text
from tbkin.parsers.learned_model import ParserNet, ParserSizes, gram_rows
from tbkin.parsers.learned_spelling import Speller

SHIPPED = Path(__file__).parent / "learned_weights"
VOCABULARY = "vocabulary.json"
WEIGHTS = "model.safetensors"


@dataclass
class Vocabulary:
    """Names behind the numbers that the network reads and writes.

    Attributes:
        words: words with an embedding of their own; number 0 is every other word.
        vectors: words with a fixed vector; number 0 is every other word.
        tags: labels of a token: ``O``, ``I``, or kind and form of a phrase (``E:copy``).
        labels: labels of a pair: ``none``, ``is`` (the second describes the first), or a relation;
            one that begins with ``+`` follows a verb of the caption.
        verbs: token -> base form.
        slips: misspelt word -> what was meant.
        known: further words that are spelt right.
    """

    words: list[str]
    vectors: list[str]
    tags: list[str]
    labels: list[str]
    verbs: dict[str, str]
    slips: dict[str, str]
    known: list[str]
    word_number: dict[str, int] = field(init=False, repr=False)
    vector_number: dict[str, int] = field(init=False, repr=False)
    spelt: Speller = field(init=False, repr=False)

    def __post_init__(self) -> None:
        known = {*self.vectors, *self.known}
        self.spelt = Speller(self.words[1:], known, self.slips)
        self.word_number = {word: k for k, word in enumerate(self.words) if k}
        self.vector_number = {word: k for k, word in enumerate(self.vectors) if k}


class WordFeatures:
    """Token lists of equal length -> what :meth:`ParserNet.encode` takes."""

    def __init__(self, vocabulary: Vocabulary, grams: int):
        self.vocabulary = vocabulary
        self.grams = grams
        self.rows: dict[str, tuple[int, int, list[int]]] = {}

    def __call__(self, captions: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``places (B, T)``, ``words (U,)``, ``vectors (U,)``, ``grams (U, GRAMS)``."""
        number: dict[str, int] = {}
        places = [[number.setdefault(word, len(number)) for word in tokens] for tokens in captions]
        rows = [self._row(word) for word in number]
        words, vectors, grams = zip(*rows, strict=True)
        return (
            torch.tensor(places), torch.tensor(words), torch.tensor(vectors), torch.tensor(grams)
        )  # fmt: skip

    def _row(self, word: str) -> tuple[int, int, list[int]]:
        row = self.rows.get(word)
        if row is None:
            if len(self.rows) >= 50_000:  # keeps memory flat on endless text
                self.rows.clear()
            known = self.vocabulary
            row = (
                known.word_number.get(word, 0),
                known.vector_number.get(word, 0),
                gram_rows(word, self.grams),
            )
            self.rows[word] = row
        return row


def save_parser(folder: Path, net: ParserNet, vocabulary: Vocabulary) -> None:
    """Write weights (half precision) and vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    unfinished = folder / (WEIGHTS + ".unfinished")
    unfinished.write_bytes(save(weights))
    unfinished.replace(folder / WEIGHTS)
    names = {one.name: getattr(vocabulary, one.name) for one in fields(vocabulary) if one.init}
    content = {"sizes": asdict(net.sizes), **names}
    write_text(folder / VOCABULARY, json.dumps(content, ensure_ascii=False) + "\n")


def load_parser_files(folder: Path) -> tuple[ParserNet, Vocabulary]:
    """Read what :func:`save_parser` wrote.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the files do not belong together.
    """
    for name in (VOCABULARY, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}: it is not a folder of the learned parser. Give one that "
                "benchmarks/train_learned_parser.py wrote, or none for the one in the package."
            )
    content = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
    try:
        net = ParserNet(ParserSizes(**content.pop("sizes")))
        vocabulary = Vocabulary(**content)
        weights = load_file(folder / WEIGHTS)
        net.load_state_dict({name: value.float() for name, value in weights.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{VOCABULARY} and {WEIGHTS} in {folder} do not belong together: {error}"
        ) from error
    return net.eval(), vocabulary
