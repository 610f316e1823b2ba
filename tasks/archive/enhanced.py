"""Enhanced multi-frame objects: place, scale and meaning of each frame (PS3.3 C.7.6.16)."""

from typing import Any

from pydicom import Dataset

from tasks.archive.frames import Frame, Planes, image_type, number, numbers, pixel_spacing
from tasks.archive.grey import rescale_of
from tasks.archive.pixel_format import frame_count
from tasks.errors import BadCase

_FRAME_TYPES = (
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XRay3DFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
)


def enhanced_frames(dataset: Dataset, name: str = "") -> list[Frame]:
    """Return the frames of an enhanced object, in the order of the file.

    Raises
    ------
    BadCase
        ``invalid_header`` when the functional groups do not fit the frames.
    """
    count = frame_count(dataset)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(each) != count:
        raise BadCase(
            "invalid_header", f"{len(each)} items of functional groups for {count} frames"
        )
    planes, shape = Planes(dataset, name), (int(dataset.Rows), int(dataset.Columns))
    return [_frame(dataset, planes, k, shape, own, shared) for k, own in enumerate(each)]


def _frame(
    dataset: Dataset,
    planes: Planes,
    index: int,
    shape: tuple[int, int],
    own: Dataset,
    shared: Dataset,
) -> Frame:
    def group(name: str) -> Dataset:
        """Return a functional group: of the frame, else shared (PS3.3 C.7.6.16.1.1)."""
        return (own.get(name) or shared.get(name) or [Dataset()])[0]

    measures = group("PixelMeasuresSequence")
    # Old writers leave the spacing at the top of the object.
    spacing, fact = pixel_spacing(measures if "PixelSpacing" in measures else dataset)
    holders = (group("PixelValueTransformationSequence"), own, shared)
    named = ("RescaleSlope", "RealWorldValueMappingSequence")
    scaled = next((h for h in holders if any(name in h for name in named)), dataset)
    return Frame(
        source=planes,
        index=index,
        position=numbers(group("PlanePositionSequence").get("ImagePositionPatient")),
        orientation=numbers(group("PlaneOrientationSequence").get("ImageOrientationPatient")),
        spacing=spacing,
        spacing_fact=fact,
        shape=shape,
        image_type=_frame_type(dataset, group),
        rescale=rescale_of(scaled),
        varies=_varying(group),
    )


def _frame_type(dataset: Dataset, group: Any) -> tuple[str, ...]:
    for name in _FRAME_TYPES:
        words = group(name)
        value = words.get("FrameType")
        if value:
            component = words.get("ComplexImageComponent")
            typed = Dataset()
            typed.ImageType = value
            return (*image_type(typed), *((str(component).upper(),) if component else ()))
    return image_type(dataset)


def _varying(group: Any) -> dict[str, Any]:
    content, diffusion = group("FrameContentSequence"), group("MRDiffusionSequence")
    direction = (diffusion.get("DiffusionGradientDirectionSequence") or [Dataset()])[0]
    way = numbers(direction.get("DiffusionGradientOrientation"))
    energy = (group("CTXRayDetailsSequence"), group("MRModifierSequence"))
    inversion = energy[1].get("InversionTimes")
    trigger = group("CardiacSynchronizationSequence").get("NominalCardiacTriggerDelayTime")
    when = str(content.get("FrameAcquisitionDateTime") or "").split("+")[0]
    return {
        "te": number(group("MREchoSequence").get("EffectiveEchoTime")),
        "ti": number(inversion if not hasattr(inversion, "__len__") else inversion[0]),
        "flip": number(group("MRTimingAndRelatedParametersSequence").get("FlipAngle")),
        "kvp": number(energy[0].get("KVP")),
        "b": number(diffusion.get("DiffusionBValue")),
        "direction": tuple(round(v, 4) for v in way) or _no_direction(diffusion),
        "time": number(content.get("TemporalPositionIndex")),
        "phase": number(trigger),
        "acquisition": number(content.get("FrameAcquisitionNumber")),
        "stack": str(content.get("StackID") or "") or None,
        "clock": number(when),
    }


def _no_direction(diffusion: Dataset) -> str | None:
    """Keep trace images (ISOTROPIC) apart from those of no diffusion weighting at all."""
    word = str(diffusion.get("DiffusionDirectionality") or "")
    return word.lower() if word in ("ISOTROPIC", "BMATRIX") else None
