"""Batches read ahead by threads or by processes; who reads them never changes them."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

import torch
from torch.utils.data import DataLoader

from tasks.learn.dataset import ArrayCases
from tasks.learn.samples import READERS, Batch, Samples

START_METHOD = "forkserver"
"""How reading processes start: a fork of this one would copy torch's threads half-alive."""

AHEAD = 2
"""Batches that each process holds ready."""

Step = tuple[int, int, int]
"""Epoch, step and batch size: the number of a batch."""


class Loader:
    """Batches of any epoch, read ahead; to be closed, for its processes stay for all epochs.

    Parameters
    ----------
    samples : Samples
        For processes it is pickled once: with the store's parts as places and with the positions
        of the foreground (at most 64 MB), never with voxels.
    readers : int
        How many read ahead; 0 reads when asked. Cases held in memory are never read ahead.
    processes : bool
        Processes instead of threads. Worth it where several cores stand idle: a process needs
        some 400 MB and seconds to start.
    start_method : str
        Of processes, ``forkserver`` or ``spawn``.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        readers: int = READERS,
        processes: bool = False,
        start_method: str = START_METHOD,
    ) -> None:
        self._samples = samples
        self._readers = 0 if isinstance(samples.source, ArrayCases) else readers
        self._steps = _Steps()
        self._by_processes = None
        if processes and self._readers:
            self._by_processes = DataLoader(
                _ByNumber(samples),
                sampler=self._steps,
                batch_size=None,
                num_workers=self._readers,
                multiprocessing_context=start_method,
                persistent_workers=True,
                prefetch_factor=AHEAD,
                collate_fn=_unchanged,
                # Torch's own source of random numbers stays where it is: dropout draws from it.
                generator=torch.Generator(),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._by_processes = None

    def steps(self, batch: int) -> int:
        """Return the batches of an epoch."""
        return self._samples.steps(batch)

    def batches(self, epoch: int, batch: int, *, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``first`` on, in order.

        Raises
        ------
        StoreError, ValueError
            As :class:`~tasks.learn.samples.Samples`, whoever reads.
        RuntimeError
            When a reading process was killed.
        """
        if self._by_processes is None:
            yield from self._samples.batches(epoch, batch, readers=self._readers, first=first)
            return
        self._steps.numbers = [(epoch, step, batch) for step in range(first, self.steps(batch))]
        for found in self._answers(self._by_processes):
            if isinstance(found, Exception):
                raise found
            yield found

    def _answers(self, loader: DataLoader) -> Iterator[Batch | Exception]:
        try:
            yield from loader
        # Torch says so, or the pipe that carried a batch breaks first.
        except (RuntimeError, OSError, EOFError) as error:
            raise RuntimeError(
                f"one of {self._readers} reading processes was ended, perhaps for want of memory; "
                "train again with fewer: it goes on after its last epoch"
            ) from error


class _Steps:
    """Tells a loader's processes which batches to make in this epoch."""

    def __init__(self) -> None:
        self.numbers: list[Step] = []

    def __iter__(self) -> Iterator[Step]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class _ByNumber(torch.utils.data.Dataset):
    """Batches by number.  An error is an answer too: torch would print its trace and its paths."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, number: Step) -> Batch | Exception:
        try:
            return self._samples.batch(*number)
        except Exception as error:
            return error


def _unchanged(found: Batch | Exception) -> Batch | Exception:
    return found
