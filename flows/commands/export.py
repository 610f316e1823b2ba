"""The export command: series of the archive as files of other tools. Starts no server."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flows.commands.start import open_home
from flows.home import Home

NNUNET_NUMBER = 1
"""Number of the data set written by `--to nnunet`; nnU-Net users rename the folder at will."""


def export(args: argparse.Namespace) -> int:
    """Write every volume of the chosen series, on its own grid."""
    from flows.console import progress

    if args.to == "dicom":
        from flows.commands.bring_home import bring_home

        return bring_home(args)
    home = open_home(args)
    chosen = list(_chosen(home, args))
    args.out.mkdir(parents=True, exist_ok=True)
    write, close = (_to_nnunet if args.to == "nnunet" else _to_nifti)(home, args.out)
    volumes = refused = failed = 0
    with progress("writing", total=len(chosen), unit="series") as advance:
        for number, case in enumerate(chosen, start=1):
            written = 0
            for found in _volumes(home, case, args.straighten):
                if isinstance(found, str):
                    print(f"{case.series_key}: {found}", file=sys.stderr)
                    refused += 1
                else:
                    write(case, found)
                    written += 1
            volumes += written
            failed += not written
            advance(number, len(chosen))
    close()
    print(
        f"{len(chosen) - failed} series written to {args.out} as {volumes} volumes, "
        f"{refused} refused"
    )
    return 0


def _chosen(home: Home, args: argparse.Namespace) -> Iterator[Any]:
    from tasks.archive.catalog import IMAGE_KINDS, cases

    place = home.source(args.source).alias if args.source else None
    wanted = set(args.series or ())
    for kind in IMAGE_KINDS:
        for case in cases(home.catalog, kind=kind, source=place):
            if not wanted or case.series_key in wanted:
                yield case


def _volumes(home: Home, case: Any, straighten: bool) -> Iterator[Any]:
    """Give each volume of a series, or a sentence for one that cannot be used."""
    from flows.orders import orders_of
    from tasks.archive.volume import Volume, read_volumes
    from tasks.errors import BadCase

    (order,) = orders_of(home, [case])
    try:
        for found in read_volumes(order.kind, order.files, straighten=straighten):
            if isinstance(found, Volume):
                yield found
            else:
                yield f"{found[0]}: {found[1]}" if found[0] else str(found[1])
    except BadCase as problem:
        yield str(problem)


def _to_nifti(home: Home, out: Path) -> tuple[Callable, Callable]:
    from tasks.archive.nifti import write_nifti
    from tasks.archive.sidecar import file_stem, sidecar

    def write(case: Any, volume: Any) -> None:
        stem = file_stem(case.series_key, volume.key)
        write_nifti(out / f"{stem}.nii.gz", volume.array, volume.affine)
        text = json.dumps(sidecar(case.facts, volume), indent=1, default=str)
        (out / f"{stem}.json").write_text(text)

    return write, lambda: None


def _to_nnunet(home: Home, out: Path) -> tuple[Callable, Callable]:
    from tasks.archive.nnunet import NnunetFolder
    from tasks.archive.sidecar import file_stem
    from tasks.archive.vault_files import file_refs
    from tasks.errors import BadCase
    from tasks.labels.case_mask import read_labels

    masks = _masks(home)
    folder = NnunetFolder(out, NNUNET_NUMBER, "radloop")

    def write(case: Any, volume: Any) -> None:
        mask, stem = None, file_stem(case.series_key, volume.key)
        # A mask belongs to a series; which of several volumes it was drawn on nobody said.
        if not volume.key and case.series_key in masks:
            locator = masks[case.series_key]
            try:
                mask = read_labels(file_refs(home.vault, [locator])[locator], volume)
            except BadCase as problem:
                print(f"{case.series_key}: its mask is left out, {problem}", file=sys.stderr)
        folder.add(stem, volume, mask)

    return write, folder.close


def _masks(home: Home) -> dict[str, int]:
    """Return series key -> locator of its mask in the newest label set that has one."""
    from tasks.archive.labelsets import label_rows, label_sets

    found = {}
    for known in label_sets(home.catalog):
        for row in label_rows(home.catalog, known.label_set_id):
            if row.join == "series" and row.locator is not None:
                found[row.key] = row.locator
    return found
