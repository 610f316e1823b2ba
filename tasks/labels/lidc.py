"""LIDC-IDRI: nodules as up to four radiologists outlined them, from their XML (Armato 2011).

Each reading session holds nodules as closed outlines, an image at a time. Outline points are the
first pixels *outside* of the nodule, so that the nodule is what they enclose and not they
themselves; an outline with ``inclusion`` FALSE is a hole. A nodule below 3 mm is one point.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from xml.etree.ElementTree import Element

import numpy as np

from tasks.labels.shapes import Box, Masks, Segment, box_around

RATINGS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
"""1 to 5 (calcification 1 to 6). Lobulation and spiculation of about 100 early cases were rated on
a reversed scale, which the files do not tell."""

MERGE_OVERLAP = 0.0
"""Outlines of two readers are of one nodule when they share a voxel: more than this many."""

MAX_XML_BYTES = 64 << 20
"""A hundred times the largest file of the collection."""

SLICE_TOLERANCE_MM = 0.01
"""An outline farther than this from every slice is of another image."""


@dataclass(frozen=True)
class Outline:
    """One closed line on one image: points (column, row) as the file gives them."""

    z_mm: float
    sop: str = field(repr=False)
    inclusion: bool
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Reading:
    """One nodule as one reader saw it."""

    reader: int
    """Number of the reading session, from 0; not the same person in two files."""
    nodule: str = field(repr=False)
    outlines: tuple[Outline, ...]
    ratings: Mapping[str, int]
    """Empty for nodules below 3 mm."""

    @property
    def is_small(self) -> bool:
        """Tell whether it is a point for a nodule below 3 mm."""
        return all(len(outline.points) == 1 for outline in self.outlines)


@dataclass(frozen=True)
class Readings:
    """What one XML file says of one series."""

    series: str = field(repr=False)
    readers: int
    nodules: tuple[Reading, ...]
    others: tuple[Outline, ...]
    """Lesions that are no nodules, a point each."""


def parse_lidc(data: bytes) -> Readings:
    """Read one LIDC XML file of a CT.

    Raises
    ------
    ValueError
        Not XML of LIDC, of no CT series, or a nodule with a value that cannot be; says which
        reading and nodule, counted from 1, and what to do.
    """
    root = _root(data)
    series = _text(root, "ResponseHeader/SeriesInstanceUid")
    sessions = root.findall("readingSession")
    if not series or not re.fullmatch(r"[\d.]{1,64}", series) or not sessions:
        raise ValueError(
            "The LIDC file names no CT series or no reading session: files of radiographs "
            "(IdriReadMessage) have none; take those of CT."
        )
    nodules, others = [], []
    for reader, session in enumerate(sessions):
        for n, nodule in enumerate(session.findall("unblindedReadNodule"), start=1):
            where = f"reading {reader + 1}, nodule {n}"
            nodules.append(_nodule(nodule, reader, where))
        for n, other in enumerate(session.findall("nonNodule"), start=1):
            where = f"reading {reader + 1}, lesion {n}"
            others.append(_outline(other, where, points="locus"))
    return Readings(series, len(sessions), tuple(nodules), tuple(others))


def _root(data: bytes) -> Element:
    # No entity can be declared without a document type, and LIDC has none.
    from xml.etree import ElementTree

    if len(data) > MAX_XML_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("The file is no XML of LIDC: too large, or with a document type.")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        line = getattr(error, "position", (0,))[0]
        raise ValueError(f"The file is not XML at line {line}: download it anew.") from None
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    if root.tag != "LidcReadMessage":
        raise ValueError("The file is XML of another kind: LIDC's begins with LidcReadMessage.")
    return root


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _nodule(nodule: Element, reader: int, where: str) -> Reading:
    outlines = tuple(_outline(roi, where) for roi in nodule.findall("roi"))
    if not outlines:
        raise ValueError(f"{where}: it has no outline. Download the file anew.")
    ratings = {}
    for name in RATINGS:
        text = _text(nodule, f"characteristics/{name}")
        if text:
            if not re.fullmatch("[1-6]", text):
                raise ValueError(f"{where}: the rating {name} is none of 1 to 6.")
            ratings[name] = int(text)
    name = _text(nodule, "noduleID")
    return Reading(reader, name, outlines, MappingProxyType(ratings))


def _outline(element: Element, where: str, points: str = "edgeMap") -> Outline:
    try:
        found = tuple(
            (int(_text(point, "xCoord")), int(_text(point, "yCoord")))
            for point in element.findall(points)
        )
        z = float(_text(element, "imageZposition"))
    except ValueError:
        raise ValueError(f"{where}: a coordinate is no number. Download the file anew.") from None
    if not found or not np.isfinite(z):
        raise ValueError(f"{where}: an outline without points. Download the file anew.")
    inclusion = _text(element, "inclusion").upper() != "FALSE"
    return Outline(z, _text(element, "imageSOP_UID"), inclusion, found)


def fill(outline: Outline, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels an outline encloses, without itself: array (row, column) of bool."""
    from scipy.ndimage import binary_fill_holes
    from skimage.draw import line

    edge = np.zeros((shape[0] + 2, shape[1] + 2), bool)
    points = [(x + 1, y + 1) for x, y in outline.points]
    if not all(0 <= x <= shape[1] + 1 and 0 <= y <= shape[0] + 1 for x, y in points):
        raise ValueError("an outline leaves its image: the file is of another series")
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        rows, columns = line(y0, x0, y1, x1)
        edge[rows, columns] = True
    return (binary_fill_holes(edge) & ~edge)[1:-1, 1:-1]


def mask_of(
    reading: Reading, shape: Sequence[int], affine: np.ndarray, *, smallest: bool = True
) -> np.ndarray:
    """Return a reading on its series' grid, holes left out: array (z, y, x) of bool.

    Parameters
    ----------
    reading : Reading
    shape, affine
        Of the axial series, in its own order (a file of LIDC knows pixels of that alone).
    smallest : bool
        Let a nodule whose outlines enclose nothing, or that is a point, be its points.

    Raises
    ------
    ValueError
        An outline lies on no slice, or leaves the image.
    """
    mask = np.zeros(tuple(shape), bool)
    heights = affine[2, 3] + affine[2, 0] * np.arange(shape[0])
    filled = []
    for outline in reading.outlines:
        z = int(np.abs(heights - outline.z_mm).argmin())
        if abs(heights[z] - outline.z_mm) > SLICE_TOLERANCE_MM + abs(affine[2, 0]) / 2:
            raise ValueError("an outline lies on no slice: the file is of another series")
        filled.append((z, fill(outline, (shape[1], shape[2])), outline.inclusion))
    # Holes after what they are in, and islands after their holes; what stands twice is one.
    for z, inside, inclusion in sorted(filled, key=lambda one: -np.count_nonzero(one[1])):
        mask[z][inside] = inclusion
    if smallest and not mask.any():
        last = (shape[2] - 1, shape[1] - 1)
        for (z, *_), outline in zip(filled, reading.outlines, strict=True):
            for x, y in outline.points:
                # Points are the first pixels outside, which at its border are beyond the image.
                mask[z, min(max(y, 0), last[1]), min(max(x, 0), last[0])] = True
    return mask


def consensus(
    readings: Readings,
    shape: Sequence[int],
    affine: np.ndarray,
    *,
    agree: int = 3,
    share: float = 0.5,
    frame_of_reference: str = "",
) -> tuple[list[Box], Masks]:
    """Merge the readers' outlines to nodules.

    Outlines of several readers that share voxels are one nodule, each reader counted once. A
    nodule that fewer than ``agree`` readers outlined is irrelevant, as LUNA16 has it (three of
    four); its box and mask are what at least ``share`` of those who saw it enclosed. Points for
    nodules below 3 mm join no nodule and are irrelevant.

    Parameters
    ----------
    readings : Readings
    shape : sequence of int
        (z, y, x) of the CT.
    affine : array (4, 4)
        Index (z, y, x, 1) to LPS mm.
    agree : int
        Readers who must have outlined a nodule for it to count.
    share : float
        Of the readers who saw it, those who must have enclosed a voxel.
    frame_of_reference : str
        Of the CT; handed on to the boxes.

    Returns
    -------
    boxes : list of Box
        With mean ratings, ``readers`` that outlined it, and the diameter of the ball of the
        same volume.
    masks : Masks
        A segment a nodule, numbered as the boxes' ``line``, "nodule" or "irrelevant".
    """
    shown: list[tuple[list[Reading], list[np.ndarray]]] = []
    voxel = abs(float(np.linalg.det(np.asarray(affine)[:3, :3])))
    for reading in readings.nodules:
        mask = mask_of(reading, shape, affine)
        same = [] if reading.is_small else [g for g in shown if _touches(g, mask)]
        merged = ([reading], [mask])
        for group in same:
            merged = (group[0] + merged[0], group[1] + merged[1])
        shown = [group for group in shown if not any(group is one for one in same)] + [merged]
    boxes, segments = [], []
    for n, (group, masks) in enumerate(shown, start=1):
        by_reader = _by_reader(group, masks)
        seen = sum(by_reader.values(), np.zeros(tuple(shape), np.uint8))
        mask = seen >= max(1, int(np.ceil(share * len(by_reader))))
        if not mask.any():
            mask = seen == seen.max()
        small = group[0].is_small
        irrelevant = small or len(by_reader) < agree
        segment = Segment(n, "irrelevant" if irrelevant else "nodule", mask)
        held = Masks((segment,), np.asarray(affine), readings.series, frame_of_reference)
        box = box_around(segment, held)
        diameter = None if small else float((6 * mask.sum() * voxel / np.pi) ** (1 / 3))
        facts = {"readers": float(len(by_reader))} | _means(group)
        fields = {"line": n, "series": readings.series, "name": "nodule"}
        fields |= {"centre": box.centre, "edges": box.edges, "facts": facts}
        fields |= {"diameter_mm": diameter, "irrelevant": irrelevant}
        boxes.append(Box(frame_of_reference=frame_of_reference, **fields))
        segments.append(segment)
    grid = Masks(tuple(segments), np.asarray(affine), readings.series, frame_of_reference)
    return boxes, grid


def _touches(group: tuple[list[Reading], list[np.ndarray]], mask: np.ndarray) -> bool:
    if group[0][0].is_small:
        return False
    return any(np.count_nonzero(other & mask) > MERGE_OVERLAP for other in group[1])


def _by_reader(group: list[Reading], masks: list[np.ndarray]) -> dict[int, np.ndarray]:
    """Return one mask a reader: one who drew a nodule in two pieces still counts once."""
    found: dict[int, np.ndarray] = {}
    for reading, mask in zip(group, masks, strict=True):
        found[reading.reader] = found.get(reading.reader, np.uint8(0)) | mask.astype(np.uint8)
    return found


def _means(group: list[Reading]) -> dict[str, float]:
    said = {name: [one.ratings[name] for one in group if name in one.ratings] for name in RATINGS}
    return {name: float(np.mean(values)) for name, values in said.items() if values}
