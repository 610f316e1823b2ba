"""Settings say where: the only module that reads the environment.

Everything lives under one home; each piece can be pointed elsewhere with a ``RADLOOP_*`` variable.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import psutil
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

HOME_NAME = "radloop-home"
"""Name of the folder that is looked for upwards from the working directory."""

WORKER_MEMORY_SHARE = 0.8
"""Share of the machine's memory that the local workers may use together."""

_WORKER_KEY_BYTES = 32


class Settings(BaseSettings):
    """Where everything is. Frozen; made once per command by :func:`load_settings`."""

    model_config = SettingsConfigDict(env_prefix="RADLOOP_", frozen=True, extra="ignore")

    home: Path = Field(description="folder that holds everything radloop makes")
    catalog_url: str = Field("", description="catalog database; default SQLite under the home")
    vault_url: str = Field(
        "", description="vault database; default SQLite under the home, mode 0600"
    )
    store: str = Field(
        "",
        description="folder or s3://bucket/prefix of the parts; default `store` under the home",
    )
    mlflow_uri: str = Field("", description="MLflow tracking URI; default SQLite under the home")
    artifacts: str = Field("", description="MLflow artifacts; default `artifacts` under the home")
    dask_address: str = Field("", description="Dask scheduler to use; default workers of our own")
    workers: int = Field(0, ge=0, description="local Dask workers; 0 means one a core, 8 at most")
    gpus: int = Field(
        -1, ge=-1, description="GPUs to offer as workers; -1 means all that CUDA shows"
    )
    gpus_per_fold: int = Field(
        1, ge=1, description="GPUs of a worker, among which a fold shares its batches out"
    )
    worker_key: str = Field("", repr=False, description="64 hex digits that seal the work orders")
    prefect_port: int = Field(
        0, ge=0, le=65535, description="port of our Prefect server; 0 chooses"
    )
    mlflow_port: int = Field(0, ge=0, le=65535, description="port of our MLflow page; 0 chooses")
    prefect_api_url: str = Field(
        "",
        validation_alias="PREFECT_API_URL",
        description="Prefect server to use; default one of our own on loopback",
    )

    @property
    def catalog(self) -> str:
        """URL of the catalog database."""
        return self.catalog_url or f"sqlite:///{self.home / 'catalog.db'}"

    @property
    def vault(self) -> str:
        """URL of the vault database."""
        return self.vault_url or f"sqlite:///{self.home / 'vault.db'}"

    @property
    def store_root(self) -> str:
        """Root of the Zarr parts."""
        return self.store or str(self.home / "store")

    @property
    def store_free_bytes(self) -> int | None:
        """Free bytes where the parts lie; None for a bucket, which says none."""
        return None if "://" in self.store_root else _free_bytes(Path(self.store_root))

    @property
    def scratch_free_bytes(self) -> int | None:
        """Free bytes where local workers make the parts of a bucket; None where nobody can say."""
        if "://" not in self.store_root or self.dask_address:
            return None
        return _free_bytes(Path(self.scratch))

    @property
    def scratch(self) -> str:
        """Local folder of parts that are being made for a store in a bucket."""
        return str(self.home / "scratch")

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI; always set, since MLflow's own default depends on the folder."""
        return self.mlflow_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str:
        """Place of MLflow's artifacts."""
        return self.artifacts or (self.home / "artifacts").as_uri()

    @property
    def audit_path(self) -> Path:
        """Audit log."""
        return self.home / "audit.jsonl"

    @property
    def n_workers(self) -> int:
        """Local workers to start."""
        return self.workers or min(8, psutil.cpu_count(logical=True) or 1)

    @property
    def worker_memory(self) -> int:
        """Bytes of memory a local worker may use."""
        return int(machine_memory() * WORKER_MEMORY_SHARE / self.n_workers)

    @cached_property
    def order_key(self) -> bytes:
        """Key that seals work orders: the setting, else one made once under the home."""
        return (
            bytes.fromhex(self.worker_key)
            if self.worker_key
            else _kept_key(self.home / "worker.key")
        )


def machine_memory() -> int:
    """Return the bytes of memory this process may use: the machine's, or its container's."""
    from distributed.system import memory_limit

    return memory_limit()


def find_home(start: Path | None = None) -> Path:
    """Return the home: ``RADLOOP_HOME``, else the nearest one upwards, else the user's.

    Parameters
    ----------
    start : Path, optional
        Folder to look upwards from; the working directory by default.
    """
    if given := os.environ.get("RADLOOP_HOME"):
        return Path(given).expanduser().resolve()
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / HOME_NAME).is_dir():
            return folder / HOME_NAME
    return Path.home() / HOME_NAME


def _free_bytes(place: Path) -> int:
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def load_settings(home: Path | None = None) -> Settings:
    """Read the settings of this process and make the home.

    Parameters
    ----------
    home : Path, optional
        Overrides the home that :func:`find_home` would find.

    Raises
    ------
    ValueError
        When a ``RADLOOP_*`` value is not of its kind; the message names the variable.
    """
    settings = Settings(home=(home or find_home()).resolve())
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return settings


def prepare_environment(settings: Settings) -> None:
    """Set what Prefect, MLflow and Dask read at import, in this process and its children.

    Must run before any of them is imported. Telemetry off, no pickle, everything under the home.
    """
    home = str(settings.home)
    wanted = {
        "RADLOOP_HOME": home,
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # Six processes for evaluations of language models, 100 MB each; nothing of ours uses them.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "tasks,flows",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        # A killed flow process must not stay RUNNING for ever: heartbeats plus our automation.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_CLI_PROMPT": "false",
        **_SELDOM,
    }
    os.environ.update({name: value for name, value in wanted.items() if name not in _USERS_CHOICE})
    for name in _USERS_CHOICE & wanted.keys():
        os.environ.setdefault(name, wanted[name])
    if settings.prefect_api_url:
        os.environ["PREFECT_API_URL"] = settings.prefect_api_url
    if settings.worker_key:
        os.environ["RADLOOP_WORKER_KEY"] = settings.worker_key


_SELDOM = {
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "60",
    # A new schedule's first run is planned after so long.
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "15",
}
"""What a server at rest looks for: every 5 to 20 s it takes a third more of a core."""

_USERS_CHOICE = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "PREFECT_HOME", *_SELDOM}
"""Variables a user may set; everything else is ours, since the loop's promises rest on it."""


def point_to_prefect(api_url: str) -> None:
    """Let this process and its children use a Prefect server."""
    os.environ["PREFECT_API_URL"] = api_url
    # Prefect reads its settings once, at import; a command that looked at the job first has them.
    if (context := sys.modules.get("prefect.context")) is not None:
        context.refresh_global_settings_context()


def console_level(level: str) -> dict[str, str]:
    """Return the variables that set what the engines print; what they send to the server stays.

    Levels of their loggers do not serve: Prefect, distributed and MLflow set them anew at import.
    """
    return {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": level, "MLFLOW_LOGGING_LEVEL": level}


def quiet_engines() -> None:
    """Let the engines print nothing that we say ourselves, in this process and its children.

    What fails in a flow is raised to the command, which says it in one sentence; Prefect would
    print it too, with a traceback that quotes values. Its server gets it all the same.
    """
    os.environ.update(console_level("CRITICAL"))


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment for a child process of ours, with ``more`` set."""
    return {**os.environ, **more}


@contextmanager
def set_for_children(**more: str) -> Iterator[None]:
    """Let what this process starts while the block runs find ``more`` in its environment."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})
        for name in [name for name, value in before.items() if value is None]:
            os.environ.pop(name, None)


def visible_gpus() -> list[str]:
    """Return the CUDA devices this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device.strip() for device in named.split(",") if device.strip() not in ("", "-1")]
    return [
        str(number) for number, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))
    ]


def _kept_key(path: Path) -> bytes:
    """Return the key in a file, making it once; two processes at once agree on one."""
    if not path.exists():
        beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(
            os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as stream:
            stream.write(secrets.token_bytes(_WORKER_KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        # The name appears with the whole key in it, and only once.
        with suppress(FileExistsError):
            os.link(beside, path)
        beside.unlink()
    key = path.read_bytes()
    if len(key) != _WORKER_KEY_BYTES:
        msg = (
            f"{path.name} under the home has {len(key)} bytes, needs {_WORKER_KEY_BYTES}; delete it"
        )
        raise ValueError(msg)
    return key
