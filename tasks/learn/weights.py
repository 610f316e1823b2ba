"""Weights from a file of the user's: what in it fits a network, and why not, where it does not.

Nothing is downloaded.  A file is safetensors, or a torch state dict that is read with
``weights_only``, so that nothing in it can run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import RadloopError
from tasks.hashing import sha256_file

if TYPE_CHECKING:
    from torch import Tensor, nn

FOLDER = "weights"
"""Below the home: where a file is looked for that a scenario names without a folder."""

_OLD_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)")
"""How published DenseNet files write ``norm1``: ``norm.1`` (torchvision renames them too)."""

_OWN_PREFIXES = ("", "trunk.", "net.", "net.trunk.")
"""Where the networks of :mod:`tasks.learn.classifiers` hold what public files have on top."""

_STEMS = ("conv1.weight", "features.conv0.weight", "blocks.0.0.weight")
"""First convolutions, the only tensors whose number of input channels is made to fit."""

_COUNTER = "num_batches_tracked"
"""Counts batches, changes no answer, and older files lack it."""


@dataclass(frozen=True)
class Fit:
    """What of a file went into a network."""

    matched: int
    wanted: int
    unused: tuple[str, ...]
    """Names of the file that have no place in the network, such as its own head."""
    channels: tuple[int, int] | None
    """Input channels of the file's first layer and of the network's, where they differ."""

    @property
    def sentence(self) -> str:
        """Say it to a person."""
        said = f"{self.matched} of {self.wanted} tensors taken, the head starts anew"
        if self.channels:
            said += f"; first layer made {self.channels[1]} of {self.channels[0]} channels"
        if self.unused:
            said += f"; {len(self.unused)} of the file not used, e.g. {self.unused[0]}"
        return said


def find_weights(named: str, home: Path) -> Path:
    """Return the file a scenario's ``weights`` means.

    Parameters
    ----------
    named : str
        An absolute path, or one below the folder ``weights`` of the home.
    home : Path

    Raises
    ------
    RadloopError
        When it is not there; the message says where to put it.
    """
    path = home / FOLDER / named
    if not path.is_file():
        raise RadloopError(
            f"weights {named!r} are not at {path}: put the file there (nothing is downloaded), "
            "or name it with its full path"
        )
    return path


def read_state(path: Path) -> dict[str, "Tensor"]:
    """Return the tensors of a safetensors file or of a torch state dict.

    A state dict may lie one level down, as in ``{"state_dict": ...}``.

    Raises
    ------
    ValueError
        When it is neither.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path.name} is neither safetensors nor a plain torch state dict; write it with "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    for one in (found, *(found.values() if isinstance(found, Mapping) else ())):
        tensors = {n: t for n, t in one.items() if torch.is_tensor(t)} if _named(one) else {}
        if tensors:
            return tensors
    raise ValueError(f"{path.name} holds no tensors with names; write a state dict")


def _named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def load_weights(network: "nn.Module", path: Path, sha256: str | None = None) -> Fit:
    """Put a file's weights into a classifier; all but its head must be found.

    Names are compared after the prefixes under which the most of them agree, such as ``module.``
    of a network trained on several GPUs.

    Parameters
    ----------
    network : Classifier
    path : Path
    sha256 : str, optional
        What the file must be.

    Raises
    ------
    ValueError
        When it is another file, or does not fit: how many tensors did, and the first that did not.
    """
    if sha256 is not None and sha256_file(path) != sha256:
        raise ValueError(f"{path.name} has another SHA-256 than {sha256[:12]}: put the file back")
    state = {_renamed(name): tensor for name, tensor in read_state(path).items()}
    own = network.state_dict()
    parts = {id(t) for part in network.parts for t in part.state_dict(keep_vars=True).values()}
    wanted = [n for n, t in network.state_dict(keep_vars=True).items() if id(t) in parts]
    ours, theirs = _prefixes(wanted, state)
    there = {name: theirs + name.removeprefix(ours) for name in wanted}
    taken, channels, wrong = {}, None, []
    for name in wanted:
        tensor = state.get(there[name])
        if tensor is None:
            if not name.endswith(_COUNTER):
                wrong.append(f"{there[name]} is not in the file")
            continue
        want = own[name].shape
        if name.removeprefix(ours) in _STEMS and tensor.shape[1] != want[1]:
            channels = (tensor.shape[1], want[1])
            tensor = for_channels(tensor, want[1])
        if tensor.shape != want:
            wrong.append(f"{there[name]} is {tuple(tensor.shape)}, the network's {tuple(want)}")
            continue
        taken[name] = tensor
    counted = [name for name in wanted if not name.endswith(_COUNTER)]
    matched = sum(not name.endswith(_COUNTER) for name in taken)
    if wrong:
        raise ValueError(
            f"{path.name} does not fit: {matched} of {len(counted)} tensors do, the first that "
            f"does not: {wrong[0]}"
        )
    network.load_state_dict(own | taken)
    used = set(there.values())
    unused = tuple(sorted(name for name in state if name not in used))
    return Fit(matched, len(counted), unused, channels)


def for_channels(weight: "Tensor", channels: int) -> "Tensor":
    """Return a first convolution (o, i, ...) for another number of input channels.

    One channel gets the sum over the old ones, so that a grey image gives what it gave as three
    equal channels; several get the old ones in turn, scaled to keep the sum (timm).
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    old = weight.shape[1]
    return weight[:, [i % old for i in range(channels)]] * (old / channels)


def _renamed(name: str) -> str:
    found = _OLD_DENSE.fullmatch(name)
    return found[1] + found[2] if found else name


def _prefixes(wanted: list[str], state: Mapping[str, Any]) -> tuple[str, str]:
    """Return the network's and the file's prefix after which the most names agree."""
    pieces = [name.split(".") for name in state]
    theirs = {"".join(f"{w}." for w in words[:n]) for words in pieces for n in range(len(words))}
    bare = {
        ours: [n.removeprefix(ours) for n in wanted]
        for ours in _OWN_PREFIXES
        if all(n.startswith(ours) for n in wanted)
    }
    pairs = [(a, b) for a in bare for b in sorted(theirs, key=lambda p: (len(p), p))]
    return max(pairs, key=lambda pair: sum(pair[1] + name in state for name in bare[pair[0]]))
