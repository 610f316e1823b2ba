"""The same run on several hosts that share source, store and databases; one of them is lost."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.phantom.write import write_limb_archive
from tasks.store.verify import committed_parts, store_digest, verify_part
from tests.flows.hosts import LONGEST, NET, Host, hosts
from tests.flows.running import staged
from tests.flows.servers import process, script, wait_for
from tests.flows.test_infra import INFRA
from tests.flows.tls import KEY, SCENARIO, certificates, dask_settings, wait_for_workers

PATIENTS = 32

WORKERS = ("first", "second")
STAGED = 4
"""Finished cases of unfinished parts after which a host is lost."""

SERVICE_PORTS = {"8786", "4200"}
"""The scheduler's and Prefect's: all that a worker talks to of its own accord, but for workers."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[dict[str, Host]]:
    """A coordinator, two hosts for workers and one for the databases."""
    names = ("coordinator", *WORKERS, "databases")
    pairs = certificates(tmp_path / "pairs", *names)
    shared = tmp_path / "shared"
    (shared / "store").mkdir(parents=True)
    write_limb_archive(shared / "archive", patients=PATIENTS, seed=44)
    for name in names:
        dask_settings(tmp_path / "etc" / name, pairs, name, "/mnt/etc")
    (tmp_path / "etc" / "coordinator" / "small-limb.yaml").write_text(SCENARIO)
    with hosts(shared, {name: tmp_path / "etc" / name for name in names}) as up:
        yield up


def _serve_databases(host: Host) -> None:
    """Start PostgreSQL with the databases of infra/postgres.sql on a host."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2])
    if not programs:
        pytest.skip("no PostgreSQL of the system: `make servers` brings it (hosts are not tested)")
    data = "/mnt/home/data"
    host.run("install", "-d", "-o", "postgres", data)

    def call(program: str, *words: str) -> None:
        host.run("runuser", "-u", "postgres", "--", str(programs[-1] / program), *words)

    call("initdb", "--auth=trust", "--username=postgres", "-D", data)
    host.run("sh", "-c", f"echo host all all {NET}.0/24 trust >> {data}/pg_hba.conf")
    options = f"-k {data} -c listen_addresses={host.address} -c fsync=off"
    call("pg_ctl", "start", "--wait", "-D", data, "-l", f"{data}/log", "-o", options)
    sql = re.sub("--.*", "", (INFRA / "postgres.sql").read_text())
    for statement in filter(str.strip, sql.split(";")):
        _sql(host, "postgres", statement)


def _sql(host: Host, database: str, statement: str) -> str:
    where = f"postgresql://postgres@{host.address}/{database}"
    return host.run("psql", "--no-psqlrc", "-qAt", where, "-c", statement)


def _beside(stack: ExitStack, host: Host, log: Path, *words: str, **more: str) -> subprocess.Popen:
    return stack.enter_context(process(host.command(*words), host.environment(**more), log))


def test_a_run_on_hosts_of_which_one_is_lost_makes_the_very_store_of_one_machine(
    network: dict[str, Host], tmp_path: Path
) -> None:
    coordinator, databases = network["coordinator"], network["databases"]
    _serve_databases(databases)
    store = tmp_path / "shared" / "store"
    postgres = f"postgres@{databases.address}"
    prefect, dask = f"http://{coordinator.address}:4200", f"tls://{coordinator.address}:8786"
    own = {
        "RADLOOP_CATALOG_URL": f"postgresql+psycopg2://{postgres}/catalog",
        "RADLOOP_VAULT_URL": f"postgresql+psycopg2://{postgres}/vault",
        "RADLOOP_WORKER_KEY": KEY,
        "RADLOOP_WORKERS": "2",
        "PREFECT_API_URL": f"{prefect}/api",
    }
    radloop = script("radloop")
    with ExitStack() as stack:
        _beside(
            *(stack, coordinator, tmp_path / "prefect.log"),
            *(script("prefect"), "server", "start", "--host", coordinator.address),
            PREFECT_SERVER_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://{postgres}/prefect",
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
        )
        ask = f"import urllib.request as u; u.urlopen('{prefect}/api/health')"
        health = coordinator.command(sys.executable, "-c", ask)
        wait_for("Prefect", lambda: subprocess.run(health, capture_output=True).returncode == 0)
        labels = ["--labels-of", "/mnt/etc/small-limb.yaml"]
        coordinator.run(radloop, "ingest", "/mnt/archive", *labels, **own)
        # The same patients, keys and sides, and nothing preprocessed: once more for one machine.
        _sql(databases, "postgres", "create database alone template catalog")
        alone = own | {
            "RADLOOP_CATALOG_URL": f"postgresql+psycopg2://{postgres}/alone",
            "RADLOOP_STORE": "/mnt/store/alone",
        }
        coordinator.run(radloop, "preprocess", "small-limb", **alone)

        together = {"RADLOOP_STORE": "/mnt/store/together"}
        listen = ["--host", f"tls://{coordinator.address}", "--no-dashboard"]
        _beside(stack, coordinator, tmp_path / "dask.log", script("dask"), "scheduler", *listen)
        for name in WORKERS:
            command = [script("dask"), "worker", dask, "--nworkers=1", "--nthreads=1"]
            key = {"RADLOOP_WORKER_KEY": KEY}
            log = tmp_path / f"{name}.log"
            _beside(stack, network[name], log, *command, "--no-dashboard", **together, **key)
        wait_for_workers(tmp_path / "dask.log", len(WORKERS))
        log = tmp_path / "run.log"
        cluster = own | together | {"RADLOOP_DASK_ADDRESS": dask}
        running = _beside(stack, coordinator, log, radloop, "preprocess", "small-limb", **cluster)
        _until(running, lambda: len(staged(store / "together")) >= STAGED)
        talks = _peers(network["first"])
        network["second"].vanish()
        assert running.wait(timeout=LONGEST) == 0, log.read_text()
        # Before the run could end, that is: the lost host held one of its parts.
        lost = f"Remove worker addr: tls://{network['second'].address}:"
        assert lost in (tmp_path / "dask.log").read_text()
        again = coordinator.run(radloop, "preprocess", "small-limb", **cluster)

    assert again.startswith("0 cases in 0 parts")
    made = committed_parts(str(store / "together"))
    assert len(made) >= 3
    assert store_digest(str(store / "together")) == store_digest(str(store / "alone"))
    for path in made:
        assert verify_part(str(store / "together"), path) == ()
    rows = "select part_id, digest from parts order by 1"
    assert _sql(databases, "catalog", rows) == _sql(databases, "alone", rows)
    assert not staged(store / "together")
    # Neither databases nor anything else than what the page of clusters says.
    assert talks >= {(coordinator.address, port) for port in SERVICE_PORTS}
    assert databases.address not in {address for address, _ in talks}
    assert network["first"].run("find", "/mnt/home", "/tmp", "-name", "*.db") == ""


def _until(running: subprocess.Popen, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST
    while not happened():
        assert running.poll() is None, "the run ended before the host was to be lost"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _peers(host: Host) -> set[tuple[str, str]]:
    """Return address and port of all that a host has connected to, by its established sockets."""
    found = set()
    for line in host.run("ss", "-Htn", "state", "established").splitlines():
        address, port = line.split()[3].rsplit(":", 1)
        found.add((address, port))
    return found
