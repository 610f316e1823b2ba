"""Drawn wrists: fractures of the GRAZPEDWRI-DX table, boxes upon them, and nothing that tells."""

import csv
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread
from sklearn.metrics import roc_auc_score

from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.phantom.radiograph import BITS, SHAPE, VIEWS, expose
from tasks.phantom.wrist import AGE_LEVELS, AGES, CAST, FRACTURED, KINDS, METAL, draw_wrist
from tasks.phantom.write import CLASSES, MARK
from tasks.phantom.write_wrist import write_wrist_archive

SMALL = {"shape": (128, 96), "spacing": 1.0}


@pytest.fixture(scope="module")
def wrists():
    return [draw_wrist(seed) for seed in range(2000)]


@pytest.fixture(scope="module")
def films(wrists):
    return [[expose(w, view, **SMALL) for view in VIEWS] for w in wrists[:80]]


def test_a_film_is_12_bits_and_the_same_each_time(wrists):
    film = expose(wrists[0], "PA")
    assert film.image.shape == SHAPE
    assert 2000 < film.image.max() < 1 << BITS
    np.testing.assert_array_equal(film.image, expose(draw_wrist(0), "PA").image)


def test_patients_are_those_of_the_table(wrists):
    broken = [bool(w.breaks) for w in wrists]
    assert np.mean(broken) == pytest.approx(FRACTURED, abs=0.03)
    assert np.mean([w.cast for w in wrists]) == pytest.approx(CAST, abs=0.03)
    ages = np.quantile([w.age for w in wrists], AGE_LEVELS[1:6])
    np.testing.assert_allclose(ages, AGES[1:6], atol=0.5)
    counts = np.array([count for count, _, _ in KINDS.values()])
    found = [sum(w.code == code for w in wrists) / sum(broken) for code in KINDS]
    np.testing.assert_allclose(found, counts / counts.sum(), atol=0.03)


def test_the_constants_are_those_of_the_grazpedwri_table(shared_data):
    table = pd.read_csv(shared_data / "tables" / "grazpedwri_dataset.csv.gz", low_memory=False)
    ages = pd.to_numeric(table.age, errors="coerce").quantile(AGE_LEVELS)
    np.testing.assert_allclose(ages, AGES, atol=0.06)
    assert table.cast.notna().mean() == pytest.approx(CAST, abs=0.001)
    assert table.metal.notna().mean() == pytest.approx(METAL, abs=0.03)
    studies = table.drop_duplicates(["patient_id", "study_number"])
    assert studies.ao_classification.notna().mean() == pytest.approx(FRACTURED, abs=0.001)
    codes = table.ao_classification.dropna().str.split(";").explode().str.strip().value_counts()
    assert {code: int(codes[code]) for code in KINDS} == {c: n for c, (n, _, _) in KINDS.items()}


def test_what_a_fracture_changes_lies_in_its_box():
    inside, outside = [], []
    for seed in range(24):
        wrist = replace(draw_wrist(seed, difficulty="easy", fractured=True), metal=False)
        kinds = {b.kind for b in wrist.breaks}
        if kinds & {"complete", "greenstick", "plate"}:
            # These move the hand, so that much changes beyond the box.
            continue
        for view in VIEWS:
            film, whole = (expose(w, view, **SMALL) for w in (wrist, replace(wrist, breaks=())))
            change = np.abs(film.image.astype(float) - whole.image)
            mask = np.zeros(change.shape, dtype=bool)
            for top, left, bottom, right in film.boxes.astype(int):
                mask[top : bottom + 1, left : right + 1] = True
            if mask.any():
                inside.append(change[mask].mean())
                outside.append(change[~mask].mean())
    assert len(inside) > 8
    assert np.median(np.array(inside) / (np.array(outside) + 1)) > 1.5


def test_every_fracture_has_a_box_in_each_view_and_none_has_none(wrists, films):
    for wrist, pair in zip(wrists, films, strict=False):
        for film in pair:
            assert len(film.boxes) <= len(wrist.breaks)
            assert (film.boxes[:, 2:] > film.boxes[:, :2]).all()
    boxes = sum(len(film.boxes) for pair in films for film in pair)
    breaks = 2 * sum(len(w.breaks) for w in wrists[: len(films)])
    assert boxes > 0.95 * breaks


def test_growth_plates_close_with_age(wrists):
    young = [w for w in wrists if w.age < 12]
    grown = [w for w in wrists if w.age > 17.1]
    assert all(w.radius.plate > 0 for w in young)
    assert grown
    assert all(w.radius.plate == 0 for w in grown)


def test_no_brightness_and_no_confounder_tells_the_class(wrists, films):
    target = [bool(w.breaks) for w in wrists[: len(films)]]
    for statistic in (np.mean, np.std, np.median, lambda image: np.quantile(image, 0.95)):
        values = [np.mean([statistic(f.image) for f in pair]) for pair in films]
        area = roc_auc_score(target, values)
        assert max(area, 1 - area) < 0.65
    broken = [bool(w.breaks) for w in wrists]
    for name in ("cast", "metal", "swelling", "left", "female", "age", "size"):
        area = roc_auc_score(broken, [float(getattr(w, name)) for w in wrists])
        assert max(area, 1 - area) < 0.55


def test_the_archive_is_dicom_of_two_views_with_tables(tmp_path):
    write_wrist_archive(tmp_path, patients=10, seed=6, **SMALL)
    tables = {}
    for name in ("labels", "boxes", "dataset", "confounders"):
        with (tmp_path / "truth" / f"{name}.csv").open(encoding="utf-8") as stream:
            tables[name] = list(csv.DictReader(stream))
    assert {row["target"] for row in tables["labels"]} == set(CLASSES)
    assert len(tables["dataset"]) == 20
    films = {row["filestem"].rsplit("_", 1)[0]: row for row in tables["dataset"]}
    for row in tables["confounders"]:
        film = films[row["accession_number"]]
        assert [row["cast"], row["metal"]] == [
            "yes" if film[n] else "no" for n in ("cast", "metal")
        ]
        # Closed in every grown-up, open in every young child.
        if not 12 < float(film["age"]) < 18:
            assert row["growth_plate"] == ("yes" if float(film["age"]) < 15 else "no")
    assert len({row["growth_plate"] for row in tables["confounders"]}) == 2
    photometric = set()
    for row in tables["labels"]:
        paths = sorted((tmp_path / "dicom").rglob(f"{row['accession_number']}/*.dcm"))
        heads = [dcmread(path, stop_before_pixels=True) for path in paths]
        assert [head.ViewPosition for head in heads] == ["LL", "PA"]
        assert len({head.StudyInstanceUID for head in heads}) == 1
        for path, head in zip(paths, heads, strict=True):
            assert head.PatientID.startswith(MARK)
            photometric.add(head.PhotometricInterpretation)
            volume = read_volume("dicom", [FileRef(str(path), None, "", path.stat().st_size)])
            # Bone is bright and the collimated border dark, whichever way it was stored.
            grey = volume.array[0]
            assert grey[48:80, 32:64].mean() > np.median(grey[:, :3])
            boxes = [b for b in tables["boxes"] if b["sop_instance_uid"] == head.SOPInstanceUID]
            assert bool(boxes) == (row["target"] == CLASSES[0])
    assert len(photometric) == 2
    again = tmp_path / "again"
    write_wrist_archive(again, patients=3, seed=6, **SMALL)
    for path in again.rglob("*.dcm"):
        assert path.read_bytes() == (tmp_path / path.relative_to(again)).read_bytes()
