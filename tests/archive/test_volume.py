"""One series, one volume, on its own grid and in real units; what is no plain volume is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from scipy.spatial.transform import Rotation

from tasks.archive.nifti import read_mask, write_nifti
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume, read_volumes
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


def two_frames(dataset):
    dataset.NumberOfFrames = "2"
    dataset.PixelData = dataset.PixelData * 2


def set_type(*words):
    return lambda dataset: setattr(dataset, "ImageType", list(words))


@pytest.mark.parametrize(
    ("edit", "only", "reason"),
    [
        (set_type("ORIGINAL", "PRIMARY", "LOCALIZER"), slice(None), "localizer"),
        (set_type("DERIVED", "SECONDARY", "MPR"), slice(0, 1), "several_volumes"),
        (set_type("ORIGINAL", "PRIMARY", "M", "MOSAIC"), slice(None), "mosaic_header"),
        (lambda d: setattr(d, "NumberOfFrames", "2"), slice(0, 1), "truncated"),
        (two_frames, slice(None), "missing_position"),
        (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"), slice(None),
         "secondary_capture"),
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
    ("series", "keys", "shape"),
    [
        ("mr_philips_func", ["time=1", "time=2", "time=3"], (35, 80, 80)),
        ("mr_siemens_epi/mr_0003", ["acquisition=1", "acquisition=2"], (5, 72, 72)),
    ],
)
def test_real_repeated_stacks_are_volumes_of_their_own(shared_data, series, keys, shape):
    files = refs(shared_data / "dicom" / series)
    found = list(read_volumes("dicom", files[::-1]))
    assert [volume.key for volume in found] == keys
    assert all(volume.array.shape == shape for volume in found)
    last = read_volume("dicom", files, keys[-1])
    np.testing.assert_array_equal(last.array, found[-1].array)


def test_several_volumes_are_refused_until_one_is_named(shared_data):
    assert refusal(refs(shared_data / "dicom/mr_siemens_epi/mr_0006")) == "several_volumes"


def test_repeats_without_a_field_that_tells_them_apart_are_refused(shared_data):
    assert refusal(refs(shared_data / "dicom/transfer_syntaxes")) == "needs_4d_grouping"


def test_a_volume_that_is_not_there_is_named(shared_data):
    with pytest.raises(BadCase, match=r"'te=9' is not in this series; it holds acquisition=1, "):
        read_volume("dicom", refs(shared_data / "dicom/mr_siemens_epi/mr_0003"), "te=9")


def test_scouts_in_a_series_are_left_out_and_noted(tmp_path):
    truth = write_ct_series(tmp_path)
    scout = dcmread(sorted(tmp_path.glob("*.dcm"))[0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = "2.25.5"
    scout.save_as(tmp_path / "scout.dcm")
    volume = read_volume("dicom", refs(tmp_path))
    np.testing.assert_array_equal(volume.array, truth.array)
    assert volume.certificate["notes"] == ["1 localizer images left out"]


def test_screen_captures_in_a_series_are_left_out_and_noted(tmp_path):
    truth = write_ct_series(tmp_path)
    capture = dcmread(sorted(tmp_path.glob("*.dcm"))[0])
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    capture.SOPInstanceUID = capture.file_meta.MediaStorageSOPInstanceUID = "2.25.6"
    capture.save_as(tmp_path / "capture.dcm")
    volume = read_volume("dicom", refs(tmp_path))
    np.testing.assert_array_equal(volume.array, truth.array)
    assert volume.certificate["notes"] == ["1 screen captures left out"]


def test_a_real_stream_that_contradicts_its_header_is_read_in_the_headers_sign():
    """A CT whose JPEG 2000 stream says unsigned and whose Pixel Representation says signed.

    Only signed values are Hounsfield units: air at -1000 and padding at -2000, not 62 % of all
    voxels beyond 4000.
    """
    path = Path(get_testdata_file("J2K_pixelrep_mismatch.dcm"))
    array = read_volume("dicom", [ref(path)]).array[0]
    expected = dcmread(path).pixel_array
    np.testing.assert_array_equal(array, expected)
    assert (array.min(), array.max()) == (-2000, 1896)
    import SimpleITK

    gdcm = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0]
    np.testing.assert_array_equal(array, gdcm)


def test_a_tilted_stack_is_straightened_only_when_asked(tmp_path):
    write_ct_series(tmp_path, tilt_deg=12)
    with pytest.raises(BadCase, match=r"leans 12\.00 degrees"):
        read_volume("dicom", refs(tmp_path))
    volume = read_volume("dicom", refs(tmp_path), straighten=True)
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert volume.certificate["verdict"] == "resample"
    assert volume.certificate["notes"] == [
        "resampled: shift each slice within its plane, 12.00 degrees in all"
    ]
    assert volume.array.shape[1] > 32
    assert volume.array.min() >= -1024


def test_an_instance_stored_twice_counts_once(tmp_path):
    truth = write_ct_series(tmp_path)
    path = sorted(tmp_path.glob("*.dcm"))[0]
    (tmp_path / "again.dcm").write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read_volume("dicom", refs(tmp_path)).array, truth.array)


def test_each_radiograph_of_a_series_is_a_picture_of_its_own(tmp_path):
    write_ct_series(tmp_path, shape=(2, 32, 40))
    change(tmp_path, lambda dataset: setattr(dataset, "Modality", "DX"))
    found = list(read_volumes("dicom", refs(tmp_path)))
    assert len({volume.key for volume in found}) == 2
    assert all(re.fullmatch("image=[0-9a-f]{8}", volume.key) for volume in found)
    assert all(volume.array.shape == (1, 32, 40) for volume in found)
    assert all(volume.certificate["orientation"] == "image plane" for volume in found)


def test_a_cine_is_its_frames_in_time(tmp_path):
    write_ct_series(tmp_path, shape=(1, 32, 40))
    frames = np.random.default_rng(3).integers(0, 4096, (5, 32, 40)).astype("<u2")

    def cine(dataset):
        dataset.Modality, dataset.NumberOfFrames = "XA", "5"
        dataset.PixelData = frames.tobytes()
        del dataset.RescaleSlope, dataset.RescaleIntercept

    change(tmp_path, cine)
    volume = read_volume("dicom", refs(tmp_path))
    np.testing.assert_array_equal(volume.array, frames)
    assert volume.facts["axis"] == "time"
    assert volume.certificate["n_frames"] == 5


def test_a_volume_that_cannot_be_used_does_not_hide_the_others(tmp_path):
    write_ct_series(tmp_path, volumes=2)
    paths = sorted(tmp_path.glob("*.dcm"))
    for path in paths:
        dataset = dcmread(path)
        dataset.EchoTime = "10" if dataset.SOPInstanceUID in _first_copies(paths) else "20"
        dataset.save_as(path)
    lost = next(p for p in paths if float(dcmread(p).EchoTime) == 20 and _inner(p))
    lost.unlink()
    whole, missing = read_volumes("dicom", refs(tmp_path))
    assert whole.key == "te=10"
    assert (missing[0], missing[1].reason) == ("te=20", "missing_slices")


def _first_copies(paths):
    seen = {}
    for path in paths:
        dataset = dcmread(path)
        seen.setdefault(float(dataset.ImagePositionPatient[2]), dataset.SOPInstanceUID)
    return set(seen.values())


def _inner(path):
    heights = sorted(float(dcmread(p).ImagePositionPatient[2]) for p in path.parent.iterdir())
    return float(dcmread(path).ImagePositionPatient[2]) == heights[len(heights) // 2]


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
