"""Several views of a study as one answer: what figures are of where studies are judged.

A radiograph of a wrist is two views and one finding.  Views are judged one by one and put together
by their mean (MURA: Rajpurkar et al. 2018) or by the view that looks worst.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from tasks.evaluate.predictions import Predictions

Views = Literal["mean", "max"]
"""How the views of a study become one answer."""


def join_views(probability: np.ndarray, how: Views, positive: int | None) -> np.ndarray:
    """Return a study's probabilities.

    Parameters
    ----------
    probability : array, shape (n, k)
        Of its n views.
    how : str
        ``mean``, or ``max``: the view with the highest probability of the positive class.
    positive : int, optional
        Column of the positive class; ``max`` needs it.

    Returns
    -------
    array, shape (k,)
    """
    probability = np.asarray(probability, float)
    if how == "mean":
        return probability.mean(0)
    return probability[probability[:, positive].argmax()]


def of_studies(views: Predictions, study_of: Mapping[str, str], how: Views) -> Predictions:
    """Return what is said of studies, in the order in which their first views stand.

    Of two classes a study is positive when any of its views is labelled so: a fracture may show in
    one view alone.

    Parameters
    ----------
    views : Predictions
    study_of : mapping of case id to study
        Every view's.
    how : str
        As `join_views`.

    Raises
    ------
    ValueError
        Views of one study have different labels of three or more classes, or different patients.
    """
    rows: dict[str, list[int]] = {}
    for i, case_id in enumerate(views.case_ids):
        rows.setdefault(study_of[case_id], []).append(i)
    positive = views.positive_index if views.binary else None
    patients = [{views.patient_keys[i] for i in own} for own in rows.values()]
    if mixed := sum(len(keys) > 1 for keys in patients):
        raise ValueError(f"{mixed} studies have views of several patients; correct their headers")
    return Predictions(
        tuple(rows),
        tuple(next(iter(keys)) for keys in patients),
        np.array([_target(views.target[own], positive) for own in rows.values()], np.int64),
        np.array([join_views(views.probability[own], how, positive) for own in rows.values()]),
        views.classes,
        views.positive,
    )


def _target(labels: np.ndarray, positive: int | None) -> int:
    if positive is not None and (labels == positive).any():
        return positive
    if len(set(labels.tolist())) > 1:
        raise ValueError(
            "views of one study have different labels, and of more than two classes none goes "
            "before the others; label studies (join: accession or study), or judge cases"
        )
    return int(labels[0])
