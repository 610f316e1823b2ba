"""The command line: help, usage, one sentence an error, one JSON document, no server for a look."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flows.__main__ import COMMANDS, main
from tasks.archive.audit import append
from tasks.phantom.write import write_limb_archive
from tests.flows.conftest import LIMB
from tests.flows.running import Place, Ran

LOOK_SECONDS = 60
"""A command that only looks answers in one to three seconds on a quiet machine."""


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_a_command_shows_an_example(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert re.search(rf"example:\n  radloop {name}\b", shown)
    assert "--home" in shown


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_example_of_a_command_is_one_the_parser_takes(name):
    from flows.__main__ import build_parser

    words = COMMANDS[name][2].partition(" > ")[0].split()
    assert words[0] == "radloop"
    assert build_parser().parse_args(words[1:]).command == name


def test_help_starts_nothing_and_loads_no_engine():
    program = (
        "import sys\n"
        "from flows.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mlflow', 'prefect', 'distributed', 'sklearn', 'pandas', 'SimpleITK'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"
    assert "examples:" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["retrain"],
        ["predict", "small-limb"],
        ["predict", "small-limb", "somewhere"],
        ["export", "--to", "jpeg", "--out", "x"],
        ["compare", "small-limb", "--edition", "first"],
        ["status", "--no-such-option"],
        ["source"],
        ["new", "lungs"],
    ],
)
def test_wrong_usage_ends_two(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: radloop" in capsys.readouterr().err


def test_no_command_shows_the_help_and_ends_two(capsys):
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().out


def error_of(ran: Ran) -> str:
    """Return the one sentence of an error."""
    assert ran.code == 1, (ran.out, ran.err)
    assert "Traceback" not in ran.err
    assert ran.out == ""
    lines = [line for line in ran.err.splitlines() if line and not line.startswith("home ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("radloop: ")
    return lines[0]


def test_errors_are_one_sentence_with_the_remedy(fresh):
    write_limb_archive(fresh.folder / "archive", patients=1, seed=1)
    said = error_of(fresh.radloop("check", "chest-xry"))
    assert "'chest-xry'" in said
    assert "nearest is 'chest-xray'" in said
    said = error_of(fresh.radloop("source", "add", "ct", fresh.folder / "nowhere"))
    assert "Nothing stands at the place" in said
    assert "nowhere" not in said
    said = error_of(fresh.radloop("source", "add", "CT Archive", fresh.folder / "archive"))
    assert "alias" in said
    said = error_of(fresh.radloop("source", "add", "web", "https://example.org/archive"))
    assert "https://" in said
    said = error_of(fresh.radloop("check", fresh.folder / "gone.yaml"))
    assert "gone.yaml" in said
    said = error_of(fresh.radloop("trace", "3f9c2a"))
    assert "3f9c2a" in said
    said = error_of(fresh.radloop("compare", "chest-xray"))
    assert "radloop retrain chest-xray" in said
    assert not (fresh.home / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("wrong", "right", "near"),
    [
        ("cohort:", "kohort:", "cohort"),
        ("bootstrap:", "bootstrapp:", "bootstrap"),
        ("epochs:", "epoch:", "epochs"),
        ("step: pad_square", "step: pad_squared", "pad_square"),
        ("low:", "lo:", "low"),
        ("margin:", "margn:", "margin"),
        ("strata:", "stratum:", "strata"),
        ("network: small_cnn", "network: smal_cnn", "small_cnn"),
        ("estimator: logistic", "estimator: logistics", "logistic"),
    ],
)
def test_a_wrong_word_in_a_scenario_names_the_nearest(
    wrong, right, near, tmp_path, capsys, monkeypatch
):
    assert LIMB.count(wrong) >= 1
    path = tmp_path / "wrong.yaml"
    path.write_text(LIMB.replace(wrong, right, 1))
    from flows.home import Home
    from flows.settings import Settings
    from tasks.errors import RadloopError

    home = Home(Settings(home=tmp_path / "home"))
    with pytest.raises((RadloopError, ValueError)) as refusal:
        home.scenario(str(path))
    said = str(refusal.value)
    assert right.rstrip(":").rpartition(" ")[2] in said
    assert near in said
    assert "\n" not in said.strip()


def test_a_wrong_key_ends_one_on_the_command_line(fresh):
    path = fresh.folder / "wrong.yaml"
    path.write_text(LIMB.replace("cohort:", "kohort:"))
    said = error_of(fresh.radloop("check", path))
    assert "nearest is 'cohort'" in said


LOOKS = {
    "status": ["status", "--json"],
    "quarantine": ["quarantine", "--json"],
    "check": ["check", "small-limb", "--json"],
    "compare": ["compare", "small-limb", "--json"],
    "schema": ["schema"],
}
"""Commands that print one JSON document on standard output."""


@pytest.mark.parametrize("name", sorted(LOOKS))
def test_a_look_prints_one_json_document(loop, name):
    ran = loop.radloop(*LOOKS[name]).ok()
    assert isinstance(ran.document, list | dict)
    assert ran.seconds < LOOK_SECONDS


def test_what_the_documents_say_agrees(loop):
    status, check, compare = (
        loop.radloop(*LOOKS[n]).document for n in ("status", "check", "compare")
    )
    assert status["home"] == str(loop.home)
    assert status["parts"] >= 1
    assert check["problems"] == []
    assert check["scenario"] == compare["scenario"] == "small-limb"
    assert check["funnel"][0][1] == status["cases"]
    by_name = {run["run"]: run for run in compare["runs"]}
    assert {"small-cnn", "header-only"} <= by_name.keys()
    for name in ("small-cnn", "header-only"):
        run = by_name[name]
        assert run["oof/auroc_lo"] <= run["oof/auroc"] <= run["oof/auroc_hi"]
        assert not any(key.startswith("test/") for key in run)
    (training,) = (run for run in compare["runs"] if run["kind"] == "training")
    assert "test/auroc" in training


def test_trace_knows_cases_parts_and_nothing_else(loop):
    case_id = json.loads((loop.out("judged") / "predictions.json").read_text())["predictions"][0][
        "case_id"
    ]
    (found,) = loop.radloop("trace", case_id, "--json").ok().document
    assert found["kind"] == "case"
    assert found["id"] == case_id
    part = next(path.stem for path in (loop.home / "store" / "parts").glob("*.zarr"))
    assert loop.radloop("trace", part).ok().out.startswith(f"part {part}")
    nothing = loop.radloop("trace", "0" * 32, "--json")
    assert (nothing.code, nothing.document) == (1, [])


def test_trace_takes_the_first_characters_of_an_id_as_its_help_says(loop):
    part = next(path.stem for path in (loop.home / "store" / "parts").glob("*.zarr"))
    (found,) = loop.radloop("trace", part[:12], "--json").ok().document
    assert found["id"] == part


def test_verify_reads_back_what_stands_and_finds_a_flipped_bit(loop, tmp_path):
    import shutil

    assert re.match(r"\d+ parts read back, 0 problems$", loop.radloop("verify").ok().out.strip())
    torn = Place(tmp_path)
    shutil.copytree(
        loop.home, torn.home, ignore=shutil.ignore_patterns("prefect", "mlflow", "artifacts")
    )
    chunk = next(path for path in (torn.home / "store").rglob("c/*") if path.is_dir())
    chunk = next(path for path in chunk.rglob("*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    append(torn.home / "audit.jsonl", "gate", scenario="x")
    lines = (torn.home / "audit.jsonl").read_text().splitlines()
    changed = [lines[0].replace('"ingest"', '"erased"', 1), *lines[1:]]
    assert changed != lines
    (torn.home / "audit.jsonl").write_text("\n".join(changed) + "\n")
    found = torn.radloop("verify")
    assert found.code == 1
    assert "part " in found.out
    assert "audit: " in found.out


def test_split_counts_every_patient_and_every_use(loop):
    out = loop.radloop("split", "small-limb").ok().out
    counts = dict(re.findall(r"^(train|test|reserve) +(\d+) patients", out, re.M))
    check = loop.radloop(*LOOKS["check"]).document
    assert sum(map(int, counts.values())) <= check["funnel"][-1][1]
    assert int(counts["train"]) > int(counts["test"]) > 0
    assert "edition 1: used 1 times" in out


def test_a_new_edition_without_a_reserve_is_refused(loop):
    ran = loop.radloop("split", "small-limb", "--new-edition")
    assert ran.code == 1
    assert "reserve" in ran.err


def test_export_writes_nifti_on_the_series_own_grid(loop, tmp_path):
    judged = json.loads((loop.out("judged") / "predictions.json").read_text())["predictions"]
    case_id = next(row["case_id"] for row in judged if row["status"] == "predicted")
    (found,) = loop.radloop("trace", case_id, "--json").ok().document
    series = found["facts"]["series_key"]
    ran = loop.radloop(
        "export", "--to", "nifti", "--out", tmp_path / "out", "--series", series
    ).ok()
    assert ran.out.startswith("1 series written")
    image = nibabel.load(tmp_path / "out" / f"{series}.nii.gz")
    facts = json.loads((tmp_path / "out" / f"{series}.json").read_text())["facts"]
    assert sorted(image.shape[:2]) == sorted((facts["rows"], facts["cols"]))
    assert np.asarray(image.dataobj).std() > 0
    assert np.linalg.norm(image.affine[:3, 0]) == pytest.approx(facts["spacing_col"], rel=1e-4)


def test_looking_at_a_fresh_home_starts_no_server(fresh):
    table = fresh.folder / "labels.csv"
    table.write_text("accession_number,target\nA1,yes\nA2,no\nA3,yes\nA4,no\n")
    words = [
        ["status", "--json"], ["quarantine", "--json"], ["schema"], ["verify"], ["source", "list"],
        ["compare", "chest-xray", "--json"], ["check", "breast-cancer", "--json"],
        ["split", "breast-cancer"], ["export", "--to", "nifti", "--out", fresh.folder / "nifti"],
        ["new", "fresh-limb", "--labels", table], ["doctor"],
    ]  # fmt: skip
    for one in words:
        ran = fresh.radloop(*one)
        assert "Traceback" not in ran.err, one
        assert fresh.processes() == [], one
        assert not list(fresh.home.rglob("server.json")), one
        assert not (fresh.home / "prefect" / "prefect.db").exists(), one
        if "--json" in one and ran.code == 0:
            json.loads(ran.out)


def test_stopping_what_does_not_run_says_so(fresh):
    ran = fresh.radloop("ui", "--stop").ok()
    assert "no server of this home was running" in ran.err


def test_new_then_check_on_a_catalog(loop, tmp_path):
    """A scenario written from catalog and labels is one that `check` accepts."""
    labels = loop.source / "labels.csv"
    alias = loop.radloop("source", "list").ok().out.split()[0]
    made = loop.radloop("new", "drafted", "--labels", labels, "--source", alias).ok()
    path = Path(made.out.strip())
    try:
        text = path.read_text()
        assert path.is_relative_to(loop.home)
        assert text.count("#") > 3
        assert "join: accession" in text
        assert "column: target" in text
        check = loop.radloop("check", "drafted", "--source", alias, "--json")
        found = check.document
        assert found["scenario"] == "drafted"
        assert found["funnel"][-1][1] > 0 or found["problems"]
        again = loop.radloop("new", "drafted", "--labels", labels)
        assert again.code == 1
        assert "drafted.yaml exists" in again.err
    finally:
        path.unlink()
