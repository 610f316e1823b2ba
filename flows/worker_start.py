"""How local workers start: forked from one process that has imported what their tasks need.

Importing the engines takes four seconds of a core. Done once, and while the coordinator imports
them too, the first part begins sooner, the workers share that memory, and one that was killed is
back at once.
"""

from multiprocessing import forkserver

from flows.settings import child_environment, set_for_children

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "BLOSC_NTHREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}
"""One compute thread a worker: workers share the cores, pools inside them would fight."""

ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""What glibc keeps for the next tensor (mallopt(3)). Dask's default gives 64 KiB back at once,
so that each training step faults its memory in anew: an epoch took twice as long."""

IMPORTED = ["flows.preprocess"]
"""Imported before any worker is forked. It must start no thread: a fork would not copy it."""

_ENGINES = ("RADLOOP_", "PREFECT_", "MLFLOW_")
_under: dict[str, str] = {}


def start_method() -> str:
    """Begin what workers are forked from, unless it runs, and say how they are to be started.

    Returns
    -------
    str
        ``forkserver``; or ``spawn`` in a process that began it under other settings, since what is
        forked has the settings of then, and where it cannot be begun.
    """
    now = child_environment()
    wanted = {name: value for name, value in now.items() if name.startswith(_ENGINES)}
    if not _under:
        forkserver.set_forkserver_preload(IMPORTED)
        # Without the last, `tasks` and `flows` of the folder we stand in would be imported.
        with set_for_children(**ONE_THREAD, **ALLOCATOR, PYTHONSAFEPATH="1"):
            try:
                forkserver.ensure_running()
            except OSError:
                # A TMPDIR too long for the name of a socket (108 bytes, unix(7)), as clusters have.
                return "spawn"
        _under.update(wanted)
    return "forkserver" if _under == wanted else "spawn"
