from pathlib import Path

import pytest

from tasks.evaluate.config import EvaluateConfig, LesionConfig, OperatingPoint
from tasks.evaluate.known import METRICS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text()


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_on_the_page(name):
    assert f"| `{name}` |" in PAGE


@pytest.mark.parametrize(
    "name",
    [
        *EvaluateConfig.model_fields,
        *LesionConfig.model_fields,
        *OperatingPoint.model_fields,
    ],
    ids=str,
)
def test_every_setting_is_on_the_page(name):
    assert f"`{name}`" in PAGE
