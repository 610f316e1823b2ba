"""The table reads back exactly as scikit-learn has it."""

import csv

import numpy as np
from sklearn.datasets import load_breast_cancer

from tasks.learn.wisconsin import ID_COLUMN, LABEL_COLUMN, wisconsin_table


def test_the_csv_holds_every_number_exactly(tmp_path):
    with wisconsin_table(tmp_path / "w.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    data = load_breast_cancer()
    assert [int(row[ID_COLUMN]) for row in rows] == list(range(569))
    malignant = np.array([row[LABEL_COLUMN] == "malignant" for row in rows])
    assert malignant.sum() == 212
    assert (malignant == (data.target == 0)).all()
    features = [name for name in rows[0] if name not in (ID_COLUMN, LABEL_COLUMN)]
    values = np.array([[float(row[name]) for name in features] for row in rows])
    assert (values == data.data).all()
