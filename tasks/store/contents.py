"""The voxels of a part, by case and mask: what reading, reading back and verifying share."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from tasks.errors import StoreError
from tasks.store.places import Place
from tasks.store.schema import image_array, image_group, mask_array
from tasks.store.voxels import StoredArray, open_array

OPEN_ARRAYS = 512
"""Arrays a part keeps open; one costs about 10 kB and 0.1 ms to open again."""

Corner = tuple[int, int, int] | None


class Contents:
    """Images and masks of a part.

    Parameters
    ----------
    place : Place
    files : mapping
        Bytes of each file of the part.
    case_ids : sequence of str
        In the order of the part.
    packed : bool
    metadata : callable (name) -> bytes, optional
        Reads an array's metadata, and may refuse it; by default as it is.
    """

    def __init__(
        self,
        place: Place,
        files: Mapping[str, int],
        case_ids: Sequence[str],
        *,
        packed: bool,
        metadata: Callable[[str], bytes] | None = None,
    ) -> None:
        self._place, self._files, self._packed = place, files, packed
        self._rows = {case_id: row for row, case_id in enumerate(case_ids)}
        self._metadata = metadata or place.read
        self._open = lru_cache(OPEN_ARRAYS)(self._open_array)

    def array(self, case_id: str, mask: str | None = None) -> StoredArray:
        """Return the array that holds an image or a mask.  Raises StoreError."""
        group = image_group(case_id, packed=self._packed)
        return self._open(image_array(group) if mask is None else mask_array(group, mask))

    def image(self, case_id: str, start: Corner = None, stop: Corner = None) -> np.ndarray:
        """Return a case's image, or a box of it (z, y, x).  Raises StoreError."""
        return self.array(case_id).read(f"case {case_id}", self._rows[case_id], start, stop)

    def mask(
        self, case_id: str, name: str, start: Corner = None, stop: Corner = None
    ) -> np.ndarray:
        """Return a case's mask, or a box of it (z, y, x).  Raises StoreError."""
        what = f"mask {name} of case {case_id}"
        return self.array(case_id, name).read(what, self._rows[case_id], start, stop)

    def _open_array(self, path: str) -> StoredArray:
        try:
            raw = self._metadata(f"{path}/zarr.json")
        except FileNotFoundError as error:
            raise StoreError(f"{path}/zarr.json is missing: run radloop verify") from error
        return open_array(self._place, path, raw, self._files)
