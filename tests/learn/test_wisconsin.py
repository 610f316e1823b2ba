"""The table reads back exactly as scikit-learn has it."""

import csv

import numpy as np
from sklearn.datasets import load_breast_cancer

from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.rows import guess_mapping, map_rows
from tasks.archive.tablefile import read_table
from tasks.learn.wisconsin import ID_COLUMN, LABEL_COLUMN, wisconsin_table


def test_the_csv_holds_every_number_exactly(tmp_path):
    with wisconsin_table(tmp_path / "w.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    data = load_breast_cancer()
    assert [row[ID_COLUMN] for row in rows] == [f"wdbc-{n:03d}" for n in range(1, 570)]
    malignant = np.array([row[LABEL_COLUMN] == "malignant" for row in rows])
    assert malignant.sum() == 212
    assert (malignant == (data.target == 0)).all()
    features = [name for name in rows[0] if name not in (ID_COLUMN, LABEL_COLUMN)]
    values = np.array([[float(row[name]) for name in features] for row in rows])
    assert (values == data.data).all()


def test_ingest_takes_each_row_as_a_patient_and_its_id_as_no_feature(tmp_path):
    table = read_table(wisconsin_table(tmp_path / "w.csv").read_bytes(), "w.csv")
    mapped = map_rows(table, guess_mapping(table.columns), Pseudonymiser(b"k" * 32), "a", "w")
    assert len({row.patient_key for row in mapped.rows}) == 569
    assert len(mapped.rows[0].facts) == 31
    assert ID_COLUMN not in mapped.rows[0].facts
    assert not mapped.problems
