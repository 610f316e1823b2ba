"""Real processes for the tests of flows: homes, servers, workers and a scenario small enough."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

WAIT_SECONDS = 240
"""A process that answers in 10 s alone may need minutes beside a full test suite."""

TINY = """\
name: tiny
title: Illness from two made-up numbers
task: classification
intended_use: Tests only.
not_for: Anything else.
population: 80 made-up rows; nobody stands behind them.
synthetic: true
cohort: {kind: row, table: rows}
labels: {format: column, column: target, classes: [well, ill], positive: ill}
split: {source: keyed, test: 0.25, folds: 2, key: public, strata: [target]}
candidates:
  - {name: logistic, kind: tabular, estimator: logistic}
evaluate: {primary: auroc, bootstrap: 200, robustness: {cases: 0}, explain: {cases: 0}}
gate: {margin: 0.05, undecidable: refuse}
trigger: {new_labelled_patients: 50, max_age_days: 90}
"""


def write_tiny(folder: Path, **more: object) -> Path:
    """Write the scenario and its table into a folder; returns the scenario's file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    lines = ["patient,first,second,target"]
    for number in range(80):
        ill = number % 2
        first, second = rng.normal(1.5 * ill), rng.normal()
        lines.append(f"P{number:03d},{first:.4f},{second:.4f},{'ill' if ill else 'well'}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    scenario = folder / "tiny.yaml"
    scenario.write_text(TINY + "".join(f"{name}: {value}\n" for name, value in more.items()))
    return scenario


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which only what a test says points anywhere."""
    ours = ("RADLOOP_", "PREFECT_", "MLFLOW_", "DASK_", "CUDA_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**clean, "RADLOOP_HOME": str(home), "RADLOOP_WORKERS": "2", **more}


def script(name: str) -> str:
    """Return the path of a console script beside this Python."""
    return str(Path(sys.executable).with_name(name))


def run(command: list[str], env: Mapping[str, str], **options: Any) -> str:
    """Run a command to its end and return its standard output; a failure shows what it said."""
    done = subprocess.run(
        command, env=dict(env), capture_output=True, text=True, timeout=WAIT_SECONDS, **options
    )
    assert done.returncode == 0, f"{command} ended {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def radloop(env: Mapping[str, str], *arguments: str) -> str:
    """Run the command line."""
    return run([script("radloop"), *arguments], env)


@contextmanager
def own_servers(env: Mapping[str, str]) -> Iterator[None]:
    """End the home's own servers after the block, also when it fails."""
    try:
        yield
    finally:
        radloop(env, "ui", "--stop")


def python(env: Mapping[str, str], code: str) -> Any:
    """Run code whose last line printed is JSON, and return that."""
    return json.loads(run([sys.executable, "-c", code], env).splitlines()[-1])


@contextmanager
def process(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """Run a command beside the test, and end it with its children whatever happens."""
    with log.open("ab") as sink:
        started = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            # A shell's `&` leaves SIGINT ignored, and then SIGTERM never ends a Prefect worker.
            preexec_fn=default_interrupt,
        )
    try:
        yield started
    finally:
        end_tree(started.pid)
        started.wait(timeout=30)


def default_interrupt() -> None:
    """Let SIGINT do what it does in a process that a person starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ignore_interrupt() -> None:
    """Start a child as a shell's `&` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_tree(pid: int) -> None:
    """End a process we started, and its children."""
    tree = family(pid)
    for one in tree:
        _quietly(one.terminate)
    _, left = psutil.wait_procs(tree, timeout=10)
    for one in left:
        _quietly(one.kill)
    psutil.wait_procs(left, timeout=10)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and everything it started."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return


def listening(pid: int) -> dict[int, str]:
    """Return port -> address of every TCP socket on which a process tree listens.

    From the kernel's own tables, /proc/net/tcp and /proc/net/tcp6 (state 0A), by socket inode.
    """
    inodes = set()
    for one in family(pid):
        for link in Path(f"/proc/{one.pid}/fd").glob("*"):
            try:
                name = os.readlink(link)
            except OSError:
                continue
            if name.startswith("socket:["):
                inodes.add(name[8:-1])
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                found[int(port, 16)] = _address(address)
    return found


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    if len(raw) == 4:
        return ".".join(str(byte) for byte in reversed(raw))
    return "::1" if raw == bytes(12) + b"\x01\x00\x00\x00" else raw.hex()


def wait_for(what: str, look: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Return the first true answer of ``look``, or fail saying what did not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := look():
            return answer
        time.sleep(0.3)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def api(url: str, path: str, body: object = None, method: str | None = None) -> Any:
    """Call Prefect's REST API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}/api{path}", data=data, headers={"Content-Type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def answers(url: str) -> bool:
    """Return whether a page answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def free_ports(number: int) -> list[int]:
    """Return ports of loopback that nothing uses now."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def flow_runs(url: str, **filters: object) -> list[dict[str, Any]]:
    """Return flow runs, newest first."""
    body = {"sort": "START_TIME_DESC", **filters}
    return api(url, "/flow_runs/filter", body)


def prefect_url(home: Path) -> str:
    """Return the address of a home's own Prefect server."""
    record = json.loads((home / "prefect" / "server.json").read_text())
    return f"http://127.0.0.1:{record['port']}"
