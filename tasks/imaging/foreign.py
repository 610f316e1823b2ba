"""Recipe steps of other packages, named ``module:function`` in a scenario."""

import importlib
import inspect
from typing import Any, get_type_hints

import numpy as np
from pydantic import BaseModel

from tasks.imaging.step import Image, Step


def foreign_step(name: str) -> Step:
    """Return a step of another installed package.

    Parameters
    ----------
    name : str
        ``module:attribute``: a `Step`, or a plain function ``(image, params) -> image`` that keeps
        the grid, whose second argument is annotated with a pydantic model and whose module has an
        integer ``VERSION``.

    Raises
    ------
    ValueError
        When it cannot be imported or is neither.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        msg = (
            f"recipe step {name!r} cannot be imported ({type(error).__name__}): install its package"
        )
        raise ValueError(msg) from error
    return found if isinstance(found, Step) else _wrapped(name, module, found)


def _wrapped(name: str, module: Any, function: Any) -> Step:
    version = getattr(module, "VERSION", None)
    if not callable(function) or not isinstance(version, int):
        msg = f"recipe step {name!r} must be a Step or a function beside an integer VERSION"
        raise ValueError(msg)
    arguments = list(inspect.signature(function).parameters)
    model = get_type_hints(function).get(arguments[1]) if len(arguments) == 2 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        msg = f"recipe step {name!r} must be (image, params) with params annotated by its model"
        raise ValueError(msg)

    def run(image: Image, params: Any) -> tuple[Image, dict]:
        out = function(image, params)
        if out.array.shape != image.array.shape or not np.array_equal(out.affine, image.affine):
            msg = f"recipe step {name!r} changed the grid: make it a Step with replay and invert"
            raise ValueError(msg)
        return out, {}

    return Step(version=version, parameters=model, apply=run)
