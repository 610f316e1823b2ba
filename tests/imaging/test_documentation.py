from pathlib import Path

import pytest

from tasks.imaging import (
    bias,
    denoise,
    enhance,
    histogram,
    nonlocal_means,
    normalise,
    speckle,
    variation,
    window,
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "imaging.md").read_text()

OURS = {
    name: step
    for module in (
        bias,
        denoise,
        enhance,
        histogram,
        nonlocal_means,
        normalise,
        speckle,
        variation,
        window,
    )
    for name, step in module.STEPS.items()
}

FITTED = {"mean", "std", "p005", "p995"}
"""Parameters of normalise that nobody writes: they are filled from the training cases."""


@pytest.mark.parametrize("name", OURS)
def test_every_step_is_on_the_page_with_its_parameters(name):
    lines = PAGE.splitlines()
    (at,) = [n for n, line in enumerate(lines) if line.startswith(f"| `{name}` |")]
    rows = [lines[at]]
    while lines[at + 1].startswith("| |"):
        at += 1
        rows.append(lines[at])
    told = "\n".join(rows)
    for parameter in OURS[name].parameters.model_fields.keys() - FITTED:
        assert f"`{parameter}" in told, parameter
