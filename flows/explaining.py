"""Explaining a model that is to be registered: where it looks, or which columns it leans on."""

from pathlib import Path
from typing import Any

import numpy as np

from flows.cohorts import Ready
from flows.console import progress, say
from flows.explaining_findings import covered
from flows.home import Home
from flows.probing import orders_of_cases, unasked
from tasks.evaluate.config import EXPLAINED_IMAGES, EXPLAINED_ROWS
from tasks.evaluate.explanation_figure import LookPanel, draw_looks, draw_ruin, draw_shapley
from tasks.evaluate.saliency import YES, Looked, summary
from tasks.learn.answer import called
from tasks.learn.importance import feature_importance
from tasks.learn.job import JobCase, TrainingJob, frame
from tasks.learn.model import load_model
from tasks.learn.model_file import ModelSpec
from tasks.learn.stressed import sample_cases
from tasks.serve.probes import Probe

PICTURED = 4
"""Cases, or classes of a table, that are shown."""

TABLE_ROWS = 20
"""Columns in the report; the table in MLflow has all."""


def explained(home: Home, ready: Ready, job: TrainingJob, folder: Path, pictures: Path) -> Probe:
    """Explain a model on some test cases, with figures that say whether to believe it.

    Of a segmentation there is nothing: what it says is a place already.
    """
    config = ready.scenario.evaluate
    if job.task == "detection":
        return covered(home, ready, job, folder, pictures)
    model = load_model(folder, trusted=ready.scenario.networks)
    network = model.spec.kind == "network"
    wanted = config.explain.cases
    if wanted is None:
        wanted = EXPLAINED_IMAGES if network else EXPLAINED_ROWS
    if not wanted or job.task not in ("classification", "regression"):
        return Probe()
    if reason := unasked(model.spec):
        say(f"  not explained: {reason}")
        return Probe()
    sample = sample_cases(job.on("test"), wanted)
    pictures.mkdir(parents=True, exist_ok=True)
    if network:
        return _looks(home, ready, model, sample, pictures)
    return _columns(ready, job, model, sample, pictures)


def _looks(home: Home, ready: Ready, model: Any, sample: list[JobCase], pictures: Path) -> Probe:
    """Show where a network looks."""
    # It imports torch, which only networks need.
    from tasks.learn.looking import OUTLINE, look

    config, spec = ready.scenario.evaluate, model.spec
    say(
        f"  explanations: {len(sample)} test cases, and {len(sample)} times a model ruined in steps"
    )
    orders = orders_of_cases(home, ready, sample)
    truth = {case.case_id: case.target for case in sample}
    looked: list[Looked] = []
    panels = []
    with progress("explaining", total=len(orders), unit="cases") as advance:
        try:
            for number, seen in enumerate(look(model, orders, config.seed), start=1):
                looked += seen.looked
                if len(panels) < PICTURED:
                    mask = seen.masks.get(OUTLINE, next(iter(seen.masks.values()), None))
                    at = _slice_of(seen.maps, mask)
                    caption = _caption(spec, truth[seen.case_id], seen.answer, seen.explained)
                    maps = {name: one[at] for name, one in seen.maps.items()}
                    outlined = None if mask is None else mask[at]
                    panels.append(LookPanel(seen.image[at], caption, maps, outlined))
                advance(number, len(orders))
        except ValueError as error:
            say(f"  not explained: {error}")
            return Probe()
    if not looked:
        return Probe()
    rows = summary(looked, replicates=config.bootstrap, seed=config.seed)
    title = f"{spec.candidate}, test images"
    maps = draw_looks(pictures / "test-looks.png", panels, title=title)
    ruin = draw_ruin(pictures / "test-looks-ruined.png", looked, title=title)
    shown = ", ".join(row["method"] for row in rows if row["shows the model"] == YES) or "none"
    figures = (
        {
            "path": str(maps),
            "title": "Where the model looks, test",
            "caption": f"{_RED[spec.task]}; the mean over the folds. For where a finding is, use "
            "a detector or a segmenter.",
        },
        {
            "path": str(ruin),
            "title": "Do the maps show the model?",
            "caption": "What is left of each map when weights are drawn anew, from the output "
            f"inwards (first fold). Maps that are shown to fall below 0.3: {shown}.",
        },
    )
    return Probe(
        figures,
        {"explanations": [one.to_row() for one in looked]},
        {"Explanations": tuple(rows)},
    )


_RED = {
    "classification": "Red speaks for the class that is explained, blue against it",
    "regression": "Red makes the number larger, blue smaller",
}


def _caption(spec: ModelSpec, truth: float, answer: np.ndarray, explained: int) -> str:
    """Return what is true of a case and what the model says, in two lines."""
    if spec.task == "regression":
        return f"{spec.classes[0]} ({spec.unit})\ntruth {truth:g}, estimated {answer[0]:.4g}"
    return (
        f"truth {spec.classes[int(truth)]}, called {called(spec, answer)}\n"
        f"{spec.classes[explained]} {answer[explained]:.2f}"
    )


def _slice_of(maps: Any, mask: np.ndarray | None) -> int:
    """Return the slice to show: of the largest mask, else where the first map is strongest."""
    if mask is not None:
        return int(mask.sum((1, 2)).argmax())
    return int(np.abs(next(iter(maps.values()))).max((1, 2)).argmax())


def _columns(
    ready: Ready, job: TrainingJob, model: Any, sample: list[JobCase], pictures: Path
) -> Probe:
    """Show which columns a tabular model leans on, by two methods that may disagree."""
    from tasks.learn.shapley import rows_within, shapley_values

    config, spec = ready.scenario.evaluate, model.spec
    candidate, test = job.candidate(spec.candidate), job.on("test")
    names = [str(name) for name in model.pipeline.feature_names_in_]
    sample = sample[: rows_within(len(sample), len(names))]
    say(f"  explanations: Shapley values of {len(names)} columns in {len(sample)} test cases")
    table = frame(job, candidate, sample)
    estimates = spec.task == "regression"
    values, _ = shapley_values(
        model.pipeline, frame(job, candidate, job.on("train")), table,
        None if estimates else len(spec.classes), config.seed,
    )  # fmt: skip
    target = np.array([case.target for case in test])
    importance = {}
    if estimates or len(set(target.tolist())) == len(spec.classes):
        everyone = frame(job, candidate, test)
        found = feature_importance(
            model.pipeline, everyone, target, config.seed, primary=job.primary, numbers=estimates
        )
        importance = {row["feature"]: row for row in found}
    chosen = [spec.positive] if spec.positive and len(spec.classes) == 2 else list(spec.classes)
    numbers = [spec.classes.index(name) for name in chosen]
    unit = spec.unit if estimates else "log-odds"
    verb, moved = ("raises", "number") if estimates else ("speaks for", "log-odds")
    size = np.abs(values[:, :, numbers]).mean((0, 2))
    order = np.argsort(-size, kind="stable")
    rows = [
        {
            "column": names[j],
            f"mean |Shapley value|, {unit}": float(size[j]),
            "fall when shuffled": importance.get(names[j], {}).get("importance"),
            "sd": importance.get(names[j], {}).get("sd"),
            "weight": importance.get(names[j], {}).get("weight"),
        }
        for j in order
    ]
    ranks = table[names].rank(pct=True, numeric_only=True).reindex(columns=names).to_numpy(float)
    figures = tuple(
        {
            "path": str(
                draw_shapley(
                    pictures / f"test-shapley-{spec.classes.index(name)}.png",
                    names,
                    values[:, :, spec.classes.index(name)],
                    ranks,
                    title=f"{spec.candidate}: what {verb} {name}",
                    unit=unit,
                )
            ),
            "title": f"Columns, {name}",
            "caption": f"Shapley values: how much a cell moves the {moved} of a row from the mean "
            "over training rows. They say what the model does, not what causes a finding.",
        }
        for name in chosen[:PICTURED]
    )
    return Probe(figures, {"explanations": rows}, {"Explanations": tuple(rows[:TABLE_ROWS])})
