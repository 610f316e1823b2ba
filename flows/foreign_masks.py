"""Masks of another tool: kept by case id without a text of their maker, and measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.cohorts import Ready
from flows.foreign_names import one_each, stem
from flows.home import Home
from flows.orders import orders_of
from tasks.archive.decathlon import NIFTI_SUFFIXES
from tasks.archive.nifti import read_mask, read_nifti, write_nifti
from tasks.archive.sources import FileRef, digest_of
from tasks.errors import BadCase, RadloopError
from tasks.evaluate.leakage import named
from tasks.evaluate.segmentation import MaskFigures, mask_figures
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.source import read_source
from tasks.labels.case_mask import case_mask
from tasks.labels.regions import values_of
from tasks.learn.dataset import spacing_of
from tasks.learn.job import TrainingJob

MASK = ".nii.gz"


def keep_masks(job: TrainingJob, folder: Path, names: Mapping[str, set[str]], out: Path) -> None:
    """Copy one mask a test case below its case id; RadloopError names those that cannot be read."""
    files = sorted(path for path in folder.glob("*") if path.name.endswith(NIFTI_SUFFIXES))
    if not files:
        raise RadloopError(f"{folder} has no NIfTI file: write one mask a test case, NAME{MASK}")
    given = [(path.name, names.get(stem(path.name), set()), path) for path in files]
    wrong = []
    for case_id, path in sorted(one_each(job, given, str(folder)).items()):
        try:
            # Written anew: a header may hold texts of its maker.
            mask = read_nifti(_ref(path))
        except BadCase as problem:
            wrong.append(f"{case_id[:12]} ({problem})")
            continue
        write_nifti(out / f"{case_id}{MASK}", mask.array, mask.affine)
    if wrong:
        raise RadloopError(f"{len(wrong)} masks cannot be read: {named(wrong)}")


def measured_masks(
    home: Home, ready: Ready, job: TrainingJob, folder: Path, case_ids: Sequence[str]
) -> list[MaskFigures]:
    """Measure kept masks on their images; RadloopError names those of another grid or class."""
    recipe = FittedRecipe.from_dict(job.recipe)
    by_id = {case.case_id: case for case in ready.cohort.cases}
    rows, wrong = [], []
    chosen, labels = [by_id[case_id] for case_id in case_ids], ready.scenario.labels
    told = (ready.cohort.masks, labels.numbers)
    for order in orders_of(home, chosen, *told, named=labels.named):
        path = folder / f"{order.case_id}{MASK}"
        volume = read_source(recipe, order)
        truth = case_mask(order, volume)
        try:
            theirs = read_mask(_ref(path), volume)
        except BadCase as problem:
            wrong.append(f"{order.case_id[:12]} ({problem})")
            continue
        if (most := int(theirs.max())) > len(job.classes):
            wrong.append(
                f"{order.case_id[:12]} (label {most}, classes are 1 to {len(job.classes)})"
            )
            continue
        rows.append(
            mask_figures(
                truth,
                theirs,
                spacing_of(volume.affine),
                len(job.classes),
                ready.scenario.evaluate,
                values_of(labels.parts),
            )
        )
    if wrong:
        raise RadloopError(f"{len(wrong)} masks do not fit their images: {named(wrong)}")
    return rows


def _ref(path: Path) -> FileRef:
    data = path.read_bytes()
    return FileRef(str(path), None, digest_of(data).hex(), len(data))
