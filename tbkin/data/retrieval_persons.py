"""Person search: pictures of persons with captions, as CUHK-PEDES and its followers list them.

A JSON list with an entry a picture: ``id`` (the person), ``file_path`` (RSTPReid: ``img_path``),
``captions`` (a list) and ``split``. What else there is (``processed_tokens``) is passed over.

=========== ============================== =====================================================
data set    files                          source
=========== ============================== =====================================================
cuhk_pedes  reid_raw.json,                 Li et al., CVPR 2017, arXiv:1702.05729
            caption_all.json
icfg_pedes  ICFG-PEDES.json                Ding et al., 2021, arXiv:2107.12666
rstpreid    data_captions.json             Zhu et al., ACM Multimedia 2021, arXiv:2109.05534
=========== ============================== =====================================================

Names of pictures repeat from folder to folder, so image ids are places in the file, from 0.
"""

from __future__ import annotations

from pathlib import Path

from tbkin.data.retrieval_files import Entry, Source, plain_name
from tbkin.json_stream import JsonStream

FILES = {
    "cuhk_pedes": ("reid_raw.json", "caption_all.json"),
    "icfg_pedes": ("ICFG-PEDES.json", "ICFG_PEDES.json"),
    "rstpreid": ("data_captions.json",),
}
"""Data set -> its file's names, the first that is there counts."""

PATHS = ("file_path", "img_path")


def read_persons(source: Source) -> list[Entry]:
    """Entries of one file.

    Args:
        source: its file is called "captions".

    Raises:
        FileNotFoundError: no such file.
        ValueError: an entry that lacks something; the message says which.
    """
    path = source.files["captions"]
    entries = []
    with JsonStream(path, mend="copy it again") as stream:
        for place, picture in enumerate(stream.items()):
            who = f"{path}, entry {place}"
            name, captions = _checked(picture, who)
            entries += [
                Entry(
                    place=who,
                    split=picture["split"],
                    key=str(place),
                    caption=caption,
                    picture=plain_name(name),
                    image_id=place,
                    identity=picture["id"],
                )
                for caption in captions
            ]
        stream.end()
    return entries


def shows_persons(path: Path) -> bool:
    """Whether a file begins with such an entry (``caption_all.json`` is a usual name)."""
    try:
        with JsonStream(path) as stream:
            first = next(stream.items(), None)
    except ValueError:
        return False
    return isinstance(first, dict) and "id" in first and any(key in first for key in PATHS)


def _checked(picture: object, who: str) -> tuple[str, list[str]]:
    """The name of a picture and its captions."""
    if not isinstance(picture, dict):
        raise ValueError(f"{who} is {type(picture).__name__}, wanted an object with id, captions.")
    name = next((picture[key] for key in PATHS if isinstance(picture.get(key), str)), None)
    if name is None:
        raise ValueError(f"{who} has no {' or '.join(PATHS)}: got {', '.join(picture)}.")
    identity = picture.get("id")
    if not isinstance(identity, int) or isinstance(identity, bool):
        raise ValueError(f"{who} needs 'id', a whole number, got {identity!r}.")
    if not isinstance(picture.get("split"), str):
        raise ValueError(
            f"{who} has no 'split'; give the file that says the splits (of CUHK-PEDES it is "
            "usually called reid_raw.json)."
        )
    captions = picture.get("captions")
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(one, str) for one in captions):
        raise ValueError(f"{who} needs 'captions', a list of texts, got {captions!r}.")
    return name, captions
