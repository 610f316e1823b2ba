"""One fold on several devices of a host: a process a device, which share each batch (PyTorch DDP).

Every process draws its own samples of the same batch, the gradients are averaged, and so all hold
the same network.  The first alone validates, writes the checkpoint and tells the records.  Where
losses are means over samples the step is that of the whole batch on one device; Dice over a batch
is then the mean of the processes', as nnU-Net's is.  They meet through a file and talk over
loopback only.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing, nn

from tasks.parent import end_with_parent

PATIENCE = timedelta(hours=6)
"""How long the others wait for the first, which validates alone."""


@dataclass(frozen=True)
class Rank:
    """One of the processes that train a fold together; by default the only one."""

    number: int = 0
    of: int = 1

    @property
    def first(self) -> bool:
        """Whether this one validates, writes and tells."""
        return self.number == 0

    def spread(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return what is called in training: the network, or it with averaged gradients."""
        if self.of == 1:
            return network
        if device.type != "cuda":
            return nn.parallel.DistributedDataParallel(network)
        # Statistics of the whole batch; the CPU has no such layer and takes those of each share.
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return nn.parallel.DistributedDataParallel(network, device_ids=[device])

    def apart(self, called: nn.Module, alone: bool) -> AbstractContextManager[None]:
        """Return the context of a batch whose gradients are not averaged yet, where ``alone``."""
        return called.no_sync() if alone and self.of > 1 else nullcontext()

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return a number's mean over the processes."""
        if self.of > 1:
            distributed.all_reduce(value)
            value /= self.of
        return value

    def share(self, record: dict[str, Any] | None) -> dict[str, Any]:
        """Return the first one's record to all."""
        if self.of == 1:
            return record or {}
        told = [record]
        distributed.broadcast_object_list(told, device=torch.device("cpu"))
        return told[0]


ALONE = Rank()


def share_of(batch: int, devices: Sequence[str]) -> tuple[str, ...]:
    """Return the devices that a batch can be shared out to evenly, as many as can be."""
    many = next(n for n in range(min(batch, len(devices)), 0, -1) if batch % n == 0)
    return tuple(devices[:many])


def train_together(
    run: Callable[..., None],
    words: Mapping[str, Any],
    devices: Sequence[str],
    batch: int,
    tell: Callable[[dict[str, Any]], None],
) -> None:
    """Train in one process a device until all are done.

    Parameters
    ----------
    run : callable
        A function of a module, called in each process with its `Rank`, its device, the whole
        batch, ``tell`` and ``words``; only the first one's ``tell`` is heard.
    words : mapping
        Further arguments of it; pickled for the processes of ours.
    devices : sequence of str
    batch : int
        Of all devices together. Out of memory, all start again with half of it, from the last
        checkpoint.
    tell : callable
        Gets the records; those of a restart come once.

    Raises
    ------
    FloatingPointError, ValueError, RuntimeError
        As ``run`` raised it in any of them.
    torch.OutOfMemoryError
        With one sample a device.
    """
    told = 0

    def hear(record: dict[str, Any]) -> None:
        nonlocal told
        number = record.get("epoch", 0)
        if "note" in record or number > told:
            told = max(told, number)
            tell(record)

    while (error := _once(run, words, devices, batch, hear)) is not None:
        kind, text = error
        if kind != "OutOfMemoryError":
            raise _ERRORS.get(kind, RuntimeError)(text)
        if batch <= len(devices):
            raise torch.OutOfMemoryError(
                f"out of memory with one sample on each of {len(devices)} devices; "
                "lower gpu_memory_gb or patch"
            )
        half = max(batch // 2 // len(devices), 1) * len(devices)
        note = f"out of memory with a batch of {batch}: going on with {half}"
        tell({"epoch": told, "batch": half, "note": note})
        batch = half


_ERRORS = {kind.__name__: kind for kind in (FloatingPointError, ValueError)}


def _once(
    run: Callable[..., None],
    words: Mapping[str, Any],
    devices: Sequence[str],
    batch: int,
    hear: Callable[[dict[str, Any]], None],
) -> tuple[str, str] | None:
    """Run all processes to their end; return the kind and text of the first error."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="radloop-ranks-") as folder:
        meeting = f"file://{Path(folder) / 'meeting'}"
        processes, ears = [], []
        for number, device in enumerate(devices):
            ear, mouth = context.Pipe(duplex=False)
            said = (words, Rank(number, len(devices)), device, batch, meeting, mouth)
            processes.append(
                context.Process(target=_member, args=(run, *said, torch.get_num_threads()))
            )
            processes[-1].start()
            # The pipe ends when its last holder does: who is killed closes it too.
            mouth.close()
            ears.append(ear)
        try:
            error = _listen(ears, hear)
        except BaseException:
            error = ("", "")
            raise
        finally:
            for process in processes:
                if error is not None:
                    process.kill()  # the others wait for the one that failed
                process.join()
        if error == _CUT:
            ended = next((p.exitcode for p in processes if p.exitcode), None)
            return "RuntimeError", (
                f"one of {len(devices)} training processes was ended (exit code {ended}), perhaps "
                "for want of memory; train again: it goes on after its last epoch"
            )
        return error


_CUT = ("cut", "")


def _listen(
    ears: list[Connection], hear: Callable[[dict[str, Any]], None]
) -> tuple[str, str] | None:
    """Hear all out; return the first error."""
    open_ears = list(ears)
    while open_ears:
        for ear in wait(open_ears):
            try:
                what, said = ear.recv()
            except EOFError:
                return _CUT
            if what == "error":
                return said
            if what == "record":
                hear(said)
            else:
                open_ears.remove(ear)
    return None


def _member(
    run: Callable[..., None],
    words: dict[str, Any],
    rank: Rank,
    device: str,
    batch: int,
    meeting: str,
    mouth: Connection,
    threads: int,
) -> None:
    """Be one of the processes."""
    end_with_parent()  # so that no two trainings write one fold
    for library in ("GLOO", "NCCL"):
        os.putenv(f"{library}_SOCKET_IFNAME", "lo")  # read by them, not by Python
    torch.set_num_threads(threads)
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(
            backend, init_method=meeting, rank=rank.number, world_size=rank.of, timeout=PATIENCE
        )

        def tell(record: dict[str, Any]) -> None:
            if rank.first:
                mouth.send(("record", record))

        run(rank, where, batch, tell, **words)
        distributed.destroy_process_group()
        mouth.send(("done", None))
    except Exception as error:
        mouth.send(("error", (type(error).__name__, str(error))))
