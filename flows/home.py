"""A home, opened: its databases, its pseudonyms and its scenarios."""

import logging
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import psutil

from flows.data import data_folder
from flows.settings import Settings
from tasks.archive.catalog import open_catalog
from tasks.archive.leases import acquire_lease, heartbeat_lease, lease_holder, release_lease
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.vault import get_source, open_vault, project_key, put_source
from tasks.errors import LeaseHeld

if TYPE_CHECKING:
    from tasks.archive.sources import Source
    from tasks.scenario import Scenario

LEASE_SECONDS = 60
"""A lease whose owner has not beaten for this long may be taken over."""

log = logging.getLogger(__name__)

_held: ContextVar[Mapping[str, int]] = ContextVar("held_leases", default={})  # noqa: B039 (read only)


@dataclass(frozen=True)
class Home:
    """The settings with everything they point to, opened on first use."""

    settings: Settings

    @cached_property
    def catalog(self) -> Any:
        """Engine of the catalog."""
        return open_catalog(self.settings.catalog)

    @cached_property
    def vault(self) -> Any:
        """Engine of the vault; only the coordinator opens it."""
        return open_vault(self.settings.vault)

    @cached_property
    def names(self) -> Pseudonymiser:
        """Pseudonyms under this home's project key."""
        return Pseudonymiser(project_key(self.vault))

    @property
    def scenario_folders(self) -> tuple[Path, ...]:
        """Where scenarios are looked for: under the home first, then radloop's own."""
        return self.settings.home / "scenarios", data_folder("deployments") / "scenarios"

    def scenario(self, name: str, *, keep: bool = True) -> "Scenario":
        """Read a scenario by name, or from a file, which is then kept under the home.

        Flows know scenarios by name only, so a file must be kept before one runs; a command that
        only looks reads without keeping.
        """
        from tasks.scenario import load_scenario, scenario_hash

        scenario = load_scenario(name, self.scenario_folders)
        if not keep:
            return scenario
        path = Path(name)
        if path.suffix in (".yaml", ".yml") and path.is_file():
            self._keep(path, f"{scenario.name}.yaml")
        kept = self.settings.home / "scenarios" / "by-hash" / f"{scenario_hash(scenario)}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(scenario.model_dump_json(indent=1))
        return scenario

    def source(self, text: str, *, register: bool = True) -> "Source":
        """Return the source an alias or a place stands for, registering a place that is new."""
        from tasks.archive.sources import resolve_source

        known = {source.alias: source for source in self.sources()}
        if text in known:
            return known[text]
        source = resolve_source(text)
        same = next((old for old in known.values() if old.location == source.location), None)
        if same is not None or not register:
            return same or source
        put_source(self.vault, source)
        return get_source(self.vault, source.alias)

    @property
    def has_runs(self) -> bool:
        """Whether MLflow's database is there; looking must not make one."""
        uri = self.settings.tracking_uri
        return not uri.startswith("sqlite") or Path(uri.removeprefix("sqlite:///")).exists()

    def sources(self) -> list["Source"]:
        """Return the registered sources."""
        from tasks.archive.vault import list_sources

        return list_sources(self.vault)

    def _keep(self, path: Path, name: str) -> None:
        target = self.settings.home / "scenarios" / name
        if path.resolve() != target.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


@contextmanager
def lease(home: Home, name: str, role: str) -> Iterator[int]:
    """Hold a named lease while the block runs, so that two runs never overlap.

    A lease whose owner was a process of this host that is gone is taken over at once; an owner on
    another host is waited for until its heartbeat is too old.

    Parameters
    ----------
    home : Home
    name : str
        What is leased, e.g. ``store chest-xray``.
    role : str
        What the run is, for the message another run gets.

    Yields
    ------
    int
        Fencing number: a later holder has a larger one.

    Raises
    ------
    LeaseHeld
        When another run holds it and is alive.
    """
    owner = f"{role} {_process_token(psutil.Process())} {secrets.token_hex(4)}"
    fence = _acquire(home, name, owner)
    done = Event()

    def beat() -> None:
        while not done.wait(LEASE_SECONDS / 4):
            try:
                heartbeat_lease(home.catalog, name, owner, fence)
            except LeaseHeld:
                return
            except Exception as error:
                # A database that is away for a moment must not cost the lease.
                log.warning("no heartbeat for the lease %s: %s", name, type(error).__name__)

    thread = Thread(target=beat, name="lease", daemon=True)
    thread.start()
    token = _held.set({**_held.get(), name: fence})
    try:
        yield fence
    finally:
        _held.reset(token)
        done.set()
        thread.join(timeout=5)
        release_lease(home.catalog, name, owner, fence)


def store_lease(recipe_key: str) -> str:
    """Return the name of the lease on a recipe's parts of the store."""
    return f"store {recipe_key}"


def held_lease(name: str) -> tuple[str, int] | None:
    """Return a lease this run holds, as commits want it, or None."""
    fence = _held.get().get(name)
    return None if fence is None else (name, fence)


def _acquire(home: Home, name: str, owner: str) -> int:
    try:
        return acquire_lease(home.catalog, name, owner, ttl_s=LEASE_SECONDS)
    except LeaseHeld:
        holder = lease_holder(home.catalog, name)
        if holder is None or not _is_dead(holder[0]):
            raise
        release_lease(home.catalog, name, *holder)
        return acquire_lease(home.catalog, name, owner, ttl_s=LEASE_SECONDS)


def _process_token(process: psutil.Process) -> str:
    return f"on {socket.gethostname()} process {process.pid} of {process.create_time():.2f}"


def _is_dead(owner: str) -> bool:
    """Whether an owner was a process of this host that no longer runs."""
    found = re.search(r"on (\S+) process (\d+) of ", owner)
    if found is None or found[1] != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(found[2]))
        # A killed process that nobody has waited for keeps its number and does nothing any more.
        return process.status() == psutil.STATUS_ZOMBIE or _process_token(process) not in owner
    except psutil.NoSuchProcess:
        return True
