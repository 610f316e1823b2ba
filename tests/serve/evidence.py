"""Data the tests of this folder make in code: hashes, a model folder."""

import json
from pathlib import Path

import numpy as np

from tasks.serve import manifest, registry

HASHES = {
    "data_hash": "a" * 32,
    "split_hash": "b" * 32,
    "label_hash": "c" * 32,
    "recipe_hash": "d" * 32,
    "code_hash": "e" * 32,
    "scenario_hash": "f" * 32,
    "edition": 1,
}


def make_model(folder: Path, seed: int = 0) -> Path:
    """Write a real model folder with safetensors, card, MLmodel and manifest."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    weights = np.random.default_rng(seed).normal(size=(4, 8)).astype(np.float32)
    save_file({"fold0.weight": weights}, folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps({"network": "small_cnn", "classes": ["a", "b"]}))
    (folder / "card.md").write_text("# A model\n")
    registry.write_mlmodel(
        folder, {"dtype": "float32", "shape": [-1, 1, 96, 96]}, [("a", "double"), ("b", "double")]
    )
    manifest.write_manifest(folder)
    return folder
