"""Real images beside the checkout, read as radloop reads them, and how to run steps on an image."""

from pathlib import Path

import numpy as np

from tasks.archive.nifti import read_mask
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.imaging.recipe import apply, fit
from tasks.imaging.step import Image
from tasks.imaging.steps import parse_steps

LUNG_LOBES = range(10, 15)
BONES = (*range(25, 51), *range(69, 79), *range(91, 117))
"""Classes of TotalSegmentator 2: vertebrae and sacrum, limbs and hips, skull, ribs and sternum."""


def run(image: Image, *steps: dict) -> Image:
    """Apply the steps as a recipe."""
    return apply(fit(parse_steps(steps), None), image)[0]


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return twice the common voxels over the sum of both."""
    first, second = first != 0, second != 0
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def refs(*paths: Path) -> list[FileRef]:
    return [FileRef(str(path), None, "", path.stat().st_size) for path in paths]


def nrrd(folder: Path, name: str, modality: str) -> tuple[Image, np.ndarray]:
    """Return a volume of pyradiomics with its lesion."""
    image = read_volume("nrrd", refs(folder / f"volumes/{name}_image.nrrd"))
    lesion = read_volume("nrrd", refs(folder / f"volumes/{name}_label.nrrd")).array > 0
    return Image(image.array, image.affine, {}, {"modality": modality}), lesion


def ct_with_classes(folder: Path, name: str) -> tuple[Image, np.ndarray]:
    """Return a CT of TotalSegmentator with its 117 classes."""
    if name == "ct_body_3mm":
        volume = read_volume("nifti", refs(folder / f"volumes/{name}.nii.gz"))
        classes = folder / f"volumes/{name}_seg.nii.gz"
    else:
        volume = read_volume("dicom", refs(*sorted((folder / "dicom" / name).iterdir())))
        classes = folder / f"dicom/{name}_seg.nii.gz"
    image = Image(volume.array, volume.affine, {}, {"modality": "CT"})
    return image, read_mask(refs(classes)[0], volume)
