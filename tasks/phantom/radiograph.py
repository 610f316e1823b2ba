"""A drawn wrist X-rayed in two views: paths through bones, tissue and cast, then the film."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from tasks.phantom.fields import centred_axes, smooth_field, step
from tasks.phantom.wrist import Break, Shaft, Wrist

SHAPE = (256, 192)
SPACING = 0.5
"""Rows and columns, and mm of a pixel on the film."""

BITS = 12
VIEWS = {"PA": 0.0, "LL": 90.0}
"""DICOM's view codes and the angle about the limb in degrees."""

_CARPALS = (
    # age of first ossification, u, a, b, half widths (u, a, b), all in grown-up mm
    (0.3, 19, -1, 0, (9, 6, 7)),
    (0.3, 18, 10, 0, (8, 6, 6)),
    (3.0, 9, 13, 1, (5, 5, 5)),
    (4.0, 8, 1, 0, (5, 6, 7)),
    (5.0, 10, -12, -1, (8, 5, 5)),
    (5.5, 21, -19, -2, (5, 5, 5)),
    (6.0, 21, -11, 1, (5, 4, 5)),
    (9.0, 9, 14, -6, (4, 3, 4)),
)
_METACARPALS = ((-24, -4, 0.42), (-14, 1, 0.12), (-3, 1, 0.02), (7, 1, -0.07), (15, 0, -0.16))


@dataclass(frozen=True)
class Film:
    """One view.

    Attributes
    ----------
    image : array of uint16, shape (rows, columns)
        12 bits, bright where dense.
    boxes : array, shape (n, 4)
        Of the fractures: first row, first column, last row, last column, in pixels.
    """

    image: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class _Pose:
    """Where the limb lies on the film: turn in radians, shift in mm, mirrored or not."""

    turn: float
    down: float
    across: float
    mirror: float

    def limb(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (u, v) of film places in mm."""
        y, x = rows + self.down, columns + self.across
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return -(y * cos + x * sin), self.mirror * (x * cos - y * sin)

    def film(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return film places (down, across) in mm of (u, v)."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        y, x = -u, self.mirror * v
        return y * cos - x * sin - self.down, y * sin + x * cos - self.across


def expose(
    wrist: Wrist, view: str, *, shape: tuple[int, int] = SHAPE, spacing: float = SPACING
) -> Film:
    """X-ray a wrist.

    Parameters
    ----------
    wrist : Wrist
    view : str
        A key of :data:`VIEWS`.
    shape : tuple of int
        (rows, columns).
    spacing : float
        mm a pixel.
    """
    rng = np.random.default_rng([wrist.seed, list(VIEWS).index(view)])
    pose = _Pose(
        turn=float(rng.normal(0, 0.10)),
        down=float(rng.normal(-6, 4)),
        across=float(rng.normal(0, 4)),
        mirror=1.0 if wrist.left else -1.0,
    )
    angle = np.radians(VIEWS[view] + rng.normal(0, 6))
    axes = centred_axes(shape, (spacing, spacing))
    u, v = pose.limb(*axes)
    look = np.cos(angle), np.sin(angle)
    grain = smooth_field(rng, axes, (1.0, 0.45))
    tissue = _tissue(wrist, look, u, v, smooth_field(rng, axes, 12))
    path = 0.021 * tissue
    path += 0.052 * _bones(rng, wrist, look, u, v, grain, spacing)
    if wrist.cast:
        path += _cast(rng, wrist, look, u, v, axes)
    image = _film(rng, path, _wires(rng, wrist, look, u, v, spacing), axes)
    return Film(image, _boxes(wrist, look, pose, shape, spacing))


def _oval(
    look: tuple[float, float], half_a: np.ndarray, half_b: np.ndarray, off: np.ndarray
) -> np.ndarray:
    """Return the path length through an ellipse seen at an angle, `off` mm from its middle."""
    wide = np.sqrt((half_a * look[0]) ** 2 + (half_b * look[1]) ** 2)
    return 2 * half_a * half_b / wide * np.sqrt(np.maximum(1 - (off / wide) ** 2, 0))


def _tissue(
    wrist: Wrist, look: tuple[float, float], u: np.ndarray, v: np.ndarray, lumps: np.ndarray
) -> np.ndarray:
    half_a, half_b = wrist.tissue
    along = 1 + 0.0035 * np.clip(-u, 0, 80) - 0.06 * np.exp(-(((u - 2) / 18) ** 2))
    along = along * (1 + wrist.swelling * np.exp(-(((u + 14) / 22) ** 2)))
    hand = 1 / (1 + np.exp(-(u - 12) / 7))
    palm = half_a * along * (1 + 0.42 * hand * wrist.size**0.2)
    muscle = _oval(look, palm * 0.9, half_b * along * 0.86, v)
    skin = _oval(look, palm + 0.8, half_b * along + 0.8, v)
    return muscle * (1 + 0.03 * lumps) + 0.75 * (skin - muscle)


def _bones(
    rng: np.random.Generator,
    wrist: Wrist,
    look: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    grain: np.ndarray,
    spacing: float,
) -> np.ndarray:
    path = np.zeros(u.shape, dtype=np.float32)
    hand = (u, v)
    for name in ("ulna", "radius"):
        shaft = getattr(wrist, name)
        found = next((b for b in wrist.breaks if b.bone == name), None)
        parts, far = _parts(rng, found, shaft, look, u, v, spacing)
        if name == "radius":
            # The hand goes where the far part of the radius goes.
            hand = far
        for along, across, weight in parts:
            path += weight * _shaft(wrist, shaft, found, look, along, across, grain)
    path += _hand(wrist, look, *hand, grain)
    return path


def _parts(
    rng: np.random.Generator,
    found: Break | None,
    shaft: Shaft,
    look: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    spacing: float,
) -> tuple[list, tuple[np.ndarray, np.ndarray]]:
    """Split a bone into near and far part, the far one moved and bent; one part without a break."""
    if found is None:
        return [(u, v, 1.0)], (u, v)
    middle = shaft.a * look[0] + shaft.b * look[1]
    off = v - middle
    teeth = np.interp(off, np.linspace(-25, 25, 60), 0.5 * rng.standard_normal(60))
    line = found.place + found.slant * off
    shift = found.shift[0] * look[0] + found.shift[1] * look[1]
    bend = found.bend[0] * look[0] + found.bend[1] * look[1]
    du, dv = u - found.place, off - shift
    far_u = found.place + du * np.cos(bend) + dv * np.sin(bend)
    far_v = middle + dv * np.cos(bend) - du * np.sin(bend)
    if found.kind in {"torus", "styloid"}:
        # Bent without a gap: the places turn smoothly from near to far.
        share = step(u - found.place, 3.0)
        bent = (u + share * (far_u - u), v + share * (far_v - v))
        return [(*bent, 1.0)], (far_u, far_v)
    if found.kind == "greenstick":
        share = step(u - line, 1.0)
        crack = np.exp(-(((u - line - teeth) / 0.55) ** 2)) * step(off * found.side + 1.5, 1.5)
        bent = (u + share * (far_u - u), v + share * (far_v - v))
        return [(*bent, 1 - 0.75 * crack)], (far_u, far_v)
    half = found.gap / 2 + (0.3 if found.kind == "complete" else 0)
    near = step(line + teeth - half - u, spacing)
    far_line = found.place + found.slant * (far_v - middle) + teeth
    far = step(far_u - far_line - half, spacing)
    return [(u, v, near), (far_u, far_v, far)], (far_u, far_v)


def _shaft(
    wrist: Wrist,
    shaft: Shaft,
    found: Break | None,
    look: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    grain: np.ndarray,
) -> np.ndarray:
    """Return the path through one long bone, in mm of cortex."""
    s = wrist.size
    near = np.clip((u - shaft.end + 30 * s) / (30 * s), 0, 1)
    wider = 1 + shaft.flare * near**1.7
    half_a, half_b = shaft.half_a * wider, shaft.half_b * (1 + 0.55 * shaft.flare * near**1.7)
    marrow = wrist.density + 0.32 * near**1.5
    if found is not None and found.kind == "torus":
        ring = np.exp(-(((u - found.place) / (1.6 * s)) ** 2))
        half_a, half_b = half_a * (1 + found.bulge * ring), half_b * (1 + found.bulge * ring)
        marrow = marrow + 1.2 * found.bulge * ring
    off = v - shaft.a * look[0] - shaft.b * look[1]
    inner = 1 - shaft.wall * (1 - 0.78 * near)
    outside = _oval(look, half_a, half_b, off)
    inside = _oval(look, half_a * inner, half_b * inner, off)
    path = outside - inside * (1 - marrow * (1 + 0.35 * grain))
    end = shaft.end - 0.010 / s * off**2
    shell = np.exp(-(((u - end + 0.6) / 0.6) ** 2))
    path = path * (1 + 0.35 * shell) * step(end - u, 0.7)
    if shaft.plate:
        # A child's growth plate is a clear band with bright borders, broken or not.
        rise = shaft.end - shaft.plate + 0.6 * np.sin(off / (2.2 * s)) - 0.008 * off**2
        wide = 0.5 + 1.1 * np.clip((16 - wrist.age) / 12, 0, 1) * s
        path = path * (1 - 0.82 * np.exp(-(((u - rise) / wide) ** 2)))
        path = path * (1 + 0.30 * np.exp(-(((np.abs(u - rise) - 1.9 * wide) / 0.5) ** 2)))
    if shaft is wrist.ulna and wrist.age > 7:
        path = path + _styloid(wrist, shaft, found, look, u, off)
    return path.astype(np.float32)


def _styloid(
    wrist: Wrist,
    shaft: Shaft,
    found: Break | None,
    look: tuple[float, float],
    u: np.ndarray,
    off: np.ndarray,
) -> np.ndarray:
    """Return the path through the ulna's tip, which often breaks off."""
    s = wrist.size
    tip_u, tip_v = shaft.end + 1.0 * s, 4.2 * s * look[0] + 2.0 * s * look[1]
    if found is not None and found.kind == "styloid":
        away = 0.6 + 1.6 * found.gap
        tip_u, tip_v = tip_u + away + 1.0, tip_v + 0.5 * away * look[0]
    square = ((u - tip_u) / (3.4 * s)) ** 2 + ((off - tip_v) / (1.9 * s)) ** 2
    return 2.6 * s * np.sqrt(np.maximum(1 - square, 0))


def _hand(
    wrist: Wrist, look: tuple[float, float], u: np.ndarray, v: np.ndarray, grain: np.ndarray
) -> np.ndarray:
    """Return the path through carpals, as many as the age has, and metacarpals."""
    s = wrist.size
    path = np.zeros(u.shape, dtype=np.float32)
    for first, along, across, back, halves in _CARPALS:
        grown = np.clip((wrist.age - first) / 8, 0, 1)
        if wrist.age < first:
            continue
        half_u, half_a, half_b = (h * s * (0.45 + 0.55 * grown) for h in halves)
        square = ((u - along * s) / half_u) ** 2
        size = np.sqrt(np.maximum(1 - square, 1e-6))
        off = v - (across * look[0] + back * look[1]) * s
        shell = _oval(look, half_a * size, half_b * size, off)
        core = _oval(look, 0.84 * half_a * size, 0.84 * half_b * size, off)
        path += np.where(square < 1, shell - core * (0.62 - 0.14 * grain), 0)
    for across, back, lean in _METACARPALS:
        begin = 28 * s if lean < 0.4 else 25 * s
        place = across * s - lean * (u - begin)
        off = v - place * look[0] - back * s * look[1]
        near = np.exp(-(u - begin) / (7 * s))
        half = s * (3.6 + 2.4 * np.clip(near, 0, 1))
        shell = _oval(look, half, half, off) - _oval(look, 0.6 * half, 0.6 * half, off) * 0.72
        path += shell * step(u - begin - 0.07 / s * off**2, 1.2)
    return path


def _cast(
    rng: np.random.Generator,
    wrist: Wrist,
    look: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    axes: list[np.ndarray],
) -> np.ndarray:
    """Return the attenuation of a plaster or fibre cast: a shell with a weave, open at its ends."""
    thick = rng.uniform(3, 6)
    half_a, half_b = wrist.tissue[0] * 1.22, wrist.tissue[1] * 1.2
    layer = _oval(look, half_a + thick, half_b + thick, v) - _oval(look, half_a, half_b, v)
    weave = smooth_field(rng, axes, (0.8, 2.5)) + smooth_field(rng, axes, (7, 9))
    ends = step(rng.uniform(30, 70) - u, 1.5)
    return 0.022 * layer * (1 + 0.12 * weave) * ends


def _wires(
    rng: np.random.Generator,
    wrist: Wrist,
    look: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    spacing: float,
) -> np.ndarray:
    """Return the attenuation of two steel wires across the end of the radius, if it has any."""
    total = np.zeros(u.shape)
    if not wrist.metal:
        return total
    middle = wrist.radius.a * look[0]
    for lean in rng.uniform(-0.5, 0.5, 2):
        off = np.abs(v - middle - lean * (u + 14))
        total += 2.2 * step(0.8 - off, spacing) * step(26 - np.abs(u + 12), 1)
    return total


def _film(
    rng: np.random.Generator, path: np.ndarray, metal: np.ndarray, axes: list[np.ndarray]
) -> np.ndarray:
    """Return 12-bit grey: photons, scatter, the detector's logarithm, collimation and marker."""
    exposure = rng.uniform(900, 2600)
    heel = 1 + 0.05 * smooth_field(rng, axes, 90)
    beam = exposure * heel * np.exp(-path - metal)
    beam = gaussian_filter(beam, 0.6) + 0.04 * gaussian_filter(beam, 14)
    counted = np.maximum(rng.poisson(beam), 1.0)
    shown = np.log(exposure / gaussian_filter(counted, 0.4))
    # The detector's processing spreads the limb over the greys; metal saturates.
    low, high = np.percentile(path, (3, 99.7))
    shown = (shown - low) / (high - low)
    shown = 1 / (1 + np.exp(-rng.uniform(5.0, 6.5) * (shown - rng.uniform(0.5, 0.62))))
    rows, columns = axes
    edges = rng.uniform(0, 7, 4)
    field = step(rows - rows.min() - edges[0], 1) * step(rows.max() - edges[1] - rows, 1)
    field = field * step(columns - columns.min() - edges[2], 1)
    field = field * step(columns.max() - edges[3] - columns, 1)
    top = (1 << BITS) - 1
    return np.clip(np.rint(shown * field * top), 0, top).astype(np.uint16)


def _boxes(
    wrist: Wrist,
    look: tuple[float, float],
    pose: _Pose,
    shape: tuple[int, int],
    spacing: float,
) -> np.ndarray:
    boxes = []
    for found in wrist.breaks:
        shaft = getattr(wrist, found.bone)
        s = wrist.size
        near = np.clip((found.place - shaft.end + 30 * s) / (30 * s), 0, 1)
        half_a = shaft.half_a * (1 + shaft.flare * near**1.7)
        half_b = shaft.half_b * (1 + 0.55 * shaft.flare * near**1.7)
        wide = float(np.hypot(half_a * look[0], half_b * look[1])) + 1.5
        long = {"complete": 5.5, "greenstick": 5.5, "torus": 4.5, "plate": 4.0}
        tall = long.get(found.kind, 4.0) * s + abs(found.slant) * wide
        middle = shaft.a * look[0] + shaft.b * look[1]
        if found.kind == "styloid":
            wide, middle = 4.5 * s, middle + 4.5 * s * look[0]
        middle += 0.5 * (found.shift[0] * look[0] + found.shift[1] * look[1])
        u = found.place + tall * np.array([-1, -1, 1, 1])
        v = middle + wide * np.array([-1, 1, -1, 1])
        down, across = pose.film(u, v)
        rows, columns = down / spacing + (shape[0] - 1) / 2, across / spacing + (shape[1] - 1) / 2
        box = [rows.min(), columns.min(), rows.max(), columns.max()]
        limits = [shape[0] - 1, shape[1] - 1] * 2
        box = [float(np.clip(b, 0, top)) for b, top in zip(box, limits, strict=True)]
        if box[2] > box[0] + 2 and box[3] > box[1] + 2:
            boxes.append(box)
    return np.array(boxes).reshape(-1, 4)
