"""The walk leaves settled files out, and nothing else."""

import os

from tasks.archive.sources import resolve_source
from tasks.archive.walk import WalkNotes, walk


def _settled_as_they_are(root):
    """Every regular file under a folder is settled with its present size and time."""

    def settled(folder: str) -> dict[bytes, tuple[int, int]]:
        with os.scandir(root / folder) as listing:
            states = [(os.fsencode(child.name), child.stat()) for child in listing]
        return {name: (state.st_size, state.st_mtime_ns) for name, state in states}

    return settled


def test_settled_files_are_counted_and_not_yielded(tmp_path):
    for name in ("a/1", "a/2", "b/c/3", "4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    settled, notes = _settled_as_they_are(tmp_path), WalkNotes()
    assert list(walk(resolve_source(str(tmp_path)), notes, settled)) == []
    assert notes.settled == 4


def test_another_size_or_time_and_what_is_no_file_are_not_settled(tmp_path):
    for name in ("same", "grown", "touched", "replaced"):
        (tmp_path / name).write_bytes(b"x")
    held = _settled_as_they_are(tmp_path)("")
    (tmp_path / "grown").write_bytes(b"xy")
    os.utime(tmp_path / "grown", ns=(held[b"grown"][1],) * 2)
    os.utime(tmp_path / "touched", ns=(0, held[b"touched"][1] + 1))
    (tmp_path / "replaced").unlink()
    (tmp_path / "replaced").symlink_to("same")
    (tmp_path / "new").write_bytes(b"x")
    notes = WalkNotes()
    entries = walk(resolve_source(str(tmp_path)), notes, lambda _: held)
    assert [entry.path for entry in entries] == ["grown", "new", "touched"]
    assert (notes.settled, notes.links) == (1, 1)


def test_without_a_memory_every_file_is_yielded_in_order(tmp_path):
    for name in ("b/2", "a", "c", "b/10", "\u00e9"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    paths = [entry.path for entry in walk(resolve_source(str(tmp_path)))]
    assert paths == ["a", "b/10", "b/2", "c", "\u00e9"]
