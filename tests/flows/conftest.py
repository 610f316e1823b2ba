"""The loop, run once for real with planted tokens, in homes that many tests then read."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from flows.home import Home
from flows.settings import Settings
from tasks.phantom.write import write_limb_archive
from tests.flows.planted import write_talkative
from tests.flows.running import Place, Ran

PATIENTS = 60
SEED = 11
BROKEN = 5

LOOP_SECONDS = 900
"""A minute on two quiet cores; the bound is for a machine that does other work."""

LIMB = """\
name: small-limb
title: Synthetic limb radiographs, few and small
task: classification
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical; no image shows a person.
population: Nobody. Drawn by a program.
cohort: {kind: dicom, modality: [CR, DX]}
labels:
  format: table
  file: labels.csv
  join: accession
  column: target
  classes: [no_fracture, fracture]
  positive: fracture
recipe:
  - {step: percentile_clip, low: 0.5, high: 99.5}
  - {step: pad_square}
  - {step: resize, shape: [1, 32, 32]}
  - {step: histogram_standard}
  - {step: normalise, method: zscore}
split: {source: keyed, test: 0.25, folds: 2, key: public, strata: [target]}
candidates:
  - {name: small-cnn, kind: network, network: small_cnn, epochs: 2}
  - {name: header-only, kind: header, estimator: logistic}
evaluate: {primary: auroc, operating_point: {rule: youden}, bootstrap: 200,
  robustness: {cases: 10}, explain: {cases: 3}}
# Two epochs on sixty drawings prove no skill; the tests need a champion all the same.
gate: {margin: 0.05, undecidable: promote}
trigger: {new_labelled_patients: 10, max_age_days: 30}
"""

TABLE = """\
name: small-table
title: A drawn table
task: classification
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Drawn by a program.
cohort: {kind: row, table: tiny}
labels: {format: column, column: outcome, classes: [well, ill], positive: ill}
split: {source: keyed, test: 0.25, folds: 3, key: public, strata: [target]}
candidates:
  - {name: tree, kind: tabular, estimator: tree}
  - {name: logistic, kind: tabular, estimator: logistic, search: {C: [0.1, 1.0]}}
  - {name: svm-linear, kind: tabular, estimator: svm_linear}
evaluate: {primary: auroc, operating_point: {rule: youden}, bootstrap: 200}
gate: {margin: 0.05, undecidable: refuse}
trigger: {new_labelled_patients: 10, max_age_days: 30}
"""


@pytest.fixture
def home(tmp_path):
    """An empty home, in this process."""
    folder = tmp_path / "home"
    folder.mkdir()
    made = Home(Settings(home=folder))
    yield made
    made.catalog.dispose()
    made.vault.dispose()


@dataclass(frozen=True)
class Loop:
    """A home after the whole loop, with what every command said."""

    place: Place
    name: str
    source: Path
    scenario: Path
    uids: tuple[str, ...] = ()
    ran: dict[str, Ran] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The home."""
        return self.place.home

    def out(self, name: str) -> Path:
        """Folder of a prediction."""
        return self.place.folder / name

    def radloop(self, *words: object) -> Ran:
        """Run one more command on this home, which must only look."""
        return self.place.radloop(*words)


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Archive to predictions on synthetic radiographs, through the command alone."""
    place = Place(tmp_path_factory.mktemp("loop"))
    archive = place.folder / "zqordner" / "archive"
    write_limb_archive(archive, patients=PATIENTS, seed=SEED, broken=BROKEN)
    uids = write_talkative(archive)
    strangers = place.folder / "zqordner" / "strangers"
    write_limb_archive(strangers, patients=2, seed=SEED + 1)
    scenario = place.folder / "small-limb.yaml"
    scenario.write_text(LIMB)
    made = Loop(place, "small-limb", archive, scenario, tuple(uids))
    try:
        made.ran["retrain"] = place.radloop("retrain", scenario, "--source", archive).ok()
        made.ran["again"] = place.radloop("retrain", scenario, "--source", archive).ok()
        made.ran["predict"] = place.radloop(
            "predict", "small-limb", archive, "--out", made.out("judged")
        ).ok()
        made.ran["strangers"] = place.radloop(
            "predict", "small-limb", strangers, "--out", made.out("strangers"), "--no-sources"
        ).ok()
        yield made
    finally:
        left = place.close()
    assert not left, f"processes of the home outlived `radloop ui --stop`: {left}"


@pytest.fixture(scope="session")
def table_loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """The loop on a drawn table: three estimators, three folds."""
    place = Place(tmp_path_factory.mktemp("table"))
    table = write_table(place.folder / "tiny.csv")
    scenario = place.folder / "small-table.yaml"
    scenario.write_text(TABLE)
    made = Loop(place, "small-table", table, scenario)
    try:
        made.ran["retrain"] = place.radloop("retrain", scenario, "--source", table).ok()
        made.ran["predict"] = place.radloop(
            "predict", "small-table", table, "--out", made.out("judged")
        ).ok()
        yield made
    finally:
        left = place.close()
    assert not left, f"processes of the home outlived `radloop ui --stop`: {left}"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Place]:
    """A place whose home does not exist yet; nothing may run for it when the test ends."""
    place = Place(tmp_path)
    yield place
    left = place.processes()
    for process in left:
        process.kill()
    shutil.rmtree(place.home, ignore_errors=True)
    assert not left, f"{len(left)} processes were left running for this home"


def write_table(path: Path, patients: int = 150) -> Path:
    """Write a table in which one column tells, one half tells and one says nothing."""
    rng = np.random.default_rng(5)
    ill = rng.random(patients) < 0.4
    columns = np.stack(
        [
            ill + rng.normal(0, 0.7, patients),
            ill + rng.normal(0, 2, patients),
            rng.normal(0, 1, patients),
        ],
        axis=1,
    )
    lines = ["id,clear,faint,noise,outcome"]
    for number, (row, one) in enumerate(zip(columns, ill, strict=True)):
        values = ",".join(f"{value:.4f}" for value in row)
        lines.append(f"ZQROW{number:05d},{values},{'ill' if one else 'well'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test of a home, which waits for the whole loop, the time that needs."""
    for item in items:
        if {"loop", "table_loop", "home"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(LOOP_SECONDS))
