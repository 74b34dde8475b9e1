"""Does preparation need more memory for more pictures? ``python benchmarks/memory.py``.

Runs each step on the first so many of a folder of drawn pictures (or ``--images DIR``, linked again
and again), in a process of its own, and prints its peak memory and its time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--images", type=Path, help="real pictures instead of drawn ones")
    parser.add_argument("--detector", nargs="+", default=["detector=grid"])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    given = parser.parse_args()
    rows = [row for count in given.counts for row in measure(count, given.images, given.detector)]
    for row in rows:
        print(
            f"{row['step']:<14}{row['pictures']:>7} pictures {row['peak_mib']:>8.0f} MiB peak "
            f"{row['seconds']:>8.1f} s {1000 * row['seconds'] / row['pictures']:>7.2f} ms each"
        )
    first, last = given.counts[0], given.counts[-1]
    for step in dict.fromkeys(row["step"] for row in rows):
        peak = {row["pictures"]: row["peak_mib"] for row in rows if row["step"] == step}
        print(f"{step}: {peak[last] - peak[first]:+.0f} MiB from {first} to {last} pictures")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(count: int, images: Path | None, detector: list[str]) -> list[dict]:
    """Peak memory and time of the regions and scene_graphs steps on ``count`` pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        link_pictures(folder / "pictures", count, images)
        captions = [
            {"image_id": number, "caption": "a man in a red shirt is riding a brown horse"}
            for number in range(count)
        ]
        (folder / "captions.json").write_text(json.dumps(captions))
        regions = [f"images={folder / 'pictures'}", f"output={folder / 'store'}", *detector]
        graphs = [
            f"regions={folder / 'store'}",
            f"captions={folder / 'captions.json'}",
            f"output={folder / 'graphs.jsonl'}",
            "parser=word_rules",
        ]
        return [
            run("regions", count, regions),
            run("scene_graphs", count, graphs),
        ]


def link_pictures(folder: Path, count: int, images: Path | None) -> None:
    """``count`` files that are links to a few pictures."""
    folder.mkdir()
    if images is None:
        sources = [folder.parent / f"drawn-{shade}.jpg" for shade in range(8)]
        for shade, path in enumerate(sources):
            Image.effect_noise((640, 480), 20 + 10 * shade).convert("RGB").save(path)
    else:
        sources = sorted(path.resolve() for path in images.rglob("*.jpg"))
        if not sources:
            raise SystemExit(f"no .jpg below {images}")
    for number, source in zip(range(count), itertools.cycle(sources), strict=False):
        os.symlink(source, folder / f"{number}.jpg")


def run(step: str, count: int, words: list[str]) -> dict:
    """One step in a process of its own."""
    command = [sys.executable, "-m", "data_prep", step, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - start
    return {"step": step, "pictures": count, "peak_mib": usage.ru_maxrss / 1024, "seconds": seconds}


if __name__ == "__main__":
    main()
