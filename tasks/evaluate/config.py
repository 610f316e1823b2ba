"""What a scenario says of evaluation."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.cohort.told_groups import GroupTable
from tasks.evaluate.intervals import REPLICATES
from tasks.evaluate.known import (
    DETECTION_FIGURES,
    LESION_FIGURES,
    MASK_FIGURES,
    METRICS,
    NUMBER_FIGURES,
    RANKING_FINDINGS,
)
from tasks.evaluate.stress import CORRUPTIONS
from tasks.evaluate.studies import Views
from tasks.hashing import says_nothing

LEAST_OVERLAP = {2: 0.3, 3: 0.1}
"""Intersection over union from which a finding is right, by dimensions (clinical practice: small
lesions in volumes are hit or missed, whatever the box's exact size)."""

STRESSED_IMAGES = 48
STRESSED_MASKS = 8
"""Test cases that are corrupted: about 2,400 answers of a classifier, 280 of a segmenter."""

EXPLAINED_IMAGES = 8
EXPLAINED_ROWS = 60
EXPLAINED_FINDINGS = 4
"""Test cases that are explained: each image takes some thousand answers, each row or finding some
hundred."""


class OperatingPoint(BaseModel):
    """How the threshold of a two-class model is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["youden", "sensitivity", "specificity", "cost", "fixed"] = "youden"
    at_least: float | None = Field(None, gt=0, le=1)
    """Sensitivity or specificity to reach."""
    false_negative_cost: float = Field(1.0, gt=0)
    false_positive_cost: float = Field(1.0, gt=0)
    value: float | None = Field(None, ge=0, le=1)
    """The threshold itself, for the rule `fixed`."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.rule in ("sensitivity", "specificity")) != (self.at_least is not None):
            raise ValueError(
                f"rule {self.rule!r} with at_least {self.at_least}: at_least belongs to the rules "
                "sensitivity and specificity, which need it"
            )
        if (self.rule == "fixed") != (self.value is not None):
            raise ValueError(
                f"rule {self.rule!r} with value {self.value}: value belongs to the rule fixed, "
                "which needs it"
            )
        return self


class LesionConfig(BaseModel):
    """How lesions are told apart and what a wrong one costs; the defaults are BraTS 2023's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dilation: int = Field(3, ge=0, le=20)
    """Voxels by which parts of the truth grow before those that touch are one lesion."""
    smallest_mm3: float = Field(50.0, ge=0)
    """Lesions of at most this volume are left out."""
    missed_mm: float = Field(374.0, gt=0)
    """HD95 of a lesion that was missed or made up."""


class PostprocessConfig(BaseModel):
    """What may be done to masks after the network, if the validation sides gain by it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Literal["largest", "drop_small", "fill_holes"], ...] = (
        "largest",
        "drop_small",
        "fill_holes",
    )
    """Keep the largest component, drop those below a volume, fill holes; of a region or class."""
    volumes_mm3: tuple[Annotated[float, Field(gt=0)], ...] = (50.0, 200.0, 1000.0)
    """Volumes that are tried for `drop_small`."""


class MaskConfig(BaseModel):
    """How masks are measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerance_mm: float = Field(1.0, gt=0)
    """Of NSD: how far two readers' outlines of the same thing may lie apart."""
    lesions: LesionConfig | None = None
    """Score lesions one by one as well."""
    postprocess: PostprocessConfig | None = Field(None, exclude_if=says_nothing)
    """Try what may improve masks after the network; ``{}`` tries all of it."""


class FindingConfig(BaseModel):
    """How boxes are held against the true ones, and from which score on they are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iou: float | None = Field(None, gt=0, le=1)
    """Intersection over union from which `ap` calls a box right; by default .1 in volumes, .3 in
    pictures."""
    rule: Literal["false_alarms", "f1", "fixed"] | None = None
    """How the threshold is chosen out of fold; by default `false_alarms` in volumes, `f1` in
    pictures."""
    at_most: float = Field(1.0, gt=0)
    """False alarms a scan, of the rule `false_alarms`."""
    value: float | None = Field(None, ge=0, le=1)
    """The threshold itself, for the rule `fixed`."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.rule == "fixed") != (self.value is not None):
            raise ValueError(
                f"rule {self.rule!r} with value {self.value}: value belongs to the rule fixed, "
                "which needs it"
            )
        return self

    def settled(self, picture: bool) -> Self:
        """Return with the defaults of pictures, or of volumes, written out."""
        iou = self.iou or (LEAST_OVERLAP[2] if picture else LEAST_OVERLAP[3])
        rule = self.rule or ("f1" if picture else "false_alarms")
        return self.model_copy(update={"iou": iou, "rule": rule})


class RobustnessConfig(BaseModel):
    """On how many test cases, and by which corruptions, a registered model is stressed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int | None = Field(None, ge=0, le=10_000)
    """One a patient, as many of each class; by default `STRESSED_IMAGES`, or `STRESSED_MASKS` of a
    segmentation and of a detection in volumes. 0 turns it off."""
    kind: Literal["radiograph", "ct", "mr", "ultrasound", "any"] | None = None
    """Whose corruptions; by default those of the images' modality."""
    corruptions: tuple[str, ...] = ()
    """Only these of the list, by name."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        rows = CORRUPTIONS.values() if self.kind is None else [CORRUPTIONS[self.kind]]
        names = list(dict.fromkeys(one.name for row in rows for one in row))
        if unknown := [name for name in self.corruptions if name not in names]:
            raise ValueError(
                f"corruption {unknown[0]!r} is not known; choose of {', '.join(names)}"
            )
        return self


class ExplainConfig(BaseModel):
    """On how many test cases a registered model is explained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int | None = Field(None, ge=0, le=1_000)
    """One a patient, as many of each class; by default `EXPLAINED_IMAGES`, `EXPLAINED_ROWS` of a
    table, or `EXPLAINED_FINDINGS` of a detection. 0 turns it off."""


class EvaluateConfig(MaskConfig):
    """What is measured, how, and by which figure candidates are ranked."""

    primary: str = "auroc"
    """Metric that ranks candidates in cross-validation and that the gate compares."""
    unit: Literal["case", "study"] = Field("case", exclude_if=lambda value: value == "case")
    """What is judged: ``study`` puts the views of a study together before anything is measured."""
    views: Views = Field("mean", exclude_if=lambda value: value == "mean")
    """How the views of a study become one answer: their mean, or the highest probability."""
    operating_point: OperatingPoint = OperatingPoint()
    findings: FindingConfig = Field(
        FindingConfig(), exclude_if=lambda value: value == FindingConfig()
    )
    """Of a detection."""
    calibration: Literal["none", "temperature", "platt", "isotonic"] = "none"
    bootstrap: int = Field(REPLICATES, ge=200, le=100_000)
    """Bootstrap replicates of every interval."""
    seed: int = Field(0, ge=0)
    random_labels: int | None = Field(None, ge=0, le=100)
    """Trainings of the chosen one on random labels; by default 3 of a table, none of a network."""
    baseline: tuple[str, ...] = Field((), exclude_if=says_nothing)
    """Candidates that stand for the classical way; beside a network those of measured features."""
    leave_one_out: str | None = None
    """A fact, e.g. manufacturer: the chosen one is trained once without each of its groups."""
    groups: GroupTable | None = Field(None, exclude_if=says_nothing)
    """Subgroups of the report, and for rules of the gate, of which no header says anything."""

    robustness: RobustnessConfig = RobustnessConfig()
    explain: ExplainConfig = ExplainConfig()
    """Both of every model that is registered."""

    @field_validator("primary")
    @classmethod
    def _known(cls, name: str) -> str:
        base = name.partition("/")[0]
        names = [known for known, info in METRICS.items() if info.direction != "none"]
        unranked = set(DETECTION_FIGURES) - set(RANKING_FINDINGS)
        names = [known for known in names if known not in unranked]
        if base not in names or (base != name and base not in MASK_FIGURES):
            raise ValueError(f"primary {name!r} is not a metric; choose one of {', '.join(names)}")
        return name

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.measures_lesions and self.lesions is None:
            raise ValueError(f"primary {self.primary!r} needs the key lesions, e.g. lesions: {{}}")
        return self

    @property
    def join(self) -> Views | None:
        """How views are put together, where studies are judged."""
        return self.views if self.unit == "study" else None

    @property
    def measures_masks(self) -> bool:
        """Whether the primary metric is one of masks."""
        return self.primary.partition("/")[0] in MASK_FIGURES

    @property
    def measures_boxes(self) -> bool:
        """Whether the primary metric is one of findings."""
        return self.primary in RANKING_FINDINGS

    @property
    def measures_numbers(self) -> bool:
        """Whether the primary metric is one of a regression."""
        return self.primary in NUMBER_FIGURES

    @property
    def measures_lesions(self) -> bool:
        """Whether the primary metric is one of lesions."""
        return self.primary.partition("/")[0] in LESION_FIGURES
