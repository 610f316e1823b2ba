"""Late fusion of two models whose cases are of different patients, paired at random by class.

No such pair is a person.  Given the class, what two paired models say is independent by
construction, which real measurements of one tumour are not: a fusion gains more here than it would
on patients.  So this shows the way and measures nothing; whoever reports it has to say so.
"""

from collections.abc import Mapping

import numpy as np

from tasks.evaluate.predictions import Predictions
from tasks.learn.fusion import apply_fusion, fit_fusion


def pair_by_class(said: Mapping[str, Predictions], seed: int) -> dict[str, Predictions]:
    """Return predictions of invented pairs: each of one case of every model, all of one class.

    Parameters
    ----------
    said : mapping of name to Predictions
        Of two classes each; a patient with several cases lends the first one of them.
    seed : int

    Returns
    -------
    dict of name to Predictions
        The same pairs in the same order; there are as many of a class as the model with the fewest
        patients of it has.

    Raises
    ------
    ValueError
        A model has more than two classes, or none of the patients of a class.
    """
    rng = np.random.default_rng(seed)
    kept = {name: one.take(_first_of_patient(one)) for name, one in said.items()}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in kept}
    for truth in (0, 1):
        of_class = {name: np.flatnonzero(one.truth == truth) for name, one in kept.items()}
        n = min(len(index) for index in of_class.values())
        if not n:
            raise ValueError(
                f"a model has no patient whose truth is {truth}: nothing can be paired"
            )
        for name, index in of_class.items():
            rows[name].append(rng.permutation(index)[:n])
    return {name: _renamed(one.take(np.concatenate(rows[name]))) for name, one in kept.items()}


def fuse_pairs(
    training: Mapping[str, Predictions], test: Mapping[str, Predictions]
) -> tuple[Predictions, Predictions]:
    """Fit a fusion on pairs of the training sides and apply it to both sides.

    Parameters
    ----------
    training, test : mapping of name to Predictions
        Of `pair_by_class`; those of the training sides out of fold.

    Returns
    -------
    Predictions
        Of the training pairs, by weights that saw them: for a threshold, not for a figure.
    Predictions
        Of the test pairs.
    """
    target = next(iter(training.values())).truth
    # Binary and in one order, whatever the classes are called on either side.
    model = fit_fusion({name: _two(one) for name, one in training.items()}, target, 2)
    return _fused(model, training), _fused(model, test)


def _fused(model: Mapping, said: Mapping[str, Predictions]) -> Predictions:
    first = next(iter(said.values()))
    probability = apply_fusion(model, {name: _two(one) for name, one in said.items()})
    return Predictions(
        first.case_ids, first.patient_keys, first.truth, probability, *_classes(first)
    )


def _two(one: Predictions) -> np.ndarray:
    return np.stack([1 - one.score, one.score], axis=1)


def _classes(one: Predictions) -> tuple[tuple[str, str], str]:
    positive = one.classes[one.positive_index]
    (other,) = (name for name in one.classes if name != positive)
    return (other, positive), positive


def _first_of_patient(one: Predictions) -> np.ndarray:
    return np.sort(np.unique(one.patient_keys, return_index=True)[1])


def _renamed(one: Predictions) -> Predictions:
    names = tuple(f"pair {number}" for number in range(len(one)))
    return Predictions(names, names, one.truth, _two(one), *_classes(one))
