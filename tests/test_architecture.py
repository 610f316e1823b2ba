"""House rules that a reader would otherwise have to take on trust."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]

OWNERS = {
    "pydicom": ("tasks/archive", "tasks/labels", "tasks/phantom", "tasks/serve/dicom_"),
    "pynetdicom": ("tasks/archive",),
    "sqlalchemy": ("tasks/archive",),
    "alembic": ("tasks/archive",),
    "highdicom": ("tasks/labels", "tasks/phantom", "tasks/serve/dicom_"),
    "zarr": ("tasks/store",),
    "tensorstore": ("tasks/store",),
    "torch": (
        "tasks/learn",
        "tasks/imaging",
        "flows/gpu_check.py",
        "flows/gpu_page.py",
    ),
    "monai": ("tasks/learn",),
    "mirp": ("tasks/imaging/radiomics/run_lengths.py",),
    "mlflow": ("tasks/serve/tracking.py", "tasks/serve/runlog.py", "tasks/serve/registry.py"),
    "prefect": ("flows",),
    "prefect_dask": ("flows",),
    "distributed": ("flows",),
    "dask": ("flows",),
}
"""Package -> the only places that may import it."""

TAKEN = re.compile(r"^[ ]*from ((?:flows|tasks|tests)[\w.]*) import ([\w, ]+)$", re.MULTILINE)
"""Import statement in a text that holds a program."""

HEAVY = ("torch", "monai", "mlflow", "SimpleITK", "sklearn", "skimage", "pandas", "matplotlib")

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "core"}


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Return what a module imports when it runs; names for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return tuple(found)


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_an_import_points_only_downwards() -> None:
    command = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [command, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", sorted(OWNERS))
def test_only_its_owners_import(package: str) -> None:
    strangers = [
        str(path.relative_to(ROOT))
        for path in modules("flows", "tasks")
        if any(name.split(".")[0] == package for name in imports(path))
        and not str(path.relative_to(ROOT)).startswith(OWNERS[package])
    ]
    assert not strangers


def names_in(path: Path) -> set[str]:
    """Return what a module defines, assigns or imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


def test_every_name_that_is_imported_from_ours_is_there() -> None:
    """Also within functions, and in programs that tests hold as text: noticed at run time alone."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in modules("flows", "tasks", "tests")
    }
    known = {name: names_in(path) for name, path in files.items()}
    missing = [
        f"{path.relative_to(ROOT)}:{line}: {module}.{name}"
        for path in (*files.values(), *sorted((ROOT / "benchmarks").glob("*.py")))
        for line, module, name in names_wanted(path)
        if module in known and name not in known[module] and f"{module}.{name}" not in files
    ]
    assert not missing


def names_wanted(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, module, name) of what a file takes from modules, and of what its texts take."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for module, names in TAKEN.findall(node.value):
                yield from ((node.lineno, module, name.strip()) for name in names.split(","))


def test_only_settings_read_the_environment() -> None:
    readers, writers = [], []
    for path in modules("flows", "tasks"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", None)
            if name in {"environ", "getenv", "environb"}:
                readers.append(str(path.relative_to(ROOT)))
            if name == "putenv":
                writers.append(str(path.relative_to(ROOT)))
    assert set(readers) <= {"flows/settings.py"}
    # Gloo and NCCL can be told to stay on loopback in no other way.
    assert set(writers) <= {"tasks/learn/ranks.py"}


def test_nothing_shadows_the_real_mlflow() -> None:
    assert not list((ROOT / "mlflow").rglob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", "import mlflow; print(mlflow.__version__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.startswith("3.")


def test_no_python_in_infra() -> None:
    assert not list((ROOT / "infra").rglob("*.py"))


def test_no_module_is_a_drawer() -> None:
    names = {part for path in modules("flows", "tasks") for part in path.with_suffix("").parts}
    assert not names & DRAWERS


def test_help_loads_nothing_heavy() -> None:
    statement = "import flows.__main__ as m; m.build_parser()"
    assert not loaded(statement) & {*HEAVY, "prefect", "distributed", "sqlalchemy", "pydantic"}


def test_a_scenario_loads_nothing_heavy() -> None:
    assert not loaded("import tasks.scenario") & {*HEAVY, "prefect", "distributed"}


def test_a_preprocessing_worker_loads_nothing_that_only_learns() -> None:
    unwanted = {"torch", "monai", "mlflow", "SimpleITK", "sklearn", "matplotlib"}
    assert not loaded("import flows.preprocess") & unwanted


def test_every_command_points_to_a_function() -> None:
    from flows.__main__ import COMMANDS

    places = [place.split(":") for place, _, _ in COMMANDS.values()]
    folder = ROOT / "flows" / "commands"
    assert not [name for file, name in places if name not in names_in(folder / f"{file}.py")]


def test_every_command_is_in_the_documentation() -> None:
    from flows.__main__ import COMMANDS

    text = (ROOT / "docs" / "commands.md").read_text()
    assert not [name for name in COMMANDS if f"`radloop {name}" not in text]


def test_every_setting_is_in_the_documentation() -> None:
    from flows.settings import Settings

    text = (ROOT / "docs" / "settings.md").read_text()
    names = [
        str(field.validation_alias or f"RADLOOP_{name.upper()}")
        for name, field in Settings.model_fields.items()
    ]
    assert not [name for name in names if f"`{name}`" not in text]


def test_every_metric_is_in_the_documentation() -> None:
    from tasks.serve.names import load_names

    text = (ROOT / "docs" / "evaluation.md").read_text()
    assert not [name for name in load_names().metrics if f"`{name}`" not in text]


def test_every_deployment_points_to_a_flow() -> None:
    import importlib

    given = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
    for row in given["deployments"]:
        module, name = row["entrypoint"].rsplit(".", 1)
        flow = getattr(importlib.import_module(module), name)
        known = flow.parameters.properties
        assert set(row["parameters"]) <= set(known), row["name"]
