"""What tests of clusters share: certificates as docs/cluster.md makes them, a scheduler, a home."""

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.phantom.write import write_limb_archive
from tests.flows.conftest import LIMB
from tests.flows.running import Place
from tests.flows.servers import process, script, wait_for

ROOT = Path(__file__).resolve().parents[2]
DASK = ROOT / "infra" / "dask"

KEY = "5e" * 32
"""Worker key of every host."""

HEAVY = "recipe:\n  - {step: bias_correction, iterations: [1000, 1000], tolerance: 0.9}\n"
SCENARIO = LIMB.replace("recipe:\n", HEAVY)
"""Planned as two seconds a radiograph and soon done: a small archive makes several parts."""


def certificates(folder: Path, *hosts: str) -> Path:
    """Make an authority and a pair for each host with the lines of the page; returns the folder."""
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` here (package openssl): TLS between hosts is not tested")
    page = (ROOT / "docs" / "cluster.md").read_text()
    (lines,) = re.findall(r"^(    openssl req -x509.+?^    done\n)", page, re.MULTILINE | re.DOTALL)
    named = "for host in coordinator worker1 worker2;"
    assert named in lines
    script = textwrap.dedent(lines).replace(named, f"for host in {' '.join(hosts)};")
    folder.mkdir()
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


def dask_settings(folder: Path, pairs: Path, host: str, place: str | None = None) -> Path:
    """Lay out what a host has in /etc: its certificate and the files of infra/dask.

    Parameters
    ----------
    folder : Path
        Made; holds ``tls/`` and ``dask/``, the value for DASK_CONFIG.
    pairs : Path
        Of :func:`certificates`.
    host : str
    place : str, optional
        Where the folder will stand when the host looks; here by default.
    """
    (folder / "tls").mkdir(parents=True)
    (folder / "dask").mkdir()
    for source, name in (("ca.pem", "ca.pem"), (f"{host}.pem", "host.pem")):
        shutil.copy(pairs / source, folder / "tls" / name)
    shutil.copy(pairs / f"{host}.key", folder / "tls" / "host.key")
    shutil.copy(DASK / "radloop.yaml", folder / "dask")
    text = (DASK / "tls.yaml").read_text()
    assert "/etc/radloop/tls/" in text
    text = text.replace("/etc/radloop/tls/", f"{place or folder}/tls/")
    (folder / "dask" / "tls.yaml").write_text(text)
    return folder / "dask"


def taken_in(folder: Path, patients: int, seed: int) -> Place:
    """Make a home whose catalog is filled and whose store is empty."""
    write_limb_archive(folder / "archive", patients=patients, seed=seed)
    scenario = folder / "small-limb.yaml"
    scenario.write_text(SCENARIO)
    place = Place(folder / "prepared", more={"RADLOOP_WORKER_KEY": KEY})
    place.folder.mkdir()
    place.radloop("ingest", folder / "archive", "--labels-of", scenario).ok()
    return place


@contextmanager
def scheduler(folder: Path, settings: Path) -> Iterator[str]:
    """Give the address of a scheduler started by hand; it logs to ``scheduler.log`` in a folder."""
    where = folder / "scheduler.json"
    listen = ["--host", "tls://127.0.0.1", "--port", "0", "--scheduler-file", str(where)]
    env = Place(folder / "scheduler").environment() | {"DASK_CONFIG": str(settings)}
    command = [script("dask"), "scheduler", *listen, "--no-dashboard"]
    with process(command, env, folder / "scheduler.log"):
        wait_for("the scheduler", lambda: where.exists() and where.read_text().endswith("}"))
        yield json.loads(where.read_text())["address"]


def wait_for_workers(log: Path, number: int) -> None:
    """Wait until a scheduler's log says that so many workers came."""
    wait_for(f"{number} workers", lambda: log.read_text().count("Register worker addr") >= number)
