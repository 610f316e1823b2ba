"""What may go from a store, and what must stay."""

import os
import time

import pytest

from tasks.archive.commits import PartRow
from tasks.store import staging
from tasks.store.collect import (
    YOUNG_SECONDS,
    Removal,
    remove_staging,
    stale_staging,
    superseded,
    touch,
    unnamed,
)
from tasks.store.commit import remove
from tasks.store.schema import MANIFEST
from tasks.store.verify import committed_parts
from tests.store.making import RECIPE, case_name, prepared, write

LATER = YOUNG_SECONDS + 60


def ours(recipe_id, case_ids):
    return True


def stop_half_way(root):
    def produce(case_id):
        if case_id == case_name(2):
            raise KeyboardInterrupt
        return prepared(case_id)

    with pytest.raises(KeyboardInterrupt):
        write(root, 3, produce=produce)


def test_staging_goes_when_it_is_old_and_nobody_holds_it(tmp_path):
    stop_half_way(tmp_path)
    (folder,) = (tmp_path / "staging").iterdir()
    later = time.time() + LATER
    assert stale_staging(str(tmp_path), time.time()) == ()
    with staging.sole_writer(folder, folder.name):
        assert stale_staging(str(tmp_path), later) == ()
    (found,) = stale_staging(str(tmp_path), later)
    assert (found.kind, found.path) == ("staging", f"staging/{folder.name}")
    assert found.bytes == sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    with staging.sole_writer(folder, folder.name):
        # Begun again between the plan and the deed.
        remove_staging(str(tmp_path), found)
        assert folder.is_dir()
    remove_staging(str(tmp_path), found)
    assert not folder.exists()


def test_staging_whose_files_vanish_while_it_is_looked_at_is_left(tmp_path):
    stop_half_way(tmp_path)
    (folder,) = (tmp_path / "staging").iterdir()
    (folder / "gone").symlink_to(folder / "nowhere")
    assert stale_staging(str(tmp_path), time.time() + LATER) == ()


def test_a_part_that_nobody_names_goes_when_it_is_old(tmp_path):
    named, lost = write(tmp_path, 2), write(tmp_path, 3)
    later = time.time() + LATER
    assert unnamed(str(tmp_path), {named.path}, ours, time.time()) == ()
    (found,) = unnamed(str(tmp_path), {named.path}, ours, later)
    assert (found.kind, found.path, found.recipe_id) == ("uncommitted", lost.path, RECIPE)
    remove(str(tmp_path), found.path)
    assert committed_parts(str(tmp_path)) == (named.path,)
    assert not any((tmp_path / "staging").iterdir())


def test_a_part_of_another_catalog_is_told_apart_by_its_recipe_and_cases(tmp_path):
    part = write(tmp_path, 2)
    asked = []

    def never(recipe_id, case_ids):
        asked.append((recipe_id, sorted(case_ids)))
        return False

    (found,) = unnamed(str(tmp_path), (), never, time.time() + LATER)
    assert (found.kind, found.path) == ("foreign", part.path)
    assert asked == [(RECIPE, [case_name(0), case_name(1)])]


def test_a_part_that_was_replaced_counts_as_young_again(tmp_path):
    record = write(tmp_path, 2)
    old = time.time() - LATER
    os.utime(tmp_path / record.path / MANIFEST, (old, old))
    assert len(unnamed(str(tmp_path), (), ours, time.time())) == 1
    touch(str(tmp_path), record.path)
    assert unnamed(str(tmp_path), (), ours, time.time()) == ()


def test_a_damaged_part_stays_for_a_person_to_look_at(tmp_path):
    record = write(tmp_path, 2)
    (tmp_path / record.path / MANIFEST).write_text("{")
    assert unnamed(str(tmp_path), (), ours, time.time() + LATER) == ()


def test_an_interrupted_removal_leaves_no_part_and_is_taken_up(tmp_path, monkeypatch):
    record = write(tmp_path, 2)

    def stop(path, **options):
        if path.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr("tasks.store.commit.shutil.rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        remove(str(tmp_path), record.path)
    monkeypatch.undo()
    assert committed_parts(str(tmp_path)) == ()
    (found,) = stale_staging(str(tmp_path), time.time() + LATER)
    assert found.path == f"staging/{record.part_id}.removed"


def part(name: str, recipe: str) -> PartRow:
    return PartRow(name, "image", recipe, None, None, f"parts/{name}.zarr", ("c",), 7, "d")


@pytest.mark.parametrize(
    ("newest", "known", "referred", "gone"),
    [
        ({"r2"}, {"r1", "r2"}, set(), {"p1"}),
        ({"r2"}, {"r1", "r2"}, {"r1"}, set()),
        ({"r1", "r2"}, {"r1", "r2"}, set(), set()),
        ({"r2"}, {"r2"}, set(), set()),
    ],
    ids=["superseded", "a run was made with it", "newest of another scenario", "of no scenario"],
)
def test_a_recipes_parts_go_only_when_nothing_refers_to_it(newest, known, referred, gone):
    rows = [part("p1", "r1"), part("p2", "r2")]
    found = superseded(rows, newest, known, referred)
    assert {one.path for one in found} == {f"parts/{name}.zarr" for name in gone}
    assert all(isinstance(one, Removal) and one.bytes == 7 for one in found)
