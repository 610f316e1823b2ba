"""State of a training on disk: one safetensors file, tensors and JSON header, renamed into place.

Nothing is pickled, so nothing can run when it is read. Being one file, tensors and record can
never be of different epochs, whenever the process is killed.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

_RECORD = "radloop"
"""Key of the JSON record in the header of the file."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Any = None) -> None:
    """Write tensors and a JSON-able record to one file, beside its place, then rename.

    Parameters
    ----------
    path : Path
    tensors : mapping of str to Tensor
        Moved to the CPU and made contiguous.
    record : JSON-able
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    data = save(plain, metadata={_RECORD: json.dumps(record, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors (on the CPU) and the record of :func:`write_tensors`."""
    with safe_open(path, framework="pt", device="cpu") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        record = json.loads((file.metadata() or {}).get(_RECORD, "null"))
    return tensors, record


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under ``prefix.``."""
    return {f"{prefix}.{name}": t for name, t in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that stand under ``prefix.``, by their names after it."""
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments and step counts as ``<parameter number>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": t for i, one in state.items() for name, t in one.items()}


def restore_optimizer(optimizer: optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` returned; settings stay the optimizer's own."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def restore_network(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load weights into a network, strictly.

    Raises
    ------
    ValueError
        If names or shapes are not the network's.
    """
    try:
        network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise ValueError(f"weights do not fit the planned network: {error}") from error
