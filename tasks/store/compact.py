"""Make large parts of the small ones that nights of growth leave; a case's voxels never change.

A chunk that was exchanged for another whole one has a good checksum, so reading does not notice.
The digests of a new part are those of what was read: unless they are held against the old part's,
such damage would be vouched for, and no later ``radloop verify`` could find it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.archive.commits import PartRow
from tasks.errors import StoreError
from tasks.store.commit import remove
from tasks.store.places import part_path
from tasks.store.read import Part, open_part
from tasks.store.schema import part_id
from tasks.store.write import PartRecord, Prepared, write_part

SMALL_BYTES = 256 << 20
"""A part below this is worth merging: opening one costs milliseconds, which 256 MB of it hide."""

MERGED_BYTES = 1 << 30
"""A merged part holds at most this much, so that few bytes are written twice."""


@dataclass(frozen=True)
class Merge:
    """Parts that become one."""

    part_id: str
    parts: tuple[PartRow, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the parts as they are."""
        return sum(part.bytes for part in self.parts)


def plan_merges(rows: Iterable[PartRow]) -> tuple[Merge, ...]:
    """Return which parts become one.

    Only parts of one recipe, one kind, one label set and, for labels, one image part are merged;
    small ones in the order of their ids, so that the same catalog gives the same plan.
    """
    groups: dict[tuple, list[PartRow]] = {}
    for row in sorted(rows, key=lambda row: row.part_id):
        if row.bytes < SMALL_BYTES:
            of = (row.recipe_id, row.kind, row.label_set_id or "", row.image_part_id or "")
            groups.setdefault(of, []).append(row)
    return tuple(
        _merge(batch) for group in groups.values() for batch in _batches(group) if len(batch) > 1
    )


def _batches(rows: Sequence[PartRow]) -> list[list[PartRow]]:
    batches: list[list[PartRow]] = [[]]
    for row in rows:
        if batches[-1] and sum(one.bytes for one in batches[-1]) + row.bytes > MERGED_BYTES:
            batches.append([])
        batches[-1].append(row)
    return batches


def _merge(rows: Sequence[PartRow]) -> Merge:
    case_ids = [case_id for row in rows for case_id in row.case_ids]
    first = rows[0]
    key = part_id(case_ids, first.recipe_id, first.kind, first.label_set_id)
    return Merge(key, tuple(rows))


def merge_parts(root: str, merge: Merge, scratch: str | None = None) -> PartRecord:
    """Write the one part; the old ones stay.

    The new part is the one that making exactly its cases at once would have given, byte for byte.

    Raises
    ------
    StoreError
        When a case of an old part cannot be read, or is not what the part was committed with: run
        ``radloop verify``.
    """
    opened = [open_part(root, row.path, row.digest) for row in merge.parts]
    of = {case_id: part for part in opened for case_id in part.case_ids}
    first, fixed = merge.parts[0], opened[0].fixed_shape
    if len(of) != sum(len(part.case_ids) for part in opened):
        raise StoreError(
            f"a case stands in two of the parts of {merge.part_id}: run radloop verify"
        )
    record = write_part(
        root,
        merge.part_id,
        first.kind,
        first.recipe_id,
        tuple(of),
        lambda case_id: _copy(of[case_id], case_id),
        fixed_shape=fixed,
        dtype=opened[0].dtype,
        channels=opened[0].channels,
        label_set_id=first.label_set_id,
        scratch=scratch,
    )
    if record.failures:
        remove(root, record.path)
        raise StoreError(
            f"{len(record.failures)} cases of the parts of {merge.part_id} cannot be read: nothing "
            "was replaced, run radloop verify"
        )
    _check_same(root, open_part(root, record.path, record.digest), of)
    return record


def _check_same(root: str, made: Part, of: Mapping[str, Part]) -> None:
    """Take the new part away when a case of it is not what its old part was committed with."""
    changed = [
        case_id
        for case_id, part in of.items()
        if made.voxel_digests(case_id) != part.voxel_digests(case_id)
    ]
    if changed:
        remove(root, part_path(made.part_id))
        raise StoreError(
            f"{len(changed)} of {len(of)} cases have other voxels than they were committed with, "
            f"case {changed[0]} among them: nothing was replaced, run radloop verify"
        )


def _copy(part: Part, case_id: str) -> Prepared:
    info = part.info(case_id)
    masks: dict[str, np.ndarray] = {
        name: part.mask(case_id, name) for name in part.mask_names(case_id)
    }
    return Prepared(
        part.read(case_id),
        info.affine,
        info.traces,
        info.certificate,
        info.facts,
        masks,
        info.present,
    )
