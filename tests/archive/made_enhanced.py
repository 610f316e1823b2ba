"""Enhanced multi-frame files made in code, with their truth."""

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from tests.archive.made_dicom import encode, header


def item(**elements) -> Dataset:
    """A data set of the given elements."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced(
    positions: list[tuple[float, float, float]],
    pixels: np.ndarray,
    *,
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    slopes: list[float] | None = None,
    echoes: list[float] | None = None,
    b_values: list[float] | None = None,
    times: list[int] | None = None,
    encoded: list[bytes] | None = None,
) -> Dataset:
    """An Enhanced MR image; frame k lies at positions[k] and holds pixels[k] (12 bits stored)."""
    dataset = header(1, Modality="MR", SOPClassUID=EnhancedMRImageStorage, PixelSpacing=None,
                     ImagePositionPatient=None, ImageOrientationPatient=None)  # fmt: skip
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "T1", "NONE"]
    measures = item(PixelSpacing=["0.8", "0.7"], SliceThickness="9")
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[measures],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(orientation))],
        )
    ]
    frames = []
    for k, position in enumerate(positions):
        own = item(
            PlanePositionSequence=[item(ImagePositionPatient=[f"{v:.10g}" for v in position])]
        )
        if slopes:
            own.PixelValueTransformationSequence = [
                item(RescaleSlope=f"{slopes[k]:g}", RescaleIntercept="-3", RescaleType="US")
            ]
        if echoes:
            own.MREchoSequence = [item(EffectiveEchoTime=echoes[k])]
        if b_values:
            own.MRDiffusionSequence = [item(DiffusionBValue=b_values[k])]
        own.FrameContentSequence = [item(TemporalPositionIndex=times[k] if times else 1)]
        frames.append(own)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.PixelData = encapsulate(encoded) if encoded else pixels.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OB" if encoded else "OW"
    dataset["PixelData"].is_undefined_length = bool(encoded)
    return dataset


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a data set whose pixels are in the given syntax."""
    path.write_bytes(encode(dataset, syntax))
    return path
