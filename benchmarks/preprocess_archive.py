"""The archive of bench_preprocess.py, what is asked of everybody, and radloop's scenario for it.

Every series has the same grid, so that one mask fits all and every program's result has one shape.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import bench_decode
import numpy as np
from ct_archive import image_bytes
from scipy.ndimage import gaussian_filter

SHAPE = (60, 256, 256)
"""(z, y, x) of a series."""

SPACING = (2.0, 0.75, 0.75)
"""(z, y, x) in mm."""

WANTED_SPACING = (1.5, 1.0, 1.0)
"""(z, y, x) in mm; the field of view is a whole number of these, so that nobody has to round."""

WANTED_SHAPE = (80, 192, 192)

CLIP, MEAN, STD = (-1000.0, 400.0), -350.0, 500.0
"""HU.  nnU-Net takes such figures from its fingerprint; here all are given the same ones."""

SYNTAXES = ("raw", "JPEG lossless")

SCENARIO = """\
name: {name}
title: Made CT
task: classification
synthetic: true
intended_use: A benchmark. Research use only.
not_for: Anything clinical; no image shows a person.
population: Nobody. Drawn by a program.
cohort: {{kind: dicom, modality: CT}}
labels: {{format: table, file: labels.csv, join: accession, column: target,
         classes: [calm, ill], positive: ill}}
recipe:
  - {{step: normalise, method: fingerprint, mean: {mean}, std: {std}, p005: {low}, p995: {high}}}
  - {{step: resample, spacing: {spacing}, order: {order}}}
split: {{source: keyed, test: 0.2, folds: 2, strata: []}}
candidates: [{{name: small-cnn, kind: network, network: small_cnn, epochs: 1}}]
evaluate: {{primary: auroc}}
"""


@dataclass(frozen=True)
class Archive:
    """A made archive."""

    folder: Path
    series: int

    @property
    def bytes(self) -> int:
        """Bytes of its DICOM files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*.dcm"))


def accession(series: int) -> str:
    """Return the Accession Number that a made series bears."""
    return f"A{series:07d}"


def scenario(order: str) -> str:
    """Return the scenario file: clip and scale, then resample by ``order``."""
    low, high = CLIP
    return SCENARIO.format(
        name=f"{order}-chest", mean=MEAN, std=STD, low=low, high=high,
        spacing=list(WANTED_SPACING), order=order,
    )  # fmt: skip


def make_archive(folder: Path, series: int) -> Archive:
    """Write so many series, native and JPEG lossless in turn, and a table of labels."""
    folder.mkdir(parents=True)
    for number in range(series):
        place = folder / f"{number:05d}"
        place.mkdir()
        syntax, encode = bench_decode.ENCODE[SYNTAXES[number % len(SYNTAXES)]]
        for at, image in enumerate(_stored(number)):
            data = image_bytes(
                number, at + 1, syntax, bytes(encode(image)),
                Rows=SHAPE[1], Columns=SHAPE[2], ReconstructionDiameter="192",
                PixelSpacing=[str(mm) for mm in SPACING[1:]], SliceThickness=str(SPACING[0]),
                ImagePositionPatient=["-96", "-96", f"{at * SPACING[0] - 60:g}"],
                SliceLocation=f"{at * SPACING[0] - 60:g}",
            )  # fmt: skip
            (place / f"IM{at + 1:06d}.dcm").write_bytes(data)
    with (folder / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["accession_number", "target"])
        rows.writerows([accession(n), ("calm", "ill")[n % 2]] for n in range(series))
    return Archive(folder, series)


def _stored(seed: int) -> np.ndarray:
    """Return 12-bit values: a body with two lungs and a bone in it, in correlated noise."""
    rng = np.random.default_rng(seed)
    z, y, x = (np.linspace(-1, 1, n).reshape(s) for n, s in zip(SHAPE, _AXES, strict=True))
    body = (y / 0.7) ** 2 + (x / 0.9) ** 2 + 0 * z < 1
    lungs = ((np.abs(x) - 0.42) / 0.3) ** 2 + (y / 0.45) ** 2 + (z / 0.9) ** 2 < 1
    bone = ((x - 0.1) / 0.12) ** 2 + ((y - 0.5) / 0.12) ** 2 + 0 * z < 1
    hu = -1000 + 1040 * body - 850 * (lungs & body) + 400 * bone
    noise = gaussian_filter(rng.normal(0, 60, SHAPE).astype(np.float32), (0, 1, 1))
    return np.clip(hu + noise + 1024, 0, 4095).astype(np.uint16)


_AXES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
