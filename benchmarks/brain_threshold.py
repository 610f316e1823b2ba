"""The classical baseline of glioma: Otsu's thresholds and components, as another tool's masks.

    python -m tasks.phantom brain --out phantom --patients 40 --difficulty easy
    python -m tasks.phantom brain --out brats --layout brats2023 --patients 40 --difficulty easy
    radloop evaluate demo-brain --list cases.csv
    python benchmarks/brain_threshold.py --list cases.csv --brats brats --out otsu
    radloop evaluate demo-brain --predictions otsu

Nothing is learned. The brightest of Otsu's four classes of FLAIR within the brain, its largest
component, is the whole tumour; what of it is above Otsu's threshold of T1 with contrast there is
enhancing; what that encloses is necrosis. (Of three classes and four, four gave the better Dice on
training patients of demo-brain, .58 after .50.) Images are BraTS folders, stripped of the skull:
those of the list itself, or with ``--brats`` the same synthetic patients drawn again in that
layout. So the baseline is given the true brain, which the network has to find.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_closing, binary_dilation, binary_fill_holes, gaussian_filter
from scipy.ndimage import label as components
from skimage.filters import threshold_multiotsu, threshold_otsu

from tasks.archive.nifti import read_nifti, write_nifti
from tasks.archive.sources import FileRef, digest_of

SMOOTHING = 0.7
"""Voxels of the Gaussian before the threshold: noise would else make specks."""

CLASSES = 4

NECROSIS, OEDEMA, ENHANCING = 1, 2, 3


def outline(flair: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return a label map of two sequences (z, y, x) on one grid, 0 outside the brain."""
    brain = flair > 0
    smooth = gaussian_filter(flair.astype(np.float32), SMOOTHING)
    bright_on_flair = smooth > threshold_multiotsu(smooth[brain], classes=CLASSES)[-1]
    whole = _largest(bright_on_flair & brain)
    whole = binary_fill_holes(binary_closing(whole, iterations=2))
    bright = gaussian_filter(contrast.astype(np.float32), SMOOTHING)
    near = binary_dilation(whole, iterations=1) & brain
    enhancing = near & (bright > threshold_otsu(bright[near])) if near.any() else near
    core = binary_fill_holes(binary_closing(enhancing, iterations=2))
    found = np.where(whole, OEDEMA, 0).astype(np.uint8)
    found[core] = NECROSIS
    found[enhancing] = ENHANCING
    return found


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, count = components(mask, np.ones((3, 3, 3)))
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _read(path: Path):
    data = path.read_bytes()
    return read_nifti(FileRef(str(path), None, digest_of(data).hex(), len(data)))


def drawn_again(folder: Path) -> dict[str, Path]:
    """Return the sequence with contrast of each synthetic patient, by accession number."""
    with (folder / "labels.csv").open(newline="") as stream:
        accessions = [row["accession_number"] for row in csv.DictReader(stream)]
    names = [f"BraTS-GLI-{number:05d}-000" for number in range(len(accessions))]
    paths = [folder / name / f"{name}-t1c.nii.gz" for name in names]
    return dict(zip(accessions, paths, strict=True))


def main() -> None:
    """Write a mask for each test case of the list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", type=Path, required=True, help="of `radloop evaluate --list`")
    parser.add_argument("--brats", type=Path, help="the list's synthetic patients as BraTS folders")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with given.list.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    drawn = drawn_again(given.brats) if given.brats else {}
    for row in rows:
        contrast = drawn[row["accession"]] if drawn else Path(row["file"])
        flair = contrast.with_name(contrast.name.replace("t1ce", "flair").replace("t1c", "t2f"))
        one, other = _read(contrast), _read(flair)
        write_nifti(given.out / f"{row['case_id']}.nii.gz", outline(other.array, one.array),
                    one.affine)  # fmt: skip
    print(f"{len(rows)} masks in {given.out}")


if __name__ == "__main__":
    main()
