"""From stored values to real units (CT, MR, PET) and to shown grey values (radiographs and others).

Order of the steps as in PS3.4 annex N.2: modality LUT, VOI LUT or window, then polarity.
"""

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from tasks.archive import codes
from tasks.archive.elements import quiet
from tasks.archive.pixels import decode_frame, decodes_to_rgb, padding_mask
from tasks.archive.shutter import shutter_mask
from tasks.errors import BadCase

AIR_HU = -1024
"""What CT padding outside the reconstruction circle becomes: air, as scanners without padding."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance (ITU-R BT.601, as YBR_FULL in PS3.3 C.7.6.3.1.2)."""

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")


def exact(values: np.ndarray) -> np.ndarray:
    """Return integers as int16 or else int32 when they fit, all else as float32."""
    if values.dtype.kind in "iu" and values.size:
        low, high = int(values.min()), int(values.max())
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return values.astype(kind, copy=False)
    return values.astype(np.float32, copy=False)


def rescale_of(dataset: Dataset) -> tuple[float, float]:
    """Return Rescale Slope and Intercept, (1, 0) when absent.

    Philips MR of some releases states them only as a Real World Value Mapping (PS3.3
    C.7.6.16.2.11), slice by slice; the one linear mapping of a file without rescale is its rescale.

    Raises
    ------
    BadCase
        ``invalid_rescale`` when they are no numbers or the slope is zero.
    """
    try:
        slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        worlds = dataset.get("RealWorldValueMappingSequence") or ()
        if slope in (None, "") and len(worlds) == 1 and "RealWorldValueSlope" in worlds[0]:
            slope = worlds[0].RealWorldValueSlope
            intercept = worlds[0].get("RealWorldValueIntercept")
        pair = (1.0 if slope in (None, "") else float(slope), float(intercept or 0))
    except (TypeError, ValueError):
        pair = (np.nan, np.nan)
    if not np.all(np.isfinite(pair)) or pair[0] == 0:
        raise BadCase("invalid_rescale", f"rescale slope and intercept are {pair}")
    return pair


def real_units(
    stored: np.ndarray, dataset: Dataset, rescale: tuple[float, float] | None = None
) -> np.ndarray:
    """Apply the modality LUT (PS3.3 C.11.1) of this very slice.

    Parameters
    ----------
    stored : array
        Stored values.
    dataset : pydicom.Dataset
        The file.
    rescale : tuple of float, optional
        Slope and intercept of a frame of an enhanced file, which overrule those of the file.

    Returns
    -------
    array
        Same shape; int16 or int32 when slope and intercept are whole numbers, else float32.
    """
    if rescale is None and dataset.get("ModalityLUTSequence"):
        with quiet():
            return exact(apply_modality_lut(stored, dataset))
    slope, intercept = rescale_of(dataset) if rescale is None else rescale
    if slope.is_integer() and intercept.is_integer():
        if (slope, intercept) == (1, 0):
            return exact(stored)
        return _whole(stored, int(slope), int(intercept))
    return (stored * slope + intercept).astype(np.float32)


def _whole(stored: np.ndarray, slope: int, intercept: int) -> np.ndarray:
    """Return integers of a whole slope and intercept, as `exact` would, without wider ones between.

    In 16 bits sums and products are right modulo 65536; where both ends fit, so is every value.
    """
    if stored.size and stored.dtype.itemsize == 2:
        ends = [int(end) * slope + intercept for end in (stored.min(), stored.max())]
        room = np.iinfo(np.int16)
        if room.min <= min(ends) and max(ends) <= room.max:
            factor, addend = (
                np.array(n % 65536, np.uint16).view(np.int16) for n in (slope, intercept)
            )
            values = stored.view(np.int16)
            return values + addend if slope == 1 else values * factor + addend
    return exact(stored.astype(np.int64) * slope + intercept)


def slice_in_units(
    dataset: Dataset,
    stored: np.ndarray | None = None,
    rescale: tuple[float, float] | None = None,
) -> np.ndarray:
    """Return one grey slice in real units; CT padding becomes air.

    Parameters
    ----------
    dataset : pydicom.Dataset
    stored : array, shape (rows, columns), optional
        Stored values of the frame; the file's first frame is decoded without them.
    rescale : tuple of float, optional
        As for `real_units`.

    Raises
    ------
    BadCase
        ``not_grey`` for colour, and the reasons of `decode_frame`.
    """
    if str(dataset.get("PhotometricInterpretation")) not in MONOCHROME:
        raise BadCase("not_grey", f"{_photometric_term(dataset)} slice in a volume")
    stored = decode_frame(dataset) if stored is None else stored
    values = real_units(stored, dataset, rescale)
    padding = padding_mask(stored, dataset) if dataset.get("Modality") == "CT" else None
    if padding is not None:
        values = np.where(padding, values.dtype.type(AIR_HU), values)
    return values


def shown_grey(dataset: Dataset, stored: np.ndarray | None = None) -> tuple[np.ndarray, str]:
    """Return a single image in the grey values a reader sees, bright for dense.

    Parameters
    ----------
    dataset : pydicom.Dataset
    stored : array, optional
        Stored values of the frame; the file's first frame is decoded without them.

    Returns
    -------
    array, shape (rows, columns)
        int16/int32 when no window or LUT was applied, else float32. MONOCHROME1 and an INVERSE
        Presentation LUT Shape (PS3.3 C.11.6) are inverted after the VOI step, once; declared
        padding and what lies behind the shutter is black.
    str
        What the VOI step was: ``"lut"``, ``"window"`` or ``"none"``.

    Raises
    ------
    BadCase
        ``unsupported_photometric`` or the reasons of `decode_frame`.
    """
    photometric = str(dataset.get("PhotometricInterpretation"))
    stored = decode_frame(dataset) if stored is None else stored
    if photometric not in MONOCHROME:
        return exact(_luminance(stored, dataset, photometric)), "none"
    voi = _voi_kind(dataset)
    shown = _shown(stored, dataset, voi)
    # In a radiograph both say the same thing: MONOCHROME1 comes with the shape INVERSE.
    if photometric == "MONOCHROME1" or str(dataset.get("PresentationLUTShape")) == "INVERSE":
        # The ends of what can be shown, not of this image: equal stored values stay equal.
        ends = _shown(_stored_ends(stored, dataset), dataset, voi)
        shown = ends.min() + ends.max() - shown
    hidden = padding_mask(stored, dataset)
    shutter = shutter_mask(dataset, shown.shape)
    if shutter is not None:
        hidden = shutter if hidden is None else hidden | shutter
    if hidden is not None and not hidden.all():
        shown = np.where(hidden, shown[~hidden].min(), shown)
    return exact(shown), voi


def _shown(stored: np.ndarray, dataset: Dataset, voi: str) -> np.ndarray:
    values = real_units(stored, dataset)
    wide = values.astype(np.int64 if values.dtype.kind in "iu" else np.float64)
    if voi == "none":
        return wide
    try:
        with quiet():
            return apply_voi_lut(wide, dataset, index=0, prefer_lut=True)
    except Exception as error:  # a LUT or window of impossible form
        raise BadCase("invalid_voi", f"VOI LUT or window fails ({type(error).__name__})") from None


def _voi_kind(dataset: Dataset) -> str:
    """Name the VOI step; a linear window narrower than 1 (PS3.3 C.11.2.1.2) is passed over."""
    if dataset.get("VOILUTSequence"):
        return "lut"
    width = dataset.get("WindowWidth")
    if width in (None, "") or dataset.get("WindowCenter") in (None, ""):
        return "none"
    first = float(width if isinstance(width, int | float) else width[0])
    linear = str(dataset.get("VOILUTFunction") or "LINEAR").upper() == "LINEAR"
    return "window" if first >= (1 if linear else np.finfo(float).tiny) else "none"


def _stored_ends(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    low = -(1 << (bits - 1)) if stored.dtype.kind == "i" else 0
    return np.array([[low, low + (1 << bits) - 1]], dtype=stored.dtype)


def _luminance(stored: np.ndarray, dataset: Dataset, photometric: str) -> np.ndarray:
    """Return the grey of a colour image."""
    if photometric == "PALETTE COLOR":
        try:
            with quiet():
                stored = apply_color_lut(stored, dataset)
        except Exception as error:
            raise BadCase(
                "unsupported_photometric", f"its palette fails ({type(error).__name__})"
            ) from None
        return _weighted(stored)
    if stored.ndim == 3 and (photometric == "RGB" or decodes_to_rgb(dataset)):
        return _weighted(stored)
    if stored.ndim == 3 and photometric in ("YBR_FULL", "YBR_FULL_422"):
        return stored[..., 0]  # Y is the luminance
    raise BadCase(
        "unsupported_photometric", f"photometric interpretation {_photometric_term(dataset)}"
    )


def _photometric_term(dataset: Dataset) -> str:
    # What is no term of the standard may be anything, also a name.
    text = str(dataset.get("PhotometricInterpretation") or "")
    return codes.term(text, codes.PHOTOMETRIC) or "no"


def _weighted(rgb: np.ndarray) -> np.ndarray:
    return np.rint(rgb[..., :3] @ np.array(LUMINANCE)).astype(np.int64)
