"""What does not suit a modality reaches a person: in `check` and in `new`."""

import pytest

from flows.forecast import draft, forecast
from flows.home import Home
from flows.settings import Settings
from tasks.archive.catalog import (
    InstanceRow,
    LabelRow,
    SeriesRow,
    put_label_set,
    upsert_series,
)
from tasks.labels.config import label_set_name
from tasks.scenario import parse_scenario

SCENARIO = """\
name: lungs
title: Lungs
task: classification
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody.
cohort: {kind: dicom}
labels:
  format: table
  file: l.csv
  join: series
  key_column: a
  column: t
  classes: [well, ill]
  positive: ill
recipe: [{step: clahe}, {step: normalise, method: fingerprint}]
candidates: [{name: header-only, kind: header, estimator: logistic}]
"""


@pytest.fixture(params=[("CT",), ("DX",), ("DX", "DX", "CT")], ids="+".join)
def home(request, tmp_path):
    """A home whose catalog holds labelled series of one modality or of two."""
    home = Home(Settings(home=tmp_path))
    rows, labels = [], []
    for n in range(6):
        modality = request.param[n % len(request.param)]
        key, facts = f"{n:032x}", {"modality": modality, "rows": 64, "cols": 64}
        instances = (InstanceRow(f"{n + 30:032x}", None, f"{n + 40:032x}", n),)
        rows.append(
            SeriesRow(
                series_key=key,
                study_key=f"{n + 10:032x}",
                patient_key=f"{n + 20:032x}",
                accession_key=None,
                kind="dicom",
                source="north",
                facts=facts,
                instances=instances,
            )
        )
        labels.append(LabelRow("series", key, "ill" if n % 2 else "well", None))
    upsert_series(home.catalog, rows)
    name = label_set_name(parse_scenario(SCENARIO).labels)
    put_label_set(home.catalog, name=name, source="north", author="t", digest="d", rows=labels)
    yield home, request.param
    home.catalog.dispose()
    home.vault.dispose()


def test_check_warns_of_clahe_on_ct_and_of_nothing_on_radiographs(home):
    home, modalities = home
    notes = forecast(home, parse_scenario(SCENARIO))["notes"]
    warned = [note for note in notes if note.startswith("recipe step 1, clahe, on CT")]
    assert len(warned) == ("CT" in modalities)


def test_new_drafts_a_recipe_that_suits_the_modality(home, tmp_path):
    home, modalities = home
    labels = tmp_path / "labels.csv"
    labels.write_text("accession,target\nA,ill\nB,well\nC,ill\nD,well\n")
    text, _, advised = draft(home, "drafted", labels)
    assert ("percentile_clip" in text) == ("DX" in modalities)
    # The draft follows the commoner modality; what that means for the other one is said.
    assert len(advised) == (modalities == ("DX", "DX", "CT"))
    assert all("percentile_clip, on CT" in line for line in advised)
