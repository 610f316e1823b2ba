"""The Wisconsin diagnostic breast cancer table that scikit-learn brings (569 real patients)."""

import csv
from pathlib import Path

ID_COLUMN = "id"
"""``wdbc-001`` and so on; the table has one row a patient, and no other identity.  The name tells
`radloop ingest` that the column is no measurement."""

LABEL_COLUMN = "diagnosis"
"""``malignant`` or ``benign``."""


def wisconsin_table(path: str | Path) -> Path:
    """Write the table as CSV: row id, 30 features, diagnosis.

    Source: Street, Wolberg and Mangasarian 1993, UCI "Breast Cancer Wisconsin (Diagnostic)",
    CC BY 4.0, as shipped in scikit-learn.  Features are of cell nuclei in a fine needle aspirate;
    the numbers are written so that they read back exactly.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    classes = [str(name) for name in data.target_names]
    path = Path(path)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([ID_COLUMN, *names, LABEL_COLUMN])
        for number, (row, target) in enumerate(zip(data.data, data.target, strict=True), start=1):
            values = [repr(float(value)) for value in row]
            writer.writerow([f"wdbc-{number:03d}", *values, classes[int(target)]])
    return path
