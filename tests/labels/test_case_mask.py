"""A segmentation is laid on the image it was drawn on, and on no other."""

import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from tasks.archive.orders import OrderCase
from tasks.archive.sources import FileRef, digest_of
from tasks.archive.volume import Volume
from tasks.errors import BadCase
from tasks.labels.case_mask import case_mask, read_labels
from tasks.labels.config import LabelConfig
from tests.labels.grids import ORIENTATIONS, SHAPE
from tests.labels.test_masks import FRAME, seg_file, two_balls


def laid(data: bytes, affine, tmp_path, frame: str = FRAME) -> np.ndarray:
    path = tmp_path / "1.dcm"
    path.write_bytes(data)
    like = Volume(np.zeros(SHAPE, np.int16), affine, {}, frame=frame)
    return read_labels(FileRef(str(path), None, digest_of(data).hex(), len(data)), like)


@pytest.mark.parametrize(("second", "dtype"), [(2, np.uint8), (300, np.uint16)])
def test_a_label_map_of_dicom_comes_back_in_its_numbers(second, dtype, tmp_path):
    affine = ORIENTATIONS["oblique"]
    large, small = two_balls(affine)
    data = seg_file(affine, [large & ~small, small], "LABELMAP", (1, second))
    found = laid(data, affine, tmp_path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.where(small, second, large))


def test_a_segmentation_drawn_elsewhere_is_refused_and_never_background(tmp_path):
    affine = ORIENTATIONS["oblique"]
    moved = affine.copy()
    moved[:3, 3] += (400.0, 0.0, 0.0)
    with pytest.raises(BadCase, match=r"mask_grid.*segment 1 is at voxel"):
        laid(seg_file(moved, two_balls(affine)[:1]), affine, tmp_path)
    with pytest.raises(BadCase, match=r"mask_grid.*another frame of reference"):
        laid(seg_file(affine, two_balls(affine)[:1]), affine, tmp_path, frame="1.2.3")
    # A file of other formats tells no frame of reference; there the place alone can be compared.
    assert laid(seg_file(affine, two_balls(affine)[:1]), affine, tmp_path, frame="").any()


def test_a_segment_without_a_voxel_is_no_reason_to_refuse(tmp_path):
    affine = ORIENTATIONS["axial"]
    mask = two_balls(affine)[0]
    found = laid(seg_file(affine, [mask, np.zeros_like(mask)]), affine, tmp_path)
    np.testing.assert_array_equal(found, mask)


AXIAL = ORIENTATIONS["axial"]


def in_order(*labels: str, affine=AXIAL) -> bytes:
    """Return two balls that share no voxel, the large one first, under these labels."""
    large, small = two_balls(affine)
    ds = pydicom.dcmread(io.BytesIO(seg_file(affine, [large & ~small, small])))
    ds.SpecificCharacterSet = "ISO_IR 192"
    for item, label in zip(ds.SegmentSequence, labels, strict=True):
        item.SegmentLabel = label
    stream = io.BytesIO()
    ds.save_as(stream)
    return stream.getvalue()


def masked(data: bytes, tmp_path, affine=AXIAL, numbers=None, **labels) -> np.ndarray:
    path = tmp_path / "1.dcm"
    path.write_bytes(data)
    config = LabelConfig(format="masks", file="m", join="accession", **labels)
    ref = FileRef(str(path), None, digest_of(data).hex(), len(data))
    case = OrderCase("c", "dicom", (), ref, numbers=numbers)
    case = replace(case, classes=config.classes, named=config.named)
    return case_mask(case, Volume(np.zeros(SHAPE, np.int16), affine, {}, frame=FRAME))


@pytest.mark.parametrize("affine", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_segments_are_told_by_their_labels_whatever_their_order(affine, tmp_path):
    large, small = two_balls(affine)
    expected = np.where(small, 2, large)
    by_name = {"classes": ["oedema", "core"], "segments": {"oedema": ["Edema", "Oedema"]}}
    found = masked(in_order("OEDEMA", "Core", affine=affine), tmp_path, affine, **by_name)
    np.testing.assert_array_equal(found, expected)
    # The same labels on the other segments: the classes go with them, not with the numbers.
    found = masked(in_order("core", "edema", affine=affine), tmp_path, affine, **by_name)
    np.testing.assert_array_equal(found, np.where(small, 1, large * 2))
    for labels, reason in (
        (("edema", "necrosis"), "segment_missing"),
        (("core", "core"), "segment_repeated"),
    ):
        with pytest.raises(BadCase, match=reason):
            masked(in_order(*labels, affine=affine), tmp_path, affine, **by_name)


def test_segments_in_another_order_than_their_labels_say_are_never_swapped(tmp_path):
    classes = ["oedema", "core"]
    right, wrong = in_order("Edema", "Core"), in_order("Core", "Edema")
    large, small = two_balls(AXIAL)
    found = masked(right, tmp_path, classes=classes)
    np.testing.assert_array_equal(found, np.where(small, 2, large))
    with pytest.raises(BadCase, match=r"segments_swapped: segment 1 is labelled as the class core"):
        masked(wrong, tmp_path, classes=classes)
    # Labels that are no class of the scenario say nothing, as before.
    np.testing.assert_array_equal(masked(in_order("a", "b"), tmp_path, classes=classes), found)


@pytest.mark.parametrize("classes", [["肝", "肿瘤"], ["HER2+", "HER2-"], ["опухоль", "отёк"]])
def test_names_of_any_script_and_signs_tell_segments_apart(classes, tmp_path):
    large, small = two_balls(AXIAL)
    found = masked(in_order(*classes), tmp_path, classes=classes)
    np.testing.assert_array_equal(found, np.where(small, 2, large))
    with pytest.raises(BadCase, match="segments_swapped"):
        masked(in_order(*reversed(classes)), tmp_path, classes=classes)


def test_a_year_that_numbers_the_classes_otherwise_is_no_swap(tmp_path):
    classes, numbers = ["core", "oedema"], ((1, 2), (2, 1))
    large, small = two_balls(AXIAL)
    found = masked(in_order("oedema", "core"), tmp_path, numbers=numbers, classes=classes)
    np.testing.assert_array_equal(found, np.where(small, 1, large * 2))
    with pytest.raises(BadCase, match=r"segments_swapped: segment 1 is labelled as the class core"):
        masked(in_order("core", "oedema"), tmp_path, numbers=numbers, classes=classes)


def test_a_label_map_cannot_be_told_by_name(tmp_path):
    config = LabelConfig(
        format="masks", file="m", join="accession", classes=["a"], segments={"a": ["b"]}
    )
    path = tmp_path / "1.nii.gz"
    path.write_bytes(b"")
    ref = FileRef(str(path), None, digest_of(b"").hex(), 0)
    like = Volume(np.zeros(SHAPE, np.int16), AXIAL, {})
    with pytest.raises(BadCase, match="not_a_mask: a label map names no segments"):
        case_mask(OrderCase("c", "dicom", (), ref, named=config.named), like)
