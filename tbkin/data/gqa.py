"""GQA's questions in the layout of VQA 2.0 (Hudson and Manning, CVPR 2019; gqadataset.org).

``train_balanced_questions.json`` and the like are one object, ``{question id: {"imageId",
"question", "answer", "types", …}}``, so each is question file and annotation file in one. What is
turned into what is all *ours*:

* Ids are strings there and whole numbers here. That is refused where the strings could not be had
  back: pictures ``n161313`` … of test-dev, or zeros in front that do not pad to one width.
* The one answer counts as ten equal ones. So it is worth 1 as a training target, and the rule
  ``official``, which leaves answers alone where all annotators agree, gives GQA's own accuracy: an
  answer is right or wrong, letter by letter. The answers that a model here learns are normalised,
  so that it says "t shirt" for GQA's "t-shirt", which this rule then counts wrong, as GQA's own
  script does; ``tbkin prep vqa`` says to how many questions that happens. The rule ``mmf``
  normalises both.
* ``question_type`` is ``types.structural`` (verify, query, choose, …), and ``answer_type`` is
  ``open`` for query and ``binary`` for the others, as GQA's evaluation divides them.
"""

from __future__ import annotations

from typing import Any

ANNOTATORS = 10


def is_gqa(entry: Any) -> bool:
    """Whether a member of a file's object is a question of GQA."""
    return isinstance(entry, dict) and "imageId" in entry


class GQAReader:
    """Turns the questions of one file, one after the other.

    Args:
        path: for messages.
    """

    def __init__(self, path: Any):
        self.path = path
        self._shapes: set[tuple[int, bool]] = set()  # length of an id, whether it begins with 0

    def entry(self, question_id: str, entry: dict[str, Any]) -> dict[str, Any]:
        """One question as VQA 2.0 has it.

        Args:
            question_id: such as ``"02930152"``.
            entry: what the file says of it; without ``answer`` in test files.

        Returns:
            ``question_id``, ``image_id``, ``question`` and, where there is an answer,
            ``question_type``, ``answer_type``, ``multiple_choice_answer`` and ``answers``.
        """
        row = {
            "question_id": self._number("question id", question_id),
            "image_id": self._number("imageId", str(entry["imageId"]), padded=False),
            "question": entry.get("question"),
        }
        if "answer" in entry:
            kind = (entry.get("types") or {}).get("structural")
            row |= {
                "question_type": kind,
                "answer_type": "open" if kind == "query" else "binary",
                "multiple_choice_answer": entry["answer"],
                "answers": [{"answer": entry["answer"]}] * ANNOTATORS,
            }
        return row

    def end(self) -> None:
        """Make sure that the numbers say as much as the strings did."""
        padded = {length for length, zero in self._shapes if zero}
        if len(padded) > 1 or (padded and min(self._shapes)[0] < min(padded)):
            raise ValueError(
                f"{self.path}: question ids begin with zeros at lengths "
                f"{', '.join(map(str, sorted(padded)))} and others are shorter or longer, so whole "
                "numbers would not tell them apart; give a file whose ids are padded to one width."
            )

    def _number(self, kind: str, text: str, padded: bool = True) -> int:
        plain = text.isascii() and text.isdecimal()
        if not plain or (not padded and str(int(text)) != text):
            raise ValueError(
                f"{self.path}: {kind} {text!r} is not a whole number, and questions and pictures "
                "are told apart by whole numbers here; GQA's train and val files have them, its "
                "test-dev and test files are not supported."
            )
        if padded:
            self._shapes.add((len(text), text.startswith("0")))
        return int(text)
