"""The catalog: predicates, label sets, quarantine, traces and counts."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from tasks.archive import catalog as catalog_module
from tasks.archive import vault
from tasks.archive.catalog import (
    InstanceRow,
    LabelRow,
    SeriesRow,
    TableRow,
    add_quarantine,
    cases,
    cases_of_sops,
    clear_quarantine,
    label_rows,
    label_sets,
    latest_label_set,
    locators_of,
    open_catalog,
    put_label_set,
    quarantine,
    quarantine_reasons,
    series_facts,
    status,
    trace,
    upsert_series,
    upsert_table_rows,
)
from tasks.archive.commits import PartRow, commit_part, put_recipe, want_cases
from tasks.archive.vault import open_vault, put_source, remember
from tasks.archive.vault_files import FileSeen, put_files
from tests.archive.made_rows import a_series, key, only

BYTES_PER_INSTANCE = 400
"""Most that catalog and vault together may take for one instance."""


class TestCases:
    @pytest.fixture
    def filled(self, catalog: Engine) -> Engine:
        upsert_series(
            catalog,
            [
                a_series("ct", patient=1),
                a_series("mr", patient=2, modality="MR", kvp=None, tr=2000.0, contrast=True),
                a_series("dx", patient=3, modality="DX", kvp=60, rows=3000, contrast=None),
            ],
        )
        return catalog

    @pytest.mark.parametrize(
        ("where", "found"),
        [
            ({}, {"CT", "MR", "DX"}),
            ({"modality": "MR"}, {"MR"}),
            ({"modality": ["CT", "DX"]}, {"CT", "DX"}),
            ({"kvp": {"min": 60, "max": 119}}, {"DX"}),
            ({"kvp": {"min": 60}}, {"CT", "DX"}),
            ({"kvp": None}, {"MR"}),
            ({"kvp": [120, None]}, {"CT", "MR"}),
            ({"contrast": True}, {"MR"}),
            ({"contrast": False}, {"CT"}),
            ({"rows": 512, "modality": ["CT"]}, {"CT"}),
            ({"modality": []}, set()),
        ],
    )
    def test_predicates(self, filled: Engine, where: dict, found: set[str]) -> None:
        got = cases(filled, kind="dicom", where=where)
        assert {case.facts["modality"] for case in got} == found

    def test_order_source_and_ids(self, filled: Engine) -> None:
        ids = [case.case_id for case in cases(filled, kind="dicom")]
        assert ids == sorted(ids)
        assert cases(filled, kind="dicom", source="elsewhere") == []
        assert cases(filled, kind="nifti") == []
        some = cases(filled, kind="dicom", case_ids=[ids[2], ids[0], key("unknown")])
        assert [case.case_id for case in some] == [ids[0], ids[2]]

    @pytest.mark.parametrize(
        ("where", "says"),
        [
            ({"modalty": "CT"}, "did you mean 'modality'"),
            ({"kvp": "120"}, "float"),
            ({"rows": True}, "int"),
            ({"contrast": 1}, "bool"),
            ({"kvp": {"above": 3}}, "min"),
        ],
    )
    def test_wrong_predicates_are_refused(self, filled: Engine, where: dict, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            cases(filled, kind="dicom", where=where)

    def test_wrong_kind_is_refused(self, catalog: Engine) -> None:
        with pytest.raises(ValueError, match="dicom, nifti, nrrd, mha, picture, row"):
            cases(catalog, kind="table")

    def test_files_come_in_the_order_of_their_positions(self, catalog: Engine) -> None:
        row = a_series("a", 0)
        unordered = tuple(
            InstanceRow(key("s", i), position, key("d", i), i)
            for i, position in enumerate([5.0, -2.5, None, 0.0])
        )
        upsert_series(catalog, [SeriesRow(**{**vars(row), "instances": unordered})])
        case_id = only(catalog).case_id
        assert locators_of(catalog, case_id) == [2, 1, 3, 0]
        assert cases_of_sops(catalog, [key("s", 1), key("s", 9)]) == {key("s", 1): case_id}
        with pytest.raises(KeyError):
            locators_of(catalog, key("nothing"))

    def test_facts_of_a_series(self, filled: Engine) -> None:
        assert series_facts(filled, key("series", "mr"))["tr"] == 2000.0
        with pytest.raises(KeyError):
            series_facts(filled, key("series", "none"))

    def test_table_rows_are_cases_too(self, catalog: Engine) -> None:
        rows = [
            TableRow(key("row", i), key("patient", i), {"radius": i / 2, "note": "x", "gap": None})
            for i in range(4)
        ]
        assert upsert_table_rows(catalog, "wisconsin", "sklearn", rows) == 4
        assert upsert_table_rows(catalog, "wisconsin", "sklearn", rows[2:]) == 0
        found = cases(catalog, kind="row", table="wisconsin", where={"radius": {"min": 1}})
        assert sorted(case.facts["radius"] for case in found) == [1.0, 1.5]
        assert (found[0].kind, found[0].series_key, found[0].n_instances) == ("row", None, 1)
        assert cases(catalog, kind="row", table="other") == []
        assert len(cases(catalog, kind="row", where={"gap": None})) == 4
        assert status(catalog)["rows"] == 4


class TestLabelSets:
    ROWS = (
        LabelRow("series", key("s", 1), "yes"),
        LabelRow("series", key("s", 2), None, locator=7),
    )

    def put(self, catalog: Engine, rows=ROWS, digest: str = "file") -> str:
        return put_label_set(
            catalog, name="table", source="archive", author="me", digest=digest, rows=rows
        )

    def test_same_content_is_the_same_set_in_any_order(self, catalog: Engine) -> None:
        first = self.put(catalog)
        assert self.put(catalog, tuple(reversed(self.ROWS))) == first
        assert len(label_sets(catalog)) == 1
        assert set(label_rows(catalog, first)) == set(self.ROWS)

    def test_newer_set_supersedes_and_the_old_one_stays(self, catalog: Engine) -> None:
        first = self.put(catalog)
        second = self.put(catalog, self.ROWS[:1])
        assert latest_label_set(catalog, "archive", "table") == second
        assert label_sets(catalog)[-1].supersedes == first
        assert set(label_rows(catalog, first)) == set(self.ROWS)
        assert latest_label_set(catalog, "archive", "other") is None

    def test_going_back_makes_the_old_set_the_newest(self, catalog: Engine) -> None:
        first, second = self.put(catalog), self.put(catalog, self.ROWS[:1])
        assert self.put(catalog) == first
        assert latest_label_set(catalog, "archive", "table") == first
        assert label_sets(catalog)[-1].supersedes == second

    def test_unknown_join_and_unknown_set_are_refused(self, catalog: Engine) -> None:
        with pytest.raises(ValueError, match="accession"):
            self.put(catalog, [LabelRow("name", key("s"), "x")])
        with pytest.raises(KeyError):
            label_rows(catalog, key("nothing"))


class TestQuarantine:
    def test_same_thing_for_the_same_reason_is_one_row(self, catalog: Engine) -> None:
        for detail in ("first", "second"):
            add_quarantine(
                catalog, stage="ingest", reason="truncated", detail=detail, source="a", locator=4
            )
        (row,) = quarantine(catalog)
        assert (row.detail, row.locator, row.source) == ("second", 4, "a")

    def test_reasons_come_with_counts_and_examples(self, catalog: Engine) -> None:
        for locator in range(7):
            add_quarantine(catalog, stage="ingest", reason="cut", detail="d", locator=locator)
        add_quarantine(catalog, stage="preprocess", reason="tilt", detail="d", case_id=key("c"))
        reasons = quarantine_reasons(catalog, examples=2)
        assert [(r.reason, r.n, len(r.examples)) for r in reasons] == [
            ("cut", 7, 2),
            ("tilt", 1, 1),
        ]
        assert status(catalog)["quarantine"] == {"cut": 7, "tilt": 1}

    def test_clearing_takes_what_meets_every_condition(self, catalog: Engine) -> None:
        for locator in range(4):
            add_quarantine(
                catalog, stage="ingest", reason="cut", detail="d", source="a", locator=locator
            )
        assert clear_quarantine(catalog, source="b", locators=[0, 1]) == 0
        assert clear_quarantine(catalog, source="a", locators=[0, 1]) == 2
        assert clear_quarantine(catalog, locators=[]) == 0
        assert [row.locator for row in quarantine(catalog)] in ([2, 3], [3, 2])
        with pytest.raises(ValueError, match="every row"):
            clear_quarantine(catalog)


class TestTrace:
    def test_every_kind_of_id_is_explained(self, catalog: Engine) -> None:
        row = a_series("a", 2)
        upsert_series(catalog, [row])
        case_id = only(catalog).case_id
        recipe_id, part_id = key("recipe"), key("part")
        put_recipe(catalog, recipe_id, "scenario", {"steps": []}, "")
        want_cases(catalog, recipe_id, [case_id])
        part = PartRow(part_id, "image", recipe_id, None, None, "parts/x", (case_id,), 5, "d")
        commit_part(catalog, part, [])
        label_set_id = put_label_set(
            catalog, name="n", source="archive", author="me", digest="d", rows=[]
        )
        kinds = {
            row.series_key: "series",
            row.study_key: "study",
            row.patient_key: "patient",
            row.accession_key: "accession",
            row.instances[0].sop_key: "instance",
            case_id: "case",
            recipe_id: "recipe",
            part_id: "part",
            label_set_id: "label set",
        }
        for id_, kind in kinds.items():
            assert [found.kind for found in trace(catalog, id_)] == [kind]
        (found,) = trace(catalog, case_id)
        refers = {reference.relation: reference.ids for reference in found.references}
        assert refers["parts that hold it"] == (part_id,)
        assert refers["recipes it was wanted for"] == (recipe_id,)

    @pytest.mark.parametrize("id_", ["", "x", "0" * 32, "patient ü", "%"])
    def test_unknown_ids_are_nothing(self, catalog: Engine, id_: str) -> None:
        assert trace(catalog, id_) == []


def test_status_counts(catalog: Engine) -> None:
    upsert_series(
        catalog, [a_series("a", patient=1), a_series("b", patient=1), a_series("c", patient=2)]
    )
    upsert_table_rows(catalog, "t", "s", [TableRow(key("row"), key("patient", 2), {})])
    found = status(catalog)
    assert {
        name: found[name] for name in ("patients", "studies", "series", "instances", "cases")
    } == {"patients": 2, "studies": 2, "series": 3, "instances": 9, "cases": 4}
    assert found["modalities"] == {"CT": 3}


def test_catalog_and_vault_stay_small(tmp_path: Path) -> None:
    """50,000 instances in 500 series, with paths and UIDs as long as real ones."""
    catalog = open_catalog(f"sqlite:///{tmp_path}/catalog.db")
    vault_engine = open_vault(f"sqlite:///{tmp_path}/vault.db")
    put_source(vault_engine, vault.Source("archive", "folder", "/archive"))
    uid = "1.2.840.113619.2.55.3.2831178355.{:06d}.{:010d}.{:03d}"
    for start in range(0, 500, 50):
        numbers = range(start, start + 50)
        seen = [
            FileSeen(
                f"{uid.format(1, n // 4, 0)}/{uid.format(2, n, 0)}/{uid.format(n, n * 7, i)}.dcm",
                "",
                527_000 + i,
                1_700_000_000_123_456_789 + i,
                bytes.fromhex(key("digest", n, i)),
                "instance",
            )
            for n in numbers
            for i in range(100)
        ]
        locators = iter(put_files(vault_engine, "archive", seen))
        rows, way_back = [], []
        for number_ in numbers:
            row = a_series(number_, 0, patient=number_ // 4, manufacturer="SIEMENS", kernel="B30f")
            held = tuple(
                InstanceRow(
                    key("sop", number_, i), i * 0.625 - 100, key("digest", number_, i), locator
                )
                for i, locator in zip(range(100), locators, strict=False)
            )
            rows.append(SeriesRow(**{**vars(row), "instances": held}))
            way_back += [
                ("series", row.series_key, uid.format(2, number_, 0)),
                ("study", row.study_key, uid.format(1, number_ // 4, 0)),
                ("patient", row.patient_key, f"PATIENT-{number_ // 4:08d}"),
            ]
        remember(vault_engine, way_back)
        upsert_series(catalog, rows)
    assert status(catalog)["instances"] == 50_000
    total = 0
    for engine, name in ((catalog, "catalog.db"), (vault_engine, "vault.db")):
        # The last connection to close writes the log back into the file.
        engine.dispose()
        total += sum(file.stat().st_size for file in tmp_path.glob(f"{name}*"))
    print(f"{total / 50_000:.0f} bytes an instance")
    assert total / 50_000 <= BYTES_PER_INSTANCE


def test_public_names_are_importable_from_the_catalog() -> None:
    for name in catalog_module.__all__:
        assert hasattr(catalog_module, name)
