import numpy as np
import pytest

from tasks.archive.catalog import Case
from tasks.errors import LeakageError
from tasks.evaluate.leakage import (
    better_than_header,
    check_disjoint,
    check_fit,
    check_study,
    named,
    random_label_alarm,
)
from tests.evaluate.cases import two


def test_shared_patients_are_counted_and_never_named():
    with pytest.raises(LeakageError, match="2 in both train and test") as caught:
        check_disjoint({"train": ["k1", "k2", "k3"], "test": ["k2", "k3"], "reserve": ["k4"]})
    assert "k2" not in str(caught.value)


def test_disjoint_sides_pass():
    check_disjoint({"train": ["k1", "k1", "k2"], "test": ["k3"]})


def slices(patients=60, each=6, seed=0):
    """Draw slices whose features are the patient's own and say nothing of the label."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(patients, 8)).repeat(each, 0)
    features = own + 0.3 * rng.normal(size=own.shape)
    keys = np.repeat([f"p{i}" for i in range(patients)], each)
    truth = np.repeat(np.arange(patients) % 2, each)
    return features, keys, truth


def trained(folds, features):
    """Return the callable under test: out-of-fold scores of a nearest-neighbour classifier."""
    from sklearn.model_selection import cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(3)
    return lambda labels: cross_val_predict(
        model, features, labels, cv=folds, method="predict_proba"
    )[:, 1]


def test_a_split_by_slices_is_caught():
    from sklearn.model_selection import KFold

    features, keys, truth = slices()
    folds = list(KFold(5, shuffle=True, random_state=0).split(features))
    alarm = random_label_alarm(trained(folds, features), keys, truth)
    assert alarm.alarmed
    assert alarm.auroc > 0.9
    assert alarm.sentence.startswith("Leak alarm")


def test_a_split_by_patients_is_not():
    from sklearn.model_selection import GroupKFold

    for seed in range(4):
        features, keys, truth = slices(seed=seed)
        folds = list(GroupKFold(5).split(features, groups=keys))
        alarm = random_label_alarm(trained(folds, features), keys, truth, seed=seed)
        assert not alarm.alarmed
        assert 0.35 < alarm.auroc < alarm.limit


def test_random_labels_need_both_kinds_of_patients():
    with pytest.raises(ValueError, match="need both"):
        random_label_alarm(lambda y: y, ["a", "b"], [1, 1])


def test_an_image_model_that_only_knows_the_scanner_gets_the_sentence():
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    scanner = truth * 0.8 + rng.normal(size=200)
    image = scanner + 0.2 * rng.normal(size=200)
    header, same = (two(truth, 1 / (1 + np.exp(-s))) for s in (scanner, image))
    found = better_than_header(same, header)
    assert not found.clearly_better
    assert found.sentence.startswith("The image model is not clearly better")
    good = two(truth, 1 / (1 + np.exp(-(scanner + 3 * truth))))
    assert better_than_header(good, header).clearly_better


def case(number, patient, *, study="", accession="", kind="dicom"):
    return Case(
        f"{number:032x}", patient, study or f"study {number}", f"series {number}",
        accession or None, kind, "archive", 1, {},
    )  # fmt: skip


PLACES = {f"{n:032x}": place for n, place in enumerate(("fold 0", "fold 1", "test", "test"))}


def test_a_study_under_two_patients_on_two_sides_is_refused_with_its_cases():
    cases = [case(0, "a", study="s"), case(2, "b", study="s"), case(1, "c"), case(3, "d")]
    with pytest.raises(LeakageError, match=r"1 studies .* 0{12} \(fold 0\) and 0{12} \(test\)"):
        check_study(cases, PLACES)
    assert check_study([case(2, "a", study="s"), case(3, "b", study="s")], PLACES) == []


def test_what_may_be_the_same_by_chance_is_a_warning():
    shared = [case(0, "a", accession="1"), case(1, "b", accession="1")]
    (said,) = check_study(shared, PLACES)
    assert "1 accession numbers" in said
    assert "(fold 0) and" in said
    (said,) = check_study(
        [case(0, "a", study="1", kind="nifti"), case(2, "b", study="1", kind="nifti")], PLACES
    )
    assert "1 studies" in said


def test_a_fit_on_patients_of_another_side_is_refused_with_its_cases():
    fitted = {f"{n:032x}": f"patient {n}" for n in range(9)}
    sides = {f"patient {n}": "train" for n in range(9)}
    check_fit(fitted, sides, "limb")
    check_fit(fitted, {}, "limb")
    sides |= {"patient 3": "test", "patient 5": "reserve"}
    with pytest.raises(LeakageError, match=r"2 cases of 9 .*\(reserve\).*limb --refit") as caught:
        check_fit(fitted, sides, "limb")
    assert "patient 3" not in str(caught.value)


def test_a_message_names_five_offenders_and_counts_the_rest():
    assert named(f"case {n}" for n in range(7)).endswith("case 4 and 2 more")
