"""What an intake says adds up: every file that was given is in one term of the sum."""

import csv
import re
import stat
import zipfile
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.archive.quarantine import add_quarantine, quarantine
from tasks.archive.quarantine_list import COLUMNS, write_quarantine_list
from tasks.archive.reasons import REMEDIES
from tasks.archive.report import IntakeReport, in_all
from tasks.archive.trace import trace
from tasks.archive.vault import list_sources
from tests.archive.made_dicom import slice_file
from tests.archive.test_intake import Loop

numbers = st.integers(0, 10**6)


def sum_of(line):
    """The given files and the terms of the sum in a sentence."""
    given, _, terms = line.partition(" given = ")
    return int(given.split()[0]), [int(term.split()[0]) for term in terms.split(" + ")]


@given(
    st.lists(numbers, min_size=5, max_size=5), st.dictionaries(st.text("ab_", min_size=1), numbers)
)
def test_the_sentence_holds_every_file_once(counts, refused):
    taken, twice, masks, ignored, known = counts
    seen = sum(counts) + sum(refused.values())
    report = IntakeReport(taken, twice, masks, ignored, known, refused, seen=seen)
    said, terms = sum_of(report.lines()[0])
    assert said == seen == sum(terms)
    assert "NOT ACCOUNTED" not in " ".join(report.lines())
    both = in_all([report, report])
    assert both.accounted == both.seen == 2 * seen


def test_a_file_without_an_outcome_is_not_hidden():
    assert "2 files NOT ACCOUNTED FOR" in " ".join(IntakeReport(instances=3, seen=5).lines())


def test_what_is_nought_is_not_said():
    assert IntakeReport(instances=1, seen=1).balance() == (
        "1 file given = 1 taken in + 0 in quarantine."
    )


@pytest.fixture
def loop(sqlite_catalog, prepared_sqlite, tmp_path):
    from tasks.archive.vault import open_vault

    root = tmp_path / "archive"
    root.mkdir()
    return Loop(sqlite_catalog, open_vault(f"sqlite:///{tmp_path}/vault.db"), root)


def test_pydicoms_own_files_are_accounted_for_where_they_lie(loop):
    place = Path(pydicom.__file__).parent / "data" / "test_files"
    on_disk = [path for path in place.rglob("*") if path.is_file()]
    packed = [path for path in on_disk if path.suffix == ".zip"]
    inside = 0
    for path in packed:
        with zipfile.ZipFile(path) as archive:
            inside += sum(not member.is_dir() for member in archive.infolist())
    report = loop.take(place)
    said, terms = sum_of(report.balance())
    assert said == sum(terms) == len(on_disk) - len(packed) + inside
    assert set(report.quarantined) <= set(REMEDIES)
    again = loop.take(place)
    assert again.unchanged == again.seen == report.seen


def test_everything_at_hand_is_accounted_for(loop, shared_data):
    for place in sorted(shared_data.iterdir()):
        if place.is_dir() and place.name != "chest-xray":  # 900 files, taken in elsewhere
            report = loop.take(place)
            said, terms = sum_of(report.balance())
            assert said == sum(terms) > 0


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_file_that_loses_to_another_source_is_told_and_stays_its_sources(loop, order):
    for name, pixels in (("a", bytes(32)), ("b", bytes([1]) * 32)):
        (loop.root / name).mkdir()
        (loop.root / name / "slice.dcm").write_bytes(slice_file(PixelData=pixels))
    reports = [loop.take(loop.root / name) for name in order]
    lost = [report.displaced for report in reports]
    refused = [sum(report.quarantined.values()) for report in reports]
    assert sum(lost) + sum(refused) == 1
    said = " ".join(reports[1].lines())
    assert ("taken in before moved to quarantine" in said) == bool(lost[1])
    (row,) = quarantine(loop.catalog)
    kept = {source.alias: Path(source.location).name for source in list_sources(loop.vault)}
    # Whichever came first, the same file loses, and its row names the source it lies in.
    loser = order[0] if lost[1] else order[1]
    assert kept[row.source] == loser
    again = [loop.take(loop.root / name) for name in order]
    assert [report.unchanged for report in again] == [1, 1]
    assert sum(report.still_quarantined for report in again) == 1


def test_the_list_says_which_files_and_is_its_owners_alone(loop, tmp_path):
    (loop.root / "Doe^Jane.dcm").write_bytes(slice_file()[:-9])
    with zipfile.ZipFile(loop.root / "sent.zip", "w") as packed:
        packed.writestr("inside/=bad.dcm", slice_file(2)[:-9])
    loop.take()
    add_quarantine(loop.catalog, stage="preprocess", reason="gantry_tilt", detail="leans",
                   case_id="c" * 32, recipe_id="r" * 32)  # fmt: skip
    out = tmp_path / "list.csv"
    out.write_text("older and longer than what is to come" * 99)
    out.chmod(0o644)
    assert write_quarantine_list(out, loop.catalog, loop.vault) == 3
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    found = {row["file"]: row for row in rows}
    assert found.keys() == {
        str(loop.root / "Doe^Jane.dcm"), f"{loop.root / 'sent.zip'}!inside/=bad.dcm", ""
    }  # fmt: skip
    assert found[""]["reason"] == "gantry_tilt"
    assert all(row["to_do"] == REMEDIES[row["reason"]] for row in rows)


def test_the_id_of_a_row_of_quarantine_can_be_traced(loop):
    (loop.root / "a.dcm").write_bytes(slice_file()[:-9])
    loop.take()
    (row,) = quarantine(loop.catalog)
    (found,) = trace(loop.catalog, row.quarantine_id[:12])
    assert (found.kind, found.facts["reason"]) == ("quarantine", "truncated")
    assert not re.search(r"a\.dcm", str(found))
