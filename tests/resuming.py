"""A long run of tests that was stopped goes on: what passed on this very commit is not run again.

    pytest -p tests.resuming -m slow

A run that ended well is forgotten, so that the next one is whole again.  With changes that are not
committed nothing is kept, since nobody could say which code passed.
"""

import subprocess
from pathlib import Path

import pytest

KEY = "radloop/passed"


def _code(root: Path) -> str | None:
    """Return the commit, or None where the files are not those of one."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", root, *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else "unknown"

    commit = git("rev-parse", "HEAD")
    return commit if commit != "unknown" and not git("status", "--porcelain") else None


class Resuming:
    """Takes out what passed before, and notes what passes."""

    def __init__(self, config: pytest.Config, code: str) -> None:
        self._config, self._code = config, code
        kept = config.cache.get(KEY, {})
        self._passed = set(kept["tests"]) if kept.get("code") == code else set()
        self._failed: set[str] = set()
        # Processes of a parallel run each collect; one of all writes.
        self._writes = not hasattr(config, "workerinput")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        done = [item for item in items if _name(item.nodeid) in self._passed]
        if done and len(done) < len(items):
            self._config.hook.pytest_deselected(items=done)
            items[:] = [item for item in items if _name(item.nodeid) not in self._passed]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = _name(report.nodeid)
        if report.failed:
            self._failed.add(name)
        elif report.when == "teardown" and name not in self._failed and self._writes:
            self._passed.add(name)
            self._keep()

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0 and self._writes:
            self._passed.clear()
            self._keep()

    def pytest_report_header(self) -> str:
        return f"resuming: {len(self._passed)} tests passed before on {self._code[:12]}"

    def _keep(self) -> None:
        self._config.cache.set(KEY, {"code": self._code, "tests": sorted(self._passed)})


def _name(nodeid: str) -> str:
    # A parallel run adds the group to the name.
    return nodeid.rpartition("@")[0] or nodeid


def pytest_configure(config: pytest.Config) -> None:
    code = _code(config.rootpath)
    if code is not None and hasattr(config, "cache"):
        config.pluginmanager.register(Resuming(config, code))
