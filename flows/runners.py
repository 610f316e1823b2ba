"""Where tasks run: a Dask cluster of our own or a scheduler that is given.

The same code runs on local processes and on workers of other hosts, SLURM and Kubernetes; only the
files in ``infra/dask`` differ.
"""

import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import dask
import distributed.utils
import psutil
from distributed import Client, Nanny, Scheduler, SpecCluster, get_worker
from prefect_dask import DaskTaskRunner

from flows.settings import Settings, visible_gpus
from flows.worker_start import ALLOCATOR, ONE_THREAD, start_method
from tasks.errors import RadloopError

DASK_CONFIG = {
    # Must stand in the environment before the worker starts. Prefect tells its makers of each use.
    "distributed.nanny.pre-spawn-environ": {**ONE_THREAD, **ALLOCATOR, "DO_NOT_TRACK": "true"},
    # A DataLoader or a decoder child inside a daemonic worker dies with an AssertionError.
    "distributed.worker.daemon": False,
    # Without a dashboard Dask still serves logs and call stacks, in clear and to everybody.
    "distributed.scheduler.http.routes": ["distributed.http.health"],
    "distributed.worker.http.routes": ["distributed.http.health"],
    "distributed.comm.timeouts.connect": "60s",
    # By default every event loop is looked at 50 times a second, every worker's stack 100 times,
    # its memory 10 times, its disks twice: an eighth of a core for two idle workers, here 1.7 %.
    "distributed.admin.tick.interval": "5s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.scheduler.work-stealing-interval": "1s",
    # Tasks return a few kilobytes: there is nothing to move between workers.
    "distributed.scheduler.active-memory-manager.start": False,
    # After 15 s, as it is, a local cluster lets go of a worker for good, though its nanny is about
    # to bring it back: on a busy machine, or killed twice, none would be left and a run would hang.
    "distributed.deploy.lost-worker-timeout": "7 days",
}
"""Also in ``infra/dask/radloop.yaml``, for schedulers and workers that are started elsewhere."""

HEARTBEAT_S = 5.0
"""Between two signs of life of a local worker. One that is gone is noticed at once, by its closed
connection; after five minutes without a sign Dask takes a worker for stuck."""

MEMORY_SHARE = 0.9
"""Of its memory limit a worker may fill so much: the nanny ends a worker that reaches 0.95, and a
case that ends its worker would take the part with it, again and again."""

_LOOPBACK = "127.0.0.1"
_address: ContextVar[str | None] = ContextVar("dask_address", default=None)
_log = logging.getLogger(__name__)


@contextmanager
def workers(settings: Settings) -> Iterator[str]:
    """Give the address of the Dask scheduler to use, starting local workers when none is set.

    Flows that call flows share the workers of the outermost one.

    Yields
    ------
    str
        Scheduler address for :func:`runner`.
    """
    address = _address.get() or settings.dask_address
    if address:
        yield address
        return
    # A host whose Dask settings ask for TLS may run workers of its own: they stay on loopback.
    ours = {
        **DASK_CONFIG,
        "distributed.comm.require-encryption": False,
        "distributed.worker.multiprocessing-method": start_method(),
    }
    with dask.config.set(ours), local_cluster(settings) as cluster:
        token = _address.set(cluster.scheduler_address)
        try:
            yield cluster.scheduler_address
        finally:
            _address.reset(token)


def local_cluster(settings: Settings, gpus: list[str] | None = None) -> SpecCluster:
    """Start one scheduler and its workers on loopback.

    A host with N GPUs runs N workers, each seeing its own device and offering ``GPU=1``; with
    ``settings.gpus_per_fold`` each sees so many, and a fold shares its batches out to them. Without
    a GPU one worker a core.

    Parameters
    ----------
    settings : Settings
    gpus : list of str, optional
        Devices as ``CUDA_VISIBLE_DEVICES`` names them; by default all that CUDA shows, as far as
        ``settings.gpus`` allows.
    """
    devices = visible_gpus() if gpus is None else gpus
    devices = devices if settings.gpus < 0 else devices[: settings.gpus]
    each = settings.gpus_per_fold
    groups = [",".join(devices[n : n + each]) for n in range(0, len(devices), each)]
    specs = {}
    for number in range(max(len(groups), settings.n_workers)):
        device = groups[number] if number < len(groups) else None
        specs[number] = {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "host": _LOOPBACK,
                "dashboard": False,
                "dashboard_address": f"{_LOOPBACK}:0",
                "memory_limit": settings.worker_memory,
                "local_directory": str(settings.home / "dask"),
                # A worker that offers no GPU must not use one behind the back of the one that does.
                "env": ONE_THREAD | {"CUDA_VISIBLE_DEVICES": device or ""},
                "resources": {} if device is None else {"GPU": 1},
                "silence_logs": logging.ERROR,
            },
        }
    scheduler = {
        "cls": _Scheduler,
        "options": {"host": _LOOPBACK, "dashboard": False, "dashboard_address": f"{_LOOPBACK}:0"},
    }
    return SpecCluster(
        scheduler=scheduler,
        workers=specs,
        silence_logs=logging.ERROR,
        # What Dask's widgets would show; asked of the scheduler every second by default.
        scheduler_sync_interval=60,
    )


class _Scheduler(Scheduler):
    """Dask's scheduler, which lets its workers be: they report twice a second whatever they do."""

    def heartbeat_worker(self, *words: Any, **options: Any) -> dict[str, Any]:
        """Answer a worker's sign of life with when the next is wanted."""
        answer = super().heartbeat_worker(*words, **options)
        if "heartbeat-interval" in answer:
            answer["heartbeat-interval"] = HEARTBEAT_S
        return answer


# Told to fork, Dask imports pandas and lz4 here for the workers, which have their imports already.
distributed.utils._forkserver_preload_set = True


def runner(address: str) -> DaskTaskRunner:
    """Return the task runner for a scheduler."""
    return DaskTaskRunner(address=address)


def offered(address: str) -> dict[str, float]:
    """Return what the workers of a scheduler offer together, e.g. ``{"GPU": 4.0}``."""
    with Client(address, set_as_default=False) as client:
        workers_seen = client.scheduler_info(n_workers=-1)["workers"].values()
    total: dict[str, float] = {}
    for worker in workers_seen:
        for name, amount in worker["resources"].items():
            total[name] = total.get(name, 0) + amount
    return total


def crew(address: str) -> tuple[int, int]:
    """Return how many threads the workers of a scheduler have, and the bytes of the smallest.

    Raises
    ------
    RadloopError
        When the scheduler has no worker, since work would wait for ever.
    """
    with Client(address, set_as_default=False) as client:
        found = list(client.scheduler_info(n_workers=-1)["workers"].values())
    limits = [worker["memory_limit"] for worker in found]
    if not limits:
        msg = (
            f"the Dask scheduler at {address} has no worker; start one with `dask worker {address}`"
        )
        raise RadloopError(msg)
    # A worker without a limit says 0.
    stated = [limit for limit in limits if limit] or [0]
    return sum(worker["nthreads"] for worker in found), min(stated)


def need_resource(address: str, name: str, amount: float = 1) -> dict[str, float]:
    """Return a resource request that some worker can meet.

    Raises
    ------
    RadloopError
        When no worker offers it: Dask itself would leave the task pending for ever.
    """
    have = offered(address)
    if have.get(name, 0) < amount:
        msg = (
            f"no Dask worker offers {name}={amount:g} (all together: {have or 'nothing'}); "
            f'start one with --resources "{name}={amount:g}" or take the resource off the scenario'
        )
        raise RadloopError(msg)
    return {name: amount}


@contextmanager
def listening(address: str, topic: str, hear: Callable[[Any], None]) -> Iterator[None]:
    """Call ``hear`` with what workers say on a topic while the block runs.

    Workers say it with :func:`tell`. A word may be lost when a worker dies; what must not be lost
    is returned by the task.
    """

    def handler(event: tuple[float, Any]) -> None:
        hear(event[1])

    with Client(address, set_as_default=False) as client:
        client.subscribe_topic(topic, handler)
        yield
        client.unsubscribe_topic(topic)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let what asks for more memory than the worker has get a MemoryError while the block runs.

    Counts private memory (RLIMIT_DATA, getrlimit(2)). Outside a Dask worker, and in one without a
    limit, nothing is bounded.
    """
    try:
        limit = get_worker().memory_manager.memory_limit
    except ValueError:
        limit = None
    if not limit:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    process = psutil.Process().memory_info()
    most = process.data + max(int(MEMORY_SHARE * limit) - process.rss, 0)
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def tell(topic: str, word: Any) -> None:
    """Say something to whoever listens; does nothing outside a Dask worker."""
    try:
        get_worker().log_event(topic, word)
    except ValueError:
        return
