"""A drawn breast under ultrasound: layers, speckle, shadow and enhancement, and masses.

Synthetic. Tissue is a map of scatterers' strength and of attenuation; the picture is made from it
as a scanner makes it: fully developed speckle, focus, gain and logarithm. Masses are drawn in the
words of BI-RADS (shape, orientation, margin, echo pattern, posterior features). Classes overlap:
a malignant mass may be round and smooth, a benign one may cast a shadow.
"""

from dataclasses import dataclass

import numpy as np

from tasks.phantom.fields import centred_axes, check_difficulty, smooth_field, step
from tasks.phantom.ultrasound import insonate

SHAPE = (256, 256)
SPACING = (0.17, 0.17)
"""Rows and columns, and mm of each: a depth and a width of 4.4 cm."""

CLASSES = ("normal", "benign", "malignant")
SHARES = (0.17, 0.52, 0.31)
"""Shares of the classes, about those of public breast ultrasound sets."""

_OVERLAP = {"easy": 0.03, "standard": 0.18, "hard": 0.3}
"""Chance that one feature of a mass is drawn from the other class."""


@dataclass(frozen=True)
class Mass:
    """A mass in the words of BI-RADS; lengths in mm, places about the middle of the picture.

    Attributes
    ----------
    malignant : bool
    centre : tuple of float
        (depth, across).
    radius : float
        Half of the longest diameter.
    oval : float
        Short over long diameter.
    upright : bool
        Taller than wide ("not parallel").
    margin : str
        circumscribed, lobulated, indistinct, angular or spiculated.
    echo : str
        anechoic, hypoechoic, isoechoic or complex.
    posterior : str
        none, enhancement, shadow or combined.
    halo, calcified : bool
    """

    malignant: bool
    centre: tuple[float, float]
    radius: float
    oval: float
    upright: bool
    margin: str
    echo: str
    posterior: str
    halo: bool
    calcified: bool


@dataclass(frozen=True)
class Breast:
    """A drawn picture: grey values of 8 bits, mask of the mass, and the mass (None when normal)."""

    image: np.ndarray
    mask: np.ndarray
    mass: Mass | None

    @property
    def target(self) -> str:
        """One of :data:`CLASSES`."""
        return CLASSES[0] if self.mass is None else CLASSES[1 + self.mass.malignant]


def draw_breast(
    seed: int,
    *,
    shape: tuple[int, int] = SHAPE,
    spacing: tuple[float, float] = SPACING,
    difficulty: str = "standard",
    target: str | None = None,
) -> Breast:
    """Draw one picture.

    Parameters
    ----------
    seed : int
        Same seed, same picture.
    shape : tuple of int
        (rows, columns).
    spacing : tuple of float
        (row, column) in mm.
    difficulty : str
        One of :data:`tasks.phantom.fields.DIFFICULTIES`: how far benign and malignant overlap, and
        how faint the mass is.
    target : str, optional
        One of :data:`CLASSES`; drawn when not given.

    Raises
    ------
    ValueError
        For an unknown difficulty or class.
    """
    check_difficulty(difficulty)
    if target is not None and target not in CLASSES:
        raise ValueError(f"target is {', '.join(CLASSES)}, not {target!r}")
    rng = np.random.default_rng([seed, 13])
    kind = target or CLASSES[rng.choice(3, p=SHARES)]
    axes = centred_axes(shape, spacing)
    strength, loss = _layers(rng, axes)
    mass, mask = None, np.zeros(shape, dtype=bool)
    if kind != "normal":
        mass = _draw_mass(rng, kind == "malignant", _OVERLAP[difficulty])
        mask = _grow(rng, axes, mass, strength, loss, difficulty)
    image = insonate(rng, axes, strength, loss, spacing)
    return Breast(image, mask, mass)


def _layers(rng: np.random.Generator, axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return strength and loss (dB per cm) of skin, fat, gland, muscle and ribs."""
    depth = axes[0] - axes[0].ravel()[0]
    bottom = float(depth.max())
    wave = [smooth_field(rng, axes, (40, 9)) for _ in range(4)]
    skin = 1.6 + 0.15 * wave[0]
    fat = skin + rng.uniform(3, 9) + 1.3 * wave[1]
    gland = fat + rng.uniform(9, 18) + 2 * wave[2]
    muscle = np.maximum(gland + rng.uniform(1, 5), 0.62 * bottom) + wave[3]
    chest = muscle + rng.uniform(5, 8)
    cells = np.abs(smooth_field(rng, axes, (1.6, 2.6)))
    septa = np.clip(1 - cells / 0.16, 0, 1)
    lobules = 0.17 + 0.5 * septa + 0.04 * smooth_field(rng, axes, 2.5)
    dense = smooth_field(rng, axes, (1.0, 2.4))
    density = rng.uniform(-0.3, 0.9)
    tissue = (
        0.78 + 0.2 * smooth_field(rng, axes, (0.8, 1.8)) - 0.42 * np.clip(dense - density, 0, 1)
    )
    fibres = 0.22 + 0.35 * np.clip(smooth_field(rng, axes, (0.35, 5)), 0, 3)
    strength = np.full(np.broadcast_shapes(*(a.shape for a in axes)), 1.15, dtype=np.float32)
    strength[:] = np.where(depth > skin, lobules, 1.15)
    edge = 0.5
    for start, layer in ((fat, tissue), (gland, lobules), (muscle, fibres), (chest, 0.12)):
        share = step(depth - start, edge)
        strength += share * (layer - strength)
    strength += 1.6 * np.exp(-(((depth - muscle) / 0.3) ** 2))
    strength += 2.2 * np.exp(-(((depth - chest) / 0.35) ** 2))
    loss = np.where((depth > fat) & (depth < gland), 0.9, 0.5).astype(np.float32)
    ribs = smooth_field(rng, axes, (400, 4.5))
    bone = np.clip((ribs - 0.9) * 2, 0, 1) * step(depth - chest + 3, 1)
    loss += 60 * bone
    strength += 1.5 * bone * np.exp(-(((depth - chest + 2.4) / 0.5) ** 2))
    # Ligaments that stand steep to the beam cast fine shadows.
    loss += 3.0 * np.clip(smooth_field(rng, axes, (5, 1.3)) - 1.7, 0, 1)
    return np.maximum(strength, 0.03).astype(np.float32), loss


def _draw_mass(rng: np.random.Generator, malignant: bool, overlap: float) -> Mass:
    def looks_malignant() -> bool:
        return malignant != (rng.random() < overlap)

    radius = float(rng.uniform(4, 10) if looks_malignant() else rng.uniform(3, 9))
    cyst = not malignant and rng.random() < 0.3
    if looks_malignant() and not cyst:
        margin = str(rng.choice(["spiculated", "angular", "indistinct", "lobulated"]))
    else:
        margin = str(rng.choice(["circumscribed", "circumscribed", "lobulated"]))
    bad_echo, bad_back = looks_malignant(), looks_malignant()
    echo = (
        "anechoic"
        if cyst
        else str(
            rng.choice(
                ["hypoechoic", "hypoechoic", "complex"] if bad_echo else ["hypoechoic", "isoechoic"]
            )
        )
    )
    posterior = (
        "enhancement"
        if cyst
        else str(
            rng.choice(
                ["shadow", "shadow", "combined", "none"] if bad_back else ["none", "enhancement"]
            )
        )
    )
    upright = bool(rng.random() < (0.55 if looks_malignant() else 0.08))
    oval = float(rng.uniform(0.6, 0.95) if malignant else rng.uniform(0.5, 0.85))
    # Between skin and muscle, where there is room for it.
    half = radius * (1.0 if upright else oval)
    low, high = sorted((half - 13, 4.5 - half))
    return Mass(
        malignant=malignant,
        centre=(float(rng.uniform(low, high)), float(rng.uniform(-9, 9))),
        radius=radius,
        oval=oval,
        upright=upright,
        margin=margin,
        echo=echo,
        posterior=posterior,
        halo=bool(rng.random() < (0.5 if looks_malignant() else 0.08)),
        calcified=bool(rng.random() < (0.4 if looks_malignant() else 0.08)),
    )


_ROUGH = {
    # amplitude of lobes, their number, amplitude of spikes, softness in mm
    "circumscribed": (0.04, 3, 0.0, 0.2),
    "lobulated": (0.13, 6, 0.0, 0.25),
    "indistinct": (0.12, 5, 0.05, 1.6),
    "angular": (0.20, 7, 0.10, 0.35),
    "spiculated": (0.14, 6, 0.42, 0.5),
}


def _outline(rng: np.random.Generator, mass: Mass, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the depth inside the mass, in mm."""
    tilt = rng.normal(0, 0.25) + (np.pi / 2 if mass.upright else 0)
    along = x * np.cos(tilt) + y * np.sin(tilt)
    across = (y * np.cos(tilt) - x * np.sin(tilt)) / mass.oval
    angle = np.arctan2(across, along)
    lobes, number, spikes, _ = _ROUGH[mass.margin]
    edge = 1 + sum(
        lobes / np.sqrt(k) * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
        for k in range(2, number + 1)
    )
    if spikes:
        for at in rng.uniform(-np.pi, np.pi, rng.integers(7, 14)):
            turn = np.angle(np.exp(1j * (angle - at)))
            edge = edge + spikes * rng.uniform(0.4, 1) * np.exp(-np.abs(turn) / 0.09)
    return mass.radius * edge - np.hypot(along, across)


def _grow(
    rng: np.random.Generator,
    axes: list[np.ndarray],
    mass: Mass,
    strength: np.ndarray,
    loss: np.ndarray,
    difficulty: str,
) -> np.ndarray:
    y, x = axes[0] - mass.centre[0], axes[1] - mass.centre[1]
    depth = _outline(rng, mass, y, x).astype(np.float32)
    soft = _ROUGH[mass.margin][3]
    share = step(depth, soft)
    around = float(np.median(strength[(depth < -0.5) & (depth > -3)]))
    faint = {"easy": 0.75, "standard": 1.0, "hard": 1.35}[difficulty]
    level = {"anechoic": 0.02, "hypoechoic": 0.2, "isoechoic": 0.45, "complex": 0.24}[mass.echo]
    inside = around * min(level * faint, 0.85) * (1 + 0.3 * smooth_field(rng, axes, 1.4))
    if mass.echo == "complex":
        inside = np.where(smooth_field(rng, axes, 1.8) > 0.8, 0.03, inside)
    if mass.calcified:
        dots = smooth_field(rng, axes, 0.28) > 2.9
        inside = np.where(dots & (depth > 0.8), 2.5, inside)
    if mass.halo:
        rim = np.exp(-(((depth + 0.9) / 0.9) ** 2))
        strength += rim * 0.5 * (1 - share)
    strength += share * (np.maximum(inside, 0.015) - strength)
    back = {"none": 0.0, "enhancement": -4.5, "shadow": 11.0, "combined": 6.0}[mass.posterior]
    weight = share * (x > 0 if mass.posterior == "combined" else 1.0)
    loss += weight * np.float32(back * min(1.0, 7 / mass.radius))
    if mass.margin == "circumscribed":
        # Refraction at the sides of a smooth wall.
        half = (depth > 0).any(axis=0)
        if half.any():
            sides = np.flatnonzero(half)[[0, -1]]
            for column in sides:
                at = axes[1].ravel()[column]
                loss += 4.0 * np.exp(-(((axes[1] - at) / 0.5) ** 2)) * (np.abs(y) < 2)
    return depth > 0
