"""The folds of every candidate as tasks on the workers, and how far they are."""

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import dask
from prefect import flow
from prefect.futures import as_completed

from flows.console import progress, say
from flows.home import Home
from flows.policy import TRAIN_TAG, task
from flows.runners import offered, runner, tell
from flows.searching import search_networks
from flows.settings import load_settings
from tasks.evaluate.config import EvaluateConfig
from tasks.learn.crossval import FoldRecord, fit_fold, further_seeds
from tasks.learn.fusing import fuse, fusions, pairs
from tasks.learn.job import TrainingJob, load_job
from tasks.serve.outcome import Scores, held_out

EPOCHS = "radloop-epochs"
"""Topic on which workers tell each epoch's figures."""

LINE_SECONDS = 20


def _fit(
    scenario: str,
    key: str,
    candidate: str,
    fold: int,
    without: int | None = None,
    further: int = 0,
) -> FoldRecord:
    settings = load_settings()
    place = settings.home / "training" / scenario / key

    def on_epoch(record: dict[str, Any]) -> None:
        told = f"{candidate} (further seed {further})" if further else candidate
        tell(EPOCHS, {"candidate": told, "fold": fold, **record})

    more = on_epoch, settings.home, without, further
    return fit_fold(place, settings.store_root, candidate, fold, *more)


class EpochLines:
    """Says now and then how far the networks are; a person would else wait in silence."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Print an epoch's line when the last one is long enough ago."""
        now = time.monotonic()
        if now - self._last < LINE_SECONDS or "loss" not in record:
            return
        self._last = now
        shown = [f"loss {record['loss']:.3f}"]
        shown += [f"{n} {v:.3f}" for n, v in record.items() if n.startswith("val_")]
        # An epoch that an older radloop trained does not say it.
        if "samples_a_second" in record:
            shown.append(f"{record['samples_a_second']:.1f} samples/s")
        say(
            f"  {record['candidate']} fold {record['fold']}, epoch {record['epoch']}: "
            f"{', '.join(shown)}, data wait {record['data_wait']:.0%}"
        )


fit_one_fold = task(_fit, name="fold", tags=[TRAIN_TAG], retries=1)


@flow(name="train-wave", persist_result=False)
def train_wave(scenario: str, key: str, resources: list[str]) -> dict[str, list[FoldRecord]]:
    """Fit every fold of every candidate; networks ask for a GPU where workers offer one.

    Records of further seeds stand among those of their candidate.
    """
    job = load_job(load_settings().home / "training" / scenario / key)
    futures, inner, more = [], pairs(job), further_seeds(job)
    # The longest first, so that no worker waits at the end for one late network.
    for body in sorted(job.candidates, key=lambda body: body["kind"] != "network"):
        if body["kind"] == "fusion":
            continue
        wants_gpu = body["kind"] == "network" and "GPU" in resources
        with dask.annotate(resources={"GPU": 1}) if wants_gpu else nullcontext():
            futures += [
                fit_one_fold.submit(scenario, key, body["name"], fold) for fold in job.folds
            ]
            futures += [
                fit_one_fold.submit(scenario, key, *one) for one in inner if one[0] == body["name"]
            ]
            futures += [
                fit_one_fold.submit(scenario, key, name, fold, further=further)
                for name, fold, further in more
                if name == body["name"]
            ]
    records: list[FoldRecord] = []
    with progress("training", total=len(futures), unit="folds") as advance:
        for number, future in enumerate(as_completed(futures), start=1):
            records.append(future.result())
            advance(number, len(futures))
    found: dict[str, list[FoldRecord]] = {body["name"]: [] for body in job.candidates}
    for record in records:
        if record.without is None:
            found[record.candidate].append(record)
    for candidate in fusions(job):
        found[candidate.name] = fuse(job, candidate, [one for one in records if not one.further])
    return found


def fit_folds(job: TrainingJob, address: str) -> dict[str, list[FoldRecord]]:
    """Fit every fold of every candidate of a job that has been saved."""
    # A worker may say GPU=0: what nobody offers once would be waited for for ever.
    whole = sorted(name for name, amount in offered(address).items() if amount >= 1)
    search_networks(job, address, whole)
    wave = train_wave.with_options(task_runner=runner(address))
    return wave(job.scenario, job.key, whole)


def again(home: Home, address: str, config: EvaluateConfig) -> Callable[[TrainingJob], Scores]:
    """Return how a job is trained for the out-of-fold scores of its last candidate alone."""

    def fit(job: TrainingJob) -> Scores:
        place = job.save(home.settings.home / "training" / job.scenario)
        records = fit_folds(job, address)[job.candidates[-1]["name"]]
        shutil.rmtree(place)
        return held_out(job, records, config)

    return fit
