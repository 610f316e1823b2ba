"""The one sex of a patient, as far as the headers agree.

Sex is a fact of a person and not of an image: where the headers of a patient's cases name two, one
of them is wrong, or two people share an id. Nobody can tell which from the headers alone.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the catalog brings SQLAlchemy
    from tasks.archive.catalog import Case

SEX = "sex"

UNKNOWN = "unknown"
"""Group of the patients whose headers name two sexes."""


def sex_of_patients(cases: Iterable["Case"]) -> dict[str, str | None]:
    """Return each patient's sex: what is stated, `UNKNOWN` where it differs, None where it is not.

    Parameters
    ----------
    cases : iterable of Case
        All cases of the cohort: a patient's other cases may lie outside of what is judged.
    """
    stated: dict[str, set[str]] = {}
    for case in cases:
        named = stated.setdefault(case.patient_key, set())
        if value := case.facts.get(SEX):
            named.add(str(value))
    return {key: _one(values) for key, values in stated.items()}


def sexes_in_words(cases: Iterable["Case"]) -> str | None:
    """Return a warning with the patients whose headers name two sexes, or None without any."""
    sexes = sex_of_patients(cases)
    several = sum(value == UNKNOWN for value in sexes.values())
    if not several:
        return None
    return (
        f"{several} of {len(sexes)} patients have two sexes in their headers and count as "
        f"{UNKNOWN} among the subgroups of sex: check whether their images are of one person"
    )


def _one(values: set[str]) -> str | None:
    if len(values) > 1:
        return UNKNOWN
    return next(iter(values), None)
