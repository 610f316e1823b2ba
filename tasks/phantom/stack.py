"""A drawn volume as a series of single-frame DICOM files, and its truth as NIfTI and DICOM SEG."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
from pydicom import Dataset

from tasks.archive.nifti import write_nifti
from tasks.phantom.encode import encode_pixels, write_dataset
from tasks.phantom.visits import Visit
from tasks.phantom.write import MARK

BITS = 12
"""Bits stored of each voxel."""


def axial_affine(shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Return the affine from index (z, y, x, 1) to LPS mm (x, y, z, 1) of a grid about 0."""
    affine = np.zeros((4, 4))
    for axis, step in enumerate(spacing):
        affine[2 - axis, axis] = step
        affine[2 - axis, 3] = -(shape[axis] - 1) / 2 * step
    affine[3, 3] = 1
    return affine


def write_stack(
    folder: Path,
    visit: Visit,
    first: Dataset,
    stored: np.ndarray,
    affine: np.ndarray,
    syntax: str,
    name: str,
) -> list[Dataset]:
    """Write one file a slice and return the datasets.

    Parameters
    ----------
    folder : Path
    visit : Visit
    first : Dataset
        Header of the series (see :func:`tasks.phantom.visits.header`); not changed.
    stored : array of uint16, shape (z, y, x)
        At most 12 bits.
    affine : array, shape (4, 4)
        Axial, see :func:`axial_affine`.
    syntax : str
        Transfer Syntax UID.
    name : str
        Of the series: goes into file names and UIDs.
    """
    step = np.linalg.norm(affine[:3, :3], axis=0)
    written = []
    for k, pixels in enumerate(stored):
        dataset = deepcopy(first)
        dataset.SOPInstanceUID = visit.uid(name, k, "instance")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.FrameOfReferenceUID = visit.uid("frame")
        dataset.PositionReferenceIndicator = ""
        dataset.PatientPosition, dataset.AcquisitionNumber = "HFS", "1"
        dataset.InstanceNumber = str(k + 1)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        position = (affine @ [k, 0, 0, 1])[:3]
        dataset.ImagePositionPatient = [f"{v:.10g}"[:16] for v in position]
        dataset.PixelSpacing = [f"{step[1]:.10g}", f"{step[2]:.10g}"]
        dataset.SliceThickness = f"{step[0]:.10g}"
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, BITS, BITS - 1
        encode_pixels(dataset, pixels.astype(np.uint16), syntax)
        write_dataset(folder / f"{name}{k:04d}.dcm", dataset)
        written.append(dataset)
    return written


def write_truth(
    root: Path,
    visit: Visit,
    images: list[Dataset],
    labels: np.ndarray,
    affine: np.ndarray,
    names: dict[int, tuple[str, tuple[str, str, str]]],
) -> None:
    """Write a label map as ``truth/masks/ACCESSION.nii.gz`` and ``truth/seg/ACCESSION.dcm``.

    Parameters
    ----------
    root : Path
    visit : Visit
    images : list of Dataset
        The series the mask lies on.
    labels : array of uint8, shape (z, y, x)
    affine : array, shape (4, 4)
    names : dict
        Value -> (name of the segment, its code as value, scheme, meaning). A segmentation without
        any voxel is no valid SEG, so that none is written then.
    """
    masks, segs = root / "truth" / "masks", root / "truth" / "seg"
    masks.mkdir(parents=True, exist_ok=True)
    write_nifti(masks / f"{visit.accession}.nii.gz", labels, affine)
    present = {value: name for value, name in names.items() if (labels == value).any()}
    if present:
        segs.mkdir(parents=True, exist_ok=True)
        write_dataset(segs / f"{visit.accession}.dcm", _seg(visit, images, labels, present))


def _seg(
    visit: Visit,
    images: list[Dataset],
    labels: np.ndarray,
    names: dict[int, tuple[str, tuple[str, str, str]]],
) -> Dataset:
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian

    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=hd.sr.CodedConcept(*code),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, (name, code) in enumerate(names.values(), start=1)
    ]
    planes = np.stack([labels == value for value in names], axis=-1).astype(np.uint8)
    seg = hd.seg.Segmentation(
        source_images=images,
        pixel_array=planes,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=visit.uid("seg", "series"),
        series_number=900,
        sop_instance_uid=visit.uid("seg", "instance"),
        instance_number=1,
        manufacturer="SYNTHETIC",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number=MARK,
        series_description="SYNTHETIC truth, not a patient",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    # The time of writing and drawn UIDs would make the same seed give other bytes.
    seg.ContentDate = seg.SeriesDate = images[0].ContentDate
    seg.ContentTime = seg.SeriesTime = images[0].ContentTime
    for name in ("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence"):
        if name in seg:
            del seg[name]
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = visit.uid("seg", "dimensions")
    return seg
