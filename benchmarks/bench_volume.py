"""Every series at hand through radloop and dcm2niix, compared voxel by voxel in world space.

    python benchmarks/bench_volume.py [FOLDER ...] [--dcm2niix PATH] [--all]

Without folders: ../shared/data/dicom, the test files of pydicom, pydicom-data and nibabel where
they are installed, and oblique, tilted and repeated series made in code. dcm2niix is taken from
.venv-peers or the PATH. Its voxels stay as stored (`-p n`: standard rescale, as in the DICOM
header). Exit code 1 when a volume that both make differs.

What counts as equal: after exchanging and flipping axes, corners within SAME_GRID_MM and values
within VALUE_TOLERANCE. Pictures have no place; their greys go through a window here and not there,
so that each stored value must map to one grey.
"""

import argparse
import gzip
import importlib.util
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
from pydicom import dcmread

from tasks.archive.elements import quiet
from tasks.archive.grey import AIR_HU, LUMINANCE
from tasks.archive.nifti import LPS_RAS, REVERSED
from tasks.archive.sources import FileRef
from tasks.archive.volume import Volume, read_volumes
from tasks.errors import BadCase

PEERS = Path(__file__).resolve().parents[1] / ".venv-peers"

SAME_GRID_MM = 1e-2
"""Corners may differ by this: NIfTI-1 keeps the affine in 32 bits, positions are decimal text."""

VALUE_TOLERANCE = 1e-5
"""Share of the largest value that a voxel may differ by: both keep scaled values in 32 bits."""

LUMINANCE_TOLERANCE = 1
"""Grey levels a JPEG colour image may differ by: decoders round their own colour transform."""


@dataclass
class Outcome:
    """What became of one series."""

    name: str
    files: int
    ours: int = 0
    theirs: int = 0
    equal: int = 0
    refused: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)


def default_folders(work: Path) -> list[tuple[str, Path]]:
    """Return names and folders of the series at hand; packed files are unpacked under `work`."""
    shared = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom"
    found = [("shared", shared)] if shared.is_dir() else []
    import pydicom

    found.append(("pydicom", Path(pydicom.__file__).parent / "data" / "test_files"))
    extra = importlib.util.find_spec("data_store")
    if extra is not None and extra.origin:
        found.append(("pydicom-data", Path(extra.origin).parent / "data"))
    else:
        places = PEERS.glob("lib/python*/site-packages/data_store/data")
        found += [("pydicom-data", place) for place in places]
    packed = work / "nibabel"
    packed.mkdir()
    for number, path in enumerate(sorted(Path(nibabel.__file__).parent.rglob("*.dcm*"))):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        (packed / f"{number}.dcm").write_bytes(data)
    found.append(("nibabel", packed))
    found.append(("made", _made(work / "made")))
    return found


def _made(folder: Path) -> Path:
    from scipy.spatial.transform import Rotation

    from tasks.phantom.ct import write_ct_series

    for seed in range(4):
        row, column, _ = Rotation.random(random_state=seed).as_matrix().T
        write_ct_series(folder / f"oblique{seed}", orientation=[*row, *column], seed=seed)
    write_ct_series(folder / "tilted", tilt_deg=12, seed=10)
    write_ct_series(folder / "descending", orientation=[1, 0, 0, 0, -1, 0], seed=11)
    write_ct_series(folder / "slopes", slopes=np.linspace(0.5, 2, 8), modality="MR", seed=12)
    write_ct_series(folder / "gap", missing=[3], seed=13)
    write_ct_series(folder / "stray", duplicates=[3], seed=14)
    return folder


def series_in(folder: Path) -> Iterator[list[Path]]:
    """Give the image files of each series; without a UID, of each folder."""
    found: dict[tuple, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in (".json", ".txt", ".gz", ".zip", ".dump", ".icc"):
            continue
        try:
            with quiet():
                header = dcmread(path, force=True, stop_before_pixels=True)
                if "Rows" not in header:
                    continue
                # One test file stands in many syntaxes under one UID: each is a series here.
                syntax = str(getattr(header, "file_meta", {}).get("TransferSyntaxUID", ""))
                matrix = (str(header.get("Rows")), str(header.get("NumberOfFrames")))
                series = str(header.get("SeriesInstanceUID", "")) or str(path.parent)
                key = (series, str(header.get("SeriesNumber")), syntax, matrix)
                # Test suites repeat one instance with other pixels or faults.
                again = str(header.get("SOPInstanceUID", "")) or path.name
        except Exception:
            continue
        number = 0
        while any(again == name for name, _ in found.get((*key, number), [])):
            number += 1
        found.setdefault((*key, number), []).append((again, path))
    for group in found.values():
        yield [path for _, path in group]


def by_dcm2niix(binary: str, files: list[Path], work: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (voxels (z, y, x) or (z, y, x, 3), LPS index affine) of each 3-D volume."""
    source, out = work / "in", work / "out"
    for folder in (source, out):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for number, path in enumerate(files):
        (source / f"{number:05d}.dcm").symlink_to(path)
    command = [binary, "-z", "n", "-b", "n", "-p", "n", "-f", "%s_%e", "-o", out, source]
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
        ways = itertools.product((1, -1), repeat=2) if array.shape[:3] == shape else ()
        return [array[:, ::a, ::b] for a, b in ways]
    mapping = np.linalg.solve(affine, like.affine)
    axes = np.rint(mapping[:3, :3]).astype(int)
    if not np.array_equal(np.abs(axes).sum(axis=0), [1, 1, 1]) or np.abs(axes).max() > 1:
        return []
    source = np.abs(axes).argmax(axis=0)
    if tuple(array.shape[k] for k in source) != shape:
        return []
    corners = np.array([[*c, 1] for c in itertools.product(*[(0, n - 1) for n in shape])]).T
    index = np.linalg.solve(affine, like.affine @ corners)
    apart = np.linalg.norm((affine @ (np.rint(index) - index))[:3], axis=0).max()
    inside = np.rint(index[:3]).min() >= 0 and np.all(
        np.rint(index[:3]).max(axis=1) == np.array(array.shape[:3]) - 1
    )
    if apart > SAME_GRID_MM or not inside:
        return []
    flips = tuple(slice(None, None, int(axes[source[k], k])) for k in range(3))
    return [array.transpose(*source, *range(3, array.ndim))[flips]]


def same_values(theirs: np.ndarray, ours: Volume, placed: bool) -> bool:
    """Compare voxels on one grid."""
    if theirs.ndim == 4:
        grey = np.rint(theirs @ np.array(LUMINANCE))
        return bool(np.abs(grey - ours.array).max() <= LUMINANCE_TOLERANCE)
    mine, other = ours.array.astype(np.float64), theirs.astype(np.float64)
    if ours.facts["modality"] == "CT":
        # Declared padding is air here and far below air there.
        other = np.where((mine == AIR_HU) & (other < AIR_HU), AIR_HU, other)
    largest = max(np.abs(mine).max(), 1.0)
    if np.abs(mine - other).max() <= VALUE_TOLERANCE * largest:
        return True
    if placed and ours.facts["modality"] in ("CT", "MR", "PT"):
        return False
    _, which = np.unique(other, return_inverse=True)
    low, high = np.full(which.max() + 1, np.inf), np.full(which.max() + 1, -np.inf)
    np.minimum.at(low, which.ravel(), mine.ravel())
    np.maximum.at(high, which.ravel(), mine.ravel())
    curve = (low + high) / 2
    return bool((high - low).max() <= VALUE_TOLERANCE * largest) and (
        np.all(np.diff(curve) >= 0) or np.all(np.diff(curve) <= 0)
    )


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
                    left.remove(at)
                    break
            else:
                if left:
                    outcome.differs.append(_difference(volume, [theirs[at] for at in left]))
    except BadCase as problem:
        outcome.refused.append(str(problem))
    return outcome


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
        for text in one.differs:
            print(f"{'':18} DIFFERS {text}")
    both = sum(one.equal + len(one.differs) for one in outcomes)
    equal = sum(one.equal for one in outcomes)
    print(
        f"{len(outcomes)} series; volumes: radloop {sum(o.ours for o in outcomes)}, "
        f"dcm2niix {sum(o.theirs for o in outcomes)}; both made {both}, "
        f"equal in world space {equal} ({equal / max(both, 1):.1%})"
    )
    reasons = Counter(text.split(": ")[0] for one in outcomes for text in one.refused)
    print(
        "refused: " + (", ".join(f"{n} {word}" for word, n in reasons.most_common()) or "nothing")
    )


if __name__ == "__main__":
    sys.exit(main())
