"""A case that takes more memory than its worker has costs itself, and neither worker nor part."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client

from flows.runners import DASK_CONFIG, bounded_memory, local_cluster
from flows.settings import Settings
from tasks.store.verify import verify_part
from tasks.store.write import PartRecord, Prepared
from tests.store.making import case_name, prepared, write

LIMIT = 1 << 30
WAIT = 120
CASES = 4
GIANT = case_name(2)

pytestmark = pytest.mark.timeout(300)


class Small(Settings):
    """Settings of a machine whose workers have one gigabyte."""

    @property
    def worker_memory(self) -> int:
        """Bytes of memory a local worker may use."""
        return LIMIT


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    settings = Small(home=tmp_path / "home", workers=1, gpus=0)
    with (
        dask.config.set(DASK_CONFIG),
        local_cluster(settings, gpus=[]) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1, timeout=WAIT)
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


def test_outside_a_worker_nothing_is_bounded():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounded_memory():
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
