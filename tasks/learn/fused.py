"""A fused model as it is kept and asked: its members' folders below one specification."""

import hashlib
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.archive.orders import OrderCase
from tasks.errors import BadCase, ModelRefused
from tasks.hashing import digest_json
from tasks.imaging.channels import reference_plane
from tasks.imaging.columns import numbers_of
from tasks.learn.fusing import is_empty
from tasks.learn.fusion import apply_fusion
from tasks.learn.model import Model, TabularModel, load_model
from tasks.learn.model_file import SPEC_FILE, ModelSpec

if TYPE_CHECKING:
    from tasks.learn.judgement import Judgement

MEMBERS = "members"
"""Folder of the members' folders, each a whole model."""


class FusedModel:
    """Several models and the linear model over them."""

    def __init__(self, spec: ModelSpec, members: Mapping[str, Model | TabularModel]) -> None:
        self.spec, self.members = spec, dict(members)

    @property
    def network(self) -> Model | None:
        """The first member that sees images; it says how unlike a case is, and where it looked."""
        return next((m for m in self.members.values() if isinstance(m, Model)), None)

    def predict(
        self, images: Sequence[np.ndarray] | None, rows: Sequence[Mapping[str, Any]]
    ) -> np.ndarray:
        """Return probabilities (n, k), not calibrated further, or numbers (n, 1).

        Parameters
        ----------
        images : n arrays (z, y, x), or None
            None where all members are tables.
        rows : n mappings
            Columns, or what the recipe measured in each image.
        """
        from tasks.learn.tabular import table_frame

        said = {}
        for name, member in self.members.items():
            if isinstance(member, Model):
                said[name] = np.array(member.predict_many(images))
                continue
            said[name] = np.full((len(rows), len(self.spec.classes)), np.nan)
            features = member.spec.features
            there = [i for i, row in enumerate(rows) if not is_empty(row, features)]
            if there:
                frame = table_frame([dict.fromkeys(features) | dict(rows[i]) for i in there])
                said[name][there] = member.predict(frame)
        return apply_fusion(self.spec.fusion, said)

    def ood_score(self, image: np.ndarray) -> float | None:
        """Return `Model.ood_score` of the member that sees images."""
        return None if self.network is None else self.network.ood_score(image)

    def heatmap(self, image: np.ndarray, class_index: int) -> np.ndarray | None:
        """Return `Model.heatmap` of the member that sees images."""
        return None if self.network is None else self.network.heatmap(image, class_index)


def save_fused(folder: Path, spec: ModelSpec) -> ModelSpec:
    """Write the specification above members that lie below ``members`` already."""
    filled = spec.model_copy(update={"weights_sha256": _sum_of(folder, spec.fusion["members"])})
    beside = folder / f".{SPEC_FILE}.{os.getpid()}"
    beside.write_text(filled.model_dump_json(indent=2) + "\n")
    beside.replace(folder / SPEC_FILE)
    return filled


def load_fused(
    folder: Path, spec: ModelSpec, device: str | None, trusted: Collection[str]
) -> FusedModel:
    """Load a fused model; its specification has been read.

    Raises
    ------
    ModelRefused
        When a member is missing, or not the one that was saved.
    """
    names = (spec.fusion or {}).get("members", ())
    try:
        same = bool(names) and _sum_of(folder, names) == spec.weights_sha256
    except OSError:
        same = False
    if not same:
        raise ModelRefused(
            "a member of the fused model is missing or not the one it was saved with; "
            "fetch the model again"
        )
    members = {name: load_model(folder / MEMBERS / name, device, trusted) for name in names}
    return FusedModel(spec, members)


def _sum_of(folder: Path, names: Sequence[str]) -> str:
    """Hash the members' specifications, which hold the sums of their numbers."""
    found = hashlib.sha256()
    for name in names:
        found.update((folder / MEMBERS / name / SPEC_FILE).read_bytes())
    return found.hexdigest()


def judge_fused(
    model: FusedModel, cases: Iterable[OrderCase]
) -> Iterator[tuple[OrderCase, "Judgement | BadCase"]]:
    """Judge images as `tasks.learn.judge.judge_images` does: each is read and prepared once."""
    from tasks.learn.judge import IMAGES_TOGETHER, prepared_case, recipe_of, said_of
    from tasks.learn.judgement import Judgement

    recipe = recipe_of(model.spec)
    limit = model.spec.ood_threshold
    waiting = iter(cases)
    while chunk := list(itertools.islice(waiting, IMAGES_TOGETHER)):
        ready = [prepared_case(recipe, case) for case in chunk]
        good = [one for one in ready if not isinstance(one, BadCase)]
        answers = iter(())
        if good:
            rows = [numbers_of(one.traces) for one in good]
            answers = iter(model.predict([one.image.array for one in good], rows))
        for case, one in zip(chunk, ready, strict=True):
            if isinstance(one, BadCase):
                yield case, one
                continue
            distance = model.ood_score(one.image.array)
            yield (
                case,
                Judgement(
                    case_id=case.case_id,
                    input_hash=digest_json([ref.digest for ref in case.all_files]),
                    **said_of(model.spec, next(answers)),
                    image=one.volume.array,
                    affine=one.volume.affine,
                    prepared=one.image.array,
                    shown=reference_plane(one.image.array, recipe),
                    present=one.present,
                    traces=one.traces,
                    distance=distance,
                    unlike=None if distance is None or limit is None else distance > limit,
                ),
            )
