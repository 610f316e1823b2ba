"""Four MR sequences of a drawn head with a glioma: oedema, necrotic core, enhancing rim."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter1d

from tasks.phantom.fields import centred_axes, check_difficulty, smooth_field, step
from tasks.phantom.head import BRAIN, SEQUENCES, Head, draw_head, paint, vary

SHAPE = (64, 96, 96)
SPACING = (2.4, 2.0, 2.0)
"""Default matrix and spacing in mm, (z, y, x): a whole brain that a CPU can learn from."""

NECROSIS, OEDEMA, ENHANCING = 1, 2, 3
"""Values of the label map as BraTS writes them since 2023; until 2021 the last was 4."""

ENHANCES = 0.85
"""Share of tumours with an enhancing part; the others are core and oedema alone."""

_LEVELS = {
    # radius mm, spread of signals, bias, noise, motion mm, faintness of the oedema
    "easy": ((14, 24), 0.02, 0.06, 0.015, 0.0, 0.0),
    "standard": ((8, 23), 0.06, 0.16, 0.035, 0.7, 0.25),
    "hard": ((5, 15), 0.10, 0.26, 0.06, 1.5, 0.45),
}


@dataclass(frozen=True)
class Brain:
    """A drawn examination.

    Attributes
    ----------
    images : array of uint16, shape (4, z, y, x)
        :data:`tasks.phantom.head.SEQUENCES`, 12 bits.
    labels : array of uint8, shape (z, y, x)
        0, NECROSIS, OEDEMA or ENHANCING, on the grid of the second sequence.
    brain : array of bool, shape (z, y, x)
        Brain with its fluid, as skull stripping would leave it.
    spacing : tuple of float
        (z, y, x) in mm.
    """

    images: np.ndarray
    labels: np.ndarray
    brain: np.ndarray
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class _Tumour:
    centre: np.ndarray
    radius: float
    rim: float
    swelling: float
    enhances: bool


def draw_brain(
    seed: int,
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
    difficulty: str = "standard",
) -> Brain:
    """Draw one examination with a tumour.

    Parameters
    ----------
    seed : int
        Same seed, same images.
    shape : tuple of int
        (z, y, x).
    spacing : tuple of float
        (z, y, x) in mm.
    difficulty : str
        One of :data:`tasks.phantom.fields.DIFFICULTIES`: size of the tumour, contrast, bias field,
        noise, and how far the head moved from one sequence to the next.

    Raises
    ------
    ValueError
        For an unknown difficulty.
    """
    check_difficulty(difficulty)
    radii, spread, bias, noise, motion, faint = _LEVELS[difficulty]
    rng = np.random.default_rng([seed, 12])
    axes = centred_axes(shape, spacing)
    voxel = float(min(spacing))
    tumours = [_draw_tumour(rng, radii)]
    if difficulty != "easy" and rng.random() < 0.15:
        tumours.append(_draw_tumour(rng, (5, 9)))
    signals = vary(rng, spread)
    for name, healthy in (("oedema", "white"), ("enhancing", "grey")):
        share = faint * rng.random()
        signals[name] = signals[name] * (1 - share) + signals[healthy] * share
    head = draw_head(rng, axes, _pushed(axes, tumours), signals, voxel)
    shares = np.zeros((4, *shape), dtype=np.float32)
    for tumour in tumours:
        _grow(rng, axes, head, tumour, signals, shares, voxel)
    labels = np.where(shares[1:].sum(0) > 0.5, shares[1:].argmax(0) + 1, 0).astype(np.uint8)
    images = np.stack(
        [
            _acquire(rng, image, axes, spacing, bias, noise, 0.0 if name == "t1c" else motion)
            for name, image in zip(SEQUENCES, head.images, strict=True)
        ]
    )
    return Brain(images, labels, head.brain > 0.5, spacing)


def _draw_tumour(rng: np.random.Generator, radii: tuple[float, float]) -> _Tumour:
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    direction[0] = abs(direction[0]) * 0.8 - 0.15
    centre = direction * rng.uniform(0.35, 0.68) * np.array(BRAIN)
    centre[2] += 8 * np.sign(centre[2])
    radius = float(np.exp(rng.uniform(*np.log(radii))))
    return _Tumour(
        centre=centre,
        radius=radius,
        rim=float(rng.uniform(0.18, 0.5) * radius),
        swelling=float(rng.uniform(3, 16) + 0.35 * radius),
        enhances=bool(rng.random() < ENHANCES),
    )


def _pushed(axes: list[np.ndarray], tumours: list[_Tumour]) -> tuple:
    """Return where each place lay before the tumours grew: mass effect."""
    places = [np.array(p, dtype=np.float32) for p in np.broadcast_arrays(*axes)]
    for tumour in tumours:
        away = [axis - np.float32(c) for axis, c in zip(axes, tumour.centre, strict=True)]
        square = sum(a**2 for a in away)
        reach = 2.4 * tumour.radius
        pull = 0.55 * np.exp(-square / np.float32(reach**2))
        for place, a in zip(places, away, strict=True):
            place -= pull * a
    return tuple(places)


def _grow(
    rng: np.random.Generator,
    axes: list[np.ndarray],
    head: Head,
    tumour: _Tumour,
    signals: dict[str, np.ndarray],
    shares: np.ndarray,
    voxel: float,
) -> None:
    """Paint one tumour and add its shares (none, necrosis, oedema, enhancing)."""
    squeeze = rng.uniform(0.75, 1.2, 3)
    distance = np.sqrt(
        sum(
            ((axis - np.float32(c)) / np.float32(s)) ** 2
            for axis, c, s in zip(axes, tumour.centre, squeeze, strict=True)
        )
    )
    lobes = smooth_field(rng, axes, max(0.45 * tumour.radius, 3))
    core = tumour.radius * (1 + 0.2 * lobes) - distance
    fingers = smooth_field(rng, axes, 9)
    # Oedema spreads along white matter and leaves the cortex as it is.
    swollen = tumour.radius + tumour.swelling * (1 + 0.55 * fingers) - distance
    midline = step(axes[2] * np.float32(np.sign(tumour.centre[2])) + 3, 4)
    inside = head.brain * midline
    oedema = step(swollen, 2.5) * np.clip(head.white * 1.15, 0, 1) * inside
    solid = step(core, voxel) * inside
    rim = tumour.rim * (1 + 0.45 * smooth_field(rng, axes, 5))
    dead = step(core - rim, voxel * 1.2) * inside if tumour.enhances else solid
    paint(head.images, signals["oedema"], oedema)
    paint(head.images, signals["enhancing"], solid)
    paint(head.images, signals["necrosis"], dead)
    grain = 1 + 0.07 * smooth_field(rng, axes, 4) * np.maximum(solid, oedema)
    np.multiply(head.images, grain, out=head.images)
    for values, share in ((OEDEMA, oedema), (ENHANCING, solid), (NECROSIS, dead)):
        shares *= 1 - share
        shares[values] += share


def _acquire(
    rng: np.random.Generator,
    image: np.ndarray,
    axes: list[np.ndarray],
    spacing: tuple[float, float, float],
    bias: float,
    noise: float,
    motion: float,
) -> np.ndarray:
    """Return a sequence as a scanner shows it: moved, shaded, noisy, in its own scale."""
    if motion:
        image = _moved(rng, image, spacing, motion)
        image = gaussian_filter1d(image, 0.35, axis=0)
    shade = np.exp(bias * smooth_field(rng, axes, (70, 60, 60)))
    signal = image * shade * (1 + 0.02 * smooth_field(rng, axes, 3))
    sigma = np.float32(noise * 700)
    real = signal + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    gain = rng.uniform(0.8, 2.2)
    return np.clip(np.rint(np.hypot(real, imaginary) * gain), 0, 4095).astype(np.uint16)


def _moved(
    rng: np.random.Generator, image: np.ndarray, spacing: tuple[float, float, float], motion: float
) -> np.ndarray:
    """Return the image after the head turned and slid a little: `motion` mm in each direction."""
    turn = rng.normal(0, motion * 0.6, 3) * np.pi / 180
    skew = np.array([[0, -turn[2], turn[1]], [turn[2], 0, -turn[0]], [-turn[1], turn[0], 0]])
    scale = np.array(spacing)
    matrix = np.eye(3) + skew * scale[None] / scale[:, None]
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - matrix @ middle + rng.normal(0, motion, 3) / scale
    return affine_transform(image, matrix, offset, order=1, mode="constant")
