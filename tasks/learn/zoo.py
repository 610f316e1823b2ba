"""The networks radloop knows by name, and which settings go with which; light to import."""

from typing import TYPE_CHECKING, Any, Literal

from tasks.learn.space import SEARCHABLE, ends

if TYPE_CHECKING:
    from tasks.learn.network_candidate import NetworkCandidate

TRUNKS = ("resnet18", "resnet50", "densenet121")
"""Classifiers whose trunk is a known one, in 2-D and 3-D; public weights fit them."""

JOINED = "fused_cnn"
"""A classifier with a branch a channel; see `tasks.learn.joined`."""

CLASSIFIERS = ("small_cnn", *TRUNKS, JOINED)

UNETS = ("unet2d", "unet3d")
"""MONAI's residual U-Net."""

NNUNETS = ("nnunet2d", "nnunet3d", "resenc2d", "resenc3d")
"""nnU-Net's networks, plain and with a residual encoder."""

SEGMENTERS = (*UNETS, *NNUNETS)

DETECTORS = ("retinanet3d", "retinanet2d", "fasterrcnn", "maskrcnn")
"""Networks that answer with boxes: MONAI's RetinaNet in volumes, torchvision's in pictures."""

OUTLINING = ("maskrcnn",)
"""Detectors that also outline what they find."""

NETWORKS = (*CLASSIFIERS, *SEGMENTERS, *DETECTORS)

OF_WHOLE_IMAGES = ("classification", "regression")
"""Tasks that answer once an image: their networks see it whole, and it has a label, no mask."""

SMALL_STEM_BELOW = 64
"""An image with fewer pixels along its shorter side gets the small stem."""

_TRUNK: dict[str, Any] = {
    "epochs": 20, "batch": None, "lr": 1e-3, "features": (), "dropout": 0.2, "augment": None,
    "monitor": "loss",
}  # fmt: skip
"""Settings of a `TRUNKS` network whose candidate does not say."""

_NNUNET: dict[str, Any] = {
    "epochs": 100, "steps_per_epoch": 250, "batch": None, "lr": 1e-2, "features": None,
    "dropout": 0.0, "augment": "nnunet", "monitor": "dice", "optimizer": "sgd",
    "schedule": "poly", "weight_decay": 3e-5,
}  # fmt: skip
"""nnU-Net's own, with a tenth of its epochs: they cost a Dice point or so, and a GPU's night."""

_DETECTOR: dict[str, Any] = {
    "epochs": 60, "batch": None, "lr": 1e-3, "features": (16, 32, 64, 96, 128), "dropout": 0.0,
    "augment": None, "monitor": "ap",
}  # fmt: skip
"""Settings of a `DETECTORS` network whose candidate does not say; meant for a CPU."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "small_cnn": {
        "epochs": 12, "batch": 32, "lr": 2e-3, "features": (16, 32, 64, 96), "dropout": 0.3,
        "augment": "radiograph", "monitor": "loss",
    },
    JOINED: {
        "epochs": 20, "batch": 16, "lr": 2e-3, "features": (16, 32, 64, 96), "dropout": 0.3,
        "augment": None, "monitor": "loss",
    },
    "unet2d": {
        "epochs": 60, "batch": None, "lr": 2e-3, "features": (16, 32, 64, 128, 256),
        "dropout": 0.0, "augment": "radiograph", "monitor": "dice",
    },
    "unet3d": {
        "epochs": 80, "batch": None, "lr": 2e-3, "features": (16, 32, 64, 128),
        "dropout": 0.0, "augment": "volume", "monitor": "dice",
    },
    **dict.fromkeys(NNUNETS, _NNUNET),
    **dict.fromkeys(TRUNKS, _TRUNK),
    **dict.fromkeys(DETECTORS, _DETECTOR),
}  # fmt: skip
"""Settings a candidate gets when it does not say; measured on two CPU cores, but nnU-Net's."""

COMMON: dict[str, Any] = {
    "steps_per_epoch": None, "optimizer": "adamw", "schedule": "one_cycle", "weight_decay": 0.01,
}  # fmt: skip
"""Settings that networks share unless `DEFAULTS` says otherwise."""

BATCH_2D, BATCH_3D = 32, 8
"""Images and volumes a step of a `TRUNKS` network, unless the candidate says."""


def misfit(candidate: "NetworkCandidate") -> str:
    """Say which setting the candidate's network cannot obey, or nothing."""
    network, known = candidate.network, ", ".join(CLASSIFIERS)
    if candidate.slices and network not in CLASSIFIERS:
        return f"slices: {network} does not look slice by slice; use one of {known}"
    if network == JOINED and (candidate.slices or candidate.weights):
        return f"{network} has a branch a channel: remove slices and weights, or use small_cnn"
    if candidate.weights and network not in CLASSIFIERS:
        return f"weights: {network} cannot start from a file; use one of {known}"
    if candidate.weights_sha256 and not candidate.weights:
        return "weights_sha256: there are no weights; name their file under weights"
    if candidate.freeze and not candidate.weights:
        return "freeze: a head on random maps learns nothing; name a file under weights"
    if network in TRUNKS and candidate.features:
        return f"features: {network} has fixed widths; remove it or use small_cnn"
    if candidate.stem != "auto" and network not in TRUNKS:
        return f"stem: {network} has one stem only; remove it or use one of {', '.join(TRUNKS)}"
    return _misfit_of_detector(candidate) or _misfit_of_search(candidate)


def _misfit_of_detector(candidate: "NetworkCandidate") -> str:
    network = candidate.network
    for name in ("backbone", "anchors", "max_findings"):
        if getattr(candidate, name) is not None and network not in DETECTORS:
            return f"{name}: {network} finds no boxes; use one of {', '.join(DETECTORS)}"
    for name in ("second_look", "hard_negatives"):
        if getattr(candidate, name) and network != "retinanet3d":
            return f"{name}: {network} has none; remove it or use retinanet3d"
    if candidate.dropout and network in DETECTORS:
        return f"dropout: {network} has none; remove it"
    if candidate.backbone not in (None, "small") and candidate.features:
        return f"features: {candidate.backbone} has fixed widths; remove it or say backbone: small"
    return ""


def _misfit_of_search(candidate: "NetworkCandidate") -> str:
    for name, values in candidate.search.items():
        if name not in SEARCHABLE:
            return f"search: {name} cannot be searched; {', '.join(SEARCHABLE)} can"
        if not ends(values):
            return f"search: {name} has 0 values: give at least one or remove it"
        for value in ends(values):
            # Each value must be one that the candidate could have had.
            body = candidate.model_dump(mode="json") | {"search": {}, name: value}
            try:
                type(candidate).model_validate(body)
            except ValueError as error:
                return f"search: {name} cannot be {value!r} ({error})"
    return ""


def least_size(network: str, dims: int, stem: str) -> int:
    """Return the fewest voxels along an axis that a network can halve as often as it does."""
    if network != "densenet121":
        return 1
    if stem == "full":
        return 29
    return 8 if dims == 2 else 15


def stem_of(candidate: "NetworkCandidate", shape: tuple[int, ...]) -> Literal["small", "full"]:
    """Return the first layers a candidate gets for images of a shape (z, y, x)."""
    if candidate.network not in TRUNKS or candidate.stem == "full":
        return "full"
    if candidate.stem == "auto" and candidate.weights:
        # Weights are of the full stem.
        return "full"
    return "small" if candidate.stem == "small" or min(shape[1:]) < SMALL_STEM_BELOW else "full"
