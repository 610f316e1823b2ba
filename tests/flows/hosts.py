"""Hosts made of namespaces: each with an address, processes and file systems of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

NET = "10.77.0"

LONGEST = 600
"""Seconds a command on a host may take on a loaded machine before the test gives up on it."""

NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]

BOOT = """\
mount -t tmpfs tmpfs /mnt
mkdir /mnt/archive /mnt/store /mnt/etc /mnt/home
cp -r "$1/." /mnt/etc
mount --bind "$2/archive" /mnt/archive
mount -o remount,bind,ro /mnt/archive
mount --bind "$2/store" /mnt/store
for private in /tmp /dev/shm /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $private; done
mount -o remount,bind,ro /
echo up
exec sleep infinity
"""
"""Programs are read from this machine, as if installed on each. What a host writes is its own, but
for the store."""


@dataclass(frozen=True)
class Host:
    """One host: a process tree whose end is the host's."""

    name: str
    address: str
    init: int
    """Its first process, seen from outside; when that dies the kernel ends all the others."""
    switch: int
    """Process that keeps the network between the hosts."""

    def command(self, *words: str) -> list[str]:
        """Return a command that runs on this host."""
        return ["nsenter", f"--target={self.init}", "--net", "--mount", "--pid", "--", *words]

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment in which only what a test says points anywhere."""
        ours = ("RADLOOP_", "PREFECT_", "MLFLOW_", "DASK_", "CUDA_", "XDG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        own = {"HOME": "/mnt/home/user", "RADLOOP_HOME": "/mnt/home/radloop", "TMPDIR": "/tmp"}
        return kept | own | {"DASK_CONFIG": "/mnt/etc/dask", **more}

    def run(self, *words: str, **more: str) -> str:
        """Run a command on this host and return its output."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
        assert done.returncode == 0, (
            f"{words} ended {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def vanish(self) -> None:
        """Pull the cable, then kill -9: nobody is told."""
        in_switch = ["nsenter", f"--target={self.switch}", "--net", "--"]
        subprocess.run([*in_switch, "ip", "link", "set", "dev", self.name, "down"], check=True)
        psutil.Process(self.init).kill()


@contextmanager
def hosts(shared: Path, private: Mapping[str, Path]) -> Iterator[dict[str, Host]]:
    """Give hosts on one network; nothing of them is left when the block ends.

    Parameters
    ----------
    shared : Path
        Folder with ``archive`` (read-only for the hosts) and ``store``, at /mnt in each.
    private : mapping of name to folder
        What each host has in /mnt/etc; hosts are numbered in this order from 10.77.0.1.
    """
    _need_namespaces()
    with ExitStack() as stack:
        switch = _started(stack, ["unshare", "--net", "sh", "-c", "echo up; exec sleep infinity"])
        _ip(switch, "link add hub type bridge", "link set hub up")
        up = {}
        for number, (name, folder) in enumerate(private.items(), start=1):
            command = [*NAMESPACES, "sh", "-ec", BOOT, "boot", str(folder), str(shared)]
            (init,) = psutil.Process(_started(stack, command)).children()
            cable = f"link add name {name} type veth peer name eth0 netns {init.pid}"
            _ip(switch, cable, f"link set dev {name} master hub up")
            address = f"{NET}.{number}"
            _ip(
                *(init.pid, f"addr add {address}/24 dev eth0"),
                *("link set eth0 up", "link set lo up"),
            )
            up[name] = Host(name, address, init.pid, switch)
        yield up


def _need_namespaces() -> None:
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            pytest.skip(f"no `{program}` here (package {package}): several hosts are not tested")
    probe = subprocess.run([*NAMESPACES, "true"], capture_output=True, timeout=30)
    if os.getuid() or probe.returncode:
        pytest.skip("hosts of namespaces need root: several hosts are not tested")


def _started(stack: ExitStack, command: list[str]) -> int:
    """Start what keeps a namespace, to be killed at the end; returns its process once it is up."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout
    stack.callback(process.stdout.close)
    assert process.stdout.readline() == "up\n", f"{command[0]} did not come up"
    return process.pid


def _ip(pid: int, *calls: str) -> None:
    """Configure the network that a process lives in."""
    for call in calls:
        command = ["nsenter", f"--target={pid}", "--net", "--", "ip", *call.split()]
        subprocess.run(command, check=True, timeout=30)
