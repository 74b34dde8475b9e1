"""Captions as the authors of CUSA and of PTP cleaned them before their tokenisers read them."""

from __future__ import annotations

import re

_CUSA_SPACES = re.compile(r"""[,.'!?"()*#:;~\-/]""")
_PTP_SPACES = re.compile(r"""[.!"()*#:;~]""")
_BLANKS = re.compile(r"\s{2,}")


def clean_cusa(caption: str, max_words: int = 64) -> str:
    """As CUSA (Huang et al., AAAI 2024), for student and text teacher alike.

    Lower case; ``, . ' ! ? " ( ) * # : ; ~ - /`` become spaces, ``<person>`` becomes ``person``.

    Args:
        caption: any text.
        max_words: so many first words stay.

    Raises:
        ValueError: nothing is left of the caption.
    """
    text = _CUSA_SPACES.sub(" ", caption.lower()).replace("<person>", "person")
    cleaned = _cut(text, max_words)
    if not cleaned:
        raise ValueError(
            f"nothing is left of the caption {caption!r} when it is cleaned as CUSA does; leave it "
            "out of the data, or clean nothing (cleaning=none)."
        )
    return cleaned


def clean_ptp(caption: str, max_words: int = 30) -> str:
    """As PTP (arXiv:2212.09737), the second stage of DSSLP.

    Lower case; ``. ! " ( ) * # : ; ~`` become spaces; commas, apostrophes, ``?``, ``-`` and ``/``
    stay. A prompt behind a long caption is cut off with its end, as in the authors' code.

    Args:
        caption: any text, with its prompt if it has one.
        max_words: so many first words stay. PTP: 30 of caption and prompt; refined, 22 of the
            caption and 8 of the prompt.
    """
    return _cut(_PTP_SPACES.sub(" ", caption.lower()), max_words)


def _cut(text: str, max_words: int) -> str:
    """Runs of blanks become one space, and only the first words stay."""
    return " ".join(_BLANKS.sub(" ", text).strip().split(" ")[:max_words])
