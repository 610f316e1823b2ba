"""One series, one volume, on its own grid and in real units; what is no plain volume is refused."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from scipy.spatial.transform import Rotation

from tasks.archive.sources import FileRef
from tasks.archive.volume import read_mask, read_volume, write_nifti
from tasks.errors import BadCase
from tasks.phantom.ct import write_ct_series


def ref(path):
    return FileRef(str(path), None, "", path.stat().st_size)


def refs(folder):
    return [ref(path) for path in sorted(Path(folder).rglob("*")) if path.is_file()]


def change(folder, edit, only=slice(None)):
    for path in sorted(Path(folder).glob("*.dcm"))[only]:
        dataset = dcmread(path)
        edit(dataset)
        dataset.save_as(path)


def refusal(files, kind="dicom"):
    with pytest.raises(BadCase) as caught:
        read_volume(kind, files)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1])
def test_compressed_series_equals_its_truth(tmp_path, syntax):
    truth = write_ct_series(tmp_path, shape=(3, 32, 40), syntax=syntax)
    volume = read_volume("dicom", refs(tmp_path))
    np.testing.assert_array_equal(volume.array, truth.array)
    assert volume.facts["transfer_syntax"] == syntax


@pytest.mark.parametrize("seed", range(6))
def test_oblique_series_lands_where_it_was_written(tmp_path, seed):
    row, column, _ = Rotation.random(random_state=seed).as_matrix().T
    truth = write_ct_series(tmp_path, orientation=[*row, *column], seed=seed)
    files = refs(tmp_path)
    volume = read_volume("dicom", files)
    np.testing.assert_array_equal(volume.array, truth.array)
    np.testing.assert_allclose(volume.affine, truth.affine, atol=1e-5)
    backwards = read_volume("dicom", files[::-1])
    np.testing.assert_array_equal(backwards.array, volume.array)
    np.testing.assert_array_equal(backwards.affine, volume.affine)


def test_whole_hounsfield_units_are_int16(tmp_path):
    write_ct_series(tmp_path)
    volume = read_volume("dicom", refs(tmp_path))
    assert volume.array.dtype == np.int16
    assert volume.certificate["spacing"] == pytest.approx([2.5, 0.8, 0.7])
    assert volume.facts["frames"] == 8


def test_each_slice_has_its_own_slope(tmp_path):
    slopes = np.linspace(0.5, 2, 8)
    truth = write_ct_series(tmp_path, slopes=slopes, modality="MR")
    volume = read_volume("dicom", refs(tmp_path))
    assert volume.array.dtype == np.float32
    rounded = np.array([float(f"{s:g}") for s in slopes])
    np.testing.assert_allclose(volume.array, truth.array * (rounded / slopes)[:, None, None], 1e-6)


def test_values_beyond_16_bits_widen_the_whole_volume(tmp_path):
    truth = write_ct_series(tmp_path, slopes=[1, 1, 1, 1, 40, 1, 1, 1])
    volume = read_volume("dicom", refs(tmp_path))
    assert volume.array.dtype == np.int32
    np.testing.assert_array_equal(volume.array, truth.array)


def test_ct_padding_becomes_air(tmp_path):
    write_ct_series(tmp_path)

    def pad(dataset):
        dataset.PixelRepresentation = 1
        dataset.BitsStored, dataset.HighBit = 16, 15
        pixels = np.frombuffer(dataset.PixelData, "<i2").reshape(32, 40).copy()
        pixels[:3] = -2000
        dataset.PixelData = pixels.tobytes()
        dataset.add_new(0x00280120, "SS", -2000)

    change(tmp_path, pad)
    array = read_volume("dicom", refs(tmp_path)).array
    assert np.all(array[:, :3] == -1024)
    assert array[:, 3:].max() > 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"missing": [3]}, "missing_slices"),
        ({"duplicates": [2]}, "duplicate_positions"),
        ({"volumes": 2}, "needs_4d_grouping"),
        ({"tilt_deg": 12}, "gantry_tilt"),
    ],
)
def test_faulty_stacks_are_refused_with_the_reason(tmp_path, fault, reason):
    write_ct_series(tmp_path, **fault)
    assert refusal(refs(tmp_path)) == reason


def set_type(*words):
    return lambda dataset: setattr(dataset, "ImageType", list(words))


@pytest.mark.parametrize(
    ("edit", "only", "reason"),
    [
        (set_type("ORIGINAL", "PRIMARY", "LOCALIZER"), slice(None), "localizer"),
        (set_type("ORIGINAL", "PRIMARY", "LOCALIZER"), slice(0, 1), "localizer"),
        (set_type("DERIVED", "SECONDARY", "MPR"), slice(0, 1), "mixed_image_types"),
        (set_type("ORIGINAL", "PRIMARY", "M", "MOSAIC"), slice(None), "needs_4d_grouping"),
        (lambda d: setattr(d, "NumberOfFrames", "2"), slice(0, 1), "needs_multiframe"),
        (lambda d: setattr(d, "PixelSpacing", [1, 1]), slice(0, 1), "mixed_spacing"),
        (lambda d: setattr(d, "FrameOfReferenceUID", "2.25.9"), slice(0, 1),
         "mixed_frame_of_reference"),
        (lambda d: delattr(d, "ImagePositionPatient"), slice(0, 1), "missing_position"),
        (lambda d: setattr(d, "Modality", "DX"), slice(None), "several_images"),
        (lambda d: setattr(d, "RescaleSlope", "0"), slice(0, 1), "invalid_rescale"),
        (lambda d: delattr(d, "PixelData"), slice(0, 1), "no_pixel_data"),
    ],
)  # fmt: skip
def test_what_is_no_plain_volume_is_refused(tmp_path, edit, only, reason):
    write_ct_series(tmp_path)
    change(tmp_path, edit, only)
    assert refusal(refs(tmp_path)) == reason


def test_uneven_slices_are_refused_with_the_distance(tmp_path):
    write_ct_series(tmp_path)

    def slide(dataset):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 0.9 * (z == 47.5)]

    change(tmp_path, slide)
    with pytest.raises(BadCase, match="mm off an even spacing") as caught:
        read_volume("dicom", refs(tmp_path))
    assert caught.value.reason == "uneven_spacing"


def test_a_damaged_element_is_a_reason_and_quotes_nothing(tmp_path):
    write_ct_series(tmp_path, shape=(2, 32, 40))
    path = sorted(tmp_path.glob("*.dcm"))[0]
    data = path.read_bytes()
    place = data.index(b"\x28\x00\x10\x00US")  # Rows gets a value representation of no kind
    path.write_bytes(data[: place + 4] + b"UG" + data[place + 6 :])
    with pytest.raises(BadCase) as caught:
        read_volume("dicom", refs(tmp_path))
    assert caught.value.reason in {"invalid_header", "not_dicom", "not_an_image"}
    assert "UG" not in caught.value.detail


def test_the_same_content_twice_is_read_once(tmp_path):
    write_ct_series(tmp_path)
    files = [FileRef(r.path, None, "", r.size) for r in refs(tmp_path)]
    volume = read_volume("dicom", [*files, files[0]])
    assert volume.array.shape[0] == 8


def test_one_ct_slice_is_a_volume_of_one(tmp_path):
    truth = write_ct_series(tmp_path, shape=(1, 32, 40))
    volume = read_volume("dicom", refs(tmp_path))
    assert volume.certificate["reason"] == "single_slice"
    np.testing.assert_array_equal(volume.array, truth.array)


def test_unknown_kind_and_no_files_are_usage_errors(tmp_path):
    with pytest.raises(ValueError, match="kind must be"):
        read_volume("bitmap", [FileRef("a", None, "", 1)])
    with pytest.raises(ValueError, match="at least one file"):
        read_volume("dicom", [])


def test_real_body_ct_stands_on_the_grid_of_its_segmentation(shared_data):
    nibabel = pytest.importorskip("nibabel")
    volume = read_volume("dicom", refs(shared_data / "dicom/ct_siemens_body"))
    assert volume.array.shape == (20, 512, 512)
    assert volume.array.dtype == np.int16
    reference = nibabel.load(shared_data / "dicom/ct_siemens_body_seg.nii.gz")
    # World space decides: the reference stores its rows the other way round.
    ras = np.diag([-1, -1, 1, 1]) @ volume.affine
    corners = np.array([[0, 0, 0, 1], [19, 511, 511, 1], [0, 511, 0, 1], [19, 0, 511, 1]]).T
    index = np.linalg.solve(reference.affine, ras @ corners)
    np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
    assert index[:3].min() > -1e-3
    assert np.all(index[:3].max(axis=1) < np.array([512, 512, 20]) - 1 + 1e-3)
    mask = read_mask(ref(shared_data / "dicom/ct_siemens_body_seg.nii.gz"), volume)
    aorta_like, femur_like = volume.array[mask == 52].mean(), volume.array[mask == 69].mean()
    assert 100 < aorta_like < 300 < femur_like < 1000
    assert volume.array[mask == 20].mean() < -500  # a bowel or lung label full of air


def test_real_body_ct_equals_pydicoms_own_pixels(shared_data):
    files = refs(shared_data / "dicom/ct_siemens_body")
    volume = read_volume("dicom", files)
    for file in files[::7]:
        dataset = dcmread(file.path)
        z = round((float(dataset.ImagePositionPatient[2]) - volume.affine[2, 3]) / 2)
        stored = dataset.pixel_array.astype(int)
        expected = stored * int(dataset.RescaleSlope) + int(dataset.RescaleIntercept)
        np.testing.assert_array_equal(volume.array[z], expected)


def test_real_three_slice_ct_keeps_positions_and_air(shared_data):
    volume = read_volume("dicom", refs(shared_data / "dicom/seg/ct-3slice"))
    expected = [-235.199997, -226.800003, -128.690002]
    np.testing.assert_allclose(volume.affine[:3, 3], expected, atol=1e-9)
    assert volume.certificate["spacing"][0] == pytest.approx(1.0)  # not the thickness, 1.25
    assert volume.array.min() == -1024


@pytest.mark.parametrize(
    "series",
    ["mr_philips_func", "mr_siemens_epi/mr_0003", "mr_siemens_epi/mr_0006", "transfer_syntaxes"],
)
def test_real_4d_and_mosaic_series_need_grouping(shared_data, series):
    assert refusal(refs(shared_data / "dicom" / series)) == "needs_4d_grouping"


def test_real_segmentation_object_is_no_image(shared_data):
    assert refusal(refs(shared_data / "dicom/seg/24x38x3_seg")) == "not_an_image"


def test_nifti_of_a_series_reads_back_as_the_same_volume(tmp_path):
    row, column, _ = Rotation.random(random_state=4).as_matrix().T
    write_ct_series(tmp_path / "dicom", orientation=[*row, *column])
    volume = read_volume("dicom", refs(tmp_path / "dicom"))
    write_nifti(tmp_path / "a.nii.gz", volume.array, volume.affine)
    again = read_volume("nifti", [ref(tmp_path / "a.nii.gz")])
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
