"""What is still to be made: image parts that a killed run had planned, masks that came later."""

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from flows.cohorts import Ready
from flows.home import Home
from flows.pending import cases_left
from flows.plans import kept_plan, plan_images, plan_labels
from flows.settings import Settings
from flows.workload import need_of
from tasks.archive.catalog import (
    InstanceRow,
    LabelRow,
    SeriesRow,
    cases,
    put_label_set,
    upsert_series,
)
from tasks.archive.commits import PartRow, commit_part, put_recipe, want_cases
from tasks.archive.intake import ingest
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import resolve_source
from tasks.archive.vault import project_key
from tasks.cohort.config import CohortConfig
from tasks.cohort.select import select
from tasks.imaging.recipe import fit
from tasks.imaging.steps import parse_steps
from tasks.labels.config import LabelConfig
from tasks.phantom.ct import write_ct_series
from tasks.store import plan as planning
from tasks.store.sources import OF_SYNTAX

RECIPE = "7" * 32
LABELS = LabelConfig(format="decathlon", classes=("lesion",))
ROWS, COLS = 512, 512


def series(number: int, source: str) -> SeriesRow:
    return SeriesRow(
        series_key=f"{number:032x}",
        study_key=f"{number + 1000:032x}",
        patient_key=f"{number + 2000:032x}",
        accession_key=None,
        kind="nifti",
        source=source,
        facts={"rows": ROWS, "cols": COLS, "frames": 40},
        instances=(InstanceRow(f"{number + 3000:032x}", None, f"{number + 4000:032x}", number),),
    )


@pytest.fixture
def home(tmp_path):
    """A home with three cases of one source and two of another, none labelled."""
    home = Home(Settings(home=tmp_path))
    upsert_series(home.catalog, [series(n, "north" if n < 3 else "south") for n in range(5)])
    put_recipe(home.catalog, RECIPE, "lesions", {}, "")
    yield home
    home.catalog.dispose()


def masks(home, source: str, numbers) -> str:
    rows = [LabelRow("series", f"{n:032x}", None, 100 + n) for n in numbers]
    return put_label_set(
        home.catalog, name="decathlon", source=source, author="t", digest=f"{numbers}", rows=rows
    )


def ready(home, **label_sets) -> Ready:
    cohort = select(home.catalog, CohortConfig(kind="nifti"), LABELS, label_sets)
    return Ready(None, cohort, label_sets, "split", 1, {})


def commit(home, part_id, kind, case_ids, label_set=None, image=None) -> None:
    row = PartRow(part_id, kind, RECIPE, label_set, image, f"parts/{part_id}", case_ids, 9, part_id)
    commit_part(home.catalog, row)


def case_id_of(home) -> dict[int, str]:
    return {int(case.series_key, 16): case.case_id for case in cases(home.catalog, kind="nifti")}


def test_every_source_has_label_parts_of_its_own_set_on_the_images_grid(home):
    ids = case_id_of(home)
    want_cases(home.catalog, RECIPE, list(ids.values()))
    commit(home, "a" * 32, "image", tuple(ids.values()))
    north, south = masks(home, "north", (0, 1, 2)), masks(home, "south", (3, 4))
    plan = plan_labels(home, ready(home, north=north, south=south), RECIPE)
    assert {part.label_set_id: set(part.case_ids) for part in plan} == {
        north: {ids[0], ids[1], ids[2]},
        south: {ids[3], ids[4]},
    }
    assert {(part.image_part_id, part.image_path) for part in plan} == {
        ("a" * 32, "parts/" + "a" * 32)
    }


def test_a_mask_that_failed_is_planned_again_and_those_made_are_not(home):
    ids = case_id_of(home)
    want_cases(home.catalog, RECIPE, list(ids.values()))
    commit(home, "a" * 32, "image", tuple(ids.values()))
    north = masks(home, "north", (0, 1, 2))
    commit(home, "b" * 32, "label", (ids[0], ids[2]), north, "a" * 32)
    (part,) = plan_labels(home, ready(home, north=north), RECIPE)
    assert part.case_ids == (ids[1],)
    commit(home, part.part_id, "label", part.case_ids, north, "a" * 32)
    assert plan_labels(home, ready(home, north=north), RECIPE) == ()
    # A newer label set is another truth: all of its masks are made anew.
    newer = masks(home, "north", (0, 1))
    (part,) = plan_labels(home, ready(home, north=newer), RECIPE)
    assert set(part.case_ids) == {ids[0], ids[1]}


def test_a_killed_runs_parts_are_taken_up_and_only_new_cases_are_planned(home):
    recipe = fit(parse_steps([{"step": "resize", "shape": [1, 64, 64]}]), None)
    found = cases(home.catalog, kind="nifti")
    first = plan_images(home, "lesions", RECIPE, recipe, found[:3])
    assert kept_plan(home, "lesions", RECIPE) == first
    again = plan_images(home, "lesions", RECIPE, recipe, found)
    assert again[: len(first)] == first
    assert {c for part in again for c in part.case_ids} == {case.case_id for case in found}
    left = plan_images(home, "lesions", RECIPE, recipe, found[3:])
    assert not {c for part in left for c in part.case_ids} & {c for p in first for c in p.case_ids}


def test_parts_that_were_cut_by_other_figures_are_taken_up_as_they_are(home, monkeypatch):
    recipe = fit(parse_steps([{"step": "resize", "shape": [1, 64, 64]}]), None)
    found = cases(home.catalog, kind="nifti")
    first = plan_images(home, "lesions", RECIPE, recipe, found)
    monkeypatch.setattr("tasks.store.needs.CASE_MS", 10**6)
    alone = planning.plan_parts([need_of(case) for case in found], recipe, RECIPE)
    assert len(alone) == len(found) > len(first), "the figures do not matter here"
    assert plan_images(home, "lesions", RECIPE, recipe, found) == first
    # What is committed is not pending, so no cut of it is ever asked for.
    want_cases(home.catalog, RECIPE, [case.case_id for case in found])
    commit(home, first[0].part_id, "image", first[0].case_ids)
    assert cases_left(home, ready(home), RECIPE) == []


@pytest.mark.parametrize("compress", [False, True])
def test_the_plan_knows_how_the_slices_of_an_archive_are_packed(home, tmp_path, compress):
    write_ct_series(tmp_path / "ct", shape=(4, 32, 32))
    if compress:
        for path in (tmp_path / "ct").rglob("*.dcm"):
            dataset = dcmread(path)
            dataset.compress(RLELossless)
            dataset.save_as(path)
    names = Pseudonymiser(project_key(home.vault))
    ingest(resolve_source(str(tmp_path / "ct")), home.catalog, home.vault, names)
    (case,) = cases(home.catalog, kind="dicom")
    syntax = RLELossless if compress else ExplicitVRLittleEndian
    assert case.facts["transfer_syntax"] == syntax
    assert need_of(case) == planning.CaseNeed(case.case_id, 8192, 4096, OF_SYNTAX[syntax])
