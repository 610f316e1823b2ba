"""The kept fields of a header: these and pseudonyms are all of it that leaves the archive wing."""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any

from pydicom.dataset import Dataset

from tasks.archive import codes
from tasks.archive.elements import Elements
from tasks.archive.kept import KEPT_FIELDS
from tasks.archive.pseudonyms import Pseudonymiser

OLDEST_AGE = 89
"""Ages above are one band: so few are so old that the age names them (HIPAA safe harbour)."""

AGE_BAND_YEARS = 5

_PLAUSIBLE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "kvp": (0, 1_000),  # kV; industrial tubes end below
        "exposure": (0, 100_000),  # mAs
        "field_strength": (0, 30),  # T
        "tr": (0, 1_000_000),  # ms
        "te": (0, 100_000),  # ms
        "ti": (0, 100_000),  # ms
        "slice_thickness": (0, 1_000),  # mm
        "spacing_row": (0, 100),  # mm
        "spacing_col": (0, 100),  # mm
    }
)
"""Numbers outside are no measurement, and might be an identifier in the wrong place: dropped."""

_AGE_TEXT = re.compile(r"(\d{3})([YMWD])")
_DAYS_OF_UNIT = {"Y": 365.25, "M": 30.4375, "W": 7, "D": 1}
_NO_CONTRAST = frozenset(
    {"none", "no", "non", "n", "nein", "without", "0", "na", "n/a", "not used"}
)

_IDENTITY_TAGS = (
    0x00100010,  # patient's name and ids
    0x00100020,
    0x00101000,
    0x00101001,
    0x00101005,
    0x00101060,
    0x00080050,  # accession
    0x00080080,  # institution
    0x00080081,
    0x00081010,  # station
    0x00080090,  # physicians, operators
    0x00081048,
    0x00081050,
    0x00081060,
    0x00081070,
    0x00321032,
    0x00181000,  # serial number
    0x00200010,  # study id
)


def kept_facts(ds: Dataset | Elements, names: Pseudonymiser, patient_key: str) -> dict[str, Any]:
    """Return the kept fields of a header, all of `KEPT_FIELDS`, None where nothing is known.

    Free text passes through `tasks.archive.codes`; numbers are physical or dropped; device and
    site are pseudonyms; the date is shifted. Nothing else of the header is looked at.

    Parameters
    ----------
    ds : Dataset or Elements
        Header of one instance of the series.
    names : Pseudonymiser
    patient_key : str
        Decides the shift of the date.

    Returns
    -------
    dict
        In the order of `KEPT_FIELDS`; lengths in mm, times in ms, kV, mAs, tesla.
    """
    header = ds if isinstance(ds, Elements) else Elements(ds)
    identities = codes.identity_words([header.text(tag) for tag in _IDENTITY_TAGS])
    study_date = _first_date(header)
    spacing = _spacing(header)
    facts = {
        "modality": codes.term(header.text(0x00080060), codes.MODALITIES),
        "body_part": codes.body_part(header.text(0x00180015)),
        "laterality": _laterality(header),
        "view": codes.term(header.text(0x00185101), codes.VIEWS),
        "sex": header.text(0x00100040).upper() if _is_sex(header.text(0x00100040)) else None,
        "age_band": _age_band(header, study_date),
        "manufacturer": codes.manufacturer(header.text(0x00080070)),
        "model": codes.model(header.text(0x00081090), identities),
        "device": _device(header, names),
        "site": names.key("site", header.text(0x00080080)) if header.text(0x00080080) else None,
        "kernel": codes.kernel(header.text(0x00181210), identities) or None,
        "kvp": _measured(header, "kvp", 0x00180060),
        "exposure": _measured(header, "exposure", 0x00181152),
        "field_strength": _measured(header, "field_strength", 0x00180087),
        "sequence": _sequence(header),
        "tr": _measured(header, "tr", 0x00180080),
        "te": _measured(header, "te", 0x00180081),
        "ti": _measured(header, "ti", 0x00180082),
        "contrast": _contrast(header),
        "slice_thickness": _measured(header, "slice_thickness", 0x00180050),
        "spacing_row": spacing[0],
        "spacing_col": spacing[1],
        "rows": _count(header, 0x00280010),
        "cols": _count(header, 0x00280011),
        "frames": _count(header, 0x00280008) or 1,
        "presentation": codes.term(header.text(0x00080068), codes.PRESENTATION),
        "burned_in": {"YES": True, "NO": False}.get(header.text(0x00280301).upper()),
        "transfer_syntax": codes.transfer_syntax(header.transfer_syntax()),
        "photometric": codes.term(header.text(0x00280004), codes.PHOTOMETRIC),
        "date": shifted(study_date, names.date_offset(patient_key)),
    }
    return {name: facts[name] for name in KEPT_FIELDS}


def shifted(day: date | None, offset: int) -> str | None:
    """Return the date moved by the patient's offset in days, ISO 8601, or None."""
    try:
        return None if day is None else (day + timedelta(days=offset)).isoformat()
    except OverflowError:
        return None


def _measured(header: Elements, name: str, tag: int, at: int = 0) -> float | None:
    value = header.number(tag, at)
    low, high = _PLAUSIBLE[name]
    return value if value is not None and low <= value <= high else None


def _count(header: Elements, tag: int) -> int | None:
    value = header.number(tag)
    # The largest matrix an unsigned short can hold, and more frames than any cine has.
    return int(value) if value is not None and 0 < value < 1 << 16 else None


def _first_date(header: Elements) -> date | None:
    days = (header.day(tag) for tag in (0x00080020, 0x00080021, 0x00080022, 0x00080023))
    return next((day for day in days if day is not None), None)


def _is_sex(text: str) -> bool:
    return text.upper() in {"M", "F", "O"}


def _laterality(header: Elements) -> str | None:
    text = header.text(0x00200062) or header.text(0x00200060)
    return codes.term(text, {"R", "L", "U", "B"})


def _age_band(header: Elements, day: date | None) -> str | None:
    """Return five years as "45-49", or "90+"; from the age, else from the date of birth."""
    found = _AGE_TEXT.fullmatch(header.text(0x00101010).upper())
    birth = header.day(0x00100030)
    if found:
        years = int(int(found[1]) * _DAYS_OF_UNIT[found[2]] / 365.25)
    elif birth and day and birth <= day:
        years = day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))
    else:
        return None
    if years > OLDEST_AGE:
        return f"{OLDEST_AGE + 1}+"
    low = years - years % AGE_BAND_YEARS
    return f"{low}-{low + AGE_BAND_YEARS - 1}"


def _device(header: Elements, names: Pseudonymiser) -> str | None:
    """Return a scanner's pseudonym: vendor and model with the serial number, else the station."""
    own = header.text(0x00181000) or header.text(0x00081010)
    if not own:
        return None
    return names.key("device", f"{header.text(0x00080070)}|{header.text(0x00081090)}|{own}")


def _sequence(header: Elements) -> str | None:
    found = {str(value).upper() for value in header.values(0x00180020)}
    if not found:
        return None
    return "+".join(term for term in codes.SEQUENCES if term in found) or codes.OTHER


def _contrast(header: Elements) -> bool | None:
    """Return None where the header does not speak of contrast at all."""
    if not (0x00180010 in header or 0x00180012 in header):
        return None
    text = header.text(0x00180010)
    if text:
        return text.casefold() not in _NO_CONTRAST
    return bool(header.values(0x00180012))


def _spacing(header: Elements) -> tuple[float | None, float | None]:
    """Return (between rows, between columns) in mm: in the patient, else at the detector."""
    for tag in (0x00280030, 0x00181164, 0x00182010):
        row, col = _measured(header, "spacing_row", tag), _measured(header, "spacing_col", tag, 1)
        if row and col:
            return row, col
    return None, None
