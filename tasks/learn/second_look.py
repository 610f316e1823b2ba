"""A second look at what a detector of volumes found: each place is cut out and judged once more.

False-positive reduction, as the second track of LUNA16 has it (Setio et al. 2017). The detector's
maps are coarse; here a finding is seen at its own scale, with as much around it on every side. See
`tasks.learn.second_lesson` for how it is taught.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from tasks.learn.box_targets import box_of_network
from tasks.learn.boxes import Findings
from tasks.learn.pyramid import group_norm

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

SIDE = 16
"""Samples along each side of a cut."""

SURROUNDINGS = 2.0
"""Sides of a cut over those of the box."""

LEAST_EXTENT = 8.0
"""Voxels a cut is at least wide: less shows nothing of what is around."""

WIDTHS, STRIDES = (16, 32, 48), (1, 2, 2)


class SecondLook(nn.Module):
    """Three convolutions over a cut, their mean, and one linear layer that also knows the size.

    Untaught it gives every class the same probability, and so changes no order. Its numbers stand
    still until it is taught: the detector's own training passes it by.
    """

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b, stride in zip((plan.in_channels, *WIDTHS), WIDTHS, STRIDES, strict=False):
            conv = nn.Conv3d(a, b, 3, stride=stride, padding=1, bias=False)
            layers += [conv, group_norm(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        # The last class is the background.
        self.head = nn.Linear(WIDTHS[-1] + 3, plan.n_classes + 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.requires_grad_(False)

    def forward(self, cuts: Tensor, sizes: Tensor) -> Tensor:
        """Return logits (m, k + 1) of cuts (m, c, SIDE, SIDE, SIDE) and box sizes (m, 3), voxels.

        The last column is the background.
        """
        seen = self.body(cuts).flatten(2).mean(-1)
        return self.head(torch.cat([seen, sizes.clamp(min=1).log2()], 1))


def look_again(networks: Sequence[nn.Module], image: Tensor, found: Findings) -> Findings:
    """Return findings of an image with both looks' scores, the best first.

    The score becomes the geometric mean of the detector's and of the mean probability, over the
    networks, that the place is of its class.

    Parameters
    ----------
    networks : sequence of Module
        Detectors with a ``second`` look, in evaluation mode.
    image : Tensor, (c, z, y, x)
        Whole, on the networks' device.
    found : Findings
        In its index coordinates.
    """
    if not len(found):
        return found
    box = boxes_in(found.box, image.device)
    with torch.inference_mode():
        cuts, sizes = cut_out(image, box), box[:, 3:] - box[:, :3]
        said = torch.stack([one.second(cuts, sizes).softmax(1) for one in networks]).mean(0)
    here = said.double().cpu().numpy()[np.arange(len(found)), found.label]
    again = Findings(found.label, np.sqrt(found.score * here), found.box, found.mask)
    return again.take(np.argsort(-again.score, kind="stable"))


def boxes_in(box: np.ndarray, device: torch.device) -> Tensor:
    """Return boxes (m, 2, 3) of index coordinates as `cut_out` takes them, (m, 6)."""
    return torch.as_tensor(box_of_network(box, 3), dtype=torch.float32, device=device)


def cut_out(image: Tensor, box: Tensor, margin: int = 0) -> Tensor:
    """Return boxes with their surroundings, sampled between voxels; beyond the image lie zeros.

    Parameters
    ----------
    image : Tensor, (c, z, y, x)
    box : Tensor, (m, 6)
        Lowest corner, then highest, where voxel i reaches from i to i + 1.
    margin : int
        Samples more on every side, at the same steps.

    Returns
    -------
    Tensor, (m, c, n, n, n)
        n being ``SIDE + 2 * margin``.
    """
    side = SIDE + 2 * margin
    if not len(box):
        return image.new_zeros(0, image.shape[0], side, side, side)
    shape = torch.tensor(image.shape[1:], dtype=box.dtype, device=box.device)
    extent = ((box[:, 3:] - box[:, :3]) * SURROUNDINGS).clamp(min=LEAST_EXTENT) * side / SIDE
    centre = (box[:, :3] + box[:, 3:]) / 2
    # Torch counts from -1 to 1 over the image, the last axis first.
    theta = torch.zeros(len(box), 3, 4, dtype=box.dtype, device=box.device)
    for row, axis in enumerate((2, 1, 0)):
        theta[:, row, row] = extent[:, axis] / shape[axis]
        theta[:, row, 3] = 2 * centre[:, axis] / shape[axis] - 1
    grid = affine_grid(theta, [len(box), 1, side, side, side], align_corners=False)
    # All cuts in one grid: a copy of the image for each would not fit.
    cuts = grid_sample(image[None], grid.reshape(1, -1, side, side, 3), align_corners=False)
    return cuts[0].reshape(image.shape[0], len(box), side, side, side).swapaxes(0, 1)
