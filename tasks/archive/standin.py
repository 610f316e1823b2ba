"""Stand-ins for the images of a case: what a result may say of them, under pseudonyms.

A result in DICOM names its patient, its study and the very images it was made of. A stand-in holds
these elements and no other, each made from a pseudonym or a kept field, so that nothing of an
original header can reach a result by being copied along.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom import Dataset

from tasks.archive import geometry
from tasks.archive.catalog import Case
from tasks.archive.choice import VolumeChoice
from tasks.archive.chosen import chosen_group
from tasks.archive.frames import UNKNOWN_SPACING, Frame
from tasks.archive.groups import Group
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.series import groups_of, guarded
from tasks.archive.sources import FileRef
from tasks.errors import BadCase

ACCESSION_CHARACTERS = 16
"""As many as an Accession Number (SH) may have; of 128 bits 64 are left."""

MADE_UP = "2.25."
"""What a UID begins with that is made of a pseudonym (PS3.5 B.2)."""

METHOD = "radloop: made of pseudonyms and kept fields, no header copied"
"""De-identification Method of results: nothing was removed, it never was in them."""

NO_IMAGE_CLASS = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary Capture: what a case without DICOM images stands under; no result refers to it."""

ANY_VOLUME = VolumeChoice()

SEVERAL_A_FILE = "several of its slices are in one file"
NO_SIZE = "the series does not say how large its pixels are"


@dataclass(frozen=True)
class StandIns:
    """The images of one case."""

    datasets: tuple[Dataset, ...]
    """One an instance; of a stack whose files are slices, in the order of the volume's slices."""
    referable: bool
    """Whether these are DICOM images, which a result may point to."""
    reason: str = ""
    """Why slice k of a mask is not image k; empty when it is."""
    frames: tuple[int, ...] = ()
    """Where slices are frames of one file, their numbers in it, from 1: that of slice 0 first."""
    others: tuple[Dataset, ...] = ()
    """Images of the other series that were looked at, of a case of several."""

    @property
    def seen(self) -> tuple[Dataset, ...]:
        """Every image that was looked at, those of the reference first."""
        return (*self.datasets, *self.others)


def pseudonymous_uid(key: str) -> str:
    """Return a pseudonym of 32 hexadecimal characters as a UID."""
    return f"{MADE_UP}{int(key, 16)}"


def stand_ins(
    case: Case,
    files: Sequence[FileRef],
    names: Pseudonymiser,
    choice: VolumeChoice = ANY_VOLUME,
) -> StandIns:
    """Return stand-ins for the images of a case.

    Parameters
    ----------
    case : Case
    files : sequence of FileRef
        Of a DICOM case: its files, in any order.
    names : Pseudonymiser
    choice : VolumeChoice
        Which volume of the series was judged.

    Returns
    -------
    StandIns
        Of a case that did not come from DICOM one, with UIDs made from its id.

    Raises
    ------
    BadCase
        The files cannot be read.
    """
    if case.kind != "dicom":
        return StandIns((_identity(case, names),), False, "the case did not come from DICOM")
    groups, _ = groups_of(files)
    with guarded():
        try:
            frames = _in_order(chosen_group(groups, choice))
        except BadCase as problem:
            # A model that reads headers alone may judge what is no volume.
            frames = [frame for group in groups for frame in group.frames]
            return StandIns(_each_file(case, frames, names), True, problem.reason)
        found = _each_file(case, frames, names)
    apart = len(found) == len(frames)
    if len(found) == 1:
        _add_groups(found[0], frames)
    if not apart and not _are_frames(frames, found):
        return StandIns(found, True, SEVERAL_A_FILE)
    # A segmentation in the patient must tell a size, and one that is made up would be believed.
    unsized = any(frame.placed and frame.spacing_fact == UNKNOWN_SPACING for frame in frames)
    numbers = () if apart else tuple(frame.index + 1 for frame in frames)
    return StandIns(found, True, NO_SIZE if unsized else "", numbers)


def _are_frames(frames: Sequence[Frame], found: Sequence[Dataset]) -> bool:
    """Whether slices are frames of one enhanced file; tiles of a mosaic have no number."""
    return len(found) == 1 and all(frame.placed and not frame.source.tiles for frame in frames)


def _add_groups(dataset: Dataset, frames: Sequence[Frame]) -> None:
    """Add functional groups (PS3.3 C.7.6.16), in the order of slices, to what may have frames."""
    shared, measures = Dataset(), Dataset()
    for name in ("PixelSpacing", "SliceThickness"):
        if name in dataset:
            setattr(measures, name, dataset[name].value)
    shared.PixelMeasuresSequence = [measures]
    each = [Dataset() for _ in frames]
    if all(frame.placed for frame in frames):
        orientation = Dataset()
        orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
        shared.PlaneOrientationSequence = [orientation]
        for own, frame in zip(each, frames, strict=True):
            position = Dataset()
            position.ImagePositionPatient = _decimals(frame.position)
            own.PlanePositionSequence = [position]
    dataset.NumberOfFrames = len(frames)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = each


def _in_order(group: Group) -> list[Frame]:
    """Return frames as `volume.read_volume` stacks them."""
    frames = group.frames
    if group.picture:
        return frames
    directions = np.array([frame.orientation for frame in frames])
    positions = np.array([frame.position for frame in frames])
    _, order = geometry.certify(positions, directions[:, :3], directions[:, 3:], frames[0].spacing)
    # They were found to be parallel; that the last digit of some differs is no other direction.
    one = frames[order[0]].orientation
    return [replace(frames[at], orientation=one) for at in order]


def _each_file(case: Case, frames: Sequence[Frame], names: Pseudonymiser) -> tuple[Dataset, ...]:
    depth = _depth(frames)
    found: dict[str, Dataset] = {}
    for frame in frames:
        uid = str(frame.source.dataset.SOPInstanceUID)
        if uid not in found:
            found[uid] = _image(case, frame, names, len(found) + 1)
            if "PixelSpacing" in found[uid]:
                # Of a picture too: highdicom reads no size without a thickness.
                found[uid].SliceThickness = f"{depth:.10g}"
    return tuple(found.values())


def _depth(frames: Sequence[Frame]) -> float:
    """Return how far apart slices lie along their normal, mm: what a voxel of a mask fills.

    Slice Thickness is not asked: it may be less than the distance, or more.
    """
    if not all(frame.placed for frame in frames):
        return geometry.UNKNOWN_SLICE_SPACING_MM
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    heights = np.sort([np.dot(frame.position, normal) for frame in frames])
    steps = np.diff(heights)
    apart = steps[steps >= geometry.SAME_POSITION_MM]
    return float(np.median(apart)) if len(apart) else geometry.UNKNOWN_SLICE_SPACING_MM


def _image(case: Case, frame: Frame, names: Pseudonymiser, number: int) -> Dataset:
    original = frame.source.dataset
    dataset = _identity(case, names)
    dataset.SOPClassUID = str(original.SOPClassUID)
    dataset.SOPInstanceUID = pseudonymous_uid(names.key("sop", str(original.SOPInstanceUID)))
    dataset.InstanceNumber = number
    dataset.Rows, dataset.Columns = frame.shape
    if frame.spacing_fact != UNKNOWN_SPACING:
        dataset.PixelSpacing = list(frame.spacing)
    if frame.placed:
        reference = str(original.get("FrameOfReferenceUID") or case.series_key)
        dataset.FrameOfReferenceUID = pseudonymous_uid(names.key("frame", reference))
        dataset.ImagePositionPatient = _decimals(frame.position)
        dataset.ImageOrientationPatient = _decimals(frame.orientation)
    return dataset


def _identity(case: Case, names: Pseudonymiser) -> Dataset:
    """Return patient, study and series under their pseudonyms."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID = case.patient_key
    # The caret says that one component is meant.
    dataset.PatientName = f"{case.patient_key}^"
    dataset.PatientSex = case.facts.get("sex") or ""
    dataset.AccessionNumber = (case.accession_key or "")[:ACCESSION_CHARACTERS]
    dataset.StudyDate = str(case.facts.get("date") or "").replace("-", "")
    dataset.PatientBirthDate = dataset.StudyTime = ""
    dataset.StudyID = dataset.ReferringPhysicianName = ""
    dataset.Modality = case.facts.get("modality") or "OT"
    for name, key in (("StudyInstanceUID", case.study_key), ("SeriesInstanceUID", case.series_key)):
        made = key or names.key("case", f"{name}|{case.case_id}")
        setattr(dataset, name, pseudonymous_uid(made))
    dataset.SOPClassUID = NO_IMAGE_CLASS
    dataset.SOPInstanceUID = pseudonymous_uid(names.key("case", f"image|{case.case_id}"))
    return dataset


def _decimals(values: Sequence[float]) -> list[str]:
    """Return decimal strings of at most 16 characters (PS3.5 6.2), the nearest there are."""
    found = []
    for value in values:
        digits = next(n for n in range(16, 0, -1) if len(f"{value:.{n}g}") <= 16)
        found.append(f"{value:.{digits}g}")
    return found
