"""The commit path stopped or failed at each of its calls in turn: the end is always the same."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.archive.catalog import open_catalog
from tasks.archive.commits import all_parts, work_states
from tasks.store.commit import remove
from tasks.store.verify import committed_parts, verify_part
from tests.faults import tracing
from tests.faults.commit_program import CASES, make, prepare_catalog
from tests.store.making import FIXED, RECIPE, write

PROGRAM = "tests.faults.commit_program"
LAYOUTS = pytest.mark.parametrize("layout", ["cases", "packed"])

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(tracing.why_not()), reason=tracing.why_not() or "traced"),
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "catalog.db"
    prepare_catalog(path)
    return path


@pytest.fixture
def place(catalog, tmp_path) -> Callable[[str], Path]:
    """Folders with a catalog that wants the cases and an empty store."""

    def make_place(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(catalog, folder / "catalog.db")
        return folder

    return make_place


def rows(folder: Path) -> list:
    catalog = open_catalog(f"sqlite:///{folder / 'catalog.db'}")
    try:
        return all_parts(catalog)
    finally:
        catalog.dispose()


def check_what_is_visible(folder: Path) -> None:
    """What the catalog names stands and is whole, and so is whatever stands without a row."""
    root = str(folder / "store")
    on_disk = committed_parts(root)
    assert {row.path for row in rows(folder)} <= set(on_disk)
    for path in on_disk:
        assert verify_part(root, path) == ()


def check_the_end(folder: Path, digest: str, layout: str) -> None:
    """Run again, undisturbed: all is there, once."""
    assert make(folder, layout).digest == digest
    (row,) = rows(folder)
    assert row.digest == digest
    assert verify_part(str(folder / "store"), row.path, digest) == ()
    catalog = open_catalog(f"sqlite:///{folder / 'catalog.db'}")
    assert work_states(catalog, RECIPE) == {"done": CASES}
    catalog.dispose()
    assert not any((folder / "store" / "staging").iterdir())
    produced = (folder / "log").read_text().split()
    # One case may have been in the making when the fault came; no finished one is made again.
    assert len(produced) <= CASES + 1


def committing(lines: list[str]) -> tuple[int, tuple[str, str]]:
    """Return which call is the rename that commits, and from where to where it went."""
    return next(
        (number, pair)
        for number, line in enumerate(lines)
        if (pair := tracing.renamed(line)) and "/parts/" in pair[1]
    )


def ours(folder: Path, name: str) -> list[int]:
    """Return which calls of a name, from 1, go to the store or the catalog."""
    lines = [line for line in tracing.calls(folder / "trace") if line.startswith(f"{name}(")]
    places = (str(folder / "store"), str(folder / "catalog.db"))
    return [n for n, line in enumerate(lines, start=1) if any(p in line for p in places)]


def sweep(place, layout: str, fault: str, names: tuple[str, ...]) -> int:
    calm = place("calm")
    assert tracing.traced([PROGRAM, calm, layout], calm / "trace").returncode == 0
    (row,) = rows(calm)
    faults = 0
    for name in names:
        for number in ours(calm, name):
            folder = place(f"{name}-{number}")
            inject = f"inject={name}:{fault}:when={number}"
            done = tracing.traced([PROGRAM, folder, layout], folder / "trace", "-e", inject)
            assert done.returncode != 0 or "error" in fault, (name, number)
            faults += done.returncode != 0
            check_what_is_visible(folder)
            check_the_end(folder, row.digest, layout)
            shutil.rmtree(folder)
    return faults


@pytest.mark.slow
@LAYOUTS
def test_a_kill_at_every_call_of_the_commit_path_ends_in_the_same_store(place, layout):
    kills = sweep(place, layout, "signal=SIGKILL", tracing.CALLS)
    print(f"{kills} kills")
    assert kills > 60


@pytest.mark.slow
@LAYOUTS
def test_a_sync_or_write_that_fails_stops_the_commit_and_the_next_run_ends_it(
    place, tmp_path, layout
):
    failed = sweep(place, layout, "error=EIO", ("fsync", "fdatasync", "rename"))
    shutil.rmtree(tmp_path / "calm")
    failed += sweep(place, layout, "error=ENOSPC", ("write", "pwrite64"))
    print(f"{failed} failures")
    assert failed > 40


def test_a_kill_at_the_rename_that_commits_leaves_all_or_nothing(place):
    """The quick one: before the rename there is no part, at the sync after it there is one."""
    calm = place("calm")
    assert tracing.traced([PROGRAM, calm, "packed"], calm / "trace").returncode == 0
    lines = tracing.calls(calm / "trace")
    at, _ = committing(lines)
    before = [line.partition("(")[0] for line in lines[: at + 1]]
    for name, number, visible in (
        ("rename", before.count("rename"), 0),
        ("fsync", before.count("fsync") + 1, 1),
    ):
        folder = place(name)
        inject = f"inject={name}:signal=SIGKILL:when={number}"
        done = tracing.traced([PROGRAM, folder, "packed"], folder / "trace", "-e", inject)
        assert done.returncode == -signal.SIGKILL
        found = len(committed_parts(str(folder / "store")))
        # A signal falls when its call ends: the rename may have been made.
        assert found == visible or name == "rename"
        assert rows(folder) == []
        check_what_is_visible(folder)
        check_the_end(folder, rows(calm)[0].digest, "packed")


@LAYOUTS
def test_every_byte_and_name_is_on_the_disk_before_the_catalog_names_the_part(place, layout):
    """A power cut takes what was not synced; a kill cannot show that."""
    folder = place("traced")
    assert tracing.traced([PROGRAM, folder, layout], folder / "trace").returncode == 0
    lines = tracing.calls(folder / "trace")
    at, (source, target) = committing(lines)
    before = {tracing.synced(line) for line in lines[:at]}
    made = {Path(target), *Path(target).rglob("*")}
    wanted = {str(Path(source) / path.relative_to(target)) for path in made}
    assert wanted <= before
    named = next(n for n, line in enumerate(lines) if n > at and "catalog.db" in line)
    after = {tracing.synced(line) for line in lines[at:named]}
    assert {str(Path(target).parent), str(folder / "store")} <= after


def test_a_part_whose_writer_died_before_the_last_sync_is_synced_by_the_next_run(place):
    folder = place("died")
    make(folder, "packed")
    done = tracing.traced([PROGRAM, folder, "packed"], folder / "trace")
    assert done.returncode == 0
    found = {tracing.synced(line) for line in tracing.calls(folder / "trace")}
    assert {str(folder / "store" / "parts"), str(folder / "store")} <= found


@pytest.mark.slow
def test_a_removal_killed_at_every_call_leaves_a_whole_part_or_none(tmp_path):
    record = write(tmp_path / "calm", 2, FIXED)
    shutil.copytree(tmp_path / "calm", tmp_path / "rehearsal")
    log = tmp_path / "trace"
    done = tracing.traced([PROGRAM, tmp_path / "rehearsal", "remove", record.path], log)
    assert done.returncode == 0, done.stderr
    kills = 0
    for name, count in tracing.counted(log).items():
        for number in range(1, count + 1):
            root = tmp_path / f"{name}-{number}"
            shutil.copytree(tmp_path / "calm", root)
            inject = f"inject={name}:signal=SIGKILL:when={number}"
            done = tracing.traced([PROGRAM, root, "remove", record.path], log, "-e", inject)
            assert done.returncode == -signal.SIGKILL
            kills += 1
            for path in committed_parts(str(root)):
                assert verify_part(str(root), path, record.digest) == ()
            remove(str(root), record.path)
            assert committed_parts(str(root)) == ()
            assert write(root, 2, FIXED).digest == record.digest
    assert kills > 10
