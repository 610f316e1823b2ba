"""What was found in one case and what is there."""

from dataclasses import dataclass

import numpy as np

SAME_PLACE_MM = 0.01
"""How far a corner may lie from where it was: more than rounding does, less than any pixel is."""


@dataclass(frozen=True, eq=False)
class CaseFindings:
    """What was found in one case and what is there, in mm along the case's own axes (z, y, x)."""

    label: np.ndarray
    """(f,) class number of each finding."""
    score: np.ndarray
    """(f,) in 0..1."""
    box: np.ndarray
    """(f, 2, 3) lowest and highest corner."""
    true_label: np.ndarray
    """(t,) class number of what is there."""
    true_box: np.ndarray
    """(t, 2, 3)."""
    irrelevant: np.ndarray
    """(t,) bool: finding it is neither right nor wrong."""
    true_place: np.ndarray | None = None
    """(t, 2, 3) corners of the true boxes along the patient's axes, LPS mm: they do not depend on
    what was found, as the case's own axes do. Without it those are the patient's."""

    def same_truth(self, other: "CaseFindings") -> bool:
        """Say whether the same boxes are there, in whatever order, corners to `SAME_PLACE_MM`."""
        mine, theirs = self._truth(), other._truth()
        if mine.shape != theirs.shape:
            return False
        # Classes are whole numbers: a box of another class has no partner either.
        apart = np.abs(mine[:, None] - theirs[None]).max(2, initial=0)
        partner = apart <= SAME_PLACE_MM
        return bool(partner.any(0).all() and partner.any(1).all())

    def _truth(self) -> np.ndarray:
        """Return (t, 8): class, irrelevant, corners."""
        place = self.true_box if self.true_place is None else self.true_place
        corners = np.reshape(place, (len(self.true_label), 6))
        return np.column_stack([self.true_label, self.irrelevant, corners]).astype(float)
