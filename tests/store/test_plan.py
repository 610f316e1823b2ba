import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.archive.catalog import IMAGE_KINDS
from tasks.archive.codecs import JPEG_2000
from tasks.archive.pixel_format import READABLE
from tasks.imaging.recipe import Image, apply, fit
from tasks.imaging.step import Parameters, Step, own_name
from tasks.imaging.steps import STEPS, parse_steps
from tasks.store import plan
from tasks.store.needs import (
    MEASURED_COPIES,
    PROCESS_BYTES,
    CaseNeed,
    case_ms,
    masks_of,
    measured_memory,
    output_voxels,
    projected_memory,
    too_large,
)
from tasks.store.plan import plan_parts, waves
from tasks.store.schema import SHARD_BYTES, part_id, recipe_id, shard_cases
from tasks.store.sources import OF_KIND, OF_SYNTAX, SLOWEST, voxels_ms

FREE = fit(parse_steps([{"step": "resample", "spacing": [1, 1, 1]}]), None)
PLAIN = fit(parse_steps([{"step": "normalise"}]), None)
PACKED = fit(parse_steps([{"step": "resize", "shape": [1, 96, 96]}]), None)
MEASURED = fit(
    parse_steps(
        [
            {
                "step": "features",
                "mask": "all",
                "families": ["intensity", "histogram", "shape", "glcm"],
                "bins": 32,
            }
        ]
    ),
    None,
)
RECIPES = st.sampled_from([FREE, PLAIN, PACKED, MEASURED])
NEEDS = st.lists(
    st.builds(
        CaseNeed,
        case_id=st.integers(0, 10**6).map(lambda number: f"{number:032x}"),
        source_bytes=st.integers(0, 2 << 30),
        voxels=st.integers(0, 10**9),
        voxels_ms=st.sampled_from(sorted({SLOWEST, *OF_SYNTAX.values(), *OF_KIND.values()})),
    ),
    unique_by=lambda need: need.case_id,
    max_size=200,
)


@settings(max_examples=80, deadline=None)
@given(needs=NEEDS, recipe=RECIPES, seconds=st.integers(1, 600), order=st.randoms())
def test_every_case_is_in_one_part_and_limits_hold(needs, recipe, seconds, order):
    parts = plan_parts(needs, recipe, "r", most_seconds=seconds)
    planned = [case_id for part in parts for case_id in part.case_ids]
    assert planned == sorted(need.case_id for need in needs)
    for part in parts:
        alone = len(part.case_ids) == 1
        assert alone or part.output_bytes <= plan.MOST_BYTES
        assert alone or part.seconds <= seconds
        assert part.part_id == part_id(part.case_ids, "r", "image")
    shuffled = list(needs)
    order.shuffle(shuffled)
    assert plan_parts(shuffled, recipe, "r", most_seconds=seconds) == parts


def test_packed_parts_are_whole_shards_where_the_limits_leave_room():
    rows = shard_cases((1, 96, 96), "float32")
    needs = [CaseNeed(f"{number:032x}", 10**4, 224 * 224) for number in range(5000)]
    parts = plan_parts(needs, PACKED, "r")
    assert len(parts) > 1
    assert all(len(part.case_ids) % rows == 0 for part in parts[:-1])


def test_a_heavy_step_costs_time_and_memory_in_the_plan():
    need = CaseNeed("a", 7, 10**6)
    steps = [{"step": "median", "dimensions": 3}, {"step": "normalise"}]
    heavy = fit(parse_steps(steps), None)
    median = STEPS["median"]
    params = median.parameters(dimensions=3)
    assert case_ms(need, heavy) == case_ms(need, PLAIN) + median.voxel_ns(params)
    added = projected_memory(need, heavy) - projected_memory(need, PLAIN)
    assert added == 4 * 10**6 * median.copies > 0


@given(needs=NEEDS, recipe=RECIPES, most=st.integers(1, 40 << 30))
def test_too_large_is_each_case_that_needs_more_than_a_worker_has_and_no_other(needs, recipe, most):
    needed = {need.case_id: projected_memory(need, recipe) for need in needs}
    large = too_large(needs, recipe, most)
    assert large == {case_id: size for case_id, size in needed.items() if size > most}
    assert too_large(needs, recipe, 0) == {}, "a worker without a limit"
    # What is left is a plan that the worker can hold.
    fitting = [need for need in needs if need.case_id not in large]
    assert all(part.memory_bytes <= most for part in plan_parts(fitting, recipe, "r"))


def test_cases_of_one_size_whose_references_differ_are_told_apart():
    """All channels lie on the reference's grid: the finer it is, the more a case takes."""
    channels = {"names": ["a", "b", "c"], "required": ["a"], "reference": "a", "align": "auto"}
    recipe = fit(parse_steps([{"step": "normalise"}]), None, channels=channels)
    coarse, fine = (
        CaseNeed(name, 10**6, 10**8, reference_voxels=voxels)
        for name, voxels in (("a", 10**7), ("b", 9 * 10**7))
    )
    most = projected_memory(coarse, recipe)
    assert too_large([coarse, fine], recipe, most).keys() == {"b"}
    assert too_large([fine, coarse], recipe, most).keys() == {"b"}


def test_every_source_that_is_read_has_a_speed_of_its_own_and_others_are_the_slowest():
    assert OF_SYNTAX.keys() == READABLE - JPEG_2000
    assert OF_KIND.keys() == set(IMAGE_KINDS) - {"dicom"}
    for unknown in (*JPEG_2000, "other", None):
        assert voxels_ms("dicom", unknown) == SLOWEST < min(OF_SYNTAX.values())


def test_what_is_read_fast_is_planned_for_less_time_and_shares_larger_parts():
    native, packed = (
        [CaseNeed(f"{n:032x}", 0, 120 * 512 * 512, speed) for n in range(400)]
        for speed in (voxels_ms("dicom", "1.2.840.10008.1.2.1"), SLOWEST)
    )
    saved = -(-packed[0].voxels // SLOWEST) - -(-native[0].voxels // native[0].voxels_ms)
    assert case_ms(packed[0], PLAIN) - case_ms(native[0], PLAIN) == saved > 3_000
    limits = {"most_seconds": 60}
    assert len(plan_parts(native, PLAIN, "r", **limits)) * 2 < len(
        plan_parts(packed, PLAIN, "r", **limits)
    )
    # Memory does not hang on how the voxels were packed.
    assert projected_memory(native[0], PLAIN) == projected_memory(packed[0], PLAIN)


def test_memory_of_a_case_is_the_sum_of_its_copies():
    need = CaseNeed("a", 7, 11)
    base = PROCESS_BYTES
    assert projected_memory(need, PLAIN) == base + 7 + 3 * 4 * 11 + 3 * 4 * 11
    assert projected_memory(need, FREE) == base + 7 + 3 * 4 * 11 + 3 * 4 * 44
    packed = 3 * 4 * 96 * 96 + 2 * SHARD_BYTES
    assert projected_memory(need, PACKED) == base + 7 + 3 * 4 * 11 + packed


def test_what_grows_before_it_is_cut_counts_in_memory():
    """Brought to thin slices, then cut to one shape: what is stored says nothing of the peak."""
    cut = [{"step": "pad", "shape": [8, 8, 8]}, {"step": "crop", "shape": [8, 8, 8]}]
    plain = fit(parse_steps(cut), None)
    thin = fit(parse_steps([{"step": "resample", "spacing": [1, 1, 1]}, *cut]), None)
    need = CaseNeed("a", 7, 10**6)
    assert output_voxels(need, thin) == output_voxels(need, plain) == 8**3
    added = projected_memory(need, thin) - projected_memory(need, plain)
    assert added == 2 * 4 * 4 * 10**6 - 3 * 4 * 8**3
    # Made small first, it does not grow.
    small = fit(parse_steps([{"step": "resize", "shape": [1, 8, 8]}, *cut]), None)
    assert projected_memory(need, small) == projected_memory(need, plain)


def test_memory_is_enough_for_an_image_that_grows_before_it_is_cut():
    cut = [{"step": "pad", "shape": [8, 8, 8]}, {"step": "crop", "shape": [8, 8, 8]}]
    thin = fit(parse_steps([{"step": "resample", "spacing": [1, 1, 1]}, *cut]), None)
    affine = np.diag([4.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    image = Image(np.zeros((30, 300, 300), np.int16), affine)
    tracemalloc.start()
    try:
        apply(thin, image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    need = CaseNeed("a", 0, image.array.size)
    assert peak < projected_memory(need, thin) - PROCESS_BYTES - 2 * SHARD_BYTES


def test_measuring_is_part_of_the_memory_and_of_the_time():
    need = CaseNeed("a", 7, 9_000)
    more = 4 * MEASURED_COPIES * 9_000
    assert projected_memory(need, MEASURED) == projected_memory(need, PLAIN) + more


def test_measuring_takes_time_by_family_and_region():
    need, plain = CaseNeed("a", 7, 1_000_000), PLAIN

    def more(**told):
        steps = [{"step": "otsu"}, {"step": "features", **told}]
        return case_ms(need, fit(parse_steps(steps), None)) - case_ms(need, plain)

    whole = more(families=["intensity"])
    assert whole > 0
    assert more(families=["intensity"], mask="otsu") == whole // 2
    one = more(families=["glcm"], bins=32)
    assert more(families=["glcm"], bins=32, glcm=["3d_merged", "2d_averaged"]) == 2 * one
    # By mirp it takes a hundred times as long, which a night's plan has to know.
    assert more(families=["mirp"], bins=32) > 50 * one


def test_memory_is_enough_for_a_region_as_large_as_its_image():
    shape = (48, 256, 256)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = Image(array, np.eye(4), {"all": np.ones(shape, np.uint8)})
    tracemalloc.start()
    try:
        apply(MEASURED, image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The recipe's own copies are planned for apart; tables of a few megabytes are the process's.
    assert peak < measured_memory(CaseNeed("a", 0, array.size), MEASURED) + (32 << 20)


class Named(Parameters):
    name: str


def test_masks_count_in_memory_and_bytes(monkeypatch):
    outline = Step(1, Named, lambda image, params: (image, {}), marks=own_name)
    monkeypatch.setitem(STEPS, "outline", outline)
    names = ("lung", "body", "lung")
    steps = [{"step": "normalise"}, *({"step": "outline", "name": name} for name in names)]
    masked = fit(parse_steps(steps), None)
    assert masks_of(masked) == 2
    need = CaseNeed("a", 7, 11)
    wanted = PROCESS_BYTES + 7 + (3 * 4 + 2 * 2) * 11 + 3 * (4 + 2) * 11
    assert projected_memory(need, masked) == wanted
    (part,) = plan_parts([need], masked, "r")
    assert part.output_bytes == (4 + 2) * 11


@given(need=st.builds(CaseNeed, st.just("a"), st.integers(1, 1 << 40), st.just(0)), recipe=RECIPES)
def test_unknown_voxels_are_guessed_from_the_files(need, recipe):
    assert output_voxels(need, recipe) > 0
    bigger = CaseNeed("a", 2 * need.source_bytes, 0)
    assert projected_memory(bigger, recipe) > projected_memory(need, recipe)


def test_memory_is_enough_for_a_part_that_is_really_written(tmp_path):
    """Measure a writer's peak in a process of its own and compare it with the plan."""
    program = (
        "import sys, numpy as np\n"
        "from tasks.imaging.recipe import Image, apply, fit\n"
        "from tasks.imaging.steps import parse_steps\n"
        "from tasks.store.write import Prepared, write_part\n"
        "recipe = fit(parse_steps([{'step': 'normalise'}]), None)\n"
        "def produce(case_id):\n"
        "    source = np.random.default_rng(0).integers(0, 2000, (160, 256, 256), np.int16)\n"
        "    image, traces = apply(recipe, Image(source, np.eye(4)))\n"
        "    return Prepared(image.array, image.affine, traces, {}, {})\n"
        "ids = ('a' * 32, 'image', 'b' * 32, ['c' * 32])\n"
        "write_part(sys.argv[1], *ids, produce, dtype='float32')\n"
        # Not ru_maxrss: it holds the peak of the process this one was forked from.
        "status = open('/proc/self/status').read()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) * 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    voxels = 160 * 256 * 256
    assert int(done.stdout) < projected_memory(CaseNeed("c" * 32, 2 * voxels, voxels), PLAIN)


def test_waves_hold_at_most_256_parts_in_order():
    needs = [CaseNeed(f"{number:032x}", 0, 10**10) for number in range(600)]
    parts = plan_parts(needs, PLAIN, "r")
    groups = waves(parts)
    assert [len(group) for group in groups] == [256, 256, 88]
    assert tuple(part for group in groups for part in group) == parts


@pytest.mark.parametrize("limits", [{"most_bytes": 0}, {"most_seconds": 601}])
def test_limits_beyond_the_design_are_refused(limits):
    with pytest.raises(ValueError, match="it must be from 1 to"):
        plan_parts([], PLAIN, "r", **limits)


def test_a_case_given_twice_with_other_sizes_is_refused():
    twice = [CaseNeed("a", 1, 1), CaseNeed("a", 2, 2)]
    with pytest.raises(ValueError, match="given twice"):
        plan_parts(twice, PLAIN, "r")
    assert len(plan_parts([CaseNeed("a", 1, 1)] * 2, PLAIN, "r")[0].case_ids) == 1


def test_ids_depend_on_content_and_not_on_order():
    assert part_id(["b", "a"], "r", "image") == part_id(["a", "b"], "r", "image")
    assert len({part_id(["a"], "r", "image"), part_id(["a"], "s", "image")}) == 2
    assert part_id(["a"], "r", "label", "x") != part_id(["a"], "r", "label", "y")
    assert recipe_id(FREE) != recipe_id(PLAIN)
    with pytest.raises(ValueError, match="kind is"):
        part_id(["a"], "r", "picture")
