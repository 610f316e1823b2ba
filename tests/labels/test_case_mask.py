"""A segmentation is laid on the image it was drawn on, and on no other."""

import numpy as np
import pytest

from tasks.archive.sources import FileRef, digest_of
from tasks.archive.volume import Volume
from tasks.errors import BadCase
from tasks.labels.case_mask import read_labels
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
