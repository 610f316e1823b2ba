"""No name, number, free text or place of an archive is anywhere but in the vault."""

import base64
import gzip
import io
import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from tests.flows.conftest import SEED
from tests.flows.planted import FOLDER, NAME, TOKENS, sweep

PHANTOMS = (f"PHANTOM{SEED:03d}", "PHANTOM-", "PHANTOM General", "PHANTOM0")
"""Starts of every synthetic patient id, accession number, name, institution and serial number."""

PLACES = ("zqordner", FOLDER, "IM0000.dcm")
"""Parts of the archive's paths."""

VAULT = ("vault.db", "vault.db-wal", "vault.db-shm")
"""The one place that may know."""


def test_the_sweep_finds_a_token_however_it_is_packed(tmp_path):
    token = "ZQSECRETNAME"
    content = f"before {token.lower()} after".encode()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", gzip.compress(content))
    planted = {
        "plain.txt": content,
        "wide.bin": content.decode().encode("utf-16-le"),
        "deep.zip": zipped.getvalue(),
        "packed.gz": gzip.compress(content),
        "hex.txt": token.encode().hex().encode(),
        "page.html": b'src="data:x;base64,' + base64.b64encode(content * 2) + b'"',
    } | {f"b64-{pad}": base64.b64encode(b"x" * pad + token.encode() + b"yy") for pad in range(3)}
    import imagecodecs

    planted["packed.zst"] = bytes(imagecodecs.zstd_encode(content))
    for name, data in planted.items():
        (tmp_path / name).write_bytes(data)
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("create table t (body text)")
        database.execute("insert into t values (?)", ("x" * 4070 + token + "x" * 9000,))
    database.close()
    (tmp_path / token).mkdir()
    found = {
        finding.where.partition("!")[0].partition(":")[0] for finding in sweep(tmp_path, (token,))
    }
    assert found == {*planted, "rows.db", token}
    assert not sweep(tmp_path, ("ZQOTHERNAME",))


def test_the_vault_knows_and_the_archive_holds_what_is_searched_for(loop):
    """Without this the sweeps below would pass on an archive that nobody read."""
    in_vault = {
        finding.token for finding in sweep(loop.home, (*PHANTOMS, *TOKENS, *loop.uids, *PLACES))
    }
    assert {PHANTOMS[0], "ZQ-4711-0815", "ZQACC20817733", NAME, *loop.uids[:2]} <= in_vault
    in_archive = {finding.token for finding in sweep(loop.source, (*TOKENS, *loop.uids))}
    # The birth date stands there without dashes, as DICOM writes it.
    assert in_archive == {*TOKENS, *loop.uids} - {"1947-02-13"}


def test_no_token_is_in_anything_of_the_home_but_the_vault(loop):
    assert sweep(loop.home, (*PHANTOMS, *TOKENS, *loop.uids), skip=VAULT) == []


def test_no_token_is_in_the_users_or_the_temporary_folder(loop):
    for name in ("user", "tmp"):
        assert sweep(loop.place.folder / name, (*PHANTOMS, *TOKENS, *loop.uids)) == []


@pytest.mark.parametrize("name", ["judged", "strangers"])
def test_results_name_nobody_but_in_the_users_own_table(loop, name):
    folder = loop.out(name)
    assert len(list(folder.iterdir())) > 3
    tokens = (*PHANTOMS, *TOKENS, *loop.uids, *PLACES)
    assert sweep(folder, tokens, skip=("sources.csv",)) == []


def test_no_place_of_the_archive_is_in_the_engines_databases(loop):
    for name in ("prefect", "mlflow", "artifacts", "dask", "training", "reports", "store", "plans"):
        assert sweep(loop.home / name, PLACES) == [] if (loop.home / name).exists() else True
    for name in ("mlflow.db", "catalog.db", "audit.jsonl", "ledger.jsonl"):
        alone = loop.home / name
        found = [f for f in sweep(loop.home, PLACES, skip=VAULT) if f.where.startswith(name)]
        assert alone.stat().st_size > 0
        assert found == []


def test_nothing_the_commands_say_names_anybody(loop):
    tokens = [token.lower() for token in (*PHANTOMS, *TOKENS, *loop.uids)]
    for name, ran in loop.ran.items():
        for text in (ran.out.lower(), ran.err.lower()):
            assert [token for token in tokens if token in text] == [], name
        assert "zqordner" not in ran.err.lower()
    for words in (("status", "--json"), ("quarantine",), ("quarantine", "--json")):
        ran = loop.radloop(*words).ok()
        assert [token for token in tokens if token in (ran.out + ran.err).lower()] == [], words


def test_export_and_trace_name_nobody(loop, tmp_path):
    loop.radloop("export", "--to", "nifti", "--out", tmp_path / "nifti").ok()
    assert len(list((tmp_path / "nifti").glob("*.nii.gz"))) > 50
    assert sweep(tmp_path / "nifti", (*PHANTOMS, *TOKENS, *loop.uids, *PLACES)) == []
    case_id = json.loads((loop.out("judged") / "predictions.json").read_text())["predictions"][0][
        "case_id"
    ]
    said = loop.radloop("trace", case_id).ok()
    text = (said.out + said.err).lower()
    assert not [token for token in (*PHANTOMS, *TOKENS, *loop.uids) if token.lower() in text]


def test_rows_of_a_table_are_pseudonyms_everywhere(table_loop):
    """The ids of the table's rows start with ZQROW."""
    assert sweep(table_loop.home, ("ZQROW0", "tiny.csv"), skip=VAULT) == []
    assert sweep(table_loop.out("judged"), ("ZQROW0",)) == []
    with sqlite3.connect(table_loop.home / "vault.db") as vault:
        names = [
            row[0] for row in vault.execute("select name from sqlite_master where type='table'")
        ]
        held = [str(row) for name in names for row in vault.execute(f'select * from "{name}"')]
    vault.close()
    assert any("ZQROW0" in row for row in held)


def test_the_fake_archive_is_not_in_this_repository():
    """The tokens stand in one test module; a copy of them elsewhere would blunt the sweep."""
    root = Path(__file__).resolve().parents[2]
    for folder in ("flows", "tasks", "deployments", "mlflow"):
        for path in (root / folder).rglob("*"):
            if path.is_file() and path.suffix in (".py", ".yaml", ".j2"):
                assert NAME not in path.read_text(encoding="utf-8")
