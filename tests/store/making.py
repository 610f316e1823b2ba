"""Cases made in code, and a program that writes a part and can be killed."""

import sys
import time
from pathlib import Path

import numpy as np

from tasks.store.schema import part_id
from tasks.store.write import PartRecord, Prepared, write_part

RECIPE = "5" * 32
FIXED = (3, 20, 24)


def case_name(number: int) -> str:
    return f"{number:032x}"


def prepared(case_id: str, fixed: tuple[int, int, int] | None = None) -> Prepared:
    """Return a case that its id alone decides; half of it is zeros, and some have masks."""
    number = int(case_id, 16)
    rng = np.random.default_rng(number)
    shape = fixed or (5 + number % 4, 40, 33 + number % 3)
    array = rng.normal(size=shape).astype(np.float32)
    array[:, : shape[1] // 2] = 0
    # Voxels of (3 + number, 2, 1) mm along z, y, x.
    affine = np.eye(4)
    affine[:3, :3] = np.diag([1.0, 2.0, 3.0 + number])[:, ::-1]
    affine[:3, 3] = (-10.0, 20.0, 30.0)
    masks = {"lung": (array > 0).astype(np.uint8)} if number % 3 else {}
    if number % 2:
        masks["body"] = (array != 0).astype(np.uint8)
    facts = {"rows": shape[1]}
    return Prepared(array, affine, ({"n": number},), {"verdict": "accept"}, facts, masks)


def write(
    root: Path, cases: int = 6, fixed: tuple[int, int, int] | None = None, produce=None
) -> PartRecord:
    names = [case_name(number) for number in range(cases)]
    return write_part(
        str(root),
        part_id(names, RECIPE, "image"),
        "image",
        RECIPE,
        names,
        produce or (lambda case_id: prepared(case_id, fixed)),
        fixed_shape=fixed,
        dtype="float32",
    )


def main() -> None:
    """Write a part slowly, noting each case that was produced in a file."""
    root, log, cases, packed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    fixed = FIXED if packed == "packed" else None

    def produce(case_id: str) -> Prepared:
        with log.open("a") as stream:
            stream.write(case_id + "\n")
        time.sleep(0.02)
        return prepared(case_id, fixed)

    print(write(root, cases, fixed, produce).digest, flush=True)


if __name__ == "__main__":
    main()
