import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tasks.evaluate import figures
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.table import metric_table
from tests.evaluate.cases import draw, two

HISTORY = [
    {"epoch": i, "train_loss": 1 / (i + 1), "val_loss": 1.1 / (i + 1), "val_auroc": 0.5 + i / 20}
    for i in range(8)
]


def looks_like_a_picture(path, width=500):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    return pixels.shape[1] >= width and pixels.std() > 5


@pytest.mark.parametrize(
    ("draw_one", "options"),
    [
        (figures.draw_roc, {"threshold": 0.4}),
        (figures.draw_precision_recall, {"threshold": 0.4}),
        (figures.draw_reliability, {}),
        (figures.draw_confusion, {"threshold": 0.4}),
        (figures.draw_score_histogram, {"threshold": 0.4}),
    ],
)
def test_two_class_figures_are_written_the_same_each_time(tmp_path, draw_one, options):
    first = draw_one(tmp_path / "first.png", draw(60), **options)
    second = draw_one(tmp_path / "second.png", draw(60), **options)
    assert looks_like_a_picture(first)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "draw_one",
    [figures.draw_roc, figures.draw_precision_recall, figures.draw_reliability,
     figures.draw_confusion],
)  # fmt: skip
def test_figures_of_several_classes_are_written(tmp_path, draw_one):
    assert looks_like_a_picture(draw_one(tmp_path / "a.png", draw(90, 3)))


def test_figures_survive_few_and_perfect_cases(tmp_path):
    few = two([0, 0, 1, 1], [0.0, 0.1, 0.9, 1.0])
    for draw_one in (figures.draw_roc, figures.draw_precision_recall, figures.draw_reliability):
        assert looks_like_a_picture(draw_one(tmp_path / "few.png", few))


def test_the_learning_curve_takes_one_run_or_several(tmp_path):
    one = figures.draw_learning_curve(tmp_path / "one.png", HISTORY)
    several = figures.draw_learning_curve(
        tmp_path / "several.png", {"fold 0": HISTORY, "fold 1": HISTORY[:4]}
    )
    assert looks_like_a_picture(one, 1000)
    assert looks_like_a_picture(several, 1000)
    with pytest.raises(ValueError, match="neither a loss"):
        figures.draw_learning_curve(tmp_path / "none.png", [{"epoch": 1, "seconds": 2}])


def scores(n=12):
    dice = np.linspace(0.2, 0.95, n)[:, None].repeat(2, 1)
    ids, keys = [f"c{i}" for i in range(n)], [f"p{i}" for i in range(n)]
    return MaskScores(ids, keys, ("x", "y"), dice, None, {"nsd": dice**0.5, "hd95": 40 * dice})


@pytest.mark.parametrize("name", figures.BOX_WORDS)
def test_boxes_of_masks_are_written(tmp_path, name):
    assert looks_like_a_picture(figures.draw_mask_box(tmp_path / "box.png", scores(), name))


def test_threads_draw_without_disturbing_each_other(tmp_path):
    expected = figures.draw_confusion(tmp_path / "e.png", draw(60), threshold=0.4).read_bytes()
    failures = []

    def work(number):
        path = figures.draw_confusion(tmp_path / f"{number}.png", draw(60), threshold=0.4)
        if path.read_bytes() != expected:
            failures.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_picture_says_the_numbers_of_the_table_it_is_given(tmp_path):
    pred = draw(60, gain=0.8)
    table = metric_table(pred, 0.4)
    said = {name: replace(table[name], lo=0.1) for name in table}
    for draw_one in (figures.draw_roc, figures.draw_precision_recall, figures.draw_reliability):
        plain, same, other = (
            draw_one(tmp_path / f"{n}.png", pred, table=one).read_bytes()
            for n, one in enumerate((None, table, said))
        )
        assert plain == same
        assert plain != other
