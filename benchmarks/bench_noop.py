"""`radloop preprocess` where nothing is left to do, over a large catalog.

    python benchmarks/bench_noop.py [--series 100000] [--keep FOLDER]

The catalog is made: every series is labelled, stands on a side and lies in a committed part, once
for a classification and once for a segmentation with label parts. The commands are the real ones,
in processes of their own; what is timed is their whole life. No server and no worker may start.
The bar is held against core seconds, which other load on the machine disturbs less.
Exit code 1 when a command takes longer than the bar or does anything.
"""

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flows.cohorts import settle
from flows.home import Home
from flows.settings import Settings
from tasks.archive.catalog import (
    InstanceRow,
    LabelRow,
    SeriesRow,
    cases,
    put_label_set,
    upsert_series,
)
from tasks.archive.commits import PartRow, commit_part, put_recipe, want_cases
from tasks.archive.sources import Source
from tasks.archive.vault import put_source
from tasks.imaging.recipe import fit
from tasks.imaging.steps import asked_for
from tasks.labels.config import label_set_name
from tasks.store.schema import part_id, recipe_id

BAR_S = 10.0
"""Seconds of a command that has nothing to do, over 100,000 series."""

SLICES = 4
"""Instances a series: what has nothing to do looks at series, and asks for no instance."""

PART_CASES = 128
BATCH = 2000

SCENARIO = """\
name: {name}
title: Made catalog
task: {task}
intended_use: A benchmark. Research use only.
not_for: Anything clinical.
population: Nobody.
cohort: {{kind: dicom, modality: CT}}
labels: {labels}
recipe: [{{step: normalise, method: zscore}}]
split: {{source: keyed, test: 0.2, folds: 5, strata: []}}
candidates: [{candidate}]
evaluate: {evaluate}
"""

LABELS = {
    "classification": "{format: table, file: labels.csv, join: series, column: target, "
    "classes: [calm, ill], positive: ill}",
    "segmentation": "{format: decathlon, classes: [lesion]}",
}
CANDIDATE = {
    "classification": "{name: small-cnn, kind: network, network: small_cnn, epochs: 1}",
    "segmentation": "{name: small-unet, kind: network, network: unet3d, epochs: 1}",
}
EVALUATE = {"classification": "{primary: auroc}", "segmentation": "{primary: dice}"}


def key(kind: str, number: int) -> str:
    """Return a key as random as a pseudonym."""
    return hashlib.sha256(f"{kind}{number}".encode()).hexdigest()[:32]


def series_of(start: int, stop: int) -> Iterator[SeriesRow]:
    """Return catalogued CT series, two a patient."""
    for number in range(start, stop):
        rows = (
            InstanceRow(key("sop", i), float(i), key("digest", i), i + 1)
            for i in range(number * SLICES, (number + 1) * SLICES)
        )
        yield SeriesRow(
            series_key=key("series", number),
            study_key=key("study", number),
            patient_key=key("patient", number // 2),
            accession_key=key("accession", number),
            kind="dicom",
            source="pacs",
            facts={"modality": "CT", "rows": 128, "cols": 128, "frames": 1},
            instances=tuple(rows),
        )


def labels_of(task: str, count: int) -> list[LabelRow]:
    """Return one label a series: a class, or the locator of a mask."""
    masks = task == "segmentation"
    return [
        LabelRow("series", key("series", n), None if masks else ("calm", "ill")[n % 2], n + 1)
        if masks
        else LabelRow("series", key("series", n), ("calm", "ill")[n % 2], None)
        for n in range(count)
    ]


def finish(home: Home, name: str) -> None:
    """Commit every case of a scenario, as runs of the past would have left it."""
    ready = settle(home, home.scenario(name))
    recipe = fit(ready.scenario.recipe, None)
    recipe_key = recipe_id(recipe)
    body = {"asked": asked_for(ready.scenario.recipe), "recipe": recipe.to_dict()}
    put_recipe(home.catalog, recipe_key, name, body, recipe.fitted_on)
    ids = [case.case_id for case in ready.cohort.cases]
    want_cases(home.catalog, recipe_key, ids)
    for at in range(0, len(ids), PART_CASES):
        held = tuple(ids[at : at + PART_CASES])
        image = part_id(held, recipe_key, "image")
        sets = ready.label_sets.values() if ready.scenario.task == "segmentation" else ()
        for kind, label_set in (("image", None), *(("label", name) for name in sets)):
            own = part_id(held, recipe_key, kind, label_set)
            of_image = image if kind == "label" else None
            row = PartRow(own, kind, recipe_key, label_set, of_image, f"parts/{own}", held, 9, own)
            commit_part(home.catalog, row)


def make(folder: Path, count: int) -> Home:
    """Make a home whose catalog holds `count` series, all of them done under two scenarios."""
    home = Home(Settings(home=folder))
    put_source(home.vault, Source("pacs", "folder", "/archive"))
    for start in range(0, count, BATCH):
        upsert_series(home.catalog, list(series_of(start, min(count, start + BATCH))))
    (folder / "scenarios").mkdir(exist_ok=True)
    for task in LABELS:
        text = SCENARIO.format(
            name=f"made-{task}",
            task=task,
            labels=LABELS[task],
            candidate=CANDIDATE[task],
            evaluate=EVALUATE[task],
        )
        (folder / "scenarios" / f"made-{task}.yaml").write_text(text)
        put_label_set(
            home.catalog,
            name=label_set_name(home.scenario(f"made-{task}").labels),
            source="pacs",
            author="bench",
            digest=task,
            rows=labels_of(task, count),
        )
        finish(home, f"made-{task}")
    assert len(cases(home.catalog, kind="dicom")) == count
    return home


def timed(folder: Path, *words: str) -> tuple[float, float, str]:
    """Run one command and return its seconds, those of a core, and what it said."""
    begun, core = time.monotonic(), sum(os.times()[2:4])
    done = subprocess.run(
        [sys.executable, "-m", "flows", *words, "--home", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended {done.returncode}: {done.stderr[-2000:]}")
    spent = sum(os.times()[2:4]) - core
    return time.monotonic() - begun, spent, done.stdout + done.stderr


def main() -> int:
    """Print each command's seconds with the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="make the home here, or use the one that is")
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores; {asked.series} series")
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = asked.keep or Path(name)
        if not (folder / "made").exists():
            begun = time.monotonic()
            folder.mkdir(parents=True, exist_ok=True)
            make(folder, asked.series)
            (folder / "made").touch()
            print(f"catalog made in {time.monotonic() - begun:.0f} s")
        for task in LABELS:
            seconds, core, said = timed(folder, "preprocess", f"made-{task}")
            idle = "0 cases in 0 parts" in said and not (folder / "prefect").exists()
            met = idle and core < BAR_S
            missed |= not met
            verdict = ("met" if met else "MISSED") + ("" if idle else " (it did something)")
            print(
                f"preprocess {task:15} {core:6.2f} s of a core, {seconds:6.2f} s  "
                f"bar {BAR_S:.0f} s: {verdict}"
            )
            seconds, core, _ = timed(folder, "check", f"made-{task}")
            print(f"check      {task:15} {core:6.2f} s of a core, {seconds:6.2f} s")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
