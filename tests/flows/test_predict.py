"""Whether a model was trained on a patient is told, also when the images come from elsewhere."""

import pytest

from flows.home import Home
from flows.predict import Desk, _outside, trained_on
from flows.settings import Settings
from tasks.archive.catalog import Case
from tasks.archive.commits import Assignment, assign
from tasks.archive.vault import remember
from tasks.cohort.channels import joined
from tasks.serve.results import ID_IN_TRAINING, IN_TRAINING

SPLIT = "5" * 32


@pytest.fixture
def home(tmp_path):
    """A home whose split has patient 4711 of one hospital in training, 4712 in the test."""
    home = Home(Settings(home=tmp_path))
    rows = []
    for text, side, fold in (("4711", "train", 0), ("4712", "test", None)):
        key = home.names.patient(text, "north", "")
        remember(home.vault, [("patient", key, text)])
        rows.append(Assignment(key, side, 1 if side == "test" else 0, fold, "all"))
    assign(home.catalog, SPLIT, rows)
    yield home
    home.catalog.dispose()
    home.vault.dispose()


def flag_of(home, patient_id, issuer, split=SPLIT):
    """Return what is said of one image of a patient that a source brings."""
    key = home.names.patient(patient_id, issuer, "1.2.3")
    case = Case("c" * 32, key, "s" * 32, "e" * 32, None, "dicom", "new", 1, {})
    with Desk(home) as desk:
        remember(desk.vault, [("patient", key, patient_id)])
        return trained_on(home, desk, [case], split).get(case.case_id)


def test_the_same_patient_of_the_same_hospital_was_in_training(home):
    assert flag_of(home, "4711", "north") == IN_TRAINING
    assert flag_of(home, "4712", "north") is None


def test_the_same_id_from_elsewhere_is_marked_in_words_of_its_own(home):
    assert flag_of(home, "4711", "a-copied-folder") == ID_IN_TRAINING
    assert flag_of(home, "4712", "a-copied-folder") is None
    assert flag_of(home, "4713", "a-copied-folder") is None


@pytest.mark.parametrize("placeholder", ["", "UNKNOWN", "0000"])
def test_a_placeholder_is_nobodys_id(home, placeholder):
    key = home.names.patient("4714", "north", "")
    remember(home.vault, [("patient", key, placeholder)])
    assign(home.catalog, SPLIT, [Assignment(key, "train", 0, 1, "all")])
    assert flag_of(home, placeholder, "south") is None


def test_a_model_that_does_not_know_its_split_marks_nobody(home):
    assert flag_of(home, "4711", "north", None) is None


def test_images_that_are_part_of_no_case_are_counted():
    one, other, left = (
        Case(c * 32, "p" * 32, "s" * 32, c * 32, None, "dicom", "new", 1, {}) for c in "abc"
    )
    study = joined((("t1c", one), ("t2f", other)))
    assert _outside([one, other, left], [study]) == 1
    assert _outside([one, other, left], [one, other, left]) == 0
