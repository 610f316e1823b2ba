"""A scheduler and workers started by hand over TLS: the same store, and no stranger gets in."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.archive.catalog import open_catalog
from tasks.archive.commits import all_parts
from tasks.store.verify import committed_parts, store_digest
from tests.flows.running import Place
from tests.flows.servers import process, script
from tests.flows.tls import (
    KEY,
    certificates,
    dask_settings,
    scheduler,
    taken_in,
    wait_for_workers,
)

PATIENTS = 14

TLS_ALERT = b"\x15"
"""First byte of the record that says no (RFC 8446, section 6)."""

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Cluster:
    """A scheduler that listens with a certificate."""

    folder: Path
    pairs: Path
    settings: Path
    """Of the coordinator, for DASK_CONFIG."""
    address: str


@dataclass(frozen=True)
class Site:
    """Workers of the scheduler, and two homes with the same cases."""

    prepared: Place
    ours: Place
    """Settings of a coordinator."""
    workers: tuple[Path, ...]
    """Homes of the workers, which nothing shares."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The scheduler alone."""
    folder = tmp_path_factory.mktemp("tls")
    pairs = certificates(folder / "pairs", "coordinator", "first", "second")
    settings = dask_settings(folder / "etc", pairs, "coordinator")
    with scheduler(folder, settings) as address:
        yield Cluster(folder, pairs, settings, address)


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    """Two workers started by hand, each with a certificate and a home of its own."""
    folder = cluster.folder
    prepared = taken_in(folder, PATIENTS, seed=33)
    with ExitStack() as stack:
        stack.callback(prepared.close)
        more = {**prepared.more, "DASK_CONFIG": str(cluster.settings)}
        ours = prepared.copied(folder / "ours", more | {"RADLOOP_DASK_ADDRESS": cluster.address})
        homes = []
        for name in ("first", "second"):
            place = Place(folder / name)
            config = dask_settings(folder / name / "etc", cluster.pairs, name)
            env = place.environment() | {
                "DASK_CONFIG": str(config),
                "RADLOOP_STORE": str(ours.home / "store"),
                "RADLOOP_WORKER_KEY": KEY,
            }
            command = [script("dask"), "worker", cluster.address, "--nworkers=1", "--nthreads=1"]
            log = folder / f"{name}.log"
            stack.enter_context(process([*command, "--no-dashboard"], env, log))
            homes.append(place.home)
        wait_for_workers(folder / "scheduler.log", len(homes))
        yield Site(prepared, ours, tuple(homes))


@pytest.mark.slow
def test_workers_by_hand_make_the_very_store_of_local_ones(site: Site, tmp_path: Path) -> None:
    # With the same settings, which ask for TLS: local workers stay on loopback and need none.
    more = {name: value for name, value in site.ours.more.items() if "ADDRESS" not in name}
    local = site.prepared.copied(tmp_path / "local", more)
    for place in (local, site.ours):
        place.radloop("preprocess", "small-limb").ok()
    assert len(committed_parts(str(local.home / "store"))) >= 2
    assert store_digest(str(site.ours.home / "store")) == store_digest(str(local.home / "store"))
    # Each worker made its home when it was given a part, and no database in it.
    for home in site.workers:
        assert home.is_dir()
        assert not list(home.rglob("*.db"))


@pytest.mark.slow
def test_a_part_in_a_store_that_only_its_worker_has_is_not_committed(
    site: Site, tmp_path: Path
) -> None:
    elsewhere = {**site.ours.more, "RADLOOP_STORE": str(tmp_path / "elsewhere")}
    place = site.prepared.copied(tmp_path / "place", elsewhere)
    ran = place.radloop("preprocess", "small-limb")
    assert ran.code == 1
    assert "give RADLOOP_STORE of every host the same folder or bucket" in ran.err
    catalog = open_catalog(f"sqlite:///{place.home / 'catalog.db'}")
    try:
        assert list(all_parts(catalog)) == []
    finally:
        catalog.dispose()


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A pair of an authority that the cluster does not know."""
    return certificates(tmp_path / "stranger", "stranger")


def test_a_client_with_a_certificate_of_ours_is_answered(cluster: Cluster) -> None:
    assert _said(cluster, cluster.pairs / "first")


def test_a_client_without_a_certificate_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ssl.SSLError, match="certificate required"):
        _said(cluster, None)


def test_a_client_of_another_authority_is_refused(cluster: Cluster, stranger: Path) -> None:
    # It even bears the name of ours, so that its signature is looked at.
    with pytest.raises(ssl.SSLError, match=r"alert (unknown ca|decrypt error)"):
        _said(cluster, stranger / "stranger")


def test_a_client_in_clear_is_not_answered(cluster: Cluster) -> None:
    heard = b""
    with socket.create_connection(_address(cluster), timeout=60) as plain:
        # A scheduler in clear would begin to speak now, with the length of its first frame.
        plain.sendall(bytes(16))
        with suppress(ConnectionResetError):
            heard = plain.recv(64)
    assert heard[:1] in (b"", TLS_ALERT)


def _address(cluster: Cluster) -> tuple[str, int]:
    host, port = cluster.address.removeprefix("tls://").split(":")
    return host, int(port)


def _said(cluster: Cluster, pair: Path | None) -> bytes:
    """Return the first bytes that the scheduler sends to whoever has this pair."""
    context = ssl.create_default_context(cafile=str(cluster.pairs / "ca.pem"))
    context.check_hostname = False
    if pair:
        context.load_cert_chain(f"{pair}.pem", f"{pair}.key")
    with (
        socket.create_connection(_address(cluster), timeout=30) as plain,
        context.wrap_socket(plain) as channel,
    ):
        return channel.recv(8)
