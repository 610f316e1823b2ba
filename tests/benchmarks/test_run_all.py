"""`make bench`: what is run again, what the page says, and what it must not say."""

import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import run_all
from benchmarks.run_all import Result, cleaned, digest_of_code, keep, kept, left, page

DONE = Result(
    "store", "d1", "abc", "2026-01-01", "a CPU, 2 cores", 0.1, 0, 60.0, "96^3 bar 0.8: met"
)


def made(root: Path) -> Path:
    """Return a tree as small as a project can be."""
    for name, text in (
        ("tasks/a.py", "A = 1\n"),
        ("flows/b.py", "B = 2\n"),
        ("benchmarks/bench_c.py", '"""Title."""\n'),
        ("constraints.txt", "numpy==2\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_script_that_ended_on_this_code_is_not_run_again():
    missed = replace(DONE, name="scan", code=1, output="bar 1.5: MISSED")
    assert left(["store", "scan"], {"store": DONE, "scan": missed}, "d1") == []


@pytest.mark.parametrize(
    "one",
    [
        replace(DONE, digest="d0"),
        replace(DONE, code=-9),
        replace(DONE, code=1, output="Traceback (most recent call last):\nOSError: no"),
    ],
    ids=["other code", "killed", "crashed"],
)
def test_a_script_is_run_again(one):
    assert left(["store"], {"store": one}, "d1") == ["store"]


def test_a_script_that_never_ended_is_run():
    assert left(["store"], {}, "d1") == ["store"]


@pytest.mark.parametrize("name", ["tasks/a.py", "flows/b.py", "benchmarks/bench_c.py",
                                  "constraints.txt"])  # fmt: skip
def test_the_digest_follows_what_a_figure_may_depend_on(tmp_path, name):
    root = made(tmp_path)
    before = digest_of_code(root)
    (root / name).write_text("other\n")
    assert digest_of_code(root) != before


def test_results_and_caches_do_not_change_the_digest(tmp_path):
    root = made(tmp_path)
    before = digest_of_code(root)
    keep(root / "benchmarks" / "results", DONE)
    (root / "tasks" / "__pycache__").mkdir()
    (root / "tasks" / "__pycache__" / "a.pyc").write_bytes(b"x")
    assert digest_of_code(root) == before


def test_peers_that_came_change_the_digest(tmp_path):
    root = made(tmp_path)
    before = digest_of_code(root)
    (root / ".venv-peers" / "bin").mkdir(parents=True)
    (root / ".venv-peers" / "bin" / "python").touch()
    assert digest_of_code(root) != before


def test_a_result_comes_back_as_it_was_kept(tmp_path):
    keep(tmp_path / "results", DONE)
    assert kept(tmp_path / "results") == {"store": DONE}


def test_what_was_printed_loses_places_colours_progress_and_the_machines_name():
    said = (
        f"\x1b[31mread {Path.home()}/archive/secret/file.dcm\x1b[0m\n"
        f"10 %\r100 % of {run_all.ROOT}/tasks/a.py on {socket.gethostname()}\n"
        "see '/opt/hospital/list.csv': 120 files/s, 5 MB/s, 1 / 2.7, bar 1.5: met\n"
    )
    assert cleaned(said).splitlines() == [
        "read …/file.dcm",
        "100 % of …/a.py on HOST",
        "see '…/list.csv': 120 files/s, 5 MB/s, 1 / 2.7, bar 1.5: met",
    ]


def test_the_page_tells_verdicts_misses_and_what_was_not_run():
    missed = replace(DONE, name="scan", code=1, digest="d0", output="a: met\nb: MISSED\nc: MISSED")
    text = page({"store": DONE, "scan": missed}, {"noop": "N.", "scan": "S.", "store": "T."}, "d1")
    assert "| `bench_noop` | not run |" in text
    assert "| [`bench_scan`](#bench_scan) | missed | 2 | 1.0 | 0.1 | abc, other code |" in text
    assert "| [`bench_store`](#bench_store) | met |  | 1.0 | 0.1 | abc |" in text
    assert "## bench_store\nT.\n\n2026-01-01, a CPU, 2 cores\n\n```text\n96^3 bar" in text


def test_the_table_of_aims_is_read_off_what_was_printed_and_the_rest_is_not_run():
    said = "  epoch 1\npneumonia: AUROC 0.9973 [0.9934, 0.9989], 524 judged; bar 0.99: met\n"
    said += "adrenal: AUROC 0.8218 [0.6894, 0.9055], 98 judged; bar 0.86: MISSED"
    one = replace(DONE, name="learning", output=said, code=1)
    # A line of another script says nothing of this aim, and an unfinished one nothing at all.
    other = replace(DONE, output="hippocampus: Dice 1; bar 0.87: met")
    part = replace(DONE, name="hippocampus", output="hippocampus: Dice 1; bar 1: not judged")
    found = {"learning": one, "store": other, "hippocampus": part}
    rows = run_all.aims(found, DONE.digest)[2:]
    told = {key: row.split(" | ")[1:] for (key, *_), row in zip(run_all.AIMS, rows, strict=True)}
    assert told.pop("pneumonia") == [
        "AUROC 0.9973 [0.9934, 0.9989], 524 judged", "met", "abc", "2026-01-01, a CPU, 2 cores |"
    ]  # fmt: skip
    assert told.pop("adrenal")[1] == "MISSED"
    assert {cells[0] for cells in told.values()} == {"not run"}


def test_every_aim_has_a_script_that_prints_it():
    for key, name, _ in run_all.AIMS:
        text = (run_all.HERE / f"bench_{name}.py").read_text()
        of_a_set = name == "learning" and f'"{key}": (' in text and 'f"{name}: {words[0]}' in text
        heads = f'f"{key}: ', f'f"{key.rpartition("-")[0]}-{{'
        assert of_a_set or any(head in text for head in heads), key


def test_a_fence_in_what_was_printed_does_not_end_the_block():
    text = page({"store": replace(DONE, output="```\n# not a title")}, {"store": "T."}, "d1")
    assert text.count("```") == 2


def test_every_script_has_a_title_and_says_how_it_ends():
    titles = run_all.titles()
    assert len(titles) > 10
    for name, title in titles.items():
        assert title.endswith("."), name
        text = (run_all.HERE / f"bench_{name}.py").read_text()
        assert re.search(r"sys\.exit\(main\(\)\)|raise SystemExit", text), name


def test_a_real_script_is_run_once_and_its_page_names_no_place(tmp_path, monkeypatch):
    root = made(tmp_path)
    here = root / "benchmarks"
    (here / "bench_c.py").write_text(
        '"""Title."""\n'
        "from pathlib import Path\n"
        "with open('ran', 'a') as stream: stream.write('x')\n"
        "print('at', Path.cwd(), 'bar 1: met')\n"
    )
    (root / "docs").mkdir()
    for name, place in (("ROOT", root), ("HERE", here), ("RESULTS", here / "results"),
                        ("PAGE", root / "docs" / "benchmarks.md")):  # fmt: skip
        monkeypatch.setattr(run_all, name, place)
    monkeypatch.setattr(sys, "argv", ["run_all.py"])
    assert run_all.main() == 0
    assert run_all.main() == 0
    assert (root / "ran").read_text() == "x"
    text = (root / "docs" / "benchmarks.md").read_text()
    assert "bar 1: met" in text
    assert str(tmp_path) not in text
    assert socket.gethostname() not in text


def test_an_unknown_name_is_refused_with_those_there_are():
    words = [sys.executable, run_all.HERE / "run_all.py", "--only", "stor"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no script bench_stor.py; there are archive_to_store" in done.stderr
