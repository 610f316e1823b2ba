"""A pass of the tests that was killed goes on with what is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

TESTS = """
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _ran(request):
    with (HERE / "ran").open("a") as stream:
        stream.write(request.node.name + " ")
    yield
    assert request.node.name != "test_torn_down" or (HERE / "mended").exists()


@pytest.mark.parametrize("number", [1, 2])
def test_passes(number):
    pass


def test_torn_down():
    pass


def test_skipped():
    pytest.skip("no server")


def test_killed():
    if not (HERE / "survives").exists():
        os._exit(9)


def test_fails():
    assert (HERE / "mended").exists()
"""

PASSED = "test_passes[1] test_passes[2]"


def run(root: Path, *options: str) -> tuple[int, str]:
    """Run the tests below a folder; return the exit code and the names of those that ran."""
    (root / "ran").unlink(missing_ok=True)
    words = ["-m", "pytest", "-q", "-p", "tests.go_on", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        [sys.executable, *words, str(root / "checks")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    ran = root / "ran"
    assert done.returncode != 4, done.stderr
    return done.returncode, ran.read_text().strip() if ran.exists() else ""


def test_what_has_passed_is_not_run_again_until_the_code_changes_or_the_pass_ends(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "test_some.py").write_text(TESTS)
    everything = f"{PASSED} test_torn_down test_skipped test_killed test_fails"
    assert run(tmp_path, "--go-on") == (9, everything.removesuffix(" test_fails"))
    (tmp_path / "survives").touch()
    # Neither what failed while it was taken down nor what was skipped has passed.
    assert run(tmp_path, "--go-on") == (1, "test_torn_down test_skipped test_killed test_fails")
    assert run(tmp_path) == (1, everything)
    (tmp_path / "mended").touch()
    assert run(tmp_path, "--go-on") == (0, "test_torn_down test_skipped test_fails")
    # That pass is at its end: this is the next one.
    assert run(tmp_path, "--go-on") == (0, everything)
    (tmp_path / "survives").unlink()
    assert run(tmp_path, "--go-on")[0] == 9
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nxfail_strict = true\n")
    (tmp_path / "survives").touch()
    assert run(tmp_path, "--go-on") == (0, everything)


@pytest.mark.slow
def test_several_processes_leave_out_what_any_of_them_passed(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "test_some.py").write_text(TESTS)
    (tmp_path / "survives").touch()
    together = ("--go-on", "-n", "2", "--dist", "loadfile")
    everything = sorted(f"{PASSED} test_torn_down test_skipped test_killed test_fails".split())
    code, ran = run(tmp_path, *together)
    assert (code, sorted(ran.split())) == (1, everything)
    code, ran = run(tmp_path, *together)
    assert (code, sorted(ran.split())) == (1, ["test_fails", "test_skipped", "test_torn_down"])
    (tmp_path / "mended").touch()
    assert run(tmp_path, *together)[0] == 0
    code, ran = run(tmp_path, *together)
    assert (code, sorted(ran.split())) == (0, everything)


@pytest.mark.slow
def test_the_first_half_of_a_pass_is_kept_until_the_second_has_ended(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "test_some.py").write_text(TESTS)
    first, second = ("--go-on", "--more-to-come", "-k", "passes"), ("--go-on", "-k", "killed")
    assert run(tmp_path, *first) == (0, PASSED)
    assert run(tmp_path, *second) == (9, "test_killed")
    (tmp_path / "survives").touch()
    # Nothing of it is left to run, and that is a good end.
    assert run(tmp_path, *first) == (0, "")
    assert run(tmp_path, *second) == (0, "test_killed")
    assert run(tmp_path, *first) == (0, PASSED)
