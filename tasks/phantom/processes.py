"""Patients drawn by several processes: each hangs on its own number alone, the bytes too."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

Drawn = TypeVar("Drawn")

FEWEST = 4
"""Patients a process must have to draw: it takes about a patient's time to start."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def draw_each(draw: Callable[[int], Drawn], patients: int, processes: int) -> list[Drawn]:
    """Return what is drawn of each patient, by number.

    Parameters
    ----------
    draw : callable
        Of a patient's number; a function of a module, or a partial of one.
    patients : int
    processes : int
        Most processes; 1 draws here.
    """
    processes = min(processes, patients // FEWEST)
    if processes < 2:
        return [draw(patient) for patient in range(patients)]
    # A fork would take locks along that threads of the servers' clients may hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, context, initializer=threadpool_limits, initargs=(1,)
    ) as pool:
        return list(pool.map(draw, range(patients)))
