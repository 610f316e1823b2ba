"""Cases as a raw data set of nnU-Net v2: imagesTr, labelsTr, imagesTs and dataset.json.

The form is that of nnU-Net's documentation/dataset_format.md: one channel, ``_0000`` in image
names, labels counting from 0 without gaps.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tasks.archive.nifti import write_nifti
from tasks.archive.volume import Volume

ENDING = ".nii.gz"

CHANNELS = {"CT": "CT", "MR": "MR", "PT": "PET"}
"""Modality -> channel name; nnU-Net clips and scales only ``CT`` by the values of the data set."""


class NnunetFolder:
    """A data set folder that is being written; `close` writes dataset.json last."""

    def __init__(self, out: Path, number: int, name: str) -> None:
        """Make the folder ``Dataset<number>_<name>`` under `out`."""
        self.path = Path(out) / f"Dataset{number:03d}_{name}"
        self._values: set[int] = set()
        self._channels: set[str] = set()
        self._training = 0

    def add(self, stem: str, volume: Volume, mask: np.ndarray | None) -> None:
        """Write one case: with a mask it is for training, without for testing.

        Parameters
        ----------
        stem : str
            Name of the case.
        volume : Volume
        mask : array of int, shape of volume.array, optional
        """
        modality = str(volume.facts.get("modality") or "OT")
        self._channels.add(CHANNELS.get(modality, modality.lower()))
        if len(self._channels) > 1:
            raise ValueError(
                f"An nnU-Net data set has one kind of image, these are of {len(self._channels)} "
                f"({', '.join(sorted(self._channels))}): choose one with --series or --source."
            )
        side = "imagesTs" if mask is None else "imagesTr"
        (self.path / side).mkdir(parents=True, exist_ok=True)
        write_nifti(self.path / side / f"{stem}_0000{ENDING}", volume.array, volume.affine)
        if mask is not None:
            (self.path / "labelsTr").mkdir(exist_ok=True)
            self._values |= {int(value) for value in np.unique(mask)}
            self._training += 1
            write_nifti(self.path / "labelsTr" / f"{stem}{ENDING}", mask, volume.affine)

    def close(self) -> list[int]:
        """Write dataset.json and return the label values, background first.

        Raises
        ------
        ValueError
            When the masks' values leave out some: nnU-Net would refuse them later.
        """
        values = sorted(self._values | {0})
        if values != list(range(len(values))):
            raise ValueError(
                f"The masks hold the label values {_few(values)}, nnU-Net wants 0 to "
                f"{len(values) - 1} without gaps: number the labels anew before the export."
            )
        content = {
            "channel_names": {"0": next(iter(self._channels), "OT")},
            "labels": {"background": 0} | {f"label_{value}": value for value in values[1:]},
            "numTraining": self._training,
            "file_ending": ENDING,
        }
        self.path.mkdir(parents=True, exist_ok=True)
        beside = self.path / f".dataset.json.{os.getpid()}"
        beside.write_text(json.dumps(content, indent=1))
        beside.replace(self.path / "dataset.json")
        return values


def _few(values: Iterable[int]) -> str:
    shown = [str(value) for value in values]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
