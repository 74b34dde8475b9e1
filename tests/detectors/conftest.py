"""Three pictures with region features, written by hand in every layout of test_precomputed*.py."""

import base64
import io
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image


def picture(number, size, boxes, objects, scores, attributes, attribute_scores):
    """Values are exact in float16; sizes are powers of two, so that shares are exact too."""
    count = len(boxes)
    return SimpleNamespace(
        id=str(number),
        name=f"COCO_val2014_{number:012d}",
        size=size,
        image=Image.new("RGB", size),
        boxes=np.array(boxes, np.float32),
        features=np.arange(count * 5, dtype=np.float32).reshape(count, 5) / 4 + number,
        objects=np.array(objects, np.int64),
        scores=np.array(scores, np.float32),
        attributes=np.array(attributes, np.int64),
        attribute_scores=np.array(attribute_scores, np.float32),
    )


def three(even=False):
    """Pictures 42, 7 and 100 with 2, 3 and 1 regions, or with 2 each."""
    found = [
        picture(42, (64, 32), [[0, 0, 16, 8], [8, 4, 64, 32]], [2, 0], [0.5, 0.75], [1, 2], [1, 0]),
        picture(7, (32, 64), [[4, 4, 8, 60], [0, 0, 32, 64], [1, 2, 3, 4]], [1, 1, 3],
                [0.25, 1, 0.5], [0, 0, 1], [0.5, 0.25, 1]),
        picture(100, (16, 16), [[2, 3, 10, 12]], [3], [0.125], [2], [0.5]),
    ]  # fmt: skip
    if even:
        found[1] = picture(7, (32, 64), [[4, 4, 8, 60], [0, 0, 32, 64]], [1, 1], [0.25, 1],
                           [0, 0], [0.5, 0.25])  # fmt: skip
        found[2] = picture(100, (16, 16), [[2, 3, 10, 12], [0, 0, 8, 8]], [3, 0], [0.125, 1],
                           [2, 1], [0.5, 0])  # fmt: skip
    return found


def encoded(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def geometry(p, columns):
    """(R, 6 or 7) left, top, right, bottom, width, height[, area] as shares of the size."""
    width, height = p.size
    left, top, right, bottom = (p.boxes / np.array([width, height, width, height])).T
    wide, high = right - left, bottom - top
    return np.stack([left, top, right, bottom, wide, high, wide * high][:columns], 1).astype("f4")


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), newline="\n")
    return path


def write_line_index(path):
    """Byte offset of every row, one a line."""
    lines = path.read_bytes().splitlines(keepends=True)
    offsets = np.cumsum([0] + [len(line) for line in lines[:-1]])
    path.with_suffix(".lineidx").write_text("".join(f"{offset}\n" for offset in offsets))


def butd_row(p):
    return [p.id, *p.size, len(p.boxes), encoded(p.boxes), encoded(p.features)]


def lxmert_row(p):
    return [
        p.name, p.size[1], p.size[0], encoded(p.objects), encoded(p.scores),
        encoded(p.attributes), encoded(p.attribute_scores), len(p.boxes), encoded(p.boxes),
        encoded(p.features),
    ]  # fmt: skip


def rosita_row(p, ids="<i8"):
    return [
        f"{p.name}.jpg", encoded(p.features), p.size[1], p.size[0], len(p.boxes),
        encoded(p.boxes), encoded(p.objects.astype(ids)), encoded(p.scores),
        encoded(p.attributes.astype(ids)), encoded(p.attribute_scores),
    ]  # fmt: skip


def vinvl_row(p):
    return [p.id, len(p.boxes), encoded(np.hstack([p.features, geometry(p, 6)]))]


def butd_tsv(folder, pictures):
    return write_rows(folder / "trainval_36.tsv", map(butd_row, pictures))


def lxmert_tsv(folder, pictures):
    return write_rows(folder / "val2014_obj36.tsv", map(lxmert_row, pictures))


def rosita_tsv(folder, pictures):
    path = write_rows(folder / "imgfeat.tsv", map(rosita_row, pictures))
    write_line_index(path)
    rows = {f"{p.name}.jpg": row for row, p in enumerate(pictures)}
    (folder / "img_feat_offset_map.json").write_text(json.dumps(rows))
    return folder


def vinvl_tsv(folder, pictures):
    write_line_index(write_rows(folder / "features.tsv", map(vinvl_row, pictures)))
    return folder


def milvlg_npz(folder, pictures, columns=True):
    (folder / "npz").mkdir(parents=True)
    for p in pictures:
        info = {"objects_id": p.objects, "objects_conf": p.scores, "attrs_id": p.attributes,
                "attrs_conf": p.attribute_scores, "image_id": p.name}  # fmt: skip
        np.savez_compressed(
            folder / "npz" / f"{p.name}.jpg.npz",
            x=p.features.T if columns else p.features, bbox=p.boxes, num_bbox=len(p.boxes),
            image_h=p.size[1], image_w=p.size[0], info=info,
        )  # fmt: skip
    return folder


def rosita_npz(folder, pictures):
    (folder / "npz_files").mkdir(parents=True)
    for p in pictures:
        np.savez(
            folder / "npz_files" / f"{p.name}.jpg.npz",
            x=p.features, boxes=p.boxes, num_boxes=len(p.boxes), image_h=p.size[1],
            image_w=p.size[0], objects_id=p.objects, objects_conf=p.scores, attrs_id=p.attributes,
            attrs_conf=p.attribute_scores, filename=f"{p.name}.jpg",
        )  # fmt: skip
    return folder


def uniter_arrays(p, columns=6):
    """Four classes after background; the right one has what background leaves of 0.3."""
    soft = np.full((len(p.boxes), 5), 0.0, np.float16)
    soft[:, 0] = 0.7  # background is likelier than any class
    soft[np.arange(len(soft)), p.objects + 1] = 0.3
    arrays = {"features": p.features, "norm_bb": geometry(p, columns), "conf": p.scores}
    arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
    return {**arrays, "soft_labels": soft}


def uniter_npz(folder, pictures):
    folder.mkdir(parents=True, exist_ok=True)
    for p in pictures:
        np.savez(folder / f"coco_val2014_{int(p.id):012d}.npz", **uniter_arrays(p))
    return folder


def plain_npz(folder, pictures):
    folder.mkdir(parents=True, exist_ok=True)
    for p in pictures:
        np.savez(folder / f"{p.id}.npz", features=p.features, boxes=p.boxes)
    return folder


def packed(arrays):
    """As msgpack-numpy writes them."""
    msgpack = pytest.importorskip("msgpack")

    content = {
        name: {
            b"nd": True,
            b"type": array.dtype.str,
            b"kind": b"",
            b"shape": array.shape,
            b"data": array.tobytes(),
        }
        for name, array in arrays.items()
    }
    return msgpack.packb(content, use_bin_type=True)


def zipped(arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays, allow_pickle=True)  # UNITER stores that word as an array
    return file.getvalue()


def write_lmdb(folder, values):
    lmdb = pytest.importorskip("lmdb")

    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**24) as base, base.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    (folder / "lock.mdb").unlink()
    return folder


def uniter_lmdb(folder, pictures, dump=packed, name="feat_th0.2_max100_min10"):
    values = {f"coco_val2014_{int(p.id):012d}.npz": dump(uniter_arrays(p)) for p in pictures}
    counts = {key: len(p.boxes) for key, p in zip(values, pictures, strict=True)}
    values["__keys__"] = json.dumps(list(values)).encode()
    write_lmdb(folder / name, values)
    (folder / "nbb_th0.2_max100_min10.json").write_text(json.dumps(counts))
    return folder


def mmf_info(p):
    probabilities = np.full((len(p.boxes), 4), 0.01, np.float32)
    probabilities[np.arange(len(p.boxes)), p.objects] = p.scores
    return {
        "bbox": p.boxes,
        "num_boxes": len(p.boxes),
        "objects": p.objects,
        "image_height": p.size[1],
        "image_width": p.size[0],
        "cls_prob": probabilities,
    }


def mmf_npy(folder, pictures):
    (folder / "val2014").mkdir(parents=True)
    for p in pictures:
        np.save(folder / "val2014" / f"{p.name}.npy", p.features)
        np.save(folder / "val2014" / f"{p.name}_info.npy", mmf_info(p))
    return folder


def mmf_lmdb(folder, pictures):
    values = {
        f"val2014/{p.name}": pickle.dumps(
            {"feature_path": f"val2014/{p.name}", "features": p.features, **mmf_info(p)}
        )
        for p in pictures
    }
    keys = pickle.dumps([key.encode() for key in values])
    return write_lmdb(folder / "detectron.lmdb", {**values, "keys": keys})


def butd_h5(folder, pictures, adaptive=True):
    h5py = pytest.importorskip("h5py")

    folder.mkdir(parents=True, exist_ok=True)
    join = np.concatenate if adaptive else np.stack
    path = folder / ("val.hdf5" if adaptive else "val36.hdf5")
    with h5py.File(path, "w") as file:
        file["image_features"] = join([p.features for p in pictures])
        file["image_bb"] = join([p.boxes for p in pictures])
        file["spatial_features"] = join([geometry(p, 6) for p in pictures])
        if adaptive:
            ends = np.cumsum([len(p.boxes) for p in pictures])
            file["pos_boxes"] = np.stack([ends - [len(p.boxes) for p in pictures], ends], 1)
    index = {int(p.id): row for row, p in enumerate(pictures)}
    path.with_name(f"{path.stem}_imgid2idx.pkl").write_bytes(pickle.dumps(index, 2))
    return path


WRITERS = {
    function.__name__: function
    for function in (
        butd_tsv, lxmert_tsv, rosita_tsv, vinvl_tsv, milvlg_npz, rosita_npz, uniter_npz, plain_npz,
        uniter_lmdb, mmf_npy, mmf_lmdb, butd_h5,
    )
}  # fmt: skip


@pytest.fixture
def layouts(tmp_path):
    """The writers by name, ``three()`` pictures, and parts of rows to build odd files from."""
    vocabularies = tmp_path / "vocabularies"
    vocabularies.mkdir()
    (vocabularies / "objects.txt").write_text("yolk,egg yolk\ngoal\nstop sign,stopsign\ncat\n")
    (vocabularies / "attributes.txt").write_text("red\nwooden,wood\nsmall\n")
    return SimpleNamespace(
        write=lambda layout, pictures=None, **settings: WRITERS[layout](
            tmp_path / layout, pictures or three(), **settings
        ),
        names=list(WRITERS),
        three=three,
        picture=picture,
        geometry=geometry,
        encoded=encoded,
        write_rows=write_rows,
        write_line_index=write_line_index,
        write_lmdb=write_lmdb,
        butd_row=butd_row,
        lxmert_row=lxmert_row,
        rosita_row=rosita_row,
        vinvl_row=vinvl_row,
        uniter_arrays=uniter_arrays,
        packed=packed,
        zipped=zipped,
        mmf_info=mmf_info,
        objects=vocabularies / "objects.txt",
        attributes=vocabularies / "attributes.txt",
        object_names=["yolk", "goal", "stop sign", "cat"],
        attribute_names=["red", "wooden", "small"],
    )
