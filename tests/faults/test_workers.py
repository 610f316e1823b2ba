"""A worker killed every few seconds: each part ends whole, and no finished case is made twice."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from threading import Event, Thread

import dask
import pytest
from distributed import Client, as_completed
from distributed.scheduler import KilledWorker

from flows.runners import DASK_CONFIG, local_cluster
from flows.settings import Settings
from tasks.store.schema import part_id
from tasks.store.verify import committed_parts, store_digest, verify_part
from tasks.store.write import write_part
from tests.store.making import RECIPE, case_name, prepared

EVERY = 5
MOST_KILLS = 12
"""On a machine so busy that a worker hardly starts within five seconds nothing would ever end."""

PARTS = 6
CASES = 30
CASE_SECONDS = 0.25
"""So long takes a case: a part takes longer than a worker lives."""

WAIT = 120

GIVEN_UP = 35
"""Seconds of killing; Dask by itself gives a worker up 15 s after one of its deaths."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _make(root: str, number: int, pause: float) -> str:
    """Make one part of several (runs on the worker)."""
    names = [case_name(number * CASES + case) for case in range(CASES)]

    def produce(case_id: str):
        time.sleep(pause)
        made = prepared(case_id)
        with (Path(root) / "log").open("a") as stream:
            stream.write(case_id + "\n")
        return made

    record = write_part(
        root, part_id(names, RECIPE, "image"), "image", RECIPE, names, produce, dtype="float32"
    )
    assert record.failures == ()
    return record.digest


def test_parts_whose_workers_are_killed_every_five_seconds_are_all_made_once(tmp_path):
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    for root in (calm, torn):
        root.mkdir()
    digests = [_make(str(calm), number, 0) for number in range(PARTS)]
    settings = Settings(home=tmp_path / "home", workers=2, gpus=0)
    with (
        dask.config.set(DASK_CONFIG),
        local_cluster(settings, gpus=[]) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=WAIT)
        with _killing(client) as kills:
            made = _until_done(client, str(torn))
    print(f"{len(kills)} workers killed")
    assert len(kills) >= 3
    assert made == digests
    assert store_digest(str(torn)) == store_digest(str(calm))
    for path in committed_parts(str(torn)):
        assert verify_part(str(torn), path) == ()
    produced = Counter((torn / "log").read_text().split())
    assert set(produced) == {case_name(number) for number in range(PARTS * CASES)}
    # Only a case that was produced and not yet staged when its worker died is made again.
    assert produced.total() <= PARTS * CASES + len(kills)
    # Dask makes a finished part's result anew when its worker dies, and the end of the cluster may
    # cut that short: a lock may be left, which nobody holds, and no case.
    left = {path.name for path in (torn / "staging").rglob("*") if path.is_file()}
    assert left <= {"lock"}


def test_a_worker_that_is_killed_as_often_as_it_comes_back_is_never_given_up(tmp_path):
    settings = Settings(home=tmp_path / "home", workers=1, gpus=0)
    with (
        dask.config.set(DASK_CONFIG),
        local_cluster(settings, gpus=[]) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1, timeout=WAIT)
        killed, stop = 0, time.monotonic() + GIVEN_UP
        while time.monotonic() < stop:
            for pid in client.run(os.getpid, on_error="ignore").values():
                os.kill(pid, signal.SIGKILL)
                killed += 1
            time.sleep(0.2)
        assert killed >= 2
        assert client.submit(os.getpid, pure=False).result(timeout=WAIT) > 1


def _until_done(client: Client, root: str) -> list[str]:
    """Submit what is not made until all is, as running the command again does."""
    made: dict[int, str] = {}
    while len(made) < PARTS:
        futures = {
            client.submit(_make, root, number, CASE_SECONDS, pure=False): number
            for number in range(PARTS)
            if number not in made
        }
        for future in as_completed(futures):
            try:
                made[futures[future]] = future.result()
            except KilledWorker:
                # Dask gives a task up whose worker died four times; its staged cases are kept.
                continue
    return [made[number] for number in range(PARTS)]


class _killing:  # noqa: N801 (reads as a word where it is used)
    """Kill one of the workers every few seconds while the block runs."""

    def __init__(self, client: Client) -> None:
        self._client, self._done, self.killed = client, Event(), []
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> list[int]:
        self._thread.start()
        return self.killed

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=WAIT)

    def _run(self) -> None:
        while len(self.killed) < MOST_KILLS and not self._done.wait(EVERY):
            alive = sorted(self._client.run(os.getpid, on_error="ignore").values())
            if alive:
                victim = random.choice(alive)
                os.kill(victim, signal.SIGKILL)
                self.killed.append(victim)
