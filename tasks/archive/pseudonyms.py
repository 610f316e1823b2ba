"""Pseudonyms of one project: keyed, the same for ever, unlinkable to those of another."""

import hmac
import re
from dataclasses import dataclass, field

from tasks.archive.textform import normalise

KEY_KINDS = frozenset(
    {"patient", "study", "series", "sop", "accession", "site", "device", "case", "frame", "result"}
)

KEY_BYTES = 16
"""128 bits of HMAC-SHA256 (RFC 2104 allows truncation to half the output)."""

MAX_DATE_OFFSET = 3650
"""Dates move back by 1 to this many days, the same for all of a patient: intervals stay."""

_PLACEHOLDER_IDS = frozenset(
    {
        "anon",
        "anonymous",
        "anonymized",
        "anonymised",
        "anonymisiert",
        "deidentified",
        "de-identified",
        "default",
        "dummy",
        "missing",
        "n/a",
        "na",
        "nan",
        "nil",
        "none",
        "no-id",
        "noid",
        "not_available",
        "null",
        "patient",
        "removed",
        "test",
        "testid",
        "unbekannt",
        "undefined",
        "unknown",
        "unkn",
        "unnamed",
        "--",
        "-",
        ".",
        "?",
        "*",
    }
)

_ONE_CHARACTER = re.compile(r"(.)\1*")


@dataclass(frozen=True)
class Pseudonymiser:
    """A project's key, and the pseudonyms it gives."""

    project_key: bytes = field(repr=False)

    def key(self, kind: str, value: str) -> str:
        """Return HMAC-SHA256(project key, kind | normalised value) as 32 hexadecimal characters.

        Raises
        ------
        ValueError
            For a kind that is not in `KEY_KINDS`, or an empty value, which would join strangers.
        """
        if kind not in KEY_KINDS:
            raise ValueError(f"No pseudonym of kind {kind!r}: give one of {sorted(KEY_KINDS)}.")
        value = normalise(value)
        if not value:
            raise ValueError(f"An empty {kind} has no pseudonym: all empty ones would be joined.")
        return self._hmac(f"{kind}|{value}").hex()

    def patient(self, patient_id: str, issuer: str, study_uid: str) -> str:
        """Return a patient's pseudonym.

        Parameters
        ----------
        patient_id : str
            Empty ids and placeholders never join two studies: the study stands for the patient.
        issuer : str
            Who gave the id (Issuer of Patient ID, else the source's alias): the id 4711 of two
            hospitals is two patients.
        study_uid : str

        Raises
        ------
        ValueError
            When neither an id nor a study is there.
        """
        patient_id = normalise(patient_id)
        if is_placeholder(patient_id):
            return self.key("patient", f"study|{normalise(study_uid)}" if study_uid else "")
        issuer = normalise(issuer)
        # The length keeps ("a", "b|c") and ("a|b", "c") apart.
        return self.key("patient", f"{len(issuer)}|{issuer}|{patient_id}")

    def date_offset(self, patient_key: str) -> int:
        """Return by how many days this patient's dates move, in [-3650, -1]."""
        number = int.from_bytes(self._hmac(f"date|{patient_key}")[:8], "big")
        return -1 - number % MAX_DATE_OFFSET

    def derive(self, purpose: str) -> bytes:
        """Return a key of 32 bytes for another purpose, from which this one cannot be told."""
        return hmac.digest(self.project_key, f"derive|{purpose}".encode(), "sha256")

    def _hmac(self, text: str) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        return hmac.digest(self.project_key, data, "sha256")[:KEY_BYTES]


def is_placeholder(patient_id: str) -> bool:
    """Tell an id that names nobody: empty, ``anonymous``, ``000000``, ``xxx``."""
    text = patient_id.casefold()
    if text in _PLACEHOLDER_IDS:
        return True
    return not text or (_ONE_CHARACTER.fullmatch(text) is not None and text[0] in "0x-_.*?# 9")
