"""A home: scenarios kept, sources registered once, leases that outlive nobody."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.home import Home, held_lease, lease
from flows.settings import load_settings
from tasks.archive.leases import acquire_lease, lease_holder, release_lease
from tasks.errors import LeaseHeld, ScenarioError
from tests.flows.conftest import LIMB

HOLDER = """\
import sys, time
from pathlib import Path
from flows.home import Home, lease
from flows.settings import load_settings
with lease(Home(load_settings(Path(sys.argv[1]))), "store limb", "preprocess") as fence:
    print(fence, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(load_settings(tmp_path / "home"))
    yield made
    made.catalog.dispose()
    made.vault.dispose()


@pytest.fixture
def holder(home: Home) -> Iterator[subprocess.Popen]:
    """Another process that holds the lease ``store limb``."""
    home.catalog  # noqa: B018 (made here, so that two processes do not migrate it at once)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, home.settings.home], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline().strip() == "1"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_scenario_file_is_kept_under_the_home_and_found_by_name(home, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(LIMB)
    first = home.scenario(str(path))
    path.unlink()
    assert home.scenario("small-limb") == first
    assert len(list((home.settings.home / "scenarios" / "by-hash").iterdir())) == 1


def test_every_scenario_that_ran_stays_readable_by_its_hash(home, tmp_path):
    path = tmp_path / "mine.yaml"
    for epochs in (2, 3):
        path.write_text(LIMB.replace("epochs: 2", f"epochs: {epochs}"))
        home.scenario(str(path))
    kept = list((home.settings.home / "scenarios" / "by-hash").iterdir())
    assert len(kept) == 2
    assert home.scenario("small-limb").candidates[0].epochs == 3


def test_a_scenario_of_the_home_comes_before_one_that_ships(home):
    shipped = home.scenario("demo-limb")
    folder = home.settings.home / "scenarios"
    (folder / "demo-limb.yaml").write_text(LIMB.replace("name: small-limb", "name: demo-limb"))
    assert home.scenario("demo-limb") != shipped


def test_an_unknown_scenario_names_the_nearest(home):
    with pytest.raises(ScenarioError, match="nearest is 'hippocampus'"):
        home.scenario("hipocampus")


def test_a_place_is_registered_once_and_named_by_no_part_of_its_path(home, tmp_path):
    place = tmp_path / "Mustermann_Erika"
    place.mkdir()
    first = home.source(str(place))
    assert "mustermann" not in first.alias.lower()
    assert home.source(str(place)).alias == first.alias
    assert home.source(first.alias) == first
    assert [source.alias for source in home.sources()] == [first.alias]


def test_a_place_with_an_alias_is_found_under_it(home, tmp_path):
    from tasks.archive.sources import resolve_source
    from tasks.archive.vault import put_source

    place = tmp_path / "archive"
    place.mkdir()
    put_source(home.vault, resolve_source(str(place), alias="ct"))
    assert home.source(str(place)).alias == "ct"
    assert home.source(str(place / "..") + "/archive").alias == "ct"


def test_two_homes_give_the_same_person_different_pseudonyms(home, tmp_path):
    other = Home(load_settings(tmp_path / "other"))
    assert home.names.key("patient", "P1") != other.names.key("patient", "P1")
    again = Home(load_settings(home.settings.home))
    assert again.names.key("patient", "P1") == home.names.key("patient", "P1")
    for one in (other, again):
        one.vault.dispose()


def test_a_lease_is_held_within_the_block_and_free_after_it(home):
    with lease(home, "store limb", "preprocess") as fence:
        assert held_lease("store limb") == ("store limb", fence)
        with pytest.raises(LeaseHeld, match="preprocess"), lease(home, "store limb", "train"):
            pass
        with lease(home, "store chest", "preprocess"):
            assert held_lease("store limb") == ("store limb", fence)
    assert held_lease("store limb") is None
    with lease(home, "store limb", "train") as later:
        assert later > fence


def test_a_lease_is_free_after_an_error(home):
    with pytest.raises(ValueError, match="broke"), lease(home, "x", "train"):
        raise ValueError("broke")
    with lease(home, "x", "train"):
        pass
    names = [thread.name for thread in threading.enumerate()]
    assert "lease" not in names


def test_the_lease_of_another_living_process_is_refused(home, holder):
    with (
        pytest.raises(LeaseHeld, match="preprocess") as refusal,
        lease(home, "store limb", "train"),
    ):
        pass
    assert "\n" not in str(refusal.value)
    assert holder.poll() is None


@pytest.mark.parametrize("reaped", [True, False])
def test_the_lease_of_a_killed_process_is_taken_over_at_once(home, holder, reaped):
    os.kill(holder.pid, signal.SIGKILL)
    if reaped:
        holder.wait()
    else:
        # Nobody has waited for it yet: its number is still taken, by a process that is no more.
        wait_until_zombie(holder.pid)
    begun = time.monotonic()
    with lease(home, "store limb", "preprocess") as fence:
        assert fence > 1
    assert time.monotonic() - begun < 30


def wait_until_zombie(pid: int) -> None:
    import psutil

    deadline = time.monotonic() + 30
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_lease_of_another_host_is_waited_for(home):
    """Whether a process lives on another host cannot be seen from here."""
    owner = "preprocess on elsewhere process 1 of 0.00 abcd"
    fence = acquire_lease(home.catalog, "store limb", owner, ttl_s=60)
    with pytest.raises(LeaseHeld, match="elsewhere"), lease(home, "store limb", "train"):
        pass
    assert lease_holder(home.catalog, "store limb") == (owner, fence)
    release_lease(home.catalog, "store limb", owner, fence)
    with lease(home, "store limb", "train"):
        pass
