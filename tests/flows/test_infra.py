"""The commands of infra/ as plain processes: PostgreSQL, Prefect, MLflow, Dask and a worker."""

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from distributed import Client

from flows.settings import Settings
from tests.flows.servers import (
    answers,
    api,
    environment,
    flow_runs,
    free_ports,
    process,
    radloop,
    script,
    wait_for,
    write_tiny,
)

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = [name for name in SERVICES if name != "postgres"]
UNITS = sorted((INFRA / "systemd").glob("*.service"))


@dataclass(frozen=True)
class Site:
    """Where the services of compose.yaml stand when they are plain processes."""

    folder: Path
    sockets: str
    """Folder of PostgreSQL's socket."""
    prefect: int
    mlflow: int
    dask: int
    key: str

    @property
    def home(self) -> Path:
        """What compose.yaml calls /var/lib/radloop."""
        return self.folder / "home"

    def here(self, text: str) -> str:
        """Put this machine's places where compose.yaml has the containers'."""
        text = re.sub(
            r"radloop:\$\{POSTGRES_PASSWORD\}@postgres/(\w+)",
            rf"postgres@/\1?host={self.sockets}",
            text,
        )
        for named, ours in (
            ("prefect:4200", f"127.0.0.1:{self.prefect}"),
            ("mlflow:5000", f"127.0.0.1:{self.mlflow}"),
            ("dask-scheduler:8786", f"127.0.0.1:{self.dask}"),
            ("4200", str(self.prefect)),
            ("5000", str(self.mlflow)),
            ("8786", str(self.dask)),
            ("0.0.0.0", "127.0.0.1"),
            ("/var/lib/radloop", str(self.home)),
            ("${RADLOOP_WORKER_KEY}", self.key),
            # One a core is right for a site; here two, on whatever machine the tests run.
            ("--nworkers=-1", "--nworkers=2"),
        ):
            text = text.replace(named, ours)
        assert "${" not in text, f"the test does not know what stands in {text}"
        return text

    def command(self, service: str) -> list[str]:
        """Return a service's command, as compose.yaml has it."""
        program, *rest = SERVICES[service]["command"]
        return [script(program), *(self.here(word) for word in rest)]

    def environment(self, service: str) -> dict[str, str]:
        """Return a service's environment, as compose.yaml has it."""
        given = SERVICES[service].get("environment", COMPOSE["x-radloop"]["environment"])
        # The images have this file in /etc/dask.
        dask = str(INFRA / "dask" / "radloop.yaml")
        prefect = str(self.folder / f"prefect-{service}")
        clean = environment(self.home, PREFECT_HOME=prefect, DASK_CONFIG=dask)
        return clean | {name: self.here(value) for name, value in given.items()}


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """Folder of the socket of a PostgreSQL with the databases of infra/postgres.sql."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2])
    if not programs:
        # pgserver from PyPI will not do: Prefect wants the extension pg_trgm, which it lacks.
        pytest.skip("no PostgreSQL of the system: `make servers` brings it (infra/ is not tested)")
    # PostgreSQL refuses root; its own user may not enter pytest's folder.
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="radloop-infra-"))
    if user:
        shutil.chown(folder, user)
    data, options = folder / "data", f"-k {folder} -c listen_addresses='' -c fsync=off"

    def call(program: str, *arguments: str) -> None:
        command = [str(programs[-1] / program), "-D", str(data), *arguments]
        subprocess.run(
            command, user=user, cwd=folder, check=True, timeout=120, stdout=subprocess.DEVNULL
        )

    call("initdb", "--auth=trust", "--username=postgres")
    call("pg_ctl", "start", "--wait", "-l", str(folder / "log"), "-o", options)
    try:
        connection = psycopg2.connect(f"postgresql://postgres@/postgres?host={folder}")
        connection.autocommit = True
        sql = re.sub("--.*", "", (INFRA / "postgres.sql").read_text())
        with connection.cursor() as cursor:
            for statement in filter(str.strip, sql.split(";")):
                cursor.execute(statement)
        connection.close()
        yield str(folder)
    finally:
        call("pg_ctl", "stop", "--mode", "immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ground(postgresql: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """PostgreSQL, Prefect on it, and Dask."""
    folder = tmp_path_factory.mktemp("site")
    site = Site(folder, postgresql, *free_ports(3), secrets.token_hex(32))
    site.home.mkdir()
    with ExitStack() as stack:
        for service in ("prefect", "dask-scheduler", "dask-worker"):
            _up(stack, site, service)
        wait_for("Prefect", lambda: answers(f"http://127.0.0.1:{site.prefect}/api/health"))
        yield site


def _up(stack: ExitStack, site: Site, service: str) -> None:
    log = site.folder / f"{service}.log"
    stack.enter_context(process(site.command(service), site.environment(service), log))


def _count(site: Site, database: str, query: str) -> int:
    connection = psycopg2.connect(f"postgresql://postgres@/{database}?host={site.sockets}")
    with connection.cursor() as cursor:
        cursor.execute(query)
        (number,) = cursor.fetchone()
    connection.close()
    return number


def _child_of_worker() -> int:
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(abs, (-3,))


def test_prefect_keeps_its_records_in_postgresql(ground: Site) -> None:
    assert api(f"http://127.0.0.1:{ground.prefect}", "/flow_runs/filter", {}) == []
    assert _count(ground, "prefect", "select count(*) from flow_run") == 0
    assert not list(ground.folder.rglob("prefect.db"))


def test_the_dask_workers_run_one_task_each_and_may_have_children(ground: Site) -> None:
    with Client(f"tcp://127.0.0.1:{ground.dask}") as client:
        client.wait_for_workers(2, timeout=120)
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        assert [worker["nthreads"] for worker in found] == [1, 1]
        assert client.submit(_child_of_worker).result(timeout=120) == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_scheduled_retrain_runs_through_all_services(ground: Site) -> None:
    url = f"http://127.0.0.1:{ground.prefect}"
    env = ground.environment("worker")
    scenario = write_tiny(ground.folder / "data", schedule='{retrain: "* * * * *"}')
    with ExitStack() as stack:
        _up(stack, ground, "mlflow")
        _up(stack, ground, "worker")
        wait_for("MLflow", lambda: answers(f"http://127.0.0.1:{ground.mlflow}/health"))
        radloop(env, "source", "add", "rows", str(ground.folder / "data" / "rows.csv"))
        radloop(env, "deploy", str(scenario), "--source", "rows")
        run = wait_for("the scheduled run's end", lambda: _ended(url), seconds=500)
        wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
        logs = [row["message"] for row in api(url, "/logs/filter", wanted)]
        assert run["state_type"] == "COMPLETED", "\n".join(logs[-30:])
        assert run["auto_scheduled"]
        models = json.loads(radloop(env, "status", "--json"))["models"]
    assert ("tiny", "champion") in {(model["name"], model["alias"]) for model in models}
    # Everything went where compose.yaml points: nothing embedded was made.
    assert _count(ground, "mlflow", "select count(*) from runs") >= 2
    tables = "select count(*) from information_schema.tables where table_schema = 'public'"
    for database in ("catalog", "vault"):
        assert _count(ground, database, tables) > 0
    for embedded in ("catalog.db", "vault.db", "mlflow.db", "dask", "worker.key"):
        assert not (ground.home / embedded).exists(), embedded
    assert list((ground.home / "artifacts").rglob("MANIFEST.sha256"))


def _ended(url: str) -> Any:
    ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    wanted = {"name": {"any_": ["retrain-tiny"]}}
    ended = [run for run in flow_runs(url, deployments=wanted) if run["state_type"] in ends]
    return ended[-1] if ended else None


@pytest.mark.parametrize("service", OURS)
def test_compose_starts_programs_that_the_package_brings(service: str) -> None:
    given = SERVICES[service].get("command")
    assert Path(script(given[0])).exists()
    assert SERVICES[service]["image"].startswith("radloop-")


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_sets_only_settings_that_exist() -> None:
    known = {f"RADLOOP_{name.upper()}" for name in Settings.model_fields}
    said = {
        (service, name)
        for service in OURS
        for name in SERVICES[service].get("environment", ())
        if name.startswith("RADLOOP_")
    }
    assert said
    assert not {(service, name) for service, name in said if name not in known}


def test_every_variable_of_compose_stands_in_the_example() -> None:
    wanted = set(re.findall(r"\$\{(\w+)\}", (INFRA / "compose.yaml").read_text()))
    example = (INFRA / "env.example").read_text()
    assert wanted == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_images_copy_what_the_checkout_has() -> None:
    copied = [
        (recipe.name, source)
        for recipe in (INFRA / "images").glob("*.Dockerfile")
        for line in re.findall(r"^COPY (.+)$", recipe.read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    assert not [(name, source) for name, source in copied if not (ROOT / source).exists()]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_what_systemd_understands(unit: Path, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not here: the units are not verified (package systemd)")
    text = unit.read_text()
    (program,) = re.findall(r"^ExecStart=(/opt/radloop/bin/\w+)", text, re.MULTILINE)
    ours = Path(script(Path(program).name))
    assert ours.exists()
    (tmp_path / unit.name).write_text(text.replace(program, str(ours)))
    for name in re.findall(r"\$\{(\w+)\}", text):
        assert f"{name}=" in (INFRA / "systemd" / "environment.example").read_text()
    done = subprocess.run(
        [verify, "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert unit.name not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


ALONE = """\
set -e
ip link set lo up
test "$(ip -o link show up | wc -l)" = 1
{radloop} source add rows {rows}
{radloop} retrain {scenario} --source rows
{radloop} ui --stop
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_loop_needs_no_network_but_loopback(tmp_path: Path) -> None:
    unshare = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--net"]
    if shutil.which("ip") is None:
        pytest.skip("no `ip` here (package iproute2): loopback alone is not tested")
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no privilege for a network namespace of our own: loopback alone is not tested")
    scenario = write_tiny(tmp_path / "data")
    code = ALONE.format(
        radloop=script("radloop"), rows=tmp_path / "data" / "rows.csv", scenario=scenario
    )
    done = subprocess.run(
        [*unshare, "sh", "-c", code],
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    assert "gate: promote" in done.stdout
