"""All that is kept of a header, the one list of it; light to import."""

from types import MappingProxyType

FACT_TYPES: MappingProxyType[str, type] = MappingProxyType(
    {
        "modality": str,
        "body_part": str,
        "laterality": str,
        "view": str,
        "sex": str,
        "age_band": str,
        "manufacturer": str,
        "model": str,
        "device": str,
        "site": str,
        "kernel": str,
        "kvp": float,
        "exposure": float,
        "field_strength": float,
        "sequence": str,
        "tr": float,
        "te": float,
        "ti": float,
        "contrast": bool,
        "slice_thickness": float,
        "spacing_row": float,
        "spacing_col": float,
        "rows": int,
        "cols": int,
        "frames": int,
        "presentation": str,
        "burned_in": bool,
        "transfer_syntax": str,
        "photometric": str,
        "date": str,
    }
)
"""Name and type of each, in the order of the catalog's columns."""

KEPT_FIELDS: tuple[str, ...] = tuple(FACT_TYPES)
