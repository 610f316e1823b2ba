"""Parts in a bucket: a real S3 server takes whole objects and gives ranges of them."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.archive import s3
from tasks.errors import BadCase, StoreError
from tasks.store import commit
from tasks.store.commit import remove
from tasks.store.places import Bucket, place_of
from tasks.store.read import open_part
from tasks.store.schema import MANIFEST, part_id
from tasks.store.verify import committed_parts, store_digest, verify_part
from tasks.store.write import write_part
from tests.archive.s3_server import ENVIRONMENT, s3_server
from tests.store.making import FIXED, RECIPE, case_name, prepared, write

pytest.importorskip("obstore", reason="obstore is not installed: no bucket is read")
pytest.importorskip("moto", reason="moto is not installed: there is no S3 server to read from")

LAYOUTS = pytest.mark.parametrize("fixed", [None, FIXED], ids=["cases", "packed"])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture
def root(address, monkeypatch, request) -> Iterator[str]:
    """A store below a prefix of an empty bucket."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": address}.items():
        monkeypatch.setenv(name, value)
    s3.open_bucket.cache_clear()
    name = f"b{abs(hash(request.node.nodeid)):x}"
    # An unsigned PUT makes a bucket; obstore itself makes none.
    urllib.request.urlopen(urllib.request.Request(f"{address}/{name}", method="PUT")).close()
    yield f"s3://{name}/some/store"
    s3.open_bucket.cache_clear()


def write_there(root: str, scratch: Path, cases: int = 4, fixed=None, produce=None):
    names = [case_name(number) for number in range(cases)]
    return write_part(
        root,
        part_id(names, RECIPE, "image"),
        "image",
        RECIPE,
        names,
        produce or (lambda case_id: prepared(case_id, fixed)),
        fixed_shape=fixed,
        dtype="float32",
        scratch=str(scratch),
    )


@LAYOUTS
def test_a_part_in_a_bucket_is_the_part_in_a_folder(root, tmp_path, fixed):
    there, here = write_there(root, tmp_path / "scratch", 4, fixed), write(tmp_path, 4, fixed)
    assert (there.digest, there.path, there.bytes) == (here.digest, here.path, here.bytes)
    assert committed_parts(root) == committed_parts(str(tmp_path))
    assert store_digest(root) == store_digest(str(tmp_path))
    assert verify_part(root, there.path, there.digest) == ()
    assert not any((tmp_path / "scratch" / "staging").iterdir())
    part = open_part(root, there.path, there.digest)
    for case_id in part.case_ids:
        made = prepared(case_id, fixed)
        np.testing.assert_array_equal(part.read(case_id), made.array)
        patch = part.read_patch(case_id, (1, 2, 3), (3, 19, 20))
        np.testing.assert_array_equal(patch, made.array[1:3, 2:19, 3:20])
        for name, mask in made.masks.items():
            np.testing.assert_array_equal(part.mask(case_id, name), mask)


def test_a_committed_part_is_not_made_again(root, tmp_path):
    first = write_there(root, tmp_path)
    again = write_there(root, tmp_path, produce=lambda case_id: pytest.fail("made again"))
    assert (again.digest, again.case_ids) == (first.digest, first.case_ids)


def test_nothing_is_there_before_the_manifest_and_the_next_run_goes_on(root, tmp_path, monkeypatch):
    """Stop the upload at every object in turn."""
    upload, sent = Bucket.upload, []

    def stop_at(last):
        def upload_some(place, name, source):
            if len(sent) == last:
                raise KeyboardInterrupt
            sent.append(name)
            upload(place, name, source)

        return upload_some

    monkeypatch.setattr(Bucket, "upload", stop_at(-1))
    digest = write_there(root, tmp_path, 2, FIXED).digest
    objects = len(sent)
    assert sent[-1] == MANIFEST
    remove(root, committed_parts(root)[0])
    assert place_of(root).files() == {}
    for last in range(objects):
        sent.clear()
        monkeypatch.setattr(Bucket, "upload", stop_at(last))
        with pytest.raises(KeyboardInterrupt):
            write_there(root, tmp_path, 2, FIXED)
        assert committed_parts(root) == ()
    monkeypatch.setattr(Bucket, "upload", upload)
    record = write_there(root, tmp_path, 2, FIXED, lambda case_id: pytest.fail("made again"))
    assert (record.digest, record.resumed) == (digest, 2)
    assert verify_part(root, record.path, digest) == ()


def test_a_case_that_was_sent_and_cannot_be_made_again_is_not_left_in_the_part(
    root, tmp_path, monkeypatch
):
    """The upload broke off, the host with its staging is gone, and so is the case's source."""

    def all_but_the_manifest(place, name, source):
        if name == MANIFEST:
            raise KeyboardInterrupt
        upload(place, name, source)

    def without_the_first(case_id):
        if case_id == case_name(0):
            raise BadCase("file_unreadable", "its source is gone")
        return prepared(case_id)

    upload = Bucket.upload
    monkeypatch.setattr(Bucket, "upload", all_but_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        write_there(root, tmp_path / "lost", 2)
    monkeypatch.setattr(Bucket, "upload", upload)
    record = write_there(root, tmp_path / "other", 2, None, without_the_first)
    assert record.case_ids == (case_name(1),)
    assert verify_part(root, record.path, record.digest) == ()
    # Found again, as after a kill before the catalog's row.
    assert write_there(root, tmp_path / "third", 2).digest == record.digest


def test_an_object_that_arrived_short_stops_the_commit(root, tmp_path, monkeypatch):
    def short(place, name, source):
        half = tmp_path / "half"
        half.write_bytes(source.read_bytes()[:-1])
        upload(place, name, half)

    upload = Bucket.upload
    monkeypatch.setattr(Bucket, "upload", short)
    with pytest.raises(StoreError, match="bytes in the bucket and"):
        write_there(root, tmp_path)
    assert committed_parts(root) == ()


@LAYOUTS
def test_damage_in_a_bucket_is_found_on_read_and_by_verify(root, tmp_path, fixed):
    record = write_there(root, tmp_path, 2, fixed)
    place = place_of(root, record.path)
    shard = next(name for name in sorted(place.files()) if "/0/c/" in name)
    raw = bytearray(place.read(shard))
    raw[len(raw) // 3] ^= 4
    (tmp_path / "bad").write_bytes(raw)
    place.upload(shard, tmp_path / "bad")
    with pytest.raises(StoreError, match="damaged"):
        [open_part(root, record.path).read(case_name(number)) for number in range(2)]
    assert any("content differs" in problem for problem in verify_part(root, record.path))
    (tmp_path / "bad").write_bytes(raw[: len(raw) // 2])
    place.upload(shard, tmp_path / "bad")
    with pytest.raises(StoreError, match="damaged"):
        [open_part(root, record.path).read(case_name(number)) for number in range(2)]
    problems = verify_part(root, record.path)
    assert any("the manifest says" in problem for problem in problems)
    assert any("is damaged" in problem for problem in problems)
    place.remove([shard])
    with pytest.raises(StoreError, match="missing"):
        [open_part(root, record.path).read(case_name(number)) for number in range(2)]
    with pytest.raises(StoreError, match="damaged"):
        commit.standing(root, record.path)


def test_a_bucket_needs_a_scratch_folder():
    with pytest.raises(ValueError, match="needs a local scratch folder"):
        write_part("s3://bucket/x", "a", "image", "b", ["c"], prepared, dtype="float32")
