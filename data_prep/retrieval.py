"""Pictures with captions, ready for image-text retrieval: ``tbkin prep retrieval data.root=DIR``.

Reads, from ``data.root`` or a folder in it: Karpathy's ``dataset_coco.json`` and
``dataset_flickr30k.json``; lists (ALBEF's ``coco_train.json``, CUSA's ``new_train.json``, tables
``train.csv`` or ``captions.csv``); SCAN's ``train_caps.txt`` with the features ``train_ims.npy``;
captions by class folder (birds and flowers, ``text_c10``). Any number of captions a picture. Other
lists, tables and COCO's caption files are named: ``data.captions=FILE`` or ``data.train=FILE`` and
so on. Persons: ``tbkin prep persons``.

Of COCO and Flickr30k the first five captions of a picture count unless ``captions=all``; COCO's
"restval" is trained on unless ``restval=false``. Without a validation file a share of the training
pictures (classes, where there are such) is held out. Writes ``output`` (``prepared/<name of
root>-<data set>`` by default): captions, where the pictures are, and regions, made by ``detector``
or those that are there (``regions=DIR``).

Examples:
  tbkin prep retrieval data.root=coco data.images=[train2014,val2014]
  tbkin prep retrieval data.root=album data.captions=album/list.csv
  tbkin prep retrieval data.root=cvpr2016_cub data.images=[CUB_200_2011/images]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data_prep.retrieval_folder import FolderConfig, PictureFolders, prepare
from tbkin.config import load_config, setting
from tbkin.data.retrieval_find import LAYOUTS, find_retrieval, named_files, read_retrieval
from tbkin.detectors import short_detector

FOUND = "file; if none is named, found in root by its usual name"


@dataclass
class RetrievalFiles(PictureFolders):
    """Where the captions are."""

    captions: str = setting("", f"{FOUND}; it says the split of each caption, or all are train")
    train: str = setting("", FOUND)
    val: str = setting("", FOUND)
    test: str = setting("", FOUND)
    column: str = setting("caption", "what the captions are called in lists and tables")
    layout: str = setting("auto", f"whose files: {', '.join(LAYOUTS)}; auto: what is there")


@dataclass
class RetrievalConfig(FolderConfig):
    """One run of the step."""

    data: RetrievalFiles = field(default_factory=RetrievalFiles)
    restval: bool = setting(True, "train on COCO's restval, too")


def main(arguments: list[str]) -> None:
    """Parse the settings and prepare."""
    config = load_config(RetrievalConfig, short_detector(arguments), __doc__)
    data = config.data
    files = {key: getattr(data, key) for key in ("captions", "train", "val", "test")}
    if any(files.values()):
        if data.layout != "auto":
            raise ValueError(
                f"data.layout={data.layout} chooses among what is in data.root; leave it out where "
                "files are named."
            )
        source = named_files(files, config.dataset)
    elif data.root:
        source = find_retrieval(Path(data.root), config.dataset, data.layout)
    else:
        raise ValueError("tbkin prep retrieval needs data.root=DIR, or data.captions=FILE.")
    found = read_retrieval(source, config.limit(), data.column, config.restval)
    prepare(found, config, restval=config.restval)
