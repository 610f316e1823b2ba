"""Do one part: read each case of a work order, obey the recipe, write the part.

Runs on a worker that opens neither catalog nor vault: everything it may know is in the order.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

from tasks.archive.orders import OrderCase, WorkOrder
from tasks.archive.sources import announce
from tasks.cohort.fingerprint import CaseFingerprint, case_fingerprint
from tasks.errors import BadCase
from tasks.imaging.channels import prepare
from tasks.imaging.learning import measure
from tasks.imaging.recipe import FittedRecipe, Image, apply, fixed_shape, output_dtype, replay
from tasks.imaging.source import read_source, source_image
from tasks.imaging.step import CaseMeasure
from tasks.imaging.steps import StepConfig
from tasks.labels.case_mask import case_instances, case_mask, has_boxes
from tasks.store.read import open_part
from tasks.store.write import OnCase, PartRecord, Prepared, write_part

LABEL_DTYPE = "uint8"
"""Masks hold at most 255 classes here."""


def prepare_case(case: OrderCase, recipe: FittedRecipe) -> Prepared:
    """Read one case and obey the recipe.

    Raises
    ------
    BadCase
        When it cannot be read or a step refuses it.
    """
    one = prepare(recipe, case)
    image, facts = one.image, one.volume.facts
    return Prepared(
        image.array, image.affine, one.traces, one.certificate, facts, image.masks, one.present
    )


def prepare_label(case: OrderCase, recipe: FittedRecipe, traces: tuple[dict, ...]) -> Prepared:
    """Read one case's mask, or draw its boxes, and put it on the grid of its prepared image.

    The facts of a case of boxes are these in the patient, also those that the recipe cut off.

    Parameters
    ----------
    case : OrderCase
        With its mask or its boxes.
    recipe : FittedRecipe
    traces : tuple of dict
        What :func:`prepare_case` did to the image.
    """
    if case.mask is None and case.boxes is None:
        raise BadCase("no_mask", "the label set holds no mask for this case")
    volume = read_source(recipe, case)
    facts: dict = {}
    if has_boxes(case):
        mask, rows = case_instances(case, volume)
        facts = {"boxes": rows.tolist()}
    else:
        mask = case_mask(case, volume)
    label = replay(recipe, traces, Image(mask, volume.affine))
    return Prepared(label.array.astype(LABEL_DTYPE), label.affine, traces, {}, facts)


def write_image_part(
    root: str,
    order: WorkOrder,
    recipe: FittedRecipe,
    on_case: OnCase | None = None,
    scratch: str | None = None,
) -> PartRecord:
    """Make the image part of a work order under the store ``root``; see `write_part`."""
    cases = {case.case_id: case for case in order.cases}
    return write_part(
        root,
        order.part_id,
        "image",
        order.recipe_id,
        tuple(cases),
        _announcing(cases, lambda case: prepare_case(case, recipe)),
        fixed_shape=fixed_shape(recipe),
        dtype=output_dtype(recipe),
        channels=(recipe.channels or {}).get("names", ()),
        on_case=on_case,
        scratch=scratch,
    )


def write_label_part(
    root: str,
    order: WorkOrder,
    recipe: FittedRecipe,
    image_path: str,
    label_set_id: str,
    on_case: OnCase | None = None,
    scratch: str | None = None,
) -> PartRecord:
    """Make the label part that lies on the grid of the image part at ``image_path``."""
    cases = {case.case_id: case for case in order.cases}
    images = open_part(root, image_path)
    return write_part(
        root,
        order.part_id,
        "label",
        order.recipe_id,
        tuple(cases),
        _announcing(
            cases, lambda case: prepare_label(case, recipe, images.info(case.case_id).traces)
        ),
        fixed_shape=fixed_shape(recipe),
        dtype=LABEL_DTYPE,
        label_set_id=label_set_id,
        on_case=on_case,
        scratch=scratch,
    )


def _announcing(
    cases: Mapping[str, OrderCase], produce: Callable[[OrderCase], Prepared]
) -> Callable[[str], Prepared]:
    """Return what makes a case while the disk already brings the files of the next."""
    following = dict(pairwise(sorted(cases)))

    def one(case_id: str) -> Prepared:
        if (after := following.get(case_id)) is not None:
            announce(cases[after].every_file)
        return produce(cases[case_id])

    return one


def fingerprint_order(order: WorkOrder, entry: FittedRecipe) -> list[CaseFingerprint]:
    """Measure the cases of an order, leaving out those that cannot be read.

    Parameters
    ----------
    order : WorkOrder
    entry : FittedRecipe
        What comes before anything fitted, see `tasks.imaging.source.entry_of`.
    """
    found = []
    for case in order.cases:
        try:
            found.append(_fingerprint(case, entry))
        except Exception:
            # Making the part meets it again, and puts it into quarantine with its reason.
            continue
    return found


def measure_order(order: WorkOrder, before: FittedRecipe, config: StepConfig) -> list[CaseMeasure]:
    """Bring the cases of an order before a step that learns from images; return what it measures.

    Parameters
    ----------
    order : WorkOrder
        Of training cases.
    before : FittedRecipe
        The steps before it.
    config : StepConfig
        The step.

    Returns
    -------
    list of CaseMeasure
        Without the cases that cannot be read or that a step refuses.
    """
    found = []
    for case in order.cases:
        try:
            image = source_image(read_source(before, case))
            one = measure(before, config, image, case.case_id)
        except Exception:
            # As above: its part meets it again and says why.
            continue
        found.append(one)
    return found


def _fingerprint(case: OrderCase, entry: FittedRecipe) -> CaseFingerprint:
    volume = read_source(entry, case)
    mask = case_mask(case, volume) if case.mask and not has_boxes(case) else None
    image = source_image(volume)
    if entry.steps:
        image, traces = apply(entry, image)
        mask = None if mask is None else replay(entry, traces, Image(mask, volume.affine)).array
    modality = str(image.facts.get("modality") or "")
    return case_fingerprint(image.array, image.affine, mask, case.case_id, modality)
