"""A child process that must not outlive its parent."""

import ctypes
import signal
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
"""Option of prctl(2)."""


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent dies, hung or not; Linux alone can."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
