import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from tasks.errors import ModelRefused
from tasks.serve import registry, tracking
from tasks.serve.manifest import MANIFEST, verify_manifest, write_manifest
from tests.serve.evidence import HASHES, make_model


class _Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _append(path, data):
    path.write_bytes(path.read_bytes() + data)


@pytest.fixture
def registered(tracker, tmp_path):
    run = tracking.start_training(tracker, "limb", HASHES)
    info = registry.register_model(
        tracker, make_model(tmp_path / "made"), tracker.experiment, run, {"gate_verdict": "promote"}
    )
    client = tracking.client_of(tracker)
    stored = Path(client.get_model_version_download_uri(info.name, info.version))
    assert stored.is_dir()
    return info, stored


def test_a_registered_model_comes_back_byte_for_byte(tracker, registered, tmp_path):
    info, _ = registered
    got = registry.fetch(tracker, info, tmp_path / "cache")
    made = tmp_path / "made"
    assert {p.name: p.read_bytes() for p in got.iterdir()} == {
        p.name: p.read_bytes() for p in made.iterdir()
    }
    assert registry.fetch(tracker, info, tmp_path / "cache") == got
    assert [p.name for p in got.parent.iterdir()] == [got.name]


def test_registering_again_gives_the_same_version(tracker, registered, tmp_path):
    info, _ = registered
    again = registry.register_model(tracker, tmp_path / "made", info.name, info.run_id)
    assert again.version == info.version


def test_aliases_move_and_foreign_ones_are_refused(tracker, registered, tmp_path):
    first, _ = registered
    run = tracking.start_training(tracker, "limb", HASHES)
    second = registry.register_model(tracker, make_model(tmp_path / "b", 1), first.name, run)
    assert registry.get_alias(tracker, first.name, "champion") is None
    assert registry.get_alias(tracker, "never-registered", "champion") is None
    registry.set_alias(tracker, first.name, "champion", first.version)
    registry.set_alias(tracker, first.name, "champion", second.version)
    got = registry.get_alias(tracker, first.name, "champion")
    assert (got.version, got.run_id, got.digest) == (second.version, run, second.digest)
    with pytest.raises(ValueError, match="alias"):
        registry.set_alias(tracker, first.name, "latest", 1)
    registry.tag_version(tracker, second, {"gate_reason": "better"})
    with pytest.raises(ValueError, match="written once"):
        registry.tag_version(tracker, second, {"model_digest": "0"})


def test_any_flipped_bit_is_refused(tracker, registered, tmp_path):
    info, stored = registered
    for path in sorted(stored.iterdir()):
        good = path.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        path.write_bytes(bad)
        with pytest.raises(ModelRefused):
            registry.fetch(tracker, info, tmp_path / "cache")
        path.write_bytes(good)
    assert list((tmp_path / "cache" / info.name).iterdir()) == []
    assert registry.fetch(tracker, info, tmp_path / "cache").is_dir()


def test_extra_missing_and_exchanged_files_are_refused(tracker, registered, tmp_path):
    info, stored = registered
    (stored / "extra.json").write_text("{}")
    with pytest.raises(ModelRefused, match=r"extra\.json"):
        registry.fetch(tracker, info, tmp_path / "cache")
    (stored / "extra.json").unlink()
    (stored / "card.md").rename(tmp_path / "card.md")
    with pytest.raises(ModelRefused, match=r"lacks 'card\.md'"):
        registry.fetch(tracker, info, tmp_path / "cache")
    shutil.rmtree(stored)
    make_model(stored, seed=7)
    with pytest.raises(ModelRefused, match="exchanged"):
        registry.fetch(tracker, info, tmp_path / "cache")
    shutil.rmtree(stored)
    with pytest.raises(ModelRefused):
        registry.fetch(tracker, info, tmp_path / "cache")


def test_a_copy_that_went_bad_in_the_cache_is_fetched_again(tracker, registered, tmp_path):
    info, _ = registered
    got = registry.fetch(tracker, info, tmp_path / "cache")
    (got / "model.json").write_text("{}")
    verify_manifest(registry.fetch(tracker, info, tmp_path / "cache"))


def test_a_planted_pickle_is_refused_and_never_runs(tracker, registered, tmp_path):
    info, stored = registered
    marker = tmp_path / "marker"
    (stored / "model.json").write_bytes(pickle.dumps(_Marker(marker)))
    lines = (stored / MANIFEST).read_text().splitlines()
    with pytest.raises(ModelRefused):
        write_manifest(stored)
    (stored / MANIFEST).write_text("\n".join(lines) + "\n")
    with pytest.raises(ModelRefused):
        registry.fetch(tracker, info, tmp_path / "cache")
    assert not marker.exists()


# MLflow's own modules warn about their own type hints while they are imported.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_mlflow_finds_nothing_to_run(tracker, registered):
    import mlflow.pyfunc

    _, stored = registered
    with pytest.raises(MlflowException, match="python_function"):
        mlflow.pyfunc.load_model(str(stored))
    assert mlflow.models.Model.load(str(stored)).signature.inputs.is_tensor_spec()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["a.json", "a.md", "a.safetensors", "a.png", "a.skops", "a.yaml"])
def test_a_pickle_is_refused_under_every_name(tmp_path, name, protocol):
    (tmp_path / name).write_bytes(pickle.dumps(_Marker(tmp_path / "marker"), protocol))
    with pytest.raises(ModelRefused):
        write_manifest(tmp_path)


@pytest.mark.parametrize("name", ["m.pkl", "m.pt", "m.py", "m.so", "m", "m.joblib"])
def test_other_kinds_of_file_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelRefused, match="registers only"):
        write_manifest(tmp_path)


def test_links_flavors_tags_and_trailing_bytes_are_refused(tmp_path):
    good = make_model(tmp_path / "good")
    for number, spoil in enumerate(
        [
            lambda f: (f / "x.json").symlink_to(f / "model.json"),
            lambda f: (f / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}"),
            lambda f: (f / "x.yaml").write_text("!!python/object/apply:os.system [ls]"),
            lambda f: _append(f / "weights.safetensors", b"\x80\x04."),
        ]
    ):
        folder = shutil.copytree(good, tmp_path / str(number))
        spoil(folder)
        with pytest.raises(ModelRefused):
            write_manifest(folder)


def test_objects_inside_a_skops_are_refused_and_arrays_are_not(tmp_path):
    for name, array in (("bad", np.array([{}], dtype=object)), ("good", np.arange(3))):
        folder = tmp_path / name
        folder.mkdir()
        np.save(folder / "a.npy", array, allow_pickle=True)
        with zipfile.ZipFile(folder / "model.skops", "w") as archive:
            archive.writestr("schema.json", "{}")
            archive.write(folder / "a.npy", "a.npy")
        (folder / "a.npy").unlink()
    assert len(write_manifest(tmp_path / "good")) == 64
    with pytest.raises(ModelRefused, match="array of objects"):
        write_manifest(tmp_path / "bad")


def test_safetensors_whose_header_length_looks_like_a_pickle_pass(tmp_path):
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x0480)
    data = struct.pack("<Q", len(header)) + header + b"\0\0\0\0"
    assert data.startswith(b"\x80\x04")
    (tmp_path / "weights.safetensors").write_bytes(data)
    write_manifest(tmp_path)
    verify_manifest(tmp_path)
