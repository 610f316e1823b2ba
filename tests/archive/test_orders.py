"""Work orders: what goes in comes out, and nobody else reads or changes it."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.archive.orders import OrderCase, WorkOrder, seal, unseal
from tasks.archive.sources import FileRef
from tasks.errors import RadloopError

KEY = bytes(range(32))


def an_order(n_cases: int = 3, n_files: int = 4) -> WorkOrder:
    return WorkOrder(
        part_id="0" * 32,
        recipe_id="1" * 32,
        cases=tuple(
            OrderCase(
                case_id=f"{c:032x}",
                kind="dicom",
                files=tuple(
                    FileRef(f"/archive/DOE^JANE/{c}/{i}.dcm", None, f"{i:032x}", 527_000 + i)
                    for i in range(n_files)
                ),
                mask=FileRef("/masks/all.zip", f"{c}.nii.gz", "f" * 32, 10) if c % 2 else None,
            )
            for c in range(n_cases)
        ),
    )


def test_order_comes_back_as_it_was() -> None:
    order = an_order()
    assert unseal(seal(order, KEY), KEY) == order
    empty = WorkOrder("p", "r", ())
    assert unseal(seal(empty, KEY), KEY) == empty
    told = replace(order.cases[1], numbers=((1, 1), (2, 2), (4, 3)))
    order = replace(order, cases=(order.cases[0], told))
    assert unseal(seal(order, KEY), KEY) == order
    assert hash(told)


names = st.text(max_size=20) | st.binary(max_size=20).map(os.fsdecode)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            FileRef, names, st.none() | names, st.text("0123456789abcdef"), st.integers(0, 2**60)
        ),
        max_size=5,
    )
)
def test_any_file_name_comes_back(refs: list[FileRef]) -> None:
    case = OrderCase("c", "nifti", tuple(refs), refs[0] if refs else None)
    order = WorkOrder("ü" * 20, "r", (case,))
    assert unseal(seal(order, KEY), KEY) == order


def test_sealed_order_shows_no_path_and_never_repeats() -> None:
    one, other = seal(an_order(), KEY), seal(an_order(), KEY)
    assert one != other
    for token in (b"DOE", b"archive", b"dcm", b"1" * 32):
        assert token not in one


def test_any_changed_byte_is_found() -> None:
    token = seal(an_order(1, 1), KEY)
    for place in range(len(token)):
        changed = bytearray(token)
        changed[place] ^= 0x40
        with pytest.raises(RadloopError):
            unseal(bytes(changed), KEY)


@pytest.mark.parametrize("length", [0, 1, 2, 20, 40, 60])
def test_cut_order_is_found(length: int) -> None:
    with pytest.raises(RadloopError):
        unseal(seal(an_order(), KEY)[:length], KEY)


def test_another_key_is_one_sentence_with_the_remedy() -> None:
    with pytest.raises(RadloopError, match="RADLOOP_WORKER_KEY"):
        unseal(seal(an_order(), KEY), bytes(32))


def test_order_of_another_part_cannot_be_passed_off() -> None:
    token = seal(an_order(), KEY)
    with pytest.raises(RadloopError):
        unseal(token.replace(b"0" * 32, b"2" * 32), KEY)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes"):
        seal(an_order(), bytes(length))


def test_order_is_compact() -> None:
    order = an_order(n_cases=100, n_files=200)
    # Digests are random in practice and do not compress: 16 bytes each is the floor.
    assert len(seal(order, KEY)) / (100 * 200) < 30
