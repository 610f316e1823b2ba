"""The catalog: migrations, idempotent upserts in any order, predicates, quarantine, traces."""

import hashlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from tasks.archive import catalog as catalog_module
from tasks.archive import database, tables, vault
from tasks.archive.catalog import (
    CATALOG,
    InstanceRow,
    LabelRow,
    SeriesRow,
    TableRow,
    add_quarantine,
    cases,
    cases_of_sops,
    clear_quarantine,
    drop_instances,
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
from tasks.archive.commits import PartRow, commit_part, pending_cases, put_recipe, want_cases
from tasks.archive.database import alembic_config, network_file_system, writing
from tasks.archive.vault import VAULT, FileSeen, open_vault, put_files, put_source, remember
from tasks.archive.vault_tables import vault_metadata
from tasks.errors import RadloopError
from tasks.hashing import digest_json

OPEN_LIMIT_S = 0.050
"""Opening a catalog that is up to date, after the imports."""

BYTES_PER_INSTANCE = 400
"""Most that catalog and vault together may take for one instance."""


def key(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]


def a_series(
    name: object, n: int = 3, *, patient: object = "p", content: object = "", **facts: object
) -> SeriesRow:
    return SeriesRow(
        series_key=key("series", name),
        study_key=key("study", patient),
        patient_key=key("patient", patient),
        accession_key=key("accession", patient),
        kind="dicom",
        source="archive",
        facts={"modality": "CT", "kvp": 120.0, "rows": 512, "contrast": False, **facts},
        instances=tuple(
            InstanceRow(
                key("sop", name, i), float(i), key("digest", name, i, content), number(name, i)
            )
            for i in range(n)
        ),
    )


def number(*words: object) -> int:
    return int(key(*words)[:12], 16)


def only(catalog: Engine, **conditions: object):
    (case,) = cases(catalog, kind="dicom", **conditions)
    return case


class TestOpen:
    @pytest.mark.parametrize("name", ["catalog", "vault"])
    def test_migrated_schema_is_the_schema_of_the_code(self, empty_url: str, name: str) -> None:
        opener, metadata = {
            "catalog": (open_catalog, tables.catalog_metadata),
            "vault": (open_vault, vault_metadata),
        }[name]
        engine = opener(empty_url)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == {"catalog": CATALOG, "vault": VAULT}[name].head
        engine.dispose()

    @pytest.mark.parametrize("kind", [CATALOG, VAULT], ids=lambda kind: kind.name)
    def test_head_in_the_code_is_the_newest_migration(self, kind: database.DatabaseKind) -> None:
        assert ScriptDirectory.from_config(alembic_config(kind)).get_heads() == [kind.head]

    def test_migrations_go_back_to_nothing(self, empty_url: str) -> None:
        from alembic import command

        engine = open_catalog(empty_url)
        config = alembic_config(CATALOG)
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
        with engine.connect() as connection:
            context = MigrationContext.configure(connection)
            wanted = len(compare_metadata(context, tables.catalog_metadata))
        assert wanted >= len(tables.catalog_metadata.tables)
        engine.dispose()

    def test_catalog_of_the_first_release_is_brought_up_to_date_with_its_rows(
        self, empty_url: str
    ) -> None:
        from alembic import command

        engine = open_catalog(empty_url)
        config = alembic_config(CATALOG)
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "0001")
            connection.execute(
                tables.recipes.insert(),
                {"recipe_id": "a" * 32, "body": "{}", "fitted_on": "", "at": "2026-11-01"},
            )
        engine.dispose()
        engine = open_catalog(empty_url)
        with engine.connect() as connection:
            assert connection.scalars(select(tables.recipes.c.recipe_id)).all() == ["a" * 32]
            assert connection.execute(select(tables.feature_rows)).all() == []
        engine.dispose()

    def test_up_to_date_catalog_opens_at_once(self, catalog_url: str) -> None:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            engine = open_catalog(catalog_url)
            seconds.append(time.perf_counter() - start)
            engine.dispose()
        assert min(seconds) < OPEN_LIMIT_S

    def test_up_to_date_catalog_opens_without_alembic(self, sqlite_catalog: Engine) -> None:
        code = (
            "import sys\nfrom tasks.archive.catalog import open_catalog\n"
            "open_catalog(sys.argv[1]).dispose()\nprint('alembic' in sys.modules)"
        )
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            [sys.executable, "-c", code, str(sqlite_catalog.url)],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
        )
        assert done.stdout.strip() == "False"

    def test_two_processes_that_open_an_empty_database_both_get_it(self, empty_url: str) -> None:
        errors: list[BaseException] = []

        def opening() -> None:
            try:
                open_catalog(empty_url).dispose()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=opening) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    def test_catalog_of_a_newer_release_is_refused(self, catalog: Engine, catalog_url: str) -> None:
        with writing(catalog) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        try:
            with pytest.raises(RadloopError, match="newer radloop"):
                open_catalog(catalog_url)
        finally:
            with writing(catalog) as connection:
                connection.execute(
                    text("UPDATE alembic_version SET version_num = :head"), {"head": CATALOG.head}
                )

    def test_file_that_is_no_database_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "catalog.db").write_bytes(b"not a database at all, whatever its name" * 50)
        with pytest.raises(RadloopError, match="RADLOOP_CATALOG_URL"):
            open_catalog(f"sqlite:///{tmp_path}/catalog.db")

    @pytest.mark.parametrize(
        ("url", "says"), [("mysql://u@h/d", "mysql"), ("sqlite://", "without a file")]
    )
    def test_other_databases_are_refused(self, url: str, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            open_catalog(url)

    def test_sqlite_is_set_as_designed(self, sqlite_catalog: Engine) -> None:
        with sqlite_catalog.connect() as connection:
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert found == {
            "journal_mode": "wal",
            "synchronous": 1,
            "foreign_keys": 1,
            "busy_timeout": database.BUSY_TIMEOUT_MS,
        }


class TestNetworkFileSystem:
    MOUNTS = (
        "proc /proc proc rw 0 0\n"
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/export /data nfs4 rw,vers=4.2 0 0\n"
        "/dev/sdb1 /data/fast xfs rw 0 0\n"
        "//server/share /mnt/hospital\\040share cifs rw 0 0\n"
        "user@host:/x /home/u/remote fuse.sshfs rw 0 0\n"
    )

    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("/home/u/catalog.db", None),
            ("/data/catalog.db", "nfs4"),
            ("/data/fast/catalog.db", None),
            ("/database/catalog.db", None),
            ("/mnt/hospital share/catalog.db", "cifs"),
            ("/home/u/remote/deep/catalog.db", "fuse.sshfs"),
        ],
    )
    def test_longest_mount_point_decides(self, path: str, found: str | None) -> None:
        assert network_file_system(Path(path), self.MOUNTS) == found

    def test_later_mount_hides_an_earlier_one(self) -> None:
        mounts = "/dev/sda1 /data ext4 rw 0 0\nserver:/x /data nfs rw 0 0\n"
        assert network_file_system(Path("/data/x.db"), mounts) == "nfs"

    @pytest.mark.parametrize(
        ("opener", "setting"),
        [(open_catalog, "RADLOOP_CATALOG_URL"), (open_vault, "RADLOOP_VAULT_URL")],
    )
    def test_refusal_names_the_setting_that_helps(
        self, opener, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mounts = tmp_path / "mounts"
        mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs rw 0 0\n")
        monkeypatch.setattr(database, "_MOUNTS", mounts)
        with pytest.raises(RadloopError, match=setting):
            opener(f"sqlite:///{tmp_path}/x.db")
        assert not (tmp_path / "x.db").exists()


class TestUpsertSeries:
    def test_ids_are_the_hashes_the_design_names(self, catalog: Engine) -> None:
        row = a_series("a")
        counts = upsert_series(catalog, [row])
        assert (counts.new, counts.changed, counts.instances_new, counts.conflicts) == (1, 0, 3, 0)
        version = digest_json([row.series_key, sorted(i.digest for i in row.instances)])
        case = only(catalog)
        assert case.case_id == digest_json(["case", [version]])
        assert (case.n_instances, case.series_key) == (3, row.series_key)
        assert case.facts["kvp"] == 120.0
        assert case.facts["contrast"] is False
        assert case.facts["sequence"] is None
        assert list(case.facts) == list(tables.FACT_TYPES)

    def test_the_same_again_changes_nothing(self, catalog: Engine) -> None:
        upsert_series(catalog, [a_series("a")])
        before = dump(catalog)
        counts = upsert_series(catalog, [a_series("a")])
        assert (counts.new, counts.changed, counts.instances_new, counts.conflicts) == (0, 0, 0, 0)
        assert dump(catalog) == before

    def test_late_instance_makes_another_case(self, catalog: Engine) -> None:
        upsert_series(catalog, [a_series("a", 2)])
        old = only(catalog).case_id
        counts = upsert_series(catalog, [a_series("a", 3)])
        assert (counts.new, counts.changed, counts.instances_new) == (0, 1, 1)
        assert only(catalog).case_id != old
        assert trace(catalog, old) == []

    def test_wanted_case_leaves_a_trace_when_its_series_grows(self, catalog: Engine) -> None:
        upsert_series(catalog, [a_series("a", 2)])
        old = only(catalog).case_id
        put_recipe(catalog, key("r"), "scenario", {}, "")
        want_cases(catalog, key("r"), [old])
        upsert_series(catalog, [a_series("a", 3)])
        assert pending_cases(catalog, key("r")) == []
        (found,) = trace(catalog, old)
        assert found.kind == "former case"
        assert found.references[0].ids == (only(catalog).case_id,)

    def test_file_read_again_replaces_what_it_held(self, catalog: Engine) -> None:
        upsert_series(catalog, [a_series("a")])
        old = only(catalog).case_id
        counts = upsert_series(catalog, [a_series("a", content="edited")])
        assert (counts.changed, counts.instances_new, counts.conflicts) == (1, 0, 0)
        assert only(catalog).case_id != old

    @pytest.mark.parametrize("swapped", [False, True])
    @pytest.mark.parametrize("together", [False, True])
    def test_of_two_files_with_one_sop_the_smaller_digest_stays(
        self, catalog: Engine, swapped: bool, together: bool
    ) -> None:
        def holding(digest: str, locator: int) -> SeriesRow:
            row = a_series("a", 0)
            instance = InstanceRow(key("sop"), 0.0, digest, locator)
            return SeriesRow(**{**vars(row), "instances": (instance,)})

        rows = [holding("1" * 32, 10), holding("2" * 32, 20)]
        if swapped:
            rows.reverse()
        batches = [rows] if together else [[row] for row in rows]
        counts = [upsert_series(catalog, batch) for batch in batches]
        assert sum(count.conflicts for count in counts) == 1
        assert counts[-1].refused == (20,)
        assert locators_of(catalog, only(catalog).case_id) == [10]

    def test_duplicate_file_is_no_conflict(self, catalog: Engine) -> None:
        row = a_series("a", 1)
        copy = InstanceRow(**{**vars(row.instances[0]), "locator": row.instances[0].locator + 1})
        upsert_series(catalog, [row])
        counts = upsert_series(catalog, [SeriesRow(**{**vars(row), "instances": (copy,)})])
        assert (counts.changed, counts.instances_new, counts.conflicts) == (0, 0, 0)

    def test_series_never_mixes_patients(self, catalog: Engine) -> None:
        upsert_series(catalog, [a_series("a", 2)])
        foreign = a_series("a", 4, patient="other")
        counts = upsert_series(catalog, [foreign])
        assert counts.conflicts == 4
        assert set(counts.refused) == {i.locator for i in foreign.instances}
        assert only(catalog).n_instances == 2

    def test_instance_stays_in_its_series(self, catalog: Engine) -> None:
        upsert_series(catalog, [a_series("a", 2)])
        stolen = SeriesRow(**{**vars(a_series("b")), "instances": a_series("a", 2).instances})
        counts = upsert_series(catalog, [stolen])
        assert counts.conflicts == 2
        assert [case.n_instances for case in cases(catalog, kind="dicom")] == [2]

    def test_unknown_fact_is_refused(self, catalog: Engine) -> None:
        with pytest.raises(ValueError, match="patient_name"):
            upsert_series(catalog, [a_series("a", patient_name="x")])

    def test_dropped_files_take_their_instances_with_them(self, catalog: Engine) -> None:
        whole, short = a_series("a", 3), a_series("a", 2)
        upsert_series(catalog, [short])
        wanted = only(catalog).case_id
        upsert_series(catalog, [whole])
        assert drop_instances(catalog, [whole.instances[2].locator]) == 1
        assert only(catalog).case_id == wanted
        assert drop_instances(catalog, [i.locator for i in whole.instances]) == 2
        assert cases(catalog, kind="dicom") == []


def dump(catalog: Engine) -> tuple[list, list]:
    """Rows of series and instances without row numbers, in an order of their own."""
    instances = tables.instances.c
    with catalog.connect() as connection:
        series = [
            row[1:]
            for row in connection.execute(
                select(tables.series).order_by(tables.series.c.series_key)
            )
        ]
        held = select(
            tables.series.c.series_key,
            instances.sop_key,
            instances.position,
            instances.digest,
            instances.locator,
        ).join_from(tables.instances, tables.series)
        rows = sorted(tuple(row) for row in connection.execute(held))
    return [tuple(row) for row in series], rows


def piece(name: int, start: int, n: int, copy: bool = False) -> SeriesRow:
    """Some instances of a series; its facts are those of the file with its smallest SOP key."""
    whole = a_series(name, 4, patient=name // 2)
    held = whole.instances[start : start + n]
    if copy:
        held = tuple(
            InstanceRow(i.sop_key, i.position, key("other", i.digest), i.locator + 1) for i in held
        )
    maker = min(held, key=lambda instance: instance.sop_key).digest
    return SeriesRow(
        **{**vars(whole), "facts": {"modality": "CT", "manufacturer": maker}, "instances": held}
    )


PIECES = [
    # Overlapping pieces of four series, and other content for the SOP instances of the first two:
    # which file is kept must not depend on the order.
    *(piece(name, start, 2) for name in range(4) for start in (0, 1, 2)),
    piece(0, 0, 4, copy=True),
    piece(1, 0, 2, copy=True),
    piece(1, 2, 2, copy=True),
]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_order_and_any_repetition_give_the_same_rows(catalog: Engine, data) -> None:
    order = data.draw(st.permutations(range(len(PIECES))))
    again = data.draw(st.lists(st.sampled_from(range(len(PIECES))), max_size=6))
    sequence = [PIECES[i] for i in [*order, *again]]
    size = data.draw(st.integers(1, len(sequence)))
    with writing(catalog) as connection:
        connection.execute(tables.instances.delete())
        connection.execute(tables.series.delete())
    for start in range(0, len(sequence), size):
        upsert_series(catalog, sequence[start : start + size])
    found = dump(catalog)
    with writing(catalog) as connection:
        connection.execute(tables.instances.delete())
        connection.execute(tables.series.delete())
    upsert_series(catalog, PIECES)
    assert found == dump(catalog)


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
