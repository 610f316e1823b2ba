"""What a run of `preprocess` says it left out."""

from flows.preprocess import reasons_by_case
from tasks.store.write import PartRecord


def part(kind: str, *failures: tuple[str, str, str]) -> PartRecord:
    return PartRecord(
        part_id=kind, kind=kind, path=kind, case_ids=("a",), bytes=1, digest="", failures=failures,
        seconds=0.0, resumed=0,
    )  # fmt: skip


def test_a_case_is_left_out_by_its_image_or_by_its_label():
    said = reasons_by_case(
        [
            part("image", ("b", "no_pixels", "")),
            part("label", ("c", "mask_grid", "16 slices"), ("d", "mask_grid", "")),
        ]
    )
    assert said == {"b": "no_pixels", "c": "mask_grid", "d": "mask_grid"}
