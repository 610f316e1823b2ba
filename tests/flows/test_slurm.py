"""A real SLURM of one node: its jobs are the workers, and one of them is cancelled."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tasks.store.verify import committed_parts, store_digest
from tests.flows.running import staged
from tests.flows.servers import environment, free_ports, process, run, wait_for
from tests.flows.tls import (
    DASK,
    certificates,
    dask_settings,
    scheduler,
    taken_in,
    wait_for_workers,
)

PATIENTS = 24

JOBS = 2

STAGED = 2
"""Finished cases of unfinished parts after which a job is cancelled."""

CONF = """\
ClusterName=radloop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1024 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Give the variables with which `sbatch` finds a SLURM on loopback that ends with the block."""
    programs = {name: shutil.which(name) for name in ("munged", "slurmctld", "slurmd", "sbatch")}
    if not all(programs.values()):
        pytest.skip("no SLURM here (packages slurmctld, slurmd, slurm-client and munge)")
    if os.getuid():
        pytest.skip("slurmd starts jobs as root alone: SLURM is not tested")
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    host, cpus = os.uname().nodename.split(".")[0], psutil.cpu_count()
    control, node = free_ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, cpus=cpus, control=control, node=node))
    env = environment(folder / "home", SLURM_CONF=str(conf))
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    socket = f"--socket={folder}/munge/socket"
    with ExitStack() as stack:
        for command in (
            ["munged", "--foreground", "--force", socket, *munge],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            stack.enter_context(process(command, env, folder / f"{command[0]}.log"))
            if command[0] == "munged":
                wait_for("munged", (folder / "munge" / "socket").exists)
        state = ["sinfo", "--noheader", "--format=%t"]
        wait_for("SLURM's node", lambda: _output(state, env).strip() == "idle")
        yield {"SLURM_CONF": str(conf)}


def _output(command: list[str], env: Mapping[str, str]) -> str:
    return subprocess.run(command, env=dict(env), capture_output=True, text=True).stdout


def test_jobs_of_slurm_make_the_very_store_of_local_workers_though_one_is_cancelled(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        found = stack.enter_context(slurm(tmp_path / "slurm"))
        prepared = taken_in(tmp_path, PATIENTS, seed=55)
        stack.callback(prepared.close)
        local = prepared.copied(tmp_path / "local", prepared.more)
        local.radloop("preprocess", "small-limb").ok()

        pairs = certificates(tmp_path / "pairs", "all")
        settings = str(dask_settings(tmp_path / "etc", pairs, "all"))
        address = stack.enter_context(scheduler(tmp_path, Path(settings)))
        more = {**prepared.more, "DASK_CONFIG": settings, "RADLOOP_DASK_ADDRESS": address}
        ours = prepared.copied(tmp_path / "ours", more)
        # What a user's shell has, and so each job: `dask`, and what radloop needs on a node.
        env = ours.environment() | found
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        env |= {"RADLOOP_STORE": str(ours.home / "store"), "RADLOOP_HOME": str(tmp_path / "node")}
        array = ["sbatch", "--parsable", "--mem=1000M", f"--array=1-{JOBS}"]
        job = run([*array, str(DASK / "worker.sbatch"), address], env, cwd=tmp_path).strip()
        stack.callback(run, ["scancel", job], env)
        wait_for_workers(tmp_path / "scheduler.log", JOBS)
        sink = subprocess.DEVNULL
        running = ours.start("preprocess", "small-limb", stdin=sink, stdout=sink, stderr=sink)
        wait_for("finished cases", lambda: len(staged(ours.home / "store")) >= STAGED)
        assert running.poll() is None, "the run ended before the job was to be cancelled"
        run(["scancel", f"{job}_1"], env)
        assert running.wait(timeout=600) == 0
        left = run(["squeue", "--noheader", "--array", "--format=%K"], env).split()
    assert left == ["2"]
    assert len(committed_parts(str(local.home / "store"))) >= 2
    assert store_digest(str(ours.home / "store")) == store_digest(str(local.home / "store"))
