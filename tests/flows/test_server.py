"""A home's own servers: started once, reused, recognised when stale, on loopback only, ended."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.server import Server, ensure_server, free_port, running_server, stop_server
from flows.settings import Settings
from tasks.errors import RadloopError
from tests.flows.servers import (
    api,
    environment,
    family,
    flow_runs,
    ignore_interrupt,
    listening,
    python,
    radloop,
    wait_for,
)

ENSURE = """
import json
from dataclasses import asdict
from flows.server import ensure_server
from flows.settings import load_settings, prepare_environment
settings = load_settings()
prepare_environment(settings)
server, fresh = ensure_server(settings, "prefect")
print(json.dumps([asdict(server), fresh]))
"""


RESTING = """
import asyncio
from flows.prefect_server import QUEUE_EVERY, RestingWorker, rest
rest()
from docket import Docket
from prefect.server.api import background_workers

async def seen():
    async with Docket(name="rests", url="memory://") as queue:
        async with background_workers.Worker(queue) as worker:
            return worker

worker = asyncio.run(seen())
assert type(worker) is RestingWorker, type(worker)
assert worker.minimum_check_interval == worker.scheduling_resolution == QUEUE_EVERY
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, list[Any]]]:
    """A home whose server two processes wanted in the same moment, both from a shell's `&`."""
    settings = Settings(home=tmp_path_factory.mktemp("pair"))
    env = environment(settings.home)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ENSURE],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=ignore_interrupt,
        )
        for _ in range(2)
    ]
    said = [json.loads(one.communicate(timeout=280)[0].splitlines()[-1]) for one in both]
    yield settings, said
    stop_server(settings, "prefect")


def test_two_processes_that_start_at_once_share_one_server(pair: Any) -> None:
    settings, said = pair
    assert sorted(fresh for _, fresh in said) == [False, True]
    assert said[0][0] == said[1][0]
    assert running_server(settings, "prefect") == Server(**said[0][0])


def test_prefects_server_looks_at_its_queue_as_seldom_as_we_say(tmp_path: Path) -> None:
    # With a server of Prefect's that takes its worker otherwise, it would ask eight times a second.
    ended = subprocess.run(
        [sys.executable, "-c", RESTING],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_a_running_server_is_our_program(pair: Any) -> None:
    words = psutil.Process(running_server(pair[0], "prefect").pid).cmdline()
    assert words[1:5] == ["-m", "flows.prefect_server", "server", "start"]


def test_a_running_server_is_reused(pair: Any) -> None:
    settings, said = pair
    assert ensure_server(settings, "prefect") == (Server(**said[0][0]), False)


def test_nothing_listens_beyond_loopback(pair: Any) -> None:
    server = running_server(pair[0], "prefect")
    found = listening(server.pid)
    assert server.port in found
    assert set(found.values()) <= {"127.0.0.1", "::1"}


def test_runs_without_heartbeat_are_crashed_by_one_automation(pair: Any) -> None:
    settings, _ = pair
    server = running_server(settings, "prefect")
    env = environment(settings.home, PREFECT_API_URL=f"{server.url}/api")
    python(
        env,
        "from flows.policy import crash_zombies; crash_zombies(); crash_zombies(); print(1)",
    )
    (found,) = api(server.url, "/automations/filter", {})
    assert found["enabled"]
    assert found["trigger"]["posture"] == "Proactive"
    assert found["trigger"]["within"] == 90
    assert found["actions"][0]["state"] == "CRASHED"


def test_another_home_gets_its_own_server_and_a_killed_start_is_taken_up(
    pair: Any, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    starter = subprocess.Popen(
        [sys.executable, "-c", ENSURE], env=environment(tmp_path), stdout=subprocess.DEVNULL
    )
    record = tmp_path / "prefect" / "server.json"
    wait_for("the record of a server that comes up", record.exists)
    starter.kill()
    starter.wait()
    try:
        written = Server(**json.loads(record.read_text()))
        assert ensure_server(settings, "prefect") == (written, False)
        other = running_server(pair[0], "prefect")
        assert written.pid != other.pid
        assert written.port != other.port
        tree = family(written.pid)
        assert "stopped prefect" in _stderr_of_stop(tmp_path)
        assert not any(one.is_running() and one.status() != "zombie" for one in tree)
        assert running_server(pair[0], "prefect") == other
    finally:
        stop_server(settings, "prefect")
    assert not stop_server(settings, "prefect")


def _stderr_of_stop(home: Path) -> str:
    command = [str(Path(sys.executable).with_name("radloop")), "ui", "--stop"]
    done = subprocess.run(
        command, env=environment(home), capture_output=True, text=True, timeout=120, check=True
    )
    return done.stderr


def _keep(settings: Settings, server: Server) -> Path:
    record = settings.home / server.name / "server.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(asdict(server)))
    return record


def test_a_record_whose_process_is_gone_is_forgotten(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    settings = Settings(home=tmp_path)
    record = _keep(settings, Server("prefect", ended.pid, 1.0, 4210, str(tmp_path)))
    assert running_server(settings, "prefect") is None
    assert not record.exists()


def test_a_process_that_has_the_number_of_an_ended_server_is_left_alone(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        settings = Settings(home=tmp_path)
        began = psutil.Process(sleeper.pid).create_time()
        _keep(settings, Server("prefect", sleeper.pid, began - 100, 4210, str(tmp_path)))
        assert not stop_server(settings, "prefect")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_copied_home_does_not_end_the_first_ones_server(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        copy = Settings(home=tmp_path / "copy")
        began = psutil.Process(sleeper.pid).create_time()
        _keep(copy, Server("prefect", sleeper.pid, began, 4210, str(tmp_path / "first")))
        assert not stop_server(copy, "prefect")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_torn_record_is_no_server(tmp_path: Path) -> None:
    record = tmp_path / "mlflow" / "server.json"
    record.parent.mkdir()
    record.write_text('{"name": "mlf')
    assert running_server(Settings(home=tmp_path), "mlflow") is None


def test_a_busy_port_is_passed_over(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(0, port) > port


def test_a_wished_port_that_is_taken_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(home=tmp_path, prefect_port=port)
        with pytest.raises(RadloopError, match=f"port {port} is taken by another program; set"):
            ensure_server(settings, "prefect")
    assert running_server(settings, "prefect") is None


def test_a_server_that_cannot_start_names_its_log(tmp_path: Path) -> None:
    # MLflow ends by itself when it cannot make its database, so nothing waits for a time limit.
    settings = Settings(home=tmp_path, mlflow_uri="sqlite:////dev/null/nowhere/mlflow.db")
    with pytest.raises(RadloopError, match=r"mlflow server did not answer .* see .*server\.log"):
        ensure_server(settings, "mlflow")
    assert running_server(settings, "mlflow") is None
    assert "nowhere" in (tmp_path / "mlflow" / "server.log").read_text()


SLEEPING_FLOW = """
import time
from flows.settings import load_settings, prepare_environment
prepare_environment(load_settings())
from prefect import flow
@flow(name="sleeper")
def sleeper():
    time.sleep(600)
sleeper()
"""

SILENCE_SECONDS = 45
"""More than one heartbeat (30 s, the least that Prefect allows), less than our users' 90."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_leaves_running(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    server, _ = python(environment(tmp_path), ENSURE)
    url = f"http://127.0.0.1:{server['port']}"
    env = environment(tmp_path, PREFECT_API_URL=f"{url}/api")
    try:
        python(
            env,
            f"from flows.policy import crash_zombies; crash_zombies({SILENCE_SECONDS})\nprint(1)",
        )
        running = subprocess.Popen([sys.executable, "-c", SLEEPING_FLOW], env=env)
        wait_for(
            "the first heartbeat",
            lambda: api(
                url,
                "/events/filter",
                {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}},
            )["events"],
        )
        assert [run["state_type"] for run in flow_runs(url)] == ["RUNNING"]
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        wait_for(
            "CRASHED after the kill",
            lambda: [run["state_type"] for run in flow_runs(url)] == ["CRASHED"],
        )
    finally:
        radloop(environment(tmp_path), "ui", "--stop")
    assert running_server(settings, "prefect") is None
