"""Which records of the hippocampus are taken: a network's epoch must not have been chosen."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

# Scripts find each other in their own folder, where Python looks first when one is run.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import bench_hippocampus
import hippocampus_trained
from hippocampus_trained import KEPT, NETWORK, affordable, read_record, there

PEER = KEPT / "nnunet-60-0-0.json"


def test_records_of_another_candidate_are_not_taken_and_nnu_net_s_are(tmp_path, monkeypatch):
    monkeypatch.setattr(hippocampus_trained, "KEPT", tmp_path)
    shutil.copy(PEER, tmp_path)
    before = json.loads(PEER.read_text()) | {"program": "radloop"}
    now = before | {"candidate": NETWORK | {"epochs": 129}, "fold": 1}
    other = now | {"candidate": now["candidate"] | {"patience": 10_000}, "fold": 2}
    for record in (before, now, other):
        file = tmp_path / f"radloop-60-{record['fold']}-0.json"
        file.write_text(json.dumps(record))
    assert [(one.program, one.fold) for one in there()] == [("nnunet", 0), ("radloop", 1)]


def test_one_program_alone_is_neither_compared_nor_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_hippocampus, "PICTURE", tmp_path / "dice.png")
    assert bench_hippocampus.compare([read_record(PEER)])
    bench_hippocampus.draw([read_record(PEER)])
    assert not capsys.readouterr().out
    assert not bench_hippocampus.PICTURE.exists()


def test_what_is_committed_is_what_the_script_takes():
    files = sorted(KEPT.glob("*-*-*-*.json"))
    assert PEER in files
    assert all(read_record(file).taken for file in files)


@pytest.mark.parametrize(("seconds", "epochs"), [(1, 1), (20, 5), (100, 25), (250, 100)])
def test_a_budget_pays_for_the_looks_too(seconds, epochs, monkeypatch):
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(
        hippocampus_trained, "time", SimpleNamespace(process_time=lambda: next(clock))
    )

    def fit(settings, _, tell):
        assert settings == NETWORK | {"epochs": 2}
        for _ in range(2):
            # Half of an epoch's four seconds is its look: 25 epochs are 100 s, 100 are 250.
            tell({"train_seconds": 3.0, "seconds": 6.0})

    assert affordable(fit, seconds) == epochs
