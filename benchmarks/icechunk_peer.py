"""Cases into Icechunk, run by bench_icechunk.py in the peers' environment.

    icechunk_peer.py FOLDER CASES BATCH

Writes one array a case and commits after each batch, as radloop commits after each part, going on
behind what is committed.  Prints a line of JSON after each commit, and one at the end.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import zarr

SHAPE = (8, 64, 64)


def case(number: int) -> np.ndarray:
    """Return a small case that its number alone decides, (z, y, x) int16."""
    return np.random.default_rng(number).normal(40, 60, SHAPE).astype(np.int16)


def main() -> None:
    """Write, then open anew and read."""
    # Not above: bench_icechunk.py takes its cases from here, in an environment without it.
    import icechunk

    folder, cases, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    storage = icechunk.local_filesystem_storage(folder)
    repository = icechunk.Repository.open_or_create(storage)
    codecs = [
        zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=2),
        zarr.codecs.Crc32cCodec(),
    ]
    seen = repository.readonly_session("main").store
    try:
        done = len(list(zarr.open_group(seen, mode="r").array_keys()))
    except FileNotFoundError:
        done = 0
    print(json.dumps({"resumed": done}), flush=True)
    for start in range(done, cases, batch):
        begun = time.process_time()
        session = repository.writable_session("main")
        group = zarr.open_group(session.store, mode="a")
        for number in range(start, start + batch):
            array = group.create_array(
                f"{number:08x}",
                shape=SHAPE,
                dtype="int16",
                chunks=SHAPE,
                compressors=codecs,
            )
            array[...] = case(number)
        middle = time.process_time()
        session.commit(f"{start}")
        spent = {"write": middle - begun, "commit": time.process_time() - middle}
        print(json.dumps({"cases": start + batch, **spent}), flush=True)
    begun = time.process_time()
    repository = icechunk.Repository.open(storage)
    group = zarr.open_group(repository.readonly_session("main").store, mode="r")
    names = [f"{number:08x}" for number in range(0, cases, max(1, cases // 50))]
    wrong = [
        name for name in names[:1] if not np.array_equal(group[name][...], case(int(name, 16)))
    ]
    opened = time.process_time() - begun
    wrong += [
        name for name in names[1:] if not np.array_equal(group[name][...], case(int(name, 16)))
    ]
    read = (time.process_time() - begun - opened) / max(1, len(names) - 1)
    size = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    answer = {
        "opened": opened,
        "read": read,
        "wrong": wrong,
        "files": len(size),
        "bytes": sum(size),
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
