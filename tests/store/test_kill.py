import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.store.verify import committed_parts, store_digest, verify_part
from tests.store.making import FIXED, case_name, write

KILLS = {"cases": 5, "packed": 30}
CASES = {"cases": 20, "packed": 30}
REPOSITORY = Path(__file__).resolve().parents[2]


def start(root: Path, log: Path, layout: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.making", root, log, str(CASES[layout]), layout],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> str:
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return text.strip()


@pytest.mark.parametrize("layout", ["cases", pytest.param("packed", marks=pytest.mark.slow)])
def test_a_writer_killed_at_random_moments_ends_in_the_same_store(tmp_path, layout):
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    begun = time.monotonic()
    digest = finish(start(calm, tmp_path / "calm.log", layout))
    whole = time.monotonic() - begun
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    log = tmp_path / "torn.log"
    kills = in_a_row = 0
    while kills < KILLS[layout]:
        begun = time.monotonic()
        process = start(torn, log, layout)
        # A resumed run is shorter than a calm one, so assembly and commit are hit too.
        try:
            process.wait(draw.uniform(0.3, 1.0) * whole)
            # It ended before its kill: the next one hits a store that is begun anew.
            assert finish(process) == digest
            check_the_end(torn, calm, log, layout, in_a_row)
            if in_a_row == 0:
                # What another program took of the machine made the calm run slower than this one.
                whole = time.monotonic() - begun
            shutil.rmtree(torn)
            log.unlink()
            in_a_row = 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            kills, in_a_row = kills + 1, in_a_row + 1
            for path in committed_parts(str(torn)):
                assert verify_part(str(torn), path) == ()
    assert finish(start(torn, log, layout)) == digest
    check_the_end(torn, calm, log, layout, in_a_row)


def check_the_end(torn: Path, calm: Path, log: Path, layout: str, kills: int) -> None:
    assert store_digest(str(torn)) == store_digest(str(calm))
    # A case whose production a kill cut short is made again; a finished one never is.
    produced = log.read_text().split()
    assert set(produced) == {case_name(number) for number in range(CASES[layout])}
    assert len(produced) <= CASES[layout] + kills
    assert not any((torn / "staging").iterdir())


def test_a_part_is_not_visible_before_its_commit_and_stands_after(tmp_path):
    """Kill the writer at every step of its commit in turn."""
    calm = write(tmp_path / "calm", CASES["packed"], FIXED).digest
    for owner, step, visible in (
        ("write", "write_manifest", 0),
        ("commit", "sync_tree", 0),
        ("commit", "sync_folder", 1),
        ("shutil", "rmtree", 1),
    ):
        root, log = tmp_path / step, tmp_path / f"{step}.log"
        program = (
            "import os, signal, sys, shutil\n"
            "from tasks.store import commit, write\n"
            "from tests.store import making\n"
            f"{owner}.{step} = lambda *a, **k: os.killpg(0, signal.SIGKILL)\n"
            f"sys.argv = ['', {str(root)!r}, {str(log)!r}, '{CASES['packed']}', 'packed']\n"
            "making.main()\n"
        )
        stopped = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, start_new_session=True, check=False
        )
        assert stopped.returncode == -signal.SIGKILL
        assert len(committed_parts(str(root))) == visible
        again = write(root, CASES["packed"], FIXED, lambda case_id: pytest.fail("made again"))
        assert again.digest == calm
        assert len(log.read_text().split()) == CASES["packed"]
        assert not any((root / "staging").iterdir())
