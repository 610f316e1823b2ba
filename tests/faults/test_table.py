"""The page of faults names tests that exist, and every test of a fault stands on the page."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"

BESIDE = {
    "test_a_kill_at_the_rename_that_commits_leaves_all_or_nothing",
    "test_a_worker_gets_its_memory_back_after_the_case",
    "test_outside_a_worker_nothing_is_bounded",
}
"""Tests that sharpen another row and are no fault of their own."""


def rows() -> list[tuple[str, str, str]]:
    """Return (fault, outcome, test) of the table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def named_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {name for name in found if name.startswith("test_")}


def test_every_row_has_a_test_that_exists():
    assert len(rows()) > 20
    for fault, outcome, test in rows():
        found = re.fullmatch(r"`(tests/\S+\.py)::(test_\w+)`", test)
        assert found, f"{fault}: {test} names no test"
        assert outcome
        assert found[2] in named_in(ROOT / found[1]), f"{fault}: {test} does not exist"


def test_every_test_of_a_fault_has_a_row():
    named = {test.strip("`").partition("::")[2] for _, _, test in rows()}
    here = Path(__file__)
    for path in sorted(here.parent.glob("test_*.py")):
        if path != here:
            missing = named_in(path) - named - BESIDE
            assert not missing, f"{path.name}: {sorted(missing)} has no row in docs/faults.md"


def test_what_stands_beside_the_table_exists():
    found = {name for path in Path(__file__).parent.glob("test_*.py") for name in named_in(path)}
    assert found >= BESIDE
