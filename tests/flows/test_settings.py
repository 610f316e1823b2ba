"""Settings say where: one home, each piece movable, read from the environment in one module."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.settings import (
    HOME_NAME,
    Settings,
    find_home,
    load_settings,
    prepare_environment,
    visible_gpus,
)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment in which nobody has set anything, put back after the test."""
    for name in list(os.environ):
        if name.startswith(("RADLOOP_", "PREFECT_", "MLFLOW_", "CUDA_", "DO_NOT_TRACK")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    # prepare_environment writes into os.environ: let monkeypatch know what to take away again.
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_everything_lies_under_the_home_by_default(tmp_path):
    settings = Settings(home=tmp_path)
    assert settings.catalog == f"sqlite:///{tmp_path}/catalog.db"
    assert settings.vault == f"sqlite:///{tmp_path}/vault.db"
    assert settings.store_root == str(tmp_path / "store")
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.artifact_root == (tmp_path / "artifacts").as_uri()
    assert settings.audit_path.parent == tmp_path
    assert not settings.prefect_api_url
    assert not settings.dask_address


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("RADLOOP_CATALOG_URL", "postgresql+psycopg2://u@db/catalog", "catalog"),
        ("RADLOOP_VAULT_URL", "postgresql+psycopg2://u@db/vault", "vault"),
        ("RADLOOP_STORE", "/data/store", "store_root"),
        ("RADLOOP_MLFLOW_URI", "http://mlflow.example:5000", "tracking_uri"),
        ("RADLOOP_ARTIFACTS", "file:///data/artifacts", "artifact_root"),
        ("RADLOOP_DASK_ADDRESS", "tcp://scheduler.example:8786", "dask_address"),
        ("PREFECT_API_URL", "http://prefect.example:4200/api", "prefect_api_url"),
    ],
)
def test_each_piece_can_be_pointed_elsewhere(variable, value, place, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, value)
    assert getattr(Settings(home=tmp_path), place) == value


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RADLOOP_WORKERS", "many"),
        ("RADLOOP_WORKERS", "-1"),
        ("RADLOOP_PREFECT_PORT", "70000"),
        ("RADLOOP_GPUS", "-2"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(variable, value, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as refusal:
        Settings(home=tmp_path)
    assert variable.removeprefix("RADLOOP_").lower() in str(refusal.value).lower()


def test_settings_cannot_be_changed(tmp_path):
    with pytest.raises(ValidationError):
        Settings(home=tmp_path).store = "elsewhere"


def test_the_home_is_the_variable_then_the_nearest_folder_then_the_users(monkeypatch, tmp_path):
    inner = tmp_path / "project" / "deep" / "deeper"
    inner.mkdir(parents=True)
    assert find_home(inner) == tmp_path / "user" / HOME_NAME
    (tmp_path / HOME_NAME).mkdir()
    assert find_home(inner) == tmp_path / HOME_NAME
    (tmp_path / "project" / HOME_NAME).mkdir()
    assert find_home(inner) == tmp_path / "project" / HOME_NAME
    monkeypatch.setenv("RADLOOP_HOME", "~/named")
    assert find_home(inner) == tmp_path / "user" / "named"


def test_the_home_is_made_for_its_owner_alone(tmp_path):
    settings = load_settings(tmp_path / "a" / "home")
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700


def test_the_order_key_is_made_once_and_kept_private(tmp_path):
    first = Settings(home=tmp_path).order_key
    assert len(first) == 32
    assert Settings(home=tmp_path).order_key == first
    assert stat.S_IMODE((tmp_path / "worker.key").stat().st_mode) == 0o600
    other = tmp_path / "other"
    other.mkdir()
    assert Settings(home=other).order_key != first


def test_a_given_order_key_is_used_and_never_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("RADLOOP_WORKER_KEY", "ab" * 32)
    settings = Settings(home=tmp_path)
    assert settings.order_key == bytes.fromhex("ab" * 32)
    assert not (tmp_path / "worker.key").exists()
    assert "abab" not in repr(settings)


def test_a_damaged_order_key_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "worker.key").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"worker\.key under the home has 5 bytes, needs 32"):
        _ = Settings(home=tmp_path).order_key


def test_telemetry_is_off_and_everything_stays_in_the_home(tmp_path):
    prepare_environment(Settings(home=tmp_path))
    assert os.environ["DO_NOT_TRACK"] == "true"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert int(os.environ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) >= 30


def test_a_users_prefect_home_stands_and_a_tracking_uri_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_HOME", "/somewhere/prefect")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///somewhere")
    prepare_environment(Settings(home=tmp_path))
    assert os.environ["PREFECT_HOME"] == "/somewhere/prefect"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_engines_take_these_settings(tmp_path):
    """Prefect and MLflow themselves say what they read."""
    program = (
        "from pathlib import Path\n"
        "from flows.settings import Settings, prepare_environment\n"
        f"prepare_environment(Settings(home=Path({str(tmp_path)!r})))\n"
        "from prefect.settings import get_current_settings\n"
        "found = get_current_settings()\n"
        "print(found.home, found.server.analytics_enabled, found.flows.heartbeat_frequency)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert said.stdout.split() == [str(tmp_path / "prefect"), "False", "30"]


def test_gpus_are_those_that_cuda_may_see(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 2,GPU-7f")
    assert visible_gpus() == ["0", "2", "GPU-7f"]
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert visible_gpus() == []


def test_every_setting_is_documented_and_nothing_else():
    documented = set(re.findall(r"^\| `([A-Z_]+)`", DOCUMENT.read_text(), re.M))
    fields = Settings.model_fields.items()
    known = {info.validation_alias or f"RADLOOP_{name.upper()}" for name, info in fields}
    assert documented == known


def test_workers_share_the_memory_of_the_machine(tmp_path):
    import psutil

    one, four = Settings(home=tmp_path, workers=1), Settings(home=tmp_path, workers=4)
    assert four.n_workers == 4
    assert one.worker_memory == pytest.approx(4 * four.worker_memory, rel=1e-6)
    assert one.worker_memory < psutil.virtual_memory().total
    assert 1 <= Settings(home=tmp_path).n_workers <= 8


def test_a_server_that_is_started_late_is_used_all_the_same():
    code = (
        "import prefect.context, flows.settings; from prefect.settings import get_current_settings;"
        "flows.settings.point_to_prefect('http://127.0.0.1:9/api');"
        "print(get_current_settings().api.url)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["http://127.0.0.1:9/api"]


def test_the_scratch_disk_is_asked_where_local_workers_fill_a_bucket(tmp_path):
    bucket = Settings(home=tmp_path, store="s3://bucket/store")
    assert bucket.scratch_free_bytes > 0
    assert bucket.store_free_bytes is None
    assert Settings(home=tmp_path).scratch_free_bytes is None
    elsewhere = Settings(home=tmp_path, store="s3://bucket/store", dask_address="tcp://host:8786")
    assert elsewhere.scratch_free_bytes is None
