"""Volumes for bench_loader.py, written for us and for the peers; and memory by number of cases."""

import json
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import SimpleITK
from scipy.ndimage import gaussian_filter

from tasks.hashing import digest_json
from tasks.learn.dataset import StoreCases, TrainingCase
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import plan_network
from tasks.learn.samples import Samples
from tasks.store.write import Prepared, write_part

SHAPE = (120, 512, 512)
READERS = 2

SMALL, PART_CASES, FEW, MANY = (8, 48, 48), 25, 300, 900
"""Volumes of the measure of memory, written in seconds; both numbers make more parts than stay
open."""


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int16 noise as correlated as that of a CT, on air, and a mask of an organ."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(0, 60, SHAPE).astype(np.float32), (0, 1, 1))
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((y - 256) / 190) ** 2 + ((x - 256) / 240) ** 2 < 1
    centre = rng.integers((40, 180, 180), (80, 330, 330))
    organ = ((z - centre[0]) / 25) ** 2 + ((y - centre[1]) / 60) ** 2 + (
        (x - centre[2]) / 50
    ) ** 2 < 1
    image = np.where(body, noise + 40 + 60 * organ, -1000).astype(np.int16)
    return image, organ.astype(np.uint8)


def write(
    root: Path,
    volumes: dict[str, tuple[np.ndarray, np.ndarray]],
    fixed_shape: tuple[int, int, int] | None = None,
) -> list[TrainingCase]:
    """Write an image part and a label part, packed when of one shape; return the cases."""
    ids, parts = list(volumes), {}
    for which, (kind, dtype) in enumerate((("image", "int16"), ("label", "uint8"))):

        def prepare(case_id: str, which: int = which) -> Prepared:
            return Prepared(volumes[case_id][which], np.eye(4), (), {}, {})

        parts[kind] = write_part(
            str(root), digest_json(kind), kind, digest_json("recipe"), ids, prepare, dtype=dtype,
            fixed_shape=fixed_shape,
            label_set_id=digest_json("labels") if kind == "label" else None,
        )  # fmt: skip
    image, label = parts["image"], parts["label"]
    return [
        TrainingCase(c, f"patient {c}", image.path, None, label.path, image.digest, label.digest)
        for c in ids
    ]


def write_for_peers(
    folder: Path, volumes: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, list[str]]:
    """Write the volumes as the peers read them: NumPy files and uncompressed NIfTI."""
    places: dict[str, list[str]] = {"images": [], "masks": [], "nifti": [], "nifti_masks": []}
    for case_id, pair in volumes.items():
        for name, array in zip(("images", "masks"), pair, strict=True):
            path = str(folder / f"{case_id}_{name}.npy")
            np.save(path, array)
            places[name].append(path)
        for name, array in zip(("nifti", "nifti_masks"), pair, strict=True):
            path = str(folder / f"{case_id}_{name}.nii")
            # NIfTI's first axis is our last; turned, so that all cut from arrays (z, y, x).
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array.transpose(2, 1, 0)), path)
            places[name].append(path)
    return places


def memory_slope(folder: Path) -> float:
    """Return kilobytes more for each more case: positions, open parts and an epoch's samples."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(-1000, 1000, SMALL, dtype=np.int16), np.zeros(SMALL, np.uint8)
    mask[2:6, 8:40, 8:40] = 1
    cases = []
    for part in range(0, MANY, PART_CASES):
        names = [f"{number:032x}" for number in range(part, part + PART_CASES)]
        written = write(folder / str(part), dict.fromkeys(names, (image, mask)), SMALL)
        cases += [_under(case, str(part)) for case in written]
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))
    script = (
        "import sys; sys.path.insert(0, sys.argv[3]); from pathlib import Path; "
        "import loader_data; print(loader_data.resident(Path(sys.argv[1]), int(sys.argv[2])))"
    )
    peaks = []
    for count in (FEW, MANY):
        # A process of its own: memory that another measure gave back would hide some of it.
        run = subprocess.run(
            [sys.executable, "-c", script, folder, str(count), Path(__file__).parent],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(float(run.stdout.split()[-1]))
    return (peaks[1] - peaks[0]) / (MANY - FEW)


def resident(folder: Path, count: int) -> float:
    """Return the kilobytes of this process after an epoch over so many small cases."""
    rows = json.loads((folder / "cases.json").read_text())[:count]
    cases = [TrainingCase(**row) for row in rows]
    candidate = NetworkCandidate(
        name="m", network="unet3d", patch=(8, 32, 32), batch=4, features=(4, 8)
    )
    plan = plan_network(candidate, task="segmentation", shape=SMALL, n_classes=2)
    source = StoreCases(str(folder), cases)
    samples = Samples(plan, source, [case.case_id for case in cases], {}, 0)
    for _ in samples.batches(0, 4, readers=READERS):
        pass
    return resident_kb()


def _under(case: TrainingCase, folder: str) -> TrainingCase:
    paths = (f"{folder}/{case.part_path}", f"{folder}/{case.label_part_path}")
    return replace(case, part_path=paths[0], label_part_path=paths[1])


def resident_kb() -> float:
    """Return the kilobytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024
