"""A cohort meets every predicate and has one usable label a case; the funnel shows the rest."""

import pytest

from tasks.archive.catalog import (
    Case,
    InstanceRow,
    LabelRow,
    SeriesRow,
    TableRow,
    open_catalog,
    put_label_set,
    upsert_series,
    upsert_table_rows,
)
from tasks.cohort.config import CohortConfig
from tasks.cohort.select import match_rows, meets, select
from tasks.labels.config import LabelConfig

LABELS = LabelConfig(
    format="table",
    file="labels.csv",
    join="accession",
    column="target",
    classes=("normal", "pneumonia"),
    positive="pneumonia",
)


def _key(word: str, number: int) -> str:
    return f"{number:08x}{word.encode().hex():0>24}"[:32]


def _series(number: int, source: str = "archive", **facts) -> SeriesRow:
    instance = InstanceRow(_key("sop", number), None, _key("digest", number), number)
    return SeriesRow(
        series_key=_key("series", number),
        study_key=_key("study", number),
        patient_key=_key("patient", number // 2),
        accession_key=_key("acc", number),
        kind="dicom",
        source=source,
        facts={"modality": "CR", "rows": 100 + number, **facts},
        instances=(instance,),
    )


@pytest.fixture
def catalog(tmp_path):
    engine = open_catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    rows = [_series(n) for n in range(6)] + [_series(6, modality="MR"), _series(7, view="PA")]
    upsert_series(engine, rows)
    yield engine
    engine.dispose()


def _label(catalog, pairs, join="accession", source="archive", **more):
    word = {"accession": "acc"}.get(join, join)
    rows = [LabelRow(join, _key(word, n), value, **more) for n, value in pairs]
    return put_label_set(
        catalog, name="labels.csv", source=source, author="test", digest=_key("d", 1), rows=rows
    )


def test_the_funnel_counts_what_is_left_after_every_condition(catalog):
    labelled = _label(
        catalog,
        [
            (0, "normal"), (1, "pneumonia"), (2, "normal"), (2, "pneumonia"),
            (3, "unsure"), (4, "normal"), (99, "normal"), (6, "normal"),
        ],
    )  # fmt: skip
    config = CohortConfig(kind="dicom", modality=["CR", "DX"], where={"rows": {"max": 106}})
    cohort = select(catalog, config, LABELS, {"archive": labelled})
    assert cohort.funnel == (
        ("dicom cases in the catalog", 8),
        ("with modality CR or DX", 7),
        ("with rows to 106", 6),
        ("with a label", 5),
        ("whose labels agree", 4),
        ("labelled normal or pneumonia", 3),
    )
    assert sorted(cohort.targets.values()) == ["normal", "normal", "pneumonia"]
    assert [case.case_id for case in cohort.cases] == sorted(cohort.targets)
    assert cohort.unmatched == 2
    assert len(cohort.unlabelled) == 3


@pytest.mark.parametrize("join", ["accession", "study", "series", "sop", "patient"])
def test_labels_join_on_every_key(catalog, join):
    labelled = _label(catalog, [(0, "normal"), (1, "normal"), (50, "normal")], join)
    config = CohortConfig(kind="dicom")
    cohort = select(
        catalog, config, LABELS.model_copy(update={"join": join}), {"archive": labelled}
    )
    assert len(cohort.cases) == (4 if join == "patient" else 2)
    assert cohort.unmatched == 1


def test_each_source_is_labelled_by_its_own_label_set(catalog):
    upsert_series(catalog, [_series(20, source="elsewhere")])
    here = _label(catalog, [(0, "normal")])
    there = _label(catalog, [(20, "pneumonia"), (1, "normal")], source="elsewhere")
    sets = {"archive": here, "elsewhere": there}
    cohort = select(catalog, CohortConfig(kind="dicom"), LABELS, sets)
    assert {case.source: cohort.targets[case.case_id] for case in cohort.cases} == {
        "archive": "normal",
        "elsewhere": "pneumonia",
    }
    assert cohort.unmatched == 1  # the other source's set says nothing about this one's cases


def test_another_source_or_no_label_set_leaves_nobody(catalog):
    labelled = _label(catalog, [(0, "normal")])
    config = CohortConfig(kind="dicom")
    assert select(catalog, config, LABELS, {"archive": labelled}, "elsewhere").funnel[0] == (
        "dicom cases in source elsewhere",
        0,
    )
    empty = select(catalog, config, LABELS, {})
    assert (len(empty.cases), len(empty.unlabelled)) == (0, 8)


def test_masks_are_labels_of_a_segmentation_and_two_are_ambiguous(catalog):
    masks = [LabelRow("series", _key("series", n), None, 10 + n) for n in (0, 1)]
    masks.append(LabelRow("series", _key("series", 1), None, 77))
    labelled = put_label_set(
        catalog, name="decathlon", source="archive", author="t", digest=_key("d", 2), rows=masks
    )
    labels = LabelConfig(format="decathlon", classes=("anterior", "posterior"))
    cohort = select(catalog, CohortConfig(kind="dicom"), labels, {"archive": labelled})
    assert list(cohort.masks.values()) == [10]
    assert not cohort.targets
    assert cohort.funnel[-1] == ("with exactly one mask", 1)


def test_rows_of_a_table_take_their_label_from_a_column(tmp_path):
    engine = open_catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    rows = [
        TableRow(_key("case", n), _key("patient", n), {"size": float(n), "grade": grade})
        for n, grade in enumerate([0.0, 1.0, 1.0, None, 7.0])
    ]
    upsert_table_rows(engine, "wisconsin", "table", rows)
    labels = LabelConfig(format="column", column="grade", classes=("0", "1"), positive="1")
    config = CohortConfig(kind="row", table="wisconsin", where={"size": {"min": 1}})
    cohort = select(engine, config, labels, {})
    assert cohort.targets == {_key("case", 1): "1", _key("case", 2): "1"}
    assert cohort.funnel[:2] == (
        ("rows of table wisconsin in the catalog", 5),
        ("with size from 1", 4),
    )
    engine.dispose()


def test_a_patients_facts_carry_the_target_of_each_case(catalog):
    labelled = _label(catalog, [(0, "normal"), (1, "pneumonia"), (2, "normal")])
    facts = select(
        catalog, CohortConfig(kind="dicom"), LABELS, {"archive": labelled}
    ).patient_facts()
    assert sorted(case["target"] for case in facts[_key("patient", 0)]) == ["normal", "pneumonia"]
    assert [case["rows"] for case in facts[_key("patient", 1)]] == [102]


@pytest.mark.parametrize(
    ("wanted", "value", "met"),
    [
        ("CR", "CR", True),
        ("CR", None, False),
        (None, None, True),
        (None, "CR", False),
        (["CR", "DX"], "DX", True),
        ({"min": 1}, 1, True),
        ({"min": 1, "max": 2}, 2.5, False),
        ({"max": "2016-12-31"}, "2016-05-01", True),
        (True, False, False),
    ],
)
def test_predicates_include_their_ends_and_never_guess_at_empty_fields(wanted, value, met):
    assert meets({"field": value}, "field", wanted) is met


def test_a_label_for_a_sop_outside_the_cohort_is_unmatched():
    case = Case("c" * 32, "p" * 32, None, None, None, "dicom", "s", 1, {})
    rows = [LabelRow("sop", "1" * 32, "a"), LabelRow("sop", "2" * 32, "a")]
    said, _, unmatched = match_rows([case], rows, {"1" * 32: "c" * 32, "2" * 32: "d" * 32})
    assert (said, unmatched) == ({"c" * 32: {"a"}}, 1)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kind": "dicom", "where": {"manufactur": "x"}}, "nearest is 'manufacturer'"),
        ({"kind": "dicom", "where": {"rows": {"least": 3}}}, "a range has min and max only"),
        ({"kind": "dicom", "where": {"rows": {}}}, "empty range"),
        ({"kind": "row"}, "table is named for kind row"),
        ({"kind": "dicom", "table": "t"}, "table is named for kind row"),
        ({"kind": "row", "table": "t", "modality": "CR"}, "no modality"),
        ({"kind": "row", "table": "t", "also_predict": ["dicom"]}, "images of one series"),
        ({"kind": "dicom", "also_predict": ["dicom"]}, "own kind"),
    ],
)
def test_a_config_that_cannot_be_obeyed_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        CohortConfig(**wrong)


def test_the_volume_that_is_meant_stands_in_the_funnel_and_drops_nobody(catalog):
    labelled = _label(catalog, [(0, "normal"), (1, "pneumonia")])
    plain = CohortConfig(kind="dicom", modality="CR")
    chosen = CohortConfig(kind="dicom", modality="CR", volume="te=30,take=first")
    funnels = [
        select(catalog, one, LABELS, {"archive": labelled}).funnel for one in (plain, chosen)
    ]
    (added,) = set(funnels[1]) - set(funnels[0])
    assert added == ("of each the volume te=30, the first", 7)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (None, None),
        ("only", None),
        ("last", {"take": "last"}),
        ({"te": 30}, {"te": ["30"]}),
        ("te=30", {"te": ["30"]}),
    ],
)
def test_a_volume_is_kept_in_one_form_however_it_is_said(said, kept):
    config = CohortConfig(kind="dicom", volume=said)
    assert config.volume == kept
    assert CohortConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("kind", "said", "told"),
    [("nifti", "first", "only DICOM series hold several"), ("dicom", {"et": 30}, "'et'"),
     ("dicom", "frist", "say first, last, only")],
)  # fmt: skip
def test_a_volume_that_cannot_be_meant_is_refused(kind, said, told):
    with pytest.raises(ValueError, match=told):
        CohortConfig(kind=kind, volume=said)


def test_an_editor_lets_every_form_of_a_volume_pass():
    schema = CohortConfig.model_json_schema()["properties"]["volume"]
    assert {one["type"] for one in schema["anyOf"]} == {"object", "string", "null"}


def test_named_cases_are_left_out_and_counted(catalog):
    label_set = _label(catalog, [(n, "normal") for n in range(6)])
    every = select(catalog, CohortConfig(kind="dicom"), LABELS, {"archive": label_set})
    first = every.cases[0].case_id
    config = CohortConfig(kind="dicom", without=(first[:12],))
    left = select(catalog, config, LABELS, {"archive": label_set})
    assert {case.case_id for case in left.cases} == {c.case_id for c in every.cases} - {first}
    assert ("without 1 named ones", 7) in left.funnel


def test_a_case_is_named_by_twelve_characters_or_more():
    with pytest.raises(ValueError, match="without"):
        CohortConfig(kind="dicom", without=("ab",))
