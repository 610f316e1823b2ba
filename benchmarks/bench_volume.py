"""Every series at hand through radloop and dcm2niix, compared voxel by voxel in world space.

    python benchmarks/bench_volume.py [FOLDER ...] [--dcm2niix PATH] [--all]

Without folders: ../shared/data/dicom, the test files of pydicom, pydicom-data and nibabel where
they are installed, and oblique, tilted and repeated series made in code. dcm2niix is taken from
.venv-peers or the PATH. Of Philips it takes the standard rescale (`-p n`), as radloop does.

What counts as equal: after exchanging and flipping axes, corners within SAME_GRID_MM and values
within VALUE_TOLERANCE. CT padding counts as air, which radloop makes of it. Pictures have no place,
and their greys go through a window here and not there: each stored value must map to one grey.
Where a volume differs, pydicom's own decoders are asked, plane by plane: where they agree with
radloop it is counted apart, and said. Exit code 1 when a volume differs and they do not.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
from pydicom import dcmread
from pydicom.pixels import apply_color_lut
from series_at_hand import PEERS, default_folders, series_in

from tasks.archive.elements import quiet
from tasks.archive.grey import AIR_HU, LUMINANCE
from tasks.archive.nifti import LPS_RAS, REVERSED
from tasks.archive.sources import FileRef
from tasks.archive.volume import Volume, read_volumes
from tasks.errors import BadCase

SAME_GRID_MM = 1e-2
"""Corners may differ by this: NIfTI-1 keeps the affine in 32 bits, positions are decimal text."""

VALUE_TOLERANCE = 1e-5
"""Share of the largest value that a voxel may differ by: both keep scaled values in 32 bits."""

LUMINANCE_TOLERANCE = 1
"""Grey levels a colour image may differ by: decoders round their own colour transform."""

LOSSY = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91)}

LOSSY_MEAN = 1.0
"""Mean grey levels a lossy colour image may differ by: the standards leave decoders freedom."""


@dataclass
class Outcome:
    """What became of one series."""

    name: str
    files: int
    ours: int = 0
    theirs: int = 0
    equal: int = 0
    outvoted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)


def by_dcm2niix(binary: str, files: list[Path], work: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (voxels (z, y, x) or (z, y, x, 3), LPS index affine) of each 3-D volume."""
    source, out = work / "in", work / "out"
    for folder in (source, out):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for number, path in enumerate(files):
        (source / f"{number:05d}.dcm").symlink_to(path)
    with quiet():
        maker = str(dcmread(files[0], force=True, stop_before_pixels=True).get("Manufacturer"))
    # Philips: the rescale of the header, not the private one; `n` ignores it where it varies.
    precise = "n" if "philips" in maker.lower() else "y"
    command = [binary, "-z", "n", "-b", "n", "-p", precise, "-f", "%s_%e", "-o", out, source]
    subprocess.run([str(c) for c in command], capture_output=True, timeout=300, check=False)
    volumes = []
    for path in sorted(out.glob("*.nii")):
        image = nibabel.load(path)
        data = np.asanyarray(image.dataobj)
        if data.dtype.fields:
            data = np.stack([data[name] for name in ("R", "G", "B")], axis=-1)
            data = data.reshape((*(*image.shape, 1, 1)[:4], 3))
        else:
            data = data.reshape((*image.shape, 1, 1)[:4])
        affine = LPS_RAS @ image.affine @ REVERSED
        for t in range(data.shape[3]):
            one = data[:, :, :, t]
            volumes.append((np.moveaxis(one, (0, 1, 2), (2, 1, 0)), affine))
    return volumes


def turned(array: np.ndarray, affine: np.ndarray, like: Volume, placed: bool) -> list[np.ndarray]:
    """Return the array in the voxel order of `like`: by world space, or every way for a picture."""
    shape = like.array.shape
    if not placed:
        # Pictures that share a series lie on top of each other there, and are apart here.
        slabs = [array] if array.shape[:3] == shape else []
        if shape[0] == 1 and array.shape[1:3] == shape[1:]:
            slabs = [array[k : k + 1] for k in range(array.shape[0])]
        ways = list(itertools.product((1, -1), repeat=2))
        return [slab[:, ::a, ::b] for slab in slabs for a, b in ways]
    ours = like.affine
    if shape[0] == 1:
        # One slice has no step: its depth is a guess, 1 mm here and the thickness there.
        ours, affine = _unit_depth(ours), _unit_depth(affine)
    mapping = np.linalg.solve(affine, ours)
    axes = np.rint(mapping[:3, :3]).astype(int)
    if not np.array_equal(np.abs(axes).sum(axis=0), [1, 1, 1]) or np.abs(axes).max() > 1:
        return []
    source = np.abs(axes).argmax(axis=0)
    if tuple(array.shape[k] for k in source) != shape:
        return []
    corners = np.array([[*c, 1] for c in itertools.product(*[(0, n - 1) for n in shape])]).T
    index = np.linalg.solve(affine, ours @ corners)
    apart = np.linalg.norm((affine @ (np.rint(index) - index))[:3], axis=0).max()
    inside = np.rint(index[:3]).min() >= 0 and np.all(
        np.rint(index[:3]).max(axis=1) == np.array(array.shape[:3]) - 1
    )
    if apart > SAME_GRID_MM or not inside:
        return []
    flips = tuple(slice(None, None, int(axes[source[k], k])) for k in range(3))
    return [array.transpose(*source, *range(3, array.ndim))[flips]]


def _unit_depth(affine: np.ndarray) -> np.ndarray:
    out = affine.copy()
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    out[:3, 0] = normal / np.linalg.norm(normal)
    return out


def same_values(theirs: np.ndarray, ours: Volume, placed: bool) -> bool:
    """Compare voxels on one grid."""
    if theirs.ndim == 4:
        grey = np.rint(theirs @ np.array(LUMINANCE))
        apart = np.abs(grey - ours.array)
        lossy = ours.facts["transfer_syntax"] in LOSSY
        return (
            bool(apart.mean() <= LOSSY_MEAN) if lossy else bool(apart.max() <= LUMINANCE_TOLERANCE)
        )
    mine, other = ours.array.astype(np.float64), theirs.astype(np.float64)
    if ours.facts["modality"] == "CT":
        # Declared padding is air here and far below air there.
        other = np.where((mine == AIR_HU) & (other < AIR_HU), AIR_HU, other)
    largest = max(np.abs(mine).max(), 1.0)
    if np.abs(mine - other).max() <= VALUE_TOLERANCE * largest:
        return True
    if ours.facts["modality"] in ("CT", "MR", "PT"):
        return False
    _, which = np.unique(other, return_inverse=True)
    low, high = np.full(which.max() + 1, np.inf), np.full(which.max() + 1, -np.inf)
    np.minimum.at(low, which.ravel(), mine.ravel())
    np.maximum.at(high, which.ravel(), mine.ravel())
    curve = (low + high) / 2
    if (high - low).max() > VALUE_TOLERANCE * largest:
        return False
    # A palette may give any index any grey; a window only rises or only falls.
    palette = ours.facts["photometric"] == "PALETTE COLOR"
    return bool(palette or np.all(np.diff(curve) >= 0) or np.all(np.diff(curve) <= 0))


def judge(name: str, files: list[Path], theirs: list[tuple[np.ndarray, np.ndarray]]) -> Outcome:
    """Read a series with radloop and find each volume among those of dcm2niix."""
    outcome = Outcome(name, len(files), theirs=len(theirs))
    refs = [FileRef(str(path), None, "", path.stat().st_size) for path in files]
    left = list(range(len(theirs)))
    try:
        for volume in read_volumes("dicom", refs):
            if not isinstance(volume, Volume):
                outcome.refused.append(f"{volume[0] or 'its volume'}: {volume[1]}")
                continue
            outcome.ours += 1
            placed = volume.certificate["orientation"] != "image plane"
            for at in left:
                ways = turned(*theirs[at], volume, placed)
                if any(same_values(way, volume, placed) for way in ways):
                    outcome.equal += 1
                    if placed:
                        left.remove(at)
                    break
            else:
                if left:
                    said = _difference(volume, [theirs[at] for at in left])
                    sides = agrees_with_pydicom(volume, files)
                    (outcome.outvoted if sides else outcome.differs).append(said)
    except BadCase as problem:
        outcome.refused.append(str(problem))
    return outcome


def agrees_with_pydicom(volume: Volume, files: list[Path]) -> bool:
    """Tell whether every plane of a volume is one that pydicom's own decoders give."""
    planes = []
    with quiet():
        for path in files:
            dataset = dcmread(path, force=True)
            pixels = dataset.pixel_array
            if dataset.PhotometricInterpretation == "PALETTE COLOR":
                pixels = apply_color_lut(pixels, dataset)
            if int(dataset.SamplesPerPixel) == 3 or dataset.PhotometricInterpretation[:3] == "PAL":
                pixels = np.rint(pixels @ np.array(LUMINANCE))
            slope = float(dataset.get("RescaleSlope", 1))
            pixels = pixels * slope + float(dataset.get("RescaleIntercept", 0))
            planes += list(pixels) if pixels.ndim == 3 else [pixels]
    largest = max(float(np.abs(volume.array).max()), 1.0)
    return all(
        any(np.abs(plane - found).max() <= VALUE_TOLERANCE * largest for found in planes)
        for plane in volume.array.astype(np.float64)
    )


def _difference(volume: Volume, others: list[tuple[np.ndarray, np.ndarray]]) -> str:
    shapes = sorted({array.shape for array, _ in others})
    placed = volume.certificate["orientation"] != "image plane"
    for array, affine in others:
        ways = turned(array, affine, volume, placed)
        if ways and ways[0].ndim == 3:
            apart = min(np.abs(way.astype(float) - volume.array).max() for way in ways)
            return f"{volume.key or 'volume'}: same grid, values up to {apart:g} apart"
    return f"{volume.key or 'volume'}: {volume.array.shape} here, {shapes} there, another grid"


def main() -> int:
    """Print a line a series that is not plainly equal, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--dcm2niix", default=None)
    parser.add_argument("--all", action="store_true", help="a line for every series")
    asked = parser.parse_args()
    peer = PEERS / "bin" / "dcm2niix"
    binary = asked.dcm2niix or (str(peer) if peer.exists() else shutil.which("dcm2niix"))
    if binary is None:
        print("dcm2niix is not there: `make bench` installs the peers; nothing compared")
        return 1
    seconds, outcomes = Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        named = [(path.name, path) for path in asked.folders] or default_folders(work)
        for name, place in named:
            for number, files in enumerate(series_in(place), start=1):
                begun = time.perf_counter()
                theirs = by_dcm2niix(binary, files, work)
                middle = time.perf_counter()
                outcomes.append(judge(f"{name} {number}", files, theirs))
                seconds["dcm2niix"] += middle - begun
                seconds["radloop"] += time.perf_counter() - middle
    report(outcomes, asked.all)
    print(", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items()), "in all")
    return 1 if any(outcome.differs for outcome in outcomes) else 0


def report(outcomes: list[Outcome], everything: bool) -> None:
    """Print refusals with their reasons, differences, and the sums."""
    for one in outcomes:
        plain = one.ours == one.theirs == one.equal and not one.refused
        if everything or not plain:
            print(
                f"{one.name:18} {one.files:4} files  radloop {one.ours:3}  dcm2niix {one.theirs:3}"
                f"  equal {one.equal:3}"
            )
        for text in one.refused:
            print(f"{'':18} refused by radloop: {text}")
        for text in one.outvoted:
            print(f"{'':18} differs, and pydicom sides with radloop: {text}")
        for text in one.differs:
            print(f"{'':18} DIFFERS {text}")
    outvoted = sum(len(one.outvoted) for one in outcomes)
    both = sum(one.equal + len(one.differs) for one in outcomes) + outvoted
    equal = sum(one.equal for one in outcomes)
    print(
        f"{len(outcomes)} series; volumes: radloop {sum(o.ours for o in outcomes)}, "
        f"dcm2niix {sum(o.theirs for o in outcomes)}; both made {both}, "
        f"equal in world space {equal} ({equal / max(both, 1):.1%}); of the others pydicom sides "
        f"with radloop in {outvoted}"
    )
    words = (text.removeprefix("its volume: ") for one in outcomes for text in one.refused)
    reasons = Counter(text.split(": ")[0] for text in words)
    print(
        "refused: " + (", ".join(f"{n} {word}" for word, n in reasons.most_common()) or "nothing")
    )


if __name__ == "__main__":
    sys.exit(main())
