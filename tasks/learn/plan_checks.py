"""What of a candidate does not fit its images or its task, before anything is planned."""

from collections.abc import Sequence

from tasks.learn.zoo import CLASSIFIERS, DETECTORS, JOINED, OF_WHOLE_IMAGES, SEGMENTERS


def check_fit(network: str, task: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError where network, task and images (z, y, x) do not fit each other."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"image shape {shape} is not (z, y, x) with positive sizes")
    if (network in DETECTORS) != (task == "detection"):
        raise ValueError(f"task {task} and {network} do not fit: {', '.join(DETECTORS)} detect")
    if network in DETECTORS and (shape[0] == 1) != (network != "retinanet3d"):
        raise ValueError(
            f"{network} and images of {shape} do not fit: retinanet3d finds boxes in volumes, "
            "the others in pictures"
        )
    if network in CLASSIFIERS and task not in OF_WHOLE_IMAGES:
        raise ValueError(f"{network} classifies; use {', '.join(SEGMENTERS)} for a segmentation")
    if network in SEGMENTERS and task != "segmentation":
        raise ValueError(f"{network} segments; use {', '.join(CLASSIFIERS)} for a {task}")
    if network in SEGMENTERS and network.endswith("3d") and shape[0] == 1:
        flat = network.replace("3d", "2d")
        raise ValueError(f"{network} needs volumes, the images have one slice; use {flat}")


def check_branches(name: str, in_channels: int, channels: Sequence[int]) -> None:
    """Raise ValueError where there is nothing to join, or no room for branches."""
    if in_channels < 2:
        raise ValueError(
            f"{name}: {JOINED} joins channels and the images have {in_channels}; name several "
            "under cohort, or use small_cnn"
        )
    if len(channels) < 2:
        raise ValueError(
            f"{name}: {JOINED} needs one block a branch and one behind them, the images have room "
            f"for {len(channels)}: give larger images, or two features"
        )
