"""Buckets: a real server lists and gives, nothing is written, what is known is not read again."""

import io
import shutil
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from tasks.archive import s3
from tasks.archive.catalog import cases, locators_of
from tasks.archive.intake import ingest
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import FileRef, digest_of, is_there, read_bytes, read_named
from tasks.archive.sources import resolve_source as resolve
from tasks.archive.vault import open_vault, project_key
from tasks.archive.vault_files import file_refs
from tasks.archive.volume import read_volume
from tasks.archive.walk import walk
from tasks.errors import BadCase
from tasks.labels.attach import attach_labels
from tasks.labels.config import LabelConfig
from tests.archive.made_dicom import encode, header, slice_file
from tests.archive.s3_server import ENVIRONMENT, s3_server

obstore = pytest.importorskip("obstore", reason="obstore is not installed: no bucket is read")
pytest.importorskip("moto", reason="moto is not installed: there is no S3 server to read from")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture
def bucket(address, monkeypatch, request):
    """An empty bucket's client; the tests write through it and radloop only reads."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": address}.items():
        monkeypatch.setenv(name, value)
    s3.open_bucket.cache_clear()
    name = f"b{abs(hash(request.node.nodeid)):x}"
    # An unsigned PUT makes a bucket; obstore itself makes none.
    urllib.request.urlopen(urllib.request.Request(f"{address}/{name}", method="PUT")).close()
    yield s3.open_bucket(name), f"s3://{name}"
    s3.open_bucket.cache_clear()


def _put(store, files: dict[str, bytes]) -> None:
    for key, data in files.items():
        store.put(key, data)


@pytest.fixture
def home(sqlite_catalog, prepared_sqlite, tmp_path):
    shutil.copy(prepared_sqlite / "vault.db", tmp_path / "own-vault.db")
    vault = open_vault(f"sqlite:///{tmp_path}/own-vault.db")
    names = Pseudonymiser(project_key(vault))

    def take(text: str, **more):
        report = ingest(resolve(text), sqlite_catalog, vault, names, **more)
        assert report.accounted == report.seen
        return report

    yield take, sqlite_catalog, vault
    vault.dispose()


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("s3://my.bucket-1//x", "s3://my.bucket-1/x"),
    ],
)
def test_a_location_has_one_plain_form(text, location):
    source = resolve(text)
    assert (source.kind, source.location) == ("s3", location)
    assert source.alias == resolve(location).alias
    assert "bucket" not in source.alias


@pytest.mark.parametrize(
    "text", ["s3://", "s3://ab", "s3://Bucket", "s3://b_u/x", "s3://abc/x/../y"]
)
def test_what_is_no_bucket_is_refused(text):
    with pytest.raises(ValueError, match=r"s3://bucket/prefix"):
        resolve(text)


def test_a_stamp_changes_with_the_content_and_keeps_the_second():
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    one, other = s3.stamp(when, '"a"'), s3.stamp(when, '"b"')
    assert one != other
    assert one // s3.NS == other // s3.NS == int(when.timestamp())


def test_a_prefix_is_listed_in_order_and_nothing_beside_it(bucket):
    store, place = bucket
    _put(store, {"a/2": b"22", "a/1": b"1", "ab/3": b"3", "z": b"4", "a/ü %25 <b>": b"5"})
    entries = list(walk(resolve(f"{place}/a")))
    assert [(e.path, e.size, e.read()) for e in entries] == [
        ("1", 1, b"1"),
        ("2", 2, b"22"),
        ("ü %25 <b>", 1, b"5"),
    ]
    assert len(list(walk(resolve(place)))) == 5


def test_a_listing_goes_on_after_its_first_page(bucket, monkeypatch):
    store, place = bucket
    monkeypatch.setattr(s3, "LISTED_AT_ONCE", 3)
    _put(store, {f"f/{n:02d}": bytes([n + 1]) for n in range(10)})
    assert [found.key for found in s3.list_objects(place)] == [f"f/{n:02d}" for n in range(10)]


def test_empty_objects_that_stand_for_folders_are_left_out(bucket):
    store, place = bucket
    _put(store, {"a": b"", "a/1": b"1", "b": b"", "ba": b"2", "c": b""})
    assert [found.key for found in s3.list_objects(place)] == ["a/1", "b", "ba", "c"]


def test_a_large_object_is_read_in_pieces_of_one_version(bucket, monkeypatch):
    store, place = bucket
    data = bytes(range(256)) * 40
    store.put("large", data)
    monkeypatch.setattr(s3, "PIECE_BYTES", 1000)
    assert s3.read_object(f"{place}/large", 1 << 20) == data
    with pytest.raises(OSError, match="10240 bytes, at most 10"):
        s3.read_object(f"{place}/large", 10)


def test_no_error_repeats_the_bucket_or_the_key(bucket):
    store, place = bucket
    name = place.removeprefix("s3://")
    store.put("doe_jane/1", b"1")
    calls = (
        lambda: s3.read_object(f"{place}/doe_jane/2", 10),
        lambda: list(s3.list_objects(f"{place}-gone")),
        lambda: s3.is_there("s3://not-there-at-all"),
    )
    for call in calls:
        with pytest.raises(OSError) as caught:  # noqa: PT011 (its kind differs, its text matters)
            call()
        assert name not in str(caught.value)
        assert "jane" not in str(caught.value)


def test_objects_are_read_by_reference(bucket):
    store, place = bucket
    store.put("x/1", b"abc")
    ref = FileRef(f"{place}/x/1", None, digest_of(b"abc").hex(), 3)
    assert read_bytes(ref) == b"abc"
    store.put("x/1", b"abd")
    with pytest.raises(BadCase, match="file_changed"):
        read_bytes(ref)
    store.delete("x/1")
    with pytest.raises(BadCase, match="file_missing"):
        read_bytes(ref)
    store.put("labels.csv", b"a,b\n")
    assert read_named(resolve(place), "labels.csv") == b"a,b\n"


def test_a_bucket_enters_the_catalog_and_its_series_can_be_read(bucket, home):
    store, place = bucket
    take, catalog, vault = home
    files = {f"in/s1/{n}.dcm": slice_file(n) for n in (3, 1, 2)}
    _put(store, {**files, "in/notes.txt": b"x", "in/all.zip": b"PK", "in/cut": slice_file(9)[:-5]})
    assert is_there(resolve(f"{place}/in"))
    report = take(f"{place}/in")
    assert (report.instances, report.ignored) == (3, 1)
    assert report.quarantined == {"archive_in_bucket": 1, "truncated": 1}
    (case,) = cases(catalog, kind="dicom")
    refs = file_refs(vault, locators_of(catalog, case.case_id))
    assert {ref.path for ref in refs.values()} == {f"{place}/{key}" for key in files}
    assert read_volume("dicom", list(refs.values())).array.shape == (3, 4, 4)


def test_what_is_known_is_not_read_again_and_what_changed_is(bucket, home, monkeypatch):
    store, place = bucket
    take, catalog, _ = home
    _put(store, {"1": slice_file(1), "2": slice_file(2)})
    take(place)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.archive.walk.read_object", lambda *_: pytest.fail("read again"))
        assert take(place).unchanged == 2
    # Of the same size and, most likely, within the same second.
    store.put("2", slice_file(2, PixelData=bytes(32)))
    report = take(place)
    assert (report.instances, report.unchanged, report.series_changed) == (1, 1, 1)
    assert len(cases(catalog, kind="dicom")) == 1


def test_a_mapping_and_a_table_of_labels_are_read_from_the_bucket(bucket, home):
    store, place = bucket
    take, catalog, vault = home
    stream = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(stream, "PNG")
    table = b"file,patient,spacing,finding\na/1.png,P1,0.5,ill\n"
    _put(store, {"in/a/1.png": stream.getvalue(), "in/radloop-images.csv": table})
    report = take(f"{place}/in")
    assert (report.instances, report.quarantined) == (2, {})
    (case,) = cases(catalog, kind="picture")
    refs = file_refs(vault, locators_of(catalog, case.case_id))
    volume = read_volume("picture", list(refs.values()))
    assert (volume.array.shape, volume.certificate["spacing"]) == ((1, 6, 8), [1.0, 0.5, 0.5])
    config = LabelConfig(
        format="table",
        file="radloop-images.csv",
        join="accession",
        key_column="file",
        column="finding",
        classes=("well", "ill"),
        positive="ill",
    )
    names = Pseudonymiser(project_key(vault))
    found = attach_labels(resolve(f"{place}/in"), config, names, catalog, vault)
    assert (found.matched, found.unmatched) == (1, ())
    # A corrected line is noticed in the bucket, and by whoever keeps the table in memory.
    store.put("in/radloop-images.csv", table.replace(b"0.5", b"0.25"))
    assert take(f"{place}/in").instances == 2
    (case,) = cases(catalog, kind="picture")
    refs = file_refs(vault, locators_of(catalog, case.case_id))
    assert read_volume("picture", list(refs.values())).certificate["spacing"] == [1.0, 0.25, 0.25]


def test_a_bucket_that_is_empty_or_gone_stops_the_intake_with_one_sentence(bucket, home):
    _, place = bucket
    take, *_ = home
    with pytest.raises(FileNotFoundError, match="mount it, or register it anew"):
        take(place)
    with pytest.raises(OSError, match="bucket"):
        take(f"{place}-gone")


def test_nothing_is_written_to_the_bucket(bucket, home):
    store, place = bucket
    take, *_ = home
    _put(store, {"1": slice_file(1), "2": b"noise" * 50})
    before = [(found.key, found.stamp_ns) for found in s3.list_objects(place)]
    take(place)
    take(place, retry=True)
    assert [(found.key, found.stamp_ns) for found in s3.list_objects(place)] == before


def test_ids_of_two_buckets_are_two_patients(bucket, home):
    store, place = bucket
    take, catalog, _ = home
    _put(store, {"a/1": encode(header(1)), "b/1": encode(header(1, series=2))})
    take(f"{place}/a")
    take(f"{place}/b")
    assert len({case.patient_key for case in cases(catalog, kind="dicom")}) == 2
