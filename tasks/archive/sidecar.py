"""Sidecars of exported volumes: kept acquisition fields under the names that BIDS gives them.

Only kept header fields go in, so a sidecar names nobody; units as in BIDS (seconds, tesla, mm).
"""

import re
from collections.abc import Mapping
from typing import Any

from tasks.archive.volume import Volume

_PLAIN = {
    "modality": "Modality",
    "manufacturer": "Manufacturer",
    "model": "ManufacturersModelName",
    "body_part": "BodyPartExamined",
    "field_strength": "MagneticFieldStrength",
    "sequence": "ScanningSequence",
    "kernel": "ConvolutionKernel",
    "kvp": "KVP",
    "exposure": "XRayExposure",
    "slice_thickness": "SliceThickness",
    "view": "ViewPosition",
    "laterality": "Laterality",
}
"""Kept field -> BIDS key (dcm2niix's where BIDS has none) of the same unit."""

_MILLISECONDS = {"tr": "RepetitionTime", "te": "EchoTime", "ti": "InversionTime"}
"""Kept in milliseconds, as DICOM has them; BIDS wants seconds."""

_VARIED = {"flip": "FlipAngle", "kvp": "KVP", "b": "DiffusionBValue"}
"""What a volume's key says about it and BIDS has a name for, in the same unit."""

_UNSAFE = re.compile(r"[^A-Za-z0-9.=-]+")


def sidecar(facts: Mapping[str, Any], volume: Volume) -> dict[str, Any]:
    """Return the JSON that goes beside a volume.

    Parameters
    ----------
    facts : mapping
        Kept header fields of the series.
    volume : Volume

    Returns
    -------
    dict
        BIDS keys at the top; ``volume``, ``facts`` and ``certificate`` are radloop's own.
    """
    told = dict(part.split("=", 1) for part in volume.key.split(",") if "=" in part)
    found: dict[str, Any] = {
        name: facts[field] for field, name in _PLAIN.items() if facts.get(field) is not None
    }
    for field, name in _MILLISECONDS.items():
        value = _number(told.get(field)) if field in told else facts.get(field)
        if value is not None:
            found[name] = float(value) / 1000
    for field, name in _VARIED.items():
        value = _number(told.get(field))
        if value is not None:
            found[name] = value
    if len(volume.array) > 1 and volume.facts.get("axis") != "time":
        found["SpacingBetweenSlices"] = volume.certificate["spacing"][0]
    return {
        **found,
        "ConversionSoftware": "radloop",
        "volume": volume.key,
        "facts": {**dict(facts), **volume.facts},
        "certificate": volume.certificate,
    }


def file_stem(series_key: str, key: str) -> str:
    """Return the name of a volume's files without their ending."""
    return series_key + (f"_{_UNSAFE.sub('-', key)}" if key else "")


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
