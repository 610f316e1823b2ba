"""Let a long pass of the tests be stopped, or killed, and gone on with: ``pytest --go-on``.

A test that has passed is written down at once, with the digest of the code it ran on, and is not
run again until that code changes or a pass has come to its end: then the next one begins anew.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

CODE = ("tasks", "flows", "tests", "deployments", "infra", "mlflow", "benchmarks")
FILES = ("pyproject.toml", "constraints.txt")
"""What the outcome of a test may depend on; all of it for every test, since none says."""

PLACE = Path(".pytest_cache") / "go-on"


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "leave out what has passed on this very code since the last whole pass"
    parser.addoption("--go-on", action="store_true", help=text)
    text = "with --go-on: this is not all of a pass, so keep what has passed when it ends well"
    parser.addoption("--more-to-come", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--go-on"):
        # Of a parallel run every process writes down what it passed, and the one that started them
        # says when the pass has ended.
        ends = not hasattr(config, "workerinput")
        more = config.getoption("--more-to-come")
        config.pluginmanager.register(GoOn(config.rootpath, ends, more), "radloop-go-on")


class GoOn:
    """Leaves out what has passed, and writes down what passes."""

    def __init__(self, root: Path, ends: bool, more: bool) -> None:
        self.ends, self.more = ends, more
        self.path = root / PLACE / digest_of(root)
        # A line that a kill tore is no name of a test: that test runs again.
        self.passed = set(self.path.read_text().splitlines()) if self.path.exists() else set()

    # The last: what the expression after -m leaves out is no part of this pass.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        done = [item for item in items if item.nodeid in self.passed]
        items[:] = [item for item in items if item.nodeid not in self.passed]
        if done:
            config.hook.pytest_deselected(items=done)
            report = config.pluginmanager.get_plugin("terminalreporter")
            if report is not None:
                report.write_line(f"{len(done)} tests passed on this code and are not run again")

    # Of a test's three reports the last one to come is that of what is taken down after it.
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.good: list[bool] = []
        result = yield
        if len(self.good) == 3 and all(self.good):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as stream:
                stream.write(f"{item.nodeid}\n")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # The process that started the others hears of their tests, and runs none itself.
        if hasattr(self, "good"):
            self.good.append(report.passed)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        nothing_left = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and bool(self.passed)
        if nothing_left:
            # All of it has passed before: that is a good end.
            session.exitstatus = pytest.ExitCode.OK
        if self.ends and not self.more and (nothing_left or exitstatus == pytest.ExitCode.OK):
            self.path.unlink(missing_ok=True)


def digest_of(root: Path) -> str:
    """Return a digest of every file that a test may depend on."""
    total = hashlib.sha256()
    places = [root / name for name in (*CODE, *FILES)]
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            inside = path.relative_to(root)
            if path.is_file() and not {"__pycache__", "results"} & set(inside.parts):
                total.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode())
                total.update(path.read_bytes())
    return total.hexdigest()[:16]
