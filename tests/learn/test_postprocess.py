"""A rule after the network does what it says, and stays only where the validation sides gain."""

import numpy as np
import pytest

from tasks.evaluate.config import EvaluateConfig, LesionConfig, MaskConfig, PostprocessConfig
from tasks.learn.oof_masks import MASKS_FILE, read_masks, write_masks
from tasks.learn.postprocess import WHOLE, JudgedMask, Rule, choose_rules, cleaned, figures_after

SPACING = (2.0, 1.0, 1.0)
REGIONS = (("WT", (1, 2, 3)), ("TC", (1, 3)), ("ET", (3,)))
CLASSES = ("necrosis", "oedema", "enhancing")
ALL = MaskConfig(postprocess=PostprocessConfig())


def tumour(shape=(12, 24, 24), at=(3, 4, 4)):
    """Oedema of 8 x 10 x 10, in it a core of 4 x 6 x 6 whose middle 2 x 2 x 2 is necrosis."""
    mask = np.zeros(shape, np.uint8)
    for values, inset, size in ((2, (0, 0, 0), (8, 10, 10)), (3, (2, 2, 2), (4, 6, 6)),
                                (1, (3, 4, 4), (2, 2, 2))):  # fmt: skip
        box = tuple(slice(a + i, a + i + n) for a, i, n in zip(at, inset, size, strict=True))
        mask[box] = values
    return mask


def with_crumb(mask, value, at=(1, 20, 20), size=2):
    found = mask.copy()
    found[tuple(slice(a, a + size) for a in at)] = value
    return found


def rule(part="WT", values=(1, 2, 3), operation="largest", **said):
    return Rule(part=part, values=values, operation=operation, **said)


def test_the_largest_component_stays_with_all_that_lies_in_it():
    said = with_crumb(tumour(), 3)
    np.testing.assert_array_equal(cleaned(said, [rule()], SPACING), tumour())
    assert (said != tumour()).any()  # what was given is not changed


def test_a_component_goes_by_its_volume_in_mm3():
    said = with_crumb(tumour(), 2)  # 8 voxels of 2 mm3
    small = rule(operation="drop_small", mm3=16.5)
    np.testing.assert_array_equal(cleaned(said, [small], SPACING), tumour())
    kept = rule(operation="drop_small", mm3=16.0)
    np.testing.assert_array_equal(cleaned(said, [kept], SPACING), said)


def test_what_leaves_a_region_is_left_to_the_one_around_it():
    """An enhancing crumb in the core becomes necrosis: the core does not shrink."""
    said = tumour()
    said[5:9, 6:12, 6:12] = 1
    said[5, 6, 6] = 3
    et = rule("ET", (3,), "drop_small", mm3=50.0, left=1)
    found = cleaned(said, [et], SPACING)
    assert not (found == 3).any()
    assert (np.isin(found, (1, 3)) == np.isin(said, (1, 3))).all()


@pytest.mark.parametrize("flat", [False, True], ids=["volume", "slice"])
def test_holes_are_filled_in_the_space_there_is(flat):
    said = tumour()
    said[6, 8, 8] = 0
    said[6, 20, :] = 2  # a line to the edge encloses nothing
    filling = rule(operation="fill_holes", filled=2)
    if flat:
        said = said[6:7]
    found = cleaned(said, [filling], SPACING)
    assert found[0 if flat else 6, 8, 8] == 2
    assert (found != said).sum() == 1


def test_without_rules_or_foreground_nothing_is_touched():
    mask = tumour()
    assert cleaned(mask, (), SPACING) is mask
    nothing = np.zeros((3, 4, 5), np.uint8)
    assert cleaned(nothing, [rule()], SPACING) is nothing


def cases_of(*pairs, spacing=SPACING):
    return [JudgedMask(f"p{i}", truth, said, spacing) for i, (truth, said) in enumerate(pairs)]


def test_crumbs_are_dropped_where_the_validation_sides_gain():
    cases = cases_of(*((tumour(), with_crumb(tumour(), v, size=n)) for v, n in ((2, 3), (3, 2))))
    rules = choose_rules(cases, CLASSES, REGIONS, ALL)
    assert [one.part for one in rules] == ["WT"]
    for case in cases:
        after = figures_after(case, rules, 3, ALL, [values for _, values in REGIONS])
        np.testing.assert_array_equal(after.dice, 1)


def test_a_second_true_tumour_keeps_its_place():
    """The largest component alone would lose it; dropping what is small does not."""
    two = tumour(shape=(12, 40, 40))
    two[2:8, 28:38, 28:38] = 2
    crumbs = with_crumb(two, 2, at=(1, 36, 2), size=3)  # 54 mm3
    rules = choose_rules(cases_of((two, crumbs), (two, two)), CLASSES, REGIONS, ALL)
    (kept,) = rules
    assert (kept.part, kept.operation, kept.mm3) == ("WT", "drop_small", 200.0)


def test_a_rule_that_makes_one_region_worse_is_not_kept():
    """Losing a true second lesion would also lose the false core in it: a gain on the whole."""
    truth = np.zeros((12, 24, 24), np.uint8)
    truth[2:10, 2:12, 2:12], truth[2:6, 16:20, 16:20] = 2, 2
    said = truth.copy()
    said[3:5, 17:19, 17:19] = 3
    config = MaskConfig(postprocess=PostprocessConfig(rules=["largest"]))
    cases = cases_of((truth, said))
    loss = figures_after(cases[0], [rule()], 3, config, [values for _, values in REGIONS]).dice
    assert loss[0] < 1
    assert loss.mean() > 0.9
    assert choose_rules(cases, CLASSES, REGIONS, config) == ()


def test_a_rule_is_kept_by_the_mean_over_patients():
    """Dropping a little enhancement is right where there is none, and wrong where it is true."""
    truth = tumour()
    spotted = truth.copy()
    spotted[np.isin(truth, (1, 3))] = 1
    spotted[6, 8:10, 8:10] = 3  # true enhancement, four voxels of it
    rich = [(spotted, spotted)]
    config = MaskConfig(postprocess=PostprocessConfig(rules=["drop_small"], volumes_mm3=[50]))
    assert choose_rules(cases_of(*rich), CLASSES, REGIONS, config) == ()
    # Two false spots gain more than the true one loses.
    none = spotted.copy()
    none[none == 3] = 1
    cases = cases_of(*rich, (none, spotted), (none, spotted))
    (kept,) = choose_rules(cases, CLASSES, REGIONS, config)
    assert (kept.part, kept.left) == ("ET", 1)


def test_classes_without_regions_have_their_foreground_tried_first():
    cases = cases_of((tumour(), with_crumb(tumour(), 1)))
    (kept,) = choose_rules(cases, CLASSES, (), ALL)
    assert (kept.part, kept.values, kept.operation) == (WHOLE, (1, 2, 3), "largest")
    assert kept.words == "all classes: largest component"


def test_lesions_count_where_they_are_the_primary_figure():
    """A crumb costs Dice next to nothing and half of the lesion-wise figure."""
    lesions = LesionConfig(dilation=1, smallest_mm3=0)
    config = ALL.model_copy(update={"lesions": lesions})
    blurred = with_crumb(tumour(), 2, size=1)
    blurred[3, 4, 4] = 0
    cases = cases_of((tumour(), blurred))
    rules = choose_rules(cases, CLASSES, REGIONS, config, "lesion_dice")
    assert rules[0].part == "WT"
    sets = [values for _, values in REGIONS]
    before = figures_after(cases[0], (), 3, config, sets).others["lesion_dice"]
    after = figures_after(cases[0], rules, 3, config, sets).others["lesion_dice"]
    assert before[0] < 0.51 < 0.99 < after[0]


def test_nothing_is_tried_unless_it_is_asked_for():
    cases = cases_of((tumour(), with_crumb(tumour(), 2)))
    assert choose_rules(cases, CLASSES, REGIONS, MaskConfig()) == ()
    assert "postprocess" not in MaskConfig().model_dump()
    assert "postprocess" not in EvaluateConfig(primary="dice").model_dump(mode="json")
    with pytest.raises(ValueError, match="greater than 0"):
        PostprocessConfig(volumes_mm3=[0])


def test_masks_come_back_from_disk_and_take_little_of_it(tmp_path):
    kept = [(tumour(), with_crumb(tumour(), 3), SPACING), (tumour()[:5], tumour()[:5], (1, 1, 1))]
    path = write_masks(tmp_path, kept)
    assert [p.name for p in tmp_path.iterdir()] == [MASKS_FILE]
    assert path.stat().st_size < sum(t.nbytes for t, *_ in kept) / 2
    for (truth, said, spacing), one in zip(kept, read_masks(tmp_path), strict=True):
        np.testing.assert_array_equal(one[0], truth)
        np.testing.assert_array_equal(one[1], said)
        assert one[2] == spacing
