"""Other programs' preprocessing, run by bench_preprocess.py in the peers' environment.

    preprocess_peers.py run WAY OUT ASKED          the whole way, going on behind what is finished
    preprocess_peers.py mask OUT ASKED             one mask on the grid of dcm2niix, for nnU-Net
    preprocess_peers.py read WAY OUT ASKED NUMBER  one result as NumPy's file, (z, y, x) as in DICOM
    preprocess_peers.py digests WAY OUT ASKED      a digest of the voxels of every result, by series

ASKED is JSON: archive, mask, spacing and shape (z, y, x), clip, mean, std, processes.  Knows
nothing of radloop.  Every script skips what is there, and renames a file when it is whole, as a
careful user would have it; nnU-Net begins anew by itself.  No image is gzipped: it would only cost
time.  A stage is told as a line of JSON on standard output.
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")

DATASET = "Dataset001_Made"
CONFIGURATION = "3d_fullres"


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Tell what a stage took, its child processes counted."""
    begun, before = time.perf_counter(), _core()
    yield
    taken = {"stage": name, "wall": time.perf_counter() - begun, "core": _core() - before}
    print(json.dumps(taken), flush=True)


def _core() -> float:
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def series_in(asked: dict) -> list[Path]:
    """Return the folders of the archive's series."""
    return sorted(path for path in Path(asked["archive"]).iterdir() if path.is_dir())


def converted(folder: Path, out: Path) -> Path:
    """Return the NIfTI file of a series, made by dcm2niix unless it is there."""
    target = out / f"{folder.name}_0000.nii"
    if not target.exists():
        work = out.parent / f"making-{folder.name}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        program = Path(sys.executable).with_name("dcm2niix")
        words = [program, "-z", "n", "-b", "n", "-f", "x", "-o", work, folder]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        (work / "x.nii").rename(target)
        work.rmdir()
    return target


def convert(asked: dict, out: Path) -> list[Path]:
    """Convert all series by dcm2niix, side by side."""
    out.mkdir(parents=True, exist_ok=True)
    with stage("dcm2niix"), ThreadPoolExecutor(asked["processes"]) as pool:
        return list(pool.map(partial(converted, out=out), series_in(asked)))


def by_nnunet(asked: dict, out: Path) -> None:
    """Fingerprint, plan and preprocess, as nnUNetv2_plan_and_preprocess does."""
    raw, made = out / "raw" / DATASET, out / "preprocessed"
    for name, place in (("raw", out / "raw"), ("preprocessed", made), ("results", out / "results")):
        os.environ[f"nnUNet_{name}"] = str(place)
    images = convert(asked, raw / "imagesTr")
    (raw / "labelsTr").mkdir(exist_ok=True)
    for image in images:
        shutil.copy(asked["mask"], raw / "labelsTr" / image.name.replace("_0000", ""))
    facts = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(images),
        "file_ending": ".nii",
    }
    (raw / "dataset.json").write_text(json.dumps(facts))
    # They read the places when they are imported.
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    count = asked["processes"]
    with stage("fingerprint and plan"):
        api.extract_fingerprints([1], num_processes=count)
        api.plan_experiments([1], overwrite_target_spacing=tuple(asked["spacing"]))
        _give_intensities(asked, made / DATASET / "nnUNetPlans.json")
    with stage("preprocess"):
        api.preprocess([1], configurations=(CONFIGURATION,), num_processes=(count,))


def _give_intensities(asked: dict, plans: Path) -> None:
    """Put the asked figures where nnU-Net's fingerprint has its own: plans may be edited."""
    body = json.loads(plans.read_text())
    low, high = asked["clip"]
    body["foreground_intensity_properties_per_channel"]["0"] |= {
        "mean": asked["mean"],
        "std": asked["std"],
        "percentile_00_5": low,
        "percentile_99_5": high,
    }
    plans.write_text(json.dumps(body))


def by_monai(asked: dict, out: Path) -> None:
    """Let MONAI's transforms fill a PersistentDataset."""
    images = convert(asked, out / "nifti")
    with stage("import"):
        from monai.data import DataLoader
    with stage("transforms"):
        data = _persistent(asked, images, out)
        for _ in DataLoader(data, batch_size=1, num_workers=asked["processes"], collate_fn=len):
            pass


def _persistent(asked: dict, images: list[Path], out: Path) -> Sequence:
    from monai.data import PersistentDataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        ScaleIntensityRanged,
        Spacingd,
    )

    low, high = asked["clip"]
    scaled = [(end - asked["mean"]) / asked["std"] for end in (low, high)]
    steps = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            ScaleIntensityRanged("image", low, high, *scaled, clip=True),
            # Of the extent: the grid whose corners stay, as all others here have it.
            Spacingd("image", asked["spacing"][::-1], mode="bilinear", scale_extent=True),
        ]
    )
    return PersistentDataset([{"image": str(path)} for path in images], steps, out / "result")


def by_simpleitk(asked: dict, out: Path) -> None:
    """Read series, clip, scale, resample, write."""
    (out / "result").mkdir(parents=True, exist_ok=True)
    with stage("script"), ProcessPoolExecutor(asked["processes"]) as pool:
        list(pool.map(partial(_one_by_simpleitk, asked=asked, out=out), series_in(asked)))


def _one_by_simpleitk(folder: Path, asked: dict, out: Path) -> None:
    import SimpleITK

    target = out / "result" / f"{folder.name}.nii"
    if target.exists():
        return
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = SimpleITK.Clamp(reader.Execute(), SimpleITK.sitkFloat32, *asked["clip"])
    image = SimpleITK.ShiftScale(image, -asked["mean"], 1 / asked["std"], SimpleITK.sitkFloat32)
    spacing = asked["spacing"][::-1]
    moved = [(new - old) / 2 for new, old in zip(spacing, image.GetSpacing(), strict=True)]
    turn = np.reshape(image.GetDirection(), (3, 3))
    grid = SimpleITK.ResampleImageFilter()
    grid.SetSize(asked["shape"][::-1])
    grid.SetOutputSpacing(spacing)
    grid.SetOutputDirection(image.GetDirection())
    grid.SetOutputOrigin(np.add(image.GetOrigin(), turn @ moved).tolist())
    grid.SetInterpolator(SimpleITK.sitkLinear)
    grid.SetUseNearestNeighborExtrapolator(True)
    making = target.with_name(f"making-{target.name}")
    SimpleITK.WriteImage(grid.Execute(image), str(making))
    making.rename(target)


def by_torchio(asked: dict, out: Path) -> None:
    """Clamp, scale, resample, save."""
    images = convert(asked, out / "nifti")
    (out / "result").mkdir(exist_ok=True)
    with stage("transforms"), ProcessPoolExecutor(asked["processes"]) as pool:
        list(pool.map(partial(_one_by_torchio, asked=asked, out=out), images))


def _one_by_torchio(source: Path, asked: dict, out: Path) -> None:
    target = out / "result" / source.name.replace("_0000", "")
    if target.exists():
        return
    import torchio

    steps = torchio.Compose(
        [
            torchio.Clamp(*asked["clip"]),
            torchio.Lambda(lambda voxels: (voxels - asked["mean"]) / asked["std"]),
            torchio.Resample(tuple(asked["spacing"][::-1]), image_interpolation="linear"),
        ]
    )
    making = target.with_name(f"making-{target.name}")
    steps(torchio.ScalarImage(source)).save(making)
    making.rename(target)


WAYS: dict[str, Callable[[dict, Path], None]] = {
    "nnunet": by_nnunet,
    "monai": by_monai,
    "simpleitk": by_simpleitk,
    "torchio": by_torchio,
}


def make_mask(asked: dict, file: Path) -> None:
    """Write a ball of ones on the grid that dcm2niix gives the archive's first series."""
    import nibabel

    image = nibabel.load(converted(series_in(asked)[0], file.parent))
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij", sparse=True)
    ball = sum(axis**2 for axis in axes) < 0.2
    nibabel.save(nibabel.Nifti1Image(ball.astype(np.uint8), image.affine), file)


def read(way: str, asked: dict, out: Path, number: int) -> np.ndarray:
    """Return one result, (z, y, x) as DICOM has it: to the left, to the back, upwards."""
    import nibabel

    name = series_in(asked)[number].name
    if way == "nnunet":
        import blosc2

        place = out / "preprocessed" / DATASET / f"nnUNetPlans_{CONFIGURATION}" / f"{name}.b2nd"
        voxels = blosc2.open(str(place))[0].transpose(2, 1, 0)
        affine = nibabel.load(next((out / "raw").rglob(f"{name}_0000.nii"))).affine
    elif way == "monai":
        images = sorted((out / "nifti").glob("*.nii"))
        # What MONAI 1.6 keeps has lost its affine; resampling turns no axis.
        voxels = np.asarray(_persistent(asked, images, out)[number]["image"])[0]
        affine = nibabel.load(images[number]).affine
    else:
        image = nibabel.load(out / "result" / f"{name}.nii")
        voxels, affine = np.asarray(image.dataobj), image.affine
    turned = np.sign(np.diag(affine)[:3]) != (-1, -1, 1)
    return np.flip(voxels, np.flatnonzero(turned)).transpose(2, 1, 0)


def digests(way: str, asked: dict, out: Path) -> dict[str, str]:
    """Return a digest of the voxels of each series; empty where there is no result to read."""
    found = {}
    for number, folder in enumerate(series_in(asked)):
        try:
            voxels = np.ascontiguousarray(read(way, asked, out, number))
        except Exception as error:
            print(f"{folder.name}: {error}", file=sys.stderr)
            found[folder.name] = ""
        else:
            found[folder.name] = hashlib.sha256(voxels).hexdigest()
    return found


def main() -> None:
    """Do what the first word says."""
    what, *words = sys.argv[1:]
    if what == "mask":
        make_mask(json.loads(words[1]), Path(words[0]))
        return
    way, out, asked = words[0], Path(words[1]), json.loads(words[2])
    out.mkdir(parents=True, exist_ok=True)
    if what == "run":
        WAYS[way](asked, out)
    elif what == "digests":
        print(json.dumps(digests(way, asked, out)))
    else:
        np.save(out / "read.npy", read(way, asked, out, int(words[3])).astype(np.float32))


if __name__ == "__main__":
    main()
