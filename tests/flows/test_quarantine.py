"""`radloop quarantine`: reasons with counts, an example and what to do, and `--retry`."""

import shutil
import stat
from collections.abc import Iterator

import pytest

from tasks.archive.catalog import open_catalog, status
from tasks.archive.intake import ingest
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.reasons import REMEDIES
from tasks.archive.sources import resolve_source
from tasks.archive.vault import open_vault, project_key
from tests.archive.made_dicom import nested, slice_file
from tests.flows.running import Place

BAD = {
    "Doe_Jane/cut1.dcm": slice_file(1)[:-5],
    "Doe_Jane/cut2.dcm": slice_file(2)[:-9],
    "Doe_Jane/<b>picture</b>.png": b"\x89PNG",
    "Doe_Jane/deep": nested(60),
    "Doe_Jane/empty.dcm": b"",
}


@pytest.fixture
def quarantined(fresh) -> Iterator[Place]:
    """A home with an archive whose files cannot be used."""
    for name, data in BAD.items():
        path = fresh.folder / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    fresh.home.mkdir(parents=True, exist_ok=True)
    catalog = open_catalog(f"sqlite:///{fresh.home}/catalog.db")
    vault = open_vault(f"sqlite:///{fresh.home}/vault.db")
    source = resolve_source(str(fresh.folder / "archive"), "bad")
    report = ingest(source, catalog, vault, Pseudonymiser(project_key(vault)))
    assert sum(report.quarantined.values()) == len(BAD)
    catalog.dispose()
    vault.dispose()
    return fresh


def test_each_reason_comes_with_count_example_and_what_to_do(quarantined):
    out = quarantined.radloop("quarantine").ok().out
    lines = out.splitlines()
    (at,) = [n for n, line in enumerate(lines) if line.endswith("ingest: truncated")]
    assert lines[at].split()[0] == "2"
    assert "e.g." in lines[at + 1]
    assert "send it again" in lines[at + 1]
    assert lines[at + 2].strip() == f"to do: {REMEDIES['truncated']}"
    assert out.count("to do: ") == len({"truncated", "unsupported", "nested", "empty"})
    assert "Doe" not in out
    assert "<b>" not in out


def test_the_document_holds_the_same(quarantined):
    found = quarantined.radloop("quarantine", "--json").ok().document
    assert {one["reason"]: one["n"] for one in found} == {
        "truncated": 2,
        "unsupported_format": 1,
        "nested_too_deep": 1,
        "empty_file": 1,
    }
    assert all(one["remedy"] == REMEDIES[one["reason"]] for one in found)
    assert all(one["examples"] for one in found)


def test_the_list_of_files_is_written_for_its_owner_and_nothing_of_it_is_printed(quarantined):
    out = quarantined.folder / "list.csv"
    ran = quarantined.radloop("quarantine", "--files", out).ok()
    assert f"{len(BAD)} rows written" in ran.out
    assert "Doe" not in ran.out + ran.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    text = out.read_text()
    assert all(name in text for name in BAD)
    audit = (quarantined.home / "audit.jsonl").read_text()
    assert "quarantine-list" in audit
    assert "Doe" not in audit


@pytest.mark.slow
def test_retry_takes_what_was_mended_although_another_place_is_gone(quarantined):
    gone = quarantined.folder / "gone"
    gone.mkdir()
    quarantined.radloop("source", "add", "a-gone", gone).ok()
    shutil.rmtree(gone)
    (quarantined.folder / "archive" / "Doe_Jane" / "cut1.dcm").write_bytes(slice_file(1))
    ran = quarantined.radloop("quarantine", "--retry")
    quarantined.radloop("ui", "--stop").ok()
    assert ran.code == 1
    assert "not read" in ran.out + ran.err
    assert "Traceback" not in ran.err
    catalog = open_catalog(f"sqlite:///{quarantined.home}/catalog.db")
    found = status(catalog)
    catalog.dispose()
    assert found["instances"] == 1
    assert found["quarantine"]["truncated"] == 1
