"""Drawn limbs are reproducible, look alike in both classes, and differ where the bone breaks."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.phantom.limb import BITS, COLUMNS, ROWS, draw_anatomy, draw_shot, render
from tasks.phantom.write import CLASSES, draw_studies


@pytest.fixture(scope="module")
def studies():
    return [study for patient in range(240) for study in draw_studies(11, patient)]


@pytest.fixture(scope="module")
def pictures(studies):
    return [render(study.anatomy, study.shot) for study in studies[:160]]


def test_a_picture_is_12_bits_and_the_same_each_time():
    rng = np.random.default_rng(1)
    anatomy, shot = draw_anatomy(rng), draw_shot(rng, fractured=True)
    picture = render(anatomy, shot)
    assert picture.shape == (ROWS, COLUMNS)
    assert picture.dtype == np.uint16
    assert 2000 < picture.max() < 1 << BITS
    np.testing.assert_array_equal(picture, render(anatomy, shot))


def test_a_fracture_changes_the_bone_and_not_the_border():
    rng = np.random.default_rng(2)
    anatomy, shot = draw_anatomy(rng), draw_shot(rng, fractured=True)
    # Drawn in the same noise, so that what differs is the break alone.
    whole = render(anatomy, replace(shot, fracture=None)).astype(float)
    change = np.abs(render(anatomy, shot) - whole)
    assert change.max() > 400
    assert np.median(change[:, :12]) == 0
    assert np.median(change[:, -12:]) == 0


def test_classes_are_balanced_and_patients_keep_their_anatomy(studies):
    share = np.mean([study.target == CLASSES[0] for study in studies])
    assert 0.4 < share < 0.6
    by_patient = {}
    for study in studies:
        by_patient.setdefault(study.patient, set()).add(study.anatomy)
    assert all(len(anatomies) == 1 for anatomies in by_patient.values())
    assert len(studies) > 1.15 * len(by_patient)


def cross_validated_auroc(features, target, groups):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    forest = RandomForestClassifier(100, min_samples_leaf=4, random_state=0, n_jobs=1)
    folds = GroupKFold(5)
    scores = cross_val_predict(
        forest, features, target, groups=groups, cv=folds, method="predict_proba"
    )
    return roc_auc_score(target, scores[:, 1])


def test_header_values_do_not_tell_the_class(studies):
    features = np.array(
        [
            [
                s.vendor.kvp,
                s.vendor.spacing,
                s.vendor.modality == "CR",
                len(s.syntax),
                int(s.syntax.rsplit(".", 1)[-1]),
                s.inverse,
                s.female,
                s.anatomy.age,
                s.shot.lateral,
                s.shot.left,
                s.shot.exposure,
                s.day.toordinal(),
                s.number,
            ]
            for s in studies
        ],
        dtype=float,
    )
    target = np.array([s.target == CLASSES[0] for s in studies])
    assert cross_validated_auroc(features, target, [s.patient for s in studies]) < 0.65


def test_brightness_does_not_tell_the_class(studies, pictures):
    from sklearn.metrics import roc_auc_score

    target = np.array([s.target == CLASSES[0] for s in studies[: len(pictures)]])
    for statistic in (np.mean, np.std, np.median, np.max):
        values = [statistic(picture) for picture in pictures]
        area = roc_auc_score(target, values)
        assert max(area, 1 - area) < 0.65
