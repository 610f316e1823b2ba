"""Draw the picture of docs/imaging_masks.md from bodies made in code, into docs/images.

    python docs/masks_pictures.py

The steps run as a recipe runs them; the bodies are those of the tests.
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tasks.imaging.recipe import apply, fit
from tasks.imaging.steps import parse_steps

ROOT = Path(__file__).parents[1]

COLOURS = {
    "body": "#e0a030",
    "lung": "#40a0ff",
    "bone": "#ff5050",
    "brain": "#40a0ff",
    "breast": "#40a0ff",
    "field": "#40a0ff",
}


def panels() -> tuple:
    """Return title, image, steps, slice shown, and grey values from black to white of each."""
    # The tests are no installed package.
    sys.path.insert(0, str(ROOT))
    from tests.imaging.masks.phantoms import chest, framed, head, mammogram

    return (
        ("CT: body, lung, bone", chest()[0], ("body", "lung", "bone"), 26, (-1000, 800)),
        ("MR: brain", head()[0], ("brain",), 26, (0, 1500)),
        ("Mammography: breast", mammogram()[0], ("breast",), 0, (0, 3500)),
        ("Radiograph: collimation", framed(tilt_deg=3)[0], ("collimation",), 0, (0, 255)),
    )


def main() -> None:
    """Write masks.png without a date, so that the same drawing is the same file."""
    drawn = panels()
    figure, axes = plt.subplots(1, len(drawn), figsize=(12, 3.2), layout="constrained")
    for panel, (title, image, steps, index, (low, high)) in zip(axes, drawn, strict=True):
        out, _ = apply(fit(parse_steps([{"step": name} for name in steps]), None), image)
        panel.imshow(image.array[index], cmap="gray", vmin=low, vmax=high)
        for name, mask in out.masks.items():
            panel.contour(mask[index].astype(np.uint8), [0.5], colors=COLOURS[name], linewidths=1.5)
        panel.set_title(title, fontsize=10)
        panel.axis("off")
    path = ROOT / "docs" / "images" / "masks.png"
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
