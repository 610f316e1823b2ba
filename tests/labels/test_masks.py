"""Masks written by the field's own tools are read where they were drawn, in every orientation."""

import io
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tasks.errors import BadCase
from tasks.labels.dicom_seg import read_dicom_seg
from tasks.labels.mask_file import read_mask_file, read_slicer
from tasks.labels.rtstruct import read_rtstruct
from tasks.labels.shapes import Masks, Segment, box_around, label_map, onto_grid
from tests.labels.grids import ORIENTATIONS, SHAPE, ball, centroid, middle

AFFINES = pytest.mark.parametrize("affine", ORIENTATIONS.values(), ids=ORIENTATIONS)
FRAME = "1.2.826.0.1.3680043.8.498.7"
SERIES = "1.2.826.0.1.3680043.8.498.8"


def two_balls(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping ones, of 8 and 5 mm."""
    centre = middle(affine)
    return ball(affine, centre, 8.0), ball(affine, centre + np.array([4.0, 3.0, 2.0]), 5.0)


def images(affine: np.ndarray) -> list[Dataset]:
    found = []
    for z in range(SHAPE[0]):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{SERIES}.{z + 1}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{SERIES}.0", SERIES
        ds.FrameOfReferenceUID, ds.Modality = FRAME, "CT"
        ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "P1", "A^B", "", ""
        ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.StudyID = ""
        ds.ReferringPhysicianName = ""
        ds.Rows, ds.Columns = SHAPE[1:]
        steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        ds.ImageOrientationPatient = [*steps[:, 2], *steps[:, 1]]
        ds.ImagePositionPatient = list((affine @ [z, 0, 0, 1])[:3])
        ds.PixelSpacing, ds.SliceThickness = [0.8, 0.7], 2.5
        ds.InstanceNumber = z + 1
        ds.SamplesPerPixel, ds.BitsAllocated, ds.PhotometricInterpretation = 1, 16, "MONOCHROME2"
        found.append(ds)
    return found


def seg_file(affine: np.ndarray, masks, kind: str = "BINARY", numbers=None) -> bytes:
    hd = pytest.importorskip("highdicom")
    codes = pytest.importorskip("pydicom.sr.codedict").codes
    made = [
        hd.seg.SegmentDescription(
            n,
            f"part {n}",
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n in numbers or range(1, len(masks) + 1)
    ]
    pixels = np.stack(masks, axis=-1)
    if kind == "LABELMAP":
        pixels = (pixels * np.array(numbers, np.uint16)).sum(axis=-1, dtype=np.uint16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = hd.seg.Segmentation(
            images(affine),
            {"FRACTIONAL": pixels * np.float32(0.75), "LABELMAP": pixels}.get(
                kind, pixels.astype(np.uint8)
            ),
            kind,
            made,
            series_instance_uid=generate_uid(),
            series_number=9000,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="radloop",
            manufacturer_model_name="test",
            software_versions="1",
            device_serial_number="1",
        )
    stream = io.BytesIO()
    seg.save_as(stream)
    return stream.getvalue()


@AFFINES
def test_dicom_segments_come_back_to_their_image(affine):
    masks = two_balls(affine)
    found = read_dicom_seg(seg_file(affine, masks))
    assert (found.series, found.frame_of_reference) == (SERIES, FRAME)
    assert [(one.number, one.name) for one in found.segments] == [(1, "part 1"), (2, "part 2")]
    # Slices without anything are left out of the file.
    assert found.segments[0].mask.shape[0] < SHAPE[0]
    whole = onto_grid(found, SHAPE, affine)
    for one, mask in zip(whole.segments, masks, strict=True):
        np.testing.assert_array_equal(one.mask, mask)
    box = box_around(found.segments[0], found)
    np.testing.assert_allclose(box.centre, middle(affine), atol=1.3)
    with pytest.raises(BadCase, match="segments_overlap"):
        label_map(whole, {"part 1": 1, "part 2": 2})


def test_fractional_segments_count_from_a_half():
    affine = ORIENTATIONS["axial"]
    mask = two_balls(affine)[0]
    found = onto_grid(read_dicom_seg(seg_file(affine, [mask], "FRACTIONAL")), SHAPE, affine)
    np.testing.assert_array_equal(found.segments[0].mask, mask)


def test_a_real_segmentation_lies_on_its_images(shared_data):
    place = shared_data / "dicom" / "seg" / "24x38x3_seg" / "label.seg"
    found = read_dicom_seg(place.read_bytes())
    assert [one.name for one in found.segments] == ["Liver"]
    seg = pydicom.dcmread(place)
    frame = seg.PerFrameFunctionalGroupsSequence[0]
    first = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
    spacing = np.linalg.norm(found.affine[:3, :3], axis=0)
    index = np.linalg.solve(found.affine, [*first, 1])[:3]
    np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
    plane = seg.pixel_array[0].astype(bool)
    np.testing.assert_array_equal(found.segments[0].mask[round(index[0])], plane)
    assert spacing[1] == pytest.approx(0.7)


def structure_set(affine, *structures) -> bytes:
    """Structures are (name, [outlines as (slice, [(row, column), …])])."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Modality = "RTSTRUCT"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = SERIES
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = FRAME, [study]
    ds.ReferencedFrameOfReferenceSequence = [frame]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, outlines) in enumerate(structures, start=1):
        roi, contours = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        contours.ReferencedROINumber, contours.ContourSequence = number, []
        for z, points in outlines:
            one = Dataset()
            one.ContourGeometricType = "CLOSED_PLANAR"
            places = [(affine @ [z, row, column, 1])[:3] for row, column in points]
            one.NumberOfContourPoints = len(points)
            one.ContourData = [f"{value:.6f}" for place in places for value in place]
            contours.ContourSequence.append(one)
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(contours)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (low, high), (high, high), (high, low)]


@AFFINES
def test_outlines_are_filled_in_their_slices_and_holes_left_out(affine):
    outlines = [(3, square(4.5, 20.5)), (3, square(8.5, 14.5)), (3, square(10.5, 12.5))]
    data = structure_set(affine, ("organ", [*outlines, (5, square(6.5, 9.5))]), ("none", []))
    found = read_rtstruct(data, SHAPE, affine)
    assert (found.series, found.frame_of_reference) == (SERIES, FRAME)
    organ, none = found.segments
    assert (organ.name, none.name, int(none.mask.sum())) == ("organ", "none", 0)
    expected = np.zeros(SHAPE, bool)
    expected[3, 5:21, 5:21] = True
    expected[3, 9:15, 9:15] = False
    expected[3, 11:13, 11:13] = True
    expected[5, 7:10, 7:10] = True
    np.testing.assert_array_equal(organ.mask, expected)


@AFFINES
def test_a_circle_has_its_place_and_area_in_mm(affine):
    centre = middle(affine)
    angles = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    middle_row, middle_column = (SHAPE[1] - 1) / 2, (SHAPE[2] - 1) / 2
    points = [
        (middle_row + 8 * np.sin(a) / 0.8, middle_column + 8 * np.cos(a) / 0.7) for a in angles
    ]
    found = read_rtstruct(structure_set(affine, ("circle", [(4, points)])), SHAPE, affine)
    mask = found.segments[0].mask
    np.testing.assert_allclose(centroid(mask, affine), centre, atol=0.05)
    # Exactly the pixels whose centres lie within: counted in mm, without any outline.
    np.testing.assert_array_equal(mask[4], ball(affine, centre, 8.0)[4])
    assert mask.sum() == mask[4].sum()


def test_outlines_never_undo_each_other():
    affine = ORIENTATIONS["oblique"]
    twice = structure_set(affine, ("organ", [(3, square(4.5, 20.5))] * 2))
    assert read_rtstruct(twice, SHAPE, affine).segments[0].mask.sum() == 16 * 16
    # Of slices half as thick two lie in one of the image.
    data = structure_set(affine, ("organ", [(z, square(4.5, 20.5)) for z in (2.8, 3.2)]))
    with pytest.raises(BadCase, match=r"outline_off_plane.*give the series it was drawn on"):
        read_rtstruct(data, SHAPE, affine)


def test_outlines_of_another_series_are_refused_without_a_name():
    axial = ORIENTATIONS["axial"]
    data = structure_set(axial, ("Jane Doe", [(3.6 + 9, square(4.5, 9.5))]))
    with pytest.raises(BadCase, match=r"outline_off_plane: an outline of structure 1") as caught:
        read_rtstruct(data, SHAPE, axial)
    assert "Doe" not in str(caught.value)
    tilted = structure_set(ORIENTATIONS["sagittal"], ("a", [(3, square(4.5, 9.5))]))
    with pytest.raises(BadCase, match="outline_off_plane"):
        read_rtstruct(tilted, SHAPE, axial)


@pytest.mark.parametrize("data", [b"", b"no dicom", b"\0" * 400])
def test_what_is_no_such_object_is_refused(data):
    with pytest.raises(BadCase, match="not_a_segmentation"):
        read_dicom_seg(data)
    with pytest.raises(BadCase, match="not_a_structure_set"):
        read_rtstruct(data, SHAPE, ORIENTATIONS["axial"])


def itk_image(array: np.ndarray, affine: np.ndarray):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(array)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return sitk, image


@AFFINES
@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_label_maps_that_itk_wrote_lie_on_their_image(affine, ending, tmp_path):
    one, other = two_balls(affine)
    labels = (one + other * np.uint8(2)).astype(np.uint8)
    sitk, image = itk_image(labels, affine)
    place = tmp_path / f"mask.{ending}"
    sitk.WriteImage(sitk.Flip(image, [True, False, True]), str(place), useCompression=True)
    found = read_mask_file(place.read_bytes(), place.name, SHAPE, affine)
    np.testing.assert_array_equal(found, labels)
    moved = affine.copy()
    moved[:3, 3] += 0.01
    with pytest.raises(BadCase, match="mask_grid"):
        read_mask_file(place.read_bytes(), place.name, SHAPE, moved)


def slicer_file(tmp_path, affine, layers, segments) -> bytes:
    nrrd = pytest.importorskip("nrrd")
    directions = affine[:3, :3].T[::-1]
    header = {"space": "left-posterior-superior", "space origin": affine[:3, 3]}
    if len(layers) == 1:
        array = layers[0].transpose(2, 1, 0)
        header |= {"space directions": directions, "kinds": ["domain"] * 3}
    else:
        array = np.stack([one.transpose(2, 1, 0) for one in layers])
        header |= {"space directions": np.vstack([[np.nan] * 3, directions])}
        header |= {"kinds": ["list", *["domain"] * 3]}
    for n, (name, label, layer) in enumerate(segments):
        header |= {f"Segment{n}_ID": f"Segment_{n}", f"Segment{n}_Name": name}
        header |= {f"Segment{n}_LabelValue": str(label), f"Segment{n}_Layer": str(layer)}
    place = tmp_path / "a.seg.nrrd"
    nrrd.write(str(place), array, header)
    return place.read_bytes()


@AFFINES
def test_slicer_segments_in_layers_come_back_to_their_image(affine, tmp_path):
    one, other = two_balls(affine)
    start = np.array([1, 4, 5])
    cut = np.eye(4)
    cut[:3, 3] = start
    box = (slice(1, 8), slice(4, 28), slice(5, 32))
    layers = [one[box].astype(np.uint8) * 3, other[box].astype(np.uint8)]
    data = slicer_file(tmp_path, affine @ cut, layers, [("tumour", 3, 0), ("oedema", 1, 1)])
    whole = onto_grid(read_slicer(data), SHAPE, affine)
    assert [segment.name for segment in whole.segments] == ["tumour", "oedema"]
    np.testing.assert_array_equal(whole.segments[0].mask, one)
    np.testing.assert_array_equal(whole.segments[1].mask, other)


def test_slicer_segments_of_one_layer_are_told_by_their_label(tmp_path):
    affine = ORIENTATIONS["axial"]
    one, other = two_balls(affine)
    labels = np.where(one, 1, np.where(other, 2, 0)).astype(np.uint8)
    data = slicer_file(tmp_path, affine, [labels], [("a", 1, 0), ("b", 2, 0)])
    found = read_slicer(data)
    np.testing.assert_array_equal(label_map(found, {"a": 1, "b": 2}), labels)
    wrong = slicer_file(tmp_path, affine, [labels], [("a", 1, 0), ("b", 2, 4)])
    with pytest.raises(BadCase, match="not_a_mask: segment 1 names no layer"):
        read_slicer(wrong)
    with pytest.raises(BadCase, match="no segments of 3D Slicer"):
        read_slicer(slicer_file(tmp_path, affine, [labels], []))
    assert isinstance(found, Masks)
    assert isinstance(found.segments[0], Segment)
