import json
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from tasks.serve.ledger import LedgerEntry, append_entries, read_ledger, verify_ledger


def _entry(name):
    outcome = {"status": "predicted", "score": 0.5}
    return LedgerEntry(name, "chest", "chest", "3", "ab" * 32, {"pneumonia": 0.32}, outcome)


def _append_many(path, count):
    for n in range(count):
        append_entries(path, [_entry(str(n))])


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "inference.jsonl"
    append_entries(path, [_entry(f"{n:032x}") for n in range(20)])
    append_entries(path, [_entry(f"{n:032x}") for n in range(20, 30)])
    return path


def test_entries_follow_each_other(ledger):
    entries = read_ledger(ledger)
    assert [entry["seq"] for entry in entries] == list(range(1, 31))
    assert entries[0]["thresholds"] == {"pneumonia": 0.32}
    assert verify_ledger(ledger) == []
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600


def test_every_edit_removal_and_swap_is_found(ledger):
    good = ledger.read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(200):
        lines = good.splitlines(keepends=True)
        at = int(draw.integers(len(lines) - 1))
        kind = draw.choice(["edit", "remove", "swap"])
        if kind == "edit":
            entry = json.loads(lines[at])
            entry["outcome"]["score"] = 0.1
            lines[at] = json.dumps(entry).encode() + b"\n"
        elif kind == "remove":
            del lines[at]
        else:
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        ledger.write_bytes(b"".join(lines))
        assert verify_ledger(ledger), kind


def test_an_unfinished_line_is_taken_off_and_the_chain_goes_on(ledger):
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + b'{"seq":31,"ti')
    assert len(read_ledger(ledger)) == 30
    append_entries(ledger, [_entry("next")])
    assert ledger.read_bytes().startswith(whole)
    assert verify_ledger(ledger) == []
    assert read_ledger(ledger)[-1]["seq"] == 31


def test_two_processes_keep_one_chain(tmp_path):
    path = tmp_path / "inference.jsonl"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for job in [pool.submit(_append_many, path, 25) for _ in range(2)]:
            job.result()
    assert len(read_ledger(path)) == 50
    assert verify_ledger(path) == []


def test_no_ledger_yet_has_no_entries(tmp_path):
    assert read_ledger(tmp_path / "none.jsonl") == []
