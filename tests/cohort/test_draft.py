"""A draft scenario is read back as a scenario and shows no identifier."""

import re

import pytest
import yaml

from tasks.archive.catalog import Case
from tasks.archive.choice import parse_choice
from tasks.cohort.draft import column_facts, draft_scenario, read_columns
from tasks.scenario import parse_scenario

LABELS = """\
accession_number,patient_id,finding,target,comment
A1,Jane Doe,virus,pneumonia,
A2,John Roe,normal,normal,seen by Dr Moe
A3,Jane Doe,bacteria,pneumonia,
A4,Ann Poe,normal,normal,
A9,Ann Poe,normal,normal,
A8,Jim Foe,bacteria,pneumonia,
1.2E+05,Jim Foe,virus,pneumonia,
"""


def _pseudonym(join: str, value: str) -> str:
    if "E+" in value:
        raise ValueError("not an identifier")
    return f"{join}-{value}"


def _cases(modality="CR"):
    patients = ["Jane Doe", "John Roe", "Jane Doe", "Ann Poe"]
    return [
        Case(
            f"case{n}", f"patient-{name}", f"study-S{n}", f"series-R{n}", f"accession-A{n}",
            "dicom", "archive", 1, {"modality": modality, "view": "PA"},
        )
        for n, name in enumerate(patients, start=1)
    ]  # fmt: skip


@pytest.fixture
def facts(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("﻿" + LABELS, encoding="utf-8")
    return column_facts(read_columns(path), _cases(), _pseudonym)


def test_columns_are_tried_on_every_join_and_identifying_ones_keep_their_values(facts):
    by_name = {column.name: column for column in facts}
    assert by_name["accession_number"].matches == {"accession": 4}
    assert by_name["patient_id"].matches == {"patient": 5}
    assert by_name["patient_id"].classes == ()
    assert by_name["comment"].classes == ()
    assert by_name["target"].classes == (("pneumonia", 4), ("normal", 3))


def test_the_draft_is_a_scenario_and_names_what_does_not_match(facts):
    draft = draft_scenario("my-chest", "labels.csv", _cases(), facts)
    scenario = parse_scenario(draft.text)
    assert scenario.name == "my-chest"
    assert scenario.cohort.modality == ("CR",)
    assert (scenario.labels.column, scenario.labels.positive) == ("target", "pneumonia")
    assert tuple(scenario.labels.classes) == ("normal", "pneumonia")
    assert scenario.labels.join == "accession"
    assert scenario.labels.key_column == "accession_number"
    assert scenario.split.key == "project"
    (problem,) = draft.problems
    assert problem.startswith("3 of 7 values of column accession_number match no acc")


def test_a_join_that_hardly_matches_gives_way_to_a_less_specific_one(tmp_path):
    (tmp_path / "l.csv").write_text(
        "acc,who,target\nA1,Jane Doe,x\nB2,John Roe,y\nB3,Ann Poe,x\nB4,Ann Poe,y\n"
    )
    facts = column_facts(read_columns(tmp_path / "l.csv"), _cases(), _pseudonym)
    assert "join: patient" in draft_scenario("n", "l.csv", _cases(), facts).text


def test_no_identifier_of_the_label_file_is_in_the_draft(facts):
    draft = draft_scenario("my-chest", "labels.csv", _cases(), facts)
    shown = draft.text + " ".join(draft.problems)
    assert not [word for word in ("Jane", "Roe", "Moe", "A1", "A9", "1.2E") if word in shown]


def test_nothing_in_common_still_gives_a_text_that_parses(tmp_path):
    (tmp_path / "l.csv").write_text("number,remark\n1,x\n2,y\n3,z\n")
    facts = column_facts(read_columns(tmp_path / "l.csv"), [], _pseudonym)
    draft = draft_scenario("yes", "l.csv", [], facts)
    assert parse_scenario(draft.text).name == "yes"
    assert [problem.split(":")[0] for problem in draft.problems] == [
        "the catalog holds 0 images",
        "none of the columns number, remark holds an accession number, study, series or patient "
        "of the catalog",
        "no column has 2 to 12 values that repeat",
    ]


def test_volumes_are_drafted_as_volumes_and_odd_words_are_quoted(tmp_path):
    (tmp_path / "l.csv").write_text("acc,off\nA1,no\nA2,yes\nA3,no\nA4,yes\n")
    cases = _cases("CT")
    facts = column_facts(read_columns(tmp_path / "l.csv"), cases, _pseudonym)
    scenario = parse_scenario(draft_scenario("ct", "l: #1.csv", cases, facts).text)
    assert tuple(scenario.labels.classes) == ("no", "yes")
    assert scenario.labels.column == "off"
    assert scenario.labels.file == "l: #1.csv"
    assert "32" in str(scenario.recipe[2])


def test_nifti_is_drafted_without_a_modality():
    case = Case("case1", "patient-Jane Doe", None, "series-R1", None, "nifti", "s", 1, {})
    facts = column_facts({"who": ["Jane Doe"], "target": ["x"]}, [case], _pseudonym)
    scenario = parse_scenario(draft_scenario("n", "l.csv", [case], facts).text)
    assert (scenario.cohort.kind, scenario.cohort.modality) == ("nifti", ())
    assert scenario.labels.join == "patient"


def test_the_volumes_that_the_draft_names_as_examples_can_be_said(facts):
    text = draft_scenario("my-chest", "labels.csv", _cases(), facts).text
    (line,) = [line for line in text.splitlines() if line.startswith("# volume: ")]
    examples = [part.strip() for part in re.split(r"volume: |, volume: | or volume: ", line)[1:]]
    assert len(examples) == 3
    for example in examples:
        assert parse_choice(yaml.safe_load(example)).to_dict()
