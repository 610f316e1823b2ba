"""Compressed frames are decoded in a child process, where hostile input cannot hurt.

Decoders are native code: damaged streams make them crash, hang or ask for all memory, and no Python
signal interrupts them. So a long-lived child decodes, under limits on memory and time. Frames and
pixels pass through memory it shares with its parent, pixels first; the pipes carry sizes only. A
child that dies or hangs costs one case a quarantine row, and the next frame gets a new child.
"""

import atexit
import ctypes
import json
import mmap
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tasks.archive.codecs import decode_stream
from tasks.errors import BadCase

FRAME_SECONDS = 8.0
"""A frame may take so long at least: a 512 x 512 slice takes 25 ms by the slowest decoder."""

SLOWEST_BYTES_PER_SECOND = 2 << 20
"""Large frames may take longer: the slowest decoder makes 20 MB a second on an idle core."""

START_SECONDS = 60.0
"""Starting the child imports the codecs, which takes half a second on an idle machine."""

MEMORY_FACTOR = 6
"""Bytes a decoder may take for each decoded byte: OpenJPEG holds 32-bit planes and its tiles."""

MEMORY_FLOOR = 256 << 20
"""Bytes every decoder may take whatever the frame's size."""

_HEAD = struct.Struct("<I")
_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2): the kernel ends the child when its parent dies, hung or not."""


class Decoder:
    """The child and the memory shared with it; `decode` starts and replaces it as needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen | None = None
        self._owner = 0
        self._memory = -1
        self._shared: mmap.mmap | None = None

    def decode(
        self, syntax: str, frame: bytes, shape: tuple[int, int, int], bits: int, photometric: str
    ) -> np.ndarray:
        """Decode one frame in the child; as `tasks.archive.codecs.decode_stream`.

        Raises
        ------
        BadCase
            What the decoder says, ``decoder_died`` or ``decoder_hung``.
        """
        size = max(int(np.prod(shape)) * bits // 8, 1)
        asked = {
            "syntax": syntax,
            "shape": list(shape),
            "bits": bits,
            "photometric": photometric,
            "size": size,
            "length": len(frame),
        }
        limit = max(FRAME_SECONDS, size / SLOWEST_BYTES_PER_SECOND)
        with self._lock:
            answer = self._ask(asked, frame, limit)
            if answer is None:
                # The child may have been ended by others, e.g. when memory was short: once more.
                answer = self._ask(asked, frame, limit)
            if answer is None:
                raise BadCase("decoder_died", f"the decoder of {syntax} died on a frame, twice")
            if "bad" in answer:
                raise BadCase(*answer["bad"])
            dtype = np.dtype(answer["dtype"])
            count = int(np.prod(answer["shape"]))
            found = np.frombuffer(self._shared, dtype, count).reshape(answer["shape"])
            return found.copy()

    def close(self) -> None:
        """End the child and give its memory back."""
        child, self._child = self._child, None
        if child is None:
            return
        if self._owner == os.getpid():
            child.kill()
            child.wait()
        else:
            # A forked copy of its parent: the child is not ours to end, nor to wait for.
            child.returncode = 0
        child.stdin.close()
        child.stdout.close()
        self._shared = None
        os.close(self._memory)

    def _ask(self, asked: Mapping[str, Any], frame: bytes, limit: float) -> dict[str, Any] | None:
        """Return the child's answer, None when it died."""
        try:
            self._ensure()
            self._reserve(asked["size"] + len(frame))
            self._shared[asked["size"] : asked["size"] + len(frame)] = frame
            _send(self._child.stdin, asked)
        except (BrokenPipeError, EOFError):
            self.close()
            return None
        if not _ready(self._child.stdout, limit):
            self.close()
            raise BadCase(
                "decoder_hung",
                f"the decoder of {asked['syntax']} gave no answer within {limit:.0f} s",
            )
        try:
            answer = _receive(self._child.stdout)
        except EOFError:
            self.close()
            return None
        return answer

    def _ensure(self) -> None:
        """Start a child when there is none, it has died, or this process was forked since."""
        if self._owner == os.getpid() and self._child is not None and self._child.poll() is None:
            return
        self.close()
        self._owner = os.getpid()
        self._memory = os.memfd_create("radloop-pixels")
        # The package this very module came from, not whatever the working folder holds.
        root = str(Path(__file__).resolve().parents[2])
        program = f"import sys; sys.path.insert(0, {root!r}); from tasks.archive import guard"
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", f"{program}; guard.serve()", str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._memory,),
            bufsize=0,
        )
        if not _ready(self._child.stdout, START_SECONDS):
            self.close()
            raise BadCase("decoder_hung", f"the decoder did not start in {START_SECONDS:.0f} s")
        _receive(self._child.stdout)

    def _reserve(self, size: int) -> None:
        if self._shared is not None and len(self._shared) >= size:
            return
        os.ftruncate(self._memory, size)
        self._shared = mmap.mmap(self._memory, size)


_decoder = Decoder()
atexit.register(_decoder.close)


def _start_anew() -> None:
    # A fork copies the lock as it stands, perhaps held by a thread that the copy does not have.
    global _decoder
    _decoder.close()
    _decoder = Decoder()
    atexit.register(_decoder.close)


os.register_at_fork(after_in_child=_start_anew)


def decode_guarded(
    syntax: str, frame: bytes, shape: tuple[int, int, int], bits: int, photometric: str
) -> np.ndarray:
    """Decode one frame in this process's child; see `Decoder.decode`."""
    return _decoder.decode(syntax, frame, shape, bits, photometric)


def serve() -> None:
    """Be the child: decode what comes in until the pipe is closed."""
    memory = int(sys.argv[1])
    _confine()
    # What a native library prints must not get among the answers.
    asked, answers = sys.stdin.buffer.raw, os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import imagecodecs  # noqa: F401 (now, so that no frame pays for it)

    base = _address_space()
    _send(answers, {"ready": True})
    shared: mmap.mmap | None = None
    while True:
        try:
            request = _receive(asked)
        except EOFError:
            return
        size, end = request["size"], request["size"] + request["length"]
        if shared is None or len(shared) < end:
            shared = mmap.mmap(memory, os.fstat(memory).st_size)
        spare = MEMORY_FLOOR + MEMORY_FACTOR * size + request["length"]
        resource.setrlimit(resource.RLIMIT_AS, (base + len(shared) + spare, resource.RLIM_INFINITY))
        _send(answers, _answer(request, shared[size:end], shared))


def _answer(request: Mapping[str, Any], frame: bytes, shared: mmap.mmap) -> dict[str, Any]:
    syntax = request["syntax"]
    try:
        found = decode_stream(
            syntax, frame, tuple(request["shape"]), request["bits"], request["photometric"]
        )
    except BadCase as error:
        return {"bad": [error.reason, error.detail]}
    except MemoryError:
        return {"bad": ["undecodable", f"{syntax}: decoding wants more memory than the image has"]}
    except Exception as error:  # every codec has exceptions of its own
        return {"bad": ["undecodable", f"{syntax}: decoder says {type(error).__name__}"]}
    if found.nbytes > request["size"]:
        said = f"{syntax} holds {found.shape} where {tuple(request['shape'])} was promised"
        return {"bad": ["undecodable", said]}
    np.frombuffer(shared, found.dtype, found.size).reshape(found.shape)[...] = found
    return {"shape": list(found.shape), "dtype": found.dtype.str}


def _confine() -> None:
    """Give up what a decoder does not need: writing files, core dumps, outliving its parent."""
    ctypes.CDLL(None, use_errno=True).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Ctrl-C goes to the whole group; the parent decides what becomes of the frame.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _address_space() -> int:
    """Return the bytes of address space this process has mapped (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _send(pipe: BinaryIO, body: Mapping[str, Any]) -> None:
    text = json.dumps(body).encode()
    view = memoryview(_HEAD.pack(len(text)) + text)
    while view:
        view = view[pipe.write(view) :]


def _receive(pipe: BinaryIO) -> dict[str, Any]:
    (size,) = _HEAD.unpack(_exactly(pipe, _HEAD.size))
    return json.loads(_exactly(pipe, size))


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = pipe.readinto(view[at:])
        if not count:
            raise EOFError
        at += count
    return bytes(data)


def _ready(pipe: BinaryIO, seconds: float) -> bool:
    """Wait until the pipe has something to read, or its other end is closed."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            return True
    return False
