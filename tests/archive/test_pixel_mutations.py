"""Damaged images on their way to voxels: each is stored or refused with a reason, none does harm.

Each run is a process of its own (`fuzz_run`), so that its death is seen and its number known.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.archive.codecs import JPEG, JPEG_2000, JPEG_LS, RLE
from tasks.archive.headers import read_header
from tasks.archive.pixel_format import transfer_syntax
from tasks.archive.pixels import read_dataset
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tests.archive import fuzz_run
from tests.archive.fuzz_run import Watch
from tests.archive.pixel_mutations import HEADER_MUTATIONS, PIXEL_MUTATIONS, damaged
from tests.archive.whole_images import BIG, EXPLICIT, IMPLICIT, TOKEN, deflated, wholes

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 1000
"""Files of one slow run: small enough to be repeated alone."""


def survives(first: int, count: int, base: Path, *more: str) -> dict:
    """Take damaged files the whole way in a process of its own, and look at what it left."""
    folder, elsewhere = base / "run", base / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(elsewhere))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.archive.fuzz_run",
         str(first), str(count), str(folder), *more],
        cwd=elsewhere,
        env={**os.environ, **places, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    where = f"the files are in {folder / 'archive'}, named by their numbers"
    at = (folder / "at").read_text() if (folder / "at").exists() else "none"
    assert done.returncode == 0, f"ended at file {at}; {where}\n{done.stderr[-3000:]}"
    outcome = json.loads(done.stdout)
    assert not outcome["problems"], "\n".join([*outcome["problems"][:20], where])
    assert TOKEN not in done.stderr
    assert not list(elsewhere.iterdir())
    assert {path.name for path in base.iterdir()} <= {"run", "elsewhere"}
    return outcome


def weighed(outcome: dict, count: int) -> None:
    """Every way is taken often, or the damage is too small or too great to say anything."""
    assert outcome["files"] == count
    assert outcome["stored"] > count // 10
    assert sum(outcome["headers"].values()) > count // 10
    assert sum(outcome["voxels"].values()) > count // 10


def test_every_image_comes_through_undamaged(tmp_path):
    found = set()
    for number, whole in enumerate(wholes()):
        data = whole.numbered(number)
        if whole.deflated:
            data = deflated(data, 144 + int.from_bytes(data[140:144], "little"))
        (tmp_path / "1").write_bytes(data)
        read_header(data)
        volume = read_volume("dicom", [FileRef(str(tmp_path / "1"), None, "", len(data))])
        assert volume.array.size, whole.name
        found.add(transfer_syntax(read_dataset(data)))
    assert found == {IMPLICIT, EXPLICIT, BIG, RLE} | JPEG | JPEG_LS | JPEG_2000
    assert any(whole.deflated for whole in wholes())
    # Nine of pydicom's hold no word at all.
    assert sum(TOKEN.encode() in whole.data for whole in wholes()) == len(wholes()) - 9


def test_the_same_number_makes_the_same_damage():
    assert damaged(11) == damaged(11)
    assert len({damaged(number) for number in range(100)}) == 100
    assert len({*PIXEL_MUTATIONS, *HEADER_MUTATIONS}) >= 18


def test_five_hundred_damaged_images_are_accounted_for(tmp_path):
    weighed(survives(0, 500, tmp_path), 500)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 20_000, CHUNK))
def test_twenty_thousand_damaged_images_are_accounted_for(tmp_path, first):
    weighed(survives(first, CHUNK, tmp_path), CHUNK)


@pytest.mark.slow
def test_damaged_slices_of_a_scanner_are_accounted_for(tmp_path, shared_data):
    real = shared_data / "dicom" / "transfer_syntaxes"
    outcome = survives(0, CHUNK, tmp_path, "--real", str(real))
    assert outcome["files"] == CHUNK
    assert outcome["stored"] > CHUNK // 10


class TestTheRunItself:
    """What it watches for it also sees."""

    @pytest.fixture
    def watch(self, tmp_path):
        return Watch(tmp_path)

    def test_a_reason_without_a_remedy_is_a_problem(self, watch):
        watch.judge("truncated", "cut")
        assert watch.outcome.problems == []
        watch.judge("no_such_reason", "")
        watch.judge("failed:ValueError", "")
        assert len(watch.outcome.problems) == 2

    def test_a_quoted_value_is_a_problem(self, watch):
        watch.judge("truncated", f"of {TOKEN}^Jane")
        assert len(watch.outcome.problems) == 1

    def test_an_error_that_is_no_reason_is_a_problem(self, watch, tmp_path):
        with pytest.raises(KeyError), watch.file(7):
            raise KeyError("rows")
        assert watch.outcome.problems == ["file 7: raised KeyError('rows')"]
        assert (tmp_path / "at").read_text() == "7"

    def test_a_file_that_hangs_is_ended_and_is_a_problem(self, watch, monkeypatch):
        monkeypatch.setattr(fuzz_run, "HANG_SECONDS", 1)
        with pytest.raises(BadCase), watch.file(3):
            time.sleep(60)
        assert watch.outcome.problems == ["file 3: took more than 1 s"]

    def test_a_write_outside_is_a_problem(self, tmp_path):
        # In a process of its own: an audit hook stays for good.
        code = (
            "import os, sys, pathlib\n"
            "from tests.archive.fuzz_run import Watch\n"
            "base = pathlib.Path(sys.argv[1])\n"
            "watch = Watch(base / 'in')\n"
            "watch.guard_writes(base / 'in')\n"
            "(base / 'in' / 'a').write_text('')\n"
            "open(base / 'in' / 'a').close()\n"
            "print(len(watch.outcome.problems))\n"
            "(base / 'b').write_text('')\n"
            "os.close(os.open(base / 'c', os.O_CREAT))\n"
            "os.mkdir(base / 'd')\n"
            "os.rename(base / 'b', base / 'e')\n"  # two places
            "print(len(watch.outcome.problems))\n"
        )
        (tmp_path / "in").mkdir()
        told = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert told == "0\n5\n"
