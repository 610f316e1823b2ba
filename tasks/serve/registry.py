"""The model registry: folders of data with a manifest, versions and aliases; nothing that runs.

A model folder goes up as the artifact ``model`` of the training's run and a version points at it.
The version's tag ``model_digest`` is the SHA-256 of the folder's manifest, so neither a changed
byte nor an exchanged folder gets past `fetch`.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from mlflow.artifacts import download_artifacts
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from tasks.errors import ModelRefused
from tasks.serve.manifest import MLMODEL, manifest_digest, verify_manifest
from tasks.serve.tracking import Tracker, client_of

ARTIFACT = "model"
"""Folder of the run's artifacts that holds the model."""

DIGEST_TAG = "model_digest"


@dataclass(frozen=True)
class ModelVersionInfo:
    """One registered version; ``digest`` is the SHA-256 of its MANIFEST.sha256."""

    name: str
    version: str
    run_id: str
    digest: str
    tags: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


def write_mlmodel(
    folder: str | Path, inputs: Any, outputs: Any, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write ``MLmodel`` with a signature, which MLflow's pages show, and no loadable flavor.

    Parameters
    ----------
    folder : str or Path
        The model folder; call this before `tasks.serve.manifest.write_manifest`.
    inputs, outputs : sequence
        Columns as ``(name, type)`` with MLflow's types (``double``, ``long``, ``string``), or one
        tensor as ``{"dtype": "float32", "shape": [-1, 1, 96, 96]}`` (-1 for any length).
    metadata : Mapping, optional
        Small facts such as the scenario and the run.
    """
    body: dict[str, Any] = {
        "flavors": {"radloop": {"load": "radloop predict"}},
        "signature": {
            "inputs": json.dumps(_columns(inputs)),
            "outputs": json.dumps(_columns(outputs)),
            "params": None,
        },
    }
    if metadata:
        body["metadata"] = dict(metadata)
    path = Path(folder) / MLMODEL
    path.write_text(yaml.safe_dump(body, sort_keys=True), encoding="utf-8")
    return path


def _columns(spec: Any) -> list[dict[str, Any]]:
    if isinstance(spec, Mapping):
        tensor = {"dtype": spec["dtype"], "shape": list(spec["shape"])}
        return [{"type": "tensor", "tensor-spec": tensor}]
    return [{"name": name, "type": kind, "required": True} for name, kind in spec]


def register_model(
    tracker: Tracker,
    folder: str | Path,
    name: str,
    run_id: str,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
) -> ModelVersionInfo:
    """Check a model folder, put it into the run and register a version of it.

    Repeating it with the same run and the same manifest gives the version that is there.

    Raises
    ------
    ModelRefused
        When the folder differs from its manifest or holds anything that could run.
    ValueError
        When a tag is not in the table of names.
    """
    verify_manifest(folder)
    digest = manifest_digest(folder)
    shown = {tracker.names.check_tag(tag): str(value) for tag, value in (tags or {}).items()}
    tracker.names.check_experiment(name)
    client = client_of(tracker)
    for version in versions(tracker, name):
        if version.run_id == run_id and version.digest == digest:
            return version
    _create_model(tracker, name)
    client.log_artifacts(run_id, str(folder), ARTIFACT)
    client.set_tag(run_id, DIGEST_TAG, digest)
    root = client.get_run(run_id).info.artifact_uri.rstrip("/")
    made = client.create_model_version(
        name,
        source=f"{root}/{ARTIFACT}",
        run_id=run_id,
        tags={**shown, DIGEST_TAG: digest},
        description=description,
    )
    return _info(made)


def _create_model(tracker: Tracker, name: str) -> None:
    try:
        client_of(tracker).create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def versions(tracker: Tracker, name: str) -> list[ModelVersionInfo]:
    """Return all versions of a model, oldest first; none when it was never registered."""
    found = client_of(tracker).search_model_versions(f"name = '{name}'")
    return sorted((_info(one) for one in found), key=lambda info: int(info.version))


def get_version(tracker: Tracker, name: str, version: str | int) -> ModelVersionInfo:
    """Return one version."""
    return _info(client_of(tracker).get_model_version(name, str(version)))


def set_alias(tracker: Tracker, name: str, alias: str, version: str | int) -> None:
    """Point an alias of the table of names at a version; the old one loses it."""
    client_of(tracker).set_registered_model_alias(
        name, tracker.names.check_alias(alias), str(version)
    )


def get_alias(tracker: Tracker, name: str, alias: str) -> ModelVersionInfo | None:
    """Return the version an alias points at, or None."""
    tracker.names.check_alias(alias)
    try:
        return _info(client_of(tracker).get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def tag_version(tracker: Tracker, info: ModelVersionInfo, tags: Mapping[str, Any]) -> None:
    """Write tags, such as the gate's verdict, to a version."""
    for name, value in tags.items():
        if name == DIGEST_TAG:
            raise ValueError(f"The tag {DIGEST_TAG} is written once, by registering.")
        client_of(tracker).set_model_version_tag(
            info.name, info.version, tracker.names.check_tag(name), str(value)
        )


def fetch(tracker: Tracker, info: ModelVersionInfo, cache: str | Path) -> Path:
    """Return a local, verified folder of a version; a good copy in the cache is used again.

    The version comes from `get_alias` or `get_version`, so that what was looked up is what is
    loaded even when the alias moves meanwhile.

    Raises
    ------
    ModelRefused
        When a byte was changed, a file is missing or extra, a file could run, or the manifest is
        not the registered one. Nothing of it is left in the cache.
    """
    target = Path(cache) / info.name / f"{info.version}-{info.digest[:16]}"
    if target.is_dir():
        try:
            _verify(target, info)
            return target
        except ModelRefused:
            # The copy went bad here; the registry's may still be good.
            shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = client_of(tracker).get_model_version_download_uri(info.name, info.version)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="wip_") as staging:
        try:
            got = download_artifacts(
                artifact_uri=source, dst_path=staging, tracking_uri=tracker.uri
            )
        except (OSError, MlflowException) as error:
            raise ModelRefused(
                f"Version {info.version} of {info.name!r} is registered but its files cannot be "
                "read: restore the artifact folder or promote another version."
            ) from error
        folder = Path(got)
        _verify(folder, info)
        if not target.exists():
            # A local artifact store hands out its own folder; only a copy may go to the cache.
            shutil.copytree(folder, f"{staging}/verified")
            Path(staging, "verified").rename(target)
    _verify(target, info)
    return target


def recipes_in_use(tracker: Tracker) -> frozenset[str]:
    """Return the fitted recipes that any run of any experiment was made with.

    Runs and experiments in MLflow's trash count too: they can be brought back, and a registered
    model keeps the run that made it.
    """
    client = client_of(tracker)
    experiments = [
        found.experiment_id for found in _pages(client.search_experiments, view_type=ViewType.ALL)
    ]
    runs = (
        run
        for experiment in experiments
        for run in _pages(
            client.search_runs, experiment_ids=[experiment], run_view_type=ViewType.ALL
        )
    )
    hashes = (run.data.tags.get("recipe_hash") for run in runs)
    return frozenset(found for found in hashes if found)


def _pages(search: Callable[..., Any], **asked: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(**asked, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _verify(folder: Path, info: ModelVersionInfo) -> None:
    verify_manifest(folder)
    found = manifest_digest(folder)
    if found != info.digest:
        raise ModelRefused(
            f"The manifest of {info.name!r} version {info.version} has the digest {found[:16]} and "
            f"{info.digest[:16]} was registered: the folder was exchanged; promote another version."
        )


def _info(version: Any) -> ModelVersionInfo:
    tags = dict(version.tags)
    return ModelVersionInfo(
        name=version.name,
        version=str(version.version),
        run_id=version.run_id or "",
        digest=tags.get(DIGEST_TAG, ""),
        tags=tags,
        aliases=tuple(version.aliases or ()),
    )
