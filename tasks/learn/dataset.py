"""Labelled cases out of the store, read as they are needed or held in memory when they fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from tasks.store.read import Part

PRELOAD_BYTES = 2 << 30
"""Images and masks that fit in this are held in memory; larger sets are read patch by patch."""

OPEN_PARTS = 16
"""Parts kept open, so that memory does not grow with the store: one of large volumes takes up to
25 MB with the indexes of its shards, and 2 ms to open again."""


@dataclass(frozen=True)
class TrainingCase:
    """A case of the store with its label."""

    case_id: str
    patient_key: str
    part_path: str
    """Relative to the store's root."""
    target: int | None = None
    """Class number, for a classification."""
    label_part_path: str | None = None
    """Label part, for a segmentation or a detection."""
    part_digest: str | None = None
    """Of the part's manifest, from the catalog; checked when given."""
    label_part_digest: str | None = None
    boxes: tuple[tuple[float, ...], ...] = ()
    """What is to be found, for a detection: class, centre (3) and edges (9) in LPS mm, irrelevant
    or not; row i - 1 is instance i of the label part."""


class CaseSource(Protocol):
    """Where samples come from: images ([c,] z, y, x) and masks (z, y, x).

    ``shape`` is (z, y, x) voxels, ``spacing`` millimetres of the same axes, ``affine`` (4, 4) from
    index (z, y, x, 1) to LPS mm; ``present`` says which channels a case has, ``patch`` and
    ``label_patch`` are the voxels from ``start`` up to but not including ``stop``, (z, y, x).
    """

    def shape(self, case_id: str) -> tuple[int, ...]: ...
    def nbytes(self, case_id: str, *, label: bool = False) -> int: ...
    def image(self, case_id: str) -> np.ndarray: ...
    def label(self, case_id: str) -> np.ndarray: ...
    def spacing(self, case_id: str) -> tuple[float, float, float]: ...
    def affine(self, case_id: str) -> np.ndarray: ...
    def present(self, case_id: str) -> tuple[bool, ...]: ...
    def patch(self, case_id: str, start: Sequence[int], stop: Sequence[int]) -> np.ndarray: ...
    def label_patch(
        self, case_id: str, start: Sequence[int], stop: Sequence[int]
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class ArrayCases:
    """Cases in memory."""

    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    spacings: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """mm of the axes z, y, x; 1 mm unless told."""
    affines: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(4, 4), index (z, y, x, 1) to LPS mm; spacing along the axes unless told."""
    channels: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    """Which channels a case of several has; all of them unless told."""

    def shape(self, case_id: str) -> tuple[int, ...]:
        """Return (z, y, x)."""
        return self.images[case_id].shape[-3:]

    def nbytes(self, case_id: str, *, label: bool = False) -> int:
        """Return the bytes of an image or a mask."""
        return (self.labels if label else self.images)[case_id].nbytes

    def image(self, case_id: str) -> np.ndarray:
        """Return the image ([c,] z, y, x)."""
        return self.images[case_id]

    def label(self, case_id: str) -> np.ndarray:
        """Return the mask (z, y, x)."""
        return self.labels[case_id]

    def spacing(self, case_id: str) -> tuple[float, float, float]:
        """Return the voxel's sides (z, y, x) in mm."""
        return self.spacings.get(case_id, (1.0, 1.0, 1.0))

    def affine(self, case_id: str) -> np.ndarray:
        """Return the grid's affine (4, 4)."""
        straight = np.diag([*self.spacing(case_id), 1.0])
        return self.affines.get(case_id, straight)

    def present(self, case_id: str) -> tuple[bool, ...]:
        """Return which channels a case has; empty where images have none."""
        every = tuple(True for _ in self.images[case_id]) if self.images[case_id].ndim > 3 else ()
        return self.channels.get(case_id, every)

    def patch(self, case_id: str, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """Return a box of the image, of every channel."""
        return self.images[case_id][(..., *_box(start, stop))]

    def label_patch(self, case_id: str, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """Return a box of the mask."""
        return self.labels[case_id][_box(start, stop)]


class StoreCases:
    """Cases in the parts of a store, which threads may share.

    Pickles as its place and its cases only, so a process that reads for us opens the parts anew.
    """

    def __init__(self, root: str, cases: Sequence[TrainingCase]) -> None:
        self._root = root
        self._cases = {case.case_id: case for case in cases}
        self._open = lru_cache(OPEN_PARTS)(self._open_part)

    def __reduce__(self) -> tuple:
        return StoreCases, (self._root, tuple(self._cases.values()))

    def _open_part(self, path: str, digest: str | None) -> "Part":
        from tasks.store.read import open_part

        return open_part(self._root, path, digest)

    def _part(self, case_id: str, *, label: bool = False) -> "Part":
        case = self._cases[case_id]
        path = case.label_part_path if label else case.part_path
        digest = case.label_part_digest if label else case.part_digest
        if path is None:
            raise ValueError(f"case {case_id} has no label part; preprocess its labels first")
        return self._open(path, digest)

    def nbytes(self, case_id: str, *, label: bool = False) -> int:
        """Return the bytes of an image or a mask in memory, without reading it."""
        part = self._part(case_id, label=label)
        voxels = math.prod(part.shape(case_id)) * max(1, len(part.channels))
        return voxels * np.dtype(part.dtype).itemsize

    def shape(self, case_id: str) -> tuple[int, ...]:
        """Return (z, y, x)."""
        return self._part(case_id).shape(case_id)

    def image(self, case_id: str) -> np.ndarray:
        """Return the image ([c,] z, y, x)."""
        return self._part(case_id).read(case_id)

    def label(self, case_id: str) -> np.ndarray:
        """Return the mask (z, y, x)."""
        return self._part(case_id, label=True).read(case_id)

    def spacing(self, case_id: str) -> tuple[float, float, float]:
        """Return the voxel's sides (z, y, x) in mm."""
        return spacing_of(self.affine(case_id))

    def affine(self, case_id: str) -> np.ndarray:
        """Return the grid's affine (4, 4), index (z, y, x, 1) to LPS mm."""
        return np.asarray(self._part(case_id).info(case_id).affine)

    def present(self, case_id: str) -> tuple[bool, ...]:
        """Return which channels a case has; empty where images have none."""
        return self._part(case_id).info(case_id).present

    def patch(self, case_id: str, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """Return a box of the image."""
        return self._part(case_id).read_patch(case_id, tuple(start), tuple(stop))

    def label_patch(self, case_id: str, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """Return a box of the mask."""
        return self._part(case_id, label=True).read_patch(case_id, tuple(start), tuple(stop))


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the sides (z, y, x) in mm of a voxel of a grid with this affine (4, 4)."""
    return tuple(np.linalg.norm(np.asarray(affine)[:3, :3], axis=0).tolist())


def _box(start: Sequence[int], stop: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(start, stop, strict=True))


def preload(
    source: CaseSource, case_ids: Sequence[str], *, labels: bool, budget: int = PRELOAD_BYTES
) -> CaseSource:
    """Return the cases in memory when they fit the budget (bytes), else the source itself.

    Sizes are asked for first: of a set that does not fit, no voxel is read.
    """
    held = 0
    for case_id in case_ids:
        held += source.nbytes(case_id) + (source.nbytes(case_id, label=True) if labels else 0)
        if held > budget:
            return source
    images = {case_id: source.image(case_id) for case_id in case_ids}
    masks = {case_id: source.label(case_id) for case_id in case_ids} if labels else {}
    spacings = {case_id: source.spacing(case_id) for case_id in case_ids}
    affines = {case_id: source.affine(case_id) for case_id in case_ids}
    channels = {case_id: source.present(case_id) for case_id in case_ids}
    return ArrayCases(images, masks, spacings, affines, channels)


class Images(Sequence[np.ndarray]):
    """Images of cases read one at a time, for a large set need not fit in memory."""

    def __init__(self, source: CaseSource, case_ids: Sequence[str]) -> None:
        self._source, self._case_ids = source, tuple(case_ids)

    def __len__(self) -> int:
        return len(self._case_ids)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._source.image(self._case_ids[index])
