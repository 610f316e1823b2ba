"""Cases of one study: which belong together, and what is said of all of them."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.archive.catalog import Case
from tasks.errors import BadCase
from tasks.learn.answer import study_probability
from tasks.learn.judgement import Judgement
from tasks.learn.model_file import ModelSpec


def first_of_study(cases: Iterable[Case]) -> dict[str, str]:
    """Return case id -> id of the first case of the same study of the same patient.

    A case without a study stands for itself.
    """
    found: dict[str, str] = {}
    first: dict[tuple[str, str], str] = {}
    for case in cases:
        study = case.patient_key, case.study_key or case.case_id
        found[case.case_id] = first.setdefault(study, case.case_id)
    return found


def by_study(cases: Iterable[Case]) -> list[Case]:
    """Return cases with those of a study side by side, as `with_study` needs them."""
    chosen = list(cases)
    first = first_of_study(chosen)
    return sorted(chosen, key=lambda case: first[case.case_id])


def with_study(
    spec: ModelSpec, judged: Iterable[tuple[str, Judgement | BadCase]], study_of: dict[str, str]
) -> Iterator[tuple[str, Judgement | BadCase]]:
    """Give each view's judgement the answer about its study.

    Parameters
    ----------
    spec : ModelSpec
        Of a model that judges studies.
    judged : iterable of (case id, Judgement or BadCase)
        Those of a study one after the other; views that could not be judged are in no answer.
    study_of : dict of case id to study
    """
    for study, group in itertools.groupby(judged, key=lambda pair: study_of[pair[0]]):
        views = list(group)
        good = {i: one.probability for i, one in views if not isinstance(one, BadCase)}
        said: Any = study_probability(spec, np.array(list(good.values()))) if good else None
        told = {"study": study, "of_study": said, "views": len(good), "view_ids": tuple(good)}
        for case_id, one in views:
            if isinstance(one, BadCase):
                yield case_id, one
            else:
                yield case_id, replace(one, **told)
