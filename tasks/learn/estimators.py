"""The table of tabular estimators: what each is, its parameters, and the pipeline around it.

Scaling, imputation and encoding stand inside the pipeline, so they are fitted inside the fold.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.errors import LeakageError

if TYPE_CHECKING:
    import pandas as pd

MAX_ITERATIONS = 5_000
"""Enough for logistic regression and the small network to converge on scaled columns."""


@dataclass(frozen=True)
class Estimator:
    """One row of the table; classes are named, not imported, so that a scenario reads fast."""

    summary: str
    place: str
    """``module:Class`` of a scikit-learn classifier, or nothing."""
    parameters: tuple[str, ...]
    """What a scenario may set."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    seeded: bool = True
    scaled: bool = True
    """Columns are centred and scaled (median filled first); trees do not need it."""
    raw: bool = False
    """Columns go in as they are: neither filled, scaled nor encoded."""
    calibrated: bool = False
    """Has no probabilities: Platt's sigmoid is fitted on decision values held out by patient."""
    regressor: str = ""
    """``module:Class`` of the same method for numbers; its classifier may be none."""

    @property
    def of_numbers(self) -> tuple[str, ...]:
        """What a scenario may set of the regressor."""
        return tuple(name for name in self.parameters if name not in _OF_CLASSES)


_OF_CLASSES = ("class_weight",)
"""Parameters that only classifiers have."""

_SVM = ("C", "gamma", "class_weight", "tol")
_TREE = ("max_depth", "min_samples_leaf", "max_features", "class_weight", "criterion")

ESTIMATORS: dict[str, Estimator] = {
    "seed_svc": Estimator(
        "support vector machine on unscaled columns, as the first script had it",
        "sklearn.svm:SVC", (), raw=True, seeded=False, calibrated=True,
    ),
    "svm_rbf": Estimator(
        "support vector machine, radial basis", "sklearn.svm:SVC", _SVM,
        seeded=False, calibrated=True,
    ),
    "svm_linear": Estimator(
        "support vector machine, linear", "sklearn.svm:SVC", ("C", "class_weight", "tol"),
        {"kernel": "linear"}, seeded=False, calibrated=True,
    ),
    "logistic": Estimator(
        "logistic regression", "sklearn.linear_model:LogisticRegression",
        ("C", "l1_ratio", "class_weight", "max_iter", "solver", "tol"),
        {"max_iter": MAX_ITERATIONS},
    ),
    "tree": Estimator(
        "decision tree", "sklearn.tree:DecisionTreeClassifier", _TREE,
        {"max_depth": 4, "min_samples_leaf": 5}, scaled=False,
    ),
    "forest": Estimator(
        "random forest", "sklearn.ensemble:RandomForestClassifier", ("n_estimators", *_TREE),
        {"n_estimators": 300}, scaled=False, regressor="sklearn.ensemble:RandomForestRegressor",
    ),
    "boosting": Estimator(
        "histogram gradient boosting", "sklearn.ensemble:HistGradientBoostingClassifier",
        ("learning_rate", "max_iter", "max_leaf_nodes", "max_depth", "min_samples_leaf",
         "l2_regularization", "max_features", "class_weight"),
        scaled=False, regressor="sklearn.ensemble:HistGradientBoostingRegressor",
    ),
    "ridge": Estimator(
        "linear regression with a ridge, of numbers alone", "", ("alpha", "tol", "solver"),
        {"alpha": 1.0}, regressor="sklearn.linear_model:Ridge",
    ),
    "mlp": Estimator(
        "small fully connected network", "sklearn.neural_network:MLPClassifier",
        ("hidden_layer_sizes", "alpha", "activation", "solver", "max_iter", "tol"),
        {"hidden_layer_sizes": (32,), "alpha": 1.0, "solver": "lbfgs", "max_iter": MAX_ITERATIONS},
    ),
}  # fmt: skip


def describe(name: str) -> Estimator | None:
    """Return the row of an estimator; None for a ``module:function`` of somebody else's."""
    return None if ":" in name else ESTIMATORS[name]


def load_place(place: str) -> Callable[..., Any]:
    """Return what ``module:name`` names; ValueError says which half is missing."""
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"estimator {place} cannot be loaded ({error}): install the package or correct the name"
        ) from error


def build_estimator(
    name: str, params: Mapping[str, Any], seed: int, *, numbers: bool = False
) -> Any:
    """Return the unfitted classifier, or regressor of numbers.

    A foreign ``module:function`` gets (params, seed).

    Raises
    ------
    LeakageError
        When a foreign one, or a part of it, arrives fitted: nobody knows on which cases.
    """
    row = describe(name)
    if row is None:
        model = load_place(name)(dict(params), seed)
        _refuse_fitted(name, model)
        return model
    chosen = {**row.defaults, **params}
    if isinstance(chosen.get("hidden_layer_sizes"), list):
        chosen["hidden_layer_sizes"] = tuple(chosen["hidden_layer_sizes"])
    if row.seeded:
        chosen["random_state"] = seed
    place = row.regressor if numbers else row.place
    if not place:
        raise ValueError(f"{name} {'tells classes' if numbers else 'estimates numbers'} alone")
    return load_place(place)(**chosen)


def _refuse_fitted(name: str, model: Any) -> None:
    """Refuse what was fitted outside the folds; scikit-learn ends the names a fit makes in _."""
    parts = [model, *getattr(model, "get_params", dict)().values()]
    for part in parts:
        fitted = [
            own
            for own in getattr(part, "__dict__", ())
            if own.endswith("_") and not own.startswith("_")
        ]
        if fitted and hasattr(part, "fit"):
            raise LeakageError(
                f"estimator {name} arrives with a fitted {type(part).__name__} ({fitted[0]}): it "
                "may have seen the cases that judge it; return it unfitted, each fold fits it"
            )


def build_pipeline(
    name: str, params: Mapping[str, Any], X: "pd.DataFrame", seed: int, *, numbers: bool = False
) -> Any:
    """Return the unfitted pipeline for the columns of a frame, in the frame's order.

    Numbers are filled with the training median and scaled where the estimator needs it; text is
    one-hot encoded, and a value never seen in training becomes all zeros.
    """
    from pandas.api.types import is_numeric_dtype
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    row = describe(name)
    measured = [column for column in X.columns if is_numeric_dtype(X[column])]
    words = [column for column in X.columns if column not in measured]
    if row is not None and row.raw:
        if words:
            raise ValueError(
                f"{name} takes numbers as they are and {len(words)} of {X.shape[1]} columns are "
                f"text, e.g. {words[0]}: leave them out or choose another estimator"
            )
        prepare: list[tuple] = [("numbers", "passthrough", measured)]
    else:
        steps: list[tuple] = [("fill", SimpleImputer(strategy="median", keep_empty_features=True))]
        if row is None or row.scaled:
            steps.append(("scale", StandardScaler()))
        encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        prepare = [("numbers", Pipeline(steps), measured), ("words", encode, words)]
    columns = ColumnTransformer(
        [part for part in prepare if part[2]], verbose_feature_names_out=False
    )
    model = build_estimator(name, params, seed, numbers=numbers)
    return Pipeline([("columns", columns), ("model", model)])


def needs_calibration(name: str, pipeline: Any) -> bool:
    """Say whether Platt's sigmoid has to be fitted to get probabilities."""
    row = describe(name)
    return row.calibrated if row is not None else not hasattr(pipeline, "predict_proba")
