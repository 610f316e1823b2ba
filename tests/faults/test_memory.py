"""A case that takes more memory than its worker has costs itself, and neither worker nor part."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client

from flows.runners import DASK_CONFIG, bounded_memory, local_cluster
from flows.settings import Settings
from tasks.phantom.ct import write_ct_series
from tasks.phantom.write import MARK
from tasks.store.verify import verify_part
from tasks.store.write import PartRecord, Prepared
from tests.flows.running import Place
from tests.store.making import case_name, prepared, write

LIMIT = 1 << 30
WAIT = 120
CASES = 4
GIANT = case_name(2)

pytestmark = pytest.mark.timeout(300)


class Sized(Settings):
    """Settings of a machine whose workers have so much memory."""

    memory: int

    @property
    def worker_memory(self) -> int:
        """Bytes of memory a local worker may use."""
        return self.memory


@contextmanager
def worker_of(folder: Path, memory: int) -> Iterator[Client]:
    """Start one worker of so many bytes."""
    settings = Sized(home=folder, workers=1, gpus=0, memory=memory)
    with (
        dask.config.set(DASK_CONFIG),
        local_cluster(settings, gpus=[]) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1, timeout=WAIT)
        yield client


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    with worker_of(tmp_path / "home", LIMIT) as client:
        yield client


def _write(root: str, step: int) -> tuple[int, PartRecord]:
    """Write a part one case of which grows without end (runs on the worker)."""

    def produce(case_id: str) -> Prepared:
        held = []
        while case_id == GIANT:
            held.append(np.ones(step, np.uint8))
            assert len(held) * step < 8 * LIMIT, "nothing stopped it"
        return prepared(case_id)

    with bounded_memory():
        return os.getpid(), write(Path(root), CASES, None, produce)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(8 * LIMIT, id="at once"),
        pytest.param(16 << 20, id="by and by", marks=pytest.mark.slow),
    ],
)
def test_a_giant_case_becomes_a_quarantine_row_and_the_others_go_on(client, tmp_path, step):
    (before,) = client.run(os.getpid).values()
    worker, record = client.submit(_write, str(tmp_path), step).result(timeout=WAIT)
    assert [(case, reason) for case, reason, _ in record.failures] == [(GIANT, "out_of_memory")]
    assert record.case_ids == tuple(case_name(n) for n in range(CASES) if case_name(n) != GIANT)
    assert verify_part(str(tmp_path), record.path, record.digest) == ()
    # The nanny had no reason to end the worker.
    assert worker == before
    assert list(client.run(os.getpid).values()) == [before]


@pytest.mark.slow
def test_a_worker_gets_its_memory_back_after_the_case(client, tmp_path):
    client.submit(_write, str(tmp_path), 16 << 20).result(timeout=WAIT)
    assert client.submit(_hold_half).result(timeout=WAIT) == LIMIT // 2


def _hold_half() -> int:
    with bounded_memory():
        return np.ones(LIMIT // 2, np.uint8).nbytes


@dataclass(frozen=True)
class Lent(Place):
    """A place whose work is done by a scheduler that is given."""

    scheduler: str = ""

    def environment(self) -> dict[str, str]:
        """Return the environment with the scheduler's address."""
        key = {"RADLOOP_WORKER_KEY": "5a" * 32}
        return super().environment() | key | {"RADLOOP_DASK_ADDRESS": self.scheduler}


STACKS = """\
name: stacks
title: Synthetic stacks of unequal size
task: classification
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Drawn by a program.
cohort: {kind: dicom, modality: CT}
labels: {format: table, file: labels.csv, join: patient, column: target, classes: [a, b]}
recipe: [{step: clip, low: -1000, high: 1000}, {step: resample, spacing: [5, 1.4, 1.4]}]
split: {source: keyed, test: 0.25, folds: 2, key: public, strata: []}
candidates: [{name: small-cnn, kind: network, network: small_cnn, epochs: 1}]
evaluate: {primary: auroc}
"""

LARGE = (56, 512, 512)
"""Resampling is planned for four times the voxels, 1.2 GB in all; really it needs half of it."""


@pytest.mark.slow
def test_a_case_projected_too_large_is_set_aside_and_made_by_larger_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("RADLOOP_WORKER_KEY", "5a" * 32)
    archive = tmp_path / "archive"
    labels = ["patient,target"]
    for number in range(12):
        shape = LARGE if number == 7 else (8, 32, 40)
        write_ct_series(archive / f"{number}", shape=shape, seed=number)
        labels.append(f"{MARK}-STACK{number},{'ab'[number % 2]}")
    (archive / "labels.csv").write_text("\n".join(labels) + "\n")
    scenario = tmp_path / "stacks.yaml"
    scenario.write_text(STACKS)
    place = Place(tmp_path)
    place.radloop("ingest", archive, "--labels-of", scenario).ok()
    # Tasks find the home of the command in their worker's environment.
    monkeypatch.setenv("RADLOOP_HOME", str(tmp_path / "home"))
    seen = []
    try:
        for memory in (LIMIT, 4 * LIMIT):
            with worker_of(tmp_path / "workers", memory) as client:
                place = Lent(tmp_path, scheduler=client.cluster.scheduler_address)
                seen.append(place.radloop("preprocess", "stacks").ok())
            seen.append(place.radloop("quarantine", "--json").ok().document)
        assert "2 parts read back, 0 problems" in place.radloop("verify").ok().out
    finally:
        place.radloop("ui", "--stop").ok()
    first, aside, second, nothing = seen
    assert "11 cases in 1 parts, 1 quarantined" in first.out
    assert "1 case set aside: 1." in first.err
    assert [(row["reason"], row["n"]) for row in aside] == [("too_large_for_workers", 1)]
    assert "1 cases in 1 parts, 0 quarantined" in second.out
    assert nothing == []


def test_outside_a_worker_nothing_is_bounded():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounded_memory():
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
