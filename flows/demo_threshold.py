"""The demo's classical baseline of masks: a threshold's, judged as those of another tool."""

import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows.cohorts import Ready, settle
from flows.console import heading, say
from flows.evaluate import evaluate
from flows.foreign import keep_foreign
from flows.foreign_masks import MASK
from flows.home import Home
from flows.jobs import write_job
from flows.probing import orders_of_cases
from tasks.archive.nifti import read_nifti, write_nifti
from tasks.archive.sources import FileRef
from tasks.archive.vault import recall
from tasks.errors import BadCase
from tasks.imaging.otsu_glioma import otsu_glioma
from tasks.imaging.otsu_mass import otsu_mass
from tasks.imaging.recipe import FittedRecipe
from tasks.learn.answer import source_mask
from tasks.learn.job import TrainingJob
from tasks.learn.judge import prepared_case
from tasks.phantom.write_brain import write_brain_archive

Outlined = tuple[str, np.ndarray, np.ndarray]
"""Case id, label map (z, y, x) on the grid of its source, and that grid's affine."""

Outlines = Callable[[Home, Ready, TrainingJob], Iterator[Outlined]]


@dataclass(frozen=True)
class BesideThreshold:
    """The champion beside a threshold, in a sentence that begins with an ordinary word."""

    sentence: str
    beaten: bool
    """Whether the threshold is worse: the interval of the paired difference lies below 0."""


def beside_threshold(home: Home, scenario: str, source: str, outlines: Outlines) -> BesideThreshold:
    """Outline every test case by a threshold and compare that with the champion, paired.

    Parameters
    ----------
    home : Home
    scenario : str
        Of masks.
    source : str
        Alias of the images.
    outlines : callable
        `masses` or `gliomas`.
    """
    heading("the classical baseline: smoothing, Otsu's threshold, a component")
    ready = settle(home, home.scenario(scenario), source)
    job = write_job(home, ready)
    with tempfile.TemporaryDirectory() as scratch:
        for case_id, mask, affine in outlines(home, ready, job):
            write_nifti(Path(scratch) / f"{case_id}{MASK}", mask, affine)
        digest = keep_foreign(home, ready, job, Path(scratch))
    found = evaluate(scenario, source, digest)
    value, low, high = found["test"]["dice"]
    said = f"Dice of the threshold {value:.3f} [{low:.3f}, {high:.3f}]"
    print(said)
    print(f"report    {found['report']}")
    if found["difference"] is None:
        return BesideThreshold(found["comparison"], beaten=False)
    return told_beside(said, found["difference"])


def told_beside(said: str, apart: tuple[float, float, float]) -> BesideThreshold:
    """Return the champion beside a threshold in words.

    Parameters
    ----------
    said : str
        The threshold's own figure.
    apart : (difference, low, high)
        Of the threshold to the champion; positive where the threshold is better.
    """
    gap, lowest, highest = (-one for one in (apart[0], apart[2], apart[1]))
    beaten = lowest > 0
    verb = "beats" if beaten else "is not shown to beat"
    return BesideThreshold(
        f"On the test patients, the champion {verb} the classical baseline, a threshold: {said}; "
        f"the champion's is better by {gap:+.3f}, 95 % interval {lowest:+.3f} to {highest:+.3f}, "
        "paired over the patients",
        beaten,
    )


def masses(home: Home, ready: Ready, job: TrainingJob) -> Iterator[Outlined]:
    """Outline the mass of each test picture of breast ultrasound."""
    recipe = FittedRecipe.from_dict(job.recipe)
    for order in orders_of_cases(home, ready, job.on("test")):
        one = prepared_case(recipe, order)
        if isinstance(one, BadCase):
            raise one
        inside = otsu_mass(one.image.array[0])[None].astype(np.float32)
        maps = np.stack([1 - inside, inside])
        yield order.case_id, source_mask(recipe, one.traces, maps), one.volume.affine


def gliomas(patients: int, seed: int, options: Mapping[str, Any]) -> Outlines:
    """Return how the gliomas of drawn patients are outlined.

    The threshold is given the true brain, which the network has to find: the same patients are
    drawn again as BraTS lays them out, without the skull.
    """

    def outlines(home: Home, ready: Ready, job: TrainingJob) -> Iterator[Outlined]:
        wanted = {case.case_id for case in job.on("test")}
        cases = [case for case in ready.cohort.cases if case.case_id in wanted]
        named = {recall(home.vault, "accession", c.accession_key): c.case_id for c in cases}
        with tempfile.TemporaryDirectory() as scratch:
            say(f"  drawing the {len(named)} test patients again, without the skull")
            how = {"patients": patients, "seed": seed, "layout": "brats2023", **options}
            folder = write_brain_archive(Path(scratch) / "brats", only=named, **how).parent
            drawn = drawn_again(folder)
            for accession, case_id in named.items():
                contrast = drawn[accession]
                flair = contrast.with_name(contrast.name.replace("t1c", "t2f"))
                seen = _read(contrast)
                yield case_id, otsu_glioma(_read(flair).array, seen.array), seen.affine

    return outlines


def drawn_again(folder: Path) -> dict[str, Path]:
    """Return the sequence with contrast of each synthetic patient, by accession number."""
    with (folder / "labels.csv").open(newline="") as stream:
        accessions = [row["accession_number"] for row in csv.DictReader(stream)]
    # Both in the order of the patients' numbers, whoever was left out.
    paths = sorted(folder.glob("BraTS-GLI-*/*-t1c.nii.gz"))
    return dict(zip(accessions, paths, strict=True))


def _read(path: Path) -> Any:
    return read_nifti(FileRef(str(path), None, "", path.stat().st_size))
