"""Workers: one compute thread each, children allowed, a device each, gone and come back."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client

from flows.runners import (
    DASK_CONFIG,
    HEARTBEAT_S,
    ONE_THREAD,
    crew,
    local_cluster,
    need_resource,
    offered,
    workers,
)
from flows.settings import Settings
from tasks.errors import RadloopError
from tests.flows.servers import environment, python, wait_for

DEVICES = ["0", "GPU-1f2e", "2", "3"]
"""Four pretended devices, one named by UUID as CUDA also allows."""

WAIT = 120


def _environment() -> dict[str, Any]:
    """Return what this worker sees (runs on the worker)."""
    return {
        "pid": os.getpid(),
        "device": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": {name: os.environ.get(name) for name in ONE_THREAD},
        "daemon": multiprocessing.current_process().daemon,
        "setting": dask.config.get("distributed.worker.daemon"),
    }


def _blas_threads() -> int:
    """Return the widest pool a matrix product on this worker uses (runs on the worker)."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((64, 64)) @ np.ones((64, 64))
    return max(pool["num_threads"] for pool in threadpool_info())


def _pages_faulted() -> int:
    """Return the pages that a hundred megabytes, one after the other, cost (runs on the worker)."""
    import resource

    import numpy as np

    for _ in range(3):
        np.ones(1 << 17)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        np.ones(1 << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _square(value: int) -> int:
    return value * value


def _with_child(value: int) -> int:
    """Start a child process, as a DataLoader or a decoder does (runs on the worker)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_square, (value,))


def _die_once(marker: str) -> int:
    """Kill this worker the first time, answer the second (runs on the worker)."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A scheduler that somebody else runs, without a worker."""
    started = subprocess.Popen(
        [
            *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"),
            *("--port", "0", "--no-dashboard"),
            *("--scheduler-file", str(tmp_path / "scheduler.json")),
        ],
        stderr=subprocess.DEVNULL,
    )
    wait_for("the scheduler", (tmp_path / "scheduler.json").exists)
    time.sleep(0.2)
    try:
        yield json.loads((tmp_path / "scheduler.json").read_text())["address"]
    finally:
        started.terminate()
        started.wait(timeout=30)


# Before the module's own cluster stands, since inner flows would use that one.
def test_a_given_scheduler_is_used_and_one_without_workers_is_refused(
    scheduler: str, tmp_path: Path
) -> None:
    with workers(Settings(home=tmp_path, dask_address=scheduler)) as address:
        assert address == scheduler
        with pytest.raises(RadloopError, match=r"has no worker; start one with `dask worker"):
            crew(address)
    # It is not ours: it runs on.
    assert offered(scheduler) == {}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, str]]:
    """Our own local workers, as flows get them: two, without a device."""
    settings = Settings(home=tmp_path_factory.mktemp("cluster"), workers=2, gpus=0)
    with workers(settings) as address:
        yield settings, address


def test_a_task_can_start_a_child_process(cluster: Any) -> None:
    with Client(cluster[1]) as client:
        seen = client.run(_environment)
        assert len(seen) == 2
        assert not any(one["daemon"] for one in seen.values())
        assert client.submit(_with_child, 7).result(timeout=WAIT) == 49


def test_each_worker_computes_on_one_thread(cluster: Any) -> None:
    with Client(cluster[1]) as client:
        info = client.scheduler_info(n_workers=-1)["workers"].values()
        assert [worker["nthreads"] for worker in info] == [1, 1]
        for one in client.run(_environment).values():
            assert set(one["threads"].values()) == {"1"}
        assert set(client.run(_blas_threads).values()) == {1}


def test_a_worker_keeps_its_memory_for_the_next_tensor(cluster: Any) -> None:
    with Client(cluster[1]) as client:
        faulted = client.run(_pages_faulted).values()
    # Handed back and faulted in anew it would be 25,600 pages.
    assert max(faulted) < 2000


def test_the_threads_and_the_memory_limit_of_the_smallest_worker_are_read(cluster: Any) -> None:
    settings, address = cluster
    assert crew(address) == (2, settings.worker_memory)
    assert settings.worker_memory < 0.5 * _machine_memory()


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_workers_listen_on_loopback_only(cluster: Any) -> None:
    with Client(cluster[1]) as client:
        hosts = [w["host"] for w in client.scheduler_info(n_workers=-1)["workers"].values()]
    assert set(hosts) == {"127.0.0.1"}
    assert cluster[1].startswith("tcp://127.0.0.1:")


def _next_sign_s(dask_worker: Any) -> float:
    """Return the seconds until this worker's next sign of life (runs on the worker)."""
    return dask_worker.periodic_callbacks["heartbeat"].callback_time / 1000


def test_workers_say_that_they_live_as_seldom_as_we_ask(cluster: Any) -> None:
    with Client(cluster[1]) as client:
        wait_for(
            "a sign of life", lambda: set(client.run(_next_sign_s).values()) == {HEARTBEAT_S}, WAIT
        )


def test_flows_inside_a_flow_share_its_workers(cluster: Any) -> None:
    with workers(cluster[0]) as inner:
        assert inner == cluster[1]


def test_a_resource_that_nobody_offers_is_refused_with_a_sentence(cluster: Any) -> None:
    assert offered(cluster[1]) == {}
    with pytest.raises(RadloopError, match=r"no Dask worker offers GPU=1 .*--resources"):
        need_resource(cluster[1], "GPU")


def test_a_task_whose_worker_is_killed_is_run_again(cluster: Any, tmp_path: Path) -> None:
    with Client(cluster[1]) as client:
        before = {one["pid"] for one in client.run(_environment).values()}
        survivor = client.submit(_die_once, str(tmp_path / "died")).result(timeout=WAIT)
        assert (tmp_path / "died").exists()
        wait_for("the nanny's new worker", lambda: len(client.scheduler_info()["workers"]) == 2)
        after = {one["pid"] for one in client.run(_environment).values()}
    assert survivor in after
    assert len(before & after) == 1


def test_four_devices_make_four_workers_and_four_folds_run_on_them(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, workers=2)
    with (
        dask.config.set(DASK_CONFIG),
        local_cluster(settings, gpus=DEVICES) as four,
        Client(four) as client,
    ):
        client.wait_for_workers(4, timeout=WAIT)
        seen = client.run(_environment)
        assert sorted(one["device"] for one in seen.values()) == sorted(DEVICES)
        assert offered(four.scheduler_address) == {"GPU": 4.0}
        assert need_resource(four.scheduler_address, "GPU", 4) == {"GPU": 4}
        # Longer than a worker needs to take the next, so that one could not do another's.
        want = need_resource(four.scheduler_address, "GPU")
        folds = [client.submit(_device_of, fold, resources=want) for fold in range(4)]
        assert sorted(client.gather(folds)) == sorted(DEVICES)


def _device_of(fold: int) -> str:
    """Hold this worker's device for a while (runs on the worker)."""
    time.sleep(2)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_folds_of_a_flow_run_on_four_devices(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "cluster", workers=2)
    with dask.config.set(DASK_CONFIG), local_cluster(settings, gpus=DEVICES) as four:
        used = python(
            environment(tmp_path / "home"), FOLDS_FLOW.format(address=four.scheduler_address)
        )
    assert sorted(used) == sorted(DEVICES)


FOLDS_FLOW = """
import json, os, time
from flows.settings import load_settings, prepare_environment, point_to_prefect
from flows.server import ensure_server, stop_server
settings = load_settings()
prepare_environment(settings)
server, _ = ensure_server(settings, "prefect")
point_to_prefect(server.url + "/api")
try:
    import dask
    from prefect import flow
    from flows.policy import task
    from flows.runners import runner

    def where(fold):
        import os, time
        # Long enough that no worker could take two folds while another one is idle.
        time.sleep(5)
        return os.environ["CUDA_VISIBLE_DEVICES"]

    fit = task(where, name="fold")

    @flow(name="folds", task_runner=runner("{address}"))
    def folds():
        with dask.annotate(resources={{"GPU": 1}}):
            futures = [fit.submit(fold) for fold in range(4)]
        return [future.result() for future in futures]

    print(json.dumps(folds()))
finally:
    stop_server(settings, "prefect")
"""


def test_as_many_devices_as_the_setting_allows_are_offered(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, workers=1, gpus=1)
    with local_cluster(settings, gpus=DEVICES) as one, Client(one) as client:
        client.wait_for_workers(1, timeout=WAIT)
        assert [w["device"] for w in client.run(_environment).values()] == DEVICES[:1]


def test_workers_of_several_devices_see_them_all(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, workers=1, gpus=2, gpus_per_fold=2)
    with local_cluster(settings, gpus=DEVICES) as one, Client(one) as client:
        client.wait_for_workers(1, timeout=WAIT)
        seen = client.run(_environment)
        assert [w["device"] for w in seen.values()] == [",".join(DEVICES[:2])]
        assert offered(one.scheduler_address) == {"GPU": 1}
