"""Results of images whose slices are frames of one file, or do not lie as evenly as they should."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from tasks.archive.catalog import Case
from tasks.archive.choice import parse_choice
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import FileRef
from tasks.archive.standin import stand_ins
from tasks.serve.dicom_out import Maker, write_dicom
from tasks.serve.results import PredictionRow
from tests.archive.made_dicom import header
from tests.archive.made_enhanced import enhanced, save
from tests.serve.dicom_cases import SEGMENTATION, errors_of, judged
from tests.serve.test_dicom_out import world

NAMES = Pseudonymiser(b"k" * 32)
MAKER = Maker(NAMES, SEGMENTATION, "radloop 0.0")
CASE = Case("c" * 32, "a" * 32, "b" * 32, "d" * 32, None, "dicom", "new", 1, {"modality": "MR"})
ROW = PredictionRow(CASE.case_id, measures={"ball ml": 1.0, "cube ml": 0.0})

SLICES, ROWS, COLUMNS = 6, 16, 12
ECHOES = (15.0, 60.0)


def ref(path):
    return FileRef(str(path), None, "", Path(path).stat().st_size)


def test_a_mask_of_an_enhanced_series_names_the_frames_it_lies_on(tmp_path):
    """Two echoes in one file, frames in any order; the second echo is the volume that is meant."""
    turn = Rotation.random(random_state=3).as_matrix()
    places = [np.array([-10.0, 5, 30]) + k * 2.5 * turn[:, 2] for k in range(SLICES)]
    order = np.random.default_rng(1).permutation(2 * SLICES)
    pixels = np.zeros((2 * SLICES, ROWS, COLUMNS), np.uint16)
    dataset = enhanced(
        [tuple(places[k % SLICES]) for k in order],
        pixels,
        orientation=(*turn[:, 0], *turn[:, 1]),
        echoes=[ECHOES[k // SLICES] for k in order],
    )
    dataset.FrameOfReferenceUID = "1.2.3.4"
    path = save(dataset, tmp_path / "a.dcm")
    images = stand_ins(CASE, [ref(path)], NAMES, parse_choice({"te": ["60"]}))
    mask = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    mask[1:5, 3:9, 2:7] = 1
    made = write_dicom(tmp_path, ROW, images, MAKER, mask=mask)
    assert made.why_no_seg == ""
    assert errors_of(made.seg) == errors_of(made.sr) == []
    seg = dcmread(made.seg)
    assert len(seg.PerFrameFunctionalGroupsSequence) == 4
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        number = int(order[source.ReferencedFrameNumber - 1])
        assert number // SLICES == 1
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, places[number % SLICES], atol=1e-4)
    index = np.argwhere(mask == 1)
    cosines = np.stack([2.5 * turn[:, 2], 0.8 * turn[:, 1], 0.7 * turn[:, 0]], axis=1)
    wanted = index @ cosines.T + places[0]
    back = world(seg, 1)
    by = np.lexsort(np.round(wanted, 1).T), np.lexsort(np.round(back, 1).T)
    np.testing.assert_allclose(back[by[1]], wanted[by[0]], atol=0.01)
    named = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(named) == 1


@pytest.mark.parametrize(
    "sop_class", ["1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.3.1"]
)
@pytest.mark.parametrize("sized", [True, False])
def test_a_single_image_of_a_class_that_may_have_frames_has_its_mask(tmp_path, sop_class, sized):
    """A radiograph of an angiography system, and a still of ultrasound stored as multi-frame."""
    dataset = header(1, SOPClassUID=sop_class, Modality="XA", NumberOfFrames="1",
                     ImagePositionPatient=None, ImageOrientationPatient=None)  # fmt: skip
    if not sized:
        del dataset.PixelSpacing
    images = stand_ins(CASE, [ref(save(dataset, tmp_path / "a.dcm"))], NAMES)
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 1:3, 1:3] = 1
    unit = "mm2" if sized else "px"
    row = replace(ROW, measures={f"ball {unit}": 4.0, f"cube {unit}": 0.0})
    made = write_dicom(tmp_path, row, images, MAKER, mask=mask)
    assert made.why_no_seg == ""
    assert errors_of(made.seg) == errors_of(made.sr) == []
    seg = dcmread(made.seg)
    np.testing.assert_array_equal(seg.pixel_array, mask[0])
    spacings = [item.value for item in seg.iterall() if item.keyword == "PixelSpacing"]
    assert spacings == ([[0.5, 0.75]] if sized else [])


def changed(one, change):
    """Change the files of a case in place and return stand-ins for what they are now."""
    files = []
    for number, file in enumerate(sorted(one.files, key=lambda one: one.path)):
        dataset = dcmread(file.path)
        change(number, dataset)
        dataset.save_as(file.path)
        files.append(ref(file.path))
    return stand_ins(one.case, files, one.home.names)


def test_a_direction_that_differs_in_its_last_digit_is_one_direction(tmp_path):
    one = judged(tmp_path)

    def jitter(number, dataset):
        dataset.ImageOrientationPatient = [1, number * 1e-7, 0, 0, 1, 0]

    made = write_dicom(tmp_path, one.volumes(), changed(one, jitter), one.maker(), mask=one.mask)
    assert made.why_no_seg == ""
    assert errors_of(made.seg) == []


def test_slices_that_lie_unevenly_keep_each_its_own_place(tmp_path):
    one = judged(tmp_path)
    moved = {}

    def shift(number, dataset):
        x, y, z = dataset.ImagePositionPatient
        moved[float(z)] = float(z) + (0.8 if number == 2 else 0.0)
        dataset.ImagePositionPatient = [x, y, moved[float(z)]]

    images = changed(one, shift)
    made = write_dicom(tmp_path, one.volumes(), images, one.maker(), mask=one.mask)
    assert errors_of(made.seg) == []
    index = np.argwhere(one.mask == 1)
    wanted = index @ one.truth.affine[:3, :3].T + one.truth.affine[:3, 3]
    heights = {round(z, 3): to for z, to in moved.items()}
    wanted[:, 2] = [heights[round(z, 3)] for z in wanted[:, 2]]
    back = world(dcmread(made.seg), 1)
    by = np.lexsort(np.round(wanted, 2).T), np.lexsort(np.round(back, 2).T)
    np.testing.assert_allclose(back[by[1]], wanted[by[0]], atol=1e-3)
