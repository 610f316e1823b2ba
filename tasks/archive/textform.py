"""The one form of a text that is compared: join keys of headers, tables and labels."""

import unicodedata


def normalise(value: str) -> str:
    """Return a text in its one form: NFKC, without padding or white space round it."""
    if not value.isascii():
        value = unicodedata.normalize("NFKC", value)
    # DICOM pads with a space or a NUL (PS3.5 6.2); spreadsheets bring byte order marks.
    return value.strip(" \0\t\r\n\f\v\u200b\ufeff")
