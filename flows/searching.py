"""Searches of networks: trials of all folds as Dask tasks, round by round, kept under the home."""

import shutil
from contextlib import nullcontext
from typing import Any

import dask
from prefect import flow
from prefect.futures import as_completed

from flows.console import progress, say
from flows.policy import TRAIN_TAG, task
from flows.runners import runner
from flows.settings import load_settings
from tasks.learn.job import TrainingJob, load_job
from tasks.learn.optimise import Ask, Told
from tasks.learn.trial import open_search, run_trial, searched, trial_folder, write_found


def _try(scenario: str, key: str, candidate: str, fold: int, ask: Ask) -> Told:
    settings = load_settings()
    place = settings.home / "training" / scenario / key
    return run_trial(place, settings.store_root, candidate, fold, ask, home=settings.home)


try_setting = task(_try, name="trial", tags=[TRAIN_TAG], retries=1)


def search_networks(job: TrainingJob, address: str, resources: list[str]) -> None:
    """Search for every network of a saved job that declares a space; nothing when none does."""
    if wanted := searched(job):
        trials = sum(job.candidate(name).max_trials for name, _ in wanted)
        say(f"  searching: {trials} trials at most, {len(job.folds)} folds each by itself")
        wave = search_wave.with_options(task_runner=runner(address))
        wave(job.scenario, job.key, resources)


@flow(name="search-wave", persist_result=False)
def search_wave(scenario: str, key: str, resources: list[str]) -> None:
    """Run the searches of a job together: a round of each at a time, until none asks any more."""
    place = load_settings().home / "training" / scenario / key
    job = load_job(place)
    searches = {one: open_search(job, place, *one) for one in searched(job)}
    total = sum(job.candidate(name).max_trials for name, _ in searches)
    done = sum(len(search.told()) for search in searches.values())
    with progress("searching", total=total, unit="trials") as advance:
        while asked := [(one, ask) for one, search in searches.items() for ask in search.ask()]:
            with dask.annotate(resources={"GPU": 1}) if "GPU" in resources else nullcontext():
                futures: dict[Any, tuple[str, int]] = {
                    try_setting.submit(scenario, key, *one, ask): one for one, ask in asked
                }
            for future in as_completed(list(futures)):
                one, told = futures[future], future.result()
                searches[one].tell(told)
                shutil.rmtree(trial_folder(place, *one, told.number), ignore_errors=True)
                done += 1
                advance(done, total)
    for (name, fold), search in searches.items():
        write_found(place, name, fold, search)
        best = search.best
        chosen = ", ".join(f"{n} {v:.3g}" if isinstance(v, float) else f"{n} {v}"
                           for n, v in best.params.items())  # fmt: skip
        stopped = sum(one.stopped for one in search.told())
        say(f"  {name} fold {fold}: {chosen} ({len(search.told())} trials, {stopped} cut short)")
