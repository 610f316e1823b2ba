"""Read voxels of a committed part, each chunk checked; a missing one is an error, never zeros."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from tasks.errors import StoreError
from tasks.store.contents import Contents
from tasks.store.manifest import read_manifest
from tasks.store.places import place_of


@dataclass(frozen=True)
class CaseInfo:
    """What is known of a stored case.

    Parameters
    ----------
    affine : ndarray (4, 4)
        Maps index (z, y, x, 1) of the stored grid to LPS millimetres.
    traces : tuple of dict
        For replay and invert.
    certificate, facts : dict
    present : tuple of bool
        Which channels the case has, the others being zeros; empty where images have no channels.
    """

    affine: np.ndarray
    traces: tuple[dict, ...]
    certificate: dict
    facts: dict
    present: tuple[bool, ...] = ()


class Part:
    """A committed part, open for reading.

    Safe in threads and after a fork: no handle stays open and no thread runs.  Pickles as its
    place only, so a loader's child opens it anew.
    """

    def __init__(self, root: str, path: str, digest: str | None = None) -> None:
        self._origin = (str(root), str(path), digest)
        self._place = place_of(root, path)
        self._manifest = read_manifest(self._place, digest)
        self._contents = Contents(
            self._place,
            {name: facts["bytes"] for name, facts in self._manifest["files"].items()},
            tuple(self._manifest["cases"]),
            packed=self._manifest["fixed_shape"] is not None,
            metadata=self._checked,
        )
        self._infos = json.loads(self._checked("zarr.json"))["attributes"]["radloop"]["cases"]

    def __reduce__(self) -> tuple:
        return open_part, self._origin

    @property
    def part_id(self) -> str:
        """Id of the part."""
        return self._manifest["part_id"]

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return self._manifest["digest"]

    @property
    def dtype(self) -> str:
        """Type of the voxels of every case."""
        return self._manifest["dtype"]

    @property
    def fixed_shape(self) -> tuple[int, int, int] | None:
        """(z, y, x) of every case of a packed part, else None."""
        shape = self._manifest["fixed_shape"]
        return tuple(shape) if shape else None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels; empty where images are (z, y, x)."""
        return tuple(self._manifest.get("channels", ()))

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Cases in the part, sorted."""
        return tuple(self._manifest["cases"])

    @property
    def masked(self) -> bool:
        """Whether any case has a mask."""
        return bool(self._manifest["masks"])

    def shape(self, case_id: str) -> tuple[int, int, int]:
        """Return (z, y, x) of a case without reading it."""
        self._require(case_id)
        return self._contents.array(case_id).shape

    def info(self, case_id: str) -> CaseInfo:
        """Return what is known of a case."""
        self._require(case_id)
        info = self._infos[case_id]
        affine = np.array(info["affine"], dtype=np.float64)
        traces, present = tuple(info["traces"]), tuple(info.get("present", ()))
        return CaseInfo(affine, traces, info["certificate"], info["facts"], present)

    def read(self, case_id: str) -> np.ndarray:
        """Return a whole case ([c,] z, y, x).  Raises StoreError when it is damaged or not here."""
        self._require(case_id)
        return self._contents.image(case_id)

    def read_patch(
        self, case_id: str, start: tuple[int, int, int], stop: tuple[int, int, int]
    ) -> np.ndarray:
        """Return the box from index ``start`` to before ``stop`` (z, y, x), of every channel.

        Raises
        ------
        ValueError
            When the box is empty or leaves the image: pad it after reading.
        StoreError
            When a chunk it touches is damaged, or the case is not here.
        """
        self._require_box(case_id, start, stop)
        return self._contents.image(case_id, tuple(start), tuple(stop))

    def boxes(self, case_id: str) -> tuple[tuple[float, ...], ...]:
        """Return the boxes of a case, of a label part whose masks number them.

        Each is class, centre (3) and edges (9) in LPS mm, irrelevant or not.
        """
        return tuple(map(tuple, self.info(case_id).facts["boxes"]))

    def voxel_digests(self, case_id: str) -> dict[str, str]:
        """Return the digests a case was committed with: its image's as "", its masks' by name."""
        self._require(case_id)
        masks = self._manifest["masks"].get(case_id, {})
        return {"": self._manifest["cases"][case_id], **masks}

    def mask_names(self, case_id: str) -> tuple[str, ...]:
        """Return the names of the masks a case has, sorted."""
        self._require(case_id)
        return tuple(sorted(self._manifest["masks"].get(case_id, ())))

    def mask(self, case_id: str, name: str) -> np.ndarray:
        """Return a case's mask (z, y, x), uint8, on the grid of its image.

        Raises
        ------
        StoreError
            When it is damaged, or the case is not here or has no mask of this name.
        """
        self._require_mask(case_id, name)
        return self._contents.mask(case_id, name)

    def mask_patch(
        self, case_id: str, name: str, start: tuple[int, int, int], stop: tuple[int, int, int]
    ) -> np.ndarray:
        """Return a box of a mask; as `read_patch` and `mask`."""
        self._require_mask(case_id, name)
        self._require_box(case_id, start, stop)
        return self._contents.mask(case_id, name, tuple(start), tuple(stop))

    def _require(self, case_id: str) -> None:
        if case_id not in self._manifest["cases"]:
            raise StoreError(f"case {case_id} is not in part {self.part_id}: ask the catalog")

    def _require_mask(self, case_id: str, name: str) -> None:
        names = self.mask_names(case_id)
        if name not in names:
            known = f"it has {', '.join(names)}" if names else "it has none"
            raise StoreError(
                f"case {case_id} has no mask {name!r} ({known}): let a step of the recipe make it"
            )

    def _require_box(
        self, case_id: str, start: tuple[int, int, int], stop: tuple[int, int, int]
    ) -> None:
        shape = self.shape(case_id)
        axes = tuple(zip(start, stop, shape, strict=True))
        if any(low < 0 or low >= high or high > size for low, high, size in axes):
            raise ValueError(
                f"box {tuple(start)} to {tuple(stop)} leaves an image of shape {tuple(shape)}: "
                "keep it inside and pad after reading"
            )

    def _checked(self, name: str) -> bytes:
        """Return a metadata file that is as its manifest says."""
        try:
            raw = self._place.read(name)
        except FileNotFoundError as error:
            msg = f"part {self.part_id} has no {name}: run radloop verify"
            raise StoreError(msg) from error
        if hashlib.sha256(raw).hexdigest() != self._manifest["files"][name]["sha256"]:
            raise StoreError(f"{name} of part {self.part_id} was changed: run radloop verify")
        return raw


def open_part(root: str, path: str, digest: str | None = None) -> Part:
    """Open a committed part.

    Parameters
    ----------
    root : str
        Store root.
    path : str
        Of the part, relative to the root, as in its record.
    digest : str, optional
        The manifest's, from the catalog.

    Raises
    ------
    StoreError
        When it is not committed, of another format version, or not the part of ``digest``.
    """
    return Part(root, path, digest)
