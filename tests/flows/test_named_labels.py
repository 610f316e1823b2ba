"""Structure sets and 3D Slicer's segments go from a folder to prepared masks, by their names."""

import io

import numpy as np
import pydicom
import pytest

from flows.cohorts import settle
from tasks.archive.commits import parts
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.labels.attach import attach_labels
from tasks.scenario.text import parse_scenario
from tasks.store.read import open_part
from tests.flows.brats import preprocessed
from tests.labels.grids import ORIENTATIONS, SHAPE, centroid
from tests.labels.test_masks import FRAME, SERIES, images, slicer_file, square, structure_set

SCENARIO = """\
name: organs
title: Squares in squares
task: segmentation
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Written by a program.
synthetic: true
cohort: {kind: dicom, modality: CT}
labels: LABELS
recipe: [{step: reorient, orientation: SPL}, {step: normalise, method: zscore}]
split: {source: keyed, test: 0.3, folds: 2, key: public, strata: []}
candidates:
  - {name: unet, kind: network, network: unet3d, epochs: 1, features: [4, 8], steps_per_epoch: 4}
evaluate: {primary: dice}
gate: {margin: 0.1, min_patients: 2, undecidable: promote}
"""

RTSTRUCT = """{format: rtstruct, file: FOLDER, classes: [organ, tumour], overlap: later,
  segments: {organ: [Organ, [Organ L, Organ R]], tumour: [GTV]}, absent: [tumour]}"""

SLICER = """{format: slicer, file: FOLDER, join: accession, classes: [organ, tumour],
  overlap: later, segments: {tumour: [gtv]}}"""

ORGAN = ((2, 3, 4), (4, 21), (6, 27))
TUMOUR = ((3, 4), (8, 13), (17, 24))
"""Slices, rows and columns of both, none of them in the middle of the image."""


def block(slices, rows, columns) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[list(slices), rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def outlines(slices, rows, columns) -> list:
    (top, bottom), (left, right) = ((low - 0.5, high - 0.5) for low, high in (rows, columns))
    corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
    return [(z, corners) for z in slices]


def write_series(folder, number: int, affine) -> None:
    """Write a patient's CT, as `images` draws it, under UIDs and an accession of its own."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(number)
    for z, ds in enumerate(images(affine)):
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{SERIES}.{number}", f"{FRAME}.{number}"
        ds.StudyInstanceUID, ds.AccessionNumber = f"{SERIES}.{number}.0", f"ACC{number}"
        ds.SOPInstanceUID, ds.PatientID = f"{SERIES}.{number}.{z + 1}", f"P{number}"
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 0
        ds.RescaleSlope, ds.RescaleIntercept, ds.ImageType = 1, 0, ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.PixelData = rng.integers(0, 2000, SHAPE[1:], np.uint16).tobytes()
        pydicom.dcmwrite(folder / f"{z:03d}.dcm", ds, enforce_file_format=True)


def structures_of(number: int, affine, *structures) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(structure_set(affine, *structures)))
    (frame,) = ds.ReferencedFrameOfReferenceSequence
    frame.FrameOfReferenceUID = f"{FRAME}.{number}"
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    series.SeriesInstanceUID = f"{SERIES}.{number}"
    # The point of an isocentre is in most structure sets; a scenario that does not ask is not hurt.
    for item, roi in zip(ds.ROIContourSequence, ds.StructureSetROISequence, strict=True):
        if roi.ROIName == "Isocentre":
            item.ContourSequence[0].ContourGeometricType = "POINT"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


POINT = ("Isocentre", [(4, square(10, 11))])


class Hospital:
    """CT series in four orientations, and what a reader drew on them."""

    def __init__(self, home, root):
        self.home, self.root, self.folder = home, root, root / "dicom" / "drawn"
        for number, affine in enumerate(ORIENTATIONS.values()):
            write_series(root / "dicom" / f"series-{number}", number, affine)
        self.folder.mkdir()

    def structures(self, number: int, *structures, name: str | None = None) -> None:
        affine = list(ORIENTATIONS.values())[number]
        data = structures_of(number, affine, *structures)
        (self.folder / (name or f"RS.{number}")).write_bytes(data)

    def told(self, labels: str, folder=None):
        source = resolve_source(str(self.root / "dicom"), "hospital")
        ingest(source, self.home.catalog, self.home.vault, self.home.names)
        text = labels.replace("FOLDER", str(folder or self.folder))
        body = parse_scenario(SCENARIO.replace("LABELS", text))
        place = self.home.names, self.home.catalog, self.home.vault
        return body, attach_labels(source, body.labels, *place)

    def prepared(self, body):
        """Return accession's number -> (mask, affine) of the label parts, and what was refused."""
        ready = settle(self.home, body)
        key, _, refused = preprocessed(self.home, ready)
        known = {self.home.names.key("accession", f"ACC{n}"): n for n in range(len(ORIENTATIONS))}
        of_case = {case.case_id: known[case.accession_key] for case in ready.cohort.cases}
        found = {}
        for row in parts(self.home.catalog, recipe_id=key, kind="label"):
            part = open_part(self.home.settings.store_root, row.path)
            for case_id in part.case_ids:
                found[of_case[case_id]] = part.read(case_id), part.info(case_id).affine
        return found, refused


@pytest.fixture
def hospital(home, tmp_path):
    return Hospital(home, tmp_path / "hospital")


def assert_in_place(found, number: int, tumour: bool = True) -> None:
    """Both classes lie where they were drawn, in mm, whatever the axes of the prepared mask."""
    mask, affine = found[number]
    drawn_on = list(ORIENTATIONS.values())[number]
    organ, gtv = block(*ORGAN), block(*TUMOUR) & tumour
    for value, expected in ((1, organ & ~gtv), (2, gtv)):
        assert (mask == value).sum() == expected.sum()
        if expected.any():
            at = centroid(mask == value, affine)
            np.testing.assert_allclose(at, centroid(expected, drawn_on), atol=1e-3)


def test_structure_sets_among_the_images_become_masks_in_every_orientation(hospital):
    organ, tumour = outlines(*ORGAN), outlines(*TUMOUR)
    left = outlines(ORGAN[0], ORGAN[1], (6, 14))
    right = outlines(ORGAN[0], ORGAN[1], (14, 27))
    hospital.structures(0, POINT, ("ORGAN", organ), ("gtv ", tumour))
    # In another order, and the organ of two parts.
    hospital.structures(1, ("GTV", tumour), ("Organ L", left), ("Organ R", right), POINT)
    # One without a tumour, and one whose tumour is listed and not drawn.
    hospital.structures(2, ("Organ", organ), POINT)
    hospital.structures(3, ("Organ", organ), ("GTV", []))
    body, report = hospital.told(RTSTRUCT)
    assert (report.rows, report.matched, report.unmatched) == (4, 4, ())
    found, refused = hospital.prepared(body)
    assert refused == []
    for number in range(4):
        assert_in_place(found, number, tumour=number < 2)


def test_a_structure_set_that_lacks_the_organ_is_refused_and_the_others_go_on(hospital):
    organ = outlines(*ORGAN)
    hospital.structures(0, ("Organ", organ))
    hospital.structures(1, ("Doe Jane", organ), ("GTV", outlines(*TUMOUR)))
    hospital.structures(2, ("Organ", []))
    hospital.structures(3, ("Organ L", organ), ("organ l", organ))
    body, _ = hospital.told(RTSTRUCT)
    found, refused = hospital.prepared(body)
    assert sorted(found) == [0]
    assert sorted(reason for reason, _ in refused) == [
        "segment_missing", "segment_missing", "segment_repeated",
    ]  # fmt: skip
    text = " ".join(detail for _, detail in refused)
    assert "no segment of the file is named as the class organ is: draw it, name it in" in text
    assert "nothing is drawn of the class organ (segment 1)" in text
    assert "segments 1 and 2 bear one name" in text
    assert "Doe" not in text


def test_structure_sets_of_no_series_here_or_of_two_are_listed_by_their_place(hospital):
    organ = outlines(*ORGAN)
    hospital.structures(0, ("Organ", organ), name="1")
    hospital.structures(1, ("Organ", organ), name="2")
    ds = pydicom.dcmread(hospital.folder / "2")
    study = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4.5"
    ds.save_as(hospital.folder / "2")
    del ds.ReferencedFrameOfReferenceSequence
    ds.save_as(hospital.folder / "3")
    (hospital.folder / "4.dcm").write_bytes(b"damaged")
    (hospital.folder / "notes.txt").write_text("no DICOM, and left aside")
    _, report = hospital.told(RTSTRUCT)
    assert (report.rows, report.matched) == (4, 1)
    assert [line for line, _ in report.unmatched] == [2, 3, 4]
    (_, unknown), (_, none), (_, damaged) = report.unmatched
    assert unknown == "no case of this source has this series"
    assert none.startswith("the structure set names 0 series of images, and one is needed")
    assert damaged == "the file ends in .dcm and is no DICOM file: export it anew"
    # A second opinion on a series: which of them holds, nobody said.
    hospital.structures(0, ("Organ", outlines(*TUMOUR)), name="5")
    _, report = hospital.told(RTSTRUCT)
    assert report.matched == 0
    twice = "several files name this case, so none is taken: keep one"
    assert [line for line, why in report.unmatched if why == twice] == [1, 5]


def test_voxels_of_two_classes_refuse_the_case_unless_the_later_one_wins(hospital):
    hospital.structures(0, ("Organ", outlines(*ORGAN)), ("GTV", outlines(*TUMOUR)))
    hospital.structures(1, ("Organ", outlines(*ORGAN)))
    body, _ = hospital.told(RTSTRUCT.replace(" overlap: later,", ""))
    found, refused = hospital.prepared(body)
    assert sorted(found) == [1]
    ((reason, detail),) = refused
    shared = (block(*ORGAN) & block(*TUMOUR)).sum()
    assert reason == "segments_overlap"
    assert detail.startswith(f"{shared} voxels of segment 2 are of an earlier class too: say `over")


def test_outlines_in_another_frame_of_reference_are_refused(hospital):
    hospital.structures(0, ("Organ", outlines(*ORGAN)))
    hospital.structures(1, ("Organ", outlines(*ORGAN)))
    ds = pydicom.dcmread(hospital.folder / "RS.1")
    ds.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    ds.save_as(hospital.folder / "RS.1")
    found, refused = hospital.prepared(hospital.told(RTSTRUCT)[0])
    assert sorted(found) == [0]
    assert [reason for reason, _ in refused] == ["mask_grid"]


def test_segments_of_3d_slicer_become_masks_in_every_orientation(hospital, tmp_path):
    folder = tmp_path / "slicer"
    folder.mkdir()
    organ, tumour = block(*ORGAN), block(*TUMOUR)
    start = np.array([1, 3, 5])
    cut = np.eye(4)
    cut[:3, 3] = start
    box = tuple(slice(low, high) for low, high in zip(start, SHAPE, strict=True))
    for number, affine in enumerate(ORIENTATIONS.values()):
        layers = [organ[box].astype(np.uint8) * 2, tumour[box].astype(np.uint8)]
        parts = [("Organ", 2, 0), ("GTV", 1, 1)]
        if number == 2:  # as somebody else made them, in another order and layer
            layers, parts = layers[::-1], [("gtv", 1, 0), ("organ", 2, 1)]
        if number == 3:
            parts = [("Doe Jane", 2, 0), ("GTV", 1, 1)]
        data = slicer_file(tmp_path, affine @ cut, layers, parts)
        (folder / f"ACC{number}.seg.nrrd").write_bytes(data)
    body, report = hospital.told(SLICER, folder)
    assert (report.rows, report.matched) == (4, 4)
    found, refused = hospital.prepared(body)
    for number in range(3):
        assert_in_place(found, number)
    ((reason, detail),) = refused
    assert reason == "segment_missing"
    assert "the class organ" in detail
    assert "Doe" not in detail
