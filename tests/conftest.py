"""Fixtures every wing uses."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# How fast an example is says how busy the machine is; speed is measured in benchmarks/.
settings.register_profile("radloop", deadline=None)
settings.load_profile("radloop")

pytest_plugins = ["tests.go_on"]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images beside the checkout; tests without it say what they skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no ../shared/data beside the checkout: tests on real images are not run")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """End the servers that commands started for homes of the tests: they outlive a command."""
    yield
    below = f"{tmp_path_factory.getbasetemp()}/"
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("RADLOOP_HOME", "").startswith(below):
                process.kill()


LOOPS = ("loop", "table_loop")
"""Session fixtures that take a minute: all tests that read one run in one process."""


# Before the plugin of several processes, which reads the groups in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares an expensive fixture, else a file, in one process of a parallel run."""
    for item in items:
        known = set(getattr(item, "fixturenames", ()))
        if hasattr(item, "callspec"):
            # Some ask for a loop by its name as a parameter.
            known |= {value for value in item.callspec.params.values() if isinstance(value, str)}
        shared = [name for name in LOOPS if name in known]
        group = shared[0] if shared else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
