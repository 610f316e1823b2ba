"""Enhanced multi-frame: place, scale and meaning frame by frame."""

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import HTJ2KLossless, JPEGLSLossless
from scipy.spatial.transform import Rotation

from tasks.archive.enhanced import enhanced_frames
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume, read_volumes
from tasks.errors import BadCase
from tests.archive.made_enhanced import enhanced, save

NOISE = np.random.default_rng(0).integers(0, 4096, (6, 16, 12)).astype(np.uint16)


def ref(path):
    return FileRef(str(path), None, "", path.stat().st_size)


def place(n, step=2.5, rotation=None):
    row, column, normal = (rotation or Rotation.identity()).as_matrix().T
    return [tuple(np.array([-10.0, 5, 30]) + k * step * normal) for k in range(n)], (*row, *column)


@pytest.mark.parametrize("seed", range(4))
def test_frames_in_any_order_land_by_their_positions(tmp_path, seed):
    positions, orientation = place(6, rotation=Rotation.random(random_state=seed))
    shuffle = np.random.default_rng(seed).permutation(6)
    dataset = enhanced([positions[k] for k in shuffle], NOISE[shuffle], orientation=orientation)
    volume = read_volume("dicom", [ref(save(dataset, tmp_path / "a.dcm"))])
    np.testing.assert_array_equal(volume.array, NOISE)
    np.testing.assert_allclose(volume.affine[:3, 3], positions[0], atol=1e-6)
    assert volume.certificate["spacing"] == pytest.approx([2.5, 0.8, 0.7])


def test_each_frame_has_its_own_slope_and_intercept(tmp_path):
    slopes = [0.5, 1, 1.5, 2, 2.5, 3]
    dataset = enhanced(place(6)[0], NOISE, slopes=slopes)
    volume = read_volume("dicom", [ref(save(dataset, tmp_path / "a.dcm"))])
    expected = NOISE * np.array(slopes)[:, None, None] - 3
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)


def test_echoes_of_one_file_are_volumes_of_their_own(tmp_path):
    positions, _ = place(3)
    dataset = enhanced(positions * 2, NOISE, echoes=[4.6] * 3 + [9.2] * 3)
    file = ref(save(dataset, tmp_path / "a.dcm"))
    found = {volume.key: volume.array for volume in read_volumes("dicom", [file])}
    assert list(found) == ["te=4.6", "te=9.2"]
    np.testing.assert_array_equal(found["te=9.2"], NOISE[3:])
    np.testing.assert_array_equal(read_volume("dicom", [file], "te=4.6").array, NOISE[:3])
    with pytest.raises(BadCase, match=r"2 volumes.*te=4.6, te=9.2"):
        read_volume("dicom", [file])


def test_time_points_and_b_values_are_told_apart_together(tmp_path):
    positions, _ = place(2)
    dataset = enhanced(
        positions * 3, NOISE, b_values=[0, 0, 800, 800, 800, 800], times=[1, 1, 1, 1, 2, 2]
    )
    found = list(read_volumes("dicom", [ref(save(dataset, tmp_path / "a.dcm"))]))
    assert [volume.key for volume in found] == ["b=0,time=1", "b=800,time=1", "b=800,time=2"]
    np.testing.assert_array_equal(np.concatenate([v.array for v in found]), NOISE)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLSLossless, imagecodecs.jpegls_encode),
        (HTJ2KLossless, lambda frame: imagecodecs.htj2k_encode(frame, reversible=True)),
    ],
)
def test_compressed_frames_are_decoded_one_by_one(tmp_path, syntax, encode):
    streams = [bytes(encode(frame)) for frame in NOISE]
    dataset = enhanced(place(6)[0], NOISE, encoded=streams)
    volume = read_volume("dicom", [ref(save(dataset, tmp_path / "a.dcm", syntax))])
    np.testing.assert_array_equal(volume.array, NOISE)
    assert volume.facts["transfer_syntax"] == syntax


def test_groups_that_do_not_fit_the_frames_are_refused():
    dataset = enhanced(place(6)[0], NOISE)
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    with pytest.raises(BadCase, match="5 items of functional groups for 6 frames"):
        enhanced_frames(dataset)


def test_frames_without_positions_are_refused_not_stacked(tmp_path):
    dataset = enhanced(place(6)[0], NOISE)
    for own in dataset.PerFrameFunctionalGroupsSequence:
        del own.PlanePositionSequence
    with pytest.raises(BadCase) as caught:
        read_volume("dicom", [ref(save(dataset, tmp_path / "a.dcm"))])
    assert caught.value.reason == "missing_position"


def test_a_missing_frame_is_a_gap(tmp_path):
    positions = [p for k, p in enumerate(place(7)[0]) if k != 4]
    with pytest.raises(BadCase) as caught:
        read_volume("dicom", [ref(save(enhanced(positions, NOISE), tmp_path / "a.dcm"))])
    assert caught.value.reason == "missing_slices"
