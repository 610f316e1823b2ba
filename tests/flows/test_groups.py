"""A table beside the images tells groups apart of which no header says anything."""

import csv
from pathlib import Path

import numpy as np
import pytest

from flows.cohorts import settle
from flows.data import data_folder
from flows.home import Home
from flows.report_facts import facts_of_scored, groups_of_test
from flows.settings import Settings
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.archive.vault import put_source, recall
from tasks.cohort.told_groups import DIFFER, LONGEST, MOST_GROUPS, GroupTable, told_groups
from tasks.errors import ScenarioError
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.subgroups import NOT_STATED
from tasks.labels.attach import attach_labels
from tasks.phantom.write_wrist import write_wrist_archive
from tasks.scenario.text import parse_scenario

PATIENTS = 80
TABLE = "../truth/confounders.csv"


@pytest.fixture(scope="module")
def wrists(tmp_path_factory):
    """The wrists of the demonstration, small, under the very scenario."""
    folder = tmp_path_factory.mktemp("wrists")
    write_wrist_archive(folder, patients=PATIENTS, seed=2, shape=(32, 24), spacing=4.0)
    home = Home(Settings(home=folder / "home"))
    path = data_folder("deployments") / "scenarios" / "demo-fracture.yaml"
    scenario = parse_scenario(path.read_text())
    source = resolve_source(str(folder / "dicom"), "wrists")
    put_source(home.vault, source)
    ingest(source, home.catalog, home.vault, home.names)
    attach_labels(source, scenario.labels, home.names, home.catalog, home.vault)
    yield home, settle(home, scenario), source, folder
    home.catalog.dispose()
    home.vault.dispose()


def read(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "truth" / "confounders.csv").open(newline="") as stream:
        return {row["accession_number"]: row for row in csv.DictReader(stream)}


def test_every_view_of_a_study_is_in_the_group_that_the_table_says(wrists):
    home, ready, _, folder = wrists
    truth = read(folder)
    assert list(ready.told) == ["cast", "metal", "growth_plate"]
    assert len(ready.cohort.cases) == 2 * PATIENTS
    for case in ready.cohort.cases:
        row = truth[recall(home.vault, "accession", case.accession_key)]
        assert {name: ready.told[name][case.case_id] for name in ready.told} == {
            name: row[name] for name in ready.told
        }


def test_the_report_has_figures_of_them_and_the_gate_s_rules_see_them(wrists):
    _, ready, _, folder = wrists
    cases = ready.cohort.cases
    ids, keys = [case.case_id for case in cases], [case.patient_key for case in cases]
    rng = np.random.default_rng(0)
    share = rng.random(len(ids))
    scores = Predictions(ids, keys, np.arange(len(ids)) % 2, np.stack([1 - share, share], 1),
                         ready.scenario.labels.classes)  # fmt: skip
    groups = groups_of_test(ready, scores, 0.5)
    found = {(group.fact, group.value): group.n_patients for group in groups}
    truth = read(folder).values()
    for name in ("cast", "growth_plate"):
        for value in ("yes", "no"):
            count = sum(row[name] == value for row in truth)
            assert found[name, value] == (count if count >= 10 else None)
    assert found["cast", "yes"] >= 10
    values = facts_of_scored(ready, scores, ["cast", "sex"])["cast"]
    assert values == [ready.told["cast"][one] for one in ids]


def told(wrists, tmp_path, rows, *, column="kind"):
    """Read a table of the studies in which each row is (index of the study, value)."""
    home, ready, source, folder = wrists
    accessions = list(read(folder))
    table = tmp_path / "groups.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("accession_number", column), *[(accessions[n], value) for n, value in rows]]
        )
    config = GroupTable(file=str(table), join="accession", columns=(column,))
    found = told_groups(source, config, ready.cohort.cases, home.names)[column]
    known = {case.case_id: recall(home.vault, "accession", case.accession_key)
             for case in ready.cohort.cases}  # fmt: skip
    return {accessions.index(known[case_id]): value for case_id, value in found.items()}


def test_who_has_no_row_has_no_group_and_rows_that_differ_are_one_of_their_own(wrists, tmp_path):
    rows = [(0, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a"), (3, "a"), (4, "")]
    assert told(wrists, tmp_path, rows) == {0: "a", 1: "b", 2: DIFFER, 3: "a"}
    assert NOT_STATED not in told(wrists, tmp_path, rows).values()


def test_a_column_of_the_headers_is_refused(wrists, tmp_path):
    with pytest.raises(ScenarioError, match="the column sex, which the cases have as a fact"):
        told(wrists, tmp_path, [(0, "F")], column="sex")


def test_what_could_name_somebody_is_no_group_and_is_not_repeated(wrists, tmp_path):
    many = [(n, f"Zq{n}") for n in range(MOST_GROUPS + 1)]
    with pytest.raises(ScenarioError, match=f"has {MOST_GROUPS + 1} different values") as refused:
        told(wrists, tmp_path, many)
    assert "Zq" not in str(refused.value)
    with pytest.raises(ScenarioError, match=f"up to {LONGEST + 1} characters"):
        told(wrists, tmp_path, [(0, "x" * (LONGEST + 1))])
    assert len(told(wrists, tmp_path, many[:MOST_GROUPS])) == MOST_GROUPS


def test_a_table_that_is_not_there_or_lacks_a_column_says_so(wrists):
    home, ready, source, _ = wrists
    cases = ready.cohort.cases
    with pytest.raises(FileNotFoundError, match="is not in the source 'wrists'"):
        told_groups(
            source,
            GroupTable(file="no.csv", join="accession", columns=("cast",)),
            cases,
            home.names,
        )
    with pytest.raises(ValueError, match="plaster"):
        told_groups(
            source,
            GroupTable(file=TABLE, join="accession", columns=("plaster",)),
            cases,
            home.names,
        )
