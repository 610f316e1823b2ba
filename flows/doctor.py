"""What this machine has and lacks: each finding with its remedy."""

import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

from flows.server import LOOPBACK, answers, running_server
from flows.settings import Settings, machine_memory, visible_gpus
from tasks.archive.mounts import NETWORK_FILE_SYSTEMS, file_system

NEED_FREE_GB = 10
"""A first training with its store, artifacts and environment stays below this."""

NEED_MEMORY_GB = 4
"""Two workers with MONAI imported, the server and the coordinator need about 3 GB."""

NEED_SHM_MB = 256
"""DataLoader children hand batches over through /dev/shm; containers often have 64 MB."""

PINS = {
    "fastapi": (
        "0.139",
        "0.151",
        "Prefect 3.8's server fails outside; reinstall with constraints.txt",
    ),
    "sqlalchemy": ("2.0", "2.1", "Prefect's scheduler makes no runs on 2.1; use constraints.txt"),
    "prefect": ("3.8.8", "3.9", "reinstall with constraints.txt"),
    "mlflow": ("3.17", "3.18", "reinstall with constraints.txt"),
    "pydicom": ("3.0.2", "4", "older ones have CVE-2026-32711; reinstall with constraints.txt"),
}
"""name: (lowest, first too new, remedy)"""

SHARED_FOLDERS = ("9p",)
"""Between a virtual machine and its host: told here and not refused, as their locks may hold."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    level: str
    """"ok", "warn" or "fail" """
    value: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything a run depends on; starts nothing and takes well under a second."""
    return [finding for look in _LOOKS for finding in look(settings)]


def _python(_: Settings) -> Iterator[Finding]:
    good = sys.version_info[:2] == (3, 11)
    remedy = "" if good else "run `make install PYTHON=python3.11`; the pins were tested on 3.11"
    yield Finding("Python", "ok" if good else "fail", platform.python_version(), remedy)


def _pins(_: Settings) -> Iterator[Finding]:
    for name, (low, high, remedy) in PINS.items():
        try:
            have = version(name)
        except PackageNotFoundError:
            yield Finding(name, "fail", "not installed", "run `make install`")
            continue
        good = _numbers(low) <= _numbers(have) < _numbers(high)
        yield Finding(name, "ok" if good else "fail", have, "" if good else remedy)
    try:
        yield Finding("torch", "ok", version("torch"))
    except PackageNotFoundError:
        yield Finding(
            "torch", "warn", "not installed", "networks need `pip install radloop[learn]`"
        )


def _machine(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(settings.home).free / 1e9
    remedy = f"free some, or set RADLOOP_HOME to a larger disk (want {NEED_FREE_GB} GB)"
    yield _bar("disk free", free, NEED_FREE_GB, "GB", remedy)
    memory = machine_memory() / 1e9
    yield _bar("memory", memory, NEED_MEMORY_GB, "GB", "set RADLOOP_WORKERS=1")
    shm = shutil.disk_usage("/dev/shm").total / 1e6
    yield _bar("/dev/shm", shm, NEED_SHM_MB, "MB", "start the container with --shm-size=2g")
    yield Finding("cores", "ok", f"{psutil.cpu_count()}, {settings.n_workers} workers")
    gpus = visible_gpus()
    yield Finding(
        "GPU", "ok", f"{len(gpus)} visible" if gpus else "none: networks train on the CPU"
    )


def _home(settings: Settings) -> Iterator[Finding]:
    kind = file_system(settings.home)
    local = kind not in {*NETWORK_FILE_SYSTEMS, *SHARED_FOLDERS}
    remedy = (
        "SQLite breaks there: set RADLOOP_CATALOG_URL, RADLOOP_VAULT_URL and RADLOOP_MLFLOW_URI "
        "to PostgreSQL"
    )
    databases = (settings.catalog, settings.vault, settings.tracking_uri)
    embedded = any(url.startswith("sqlite") for url in databases)
    bad = embedded and not local
    yield Finding("home's file system", "fail" if bad else "ok", kind, remedy if bad else "")
    vault = settings.home / "vault.db"
    if vault.exists():
        mode = vault.stat().st_mode & 0o777
        remedy = "" if mode == 0o600 else f"run `chmod 600 {vault}`"
        yield Finding("vault's mode", "ok" if mode == 0o600 else "fail", f"{mode:04o}", remedy)


def _servers(settings: Settings) -> Iterator[Finding]:
    if settings.prefect_api_url:
        up = answers(settings.prefect_api_url.rstrip("/") + "/health")
        remedy = "" if up else "start that server, or unset PREFECT_API_URL to use one of our own"
        yield Finding("Prefect", "ok" if up else "fail", _shown(settings.prefect_api_url), remedy)
    else:
        server = running_server(settings, "prefect")
        yield Finding("Prefect", "ok", server.url if server else "starts when a flow runs")
    if settings.mlflow_uri.startswith("http"):
        up = answers(settings.mlflow_uri.rstrip("/") + "/health")
        remedy = "" if up else "start that server, or unset RADLOOP_MLFLOW_URI"
        yield Finding("MLflow", "ok" if up else "fail", _shown(settings.mlflow_uri), remedy)
    else:
        server = running_server(settings, "mlflow")
        yield Finding("MLflow", "ok", server.url if server else "starts with `radloop ui`")
    for name, port in (
        ("RADLOOP_PREFECT_PORT", settings.prefect_port),
        ("RADLOOP_MLFLOW_PORT", settings.mlflow_port),
    ):
        if port and _busy(port) and not running_server(settings, name.split("_")[1].lower()):
            yield Finding(f"port {port}", "fail", "taken", f"set {name} to another port or to 0")
    if settings.dask_address:
        up = _reachable(settings.dask_address, 8786)
        shown = _shown(settings.dask_address)
        remedy = "start the scheduler, or unset RADLOOP_DASK_ADDRESS"
        yield Finding("Dask", "ok" if up else "fail", shown, "" if up else remedy)
        if up and not shown.startswith("tls://") and not _on_loopback(shown):
            remedy = "whoever reaches it can run code as you: use tls:// (docs/cluster.md)"
            yield Finding("Dask's encryption", "warn", "none", remedy)


def _databases(settings: Settings) -> Iterator[Finding]:
    for what, url, name in (
        ("catalog", settings.catalog_url, "RADLOOP_CATALOG_URL"),
        ("vault", settings.vault_url, "RADLOOP_VAULT_URL"),
    ):
        if url.startswith("postgresql"):
            up = _reachable(url, 5432)
            remedy = "" if up else f"start that PostgreSQL, or unset {name} to use SQLite"
            yield Finding(what, "ok" if up else "fail", _shown(url), remedy)


_LOOKS = (_python, _pins, _machine, _home, _servers, _databases)


def _bar(what: str, have: float, need: float, unit: str, remedy: str) -> Finding:
    good = have >= need
    return Finding(what, "ok" if good else "warn", f"{have:.0f} {unit}", "" if good else remedy)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _shown(url: str) -> str:
    """Return an address without the account that may stand in it."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _reachable(url: str, usual_port: int) -> bool:
    """Return whether something accepts connections at an address; a broken one is not reachable."""
    try:
        parts = urlsplit(url)
        if parts.hostname is None:
            # PostgreSQL's form for a socket in a folder: ?host=/var/run/postgresql
            folders = parse_qs(parts.query).get("host", [])
            return any(next(Path(folder).glob(".s.PGSQL.*"), None) for folder in folders)
        return _busy(parts.port or usual_port, parts.hostname)
    except (ValueError, OSError):
        return False


def _on_loopback(url: str) -> bool:
    return urlsplit(url).hostname in (LOOPBACK, "localhost", "::1")


def _busy(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
