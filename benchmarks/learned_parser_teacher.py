"""A pretrained encoder, fine-tuned to label captions for the learned parser's small network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from learned_parser_training import dev_scores, fit
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertModel

from tbkin.parsers.learned_model import ParserHeads
from tbkin.parsers.learned_vocabulary import Vocabulary

CLASSIFY, SEPARATE, UNKNOWN = 101, 102, 100  # of BERT's uncased word pieces
WIDTH, DROPOUT = 256, 0.2


class Teacher(nn.Module):
    """A BERT-like encoder over word pieces with the heads of the small network.

    Args:
        folder: with the encoder's ``config.json``, ``model.safetensors`` and ``tokenizer.json``
            (uncased word pieces of BERT).
        tags, labels: how many labels a token and a pair may have.
    """

    def __init__(self, folder: str, tags: int, labels: int):
        super().__init__()
        self.encoder = BertModel.from_pretrained(folder, add_pooling_layer=False)
        self.encoder.embeddings.requires_grad_(False)  # half of the weights, little to learn
        self.heads = ParserHeads(self.encoder.config.hidden_size, tags, labels, WIDTH, DROPOUT)
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.pieces: dict[str, list[int]] = {}

    def encode(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Equally long captions -> states (B, T, D) of the first piece of each token."""
        rows, starts = [], []
        for tokens in captions:
            row, start = [CLASSIFY], []
            for token in tokens:
                start.append(len(row))
                row += self._pieces(token)
            rows.append([*row, SEPARATE])
            starts.append(start)
        longest = max(map(len, rows))
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        with torch.autocast("cpu", torch.bfloat16):
            states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states[torch.arange(len(rows)).unsqueeze(1), torch.tensor(starts)].float()

    def _pieces(self, token: str) -> list[int]:
        if token not in self.pieces:
            found = self.tokenizer.encode(token, add_special_tokens=False).ids
            self.pieces[token] = found or [UNKNOWN]
        return self.pieces[token]


class _AsTheyAre:
    """Tokens go to the teacher's ``encode`` unchanged; it hides no words."""

    hiding = False

    def __call__(self, captions: Sequence[Sequence[str]]) -> tuple[Sequence[Sequence[str]]]:
        return (captions,)


def fine_tuned(config: Any, vocabulary: Vocabulary, examples: list, dev: list) -> Teacher:
    """The teacher after training on the captions; read from a file beside ``output`` if there.

    Args:
        config: ``TrainParserConfig``.
        vocabulary: names of the labels.
        examples: numbered captions with gold labels.
        dev: (tokens, gold facts), for the scores that are printed.
    """
    teacher = Teacher(config.teacher, len(vocabulary.tags), len(vocabulary.labels))
    file = Path(config.output.rstrip("/") + ".teacher.safetensors")  # not a part of the parser
    if file.is_file():
        teacher.load_state_dict(load_file(file))
        return teacher.eval()
    teacher = fit(
        teacher, examples, _AsTheyAre(), config.teacher_rate, config.teacher_epochs, config,
        lambda net: dev_scores(dev, net.encode, net.heads, vocabulary),
    )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in teacher.state_dict().items()}, file)
    return teacher
