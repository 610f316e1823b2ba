"""The child of `tasks.archive.guard`: decodes what its parent puts into the shared memory.

Decoders of native code may crash, hang or ask for all memory here, and only here.
"""

import ctypes
import mmap
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np

from tasks.archive.codecs import decode_stream
from tasks.archive.wire import Answer, Request, put_answer, receive_request, wake
from tasks.errors import BadCase
from tasks.parent import end_with_parent

MEMORY_FACTOR = 6
"""Bytes a decoder may take for each decoded byte: OpenJPEG holds 32-bit planes and its tiles."""

MEMORY_FLOOR = 256 << 20
"""Bytes every decoder may take whatever the frame's size."""

KEPT_BYTES = 32 << 20
"""Memory of up to this size is kept from frame to frame, twice as much in all: given back, it comes
anew page by page, which costs an RLE slice as much time as its decoding."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""


def serve() -> None:
    """Be the child: decode what comes in until the pipe is closed."""
    memory = int(sys.argv[1])
    _confine()
    # What a native library prints must not get among the answers.
    asked, answers = sys.stdin.buffer.raw, os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import imagecodecs  # noqa: F401 (now, so that no frame pays for it)

    base, allowed = _address_space(), 0
    wake(answers)
    shared: mmap.mmap | None = None
    while True:
        try:
            request = receive_request(asked)
        except EOFError:
            return
        end = max(request.start + request.length, request.pixels + request.size)
        if shared is None or len(shared) < end:
            shared = mmap.mmap(memory, os.fstat(memory).st_size)
        spare = MEMORY_FLOOR + MEMORY_FACTOR * request.size + request.length
        if allowed != base + len(shared) + spare:
            allowed = base + len(shared) + spare
            resource.setrlimit(resource.RLIMIT_AS, (allowed, resource.RLIM_INFINITY))
        put_answer(shared, request, _answer(request, shared))
        if request.wake:
            wake(answers)


def _answer(request: Request, shared: mmap.mmap) -> Answer:
    syntax = request.syntax
    frame = np.frombuffer(shared, np.uint8, request.length, request.start)
    room = np.frombuffer(shared, np.uint8, request.size, request.pixels)
    try:
        found = decode_stream(syntax, frame, request.shape, request.bits, request.photometric, room)
    except BadCase as error:
        return Answer(bad=(error.reason, error.detail))
    except MemoryError:
        said = f"{syntax}: decoding wants more memory than the image has"
        return Answer(bad=("undecodable", said))
    except Exception as error:  # every codec has exceptions of its own
        return Answer(bad=("undecodable", f"{syntax}: decoder says {type(error).__name__}"))
    if found.nbytes > request.size or found.ndim not in (2, 3):
        said = f"{syntax} holds {found.shape} where {request.shape} was promised"
        return Answer(bad=("undecodable", said))
    if not (found.flags.c_contiguous and found.ctypes.data == room.ctypes.data):
        # It may share the room in another order, which the assignment copes with.
        there = room[: found.nbytes].view(found.dtype).reshape(found.shape)
        there[...] = found
    return Answer(found.dtype.str, found.shape)


def _confine() -> None:
    """Give up what a decoder does not need: writing files, core dumps, outliving its parent."""
    end_with_parent()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, 2 * KEPT_BYTES)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Ctrl-C goes to the whole group; the parent decides what becomes of the frame.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _address_space() -> int:
    """Return the bytes of address space this process has mapped (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
