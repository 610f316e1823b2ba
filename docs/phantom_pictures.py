"""Draw the pictures of docs/phantoms.md into docs/images.

    python docs/phantom_pictures.py
    python docs/phantom_pictures.py --out FOLDER --real-wrist FILE... --real-breast FILE...

Beside the drawn chests and brains stands a real image where ../shared/data has it (BSD-3-Clause,
pyradiomics); without it the place is left out. Real wrists and breasts are not at hand: who has
GRAZPEDWRI-DX or BUSI names pictures of them, and the sheets are written elsewhere, since no picture
of a person is put among the documentation by the way.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tasks.phantom.brain import draw_brain
from tasks.phantom.breast import CLASSES, draw_breast
from tasks.phantom.chest import draw_chest
from tasks.phantom.head import SEQUENCES
from tasks.phantom.radiograph import VIEWS, expose
from tasks.phantom.scanner import SCANNERS, scan
from tasks.phantom.wrist import draw_wrist

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
REAL = ROOT.parent / "shared" / "data" / "volumes"
MARK = "#e07020"
COLOURS = ("#40a0ff", "#60d060", "#ff5050")


def real_slice(name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the slice of a real volume with most of its mask, and the mask; None without it."""
    if not (REAL / f"{name}_image.nrrd").exists():
        return None
    from tasks.archive.sources import FileRef
    from tasks.archive.volume import read_volume

    volumes = []
    for part in ("image", "label"):
        path = REAL / f"{name}_{part}.nrrd"
        ref = FileRef(str(path), None, "", path.stat().st_size)
        volumes.append(read_volume("nrrd", [ref]).array)
    k = int((volumes[1] > 0).sum(axis=(1, 2)).argmax())
    return volumes[0][k], volumes[1][k] > 0


def real_pictures(paths: Sequence[Path]) -> list[tuple]:
    """Return pictures (PNG, JPEG, TIFF) as panels, as radloop reads them."""
    from tasks.archive.picture import read_picture

    found = [read_picture(path.read_bytes(), None).array[0] for path in paths]
    return [("REAL, no part of radloop", image, None, [], []) for image in found]


def sheet(
    folder: Path, name: str, rows: Sequence[Sequence[tuple]], size: tuple[float, float]
) -> None:
    """Save rows of (title, image, grey limits, masks, boxes) without a date."""
    columns = max(len(row) for row in rows)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=size, layout="constrained", squeeze=False
    )
    for axis in axes.ravel():
        axis.axis("off")
    for line, row in zip(axes, rows, strict=True):
        for axis, (title, image, limits, masks, boxes) in zip(line, row, strict=False):
            low, high = limits or np.percentile(image, (1, 99.7))
            axis.imshow(image, cmap="gray", vmin=low, vmax=high)
            for mask, colour in zip(masks, COLOURS, strict=False):
                if mask.any():
                    axis.contour(mask.astype(np.uint8), [0.5], colors=colour, linewidths=0.9)
            for top, left, bottom, right in boxes:
                corner, tall, wide = (left, top), bottom - top, right - left
                axis.add_patch(plt.Rectangle(corner, wide, tall, fill=False, edgecolor=MARK))
            axis.set_title(title, fontsize=8)
    figure.savefig(folder / name, dpi=90, metadata={"Software": None})
    plt.close(figure)


def chest(out: Path) -> None:
    """Show one slice with a nodule of four scanners, and one in the mediastinum's window."""
    lung, soft = (-1350, 150), (-160, 240)
    panels = []
    for number, seed in enumerate((1, 3, 12, 17)):
        drawn = draw_chest(seed, shape=(40, 200, 200), spacing=(2.5, 1.6, 1.6), nodules=3)
        scanner = SCANNERS[number]
        image = scan(drawn.body, drawn.spacing, scanner, seed)
        k = int((drawn.labels > 0).sum(axis=(1, 2)).argmax())
        title = f"SYNTHETIC, {scanner.manufacturer.split()[0]} {scanner.kernel}"
        panels.append((title, image[k], lung, [drawn.labels[k] > 0], []))
        if number == 1:
            panels.append((f"{title}, soft tissue", image[k], soft, [], []))
    found = real_slice("lung1")
    if found:
        panels.append(("REAL (pyradiomics lung1)", found[0], lung, [found[1]], []))
    sheet(out, "phantom-chest.png", [panels[:3], panels[3:]], (9, 6.4))


def brain(out: Path) -> None:
    """Show four sequences of two brains."""
    rows = []
    for seed in (1, 2):
        drawn = draw_brain(seed, shape=(64, 160, 160), spacing=(2.4, 1.2, 1.2))
        k = int((drawn.labels == 3).sum(axis=(1, 2)).argmax())
        rows.append([(f"SYNTHETIC {s}", drawn.images[i][k], None, [], [])
                     for i, s in enumerate(SEQUENCES)])  # fmt: skip
        masks = [drawn.labels[k] == value for value in (1, 2, 3)]
        rows[-1].append(("truth on t1c", drawn.images[1][k], None, masks, []))
    found = real_slice("brain1")
    if found:
        for row, masks in zip(rows, ([], [found[1]]), strict=True):
            row.append(("REAL t1c (pyradiomics brain1)", found[0], None, masks, []))
    sheet(out, "phantom-brain.png", rows, (13, 4.8))


def wrist(out: Path, real: Sequence[Path]) -> None:
    """Show both views of six wrists: a growth plate, fractures, a cast, metal; then real ones."""
    rows = [[], []]
    for seed in (22, 21, 20, 23, 6, 2):
        drawn = draw_wrist(seed)
        for row, view in zip(rows, VIEWS, strict=True):
            film = expose(drawn, view)
            title = f"SYNTHETIC {view}, {drawn.age:.0f} y, {drawn.code or 'no fracture'}"
            row.append((title, film.image, (0, 4095), [], film.boxes))
    rows += [real_pictures(real)] if real else []
    sheet(out, "phantom-wrist.png", rows, (13, 3.1 * len(rows)))


def breast(out: Path, real: Sequence[Path]) -> None:
    """Show four pictures of each class; then real ones."""
    rows = []
    for number, target in enumerate(CLASSES):
        drawn = [draw_breast(seed + 10 * number, target=target) for seed in range(4)]
        rows.append([(f"SYNTHETIC {target}" + (f", {d.mass.margin}" if d.mass else ""),
                      d.image, (0, 255), [d.mask], []) for d in drawn])  # fmt: skip
    rows += [real_pictures(real)] if real else []
    sheet(out, "phantom-breast.png", rows, (10, 2.6 * len(rows)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=IMAGES)
    for part in ("wrist", "breast"):
        parser.add_argument(f"--real-{part}", type=Path, nargs="+", default=[], metavar="FILE")
    asked = parser.parse_args()
    if (asked.real_wrist or asked.real_breast) and asked.out.resolve().is_relative_to(ROOT):
        parser.error("real pictures go nowhere into the project: say --out FOLDER outside of it")
    asked.out.mkdir(parents=True, exist_ok=True)
    chest(asked.out)
    brain(asked.out)
    wrist(asked.out, asked.real_wrist)
    breast(asked.out, asked.real_breast)
