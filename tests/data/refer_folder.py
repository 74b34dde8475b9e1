"""A data set of referring expressions by hand, for the tests that read one.

======= ======= ===== ======== ===================== ==========================================
ref_id  ann_id  image split    box (x y w h)         sentences (ids)
======= ======= ===== ======== ===================== ==========================================
0       100     42    train    1.5 2 10 20           "dog on left" (0), "brown dog" (1)
1       101     42    val      5 5 5 5               "cat" (2)
2       102     43    testAB   0 0 7.25 3            "the man" (3)
3       103     43    testB    2 2 2 2               "café" (4)
======= ======= ===== ======== ===================== ==========================================

Annotation 104 of picture 43 is nobody's.
"""

import json
import pickle

INSTANCES = {
    "images": [
        {"id": number, "file_name": f"COCO_train2014_{number:012d}.jpg", "width": 40, "height": 30}
        for number in (42, 43)
    ],
    "annotations": [
        {"id": 100, "image_id": 42, "category_id": 18, "bbox": [1.5, 2, 10, 20]},
        {"id": 101, "image_id": 42, "category_id": 17, "bbox": [5, 5, 5, 5]},
        {"id": 102, "image_id": 43, "category_id": 1, "bbox": [0, 0, 7.25, 3]},
        {"id": 103, "image_id": 43, "category_id": 1, "bbox": [2, 2, 2, 2]},
        {"id": 104, "image_id": 43, "category_id": 17, "bbox": [9, 9, 9, 9]},
    ],
    "categories": [
        {"id": 1, "name": "person"},
        {"id": 17, "name": "cat"},
        {"id": 18, "name": "dog"},
    ],
}


def make_ref(ref_id, image_id, category_id, split, *sentences):
    """One entry of refs(*).p; ``sentences`` are (id, text)."""
    return {
        "ref_id": ref_id,
        "ann_id": 100 + ref_id,
        "category_id": category_id,
        "image_id": image_id,
        "file_name": f"COCO_train2014_{image_id:012d}_{100 + ref_id}.jpg",
        "split": split,
        "sent_ids": [number for number, _ in sentences],
        "sentences": [
            {"sent_id": number, "sent": text, "raw": text.title(), "tokens": text.split()}
            for number, text in sentences
        ],
    }


REFS = [
    make_ref(0, 42, 18, "train", (0, "dog on left"), (1, "brown dog")),
    make_ref(1, 42, 17, "val", (2, "cat")),
    make_ref(2, 43, 1, "testAB", (3, "the man")),
    make_ref(3, 43, 1, "testB", (4, "café")),
]


def write_refer(folder, by="unc", refs=REFS, instances=INSTANCES, protocol=2):
    """The official pair of files in a folder, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol))
    (folder / "instances.json").write_text(json.dumps(instances))
    return folder
