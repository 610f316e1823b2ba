"""What the geometry of a series is worth, and what is said of it."""

from dataclasses import asdict, dataclass
from typing import Any

EVEN_TOLERANCE = 0.05
"""A slice may lie off its even place by this share of the spacing (0.05 mm at 1 mm)."""

TILT_TOLERANCE_DEG = 0.1
"""A stack leaning more than this off the slice normal is tilted (0.5 mm over 300 mm)."""


@dataclass(frozen=True)
class Certificate:
    """What the geometry of a series is worth.

    Parameters
    ----------
    n_frames : int
        Slices given.
    orientation : str
        ``"axial"``, ``"coronal"``, ``"sagittal"``, or the same with ``"oblique "`` before it.
    spacing : tuple of float
        (z, y, x) in mm; z is the length of the step from slice to slice.
    jitter_mm : float
        Largest distance of a slice from its place in the even stack.
    gaps : tuple of (int, int)
        Index of the slice before each gap (in ascending order) and how many slices lack there.
    duplicates : int
        Slices that share a position with an earlier one.
    tilt_deg : float
        Angle between the direction of the stack and the normal of the slices.
    verdict : str
        ``"accept"``, ``"resample"`` or ``"quarantine"``.
    reason : str
        Word for the verdict, empty for a plain stack.
    how : str
        For ``"resample"``: what puts the stack on an even, upright grid.
    notes : tuple of str
        What was done or left out on the way, in words that name nobody.
    """

    n_frames: int
    orientation: str
    spacing: tuple[float, float, float]
    jitter_mm: float
    gaps: tuple[tuple[int, int], ...]
    duplicates: int
    tilt_deg: float
    verdict: str
    reason: str
    how: str = ""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        plain = asdict(self)
        return {
            **plain,
            "spacing": list(self.spacing),
            "gaps": [list(gap) for gap in self.gaps],
            "notes": list(self.notes),
        }


def how_to_mend(reason: str, tilt_deg: float, depth: float) -> str:
    """Say what would mend a stack that is to be resampled; empty for others."""
    return {
        "gantry_tilt": f"shift each slice within its plane, {tilt_deg:.2f} degrees in all",
        "uneven_spacing": f"interpolate between slices at even steps of about {depth:.3f} mm",
    }.get(reason, "")


def sentence(certificate: Certificate) -> str:
    """Say in numbers why a stack is not used as it is, and what to do; empty for one that is."""
    lost = sum(n for _, n in certificate.gaps)
    told = {
        "missing_slices": f"{lost} slices lack in {len(certificate.gaps)} gaps of "
        f"{certificate.n_frames} slices; send the whole series",
        "duplicate_positions": f"{certificate.duplicates} of {certificate.n_frames} slices share "
        "a position; remove the strays",
        "needs_4d_grouping": f"{certificate.duplicates} of {certificate.n_frames} slices repeat "
        "positions and no header field tells them apart; send the series with its temporal fields",
        "uneven_spacing": f"slices lie up to {certificate.jitter_mm:.3f} mm off an even spacing "
        f"of {certificate.spacing[0]:.3f} mm (limit {EVEN_TOLERANCE:.0%}); ask for straightening",
        "gantry_tilt": f"the stack leans {certificate.tilt_deg:.2f} degrees (limit "
        f"{TILT_TOLERANCE_DEG}); ask for straightening",
        "mixed_orientation": "slices are turned against each other; split the series",
    }
    return told.get(certificate.reason, "")
