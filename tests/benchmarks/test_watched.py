"""What a benchmark says a program took holds for everything that the program started."""

import json
import subprocess
import sys

import pytest

BURN_S = 0.6
HELD_MB = 200

ASK = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from benchmarks.watched import watch

kill = float(sys.argv[3]) or None
print(json.dumps(asdict(watch([sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), None, kill))))
"""

BURN = f"""
import time
while time.process_time() < {BURN_S}: pass
print("done", flush=True)
time.sleep(9)
"""

ORPHAN = f"""
import subprocess, sys
words = [sys.executable, "-c", {BURN!r}]
subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True).stdout.readline()
"""

SHARED = f"""
import os, time
held = bytearray(b"x") * ({HELD_MB} << 20)
for _ in range(3):
    if not os.fork():
        time.sleep(1.5)
        os._exit(0)
time.sleep(1.5)
for _ in range(3):
    os.wait()
"""

GROUP = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def watched(tmp_path):
    """Return a function that watches a program from a process of its own."""

    def ask(program: str, kill_after: float = 0.0) -> dict:
        # It takes in orphans and waits for any child: not in the tests' own process.
        words = [sys.executable, "-c", ASK, program, tmp_path / "log", str(kill_after)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return ask


def test_seconds_of_a_child_that_outlives_the_command_are_counted(watched):
    run = watched(ORPHAN)
    assert run["code"] == 0
    assert run["core"] >= BURN_S


def test_memory_that_processes_share_counts_once(watched):
    run = watched(SHARED)
    assert HELD_MB << 20 <= run["peak"] < 2 * HELD_MB << 20


def test_a_kill_takes_the_whole_group(watched):
    run = watched(GROUP, kill_after=3.0)
    assert run["code"] == -9
    child = int(run["said"])
    ended = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True)
    assert ended.stdout.strip()[:1] in ("", "Z")
