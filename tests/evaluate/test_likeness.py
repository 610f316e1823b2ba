"""One picture under two names is found however it was written anew; two patients never are one."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from tasks.evaluate.likeness import (
    ALIKE,
    SAME,
    Look,
    looks_of_part,
    pairs_that_look_the_same,
    signature,
)
from tests.store.making import case_name, prepared, write

DIFFERENT = 40


def picture(seed: int, shape: tuple[int, ...] = (1, 96, 80)) -> np.ndarray:
    """Draw a picture with structure of every size, in the grey values of a detector."""
    rng = np.random.default_rng(seed)
    noise = [rng.normal(size=shape) for _ in range(4)]
    sigmas = [tuple(s if n > 1 else 0 for n in shape) for s in (1, 2, 4, 8)]
    drawn = sum(
        gaussian_filter(one, s) * max(s) ** (len(shape) / 2)
        for one, s in zip(noise, sigmas, strict=True)
    )
    low, high = drawn.min(), drawn.max()
    return ((drawn - low) / (high - low) * 3000 + 100).astype(np.int16)


def jpeg(image: np.ndarray) -> np.ndarray:
    grey = (image[0] / 3100 * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=40)
    return np.asarray(Image.open(stream))[None]


def half(image: np.ndarray) -> np.ndarray:
    factors = [0.5 if size > 1 else 1 for size in image.shape]
    return zoom(image.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")


def noisy(image: np.ndarray) -> np.ndarray:
    return image + np.random.default_rng(0).normal(0, 60, image.shape)


COPIES = {
    "half the size": half,
    "twice the size": lambda image: zoom(
        image.astype(np.float32), [2 if n > 1 else 1 for n in image.shape], order=1, grid_mode=True,
        mode="nearest",
    ),
    "brighter": lambda image: image.astype(np.float32) * 1.4 + 300,
    "clipped": lambda image: np.clip(image, *np.percentile(image, (1, 99))),
    "noise": noisy,
    "mirrored": lambda image: image[:, :, ::-1],
    "upside down and smaller": lambda image: half(image)[:, ::-1],
    "negative": lambda image: 4000 - image,
}  # fmt: skip


def look(name: str, image: np.ndarray) -> Look:
    return Look(name, f"voxels of {name}", np.packbits(signature(image)).tobytes().hex())


def found(looks: list[Look], *, patients: dict[str, str] | None = None) -> list:
    place = {one.case_id: "test" if "copy" in one.case_id else "fold 0" for one in looks}
    return pairs_that_look_the_same(looks, place, patients or {name: name for name in place})


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("shape", [(1, 96, 80), (20, 48, 40)], ids=["picture", "volume"])
def test_a_copy_written_anew_is_found(how, shape):
    originals = [picture(seed, shape) for seed in range(DIFFERENT)]
    looks = [look(f"{n}", image) for n, image in enumerate(originals)]
    looks += [look(f"{n} copy", COPIES[how](originals[n])) for n in (3, 17, 29)]
    pairs = found(looks)
    assert {(p.first, p.second) for p in pairs} == {(f"{n}", f"{n} copy") for n in (3, 17, 29)}
    assert all(pair.differs <= SAME and not pair.identical for pair in pairs)


def test_a_jpeg_of_it_is_found():
    looks = [look(f"{seed}", picture(seed)) for seed in range(DIFFERENT)]
    (pair,) = found([*looks, look("copy", jpeg(picture(5)))])
    assert (pair.first, pair.second) == ("5", "copy")
    assert pair.differs <= SAME


def test_images_of_one_patient_or_of_one_place_may_look_the_same():
    looks = [look("a", picture(1)), look("a copy", picture(1))]
    assert len(found(looks)) == 1
    assert not found(looks, patients={"a": "p", "a copy": "p"})
    assert not pairs_that_look_the_same(
        looks, dict.fromkeys(("a", "a copy"), "fold 1"), {"a": "p", "a copy": "q"}
    )


def test_the_very_same_voxels_are_found_in_a_part_of_the_store(tmp_path):
    """Also in images too small for a signature; an image of one value is no picture of anybody."""

    def produce(case_id: str):
        case = prepared(case_name(int(case_id, 16) % 3), (3, 12, 12))
        return replace(case, array=np.zeros_like(case.array)) if case_id[-1] in "25" else case

    record = write(tmp_path, 6, (3, 12, 12), produce)
    looks = looks_of_part(str(tmp_path), record.path, record.digest)
    assert {one.case_id for one in looks} == {case_name(n) for n in (0, 1, 3, 4)}
    assert all(one.signature == "" for one in looks)
    place = {case_name(n): f"fold {n // 3}" for n in range(6)}
    pairs = pairs_that_look_the_same(looks, place, {name: name for name in place})
    assert {(p.first, p.second) for p in pairs} == {
        (case_name(0), case_name(3)), (case_name(1), case_name(4)),
    }  # fmt: skip
    assert all(pair.identical and pair.differs == 0 for pair in pairs)


def test_real_radiographs_of_different_patients_are_never_one(shared_data):
    import pydicom

    files = sorted((shared_data / "chest-xray" / "2016").rglob("*.dcm"))[:200]
    looks, patients = [], {}
    for number, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        looks.append(look(f"{number}", dataset.pixel_array[None]))
        patients[f"{number}"] = str(dataset.PatientID)
    assert len(set(patients.values())) > 100
    place = {name: f"place {name}" for name in patients}
    assert pairs_that_look_the_same(looks, place, patients) == []
    copy = look("copy", half(pydicom.dcmread(files[50]).pixel_array[None])[:, :, ::-1])
    (pair,) = pairs_that_look_the_same(
        [*looks, copy], place | {"copy": "test"}, patients | {"copy": "somebody"}
    )
    assert pair.first == "50"
    assert pair.differs <= SAME


def test_real_volumes_of_different_patients_are_never_one(shared_data):
    import nibabel

    files = sorted((shared_data / "hippocampus" / "imagesTr").glob("h*.nii.gz"))
    images = [np.asarray(nibabel.load(path).dataobj).T for path in files]
    assert len(images) > 50
    signs = [signature(image) for image in images]
    closest = min(np.mean(a != b) for a, b in itertools.combinations(signs, 2))
    assert closest > 2 * ALIKE
    looks = [look(f"{n}", image) for n, image in enumerate(images)]
    (pair,) = found([*looks, look("copy", half(images[7])[::-1])])
    assert (pair.first, pair.differs <= SAME) == ("7", True)
