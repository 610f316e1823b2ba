"""Other stores' readers and writers, run by bench_store.py in the peers' environment.

Reads one JSON command a line on standard input and answers in one line: so both processes take
turns, and neither works while the other is measured. Knows nothing of radloop.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import blosc2
import numpy as np
import tensorstore as ts
import zarr

NNUNET_CHUNK, NNUNET_BLOCK = (1, 144, 144, 144), (1, 64, 32, 32)
"""What nnU-Net 2.8.1 (`comp_blosc2_params`) chooses for patches of 96 and two bytes a voxel."""

EDGE = 64
CACHE_BYTES = 32 << 20


def _codec(**more: object) -> dict:
    return {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1, **more}


def write_nnunet(folder: Path, number: int, array: np.ndarray) -> None:
    """Write as nnU-Net does (`nnUNetDatasetBlosc2.save_case`): the smaller of two filters."""
    sizes = {}
    for kind in (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE):
        slab = np.ascontiguousarray(array[None, :144, 88:232, 88:232])
        tried = blosc2.asarray(slab, blocks=NNUNET_BLOCK, cparams=_codec(filters=[kind]))
        sizes[kind] = tried.schunk.cbytes
    blosc2.asarray(
        np.ascontiguousarray(array[None]),
        urlpath=str(folder / f"{number}.b2nd"),
        chunks=NNUNET_CHUNK,
        blocks=NNUNET_BLOCK,
        cparams=_codec(filters=[min(sizes, key=sizes.get)]),
    )


def write_zarr(folder: Path, number: int, array: np.ndarray) -> None:
    """Write one shard a volume with inner chunks of 64, checksums as ours."""
    codecs = [
        zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=2),
        zarr.codecs.Crc32cCodec(),
    ]
    shard = tuple(-(-size // EDGE) * EDGE for size in array.shape)
    zarr.create_array(
        str(folder / f"{number}.zarr"),
        shape=array.shape,
        dtype=array.dtype,
        chunks=(EDGE, EDGE, EDGE),
        shards=shard,
        compressors=codecs,
    )[...] = array


def openers(folder: Path, part: str, names: list[str]) -> dict[str, Callable]:
    """Return readers (number, start, stop) -> box, by name."""

    def nnunet(number: int, box: tuple[slice, ...]) -> np.ndarray:
        # Opened anew each time, as nnU-Net's loader does; the segmentation is left out.
        where = str(folder / "nnU-Net blosc2" / f"{number}.b2nd")
        array = blosc2.open(urlpath=where, mode="r", dparams={"nthreads": 1}, mmap_mode="r")
        return array[(slice(None), *box)][0]

    sharded = [
        zarr.open_array(str(folder / "zarr-python 64^3" / f"{number}.zarr"), mode="r")
        for number in range(len(names))
    ]
    ours = [zarr.open_array(f"{part}/cases/{name}/0", mode="r") for name in names]
    context = ts.Context(
        {
            "cache_pool": {"total_bytes_limit": CACHE_BYTES},
            "data_copy_concurrency": {"limit": 1},
            "file_io_concurrency": {"limit": 1},
        }
    )
    stored = [
        ts.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": f"{part}/cases/{name}/0"},
                "recheck_cached_data": "open",
            },
            read=True,
            open=True,
            context=context,
        ).result()
        for name in names
    ]
    return {
        "nnU-Net blosc2": nnunet,
        "zarr-python 64^3": lambda number, box: sharded[number][box],
        "zarr-python": lambda number, box: ours[number][box],
        "zarrs": lambda number, box: _by_zarrs(ours, number, box),
        "TensorStore": lambda number, box: stored[number][box].read().result(),
    }


_reopened: dict[int, zarr.Array] = {}


def _by_zarrs(arrays: list[zarr.Array], number: int, box: tuple[slice, ...]) -> np.ndarray:
    if number not in _reopened:
        # The pipeline is chosen when an array is opened.
        chosen = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}
        with zarr.config.set(chosen):
            _reopened[number] = zarr.open_array(arrays[number].store_path, mode="r")
    return _reopened[number][box]


def boxes_a_second(read: Callable, shape: list[int], box: list[int], n: int, spent: float) -> float:
    """Return random boxes read in a second of processor time."""
    rng, count, begun = np.random.default_rng(1), 0, time.process_time()
    while time.process_time() - begun < spent:
        start = [
            int(rng.integers(0, size - edge + 1)) for size, edge in zip(shape, box, strict=True)
        ]
        where = tuple(slice(low, low + edge) for low, edge in zip(start, box, strict=True))
        read(int(rng.integers(n)), where)
        count += 1
    return count / (time.process_time() - begun)


def main() -> None:
    """Answer commands until the input ends."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    blosc2.set_nthreads(1)
    volumes: list[np.ndarray] = []
    readers: dict[str, Callable] = {}
    writers = {"nnU-Net blosc2": write_nnunet, "zarr-python 64^3": write_zarr}
    for line in sys.stdin:
        asked = json.loads(line)
        answer: object = None
        if asked["do"] == "load":
            volumes = [np.load(path) for path in asked["paths"]]
        elif asked["do"] == "write":
            folder = Path(asked["folder"], asked["peer"])
            folder.mkdir(exist_ok=True)
            begun = time.process_time()
            for number, array in enumerate(volumes):
                writers[asked["peer"]](folder, number, array)
            answer = time.process_time() - begun
        elif asked["do"] == "open":
            readers = openers(Path(asked["folder"]), asked["part"], asked["names"])
            box = (slice(3, 99), slice(50, 146), slice(70, 166))
            answer = [
                name for name, read in readers.items()
                if not np.array_equal(read(1, box), volumes[1][box])
            ]  # fmt: skip
        elif asked["do"] == "read":
            shape = list(volumes[0].shape)
            read = readers[asked["peer"]]
            answer = boxes_a_second(read, shape, asked["box"], len(volumes), asked["seconds"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
