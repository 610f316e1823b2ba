"""The servers a home runs for itself: Prefect's and MLflow's, on loopback, started once and reused.

A server is a plain process whose facts stand in a small file under the home. A stale file (the
process is gone, its number belongs to another process, or the home was copied) is recognised by the
process's start time and the home's place; a busy port is answered by taking the next free one; each
home has servers of its own.
"""

import fcntl
import json
import logging
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from flows.settings import Settings, child_environment, console_level
from tasks.errors import RadloopError

LOOPBACK = "127.0.0.1"
"""Nothing of ours listens anywhere else by default."""

START_SECONDS = 300
"""Time a server that lives may take to answer; a cold Prefect server needs 10 to 20 s on two cores,
and some ten times that where other work has them."""

STOP_SECONDS = 10

START_TRIES = 5
"""Ports tried when other homes start servers in the same moment."""

_FIRST_PORT = {"prefect": 4210, "mlflow": 5010}
_HEALTH = {"prefect": "/api/health", "mlflow": "/health"}

_started: list[subprocess.Popen[bytes]] = []
"""Servers outlive us on purpose; kept here, Python does not warn of a child left running."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """A running server of this home."""

    name: str
    pid: int
    started: float
    port: int
    home: str = ""
    """The home it serves: a copied home must not take over, or end, the first one's server."""

    @property
    def url(self) -> str:
        """Address of its pages."""
        return f"http://{LOOPBACK}:{self.port}"


def ensure_server(settings: Settings, name: str) -> tuple[Server, bool]:
    """Return this home's server, starting it when it does not run.

    Parameters
    ----------
    name : {"prefect", "mlflow"}

    Returns
    -------
    server : Server
    started : bool
        Whether it was started by this call.

    Raises
    ------
    RadloopError
        When it does not answer in :data:`START_SECONDS`; names the log file to read.
    """
    with _lock(settings.home, name):
        server = running_server(settings, name)
        # A start that was interrupted leaves a server that is still coming up.
        if server is not None and _comes_up(server):
            return server, False
        if server is not None:
            _end(server)
        return _start(settings, name), True


def running_server(settings: Settings, name: str) -> Server | None:
    """Return this home's server if it runs, and forget a stale record."""
    record = _record(settings.home, name)
    try:
        server = Server(**json.loads(record.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if server.home in ("", str(settings.home)) and _alive(server):
        return server
    record.unlink(missing_ok=True)
    return None


def stop_server(settings: Settings, name: str) -> bool:
    """End this home's server and its children; return whether there was one."""
    with _lock(settings.home, name):
        server = running_server(settings, name)
        if server is None:
            return False
        _end(server)
        _record(settings.home, name).unlink(missing_ok=True)
        return True


def free_port(wanted: int, first: int) -> int:
    """Return ``wanted`` when it is free, else the first free port from ``first`` on.

    Raises
    ------
    RadloopError
        When the wanted port, or 200 ports in a row, are taken.
    """
    if wanted:
        if _is_free(wanted):
            return wanted
        msg = (
            f"port {wanted} is taken by another program; set another port or 0 to choose a free one"
        )
        raise RadloopError(msg)
    for port in range(first, first + 200):
        if _is_free(port):
            return port
    msg = (
        f"no free port from {first} to {first + 199}; "
        "set RADLOOP_PREFECT_PORT or RADLOOP_MLFLOW_PORT"
    )
    raise RadloopError(msg)


def answers(url: str, seconds: float = 2.0) -> bool:
    """Return whether a page answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _start(settings: Settings, name: str) -> Server:
    wanted = settings.prefect_port if name == "prefect" else settings.mlflow_port
    first = _FIRST_PORT[name]
    log_path = settings.home / name / "server.log"
    for _ in range(START_TRIES):
        server = _launch(settings, name, free_port(wanted, first), log_path)
        if _comes_up(server):
            return server
        _end(server)
        _record(settings.home, name).unlink(missing_ok=True)
        # Another home may have taken the port between our look and our server's own bind.
        if wanted or _is_free(server.port):
            break
        first = server.port + 1
    msg = (
        f"the {name} server did not answer on port {server.port} within {START_SECONDS} s; "
        f"see {log_path}"
    )
    raise RadloopError(msg)


def _launch(settings: Settings, name: str, port: int, log_path: Path) -> Server:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log_file:
        process = subprocess.Popen(
            _command(settings, name, port),
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            # Our console may be quiet; the server's own log file is where people look for reasons.
            env=child_environment(
                PREFECT_API_URL="",
                # Without it Prefect's pages would look for their API where the client's stands.
                PREFECT_SERVER_UI_API_URL=f"http://{LOOPBACK}:{port}/api",
                # MLflow would start more processes, for jobs of its language-model features.
                MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
                **console_level("WARNING"),
            ),
            cwd=log_path.parent,
            start_new_session=True,
            # A shell that starts us with `&` leaves SIGINT ignored, and then SIGTERM never ends it.
            preexec_fn=_default_interrupt,
        )
    _started.append(process)
    started = psutil.Process(process.pid).create_time()
    server = Server(name, process.pid, started, port, str(settings.home))
    _write_record(settings.home, server)
    return server


def _comes_up(server: Server) -> bool:
    """Wait until the server itself (nobody else on its port) answers; False when it does not."""
    deadline = time.monotonic() + START_SECONDS
    while _alive(server) and time.monotonic() < deadline:
        if answers(server.url + _HEALTH[server.name]) and server.port in _ports_of(server):
            return True
        time.sleep(0.2)
    return False


def _family(server: Server) -> list[psutil.Process]:
    try:
        parent = psutil.Process(server.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _ports_of(server: Server) -> set[int]:
    """Return the ports on which the server and its children listen."""
    ports = set()
    for process in _family(server):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found = process.net_connections("tcp")
            ports |= {c.laddr.port for c in found if c.status == psutil.CONN_LISTEN}
    return ports


def _end(server: Server) -> None:
    """End a server and its children, the hard way after :data:`STOP_SECONDS`."""
    if not _alive(server):
        return
    family = _family(server)
    for process in family:
        _send(process, signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=STOP_SECONDS)
    for process in left:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=STOP_SECONDS)


def _command(settings: Settings, name: str, port: int) -> list[str]:
    if name == "prefect":
        return [
            *(sys.executable, "-m", "flows.prefect_server", "server", "start"),
            *("--host", LOOPBACK, "--port", str(port), "--ui"),
        ]
    return [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", settings.tracking_uri),
        *("--default-artifact-root", settings.artifact_root, "--host", LOOPBACK),
        *("--port", str(port), "--workers", "1"),
    ]


def _alive(server: Server) -> bool:
    try:
        process = psutil.Process(server.pid)
        return abs(process.create_time() - server.started) < 1 and process.status() != "zombie"
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _record(home: Path, name: str) -> Path:
    return home / name / "server.json"


def _write_record(home: Path, server: Server) -> None:
    record = _record(home, server.name)
    beside = record.with_suffix(".new")
    beside.write_text(json.dumps(asdict(server)))
    beside.replace(record)


@contextmanager
def _lock(home: Path, name: str) -> Iterator[None]:
    """Let one process at a time start or stop a server of this home."""
    (home / name).mkdir(parents=True, exist_ok=True)
    with (home / name / "server.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
