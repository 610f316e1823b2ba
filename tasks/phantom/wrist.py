"""A drawn wrist of a child or adolescent, in bones of three dimensions, before it is X-rayed.

Synthetic. Ages, kinds of fractures and their shares are those of the GRAZPEDWRI-DX table (Nagy et
al., Sci Data 2022, CC BY 4.0; 20,327 radiographs of 6,091 patients; no image of it is used).
Coordinates are mm: u along the forearm (0 at the wrist, positive to the hand), a from thumb to
little finger, b from palm to back.
"""

from dataclasses import dataclass

import numpy as np

from tasks.phantom.fields import check_difficulty

AGE_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
AGES = (0.2, 4.6, 8.5, 11.2, 13.6, 16.5, 19.0)
"""Ages in years at these quantiles of the table."""

FRACTURED = 0.696
"""Share of studies with a fracture."""

CAST, METAL = 0.284, 0.026
"""Shares of pictures with a cast and with metal. Here they know nothing of the fracture; in the
table 96 % of pictures with a cast show one, which would be a shortcut."""

CLOSING_AGE = {True: 15.5, False: 17.0}
"""Age at which the growth plates close, of girls and boys; later than that none is drawn."""

KINDS = {
    # AO paediatric code: (count in the table, kind, bones broken)
    "23r-M/3.1": (5174, "complete", ("radius",)),
    "23r-M/2.1": (3637, "torus", ("radius",)),
    "23u-E/7": (3209, "styloid", ("ulna",)),
    "23u-M/2.1": (2333, "torus", ("ulna",)),
    "23-M/3.1": (1669, "complete", ("radius", "ulna")),
    "23r-E/2.1": (1430, "plate", ("radius",)),
    "23-M/2.1": (1412, "torus", ("radius", "ulna")),
    "22r-D/2.1": (162, "greenstick", ("radius",)),
    "22-D/2.1": (88, "greenstick", ("radius", "ulna")),
    "22r-D/4.1": (83, "complete", ("radius",)),
}
"""The commonest fractures; D lies in the shaft, M near the wrist, E in the plate or beyond."""

SEVERITY = {"easy": (1.0, 1.5), "standard": (0.45, 1.1), "hard": (0.2, 0.6)}
"""Range of displacement, gap and bulge by difficulty, over what is usual."""


@dataclass(frozen=True)
class Shaft:
    """A long bone: its axis, half widths and wall, in mm.

    Attributes
    ----------
    a, b : float
        Place of the axis.
    half_a, half_b : float
        Of the shaft.
    flare : float
        How much wider the end at the wrist is.
    end : float
        u of the joint surface.
    wall : float
        Share of the half width that is cortex.
    plate : float
        How far the growth plate lies from the end; 0 when closed.
    """

    a: float
    b: float
    half_a: float
    half_b: float
    flare: float
    end: float
    wall: float
    plate: float


@dataclass(frozen=True)
class Break:
    """A fracture of one bone.

    Attributes
    ----------
    bone, kind : str
    place : float
        u in mm.
    slant : float
        mm along per mm across.
    gap : float
        mm; negative where the parts overlap.
    shift : tuple of float
        (a, b) in mm of the far part.
    bend : tuple of float
        (a, b) in radians of the far part.
    bulge : float
        Of the cortex, share of the half width.
    side : float
        1 or -1: the side a greenstick fracture has broken.
    """

    bone: str
    kind: str
    place: float
    slant: float
    gap: float
    shift: tuple[float, float]
    bend: tuple[float, float]
    bulge: float
    side: float


@dataclass(frozen=True)
class Wrist:
    """A patient's wrist at one visit.

    Attributes
    ----------
    age : float
        Years.
    female, left : bool
    size : float
        1 for a grown-up hand.
    radius, ulna : Shaft
    tissue : tuple of float
        Half widths of the limb at the wrist, (a, b) in mm.
    density : float
        Of the marrow's trabeculae, share of cortex.
    code : str
        AO code of the fracture, empty without one.
    breaks : tuple of Break
    cast, metal : bool
    swelling : float
        Share by which the soft tissue is wider; with or without a fracture.
    seed : int
        Of trabeculae and noise.
    """

    age: float
    female: bool
    left: bool
    size: float
    radius: Shaft
    ulna: Shaft
    tissue: tuple[float, float]
    density: float
    code: str
    breaks: tuple[Break, ...]
    cast: bool
    metal: bool
    swelling: float
    seed: int


def draw_wrist(seed: int, *, difficulty: str = "standard", fractured: bool | None = None) -> Wrist:
    """Draw one wrist.

    Parameters
    ----------
    seed : int
        Same seed, same wrist.
    difficulty : str
        One of :data:`tasks.phantom.fields.DIFFICULTIES`: how far fractures are displaced.
    fractured : bool, optional
        Drawn with the table's share when not given.

    Raises
    ------
    ValueError
        For an unknown difficulty.
    """
    check_difficulty(difficulty)
    rng = np.random.default_rng([seed, 14])
    age = float(np.interp(rng.random(), AGE_LEVELS, AGES))
    female = bool(rng.random() < 0.41)
    size = (0.52 + 0.48 * min(age, 17) / 17) * (0.95 if female else 1)
    size = float(size * rng.uniform(0.93, 1.07))
    young = age < CLOSING_AGE[female]
    radius = Shaft(
        a=-8.5 * size,
        b=0.0,
        half_a=float(rng.uniform(5.6, 6.8) * size),
        half_b=float(rng.uniform(5.0, 6.0) * size),
        flare=rng.uniform(0.95, 1.25),
        end=2.0,
        wall=rng.uniform(0.30, 0.40),
        plate=rng.uniform(6.0, 7.5) * size if young else 0.0,
    )
    ulna = Shaft(
        a=11.0 * size,
        b=1.5 * size,
        half_a=rng.uniform(4.6, 5.6) * size,
        half_b=rng.uniform(4.6, 5.4) * size,
        flare=rng.uniform(0.30, 0.5),
        end=-1.5 * size,
        wall=rng.uniform(0.32, 0.44),
        # The ulna's own centre of growth shows from about six years on.
        plate=rng.uniform(4.5, 5.5) * size if young and age > 6 else 0.0,
    )
    broken = bool(rng.random() < FRACTURED)
    code, breaks = "", ()
    if broken if fractured is None else fractured:
        counts = np.array([count for count, _, _ in KINDS.values()], dtype=float)
        code = list(KINDS)[rng.choice(len(KINDS), p=counts / counts.sum())]
        bones = {"radius": radius, "ulna": ulna}
        force = rng.uniform(*SEVERITY[difficulty])
        side = float(rng.choice([-1.0, 1.0]))
        breaks = tuple(
            _draw_break(rng, bone, bones[bone], code, size, force, side) for bone in KINDS[code][2]
        )
    return Wrist(
        age=age,
        female=female,
        left=bool(rng.random() < 0.548),
        size=float(size),
        radius=radius,
        ulna=ulna,
        tissue=(float(rng.uniform(25, 30) * size), float(rng.uniform(17, 22) * size)),
        density=float(rng.uniform(0.14, 0.26)),
        code=code,
        breaks=breaks,
        cast=bool(rng.random() < CAST),
        metal=bool(rng.random() < METAL),
        swelling=float(rng.uniform(0, 0.14)),
        seed=int(rng.integers(2**31)),
    )


def _draw_break(
    rng: np.random.Generator,
    bone: str,
    shaft: Shaft,
    code: str,
    size: float,
    force: float,
    side: float,
) -> Break:
    kind = KINDS[code][1]
    low, high = (-58, -38) if "-D/" in code else (-26, -12)
    place = shaft.end + size * rng.uniform(low, high)
    if kind == "plate":
        place = shaft.end - (shaft.plate or 6 * size)
    elif kind == "styloid":
        place = shaft.end + 1.5 * size
    bends = {"complete": (3, 16), "torus": (1, 6), "greenstick": (6, 18), "plate": (2, 9)}
    shifts = {"complete": (0.8, 4.5), "plate": (0.8, 3.5)}
    shift = rng.uniform(*shifts.get(kind, (0.0, 0.0))) * force
    # Most tilt to the back of the hand, so that the side view shows more.
    ways = rng.normal([0.0, side], [0.5, 0.25])
    bend = np.radians(rng.uniform(*bends.get(kind, (0, 0)))) * force * ways
    moved = shift * rng.normal([0.0, side], [0.5, 0.3])
    return Break(
        bone=bone,
        kind=kind,
        place=float(place),
        slant=float(rng.uniform(-0.35, 0.35) if kind in {"complete", "greenstick"} else 0.0),
        gap=float(rng.uniform(-0.8, 1.3) * force if kind == "complete" else 0.6 * force),
        shift=(float(moved[0]), float(moved[1])),
        bend=(float(bend[0]), float(bend[1])),
        bulge=float(rng.uniform(0.07, 0.16) * force if kind == "torus" else 0.0),
        side=side,
    )
