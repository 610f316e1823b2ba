"""Path lengths of X-rays through a drawn wrist: soft tissue, long bones, carpals, metacarpals.

Bones are stacks of ellipses along the limb, so that one bone in three dimensions is seen from any
angle about it: `look` is the cosine and sine of that angle. Places are (u, v) of the film: along
the limb and across it, in mm.
"""

import math

import numpy as np

from tasks.phantom.fields import step
from tasks.phantom.wrist import Break, Shaft, Wrist

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


def through_oval(
    look: tuple[float, float], half_a: np.ndarray, half_b: np.ndarray, off: np.ndarray
) -> np.ndarray:
    """Return the path length through an ellipse seen at an angle, `off` mm from its middle."""
    wide = np.sqrt((half_a * look[0]) ** 2 + (half_b * look[1]) ** 2)
    return 2 * half_a * half_b / wide * np.sqrt(np.maximum(1 - (off / wide) ** 2, 0))


def through_tissue(
    wrist: Wrist, look: tuple[float, float], u: np.ndarray, v: np.ndarray, lumps: np.ndarray
) -> np.ndarray:
    """Return the path through soft tissue in mm of muscle; fat below the skin counts less.

    Parameters
    ----------
    wrist : Wrist
    look : (float, float)
        Direction of the beam across the arm, of length 1.
    u, v : arrays (y, x)
        Place on the detector in mm, along the arm (towards the hand) and across it.
    lumps : array (y, x)
        Unevenness of the tissue, about 0.
    """
    half_a, half_b = wrist.tissue
    along = 1 + 0.0035 * np.clip(-u, 0, 80) - 0.06 * np.exp(-(((u - 2) / 18) ** 2))
    along = along * (1 + wrist.swelling * np.exp(-(((u + 14) / 22) ** 2)))
    hand = 1 / (1 + np.exp(-(u - 12) / 7))
    palm = half_a * along * (1 + 0.42 * hand * wrist.size**0.2)
    muscle = through_oval(look, palm * 0.9, half_b * along * 0.86, v)
    skin = through_oval(look, palm + 0.8, half_b * along + 0.8, v)
    return muscle * (1 + 0.03 * lumps) + 0.75 * (skin - muscle)


def through_bones(
    rng: np.random.Generator,
    wrist: Wrist,
    look: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    grain: np.ndarray,
    spacing: float,
) -> np.ndarray:
    """Return the path through all bones in mm of cortex, fractures where the wrist has them.

    Parameters
    ----------
    rng : numpy Generator
    wrist : Wrist
    look, u, v
        As of `through_tissue`.
    grain : array (y, x)
        Texture of spongy bone, about 0.
    spacing : float
        Of the detector's pixels, in mm.
    """
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
    teeth = teeth.astype(np.float32)
    line = found.place + found.slant * off
    shift = found.shift[0] * look[0] + found.shift[1] * look[1]
    bend = found.bend[0] * look[0] + found.bend[1] * look[1]
    du, dv = u - found.place, off - shift
    far_u = found.place + du * math.cos(bend) + dv * math.sin(bend)
    far_v = middle + dv * math.cos(bend) - du * math.sin(bend)
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
    outside = through_oval(look, half_a, half_b, off)
    inside = through_oval(look, half_a * inner, half_b * inner, off)
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
        if wrist.age < first:
            continue
        grown = min((wrist.age - first) / 8, 1)
        half_u, half_a, half_b = (h * s * (0.45 + 0.55 * grown) for h in halves)
        rows = _rows(np.abs(u - along * s).min(axis=1) < half_u)
        square = ((u[rows] - along * s) / half_u) ** 2
        size = np.sqrt(np.maximum(1 - square, 1e-6))
        off = v[rows] - (across * look[0] + back * look[1]) * s
        shell = through_oval(look, half_a * size, half_b * size, off)
        core = through_oval(look, 0.84 * half_a * size, 0.84 * half_b * size, off)
        path[rows] += np.where(square < 1, shell - core * (0.62 - 0.14 * grain[rows]), 0)
    for across, back, lean in _METACARPALS:
        begin = 28 * s if lean < 0.4 else 25 * s
        rows = _rows(u.max(axis=1) > begin - 1)
        beyond = u[rows] - begin
        off = v[rows] - (across * s - lean * beyond) * look[0] - back * s * look[1]
        half = s * (3.6 + 2.4 * np.clip(np.exp(-beyond / (7 * s)), 0, 1))
        shell = (
            through_oval(look, half, half, off)
            - through_oval(look, 0.6 * half, 0.6 * half, off) * 0.72
        )
        path[rows] += shell * step(beyond - 0.07 / s * off**2, 1.2)
    return path


def _rows(inside: np.ndarray) -> slice:
    """Return the rows from the first to the last that are inside: less to draw."""
    found = np.flatnonzero(inside)
    return slice(found[0], found[-1] + 1) if found.size else slice(0, 0)
