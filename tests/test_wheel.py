"""What an installed radloop holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(out),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("radloop-*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_data_lies_inside_flows(wheel: list[str]) -> None:
    assert "flows/_data/deployments/prefect.yaml" in wheel
    assert "flows/_data/deployments/scenarios/breast-cancer.yaml" in wheel
    assert "flows/_data/mlflow/names.yaml" in wheel


def test_nothing_lands_below_the_real_mlflow(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"flows", "tasks"}


def test_migrations_and_templates_come_along(wheel: list[str]) -> None:
    on_disk = {
        str(path.relative_to(ROOT))
        for folder in ("flows", "tasks")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert on_disk <= set(wheel)
