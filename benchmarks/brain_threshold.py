"""The classical baseline of glioma: Otsu's thresholds and components, as another tool's masks.

    python -m tasks.phantom brain --out phantom --patients 40 --difficulty easy
    python -m tasks.phantom brain --out brats --layout brats2023 --patients 40 --difficulty easy
    radloop evaluate demo-brain --list cases.csv
    python benchmarks/brain_threshold.py --list cases.csv --brats brats --out otsu
    radloop evaluate demo-brain --predictions otsu

Nothing is learned (`tasks.imaging.otsu_glioma`). Images are BraTS folders, stripped of the skull:
those of the list itself, or with ``--brats`` the same synthetic patients drawn again in that
layout. So the baseline is given the true brain, which the network has to find.
"""

import argparse
import csv
from pathlib import Path

from tasks.archive.nifti import read_nifti, write_nifti
from tasks.archive.sources import FileRef, digest_of
from tasks.imaging.otsu_glioma import otsu_glioma


def _read(path: Path):
    data = path.read_bytes()
    return read_nifti(FileRef(str(path), None, digest_of(data).hex(), len(data)))


def drawn_again(folder: Path) -> dict[str, Path]:
    """Return the sequence with contrast of each synthetic patient, by accession number."""
    with (folder / "labels.csv").open(newline="") as stream:
        accessions = [row["accession_number"] for row in csv.DictReader(stream)]
    names = [f"BraTS-GLI-{number:05d}-000" for number in range(len(accessions))]
    paths = [folder / name / f"{name}-t1c.nii.gz" for name in names]
    return dict(zip(accessions, paths, strict=True))


def main() -> None:
    """Write a mask for each test case of the list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", type=Path, required=True, help="of `radloop evaluate --list`")
    parser.add_argument("--brats", type=Path, help="the list's synthetic patients as BraTS folders")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with given.list.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    drawn = drawn_again(given.brats) if given.brats else {}
    for row in rows:
        contrast = drawn[row["accession"]] if drawn else Path(row["file"])
        flair = contrast.with_name(contrast.name.replace("t1ce", "flair").replace("t1c", "t2f"))
        one, other = _read(contrast), _read(flair)
        mask = otsu_glioma(other.array, one.array)
        write_nifti(given.out / f"{row['case_id']}.nii.gz", mask, one.affine)
    print(f"{len(rows)} masks in {given.out}")


if __name__ == "__main__":
    main()
