"""Tabular models on disk without pickle: skops files and an explicit list of trusted types."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ModelRefused

TRUSTED_TYPES = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
"""Beyond what skops trusts itself: plain data of the estimators in the table, nothing callable."""


def save_skops(model: Any, path: str | Path) -> None:
    """Write a fitted model; ModelRefused when it holds a type that could not be read back."""
    import skops.io

    data = skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED)
    _refuse_untrusted(skops.io.get_untrusted_types(data=data), (), "the model")
    Path(path).write_bytes(data)


def load_skops(path: str | Path, also_trusted: Sequence[str] = ()) -> Any:
    """Read a model whose every type is on the list; nothing of another type is constructed.

    Parameters
    ----------
    path : path
        A ``model.skops``.
    also_trusted : sequence of str
        Types of a foreign estimator that the person who runs the project has approved.

    Raises
    ------
    ModelRefused
        When the file is not a skops file or holds another type; the message names it.
    """
    import skops.io

    name = Path(path).name
    try:
        untrusted = skops.io.get_untrusted_types(file=path)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ModelRefused(f"{name} is not a skops file: train the model again") from error
    _refuse_untrusted(untrusted, also_trusted, name)
    return skops.io.load(path, trusted=[*TRUSTED_TYPES, *also_trusted])


def _refuse_untrusted(found: Sequence[str], also: Sequence[str], what: str) -> None:
    wrong = sorted(set(found) - set(TRUSTED_TYPES) - set(also))
    if wrong:
        raise ModelRefused(
            f"{what} holds {len(wrong)} types that are not trusted ({', '.join(wrong[:3])}): "
            "use an estimator of the table or have its types approved"
        )
