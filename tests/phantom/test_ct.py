"""The small series says nothing true but positions, so that readers cannot lean on the rest."""

import numpy as np
import pytest
from pydicom import dcmread

from tasks.phantom.ct import write_ct_series


def headers(folder):
    return [dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def test_numbers_and_names_are_shuffled_and_thickness_lies(tmp_path):
    truth = write_ct_series(tmp_path, shape=(12, 16, 18), seed=3)
    found = headers(tmp_path)
    heights = [float(h.ImagePositionPatient[2]) for h in found]
    assert [int(h.InstanceNumber) for h in found] == list(range(1, 13))
    assert heights != sorted(heights)
    assert heights != sorted(heights, reverse=True)
    assert float(found[0].SliceThickness) != pytest.approx(truth.affine[2, 0])


def test_each_file_holds_its_slice_of_the_truth(tmp_path):
    truth = write_ct_series(tmp_path, seed=4, tilt_deg=10)
    for header in headers(tmp_path):
        place = np.array([float(v) for v in header.ImagePositionPatient] + [1])
        z, y, x, _ = np.linalg.solve(truth.affine, place)
        assert (y, x) == pytest.approx((0, 0), abs=1e-6)
        stored = header.pixel_array.astype(int) + int(header.RescaleIntercept)
        np.testing.assert_array_equal(stored, truth.array[round(z)])


def test_faults_are_written_as_asked(tmp_path):
    write_ct_series(tmp_path, shape=(8, 16, 16), missing=[3], duplicates=[5, 6], volumes=2)
    found = headers(tmp_path)
    assert len(found) == 7 * 2 + 2
    assert len({h.SOPInstanceUID for h in found}) == len(found)
    heights = {float(h.ImagePositionPatient[2]) for h in found}
    assert 40 + 3 * 2.5 not in heights
    assert len(heights) == 7


def test_same_seed_same_bytes(tmp_path):
    for name in "ab":
        write_ct_series(tmp_path / name, seed=9)
    pairs = zip(sorted((tmp_path / "a").iterdir()), sorted((tmp_path / "b").iterdir()), strict=True)
    assert all(a.read_bytes() == b.read_bytes() for a, b in pairs)
