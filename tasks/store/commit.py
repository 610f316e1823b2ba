"""Make a finished part visible at once and whole, or take one away.

In a folder a part appears by a rename.  A bucket renames nothing: objects appear one by one, each
whole, and the manifest last; without its manifest a part is not there for any reader.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.errors import StoreError
from tasks.store.manifest import file_problems, read_manifest
from tasks.store.places import Bucket, Folder, place_of
from tasks.store.schema import MANIFEST, STAGING
from tasks.store.staging import sync_folder, sync_tree

_REMEDIES = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "raise the quota of its disk",
    errno.EROFS: "mount the store for writing",
    errno.EACCES: "give this user the right to write to the store",
    errno.EPERM: "give this user the right to write to the store",
}


@contextmanager
def plain_faults(part_id: str) -> Iterator[None]:
    """Turn an error of the disk or bucket into one sentence that names no place.

    Raises
    ------
    StoreError
        With the system's reason and what to do about it.
    """
    try:
        yield
    except OSError as error:
        # The bucket's own errors have a sentence and no number; those of a disk name a path.
        why = error.strerror or str(error) or type(error).__name__
        remedy = _REMEDIES.get(error.errno, "check the store's disk or bucket")
        raise StoreError(
            f"part {part_id} was not written ({why}): {remedy} and run again, finished cases are "
            "kept"
        ) from None


def standing(root: str, path: str) -> dict[str, Any] | None:
    """Return the manifest of a part that is committed, or None.

    Raises
    ------
    StoreError
        When it is committed but damaged: nothing is written over it.
    """
    place = place_of(root, path)
    if not _is_there(place):
        return None
    if isinstance(place, Folder):
        # Whoever renamed it may have been killed before this: the catalog must not name a part
        # that a power cut could still take away.
        _sync_names(place.path.parent)
    manifest = read_manifest(place)
    problems = file_problems(place, manifest, content=False)
    if problems:
        raise StoreError(
            f"committed part {manifest['part_id']} is damaged ({problems[0]}): move it away and "
            "run again"
        )
    if not manifest["cases"]:
        # Nobody can have read it; a later attempt at the same cases must not inherit its failures.
        remove(root, path)
        return None
    return manifest


def _is_there(place: Folder | Bucket) -> bool:
    if isinstance(place, Folder):
        return place.path.exists()
    try:
        place.read(MANIFEST)
    except FileNotFoundError:
        return False
    return True


def publish(folder: Path, root: str, path: str) -> None:
    """Commit an assembled part with its manifest under the store root.

    Parameters
    ----------
    folder : Path
        The assembled part; below the root it is moved, else copied.
    root, path : str
        Store root, and the part's path below it.
    """
    place = place_of(root, path)
    if isinstance(place, Folder):
        place.path.parent.mkdir(parents=True, exist_ok=True)
        sync_tree(folder)
        folder.rename(place.path)
        _sync_names(place.path.parent)
        return
    for name in sorted(Folder(folder).files().keys() - {MANIFEST}):
        place.upload(name, folder / name)
    _check_arrived(place, Folder(folder))
    place.upload(MANIFEST, folder / MANIFEST)


def _sync_names(parts: Path) -> None:
    """Bring the names of the parts, and that of their folder, to the disk."""
    sync_folder(parts)
    sync_folder(parts.parent)


def _check_arrived(place: Bucket, made: Folder) -> None:
    """Compare what is in the bucket with what was sent, and take away what is of neither.

    An upload that broke off may have left a case that cannot be made any more; in a committed part
    it would be damage.
    """
    expected, held = made.files(), place.files()
    for name, size in sorted(expected.items()):
        if name != MANIFEST and held.get(name) != size:
            raise StoreError(
                f"{name} of part {made.name} has {held.get(name)} bytes in the bucket and {size} "
                "here: check the bucket's limits and run again"
            )
    if MANIFEST not in held:
        place.remove(sorted(held.keys() - expected.keys()))


def remove(root: str, path: str) -> None:
    """Take a part away: first it is no part any more, then its bytes go.

    Nothing here asks whether anybody needs it; `tasks.store.collect` does.
    """
    place = place_of(root, path)
    if isinstance(place, Bucket):
        place.remove([MANIFEST])
        place.remove(sorted(place.files()))
        return
    if not place.path.exists():
        return
    aside = Path(root) / STAGING / f"{place.path.stem}.removed"
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    place.path.rename(aside)
    sync_folder(place.path.parent)
    shutil.rmtree(aside)
