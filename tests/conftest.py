"""Fixtures every wing uses."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images that stands beside the checkout; tests without it say what they skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no ../shared/data beside the checkout: tests on real images are not run")
    return SHARED_DATA
