"""Draw the pictures of docs/geometry.md from series made in code, into docs/images.

    python docs/geometry_pictures.py

Each series is written as DICOM files and read back by radloop, so the verdicts in the pictures are
what the package says, not what somebody typed.
"""

import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from pydicom import dcmread

from tasks.archive.geometry import certify
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tasks.phantom.ct import write_ct_series

IMAGES = Path(__file__).parent / "images"
COLOURS = {"accept": "#2a7f3f", "resample": "#b8860b", "quarantine": "#b03030"}
AXIAL = ((1.0, 0, 0), (0, 1.0, 0))
TILT = 20.0


def save(figure: plt.Figure, name: str) -> None:
    """Write a picture without a date, so that the same drawing is the same file."""
    figure.savefig(IMAGES / name, dpi=100, metadata={"Software": None})
    plt.close(figure)


def stacks() -> None:
    """Slices along the normal, with the verdict of each stack."""
    even = 2.5 * np.arange(12.0)
    heights = {
        "even": even,
        "sent in any order": np.random.default_rng(0).permutation(even),
        "two slices lost": np.delete(even, [5, 6]),
        "one slice twice": np.append(even, even[4]),
        "the whole stack twice": np.tile(even, 2),
        "uneven steps": even + np.where(even > 14, 0.9, 0.0),
        "two ranges": np.concatenate([even[:6], 21 + 1.0 * np.arange(8)]),
    }
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for row, (name, z) in enumerate(heights.items()):
        positions = np.stack([np.zeros_like(z), np.zeros_like(z), z], axis=1)
        certificate, _ = certify(positions, *AXIAL, (1.0, 1.0))
        colour = COLOURS[certificate.verdict]
        places, counts = np.unique(z, return_counts=True)
        for copy in range(counts.max()):
            at = places[counts > copy]
            axes.plot(at, np.full(len(at), -row - 0.16 * copy), "|", ms=13, mew=2, color=colour)
        said = f"{certificate.verdict} {certificate.reason}".strip()
        axes.text(32, -row, said, color=colour, va="center")
        axes.text(-1.5, -row, name, ha="right", va="center")
    axes.set_xlim(-13, 52)
    axes.set_yticks([])
    axes.set_xticks(np.arange(0, 31, 5))
    axes.set_xlabel("position along row x column (mm)")
    axes.spines[["left", "right", "top"]].set_visible(False)
    save(figure, "geometry-stacks.png")


def tilt() -> None:
    """A ball with a box in it under a tilted gantry: stacked upright, refused, straightened."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ct_series(folder, shape=(40, 80, 80), spacing=(1.5, 0.8, 0.8), tilt_deg=TILT)
        slices = [_scanned(path) for path in folder.iterdir()]
        files = [_ref(path) for path in sorted(folder.iterdir())]
        mended = read_volume("dicom", files, straighten=True)
        try:
            read_volume("dicom", files)
            refusal = ""
        except BadCase as problem:
            refusal = str(problem)
    upright = np.stack([plane for _, plane in sorted(slices, key=lambda pair: pair[0])])
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), layout="constrained")
    _sagittal(axes[0], upright, 1.5, "stacked upright as the slices come:\nthe patient leans")
    axes[1].axis("off")
    said = refusal.replace(": ", ":\n").replace("; ", ";\n").replace(" (", "\n(")
    axes[1].text(0.5, 0.5, "radloop refuses that:\n\n" + said, ha="center", va="center")
    title = "straightened on request:\nround and square again"
    _sagittal(axes[2], mended.array, mended.certificate["spacing"][0], title)
    save(figure, "geometry-tilt.png")


def _scanned(path: Path) -> tuple[float, np.ndarray]:
    """Write into a file what its slice cuts of a ball and a box that stand upright in space."""
    dataset = dcmread(path)
    corner = np.array([float(v) for v in dataset.ImagePositionPatient])
    y, x = np.indices((dataset.Rows, dataset.Columns))
    at = np.stack([corner[0] + 0.8 * x, corner[1] + 0.8 * y, np.full(x.shape, corner[2])], axis=-1)
    away = np.abs(at - [-88.0, -48.0, 70.0])
    stored = 40 + 1000 * (np.linalg.norm(away, axis=-1) < 20) + 700 * (away.max(axis=-1) < 9)
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset.save_as(path)
    return corner[2], stored + float(dataset.RescaleIntercept)


def _sagittal(axes: plt.Axes, array: np.ndarray, step: float, title: str) -> None:
    plane = array[:, :, array.shape[2] // 2]
    extent = (0, plane.shape[1] * 0.8, 0, plane.shape[0] * step)
    axes.imshow(plane, cmap="gray", vmin=-1024, vmax=800, extent=extent, origin="lower")
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("y (mm)")
    axes.set_ylabel("z (mm)")


def groups() -> None:
    """One series of two echoes and three time points, told apart by what varies."""
    from pydicom import Dataset

    from tasks.archive.frames import Frame, Planes
    from tasks.archive.groups import split

    planes, frames = Planes(Dataset()), []
    number = 0
    for time in (1.0, 2.0, 3.0):
        for z in np.random.default_rng(int(time)).permutation(8):
            for te in (15.0, 40.0):
                number += 1
                frames.append(
                    Frame(planes, number, (0.0, 0.0, 3.0 * z), (1.0, 0, 0, 0, 1.0, 0), (1.0, 1.0),
                          "PixelSpacing", (4, 4), ("ORIGINAL",), None, {"te": te, "time": time})
                )  # fmt: skip
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    for group in split(frames):
        number = [frame.index for frame in group.frames]
        axes.plot(number, [frame.position[2] for frame in group.frames], "o", label=group.key)
    axes.set_xlabel("order in which the files came (never asked)")
    axes.set_ylabel("position (mm)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.spines[["right", "top"]].set_visible(False)
    save(figure, "geometry-groups.png")


def _ref(path: Path) -> FileRef:
    return FileRef(str(path), None, "", path.stat().st_size)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    stacks()
    tilt()
    groups()
