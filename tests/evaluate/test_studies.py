"""Views of a study as one answer."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.evaluate.studies import join_views, of_studies
from tests.evaluate.cases import draw, two

STUDY_OF = {"c0": "c0", "c1": "c0", "c2": "c2", "c3": "c0", "c4": "c4"}
KEYS = ("a", "a", "b", "a", "b")


def views(truth=(0, 1, 0, 0, 1)):
    return two(np.array(truth), [0.2, 0.9, 0.4, 0.1, 0.7], KEYS)


def test_the_mean_and_the_highest_of_the_views():
    mean, worst = of_studies(views(), STUDY_OF, "mean"), of_studies(views(), STUDY_OF, "max")
    assert mean.case_ids == worst.case_ids == ("c0", "c2", "c4")
    assert mean.patient_keys == ("a", "b", "b")
    np.testing.assert_allclose(mean.score, [0.4, 0.4, 0.7])
    np.testing.assert_allclose(worst.score, [0.9, 0.4, 0.7])
    np.testing.assert_allclose(worst.probability.sum(1), 1)


def test_the_highest_is_of_the_positive_class_wherever_that_stands():
    turned = replace(views(), positive="no")
    np.testing.assert_allclose(of_studies(turned, STUDY_OF, "max").score, [0.9, 0.6, 0.3])
    np.testing.assert_allclose(join_views([[0.1, 0.9], [0.8, 0.2]], "max", 0), [0.8, 0.2])


def test_a_finding_in_one_view_is_a_finding_of_the_study():
    assert of_studies(views(), STUDY_OF, "mean").truth.tolist() == [1, 0, 1]
    assert of_studies(views((0, 0, 0, 0, 1)), STUDY_OF, "mean").truth.tolist() == [0, 0, 1]


def test_of_three_classes_views_must_agree():
    three = draw(6, 3)
    study_of = dict.fromkeys(three.case_ids, three.case_ids[0])
    keyed = replace(three, patient_keys=("a",) * 6)
    with pytest.raises(ValueError, match="different labels"):
        of_studies(keyed, study_of, "mean")
    same = replace(keyed, target=np.full(6, 2))
    found = of_studies(same, study_of, "mean")
    assert found.target.tolist() == [2]
    np.testing.assert_allclose(found.probability[0], three.probability.mean(0))


def test_a_study_of_two_patients_is_refused():
    with pytest.raises(ValueError, match="1 studies have views of several patients"):
        of_studies(views(), {**STUDY_OF, "c2": "c0"}, "mean")
