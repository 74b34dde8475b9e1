"""Shards: finished ones stay, processes share them, settings must agree."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tbkin.resume import clean, this_process, write_shards

ROOT = Path(__file__).parents[1]


def write(path, items):
    path.write_text(json.dumps([item * item for item in items]))


def run(folder, count=10, size=3, writer=write, settings=None, **more):
    settings = settings or {"power": 2}
    return write_shards(
        folder, iter(range(count)), writer, settings, suffix=".json", size=size, **more
    )


def content(paths):
    return [value for path in paths for value in json.loads(path.read_text())]


def test_shards_hold_the_items_in_order(tmp_path):
    shards = run(tmp_path / "job")
    assert [path.name for path in shards] == [f"shard-0000{n}.json" for n in range(4)]
    assert content(shards) == [n * n for n in range(10)]
    assert len(json.loads(shards[3].read_text())) == 1


def test_what_is_finished_is_not_made_again(tmp_path):
    made = []

    def failing(path, items):
        items = list(items)
        if items[0] == 6:
            path.write_text("half")
            raise OSError("the disk is full")
        made.append(items[0])
        write(path, items)

    with pytest.raises(OSError, match="disk"):
        run(tmp_path / "job", writer=failing)
    assert made == [0, 3]
    names = sorted(path.name for path in (tmp_path / "job").iterdir())
    assert names == ["settings.json", "shard-00000.json", "shard-00001.json"]

    def counting(path, items):
        items = list(items)
        made.append(items[0])
        write(path, items)

    assert content(run(tmp_path / "job", writer=counting)) == [n * n for n in range(10)]
    assert made == [0, 3, 6, 9]


def test_a_job_that_fails_before_its_first_shard_leaves_nothing(tmp_path):
    def failing(path, items):
        raise ValueError(f"bad item {next(items)}")

    with pytest.raises(ValueError, match="bad item 0"):
        run(tmp_path / "job", writer=failing)
    assert not (tmp_path / "job").exists()


def test_other_settings_are_refused_by_name(tmp_path):
    run(tmp_path / "job", settings={"power": 2, "colour": "red"})
    with pytest.raises(ValueError, match=r"job was begun with other settings \(colour: begun with "
                       r"'red', now 'blue'\).*overwrite=true"):  # fmt: skip
        run(tmp_path / "job", settings={"power": 2, "colour": "blue"})
    shards = run(tmp_path / "job", count=2, settings={"colour": "blue"}, overwrite=True)
    assert content(shards) == [0, 1]
    assert len(list((tmp_path / "job").glob("shard-*"))) == 1


def test_processes_share_the_shards_and_the_last_one_sees_them_all(tmp_path, monkeypatch):
    assert this_process() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run(tmp_path / "job") is None
    names = sorted(path.name for path in (tmp_path / "job").glob("shard-*"))
    assert names == ["shard-00001.json", "shard-00003.json"]
    monkeypatch.setenv("RANK", "0")
    assert content(run(tmp_path / "job")) == [n * n for n in range(10)]
    with pytest.raises(ValueError, match="2 processes cannot agree"):
        run(tmp_path / "job", overwrite=True)


def test_a_process_without_a_share_leaves_nothing(tmp_path, monkeypatch):
    # One shard for two processes: the second may come when the first has joined and gone.
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run(tmp_path / "job", count=2) is None
    assert not (tmp_path / "job").exists()


def test_overwriting_processes_refuse_only_what_an_earlier_run_left(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):  # the second finds what the first has just made
        monkeypatch.setenv("RANK", rank)
        shards = run(tmp_path / "job", overwrite=True)
    assert content(shards) == [n * n for n in range(10)]
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ValueError, match=r"job holds what an earlier run left.*by hand"):
            run(tmp_path / "job", overwrite=True)
    assert content(shards) == [n * n for n in range(10)]


def test_clean_leaves_the_shards_and_their_settings(tmp_path):
    run(tmp_path / "job", count=3)
    (tmp_path / "job" / "shard-00000.json.unfinished-1").write_text("left by a killed process")
    clean(tmp_path / "job")
    names = sorted(path.name for path in (tmp_path / "job").iterdir())
    assert names == ["settings.json", "shard-00000.json"]


SLOW = """
import sys, time
from pathlib import Path
from tbkin.resume import write_shards

def write(path, items):
    for item in items:
        time.sleep(0.05)
        with path.open("a") as file:
            file.write(f"{item}\\n")

write_shards(Path(sys.argv[1]), range(40), write, {}, suffix=".txt", size=4)
"""


def test_a_killed_job_loses_at_most_the_shard_in_flight(tmp_path):
    folder = tmp_path / "job"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen([sys.executable, "-c", SLOW, str(folder)], env=environment)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("shard-*.txt"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    whole = sorted(folder.glob("shard-*.txt"))
    assert 3 <= len(whole) < 10
    for number, path in enumerate(whole):
        assert path.read_text().split() == [str(4 * number + k) for k in range(4)]
    before = {path: path.stat().st_mtime_ns for path in whole}
    subprocess.run([sys.executable, "-c", SLOW, str(folder)], env=environment, check=True)
    shards = sorted(folder.glob("shard-*.txt"))
    assert " ".join(path.read_text() for path in shards).split() == [str(n) for n in range(40)]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
