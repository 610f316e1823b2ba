import pytest

from tasks.evaluate.choose import choose_challenger
from tasks.evaluate.intervals import Interval


def figures(**values: float) -> dict[str, dict[str, Interval]]:
    return {
        name.replace("_", "-"): {"auroc": Interval(value, 0.0, 1.0, "made", 10)}
        for name, value in values.items()
    }


def test_the_best_out_of_fold_is_chosen():
    assert choose_challenger(figures(tree=0.7, forest=0.9, svm=0.8), "auroc") == "forest"


def test_a_header_only_candidate_is_never_chosen_however_good():
    found = figures(cnn=0.6, header_only=0.99)
    assert choose_challenger(found, "auroc", never={"header-only"}) == "cnn"


def test_of_equals_the_first_by_name_is_chosen_whatever_their_order():
    one, other = figures(b=0.8, a=0.8), figures(a=0.8, b=0.8)
    assert choose_challenger(one, "auroc") == choose_challenger(other, "auroc") == "a"


def test_an_undefined_figure_is_never_the_best_whatever_its_name():
    assert choose_challenger(figures(a=float("nan"), b=0.2), "auroc") == "b"
    assert choose_challenger(figures(a=0.2, b=float("nan")), "auroc") == "a"


def test_where_lower_is_better_the_lowest_is_chosen():
    found = {n: {"brier": Interval(v, 0, 1, "made", 10)} for n, v in {"a": 0.3, "b": 0.1}.items()}
    assert choose_challenger(found, "brier") == "b"


def test_nothing_to_choose_from_is_said():
    with pytest.raises(ValueError, match="header-only"):
        choose_challenger(figures(header=0.9), "auroc", never={"header"})
    with pytest.raises(ValueError, match="no out-of-fold recall"):
        choose_challenger(figures(tree=0.9), "recall")
