"""Where the time of a part went: wall seconds by what was done, and core seconds in all."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("prepare", "stage", "assemble", "manifest", "publish")
"""What a part's time is spent on: reading and the recipe; a case into staging, of unequal images
with its shards read back; the metadata, of packed parts the shards read back; what is not hashed
yet; every file synced and the rename."""


class Stopwatch:
    """Adds up the seconds of one part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._wall, self._core = time.monotonic(), time.process_time()

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Count the block as time of a stage."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - begun

    @property
    def wall(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._wall

    @property
    def core(self) -> float:
        """Seconds of a core that this process used since the start; not those of its children."""
        return time.process_time() - self._core
