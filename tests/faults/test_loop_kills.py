"""The whole loop, archive to registry, killed with -9 at random moments or started twice."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.archive.catalog import open_catalog, quarantine
from tasks.archive.vault import open_vault, project_key
from tasks.phantom.write import write_limb_archive
from tasks.serve.registry import versions
from tasks.store.verify import store_digest
from tests.flows.conftest import LIMB
from tests.flows.running import LONGEST, Place
from tests.flows.test_resume import (
    check_nothing_half_done_is_visible,
    kill_group,
    quietly,
    staged,
    trainings,
)

PATIENTS = 40
BROKEN = 4
THIRDS, KILLS = 3, 10
"""Thirty kills in three tests, each of which can be run by itself where a pass was stopped."""

LONGEST_PASS = 1800

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LONGEST_PASS)]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home with a project key and nothing taken in; its server serves the copies too."""
    place = Place(tmp_path_factory.mktemp("begun"))
    archive = place.folder / "archive"
    write_limb_archive(archive, patients=PATIENTS, seed=31, broken=BROKEN)
    (place.folder / "small-limb.yaml").write_text(LIMB)
    place.radloop("source", "add", "limb", archive).ok()
    # Made at its first use, which must come before the copies: ids are compared between them.
    vault = open_vault(f"sqlite:///{place.home / 'vault.db'}")
    project_key(vault)
    vault.dispose()
    place.radloop("ui").ok()
    yield place
    left = place.close()
    assert not left, left


@pytest.fixture(scope="module")
def copy_of(begun: Place) -> Callable[[Path], Place]:
    api = begun.api_of_server()

    def copy(folder: Path) -> Place:
        place = Place(folder, api)
        ignored = shutil.ignore_patterns("prefect", "mlflow", "server*.json")
        shutil.copytree(begun.home, place.home, ignore=ignored)
        place.home.chmod(0o700)
        shutil.copy(begun.folder / "small-limb.yaml", folder)
        return place

    return copy


def words(place: Place) -> tuple[object, ...]:
    return "retrain", place.folder / "small-limb.yaml", "--source", "limb"


def facts(place: Place) -> tuple:
    """What an undisturbed run leaves: each thing once."""
    from flows.data import data_folder
    from tasks.serve.names import load_names
    from tasks.serve.tracking import Tracker

    catalog = open_catalog(f"sqlite:///{place.home / 'catalog.db'}")
    refused = sorted((row.reason, row.case_id or "") for row in quarantine(catalog))
    catalog.dispose()
    names = load_names(data_folder("mlflow") / "names.yaml")
    tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", "small-limb", names)
    runs = [(run.info.status, run.data.tags["gate_verdict"]) for run in trainings(place)]
    models = [version.version for version in versions(tracker, "small-limb")]
    return store_digest(str(place.home / "store")), refused, runs, models


@pytest.fixture(scope="module")
def calm(copy_of, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple, float]:
    """What an undisturbed run leaves, and the seconds it took."""
    place = copy_of(tmp_path_factory.mktemp("calm"))
    seconds = place.radloop(*words(place)).ok().seconds
    found = facts(place)
    assert [status for status, _ in found[2]] == ["FINISHED"]
    return found, seconds


@pytest.mark.parametrize("third", range(THIRDS))
def test_a_loop_killed_at_thirty_random_moments_ends_as_an_undisturbed_one(
    copy_of, calm, tmp_path, third
):
    expected, whole = calm
    seed = random.randrange(1 << 32)
    print("third", third, "seed", seed)
    draw = random.Random(seed)
    kills = ends = 0
    torn = copy_of(tmp_path / "torn0")
    while kills < KILLS:
        process = quietly(torn, *words(torn))
        try:
            process.wait(draw.uniform(0.1, 1.0) * whole)
        except subprocess.TimeoutExpired:
            kill_group(process, torn)
            kills += 1
            print(f"kill {kills} in loop {ends + 1}", flush=True)
            check_nothing_half_done_is_visible(torn)
            continue
        assert process.returncode == 0
        assert facts(torn) == expected
        assert not torn.close()
        shutil.rmtree(torn.folder)
        ends += 1
        torn = copy_of(tmp_path / f"torn{ends}")
    torn.radloop(*words(torn)).ok()
    print(f"{kills} kills, {ends + 1} loops")
    assert facts(torn) == expected
    assert not staged(torn.home / "store")
    check_nothing_half_done_is_visible(torn)
    assert not torn.close()


def test_of_two_retrains_at_once_one_runs_and_the_other_says_who_does(copy_of, calm, tmp_path):
    expected, _ = calm
    place = copy_of(tmp_path / "two")
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [place.start(*words(place), **pipes) for _ in range(2)]
    deadline = time.monotonic() + LONGEST
    said = [process.communicate(timeout=deadline - time.monotonic()) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    (refused,) = (err for process, (_, err) in zip(both, said, strict=True) if process.returncode)
    assert "scenario small-limb is held by retrain" in refused
    assert "Traceback" not in refused
    assert facts(place) == expected
    # The lease is given back: the next run may go, and finds nothing new.
    again = place.radloop(*words(place)).ok()
    assert "nothing new" in again.out
    assert facts(place) == expected
