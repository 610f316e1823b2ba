"""A scenario says which volume of a series it means, and what it says is one volume or a reason."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from tasks.archive.choice import NAMES, VolumeChoice, choose, parse_choice
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume, read_volumes
from tasks.errors import BadCase
from tasks.phantom.ct import write_ct_series

MIXED = [
    {"type": ("ORIGINAL", "M"), "told_type": "M", "te": 15.0, "b": None},
    {"type": ("ORIGINAL", "M"), "told_type": "M", "te": 30.0, "b": None},
    {"type": ("ORIGINAL", "M", "ND"), "told_type": "M/ND", "te": 30.0, "b": 995.0},
]


def fits(said):
    found = choose(parse_choice(said), MIXED, lambda facts: facts)
    return [MIXED.index(facts) for facts in found]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, [0, 1, 2]),
        ("only", [0, 1, 2]),
        ("first", [0]),
        ("last", [2]),
        ({"te": 30}, [1, 2]),
        ({"te": 30.0, "take": "last"}, [2]),
        ("te=30", [1, 2]),
        ("type=M,te=30", [1]),
        ({"type": "M/ND"}, [2]),
        ({"type": "ORIGINAL"}, [0, 1, 2]),
        ({"type": ["ND", "P"]}, [2]),
        ({"b": {"min": 900, "max": 1100}}, [2]),
        ({"b": {"max": 10}}, []),
        ({"b": None}, [0, 1]),
        ({"te": [15, 60]}, [0]),
        ({"flip": 90}, []),
    ],
)
def test_what_is_said_leaves_the_volumes_that_are_that(said, expected):
    assert fits(said) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("te=30,b=1000", {"b": 1000.0, "te": 30}), ({"te": [60, 30]}, {"te": (30.0, 60)}),
     ("only", None), ({"take": "first"}, "first"), ({"b": None}, "b=none")],
)  # fmt: skip
def test_two_ways_of_saying_one_thing_are_one_choice(one, other):
    assert parse_choice(one).to_dict() == parse_choice(other).to_dict()


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.one_of(
            st.floats(0, 1e4),
            st.lists(st.floats(0, 1e4), min_size=1, max_size=3),
            st.fixed_dictionaries({"min": st.floats(0, 10)}, optional={"max": st.floats(10, 99)}),
            st.none(),
        ),
    ),
    st.sampled_from(["only", "first", "last"]),
)
def test_a_choice_survives_being_written_down(wanted, take):
    choice = parse_choice(wanted | {"take": take})
    assert parse_choice(choice.to_dict()) == choice


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("frist", "say first, last, only, or a key such as te=30"),
        ({"echo": 2}, "'echo': valid are"),
        ({"acquisitoin": 2}, "nearest is 'acquisition'"),
        ({"te": {"low": 2}}, "a range is {min: a, max: b}"),
        ({"te": {"min": True}}, "a range is"),
        ({"te": []}, "give a value"),
        ({"te": [[30]]}, "give a value"),
        ({"take": "middle"}, "say only, first, last"),
        (3, "say first, last, only, a key or a mapping"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(said, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_choice(said)


@pytest.fixture
def echoes(tmp_path):
    """A series of two echoes of three slices."""
    write_ct_series(tmp_path, shape=(3, 8, 9), modality="MR", volumes=2, seed=4)
    seen = {}
    for path in sorted(tmp_path.glob("*.dcm")):
        dataset = dcmread(path)
        place = tuple(dataset.ImagePositionPatient)
        seen[place] = seen.get(place, 0) + 1
        dataset.EchoTime = [15, 30.5][seen[place] - 1]
        dataset.save_as(path)
    return refs(tmp_path)


def refs(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [FileRef(str(path), None, "", path.stat().st_size) for path in paths]


def of(files, said):
    return read_volume("dicom", files, choice=parse_choice(said))


@pytest.mark.parametrize(
    ("said", "key"),
    [("first", "te=15"), ("last", "te=30.5"), ({"te": {"min": 20}}, "te=30.5"),
     ("te=15", "te=15"), ({"type": "M", "take": "first"}, "te=15")],
)  # fmt: skip
def test_the_volume_that_is_meant_is_read(echoes, said, key):
    known = {volume.key: volume for volume in read_volumes("dicom", echoes)}
    found = of(echoes, said)
    assert found.key == key
    assert found.array.tobytes() == known[key].array.tobytes()


@pytest.mark.parametrize(
    ("said", "reason", "told"),
    [
        (None, "several_volumes", "2 volumes in one series; name one: te=15, te=30.5"),
        ({"type": "M"}, "several_volumes", "2 volumes are type=M; name one: te=15, te=30.5"),
        ({"te": 30}, "no_such_volume", "none is te=30; the series holds te=15, te=30.5"),
        ({"te": 60, "take": "first"}, "no_such_volume", "none is te=60"),
    ],
)
def test_where_none_or_several_are_meant_the_keys_are_told(echoes, said, reason, told):
    with pytest.raises(BadCase, match=re.escape(told)) as caught:
        of(echoes, said)
    assert caught.value.reason == reason


def test_the_only_volume_of_a_series_must_be_what_is_said_too(echoes):
    one = [ref for ref in echoes if float(dcmread(ref.path).EchoTime) == 15]
    assert of(one, {"te": 15}).key == ""
    assert of(one, "last").array.shape == (3, 8, 9)
    with pytest.raises(
        BadCase, match=re.escape("none is te=30; the series holds one volume, te=15")
    ):
        of(one, {"te": 30})


def test_pictures_of_one_series_have_no_first(tmp_path):
    write_ct_series(tmp_path, shape=(2, 8, 9), modality="MR")
    for path in tmp_path.glob("*.dcm"):
        dataset = dcmread(path)
        dataset.Modality = "DX"
        dataset.save_as(path)
    with pytest.raises(BadCase, match="2 images have no first"):
        of(refs(tmp_path), "first")


def test_a_real_time_series_gives_its_first_time_point(shared_data):
    files = refs(shared_data / "dicom/mr_philips_func")
    volumes = {volume.key: volume for volume in read_volumes("dicom", files)}
    first = of(files, "first")
    assert first.key == next(iter(volumes))
    assert first.array.tobytes() == volumes[first.key].array.tobytes()
    assert of(files, "last").key == list(volumes)[-1]


def test_a_choice_says_itself_in_the_words_of_keys():
    assert str(parse_choice({"b": {"min": 800, "max": 1200}, "te": 30, "take": "first"})) == (
        "te=30,b=from 800 to 1200, the first"
    )
    assert str(VolumeChoice()) == ""
