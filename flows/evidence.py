"""Where evidence goes: the tracker of a home, and what stands in its registry."""

from pathlib import Path
from typing import Any

from flows.data import data_folder
from flows.home import Home
from tasks.serve.names import load_names
from tasks.serve.registry import get_alias
from tasks.serve.tracking import Tracker, client_of

ALIASES = ("champion", "challenger")


def tracker_for(home: Home, scenario: str) -> Tracker:
    """Return the tracker of a scenario's experiment."""
    names = load_names(data_folder("mlflow") / "names.yaml")
    location = None
    if not home.settings.tracking_uri.startswith("http"):
        location = home.settings.artifact_root
    return Tracker(home.settings.tracking_uri, scenario, names, location)


def models(home: Home) -> list[dict[str, Any]]:
    """Return the registered models that an alias points at."""
    tracker = tracker_for(home, "any")
    found = []
    for model in client_of(tracker).search_registered_models():
        for alias in ALIASES:
            version = get_alias(tracker, model.name, alias)
            if version is not None:
                found.append(
                    {
                        "name": model.name,
                        "version": version.version,
                        "alias": alias,
                        "run_id": version.run_id,
                        "digest": version.digest,
                    }
                )
    return found


def code_hash() -> str:
    """Return the hash of radloop's own code, so that evidence says what made it."""
    import hashlib

    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for folder in ("flows", "tasks"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]
