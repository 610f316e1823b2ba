"""The audit log: chained, private, whole under concurrent writers, and no edit goes unseen."""

import json
import random
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks.archive.audit import append, head, verify_audit
from tasks.errors import RadloopError

EDITS = 200


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    for i in range(12):
        append(path, "part_committed", actor="tester", part_id=f"{i:032x}", n=i, cases=["a", "b"])
    return path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_lines_say_who_did_what_and_follow_each_other(log: Path) -> None:
    records = [json.loads(line) for line in lines(log)]
    assert [record["seq"] for record in records] == list(range(1, 13))
    assert records[3]["ids"] == {"part_id": f"{3:032x}", "n": 3, "cases": ["a", "b"]}
    assert records[3]["prev"] == records[2]["hash"]
    assert records[0]["actor"] == "tester"
    assert verify_audit(log) == []
    assert head(log) == (12, records[-1]["hash"])


def test_log_is_private_and_names_the_user(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    append(path, "opened")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["actor"]


def test_log_that_is_not_there_has_no_problems(tmp_path: Path) -> None:
    assert verify_audit(tmp_path / "none.jsonl") == []
    assert head(tmp_path / "none.jsonl") == (0, "0" * 64)


def flip(content: list[bytes], chance: random.Random) -> list[bytes]:
    i = chance.randrange(len(content))
    line = bytearray(content[i])
    line[chance.randrange(len(line))] ^= 1 << chance.randrange(8)
    return [*content[:i], bytes(line), *content[i + 1 :]]


def remove(content: list[bytes], chance: random.Random) -> list[bytes]:
    i = chance.randrange(len(content) - 1)
    return content[:i] + content[i + 1 :]


def swap(content: list[bytes], chance: random.Random) -> list[bytes]:
    i, j = chance.sample(range(len(content)), 2)
    content = list(content)
    content[i], content[j] = content[j], content[i]
    return content


def repeat(content: list[bytes], chance: random.Random) -> list[bytes]:
    i = chance.randrange(len(content))
    return [*content[:i], content[i], *content[i:]]


def rewrite(content: list[bytes], chance: random.Random) -> list[bytes]:
    """Change a value and give the line a hash that fits: only the next line tells."""
    import hashlib

    from tasks.hashing import canonical_json

    i = chance.randrange(len(content) - 1)
    record = json.loads(content[i])
    record["ids"]["n"] = chance.randrange(1000, 9999)
    del record["hash"]
    record["hash"] = hashlib.sha256(canonical_json(record).encode()).hexdigest()
    return [*content[:i], canonical_json(record).encode() + b"\n", *content[i + 1 :]]


def respell(content: list[bytes], chance: random.Random) -> list[bytes]:
    """Change only white space: the record is equal, the line is not what was written."""
    i = chance.randrange(len(content))
    return [*content[:i], content[i].replace(b",", b", ", 1), *content[i + 1 :]]


def cut(content: list[bytes], chance: random.Random) -> list[bytes]:
    i = chance.randrange(len(content))
    return [*content[:i], content[i][: chance.randrange(1, len(content[i]) - 1)], *content[i + 1 :]]


def test_every_edit_is_found(log: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    content = lines(log)
    ways = (flip, remove, swap, repeat, rewrite, respell, cut)
    changed = tmp_path / "changed.jsonl"
    missed = []
    for number in range(EDITS):
        way = ways[number % len(ways)]
        edited = way(content, chance)
        assert edited != content
        changed.write_bytes(b"".join(edited))
        if not verify_audit(changed):
            missed.append((number, way.__name__))
    assert missed == []


def test_lines_cut_off_at_the_end_are_found_with_a_checkpoint(log: Path) -> None:
    checkpoint = head(log)
    append(log, "later")
    assert verify_audit(log, checkpoint) == []
    log.write_bytes(b"".join(lines(log)[:9]))
    assert verify_audit(log) == []
    assert verify_audit(log, checkpoint) == ["line 12 of the checkpoint is missing or was changed"]


def test_half_a_line_of_a_crash_is_mended(log: Path) -> None:
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"actor":"tester","ev')
    append(log, "after the crash", actor="tester")
    assert verify_audit(log) == []
    assert len(lines(log)) == 13


def test_event_without_its_line_end_is_not_lost(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-1])
    append(log, "after the crash", actor="tester")
    assert verify_audit(log) == []
    assert len(lines(log)) == 13


def test_nothing_is_chained_to_a_damaged_line(log: Path) -> None:
    content = lines(log)
    log.write_bytes(b"".join([*content[:-1], content[-1].replace(b"tester", b"nobody")]))
    with pytest.raises(RadloopError, match="evidence"):
        append(log, "next")


def test_long_lines_are_chained_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(3):
        append(path, "many", cases=["c" * 32] * 5000)
    assert verify_audit(path) == []


def test_threads_and_processes_share_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    code = (
        "import sys\nfrom tasks.archive.audit import append\n"
        "for i in range(15): append(sys.argv[1], 'process', n=i)"
    )
    root = Path(__file__).resolve().parents[2]
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=root) for _ in range(2)
    ]

    def writing() -> None:
        for i in range(15):
            append(path, "thread", n=i)

    threads = [threading.Thread(target=writing) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in started] == [0, 0]
    assert verify_audit(path) == []
    assert head(path)[0] == 5 * 15
