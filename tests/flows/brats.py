"""Made-up brains in the folders of BraTS: four sequences that show a tumour, and its mask."""

from pathlib import Path

import numpy as np

from flows.fitting import fitted_recipe
from flows.orders import orders_of
from flows.pending import take_up
from flows.plans import plan_images, plan_labels
from tasks.archive.commits import PartRow, commit_part
from tasks.archive.nifti import write_nifti
from tasks.archive.orders import WorkOrder, seal, unseal
from tasks.archive.vault import recall
from tasks.store.fill import write_image_part, write_label_part

SHAPE = (16, 26, 24)
AFFINE = np.array([[0, 0, 2.0, -24], [0, 2.0, 0, -26], [3.0, 0, 0, -24], [0, 0, 0, 1]])

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
OLD = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}

GREYS = {  # brain, necrosis, oedema, enhancing tumour
    "t1n": (100, 60, 85, 95),
    "t1c": (100, 55, 90, 220),
    "t2w": (100, 180, 190, 150),
    "t2f": (100, 90, 230, 170),
}


SCENARIO = """\
name: tumour
title: Brain tumour on four made-up sequences
task: segmentation
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Made-up brains.
synthetic: true
cohort:
  kind: nifti
  channels:
    - {name: t1n, where: {sequence: t1n}}
    - {name: t1c, where: {sequence: t1c}}
    - {name: t2w, where: {sequence: t2w}}
    - {name: t2f, where: {sequence: t2f}}
  required: [t1c, t2f]
labels: {format: decathlon, classes: [necrosis, oedema, enhancing]}
recipe:
  - {step: crop, shape: foreground}
  - {step: normalise, method: nonzero_zscore}
  - {step: pad, multiple_of: [4, 4, 4], value: 0}
split: {source: keyed, test: 0.3, folds: 2, key: public, strata: []}
candidates:
  - {name: unet, kind: network, network: unet3d, epochs: 1, features: [4, 8], steps_per_epoch: 4,
     batch: 2, modality_dropout: 0.4}
evaluate: {primary: dice}
gate: {margin: 0.1, min_patients: 2, undecidable: promote}
"""


def made(number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return a patient's sequences (z, y, x) int16 and mask: 1 necrosis, 2 oedema, 3 enhancing."""
    rng = np.random.default_rng(number)
    at = np.indices(SHAPE).transpose(1, 2, 3, 0) * (3.0, 2.0, 2.0)
    middle = (np.array(SHAPE) - 1) / 2 * (3.0, 2.0, 2.0)
    inside = np.linalg.norm((at - middle) / (21, 23, 21), axis=-1) < 1
    away = np.linalg.norm(at - middle - rng.uniform(-7, 7, 3), axis=-1)
    mask = np.select([away < 3.5, away < 6.5, away < 11], [1, 3, 2], 0).astype(np.uint8)
    images = {}
    for name, greys in GREYS.items():
        grey = np.array(greys)[mask] + rng.normal(0, 4, SHAPE)
        images[name] = np.where(inside, grey, 0).astype(np.int16)
    return images, np.where(inside, mask, 0).astype(np.uint8)


def write_patient(root: Path, number: int, missing: tuple[str, ...] = (), old: bool = False) -> str:
    """Write one case as BraTS 2023 or, ``old``, as BraTS 2021 would; return its name."""
    images, mask = made(number)
    case = f"BraTS2021_{number:05d}" if old else f"BraTS-GLI-{number:05d}-000"
    (root / case).mkdir(parents=True)
    for name, array in images.items():
        if name not in missing:
            file = f"{case}_{OLD[name]}" if old else f"{case}-{name}"
            write_nifti(root / case / f"{file}.nii.gz", array, AFFINE)
    if old:
        mask = np.where(mask == 3, 4, mask).astype(np.uint8)
    write_nifti(root / case / f"{case}{'_' if old else '-'}seg.nii.gz", mask, AFFINE)
    return case


def row_of(record, recipe_id, label=None):
    return PartRow(
        record.part_id, record.kind, recipe_id, label and label.label_set_id,
        label and label.image_part_id, record.path, record.case_ids, record.bytes, record.digest,
    )  # fmt: skip


def preprocessed(home, ready):
    """Do what the flow does, in this process: plan, seal, unseal, write, commit.

    Returns the recipe's key, the recipe, and (reason, detail) of the masks that were refused.
    """
    key, recipe = fitted_recipe(home, ready, "")
    pending, _ = take_up(home, ready, key, recipe, 0)
    worker_key, refused = home.settings.order_key, []

    labels = ready.scenario.labels

    def sent(part, chosen, *masks, **more):
        order = WorkOrder(part.part_id, key, tuple(orders_of(home, chosen, *masks, **more)))
        return unseal(seal(order, worker_key), worker_key)

    for part in plan_images(home, ready.scenario.name, key, recipe, pending):
        order = sent(part, [case for case in pending if case.case_id in part.case_ids])
        record = write_image_part(home.settings.store_root, order, recipe)
        commit_part(home.catalog, row_of(record, key), record.failures)
    by_id = {case.case_id: case for case in ready.cohort.cases}
    for part in plan_labels(home, ready, key):
        chosen = [by_id[case_id] for case_id in part.case_ids]
        order = sent(part, chosen, ready.cohort.masks, labels.numbers, named=labels.named)
        record = write_label_part(
            home.settings.store_root, order, recipe, part.image_path, part.label_set_id
        )
        commit_part(home.catalog, row_of(record, key, part), record.failures)
        refused += [(reason, detail) for _, reason, detail in record.failures]
    return key, recipe, refused


def number_of(home, case):
    """Return which made-up patient a case is of."""
    return int(recall(home.vault, "patient", case.patient_key).rpartition("-")[2][-5:])
