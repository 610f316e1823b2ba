"""Which images are one picture: the same voxels, or the same picture written anew.

A signature is the signs of an image's low spatial frequencies (perceptual hash by cosine transform;
Zauner 2010, Implementation and benchmarking of perceptual image hash functions). Frequencies are
taken over the field of view, so another matrix size gives the same signs; the mean is left out, so
brightness and contrast do not count; and a flip only turns the signs of odd frequencies.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.store.manifest import read_manifest
from tasks.store.places import place_of
from tasks.store.read import open_part

PLANE = (16, 16)
"""Frequencies of a picture along y and x: 255 signs without the mean."""

VOLUME = (8, 8, 8)
"""Frequencies of a volume along z, y and x: 511 signs without the mean."""

SAME = 0.05
"""Share of signs up to which two images are one picture.

Copies written as JPEG of quality 30, at a quarter or twice the size, with noise, clipped or flipped
differ in at most 4.7 %; pictures of different patients in 10 % or more (decision 18).
"""

ALIKE = 0.08
"""Share of signs up to which a person should look: a copy with another gamma reaches 6.3 %."""

ROWS = 256
"""Signatures compared with all others at once: bounds memory."""


@dataclass(frozen=True)
class Look:
    """How one prepared image looks."""

    case_id: str
    voxels: str
    """SHA-256 of type, shape and voxels."""
    signature: str
    """Signs, packed, as hexadecimal; empty for an image too small to have one."""


@dataclass(frozen=True)
class Pair:
    """Two cases of different patients in different places of the split that look the same."""

    first: str
    second: str
    differs: float
    """Share of the signs that differ; 0 where every voxel is the same."""
    identical: bool


def looks_of_part(root: str, path: str, digest: str | None) -> list[Look]:
    """Read an image part and return a look a case; an image of one value alone has none.

    Raises
    ------
    StoreError
        When the part is damaged or not the one of ``digest``.
    """
    voxels = read_manifest(place_of(root, path), digest)["cases"]
    part = open_part(root, path, digest)
    found = []
    for case_id in part.case_ids:
        array = part.read(case_id)
        if array.ndim > 3:
            # Of several channels the mean: a patient's twin looks alike in every one.
            array = array.astype(np.float32).mean(axis=0)
        if array.min() != array.max():
            signs = signature(array)
            packed = "" if signs is None else np.packbits(signs).tobytes().hex()
            found.append(Look(case_id, voxels[case_id], packed))
    return found


def signature(array: np.ndarray) -> np.ndarray | None:
    """Return the signs of the low frequencies of an image.

    Parameters
    ----------
    array : ndarray (z, y, x)
        With fewer than 8 slices it counts as a picture, the mean of its slices.

    Returns
    -------
    ndarray (255,) or (511,) of bool, or None
        None for an image of fewer than 16 rows or columns, or with values that are not finite.
    """
    flat = len(array) < VOLUME[0]
    rows, columns = PLANE if flat else VOLUME[1:]
    if min(array.shape[1:]) < PLANE[0]:
        return None
    down, across = _waves(array.shape[1], rows), _waves(array.shape[2], columns).T
    planes = np.stack([down @ plane.astype(np.float32) @ across for plane in array])
    if not np.isfinite(planes).all():
        return None
    low = planes.mean(axis=0) if flat else np.tensordot(_waves(len(array), VOLUME[0]), planes, 1)
    return low.ravel()[1:] >= 0


def _waves(size: int, count: int) -> np.ndarray:
    """Return the cosines (count, size) of a transform of type II."""
    angle = np.pi * (np.arange(size) + 0.5) * np.arange(count)[:, None] / size
    return np.cos(angle).astype(np.float32)


def pairs_that_look_the_same(
    looks: Sequence[Look], place: Mapping[str, str], patient: Mapping[str, str]
) -> list[Pair]:
    """Return pairs in different places, of different patients, that differ in `ALIKE` or less.

    Parameters
    ----------
    looks : sequence of Look
    place : mapping of case id to text
        Side or fold; images within one place are not compared.
    patient : mapping of case id to patient key

    Returns
    -------
    list of Pair
        The likest first. Flipped and inverted copies are found too.
    """
    kept = [look for look in sorted(looks, key=lambda one: one.case_id) if look.case_id in place]
    found = {(p.first, p.second): p for p in (*_close(kept, place), *_identical(kept, place))}
    return sorted(
        (pair for pair in found.values() if patient[pair.first] != patient[pair.second]),
        key=lambda pair: (not pair.identical, pair.differs, pair.first, pair.second),
    )


def _identical(looks: Sequence[Look], place: Mapping[str, str]) -> Iterator[Pair]:
    same: dict[str, list[str]] = {}
    for look in looks:
        same.setdefault(look.voxels, []).append(look.case_id)
    for cases in same.values():
        for a, b in itertools.combinations(cases, 2):
            if place[a] != place[b]:
                yield Pair(a, b, 0.0, identical=True)


def _close(looks: Sequence[Look], place: Mapping[str, str]) -> Iterator[Pair]:
    for shape in (PLANE, VOLUME):
        count = int(np.prod(shape)) - 1
        ours = [look for look in looks if len(look.signature) == 2 * -(-count // 8)]
        if not ours:
            continue
        raw = np.frombuffer(bytes.fromhex("".join(one.signature for one in ours)), np.uint8)
        bits = np.unpackbits(raw.reshape(len(ours), -1), axis=1, count=count)
        signs = bits.astype(np.float32) * 2 - 1
        places = np.unique([place[one.case_id] for one in ours], return_inverse=True)[1]
        for start in range(0, len(ours), ROWS):
            rows = signs[start : start + ROWS]
            # Agreement of all signs is the copy, of none at all its negative.
            agree = np.max([np.abs((rows * turn) @ signs.T) for turn in _flips(shape)], axis=0)
            differs = (count - agree) / (2 * count)
            near = (differs <= ALIKE) & (places[start : start + ROWS, None] != places)
            for a, b in np.argwhere(near):
                if start + a < b:
                    first, second = ours[start + a].case_id, ours[b].case_id
                    yield Pair(first, second, float(differs[a, b]), identical=False)


def _flips(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Give what each flip makes of the signs: those of odd frequencies along its axes turn."""
    odd = np.indices(shape).reshape(len(shape), -1)[:, 1:] % 2
    for axes in itertools.product((0, 1), repeat=len(shape)):
        yield (1 - 2 * (np.array(axes) @ odd % 2)).astype(np.float32)
