"""The demo's classical baseline of masks: a threshold's, judged as those of another tool."""

import tempfile
from pathlib import Path

import numpy as np

from flows.cohorts import settle
from flows.console import heading
from flows.evaluate import evaluate
from flows.foreign import MASK, keep_foreign
from flows.home import Home
from flows.jobs import write_job
from flows.probing import orders_of_cases
from tasks.archive.nifti import write_nifti
from tasks.errors import BadCase
from tasks.imaging.otsu_mass import otsu_mass
from tasks.imaging.recipe import FittedRecipe
from tasks.learn.answer import source_mask
from tasks.learn.judge import prepared_case


def beside_threshold(home: Home, scenario: str, source: str) -> str:
    """Outline every test case by a threshold and compare that with the champion, paired.

    Parameters
    ----------
    home : Home
    scenario : str
        Of pictures with one class.
    source : str
        Alias of the images.

    Returns
    -------
    str
        The comparison in a sentence.
    """
    heading("the classical baseline: smoothing, Otsu's threshold, a component")
    ready = settle(home, home.scenario(scenario), source)
    job = write_job(home, ready)
    recipe = FittedRecipe.from_dict(job.recipe)
    with tempfile.TemporaryDirectory() as scratch:
        for order in orders_of_cases(home, ready, job.on("test")):
            one = prepared_case(recipe, order)
            if isinstance(one, BadCase):
                raise one
            inside = otsu_mass(one.image.array[0])[None].astype(np.float32)
            maps = np.stack([1 - inside, inside])
            mask = source_mask(recipe, one.traces, maps)
            write_nifti(Path(scratch) / f"{order.case_id}{MASK}", mask, one.volume.affine)
        digest = keep_foreign(home, ready, job, Path(scratch))
    found = evaluate(scenario, source, digest)
    value, low, high = found["test"]["dice"]
    print(f"Dice of the threshold {value:.3f} [{low:.3f}, {high:.3f}]. {found['comparison']}")
    print(f"report    {found['report']}")
    return found["comparison"]
