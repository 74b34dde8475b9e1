"""Pictures of persons with captions, ready for retrieval: ``tbkin prep persons data.root=DIR``.

Finds CUHK-PEDES (``reid_raw.json``), ICFG-PEDES (``ICFG-PEDES.json``) or RSTPReid
(``data_captions.json``) in ``data.root`` or a folder in it, or takes the file that
``data.captions=FILE`` names. Pictures are found by their paths in the file (``imgs/`` or the like
may stand before them). Identities stay as the file has them. Where a data set has no validation
split (ICFG-PEDES) a share of the training persons is held out. Writes a folder as ``tbkin prep
retrieval`` does, for the same task.

Examples:
  tbkin prep persons data.root=CUHK-PEDES
  tbkin prep persons data.captions=my_list.json data.images=[crops] dataset=shop
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data_prep.retrieval_folder import FolderConfig, PictureFolders, prepare
from tbkin.config import load_config, setting
from tbkin.data.retrieval_files import Source
from tbkin.data.retrieval_find import find_persons, read_retrieval
from tbkin.detectors import short_detector


@dataclass
class PersonsFiles(PictureFolders):
    """Where the captions are."""

    captions: str = setting("", "file; if not named, found in root by its usual name")


@dataclass
class PersonsConfig(FolderConfig):
    """One run of the step."""

    data: PersonsFiles = field(default_factory=PersonsFiles)


def main(arguments: list[str]) -> None:
    """Parse the settings and prepare."""
    config = load_config(PersonsConfig, short_detector(arguments), __doc__)
    root, named = config.data.root, config.data.captions
    if named:
        source = Source(config.dataset, "persons", {"captions": Path(named)})
    elif root:
        source = find_persons(Path(root), config.dataset)
    else:
        raise ValueError("tbkin prep persons needs data.root=DIR, or data.captions=FILE.")
    prepare(read_retrieval(source, config.limit()), config)
