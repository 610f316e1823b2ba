"""infra/dask: what workers elsewhere are given is what ours are, and the schedulers take it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml

from flows.runners import DASK_CONFIG
from flows.settings import Settings
from tests.flows.servers import script
from tests.flows.tls import DASK, ROOT

WORKER = DASK / "worker.sbatch"

DIRECTIVES = {
    "job-name": r"[a-z]+",
    "ntasks": r"1",
    "cpus-per-task": r"1",
    "mem": r"\d+[MG]",
    "time": r"\d\d:[0-5]\d:[0-5]\d",
    "signal": r"B:TERM@\d+",
}
"""Options of sbatch(1) that the script may use, and how their values look."""

MANIFESTS = list(yaml.safe_load_all((DASK / "kubernetes.yaml").read_text()))
DEPLOYMENTS = [one for one in MANIFESTS if one["kind"] == "Deployment"]


def test_workers_elsewhere_are_given_what_ours_are() -> None:
    given = yaml.safe_load((DASK / "radloop.yaml").read_text())
    for name, value in DASK_CONFIG.items():
        assert dask.config.get(name, config=given) == value, name
    assert len(_leaves(given)) == len(_leaves(DASK_CONFIG))


def _leaves(node: Any) -> list[Any]:
    if not isinstance(node, dict):
        return [node]
    return [leaf for inner in node.values() for leaf in _leaves(inner)]


def test_the_job_script_is_bash_with_directives_that_slurm_has() -> None:
    subprocess.run(["bash", "-n", str(WORKER)], check=True, timeout=30)
    text = WORKER.read_text()
    found = re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE)
    assert len(found) == text.count("#SBATCH")
    for name, value in found:
        assert re.fullmatch(DIRECTIVES[name], value), f"--{name}={value}"


def test_a_job_starts_one_worker_with_a_limit_below_its_own(tmp_path: Path) -> None:
    # A `dask` that says how it was called stands where the real one would.
    (tmp_path / "dask").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "dask").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_MEM_PER_NODE": "8192"}
    command = ["bash", str(WORKER), "tls://10.0.0.1:8786", "--resources=GPU=1"]
    said = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    words = said.split()
    assert words[:3] == ["worker", "tls://10.0.0.1:8786", "--resources=GPU=1"]
    assert {"--nworkers=1", "--nthreads=1", "--memory-limit=7372MiB"} <= set(words)
    options = subprocess.run(
        [script("dask"), "worker", "--help"], check=True, capture_output=True, text=True
    ).stdout
    for word in words[2:]:
        assert word.partition("=")[0] in options, word


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']}")
def test_kubernetes_takes_each_manifest(manifest: dict[str, Any]) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate",
        reason="no kubernetes-validate: manifests are not held against the schema",
    )
    validate.validate(manifest, "1.37", strict=True)
    manifest = {**manifest, "speck": {}}
    with pytest.raises(validate.ValidationError):
        validate.validate(manifest, "1.37", strict=True)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: one["metadata"]["name"])
def test_each_pod_finds_what_it_names(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    (container,) = pod["spec"]["containers"]
    image = container["image"].split(":")[0].removeprefix("radloop-")
    recipe = (ROOT / "infra" / "images" / f"{image}.Dockerfile").read_text()
    assert Path(script(container["command"][0])).exists()
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert f"COPY infra/dask/tls.yaml {variables.pop('DASK_CONFIG')}\n" in recipe
    assert "COPY infra/dask/radloop.yaml /etc/dask/\n" in recipe
    assert variables.keys() <= {f"RADLOOP_{name.upper()}" for name in Settings.model_fields}
    volumes = {one["name"] for one in pod["spec"]["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    places = {one["mountPath"] for one in container["volumeMounts"]}
    assert variables.get("RADLOOP_STORE", "/etc/radloop/tls") in places


def test_workers_reach_the_scheduler_by_its_service() -> None:
    (service,) = (one for one in MANIFESTS if one["kind"] == "Service")
    (port,) = service["spec"]["ports"]
    by_name = {one["metadata"]["name"]: one["spec"]["template"] for one in DEPLOYMENTS}
    chosen = by_name["radloop-dask-scheduler"]
    assert service["spec"]["selector"] == chosen["metadata"]["labels"]
    command = by_name["radloop-dask-worker"]["spec"]["containers"][0]["command"]
    assert f"tls://{service['metadata']['name']}:{port['port']}" in command
