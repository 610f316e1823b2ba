"""Leases: one owner at a time, and numbers that only grow."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from tasks.archive import leases
from tasks.archive.commits import (
    acquire_lease,
    heartbeat_lease,
    release_lease,
)
from tasks.archive.database import writing
from tasks.archive.tables import leases as leases_table
from tasks.errors import LeaseHeld

ROOT = Path(__file__).resolve().parents[2]


class TestLeases:
    def test_one_owner_at_a_time(self, catalog: Engine) -> None:
        fence = acquire_lease(catalog, "store", "one")
        with pytest.raises(LeaseHeld, match=r"held by one.*60 s"):
            acquire_lease(catalog, "store", "two")
        assert acquire_lease(catalog, "another", "two") == 1
        heartbeat_lease(catalog, "store", "one", fence)
        assert release_lease(catalog, "store", "one", fence)
        assert not release_lease(catalog, "store", "one", fence)
        assert acquire_lease(catalog, "store", "two") > fence

    def test_lease_without_heartbeat_is_taken_over_and_its_owner_fenced_out(
        self, catalog: Engine
    ) -> None:
        first = acquire_lease(catalog, "store", "one", ttl_s=0.2)
        with pytest.raises(LeaseHeld):
            acquire_lease(catalog, "store", "two", ttl_s=0.2)
        time.sleep(0.3)
        second = acquire_lease(catalog, "store", "two")
        assert second > first
        with pytest.raises(LeaseHeld, match="no longer held"):
            heartbeat_lease(catalog, "store", "one", first)
        assert not release_lease(catalog, "store", "one", first)
        heartbeat_lease(catalog, "store", "two", second)

    def test_heartbeat_keeps_it(self, catalog: Engine) -> None:
        fence = acquire_lease(catalog, "store", "one", ttl_s=1.0)
        for _ in range(4):
            time.sleep(0.4)
            heartbeat_lease(catalog, "store", "one", fence)
        with pytest.raises(LeaseHeld):
            acquire_lease(catalog, "store", "two")

    def test_heartbeat_from_the_future_does_not_hold_for_ever(self, catalog: Engine) -> None:
        acquire_lease(catalog, "store", "one")
        with writing(catalog) as connection:
            ahead = time.time() + 2 * leases.CLOCK_SLACK_S
            connection.execute(update(leases_table).values(heartbeat=ahead))
        assert acquire_lease(catalog, "store", "two") == 2

    def test_of_many_threads_exactly_one_acquires(self, catalog: Engine) -> None:
        for turn in range(5):
            won, lost = self.race(catalog, f"store {turn}", 8)
            assert (len(won), lost) == (1, 7)
            assert won == [1]

    @staticmethod
    def race(catalog: Engine, name: str, n: int) -> tuple[list[int], int]:
        start = threading.Barrier(n)
        won: list[int] = []
        lost: list[LeaseHeld] = []

        def trying(owner: str) -> None:
            start.wait()
            try:
                won.append(acquire_lease(catalog, name, owner))
            except LeaseHeld as error:
                lost.append(error)

        threads = [threading.Thread(target=trying, args=(f"owner {i}",)) for i in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return won, len(lost)

    def test_of_two_processes_exactly_one_acquires_and_numbers_only_grow(
        self, catalog: Engine, catalog_url: str
    ) -> None:
        code = (
            "import sys, time\n"
            "from tasks.archive.catalog import open_catalog\n"
            "from tasks.archive.commits import acquire_lease, release_lease\n"
            "from tasks.errors import LeaseHeld\n"
            "catalog, owner, got = open_catalog(sys.argv[1]), sys.argv[2], []\n"
            "while len(got) < 15:\n"
            "    try:\n"
            "        fence = acquire_lease(catalog, 'store', owner)\n"
            "    except LeaseHeld:\n"
            "        time.sleep(0.002)\n"
            "        continue\n"
            "    got.append(fence)\n"
            "    assert release_lease(catalog, 'store', owner, fence)\n"
            "    time.sleep(0.001)\n"
            "print(*got)\n"
        )
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, catalog_url, owner],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for owner in ("one", "two")
        ]
        fences = [[int(word) for word in p.communicate()[0].split()] for p in started]
        assert [p.returncode for p in started] == [0, 0]
        assert all(numbers == sorted(set(numbers)) for numbers in fences)
        # No number was given twice: the two never held the lease together.
        assert sorted(fences[0] + fences[1]) == list(range(1, 31))
