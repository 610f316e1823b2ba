"""Each imaging step beside the usual way to the same result, in one interleaved run.

    python benchmarks/bench_imaging.py [--slices 16] [--passes 3] [--only NAME ...] [--list]

A row is a name, our callable, the peer's name and callable, the bar (how many times as fast we
have to be), and how near the two results are.  Both sides get the same volume and one thread, so
seconds of the core are compared; passes alternate and the fastest of each counts.
Ends 1 when a bar is missed or two results that should be equal are not.

To add rows, write a function ``(volume) -> list of Row`` and put it into
`imaging_rows.TABLES`.
"""

import argparse
import os
import platform
import time

import cv2
import numpy as np
import SimpleITK
from imaging_rows import COLUMNS, ROWS, SIGMA, TABLES, Row
from scipy import ndimage
from threadpoolctl import threadpool_limits


def volume(slices: int) -> np.ndarray:
    """Return a CT-like int16 volume (z, y, x): a body with organs, in air, with noise."""
    rng = np.random.default_rng(0)
    y, x = np.indices((ROWS, COLUMNS))
    body = ((y - 256) / 190) ** 2 + ((x - 256) / 230) ** 2 < 1
    organs = ndimage.gaussian_filter(rng.normal(0, 1, (slices, ROWS, COLUMNS)), (2, 12, 12))
    clean = np.where(body, 40 + 200 * (organs > 0.004) - 60 * (organs < -0.004), -1000)
    return (clean + rng.normal(0, SIGMA, clean.shape)).astype(np.int16)


def measured(row: Row, passes: int) -> tuple[float, float, float]:
    """Return the fewest core seconds of both sides, alternating, and their largest difference."""
    ours, peers = [], []
    for _ in range(passes):
        begun = time.process_time()
        mine = row.ours()
        middle = time.process_time()
        theirs = row.peer()
        ours.append(middle - begun)
        peers.append(time.process_time() - middle)
    comparable = row.tolerance is not None
    apart = np.abs(mine - theirs.astype(np.float64)).max() if comparable else np.nan
    return min(ours), min(peers), float(apart)


def verdict(row: Row, ratio: float, apart: float) -> str:
    """Return what is wrong with a row, or nothing."""
    if ratio < row.bar:
        return f"MISSED: bar {row.bar:g}"
    if row.tolerance is not None and not apart <= row.tolerance:
        return f"NOT EQUAL: {apart:.2g} apart, tolerance {row.tolerance:g}"
    return ""


def main() -> int:
    """Print seconds, ratios and verdicts; return 1 when something is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slices", type=int, default=16, help="of 512 x 512; a full CT has 120")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="rows whose name begins so")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    threadpool_limits(1)
    array = volume(asked.slices)
    rows = [row for table in TABLES for row in table(array)]
    wanted = [row for row in rows if not asked.only or row.name.startswith(tuple(asked.only))]
    if asked.list:
        print("\n".join(f"{row.name} / {row.peer_name}" for row in wanted))
        return 0
    print(f"{platform.machine()}, {os.cpu_count()} cores, one thread, {array.shape} int16")
    print(f"{'step':22} {'ns/voxel':>9} {'peer':40} {'ns/voxel':>9} {'ratio':>7}")
    missed = 0
    for row in wanted:
        ours, peer, apart = measured(row, asked.passes)
        scale = 1e9 / (row.voxels or array.size)
        wrong = verdict(row, peer / ours, apart)
        missed += bool(wrong)
        remark = wrong or row.note or f"differ by {apart:.1g}"
        print(
            f"{row.name:22} {ours * scale:9.1f} {row.peer_name:40} {peer * scale:9.1f} "
            f"{peer / ours:6.1f}x  {remark}",
            flush=True,
        )
    print(f"{missed} of {len(wanted)} rows missed" if missed else "every bar is met")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
