"""Pseudonyms: stable, keyed, and never one for two strangers."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.archive.pseudonyms import Pseudonymiser, is_placeholder

NAMES = Pseudonymiser(bytes(range(32)))


def test_keys_are_stable_keyed_and_told_apart_by_kind():
    expected = hmac.new(bytes(range(32)), b"study|1.2", hashlib.sha256).hexdigest()[:32]
    assert NAMES.key("study", "1.2") == expected
    assert NAMES.key("study", "1.2") == Pseudonymiser(bytes(range(32))).key("study", "1.2")
    assert NAMES.key("study", "1.2") != Pseudonymiser(bytes(32)).key("study", "1.2")
    assert NAMES.key("study", "1.2") != NAMES.key("series", "1.2")
    with pytest.raises(ValueError, match="kind"):
        NAMES.key("name", "x")
    with pytest.raises(ValueError, match="empty"):
        NAMES.key("accession", " \0")


def test_padding_and_unicode_forms_do_not_make_another_key():
    forms = ["Å12", "A\u030a12", " Å12\0", "\ufeffÅ12 "]
    assert len({NAMES.key("accession", form) for form in forms}) == 1


def test_the_key_is_not_shown():
    assert repr(bytes(range(32)))[2:10] not in repr(NAMES)
    assert "project_key" not in repr(NAMES)


@pytest.mark.parametrize("empty", ["", "  ", "0", "0000", "ANONYMOUS", "unknown", "XXXX", "N/A"])
def test_placeholder_ids_never_join_two_studies(empty):
    assert is_placeholder(empty.strip().casefold())
    assert NAMES.patient(empty, "here", "1.1") != NAMES.patient(empty, "here", "1.2")
    assert NAMES.patient(empty, "here", "1.1") == NAMES.patient(empty, "here", "1.1")
    with pytest.raises(ValueError, match="empty"):
        NAMES.patient(empty, "here", "")


def test_one_id_of_two_issuers_is_two_patients():
    assert NAMES.patient("4711", "a", "1.1") == NAMES.patient("4711", "a", "1.2")
    assert NAMES.patient("4711", "a", "1.1") != NAMES.patient("4711", "b", "1.1")
    assert NAMES.patient("b|c", "a", "1.1") != NAMES.patient("c", "a|b", "1.1")


@given(st.text("0123456789abcdef", min_size=32, max_size=32))
def test_dates_move_back_by_at_most_ten_years(key):
    assert -3650 <= NAMES.date_offset(key) <= -1
    assert NAMES.date_offset(key) == NAMES.date_offset(key)
