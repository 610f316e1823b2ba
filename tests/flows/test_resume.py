"""Killed with -9 as a whole process group and started again: the end is the same."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flows.data import data_folder
from tasks.archive.catalog import open_catalog
from tasks.archive.commits import all_parts
from tasks.phantom.write import write_limb_archive
from tasks.serve.names import load_names
from tasks.serve.tracking import Tracker, search
from tasks.store.verify import committed_parts, store_digest, verify_part
from tests.flows.conftest import LIMB, LOOP_SECONDS
from tests.flows.running import LONGEST, Place, staged

PATIENTS = 40
KILLS = 10
STAGED = 5
"""Finished cases after which the one kill of the quick test falls."""

pytestmark = pytest.mark.timeout(LOOP_SECONDS)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home whose catalog is filled and whose store is empty; its server serves the copies too."""
    place = Place(tmp_path_factory.mktemp("prepared"))
    archive = place.folder / "archive"
    write_limb_archive(archive, patients=PATIENTS, seed=21, broken=5)
    scenario = place.folder / "small-limb.yaml"
    scenario.write_text(LIMB)
    place.radloop("ingest", archive, "--labels-of", scenario).ok()
    yield place
    left = place.close()
    assert not left, left


@pytest.fixture(scope="module")
def copy_of(prepared: Place) -> Callable[[Path], Place]:
    """Copies of the prepared home."""
    return prepared.copied


@pytest.fixture(scope="module")
def calm(copy_of, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The store as an undisturbed run leaves it."""
    place = copy_of(tmp_path_factory.mktemp("calm"))
    place.radloop("preprocess", "small-limb").ok()
    return place


def kill_group(process: subprocess.Popen, place: Place) -> None:
    """End the command and everything it started, as a lost node does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Servers have sessions of their own: they are meant to outlive the command.
    ours = [one for one in place.processes() if not is_of_a_server(one)]
    _, alive = psutil.wait_procs(ours, timeout=20)
    assert not alive, "a worker outlived the kill of its process group"


def is_of_a_server(process: psutil.Process) -> bool:
    """Say whether a process belongs to the session of a Prefect or MLflow server."""
    try:
        leader = psutil.Process(os.getsid(process.pid)).cmdline()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return "server" in leader and {"mlflow", "prefect"} & set(leader) != set()


def quietly(place: Place, *words: object) -> subprocess.Popen:
    sink = subprocess.DEVNULL
    return place.start(*words, stdin=sink, stdout=sink, stderr=sink)


def check_nothing_half_done_is_visible(place: Place) -> None:
    """Every part the catalog knows is whole; a part without a row is whole too, and not used."""
    root = str(place.home / "store")
    catalog = open_catalog(f"sqlite:///{place.home / 'catalog.db'}")
    try:
        known = {row.path for row in all_parts(catalog)}
    finally:
        catalog.dispose()
    on_disk = set(committed_parts(root)) if Path(root).is_dir() else set()
    assert known <= on_disk
    for path in on_disk:
        assert verify_part(root, path) == ()


def resumed_cases(place: Place) -> int:
    """Return how many finished cases the last run took over, as its Prefect artifact says."""
    request = urllib.request.Request(
        f"{place.api}/artifacts/latest/filter",
        data=json.dumps({"artifacts": {"key": {"any_": ["parts"]}}}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        (artifact,) = json.load(answer)
    return sum(row["resumed"] for row in json.loads(artifact["data"]))


def wait_for(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST
    while not happened():
        assert process.poll() is None, "the run ended before the moment to kill it came"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_preprocess_killed_amid_a_part_goes_on_after_its_last_case(copy_of, calm, tmp_path):
    torn = copy_of(tmp_path)
    process = quietly(torn, "preprocess", "small-limb")
    wait_for(process, lambda: len(staged(torn.home / "store")) >= STAGED)
    kill_group(process, torn)
    finished = len(staged(torn.home / "store"))
    assert finished >= STAGED
    assert committed_parts(str(torn.home / "store")) == ()
    check_nothing_half_done_is_visible(torn)
    torn.radloop("preprocess", "small-limb").ok()
    assert resumed_cases(torn) == finished
    assert store_digest(str(torn.home / "store")) == store_digest(str(calm.home / "store"))
    check_nothing_half_done_is_visible(torn)
    assert not staged(torn.home / "store")
    again = torn.radloop("preprocess", "small-limb").ok()
    assert again.out.startswith("0 cases in 0 parts")


@pytest.mark.slow
def test_a_preprocess_killed_at_ten_random_moments_ends_in_the_same_store(copy_of, calm, tmp_path):
    begun = time.monotonic()
    rehearsal = copy_of(tmp_path / "rehearsal")
    rehearsal.radloop("preprocess", "small-limb").ok()
    whole = time.monotonic() - begun
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    torn = copy_of(tmp_path / "torn")
    kills = 0
    while kills < KILLS:
        process = quietly(torn, "preprocess", "small-limb")
        try:
            process.wait(draw.uniform(0.1, 1.0) * whole)
        except subprocess.TimeoutExpired:
            kill_group(process, torn)
            kills += 1
        check_nothing_half_done_is_visible(torn)
        if process.returncode == 0:
            # It was done before the kill came: the next kills hit a store that is complete.
            assert store_digest(str(torn.home / "store")) == store_digest(str(calm.home / "store"))
            shutil.rmtree(torn.folder)
            torn = copy_of(tmp_path / "torn")
            kills += 1
    torn.radloop("preprocess", "small-limb").ok()
    assert store_digest(str(torn.home / "store")) == store_digest(str(calm.home / "store"))
    assert not staged(torn.home / "store")


def trainings(place: Place) -> list:
    names = load_names(data_folder("mlflow") / "names.yaml")
    tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", "small-limb", names)
    return search(tracker, "tags.kind = 'training'")


def weights(place: Place) -> bytes:
    (path,) = (place.home / "artifacts").rglob("model/weights.safetensors")
    return path.read_bytes()


@pytest.mark.slow
def test_a_training_killed_amid_its_epochs_ends_with_one_parent_run(copy_of, calm, tmp_path):
    torn = Place(tmp_path, calm.api)
    shutil.copytree(calm.home, torn.home)
    process = quietly(torn, "train", "small-limb")
    training = torn.home / "training"
    wait_for(process, lambda: any(training.rglob("fold0/checkpoint.safetensors")))
    kill_group(process, torn)
    (begun,) = trainings(torn)
    assert begun.info.status == "RUNNING"
    torn.radloop("train", "small-limb").ok()
    (ended,) = trainings(torn)
    assert ended.info.run_id == begun.info.run_id
    assert ended.info.status == "FINISHED"
    assert ended.data.tags["gate_verdict"]
    assert not list(training.rglob("checkpoint.safetensors"))


@pytest.mark.slow
def test_a_killed_training_ends_in_the_very_weights_of_an_undisturbed_one(copy_of, calm, tmp_path):
    torn, whole = (Place(tmp_path / name, calm.api) for name in ("torn", "whole"))
    for place in (torn, whole):
        shutil.copytree(calm.home, place.home)
    whole.radloop("train", "small-limb").ok()
    process = quietly(torn, "train", "small-limb")
    wait_for(process, lambda: any((torn.home / "training").rglob("fold*/checkpoint.safetensors")))
    kill_group(process, torn)
    torn.radloop("train", "small-limb").ok()
    assert weights(torn) == weights(whole)
