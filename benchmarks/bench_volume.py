"""Every series at hand through radloop and dcm2niix, compared voxel by voxel in world space.

    python benchmarks/bench_volume.py [FOLDER ...] [--dcm2niix PATH] [--all]

Without folders: ../shared/data/dicom, the test files of pydicom, pydicom-data and nibabel where
they are installed, and oblique, tilted and repeated series made in code. dcm2niix is taken from
.venv-peers or the PATH. Of Philips it takes the standard rescale (`-p n`), as radloop does.

What counts as equal, and how nearly, is in `volume_compare`; the sums say how many volumes are
equal to the last bit, how many but for the rounding of 32-bit floats, and how far lossy JPEG is
apart.
For each volume that differs the known mistakes of dcm2niix are tried on radloop's values, and the
decoders of pydicom and GDCM are asked. Exit code 1 when a difference stays without both proofs.
"""

import argparse
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
from pydicom import Dataset, dcmread
from series_at_hand import PEERS, default_folders, series_in
from volume_compare import (
    Agreement,
    agreement,
    declared_padding,
    misreading,
    plain_values,
    turned,
    witnesses,
)

from tasks.archive.elements import quiet
from tasks.archive.nifti import LPS_RAS, REVERSED
from tasks.archive.series import groups_of
from tasks.archive.sources import FileRef
from tasks.archive.volume import Volume, read_volumes
from tasks.errors import BadCase


@dataclass(frozen=True)
class Difference:
    """A volume that both make and that differs."""

    what: str
    cause: str = ""
    """What turns radloop's values into dcm2niix's: see `volume_compare.misreading`."""
    witnesses: tuple[str, ...] = ()
    """Other decoders that give what radloop gives."""

    @property
    def explained(self) -> bool:
        """Whether what dcm2niix does is known, and another decoder gives radloop's values."""
        return bool(self.cause and self.witnesses)

    def __str__(self) -> str:
        if not self.explained:
            return f"DIFFERS {self.what}; {self.cause or 'for no known reason'}"
        return f"{self.what}; dcm2niix {self.cause}; {' and '.join(self.witnesses)} as radloop"


@dataclass
class Outcome:
    """What became of one series."""

    name: str
    files: int
    ours: int = 0
    theirs: int = 0
    agreed: list[Agreement] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    differs: list[Difference] = field(default_factory=list)


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


def judge(name: str, files: list[Path], theirs: list[tuple[np.ndarray, np.ndarray]]) -> Outcome:
    """Read a series with radloop and find each volume among those of dcm2niix."""
    outcome = Outcome(name, len(files), theirs=len(theirs))
    refs = [FileRef(str(path), None, "", path.stat().st_size) for path in files]
    left, padding = list(range(len(theirs))), declared_padding(files)
    try:
        groups = {group.key: group for group in groups_of(refs)[0]}
        for volume in read_volumes("dicom", refs):
            if not isinstance(volume, Volume):
                outcome.refused.append(f"{volume[0] or 'its volume'}: {volume[1]}")
                continue
            outcome.ours += 1
            group = groups[volume.key]
            plain = plain_values(group, volume)
            for at in left:
                found = _best(theirs[at], plain, volume, padding)
                if found is not None:
                    outcome.agreed.append(found)
                    if volume.certificate["orientation"] != "image plane":
                        left.remove(at)
                    break
            else:
                if left:
                    dataset = group.frames[0].source.dataset
                    others = [theirs[at] for at in left]
                    outcome.differs.append(_difference(volume, plain[0], others, files, dataset))
    except BadCase as problem:
        outcome.refused.append(str(problem))
    return outcome


def _best(
    one: tuple[np.ndarray, np.ndarray],
    plain: list[np.ndarray],
    volume: Volume,
    padding: tuple[float, ...],
) -> Agreement | None:
    """Return the agreement of the way of turning in which least is apart."""
    ways = turned(*one, volume)
    found = [agreement(way, mine, volume, padding) for way in ways for mine in plain]
    return min((a for a in found if a is not None), key=lambda a: a.apart, default=None)


def _difference(
    volume: Volume,
    plain: np.ndarray,
    others: list[tuple[np.ndarray, np.ndarray]],
    files: list[Path],
    dataset: Dataset,
) -> Difference:
    """Say what differs, which mistake of dcm2niix makes its values, and who sides with radloop."""
    what = volume.key or "volume"
    ways = [way for array, affine in others for way in turned(array, affine, volume)]
    if not ways:
        shapes = sorted({array.shape for array, _ in others})
        return Difference(f"{what}: {volume.array.shape} here, {shapes} there, another grid")
    causes = filter(None, (misreading(way, plain, dataset) for way in ways))
    apart = min(
        np.abs(way.astype(float) - plain).max() if way.shape == plain.shape else np.inf
        for way in ways
    )
    said = f"values up to {apart:g} apart" if np.isfinite(apart) else "one sample for three"
    return Difference(f"{what}: {said}", next(causes, ""), tuple(witnesses(plain, files)))


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
    unexplained = [d for outcome in outcomes for d in outcome.differs if not d.explained]
    return 1 if unexplained else 0


def report(outcomes: list[Outcome], everything: bool) -> None:
    """Print refusals with their reasons, differences, and the sums."""
    for one in outcomes:
        plain = one.ours == one.theirs == len(one.agreed) and not one.refused
        if everything or not plain:
            print(
                f"{one.name:18} {one.files:4} files  radloop {one.ours:3}  dcm2niix {one.theirs:3}"
                f"  agree {len(one.agreed):3}"
            )
        for text in one.refused:
            print(f"{'':18} refused by radloop: {text}")
        for difference in one.differs:
            print(f"{'':18} {difference}")
    agreed = [a for one in outcomes for a in one.agreed]
    differs = [d for one in outcomes for d in one.differs]
    explained = sum(d.explained for d in differs)
    both = len(agreed) + len(differs)
    print(
        f"{len(outcomes)} series; volumes: radloop {sum(o.ours for o in outcomes)}, "
        f"dcm2niix {sum(o.theirs for o in outcomes)}; both made {both}: {len(agreed)} agree in "
        f"world space, {explained} differ for a proven reason of dcm2niix, "
        f"{len(differs) - explained} differ; agreement but for proven reasons "
        f"{len(agreed) / max(both - explained, 1):.1%}, with them {len(agreed) / max(both, 1):.1%}"
    )
    print("of those that agree: " + "; ".join(_how_nearly(agreed)))
    words = (text.removeprefix("its volume: ") for one in outcomes for text in one.refused)
    reasons = Counter(text.split(": ")[0] for text in words)
    print(
        "refused: " + (", ".join(f"{n} {word}" for word, n in reasons.most_common()) or "nothing")
    )


def _how_nearly(agreed: list[Agreement]) -> list[str]:
    """Say how many volumes agree how nearly, with the largest difference of each kind."""
    said = []
    for kind, what in (
        ("equal", "equal to the last bit"),
        ("float", "but for 32-bit floats, of a broken rescale"),
        ("lossy", "of lossy JPEG, in luminance"),
    ):
        apart = [a.apart for a in agreed if a.kind == kind]
        if apart:
            worst = f" (at most {max(apart):.3g} apart)" if max(apart) else ""
            said.append(f"{len(apart)} {what}{worst}")
    padded = [a.padding for a in agreed if a.padding]
    if padded:
        said.append(f"{sum(padded)} voxels of declared padding in {len(padded)} are air here")
    return said


if __name__ == "__main__":
    sys.exit(main())
