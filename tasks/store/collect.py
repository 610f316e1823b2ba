"""What of a store nobody refers to: a plan, made of facts that others gather, and its execution.

Never more than is certain: whatever is young, locked, catalogued under a recipe in use, of a recipe
that no scenario ever had, or made for another catalog stays.
"""

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from tasks.archive.commits import PartRow
from tasks.errors import StoreError
from tasks.store.manifest import read_manifest
from tasks.store.places import Folder, place_of
from tasks.store.schema import MANIFEST, STAGING
from tasks.store.staging import sole_writer
from tasks.store.verify import committed_parts

YOUNG_SECONDS = 86_400
"""Nothing younger goes: a run that was killed tonight goes on tomorrow, and one that still reads a
part that was replaced comes to its end."""


@dataclass(frozen=True)
class Removal:
    """One thing that can go."""

    kind: str
    """``staging``, ``uncommitted`` or ``superseded``; ``foreign`` for what stays."""
    path: str
    """Relative to the store root, or to the scratch folder for staging."""
    bytes: int
    why: str
    recipe_id: str = ""


def stale_staging(folder: str, now: float) -> tuple[Removal, ...]:
    """Return what unfinished parts left behind and nobody is writing.

    Parameters
    ----------
    folder : str
        Local folder that holds ``staging``.
    now : float
        Seconds since the epoch.
    """
    found = []
    for path in sorted((Path(folder) / STAGING).glob("*")):
        try:
            facts = [one.stat() for one in (path, *path.rglob("*"))]
        except FileNotFoundError:
            # Somebody is at work in there at this very moment.
            continue
        age = now - max(fact.st_mtime for fact in facts)
        if age < YOUNG_SECONDS or _is_locked(path):
            continue
        size = sum(fact.st_size for fact in facts if S_ISREG(fact.st_mode))
        why = f"nobody has written to it for {age / 86_400:.0f} days"
        found.append(Removal("staging", f"{STAGING}/{path.name}", size, why))
    return tuple(found)


def _is_locked(path: Path) -> bool:
    if not (path / "lock").exists():
        return False
    try:
        with sole_writer(path, path.name):
            return False
    except StoreError:
        return True


Ours = Callable[[str, Collection[str]], bool]
"""Says of a recipe and case ids whether this catalog has ever asked for them."""


def unnamed(root: str, known: Collection[str], ours: Ours, now: float) -> tuple[Removal, ...]:
    """Return the whole parts that no row of the catalog names.

    A part whose recipe or cases this catalog never asked for was made for another one: of another
    home that shares the store, or of the catalog that was here before this one.  Such a part is
    ``foreign``, and whoever takes ``uncommitted`` ones away lets it stand.

    Parameters
    ----------
    root : str
        Store root.
    known : collection of str
        Paths of every part in the catalog.
    ours : callable (recipe id, case ids) -> bool
        Whether the catalog asked for all of these cases under some recipe, and knows this one.
    now : float
        Seconds since the epoch.
    """
    found = []
    for path in committed_parts(root):
        place = place_of(root, path)
        if path in known or place.age(MANIFEST, now) < YOUNG_SECONDS:
            continue
        try:
            manifest = read_manifest(place)
        except StoreError:
            # Damaged, or of another format version: a person must look at it.
            continue
        recipe_id, size = manifest["recipe_id"], sum(place.files().values())
        if ours(recipe_id, manifest["cases"].keys()):
            why = "the catalog does not know it"
            found.append(Removal("uncommitted", path, size, why, recipe_id))
        else:
            why = "made for another catalog: it stays"
            found.append(Removal("foreign", path, size, why, recipe_id))
    return tuple(found)


def superseded(
    rows: Iterable[PartRow],
    newest: Collection[str],
    known: Collection[str],
    referred: Collection[str],
) -> tuple[Removal, ...]:
    """Return the catalogued parts of recipes that have a successor and no reader.

    Parameters
    ----------
    rows : iterable of PartRow
        Every part in the catalog.
    newest : collection of str
        Recipes that are the newest generation of a scenario.
    known : collection of str
        Recipes of all generations.
    referred : collection of str
        Recipes that a run or a registered model was made with.
    """
    gone = set(known) - set(newest) - set(referred)
    why = "its recipe has a newer generation, and no run or model was made with it"
    return tuple(
        Removal("superseded", row.path, row.bytes, why, row.recipe_id)
        for row in rows
        if row.recipe_id in gone
    )


def remove_staging(folder: str, removal: Removal) -> None:
    """Take staging away unless somebody has begun to write it meanwhile."""
    path = Path(folder) / removal.path
    if path.is_dir() and not _is_locked(path):
        shutil.rmtree(path)


def touch(root: str, path: str) -> None:
    """Let a part that was replaced count as young, for those who still read it."""
    place = place_of(root, path)
    place.touch(MANIFEST)
    if isinstance(place, Folder):
        place.path.touch()
