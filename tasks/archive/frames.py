"""Files to frames: each plane with its place, its values' meaning and what may vary between planes.

A classic file is one frame (PS3.3 C.7.6.2), an enhanced file one per item of its functional groups
(`enhanced`), a Siemens mosaic one per tile (`mosaic`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from pydicom import Dataset

from tasks.archive.pixel_format import check_size
from tasks.archive.pixels import StoredPixels, decode_frames
from tasks.errors import BadCase

UNKNOWN_SPACING = "spacing unknown"
"""Fact of an image that states no size; its voxels then count as 1 mm."""

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Root of the Secondary Capture classes (PS3.4 B.5): pictures of a screen, not of a scanner."""

Numbers = tuple[float, ...]

_ULTRASOUND_CM = 3
"""Physical Units code for cm in an ultrasound region (PS3.3 C.8.5.5.1.15)."""


class Planes:
    """The pixels of one file, decoded plane by plane; a mosaic is decoded once and cut."""

    def __init__(self, dataset: Dataset, name: str = "", tiles: int = 0) -> None:
        self.dataset, self.name = dataset, name
        self.tiles = tiles
        """Along an edge of a mosaic; 0 for other images."""
        self._whole: np.ndarray | None = None

    @cached_property
    def pixels(self) -> StoredPixels:
        """Their description, checked when it is first asked for (reasons of `pixel_format`)."""
        return StoredPixels(self.dataset)

    def plane(self, index: int) -> np.ndarray:
        """Return the stored values of one plane, shape (rows, columns) or (rows, columns, 3)."""
        if self.tiles:
            return self._tile(index)
        (found,) = decode_frames([(self.pixels, index)], keep=True)
        return found

    def _tile(self, index: int) -> np.ndarray:
        if self._whole is None:
            (self._whole,) = decode_frames([(self.pixels, 0)], keep=True)
        rows, columns = (n // self.tiles for n in self._whole.shape[:2])
        down, right = divmod(index, self.tiles)
        return self._whole[down * rows : (down + 1) * rows, right * columns : (right + 1) * columns]


@dataclass(frozen=True)
class Frame:
    """One plane and what its header says of it."""

    source: Planes = field(repr=False)
    index: int
    """Frame or tile in its file, from 0."""
    position: Numbers
    """Image Position (Patient), LPS mm; () when not stated."""
    orientation: Numbers
    """Image Orientation (Patient): row cosine, column cosine; () when not stated."""
    spacing: tuple[float, float]
    """Between rows and between columns, mm."""
    spacing_fact: str
    """Where the spacing comes from."""
    shape: tuple[int, int]
    image_type: tuple[str, ...]
    rescale: tuple[float, float] | None = None
    """Slope and intercept of this very frame; None leaves it to the file."""
    varies: Mapping[str, Any] = field(default_factory=dict)
    """What may tell volumes of one series apart: see `groups`."""

    @property
    def placed(self) -> bool:
        """Whether position and orientation are stated."""
        return len(self.position) == 3 and len(self.orientation) == 6


def planes_of(frames: Iterable[Frame], *, keep: bool = False) -> Iterator[np.ndarray]:
    """Decode frames one after the other, the compressed ones ahead of what is asked for.

    Parameters
    ----------
    frames : iterable of Frame
    keep : bool
        Whether an array must hold when the next one is asked for.

    Yields
    ------
    array, shape (rows, columns) or (rows, columns, 3)
        Stored values of each frame.
    """
    for tiled, run in groupby(frames, key=lambda frame: bool(frame.source.tiles)):
        if tiled:
            yield from (frame.source.plane(frame.index) for frame in run)
        else:
            wanted = ((frame.source.pixels, frame.index) for frame in run)
            yield from decode_frames(wanted, keep=keep)


def frames_of(dataset: Dataset, name: str = "") -> list[Frame]:
    """Return the frames of one file; no pixel is decoded.

    Parameters
    ----------
    dataset : pydicom.Dataset
    name : str
        Names the file's content (its digest), for images that only their content tells apart.

    Raises
    ------
    BadCase
        ``not_an_image``, ``needs_multiframe``, ``mosaic_header`` and those of `check_size`.
    """
    if "PixelData" not in dataset and ("FloatPixelData" in dataset or "Rows" not in dataset):
        raise BadCase("not_an_image", "an object without grey pixels")
    if str(dataset.get("Modality")) == "SEG":
        raise BadCase("not_an_image", "a segmentation is a label, not an image")
    if dataset.get("SharedFunctionalGroupsSequence") or dataset.get(
        "PerFrameFunctionalGroupsSequence"
    ):
        check_size(dataset)
        from tasks.archive.enhanced import enhanced_frames

        return enhanced_frames(dataset, name)
    if "MOSAIC" in image_type(dataset):
        check_size(dataset)
        from tasks.archive.mosaic import mosaic_frames

        return mosaic_frames(dataset, name)
    plain = _classic(dataset, name)
    count = plain.source.pixels.format.frames
    if count == 1:
        return [plain]
    # The one position of an old multi-frame file is that of its first frame at best.
    return [
        Frame(plain.source, k, (), (), plain.spacing, plain.spacing_fact, plain.shape,
              plain.image_type)
        for k in range(count)
    ]  # fmt: skip


def _classic(dataset: Dataset, name: str) -> Frame:
    source = Planes(dataset, name)
    spacing, fact = pixel_spacing(dataset)
    return Frame(
        source=source,
        index=0,
        position=numbers(dataset.get("ImagePositionPatient")),
        orientation=numbers(dataset.get("ImageOrientationPatient")),
        spacing=spacing,
        spacing_fact=fact,
        shape=source.pixels.format.shape[:2],
        image_type=image_type(dataset),
        varies=varying(dataset),
    )


def varying(dataset: Dataset) -> dict[str, Any]:
    """Return what a classic header states that may differ between volumes of one series."""
    found = {
        "te": number(dataset.get("EchoTime")),
        "ti": number(dataset.get("InversionTime")),
        "flip": number(dataset.get("FlipAngle")),
        "kvp": number(dataset.get("KVP")),
        "time": number(dataset.get("TemporalPositionIdentifier")),
        "phase": number(dataset.get("TriggerTime")),
        "acquisition": number(dataset.get("AcquisitionNumber")),
        "clock": _clock(dataset),
    }
    return found | diffusion(dataset)


_PRIVATE_DIFFUSION = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C, (0x0E,)),
    ("Philips Imaging DD 001", 0x2001, 0x03, ()),
    ("GEMS_PARM_01", 0x0043, 0x39, ()),
)
"""Where vendors keep the b-value: creator, group, element, element of the direction."""

GE_B_VALUE_OFFSET = 1_000_000_000
"""GE adds 1e9 to b-values in (0043,1039) of newer releases."""


def diffusion(dataset: Dataset) -> dict[str, Any]:
    """Return b-value (s/mm2) and gradient direction (PS3.3 C.8.13.5.9), else the vendor's own."""
    b = number(dataset.get("DiffusionBValue"))
    direction = numbers(dataset.get("DiffusionGradientOrientation"))
    if str(dataset.get("Modality")) != "MR":
        return {}
    for creator, group, value, way in _PRIVATE_DIFFUSION:
        if b is not None:
            break
        try:
            block = dataset.private_block(group, creator)
            first = numbers(_several(block[value].value))
            b = first[0] % GE_B_VALUE_OFFSET if first else None
            direction = numbers(_several(block[way[0]].value)) if way else direction
        except (KeyError, TypeError, ValueError, IndexError):
            continue
    return {"b": b, "direction": tuple(round(v, 4) for v in direction) or None}


def _several(value: Any) -> Any:
    """Return private text or number as a sequence; unknown VRs come as bytes."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore").strip("\0 ").split("\\")
    return [value] if isinstance(value, str | int | float) else value


def _clock(dataset: Dataset) -> float | None:
    """Return when the slice was taken, in seconds of its day or of its era."""
    for name in ("AcquisitionDateTime", "AcquisitionTime", "ContentTime"):
        value = str(dataset.get(name) or "").split("+")[0].split("-")[0]
        if value.replace(".", "", 1).isdigit():
            return float(value)
    return None


def pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float], str]:
    """Return (row, column) spacing in mm and where it came from.

    Pixel Spacing is calibrated to the patient, Imager Pixel Spacing to the detector (PS3.3
    10.7.1.3); ultrasound states it per region.
    """
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        values = numbers(dataset.get(name))
        if len(values) == 2 and min(values) > 0:
            return (values[0], values[1]), name
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    if len(regions) == 1 and _in_cm(regions[0]):
        region = regions[0]
        return (
            abs(float(region.PhysicalDeltaY)) * 10,
            abs(float(region.PhysicalDeltaX)) * 10,
        ), "SequenceOfUltrasoundRegions"
    return (1.0, 1.0), UNKNOWN_SPACING


def _in_cm(region: Dataset) -> bool:
    units = {region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")}
    deltas = (region.get("PhysicalDeltaX"), region.get("PhysicalDeltaY"))
    return units == {_ULTRASOUND_CM} and all(deltas)


def image_type(dataset: Dataset) -> tuple[str, ...]:
    """Return the words of Image Type in capitals."""
    value = dataset.get("ImageType") or ()
    words = [value] if isinstance(value, str) else value
    return tuple(str(word).strip().upper() for word in words)


def numbers(value: Any) -> Numbers:
    """Return the numbers of a multi-valued element, () when one is missing or no number."""
    try:
        return tuple(float(v) for v in value)
    except (TypeError, ValueError):
        return ()


def number(value: Any) -> float | None:
    """Return the number of an element, None when it is missing or no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
