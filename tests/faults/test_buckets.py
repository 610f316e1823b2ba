"""A bucket that errs, resets and dawdles: the same bytes as without, or one sentence."""

import itertools
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.archive import s3
from tasks.archive.catalog import cases, locators_of, open_catalog
from tasks.archive.intake import ingest
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import resolve_source
from tasks.archive.vault import open_vault, project_key
from tasks.archive.vault_files import file_refs
from tasks.archive.volume import read_volume
from tasks.errors import BadCase, StoreError
from tasks.store.places import Bucket
from tasks.store.read import open_part
from tasks.store.schema import MANIFEST
from tasks.store.verify import committed_parts, verify_part
from tests.archive.made_dicom import slice_file
from tests.archive.s3_server import ENVIRONMENT, s3_server
from tests.faults.proxy import Plan, faulty
from tests.store.making import FIXED, case_name, prepared, write
from tests.store.test_bucket import write_there

pytest.importorskip("obstore", reason="obstore is not installed: no bucket is read")
pytest.importorskip("moto", reason="moto is not installed: there is no S3 server to read from")

CASES = 3
SLICES = 6

FAULTS = ("500", "503", "reset", "lost")
"""Faults a request may meet and be repeated after; the slow answer has a test of its own."""

pytestmark = pytest.mark.timeout(600)
LAYOUTS = pytest.mark.parametrize("fixed", [None, FIXED], ids=["cases", "packed"])


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan()


@pytest.fixture(scope="module")
def address(plan) -> Iterator[str]:
    with s3_server() as server, faulty(server, plan) as found:
        yield found


@pytest.fixture
def root(address, plan, monkeypatch, request) -> Iterator[str]:
    """An empty bucket behind the faulty way."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": address}.items():
        monkeypatch.setenv(name, value)
    plan.begin(lambda number, line: None)
    s3.open_bucket.cache_clear()
    name = f"f{abs(hash(request.node.nodeid)):x}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/{name}", method="PUT")).close()
    yield f"s3://{name}/some/store"
    plan.begin(lambda number, line: None)
    s3.open_bucket.cache_clear()


def every_third(number: int, line: str) -> str | None:
    """Let every third request meet a fault, each kind in its turn."""
    return FAULTS[number // 3 % len(FAULTS)] if number % 3 == 0 else None


def read_all(root: str, path: str, digest: str, fixed) -> None:
    part = open_part(root, path, digest)
    for number in range(CASES):
        made = prepared(case_name(number), fixed)
        np.testing.assert_array_equal(part.read(case_name(number)), made.array)
        for name, mask in made.masks.items():
            np.testing.assert_array_equal(part.mask(case_name(number), name), mask)


@LAYOUTS
def test_a_part_is_written_and_read_through_errors_and_resets_as_without_them(
    root, plan, tmp_path, fixed
):
    calm = write(tmp_path / "calm", CASES, fixed)
    plan.begin(every_third)
    record = write_there(root, tmp_path / "scratch", CASES, fixed)
    assert (record.digest, record.path) == (calm.digest, calm.path)
    read_all(root, record.path, record.digest, fixed)
    assert verify_part(root, record.path, record.digest) == ()
    assert set(plan.met) == set(FAULTS)


@pytest.mark.slow
def test_an_answer_that_takes_ten_seconds_is_waited_for(root, plan, tmp_path):
    calm = write(tmp_path / "calm", CASES, FIXED)
    plan.begin(lambda number, line: "slow" if number in (0, 2, 5) else None)
    record = write_there(root, tmp_path / "scratch", CASES, FIXED)
    assert record.digest == calm.digest
    plan.begin(lambda number, line: "slow" if number in (1, 3) else None)
    read_all(root, record.path, record.digest, FIXED)
    assert plan.met == ["slow"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", "reset"])
def test_a_bucket_that_goes_away_at_any_request_shows_no_part_and_the_next_run_goes_on(
    root, plan, tmp_path, monkeypatch, fault
):
    """From the n-th request on nothing answers, for each n in turn."""
    monkeypatch.setattr(s3, "RETRIES", 0)
    s3.open_bucket.cache_clear()
    calm = write(tmp_path / "calm", CASES, FIXED).digest
    stopped = 0
    for last in itertools.count():
        prefix, scratch = f"{root}/{last}", tmp_path / f"scratch{last}"
        plan.begin(lambda number, line, last=last: fault if number >= last else None)
        try:
            record = write_there(prefix, scratch, CASES, FIXED)
        except StoreError as error:
            stopped += 1
            said = str(error)
        else:
            assert record.digest == calm
            break
        manifest_sent = any(line.startswith("PUT") and MANIFEST in line for line in plan.seen)
        plan.begin(lambda number, line: None)
        assert "run again" in said
        assert root not in said
        there = committed_parts(prefix)
        assert not there or manifest_sent
        for path in there:
            assert verify_part(prefix, path, calm) == ()
        again = write_there(prefix, scratch, CASES, FIXED, lambda case_id: prepared(case_id, FIXED))
        assert again.digest == calm
        assert verify_part(prefix, again.path, calm) == ()
    assert stopped > 4


@pytest.fixture
def home(tmp_path):
    """A catalog and a vault, and how a bucket is taken into them."""
    catalog = open_catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    vault = open_vault(f"sqlite:///{tmp_path / 'vault.db'}")
    names = Pseudonymiser(project_key(vault))

    def take(text: str) -> None:
        report = ingest(resolve_source(text), catalog, vault, names)
        assert report.accounted == report.seen == SLICES

    yield take, catalog, vault
    catalog.dispose()
    vault.dispose()


def _series(place: str, tmp_path: Path) -> None:
    for number in range(SLICES):
        (tmp_path / "slice").write_bytes(slice_file(number))
        Bucket(place).upload(f"series/{number}", tmp_path / "slice")


def _voxels(catalog, vault) -> np.ndarray:
    (case,) = cases(catalog, kind="dicom")
    refs = file_refs(vault, locators_of(catalog, case.case_id))
    assert len(refs) == SLICES
    return read_volume("dicom", list(refs.values())).array


def test_an_archive_in_a_faulty_bucket_is_taken_in_and_read_whole(root, plan, home, tmp_path):
    take, catalog, vault = home
    _series(root, tmp_path)
    plan.begin(every_third)
    take(root)
    faulty_read = _voxels(catalog, vault)
    assert len(plan.met) > 3
    plan.begin(lambda number, line: None)
    np.testing.assert_array_equal(faulty_read, _voxels(catalog, vault))


@pytest.mark.slow
def test_an_archive_that_goes_away_while_it_is_read_gives_no_short_volume(
    root, plan, home, tmp_path, monkeypatch
):
    monkeypatch.setattr(s3, "RETRIES", 0)
    s3.open_bucket.cache_clear()
    take, catalog, vault = home
    _series(root, tmp_path)
    take(root)
    whole = _voxels(catalog, vault)
    for last in range(SLICES):
        plan.begin(lambda number, line, last=last: "503" if number >= last else None)
        with pytest.raises(BadCase) as problem:
            _voxels(catalog, vault)
        assert problem.value.reason == "file_unreadable"
        assert root not in str(problem.value)
    plan.begin(lambda number, line: None)
    np.testing.assert_array_equal(_voxels(catalog, vault), whole)
