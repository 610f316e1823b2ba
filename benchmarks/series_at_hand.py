"""DICOM series to compare readers on: real ones that are installed or lie beside, and made ones."""

import gzip
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from pydicom import dcmread

from tasks.archive.elements import quiet

PEERS = Path(__file__).resolve().parents[1] / ".venv-peers"


def default_folders(work: Path) -> list[tuple[str, Path]]:
    """Return names and folders of the series at hand; packed files are unpacked under `work`."""
    shared = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom"
    found = [("shared", shared)] if shared.is_dir() else []
    import pydicom

    found.append(("pydicom", Path(pydicom.__file__).parent / "data" / "test_files"))
    extra = importlib.util.find_spec("data_store")
    if extra is not None and extra.origin:
        found.append(("pydicom-data", Path(extra.origin).parent / "data"))
    else:
        places = PEERS.glob("lib/python*/site-packages/data_store/data")
        found += [("pydicom-data", place) for place in places]
    packed = work / "nibabel"
    packed.mkdir()
    for number, path in enumerate(sorted(Path(nibabel.__file__).parent.rglob("*.dcm*"))):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        (packed / f"{number}.dcm").write_bytes(data)
    found.append(("nibabel", packed))
    found.append(("made", _made(work / "made")))
    return found


def _made(folder: Path) -> Path:
    from scipy.spatial.transform import Rotation

    from tasks.phantom.ct import write_ct_series

    for seed in range(4):
        row, column, _ = Rotation.random(random_state=seed).as_matrix().T
        write_ct_series(folder / f"oblique{seed}", orientation=[*row, *column], seed=seed)
    write_ct_series(folder / "tilted", tilt_deg=12, seed=10)
    write_ct_series(folder / "descending", orientation=[1, 0, 0, 0, -1, 0], seed=11)
    write_ct_series(folder / "slopes", slopes=np.linspace(0.5, 2, 8), modality="MR", seed=12)
    write_ct_series(folder / "gap", missing=[3], seed=13)
    write_ct_series(folder / "stray", duplicates=[3], seed=14)
    return folder


def series_in(folder: Path) -> Iterator[list[Path]]:
    """Give the image files of each series; without a UID, of each folder."""
    found: dict[tuple, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in (".json", ".txt", ".gz", ".zip", ".dump", ".icc"):
            continue
        try:
            with quiet():
                header = dcmread(path, force=True, stop_before_pixels=True)
                if "Rows" not in header:
                    continue
                # One test file stands in many syntaxes under one UID: each is a series here.
                syntax = str(getattr(header, "file_meta", {}).get("TransferSyntaxUID", ""))
                matrix = (str(header.get("Rows")), str(header.get("NumberOfFrames")))
                series = str(header.get("SeriesInstanceUID", "")) or str(path.parent)
                key = (series, str(header.get("SeriesNumber")), syntax, matrix)
                # Test suites repeat one instance with other pixels or faults.
                again = str(header.get("SOPInstanceUID", "")) or path.name
        except Exception:
            continue
        number = 0
        while any(again == name for name, _ in found.get((*key, number), [])):
            number += 1
        found.setdefault((*key, number), []).append((again, path))
    for group in found.values():
        yield [path for _, path in group]
