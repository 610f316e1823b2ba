"""`radloop gc`: what no run, model or scenario needs, and never more."""

import json
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from flows import fitting
from flows.__main__ import main
from flows.collect import collect, plan_collection
from flows.evidence import tracker_for
from flows.home import Home, lease
from flows.settings import Settings
from tasks.archive.catalog import LabelRow, put_label_set
from tasks.archive.commits import (
    PartRow,
    all_parts,
    commit_part,
    fitting_cases,
    part_of_case,
    pending_cases,
    put_recipe,
    recipe_for,
    want_cases,
)
from tasks.cohort.config import CohortConfig
from tasks.cohort.fingerprint import case_fingerprint
from tasks.errors import LeaseHeld, RadloopError
from tasks.imaging.recipe import apply
from tasks.imaging.steps import STEPS, parse_steps
from tasks.serve import tracking
from tasks.store import schema
from tasks.store.collect import YOUNG_SECONDS
from tasks.store.read import open_part
from tasks.store.schema import MANIFEST, part_id
from tasks.store.verify import committed_parts, verify_part
from tasks.store.write import write_part
from tests.store.making import RECIPE, case_name, prepared

NEWER = "6" * 32
SCENARIO = "lesions"


@pytest.fixture
def home(tmp_path):
    home = Home(Settings(home=tmp_path))
    put_recipe(home.catalog, RECIPE, SCENARIO, {"steps": []}, "")
    yield home
    home.catalog.dispose()


def add_part(
    home, numbers, recipe=RECIPE, *, asked=True, commit=True, kind="image", **more
) -> PartRow:
    names = [case_name(number) for number in numbers]
    label_set = more.get("label_set_id")
    record = write_part(
        home.settings.store_root,
        part_id(names, recipe, kind, label_set),
        kind,
        recipe,
        names,
        prepared,
        dtype="float32",
        label_set_id=label_set,
    )
    facts = {"label_set_id": None, "image_part_id": None, **more}
    row = PartRow(
        part_id=record.part_id,
        kind=kind,
        recipe_id=recipe,
        path=record.path,
        case_ids=record.case_ids,
        bytes=record.bytes,
        digest=record.digest,
        **facts,
    )
    if asked:
        want_cases(home.catalog, recipe, record.case_ids)
    if commit:
        commit_part(home.catalog, row)
    return row


def grow_old(home, row) -> None:
    old = time.time() - YOUNG_SECONDS - 60
    os.utime(os.path.join(home.settings.store_root, row.path, MANIFEST), (old, old))


def train_with(home, recipe) -> str:
    """Leave the MLflow run of a training."""
    tags = dict.fromkeys(tracking.HASH_TAGS, "0" * 32) | {"recipe_hash": recipe, "edition": 1}
    tracker = tracker_for(home, SCENARIO)
    run = tracking.start_training(tracker, SCENARIO, tags)
    tracking.end(tracker, run)
    return run


def test_nothing_of_a_store_in_use_goes(home):
    add_part(home, (0, 1))
    collect(home, compact=False)
    assert len(all_parts(home.catalog)) == 1
    assert plan_collection(home, compact=False).removals == ()


def test_an_old_generation_stays_while_a_run_refers_to_it_and_goes_after(home):
    row = add_part(home, (0, 1))
    put_recipe(home.catalog, NEWER, SCENARIO, {"steps": [1]}, "")
    kept = add_part(home, (0, 1), NEWER)
    run = train_with(home, RECIPE)
    assert collect(home, compact=False).removals == ()
    client = tracking.client_of(tracker_for(home, SCENARIO))
    client.delete_run(run)
    # In MLflow's trash, from where a person can bring it back.
    assert collect(home, compact=False).removals == ()
    client.restore_run(run)
    client.set_tag(run, "recipe_hash", NEWER)
    (gone,) = collect(home, compact=False).removals
    assert (gone.kind, gone.path) == ("superseded", row.path)
    assert committed_parts(home.settings.store_root) == (kept.path,)
    assert all_parts(home.catalog) == [kept]
    # The scenario comes back to it: its cases are made anew.
    want_cases(home.catalog, RECIPE, row.case_ids)
    assert pending_cases(home.catalog, RECIPE) == list(row.case_ids)


def test_a_part_without_a_row_goes_after_a_day_and_its_twin_with_one_stays(home):
    lost, kept = add_part(home, (0,), commit=False), add_part(home, (1,))
    grow_old(home, kept)
    assert collect(home, compact=False).removals == ()
    grow_old(home, lost)
    (gone,) = collect(home, compact=False).removals
    assert gone.path == lost.path
    assert committed_parts(home.settings.store_root) == (kept.path,)


def test_parts_that_another_catalog_made_stay_and_are_told(
    home, tmp_path_factory, monkeypatch, capsys
):
    own = add_part(home, (0,))
    strangers = [
        # Of a home that shares the store and has the same recipe, but patients of its own.
        add_part(home, (1, 2), asked=False, commit=False),
        # Of a catalog that had another fit.
        add_part(home, (0,), NEWER, asked=False, commit=False),
    ]
    for row in (own, *strangers):
        grow_old(home, row)
    done = collect(home, compact=False)
    assert done.removals == ()
    assert {one.path for one in done.foreign} == {row.path for row in strangers}
    assert len(committed_parts(home.settings.store_root)) == 3
    # A catalog that was lost and began anew takes nothing of the store away.
    monkeypatch.setenv("RADLOOP_STORE", home.settings.store_root)
    assert main(["gc", "--home", str(tmp_path_factory.mktemp("fresh")), "--yes"]) == 0
    assert "3 parts of" in capsys.readouterr().out
    assert len(committed_parts(home.settings.store_root)) == 3


def test_nothing_goes_while_a_run_is_at_work(home):
    lost = add_part(home, (0,), commit=False)
    grow_old(home, lost)
    with lease(home, "train lesions", "train"), pytest.raises(LeaseHeld, match="is at work"):
        collect(home, compact=False)
    assert committed_parts(home.settings.store_root) == (lost.path,)


def test_small_parts_become_one_with_their_labels_and_the_old_go_a_day_later(home):
    label_set = put_label_set(
        home.catalog,
        name="masks",
        source="north",
        author="t",
        digest="1",
        rows=[LabelRow("series", "0" * 32, None, 1)],
    )
    images = [add_part(home, (n, n + 1)) for n in (0, 2, 4)]
    labels = [
        add_part(
            home,
            (n,),
            kind="label",
            label_set_id=label_set,
            image_part_id=images[n // 2].part_id,
        )
        for n in (0, 2, 4)
    ]
    reader = open_part(home.settings.store_root, images[0].path, images[0].digest)
    merges = collect(home, compact=True).merges
    assert [len(merge.parts) for merge in merges] == [3, 3]
    image, label = all_parts(home.catalog)
    assert (len(image.case_ids), len(label.case_ids)) == (6, 3)
    assert label.image_part_id == image.part_id
    assert set(part_of_case(home.catalog, RECIPE, image.case_ids).values()) == {image.part_id}
    for row in (image, label):
        assert verify_part(home.settings.store_root, row.path, row.digest) == ()
    # Whoever opened a small part before goes on reading it.
    assert reader.read(case_name(1)).shape == prepared(case_name(1)).array.shape
    assert collect(home, compact=True).removals == ()
    for row in (*images, *labels):
        grow_old(home, row)
    assert len(collect(home, compact=True).removals) == 6
    assert set(committed_parts(home.settings.store_root)) == {image.path, label.path}


def test_the_command_changes_nothing_without_yes(home, capsys):
    lost = add_part(home, (0,), commit=False)
    grow_old(home, lost)
    words = ["gc", "--home", str(home.settings.home)]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["done"], [one["path"] for one in document["removals"]]) == (False, [lost.path])
    assert document["bytes"] >= lost.bytes
    assert main(words) == 0
    assert "nothing was changed; add --yes" in capsys.readouterr().out
    assert committed_parts(home.settings.store_root) == (lost.path,)
    assert main([*words, "--yes"]) == 0
    assert "1 removed" in capsys.readouterr().out
    assert committed_parts(home.settings.store_root) == ()
    assert not home.has_runs


def test_a_refit_is_a_new_generation_beside_the_old(home, monkeypatch):
    steps = parse_steps([{"step": "resample", "spacing": "median"}])
    measured = []
    for number, spacing in enumerate((1.0, 2.0)):
        image = prepared(case_name(number))
        affine = image.affine * spacing
        measured.append([case_fingerprint(image.array, affine, None, case_name(number))])
    # The measuring itself runs on workers; here it finds other patients the second time.
    found = iter([measured[0], measured[1], measured[1]])
    monkeypatch.setattr(fitting, "_measure", lambda *asked: next(found))

    class Ready:
        class scenario:  # noqa: N801
            name, recipe = "refitted", steps
            cohort = CohortConfig(kind="dicom")

        @staticmethod
        def cases_on(side):
            return [SimpleNamespace(case_id=case_name(n), patient_key=f"p{n}") for n in (0, 1)]

    first, recipe = fitting.fitted_recipe(home, Ready, "")
    assert fitting.fitted_recipe(home, Ready, "")[0] == first
    second, other = fitting.fitted_recipe(home, Ready, "", refit=True)
    assert second != first
    assert recipe_for(home.catalog, "refitted")[0] == second
    assert fitting.fitted_recipe(home, Ready, "", refit=True) == (second, other)
    assert recipe != other
    assert fitting_cases(home.catalog, first) == {case_name(0): "p0"}
    assert fitting_cases(home.catalog, second) == {case_name(1): "p1"}


def test_a_fit_on_few_of_the_training_cases_is_refused_and_nothing_is_kept(home, monkeypatch):
    """An archive that is half away must not shape a recipe that stands for good."""
    image = prepared(case_name(0))
    one = case_fingerprint(image.array, image.affine, None, case_name(0))
    monkeypatch.setattr(fitting, "_measure", lambda *asked: [one])

    class Ready:
        class scenario:  # noqa: N801
            name, recipe = "away", parse_steps([{"step": "resample", "spacing": "median"}])
            cohort = CohortConfig(kind="dicom")

        @staticmethod
        def cases_on(side):
            return [SimpleNamespace(case_id=case_name(n), patient_key=f"p{n}") for n in range(3)]

    with pytest.raises(RadloopError, match="on 1 of 3 training cases only, and a fit is kept for"):
        fitting.fitted_recipe(home, Ready, "")
    assert recipe_for(home.catalog, "away") is None


def test_parts_of_an_older_store_format_are_made_anew_with_the_same_fit(home, monkeypatch):
    class Ready:
        class scenario:  # noqa: N801
            name, recipe = "upgraded", parse_steps([{"step": "normalise"}])
            cohort = CohortConfig(kind="dicom")

    first, recipe = fitting.fitted_recipe(home, Ready, "")
    want_cases(home.catalog, first, [case_name(1)])
    monkeypatch.setattr(schema, "FORMAT_VERSION", schema.FORMAT_VERSION + 1)
    second, same = fitting.fitted_recipe(home, Ready, "")
    assert (second != first, same) == (True, recipe)
    assert recipe_for(home.catalog, "upgraded")[0] == second
    want_cases(home.catalog, second, [case_name(1)])
    assert pending_cases(home.catalog, second) == [case_name(1)]


def test_a_step_of_a_new_version_makes_a_new_generation(home, monkeypatch):
    """Its images are others, and the old recipe cannot be obeyed any more."""

    class Ready:
        class scenario:  # noqa: N801
            name, recipe = "raised", parse_steps([{"step": "normalise"}])
            cohort = CohortConfig(kind="dicom")

    first, old = fitting.fitted_recipe(home, Ready, "")
    raised = replace(STEPS["normalise"], version=STEPS["normalise"].version + 1)
    monkeypatch.setitem(STEPS, "normalise", raised)
    with pytest.raises(ValueError, match="fitted with version 1 of step 'normalise'"):
        apply(old, prepared(case_name(1)))
    second, recipe = fitting.fitted_recipe(home, Ready, "")
    assert second != first
    assert [step.version for step in recipe.steps] == [raised.version]
    assert recipe_for(home.catalog, "raised")[0] == second
    assert fitting.fitted_recipe(home, Ready, "") == (second, recipe)
