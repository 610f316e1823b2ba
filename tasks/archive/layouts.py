"""Folders of NIfTI files whose names say what they are: Decathlon, nnU-Net's raw form, BraTS.

* Medical Segmentation Decathlon: ``dataset.json`` lists an image and its mask under ``training``.
* nnU-Net v2 (documentation/dataset_format.md): ``imagesTr/CASE_0000.nii.gz`` and so on, a number a
  channel, named by ``channel_names``; ``labelsTr/CASE.nii.gz``.
* BraTS: ``CASE/CASE_t1ce.nii.gz`` until 2021, ``CASE/CASE-t1c.nii.gz`` since 2023; ``seg`` is the
  mask.

Only the name of a sequence goes on from here as a header field; case names are identities.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.archive.decathlon import modality_of, read_index, stem

LAYOUTS = ("decathlon", "nnunet", "brats")

SEQUENCES = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}
"""BraTS name until 2021 -> the one since 2023: one name for one sequence, whatever the year."""

LOOKED_AT = 50
"""Folders in which files of BraTS are looked for before a place is said to hold none."""

_BRATS = re.compile(r"(?P<case>.+)[_-](?P<what>t1|t1ce|t2|flair|t1n|t1c|t2w|t2f|seg)\.nii(?:\.gz)?")
_TIME_POINT = re.compile(r"(?P<patient>BraTS-[A-Za-z-]+-\d+)-\d{1,3}")
_OLD_MASK = re.compile(r"(?i)brats(?!-).*_seg\.nii(?:\.gz)?")
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
_SIDES = (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"))


@dataclass(frozen=True)
class Listed:
    """One image file of a layout."""

    patient: str
    """The same for all time points of a patient."""
    study: str | None
    """The same for all series of one case; None where a file is a case."""
    sequence: str | None
    modality: str | None


@dataclass(frozen=True)
class Layout:
    """What a folder holds: paths are relative to it."""

    name: str
    images: Mapping[str, Listed]
    masks: Mapping[str, str]
    """Path of a mask -> path of an image of its case."""

    @property
    def join(self) -> str:
        """What a mask speaks about."""
        return "series" if self.name == "decathlon" else "study"


def layout_name(root: Path) -> str | None:
    """Return which layout a folder has, None when none."""
    content = description(root)
    if isinstance(content.get("training"), list):
        return "decathlon"
    if isinstance(content.get("channel_names"), dict):
        return "nnunet"
    folders = islice(_folders(root), LOOKED_AT)
    return "brats" if any(next(_brats_files(folder), None) for folder in folders) else None


def read_layout(root: Path) -> Layout:
    """Return what a folder holds.

    Raises
    ------
    ValueError
        It has none of the layouts, or its dataset.json cannot be obeyed.
    """
    name = layout_name(root)
    if name == "nnunet":
        return _nnunet(root)
    if name == "brats":
        return _brats(root)
    index = read_index(root)
    images = {path: Listed(stem(path), None, None, index.modality) for path in index.images}
    return Layout("decathlon", images, index.masks)


def mask_values(name: str) -> Mapping[int, int]:
    """Return which label values of a mask file stand for others, by the file's name.

    BraTS called the enhancing tumour 4 until 2021 and left out 3; since 2023 it is 3, and since
    2024 4 is the resection cavity: names of these years begin with ``BraTS-``.
    """
    return {4: 3} if _OLD_MASK.fullmatch(PurePosixPath(name).name) else {}


def is_of_children(name: str) -> bool:
    """Tell whether a mask is by its name of BraTS-PEDs, whose four values are other parts."""
    return PurePosixPath(name).name.casefold().startswith("brats-ped-")


def description(root: Path) -> dict[str, Any]:
    """Return what a folder's dataset.json holds; nothing where there is none."""
    try:
        content = json.loads((root / "dataset.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders one and two levels below, as challenges pack them."""
    try:
        below = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return
    yield from below
    for folder in below:
        try:
            yield from sorted(path for path in folder.iterdir() if path.is_dir())
        except OSError:
            continue


def _brats_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (file name, what it is) of the files that bear their folder's name."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return
    for name in names:
        found = _BRATS.fullmatch(name)
        if found and found["case"] == folder.name:
            yield name, found["what"]


def _brats(root: Path) -> Layout:
    images: dict[str, Listed] = {}
    masks: dict[str, str] = {}
    for folder in _folders(root):
        case, place = folder.name, folder.relative_to(root).as_posix()
        point = _TIME_POINT.fullmatch(case)
        patient = point["patient"] if point else case
        files = {what: f"{place}/{name}" for name, what in _brats_files(folder)}
        mask = files.pop("seg", None)
        for what, path in files.items():
            images[path] = Listed(patient, place, SEQUENCES.get(what, what), "MR")
        if mask and files:
            masks[mask] = min(files.values())
    return Layout("brats", images, masks)


def _nnunet(root: Path) -> Layout:
    content = description(root)
    ending = str(content.get("file_ending") or ".nii.gz")
    if ending not in (".nii.gz", ".nii"):
        raise ValueError(f"The folder's dataset.json names {ending!r} files: only NIfTI is read.")
    names = {str(number): str(name) for number, name in content["channel_names"].items()}
    images: dict[str, Listed] = {}
    masks: dict[str, str] = {}
    for side, labels in _SIDES:
        first: dict[str, str] = {}
        for file in sorted((root / side).glob(f"*{ending}")):
            found = _CHANNEL.fullmatch(file.name.removesuffix(ending))
            name = names.get(str(int(found["number"]))) if found else None
            if name is not None:
                path, case = f"{side}/{file.name}", found["case"]
                images[path] = Listed(case, case, name.lower(), modality_of([name]))
                first.setdefault(case, path)
        for case, path in first.items():
            if (root / labels / f"{case}{ending}").is_file():
                masks[f"{labels}/{case}{ending}"] = path
    return Layout("nnunet", images, masks)
