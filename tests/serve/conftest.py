"""A real MLflow store on SQLite, made once a module because its migration takes two seconds."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

_COUNTER = itertools.count()


@pytest.fixture(scope="module")
def mlflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        yield tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def tracker(mlflow_home: Path):
    """A tracker on the module's store with an experiment of its own."""
    from tasks.serve.tracking import Tracker

    return Tracker(
        uri=f"sqlite:///{mlflow_home / 'mlflow.db'}",
        experiment=f"demo-{next(_COUNTER)}",
        artifact_location=str(mlflow_home / "artifacts"),
    )
