"""Run a command as a process tree and say what the whole of it took: seconds, cores, memory.

Processes whose parent ended come to this one (Linux's "child subreaper"), so that workers, decoders
and a server that goes into the background are counted as well. Memory is the proportional set size,
summed over the tree: a page that processes share counts once.
"""

import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_S = 0.2
"""Between two looks at the memory: a peak that is shorter may be missed."""

_PR_SET_CHILD_SUBREAPER = 36
_TAIL_LINES = 15


@dataclass(frozen=True)
class Run:
    """What a command and everything it started took."""

    wall: float
    """Seconds by the clock."""
    core: float
    """Seconds of processors, user and system."""
    peak: float
    """Bytes of memory at the highest look."""
    code: int
    """Exit code; negative when a signal ended it."""
    said: str
    """Standard output and error."""

    @property
    def last(self) -> str:
        """The last lines of what it said."""
        return "\n".join(self.said.strip().splitlines()[-_TAIL_LINES:])


def watch(
    command: Sequence[str | Path],
    log: Path,
    env: Mapping[str, str] | None = None,
    kill_after: float | None = None,
) -> Run:
    """Run a command in a process group of its own, and kill the group after some seconds if asked.

    Parameters
    ----------
    command : sequence of str or Path
    log : Path
        File for what it says; made anew.
    env : mapping, optional
        Whole environment; by default this process's.
    kill_after : float, optional
        Seconds until SIGKILL goes to the whole group.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    peak, done = [0.0], threading.Event()
    before, begun = _spent(), time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        looking = threading.Thread(target=_look, args=(peak, done), daemon=True)
        looking.start()
        try:
            code = process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
    wall = time.monotonic() - begun
    done.set()
    looking.join()
    reap()
    return Run(wall, _spent() - before, peak[0], code, log.read_text(errors="replace"))


def reap(but: int = 0) -> None:
    """Take in children that ended after they had lost their parent; never the one named."""
    for child in psutil.Process().children():
        if child.pid != but:
            with suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


def _spent() -> float:
    """Return core seconds of all children there were and of those that still run."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


def _look(peak: list[float], done: threading.Event) -> None:
    while not done.wait(SAMPLE_S):
        peak[0] = max(peak[0], sum(map(_memory, psutil.Process().children(recursive=True))))


def _memory(process: psutil.Process) -> float:
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) * 1024
    return 0.0
