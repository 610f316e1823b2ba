"""Other data sets' loaders, run by bench_loader.py in the peers' environment.

Reads one JSON command a line on standard input and answers in one line, so both processes take
turns.  Knows nothing of radloop.  Each loader ends with float32 batches of image and mask.
"""

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

FOREGROUND = 1 / 3
"""Share of patches centred on foreground."""

warnings.filterwarnings("ignore")


def monai_loader(kind: str, asked: dict) -> Iterator[torch.Tensor]:
    """Yield batches of patches for ever, from CacheDataset or PersistentDataset.

    Patches are cut anywhere: MONAI's crops on foreground copy an index of all voxels each time,
    which makes them twenty times slower.
    """
    from monai.data import CacheDataset, DataLoader, PersistentDataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandSpatialCropSamplesd

    keys = ["image", "mask"]
    steps = Compose(
        [
            LoadImaged(keys, reader="NumpyReader", dtype=np.float32),
            EnsureChannelFirstd(keys, channel_dim="no_channel"),
            RandSpatialCropSamplesd(keys, asked["patch"], asked["crops"], random_size=False),
        ]
    ).set_random_state(0)
    rows = [{"image": i, "mask": m} for i, m in zip(asked["images"], asked["masks"], strict=True)]
    if kind == "PersistentDataset":
        data = PersistentDataset(rows, steps, cache_dir=Path(asked["folder"], "persistent"))
    else:
        copied = kind == "CacheDataset"
        data = CacheDataset(rows, steps, num_workers=1, progress=False, copy_cache=copied)
    # As MONAI's own collation does: a batch is all crops of one volume.
    loader = DataLoader(data, batch_size=1, shuffle=True, num_workers=0)
    while True:
        for batch in loader:
            yield batch["image"].as_tensor()


def torchio_loader(asked: dict) -> Iterator[torch.Tensor]:
    """Yield batches of patches for ever, from a TorchIO queue over NIfTI files."""
    import torchio

    subjects = [
        torchio.Subject(image=torchio.ScalarImage(i), mask=torchio.LabelMap(m))
        for i, m in zip(asked["nifti"], asked["nifti_masks"], strict=True)
    ]
    data = torchio.SubjectsDataset(subjects)
    share = {0: 1 - FOREGROUND, 1: FOREGROUND}
    sampler = torchio.LabelSampler(asked["patch"], "mask", label_probabilities=share)
    crops = asked["crops"]
    queue = torchio.Queue(data, 4 * crops, crops, sampler, num_workers=0)
    loader = torchio.SubjectsLoader(queue, batch_size=crops)
    while True:
        for batch in loader:
            yield batch["image"][torchio.DATA].to(torch.float32)


def patches(loader: Iterator[torch.Tensor], step: float, seconds: float) -> tuple[float, float]:
    """Return patches a second and the share of the time spent waiting; ``step`` is the work."""
    count, waited, begun = 0, 0.0, time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        batch = next(loader)
        waited += time.perf_counter() - now
        count += len(batch)
        time.sleep(step * len(batch))
    spent = time.perf_counter() - begun
    return count / spent, waited / spent


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    """Answer commands until the input ends."""
    torch.set_num_threads(1)
    loaders: dict[str, Iterator[torch.Tensor]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        answer: object = None
        if asked["do"] == "open":
            name = asked["peer"]
            before = _resident()
            made = torchio_loader(asked) if name == "TorchIO" else monai_loader(name, asked)
            first = next(made)
            if list(first.shape[2:]) != asked["patch"]:
                raise RuntimeError(f"{name} gives patches of {tuple(first.shape)}")
            loaders[name] = made
            answer = (_resident() - before) / 1e6
        elif asked["do"] == "read":
            answer = patches(loaders[asked["peer"]], asked["step"], asked["seconds"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
