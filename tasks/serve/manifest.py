"""What a model folder may hold, and the manifest that says what it does hold.

Only kinds of file that hold data are let in, and each must be what its name says. radloop loads
none of them with pickle; the check keeps such files from people who would.
"""

import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import yaml

from tasks.errors import ModelRefused
from tasks.hashing import sha256_file

MANIFEST = "MANIFEST.sha256"
"""Lines of ``sha256sum``: ``<64 hex>  <path>``; ``sha256sum -c`` reads it too."""

MLMODEL = "MLmodel"
"""MLflow's description of a model; here a signature without a flavor that loads."""

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_READ_BYTES = 1 << 20
_PICKLE_CALLS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "NEWOBJ", "BUILD"})
_PICKLE_HEAD_BYTES = 1 << 20
"""How much of a text is read as if it were a pickle; a harmful one is a few hundred bytes."""
_SAFETENSORS_HEADER_BYTES = 100_000_000
"""The format's own limit of its header."""


def write_manifest(folder: str | Path) -> str:
    """Check a model folder, write its MANIFEST.sha256 and return the manifest's digest.

    Raises
    ------
    ModelRefused
        When the folder holds anything that could run, a link, or no file at all.
    """
    folder = Path(folder)
    files = [name for name in _files(folder) if name != MANIFEST]
    if not files:
        raise ModelRefused(f"The model folder {folder.name!r} is empty.")
    for name in files:
        _check_file(folder, name)
    lines = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in files)
    (folder / MANIFEST).write_text(lines, encoding="utf-8")
    return manifest_digest(folder)


def manifest_digest(folder: str | Path) -> str:
    """Return the SHA-256 of the manifest, the one number that stands for the model."""
    return sha256_file(Path(folder) / MANIFEST)


def verify_manifest(folder: str | Path) -> None:
    """Raise ModelRefused unless the folder holds exactly what its manifest says, and only data."""
    folder = Path(folder)
    expected = _read_manifest(folder)
    present = set(_files(folder)) - {MANIFEST}
    for name in sorted(present - set(expected)):
        raise ModelRefused(f"The model folder holds {name!r}, which its manifest does not name.")
    for name in sorted(set(expected) - present):
        raise ModelRefused(f"The model folder lacks {name!r}, which its manifest names.")
    for name, digest in expected.items():
        if sha256_file(folder / name) != digest:
            raise ModelRefused(
                f"The file {name!r} of the model is not what its manifest says (changed byte): "
                "fetch it again or register the model anew."
            )
        _check_file(folder, name)


def _read_manifest(folder: Path) -> dict[str, str]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelRefused(f"The model folder has no {MANIFEST}.")
    expected = {}
    for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ModelRefused(f"Line {number} of {MANIFEST} is not '<sha256>  <path>'.")
        expected[match[2]] = match[1]
    return expected


def _files(folder: Path) -> list[str]:
    """Return the relative paths of all files, sorted; links and devices are refused."""
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ModelRefused(f"The model folder holds {name!r}, which is not a plain file.")
        if path.is_file():
            names.append(name)
    return names


def _check_file(folder: Path, name: str) -> None:
    path = folder / name
    check = _CHECKS.get(MLMODEL if path.name == MLMODEL else path.suffix)
    if check is None:
        raise ModelRefused(
            f"The model folder holds {name!r}; radloop registers only {', '.join(_CHECKS)}."
        )
    problem = check(path)
    if problem:
        raise ModelRefused(f"The file {name!r} of the model {problem}.")


def _text_problem(path: Path) -> str | None:
    data = path.read_bytes()
    if _is_pickle(data):
        return "is a pickle"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    return None


def _is_pickle(data: bytes) -> bool:
    """Tell whether bytes are a pickle that calls something, whatever protocol it has."""
    seen = False
    try:
        for opcode, _, _ in pickletools.genops(data[:_PICKLE_HEAD_BYTES]):
            seen = seen or opcode.name in _PICKLE_CALLS
            if opcode.name == "PROTO" or seen:
                # Protocol 0 has no magic number, so its first call must do: no JSON, YAML or
                # Markdown that starts with valid opcodes up to a GLOBAL is worth keeping.
                return True
    except (ValueError, IndexError, UnicodeDecodeError, struct.error):
        return False
    return False


def _json_problem(path: Path) -> str | None:
    problem = _text_problem(path)
    if problem:
        return problem
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return "is not JSON"
    return None


def _yaml_problem(path: Path) -> str | None:
    problem = _text_problem(path)
    if problem:
        return problem
    try:
        yaml.safe_load(path.read_bytes())
    except yaml.YAMLError:
        return "is not plain YAML (a tag that builds an object, or a mistake)"
    return None


def _mlmodel_problem(path: Path) -> str | None:
    problem = _yaml_problem(path)
    if problem:
        return problem
    body = yaml.safe_load(path.read_bytes())
    flavors = body.get("flavors") if isinstance(body, dict) else None
    if not isinstance(flavors, dict) or set(flavors) != {"radloop"}:
        return "names a flavor that MLflow would load and run"
    return None


def _png_problem(path: Path) -> str | None:
    with path.open("rb") as stream:
        return None if stream.read(8) == b"\x89PNG\r\n\x1a\n" else "is not a PNG"


def _safetensors_problem(path: Path) -> str | None:
    """Check length, header and that the tensors fill the file without gap or overlap."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        length = int.from_bytes(head, "little") if len(head) == 8 else -1
        if not 0 < length <= min(size - 8, _SAFETENSORS_HEADER_BYTES):
            return "is not safetensors"
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            spans = sorted(tuple(tensor["data_offsets"]) for tensor in header.values())
        except (ValueError, AttributeError, KeyError, TypeError):
            return "is not safetensors"
    end = 0
    for start, stop in spans:
        if start != end or stop < start:
            return "is safetensors with a gap or an overlap"
        end = stop
    return None if end == size - 8 - length else "is safetensors with bytes behind its tensors"


def _skops_problem(path: Path) -> str | None:
    """Check that a skops archive holds its schema and plain arrays only."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "schema.json" not in names:
                return "is not skops"
            for name in names:
                if name == "schema.json":
                    json.loads(archive.read(name))
                elif not name.endswith(".npy"):
                    return f"holds {name!r}, which is no array"
                elif not _is_plain_array(archive.open(name).read(_READ_BYTES)):
                    return f"holds {name!r}, which is an array of objects"
    except (zipfile.BadZipFile, ValueError):
        return "is not skops"
    return None


def _is_plain_array(head: bytes) -> bool:
    """Tell whether a .npy holds numbers; an array of objects is a pickle inside."""
    if not head.startswith(b"\x93NUMPY"):
        return False
    wide = head[6] >= 2
    length = int.from_bytes(head[8:12] if wide else head[8:10], "little")
    start = 12 if wide else 10
    described = head[start : start + length].decode("latin-1")
    found = re.search(r"'descr':\s*(.+?),\s*'fortran_order'", described)
    return found is not None and "O" not in found[1]


_CHECKS: dict[str, Callable[[Path], str | None]] = {
    ".safetensors": _safetensors_problem,
    ".skops": _skops_problem,
    ".json": _json_problem,
    ".yaml": _yaml_problem,
    ".md": _text_problem,
    ".html": _text_problem,
    ".png": _png_problem,
    MLMODEL: _mlmodel_problem,
}
