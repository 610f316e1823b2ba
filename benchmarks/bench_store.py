"""Write and random-read speed of a part against zarr-python on the same voxels in the same run.

    python benchmarks/bench_store.py [--volumes 4] [--seconds 4]

Our write is the whole protocol (staging, digests, read back, manifest, sync, rename); zarr-python
writes with its defaults and promises none of it.  Passes alternate, so that other load on the
machine meets both.  The page cache is warm.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from scipy.ndimage import gaussian_filter

from tasks.store.read import open_part
from tasks.store.write import Prepared, write_part

SHAPE = (120, 320, 320)
PATCH = 96


def volume(seed: int) -> np.ndarray:
    """Return int16 noise as correlated as that of a CT, on air, (z, y, x)."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(0, 60, SHAPE).astype(np.float32), (0, 1, 1))
    y, x = np.indices(SHAPE[1:])
    body = ((y - 160) / 120) ** 2 + ((x - 160) / 150) ** 2 < 1
    return np.where(body, noise + 40, -1000).astype(np.int16)


def write_ours(root: Path, volumes: dict[str, np.ndarray]) -> str:
    """Write one committed part and return its path."""
    record = write_part(
        str(root),
        "a" * 32,
        "image",
        "b" * 32,
        list(volumes),
        lambda case_id: Prepared(volumes[case_id], np.eye(4), (), {}, {}),
        dtype="int16",
    )
    return record.path


def write_stock(root: Path, volumes: dict[str, np.ndarray]) -> None:
    """Write one zarr-python array a volume, all defaults."""
    group = zarr.open_group(str(root), mode="w")
    for case_id, array in volumes.items():
        group.create_array(case_id, shape=array.shape, dtype=array.dtype)[...] = array


def patches_a_second(read: Callable, names: list[str], seconds: float) -> float:
    """Return random 96-voxel cubes read a second."""
    rng = np.random.default_rng(1)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        start = [int(rng.integers(0, size - PATCH + 1)) for size in SHAPE]
        read(names[int(rng.integers(len(names)))], start)
        count += 1
    return count / (time.perf_counter() - begun)


def main() -> None:
    """Print megabytes and patches a second, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    asked = parser.parse_args()
    volumes = {f"{number:032x}": volume(number) for number in range(asked.volumes)}
    megabytes = sum(array.nbytes for array in volumes.values()) / 1e6
    seconds: dict[str, list[float]] = {"radloop": [], "zarr-python": []}
    core: dict[str, list[float]] = {"radloop": [], "zarr-python": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(3):
            ours, stock = Path(folder, f"ours{turn}"), Path(folder, f"stock{turn}")
            begun, work = time.perf_counter(), time.process_time()
            path = write_ours(ours, volumes)
            middle, work_ours = time.perf_counter(), time.process_time()
            write_stock(stock, volumes)
            seconds["radloop"].append(middle - begun)
            seconds["zarr-python"].append(time.perf_counter() - middle)
            core["radloop"].append(work_ours - work)
            core["zarr-python"].append(time.process_time() - work_ours)
        write = {name: megabytes / min(taken) for name, taken in seconds.items()}
        cost = {name: 1000 * min(taken) / megabytes for name, taken in core.items()}
        part = open_part(str(ours), path)
        group = zarr.open_group(str(stock), mode="r")
        same = zarr.open_group(str(ours / path), mode="r")
        arrays = {name: group[name] for name in volumes}
        sharded = {name: same[f"cases/{name}"] for name in volumes}

        def cut(array: zarr.Array, start: list[int]) -> np.ndarray:
            return array[tuple(slice(at, at + PATCH) for at in start)]

        readers = {
            "radloop": lambda name, at: part.read_patch(name, at, [i + PATCH for i in at]),
            "zarr-python": lambda name, at: cut(arrays[name], at),
            "zarr-python on our part": lambda name, at: cut(sharded[name], at),
        }
        read = {
            name: patches_a_second(reader, list(volumes), asked.seconds)
            for name, reader in readers.items()
        }
        sizes = {
            "radloop": sum(f.stat().st_size for f in (ours / path).rglob("*") if f.is_file()),
            "zarr-python": sum(f.stat().st_size for f in stock.rglob("*") if f.is_file()),
        }
    print(f"{len(volumes)} volumes of {SHAPE} int16, {megabytes:.0f} MB, warm")
    for name, speed in write.items():
        smaller = megabytes * 1e6 / sizes[name]
        print(
            f"write  {name:24s} {speed:8.0f} MB/s  {cost[name]:5.1f} core s/GB  1 : {smaller:.2f}"
        )
    faster, cheaper = write["radloop"] / write["zarr-python"], cost["zarr-python"] / cost["radloop"]
    print(f"       radloop is {faster:.1f} times as fast for 1/{cheaper:.1f} of the core time")
    for name, speed in read.items():
        ratio = read["radloop"] / speed
        print(f"read   {name:24s} {speed:8.1f} patches/s  radloop is {ratio:.1f} times that")


if __name__ == "__main__":
    main()
