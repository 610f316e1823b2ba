"""How a scenario's labels are found; light to import."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from tasks.hashing import digest_json, says_nothing, unsaid
from tasks.labels.named import NAMED, NamedSegments, named, named_misfit
from tasks.labels.regions import PRESETS, Numbers, Regions, values_of, written_labels

Join = Literal["accession", "study", "series", "sop", "patient", "case"]


PUBLIC: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mura": {"join": "accession", "classes": ("normal", "abnormal"), "positive": "abnormal"},
        "fracatlas": {
            "join": "accession",
            "classes": ("normal", "fracture"),
            "positive": "fracture",
        },
        "grazpedwri": {
            "join": "accession",
            "classes": ("normal", "fracture"),
            "positive": "fracture",
        },
        "busi": {
            "join": "accession",
            "classes": ("benign", "malignant"),
            "positive": "malignant",
        },
        "rsna_pneumonia": {
            "join": "patient",
            "classes": ("no_opacity", "opacity"),
            "positive": "opacity",
        },
    }
)
"""Formats of public data sets, and what follows from each; docs/labels.md describes them."""

MASKS = ("decathlon", "masks", *NAMED)
"""Formats whose labels are masks."""

_ONE_FILE = {"join": "accession", "file": "Annotations/COCO JSON/COCO_fracture_masks.json"}
BOXES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "boxes": {},
        "coco": {"join": "accession"},
        "luna16": {"join": "series", "classes": ("nodule",)},
        "lidc": {"join": "series", "classes": ("nodule",)},
        "fracatlas_boxes": {**_ONE_FILE, "classes": ("fractured",)},
        "grazpedwri_boxes": {"join": "accession", "classes": ("fracture",)},
        "rsna_pneumonia_boxes": {"join": "patient", "classes": ("opacity",)},
    }
)
"""Formats whose labels are boxes, and what follows from each; docs/labels.md describes them."""

IN_FILES = (*MASKS, "lidc")
"""Formats of which a worker reads a file a case."""

JOINED = ("table", *MASKS, *PUBLIC, *BOXES)
"""Formats whose labels an ingest joins with the cases."""


BOX_COLUMNS = (
    "xmin", "ymin", "xmax", "ymax", "zmin", "zmax", "x", "y", "z", "size_x", "size_y", "size_z",
    "diameter_mm", "irrelevant",
)  # fmt: skip
"""What format boxes reads of a row, under the names of its columns unless `columns` says others."""

_SAID_REGIONS: Mapping[str, Any] = {
    "anyOf": [
        {"enum": list(PRESETS)},
        {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        },
    ]
}
"""Regions as people write them, for editors."""


class LabelConfig(NamedSegments):
    """Format and place of labels."""

    format: Literal[
        "table", "decathlon", "masks", "column", "mura", "fracatlas", "grazpedwri", "busi",
        "rsna_pneumonia", "boxes", "coco", "luna16", "lidc", "fracatlas_boxes", "grazpedwri_boxes",
        "rsna_pneumonia_boxes", "rtstruct", "slicer",
    ]  # fmt: skip
    """A table of its own, the masks of a Decathlon folder, masks in a folder by name, structure
    sets or segments of 3D Slicer in one, a column of the cases' table, the tables of a public data
    set, which need no other key, or boxes: a table of them, COCO's JSON, or those of a public data
    set."""
    file: str | None = None
    """CSV, TSV or Parquet file, relative to the source (in an archive: a member), or absolute; of
    masks their folder."""
    join: Join | None = None
    """What a row of the table speaks about."""
    column: str | None = None
    """Column with the value."""
    classes: tuple[str, ...] = ()
    """Values that count; a row with another one is listed and left out, in this order elsewhere."""
    positive: str | None = None
    """Of the classes, the finding that is looked for."""
    key_column: str | None = None
    """Column with the key; by default one with a usual name such as accession_number."""
    unit: str | None = Field(default=None, min_length=1, max_length=16, exclude_if=unsaid)
    """Of numbers, in UCUM (``mo``, ``mL``, ``d``; ``1`` for none): a regression's labels."""
    least: float | None = Field(default=None, exclude_if=unsaid)
    most: float | None = Field(default=None, exclude_if=unsaid)
    """Numbers outside are listed and left out, such as a 999 that stands for not known."""
    issuer: str | None = None
    """For join patient: who gave the ids, when the headers name an issuer."""
    regions: Annotated[
        Literal["brats2021", "brats2023", "brats2024"] | Regions, WithJsonSchema(_SAID_REGIONS)
    ] = Field(default=(), exclude_if=says_nothing)
    """Unions of the masks' labels that are learned and measured as wholes, from the largest to the
    smallest: ``{WT: [1, 2, 3], TC: [1, 3], ET: [3]}``, or the name of a year of BraTS."""

    coordinates: Literal["pixel", "lps", "ras"] = Field(
        default="pixel", exclude_if=lambda value: value == "pixel"
    )
    """Of format boxes: corners in pixels of the image, or middle and size in mm of the patient."""
    columns: Mapping[str, str] = Field(default={}, exclude_if=says_nothing)
    """Of format boxes: names of its columns, where they are not the usual ones."""
    normals: str | None = Field(default=None, exclude_if=unsaid)
    """Of boxes: a table of cases in which nothing is to be found, or ``rest``: all others."""

    @field_validator("regions", mode="before")
    @classmethod
    def _in_order(cls, value: Any) -> Any:
        # Pairs, since ids are made of JSON with sorted keys and the order counts.
        return tuple(value.items()) if isinstance(value, Mapping) else value

    @model_validator(mode="before")
    @classmethod
    def _public(cls, values: Any) -> Any:
        """Fill in what follows from the format of a public data set."""
        form = str(values.get("format")) if isinstance(values, Mapping) else ""
        if form in BOXES or form in NAMED:
            return {**BOXES.get(form, NAMED.get(form, {})), **values}
        known = PUBLIC.get(form)
        if known is None:
            return values
        fixed = [name for name in ("file", "column", "key_column") if values.get(name)]
        fixed += [name for name in ("join",) if values.get(name) not in (None, known[name])]
        if fixed:
            raise ValueError(
                f"labels of format {values['format']!r} know their {fixed[0]} themselves: leave "
                "it out, or use format table"
            )
        return {**known, **values}

    @model_validator(mode="after")
    def _complete(self) -> "LabelConfig":
        needed = {
            "table": ("file", "join", "column", "classes" if self.unit is None else "unit"),
            **dict.fromkeys(("masks", *NAMED), ("file", "join", "classes")),
            "column": ("column",),
            "boxes": ("file", "join", "classes"),
            "coco": ("file", "classes"),
            "lidc": ("file",),
        }
        missing = [name for name in needed.get(self.format, ()) if not getattr(self, name)]
        if missing:
            raise ValueError(f"labels of format {self.format!r} need {', '.join(missing)}")
        if problem := named_misfit(self):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _numbers(self) -> "LabelConfig":
        """Refuse what is said of numbers where there are none, and classes beside numbers."""
        if self.unit is None and (self.least is not None or self.most is not None):
            raise ValueError("least and most are of numbers: say their `unit`, in UCUM")
        if self.unit is None:
            return self
        if self.format not in ("table", "column"):
            raise ValueError(f"labels of format {self.format!r} are no numbers: leave out `unit`")
        if self.classes or self.positive:
            raise ValueError("labels are numbers with a `unit`, or have `classes`, not both")
        if None not in (self.least, self.most) and self.least > self.most:
            raise ValueError(f"least is {self.least:g} and most is {self.most:g}: swap them")
        return self

    @model_validator(mode="after")
    def _boxes(self) -> "LabelConfig":
        """Refuse what is said of boxes where there are none, or would not be read."""
        tabled = self.format == "boxes"
        said = {"coordinates": self.coordinates != "pixel", "columns": bool(self.columns)}
        wrong = [name for name, is_said in said.items() if is_said and not tabled]
        tables = self.format in BOXES and self.format not in IN_FILES
        wrong += ["normals"] if self.normals and not tables else []
        if wrong:
            raise ValueError(
                f"labels of format {self.format!r} have no key {wrong[0]}: leave it out"
            )
        if tabled and not self.column and len(self.classes) > 1:
            raise ValueError(
                f"labels of {len(self.classes)} classes of boxes need `column`, which says the "
                "class of each"
            )
        if wrong := [name for name in self.columns if name not in BOX_COLUMNS]:
            raise ValueError(
                f"labels.columns names {wrong[0]!r}; what can be renamed: {', '.join(BOX_COLUMNS)}"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        """Fill in the classes of a year of BraTS."""
        named = values.get("regions") if isinstance(values, Mapping) else None
        if isinstance(named, str) and named in PRESETS and not values.get("classes"):
            return {**values, "classes": PRESETS[named].classes}
        return values

    @model_validator(mode="after")
    def _regions_can_be_written(self) -> "LabelConfig":
        if not self.regions:
            return self
        if self.format not in MASKS:
            raise ValueError(f"regions are of masks, and labels of format {self.format!r} are none")
        wanted = PRESETS[self.regions].classes if isinstance(self.regions, str) else self.classes
        if len(self.classes) != len(wanted):
            raise ValueError(
                f"regions {self.regions!r} have {len(wanted)} classes and {len(self.classes)} are "
                f"named; leave classes out, or name {', '.join(wanted)}"
            )
        names = [name for name, _ in self.parts]
        if len({*names, *self.classes}) < len(names) + len(self.classes) or not all(names):
            raise ValueError(
                f"regions are called {', '.join(names)} beside the classes "
                f"{', '.join(self.classes)}; give each a name of its own"
            )
        for name, values in self.parts:
            if wrong := [one for one in values if not 1 <= one <= len(self.classes)]:
                raise ValueError(
                    f"region {name} holds the label {wrong[0]}; classes are 1 to "
                    f"{len(self.classes)}, in the order in which they are named"
                )
        written_labels(values_of(self.parts))
        return self

    @property
    def answers(self) -> tuple[str, ...]:
        """What a model answers with: the classes, or of numbers what they are."""
        return self.classes if self.unit is None else (str(self.column),)

    @property
    def parts(self) -> Regions:
        """Name and label values of each region; empty without regions."""
        return PRESETS[self.regions].regions if isinstance(self.regions, str) else self.regions

    @property
    def numbers(self) -> Numbers | None:
        """What the values in the masks' files mean, where a year of BraTS says so."""
        return PRESETS[self.regions].numbers if isinstance(self.regions, str) else None

    @property
    def named(self) -> str | None:
        """How segments are told by name, as a work order says it (`tasks.labels.named`)."""
        return named(self)

    @property
    def measured(self) -> tuple[str, ...]:
        """What masks are measured by: the regions, or else the classes."""
        return tuple(name for name, _ in self.parts) or self.classes


def label_set_name(config: LabelConfig) -> str:
    """Return what the label set of a scenario is called in the catalog.

    Two scenarios that read other columns, joins or classes of one file have sets of their own; the
    file's place, which may hold a name, is hashed.
    """
    if config.format == "decathlon":
        return "decathlon"
    place = [config.file, config.join, config.key_column, config.issuer, config.column]
    if config.format in BOXES:
        place += [config.normals, config.coordinates, sorted(config.columns.items())]
    if config.segments or config.absent or config.overlap != "refuse":
        place += [config.segments, config.absent, config.overlap]
    if config.unit is not None:
        place += [config.unit, config.least, config.most]
    return f"{config.format}-{digest_json([*place, list(config.classes)])[:12]}"
