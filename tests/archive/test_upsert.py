"""Series come in any order, in any pieces and again: the rows are the same."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from tasks.archive import tables
from tasks.archive.catalog import (
    InstanceRow,
    SeriesRow,
    cases,
    drop_instances,
    locators_of,
    trace,
    upsert_series,
)
from tasks.archive.commits import pending_cases, put_recipe, want_cases
from tasks.archive.database import writing
from tasks.hashing import digest_json
from tests.archive.made_rows import a_series, key, only


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
