"""A stopped run of tests goes on after what passed, and a finished one begins anew."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "def test_one():\n    pass\n"
        "def test_two():\n    assert ready()\n"
        "def ready():\n    return (Path(__file__).parent / 'outside' / 'ready').exists()\n"
    )
    (tmp_path / ".gitignore").write_text("outside\n.pytest_cache\n__pycache__\n")
    (tmp_path / "outside").mkdir()
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "tests")):
        identity = ("-c", "user.name=radloop", "-c", "user.email=radloop@localhost")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True)
    return tmp_path


def run(project: Path) -> str:
    words = ("-p", "tests.resuming", "--rootdir", project, "-n", "2", "-o", "addopts=")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, words), str(project)],
        cwd=project,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()[-1]


def test_what_passed_on_this_commit_is_left_out_until_a_run_ends_well(project):
    assert "1 failed, 1 passed" in run(project)
    # Only what failed is run again.
    last = run(project)
    assert "1 failed" in last
    assert "passed" not in last
    (project / "outside" / "ready").touch()
    assert "1 passed" in run(project)
    assert "2 passed" in run(project)


def test_what_passed_on_other_code_is_run_again(project):
    assert "1 failed, 1 passed" in run(project)
    (project / "other.py").write_text("# not committed\n")
    assert "1 failed, 1 passed" in run(project)
