"""Our commit beside Icechunk's: what a kill leaves, what growth costs, up to 100,000 small cases.

    python benchmarks/bench_icechunk.py [--cases 2000] [--batch 100] [--kills 6]

The same small cases (int16, 64 kB), codecs and checksums; a batch is our part and Icechunk's
commit. Icechunk runs in the peers' environment (`make bench` makes it), never at the same time as
ours. Times are of the processor; the growth of a commit is fitted by a line over the measured
series and drawn out to 100,000 cases, which is an estimate and is printed as one. The decision it
stands behind: docs/decisions/0013-own-commit-not-icechunk.md.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from icechunk_peer import SHAPE, case

from tasks.store.read import open_part
from tasks.store.schema import part_id
from tasks.store.verify import committed_parts, verify_part
from tasks.store.write import Prepared, write_part

PEERS = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin" / "python"
RECIPE = "b" * 32
FAR = 100_000

KILLED_BATCHES = 8
"""Commits of a run that is killed in its middle."""


def name(number: int) -> str:
    """Return the id of a case."""
    return f"{number:032x}"


def write_ours(root: Path, cases: int, batch: int) -> list[dict]:
    """Write part after part; return processor seconds of each."""
    rows = []
    for start in range(0, cases, batch):
        begun = time.process_time()
        names = [name(number) for number in range(start, start + batch)]
        write_part(
            str(root),
            part_id(names, RECIPE, "image"),
            "image",
            RECIPE,
            names,
            lambda case_id: Prepared(case(int(case_id, 16)), np.eye(4), (), {}, {}),
            dtype="int16",
        )
        rows.append({"cases": start + batch, "spent": time.process_time() - begun})
    return rows


def run_peer(folder: Path, cases: int, batch: int, wait: float | None = None) -> list[dict]:
    """Write with Icechunk, and kill it after ``wait`` seconds; return its lines."""
    script = Path(__file__).with_name("icechunk_peer.py")
    return _run([PEERS, script, folder, cases, batch], wait)


def run_ours(folder: Path, cases: int, batch: int, wait: float | None = None) -> list[dict]:
    """Write our parts in a process of their own, and kill it after ``wait`` seconds."""
    return _run([sys.executable, __file__, "--only-write", folder, cases, batch], wait)


def _run(words: list, wait: float | None) -> list[dict]:
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    killed = False
    try:
        out, _ = process.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        killed = True
    # Icechunk prints a warning of its own among them; a killed process leaves half a line.
    rows = [json.loads(line) for line in out.split("\n")[:-1] if line.startswith("{")]
    return [*rows, {"killed": killed}]


def growth(sizes: list[int], seconds: list[float]) -> tuple[float, float]:
    """Return intercept and slope of the second half of a series: the first pays the warm-up."""
    half = len(sizes) // 2
    slope, start = np.polyfit(sizes[half:], seconds[half:], 1)
    if slope <= 0:
        # Nothing grows that could be told from noise.
        return float(np.mean(seconds[half:])), 0.0
    return float(start), float(slope)


def kill_both(work: Path, kills: int, batch: int) -> dict[str, dict]:
    """Kill both writers at random moments of their work; return what stands after, by name."""
    cases = KILLED_BATCHES * batch
    found: dict[str, dict] = {}
    for who, run in (("radloop", run_ours), ("Icechunk", run_peer)):
        draw = random.Random(1)
        begun = time.monotonic()
        run(work / f"calm {who}", cases, batch)
        whole = time.monotonic() - begun
        hit = torn = left = 0
        for turn in range(kills):
            folder = work / f"killed {who} {turn}"
            hit += run(folder, cases, batch, draw.uniform(0.3, 0.95) * whole)[-1]["killed"]
            if who == "radloop":
                torn += sum(len(verify_part(str(folder), p)) for p in committed_parts(str(folder)))
            last = run(folder, cases, batch)
            if who == "Icechunk":
                torn += len(last[-2]["wrong"])
            left += _bytes(folder) - _bytes(work / f"calm {who}")
        found[who] = {"hit": hit, "torn": torn, "left": left, "of": hit * _bytes(folder)}
    return found


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Print the tables; 1 when anything of ours was torn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--only-write", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only_write:
        folder, cases, batch = asked.only_write
        for row in write_ours(Path(folder), int(cases), int(batch)):
            print(json.dumps(row), flush=True)
        return 0
    if not PEERS.exists():
        print("the peers are not installed: run `make bench`, which makes .venv-peers")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        theirs = run_peer(work / "icechunk", asked.cases, asked.batch)
        ours = run_ours(work / "ours", asked.cases, asked.batch)
        begun = time.process_time()
        part = open_part(str(work / "ours"), committed_parts(str(work / "ours"))[0])
        part.read(part.case_ids[0])
        opened = time.process_time() - begun
        sizes = _bytes(work / "icechunk"), _bytes(work / "ours")
        killed = kill_both(work, asked.kills, asked.batch) if asked.kills else {}
    commits = [row for row in theirs if "commit" in row]
    rows = [row["cases"] for row in commits]
    megabytes = asked.cases * np.prod(SHAPE) * 2 / 1e6
    print(f"{asked.cases} cases of {SHAPE} int16, {megabytes:.0f} MB, a commit each {asked.batch}")
    print(f"         {'cases':>8s} {'Icechunk write':>16s} {'its commit':>12s} {'our part':>10s}")
    for at in sorted({0, len(rows) // 4, len(rows) // 2, len(rows) - 1}):
        one = commits[at]
        print(
            f"s        {one['cases']:8d} {one['write']:16.2f} {one['commit']:12.3f} "
            f"{ours[at]['spent']:10.2f}"
        )
    for title, series in (
        ("Icechunk's commit", [row["commit"] for row in commits]),
        ("our part", [row["spent"] for row in ours if "spent" in row]),
    ):
        start, slope = growth(rows, series)
        total = sum(start + slope * at for at in range(asked.batch, FAR + 1, asked.batch))
        grows = f"{1e6 * slope:.2f} us for each case there is" if slope else (
            f"none above the noise of {len(rows) - len(rows) // 2} commits"
        )  # fmt: skip
        print(
            f"growth   {title:18s} {grows}; at {FAR:,} about {start + slope * FAR:.2f} s a commit, "
            f"{total / 60:.0f} min for all (estimate)"
        )
    print(f"open     Icechunk {1000 * theirs[-2]['opened']:.0f} ms, a part {1000 * opened:.1f} ms")
    print(f"bytes    Icechunk {sizes[0] / 1e6:.1f} MB, ours {sizes[1] / 1e6:.1f} MB")
    for who, facts in killed.items():
        print(
            f"killed   {who:8s} {facts['hit']} times, then run to its end: {facts['torn']} torn, "
            f"{facts['left'] / 1e6:.1f} of {facts['of'] / 1e6:.1f} MB left over"
        )
    return int(bool(killed) and killed["radloop"]["torn"] > 0)


if __name__ == "__main__":
    sys.exit(main())
