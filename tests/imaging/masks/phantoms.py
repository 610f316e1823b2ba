"""Bodies made of balls, tubes and boxes, with the truth of every organ, for masks."""

import numpy as np

from tasks.imaging.step import Image

AIR, LUNG, FAT, TISSUE, CORTEX = -1000, -800, -100, 50, 700


def axial_affine(spacing: tuple[float, float, float]) -> np.ndarray:
    """Slices from feet to head, rows from front to back, columns from right to left."""
    dz, dy, dx = spacing
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, dx], [0, dy, 0], [dz, 0, 0]]
    return affine


def _axes(shape, spacing):
    """Return z from the feet, and y and x from the middle, in mm."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    dz, dy, dx = spacing
    return z * dz, (y - (shape[1] - 1) / 2) * dy, (x - (shape[2] - 1) / 2) * dx


def chest(shape=(48, 100, 120), spacing=(5.0, 3.0, 3.0), noise=15.0) -> tuple[Image, dict]:
    """Return a CT of trunk, lungs, airways, bowel gas, spine and table, and its masks by name."""
    z, y, x = _axes(shape, spacing)
    tall = shape[0] * spacing[0]
    body = (x / 150) ** 2 + (y / 100) ** 2 + 0 * z < 1
    centre, reach = 0.55 * tall, 0.35 * tall
    sides = [
        ((x - side * 70) / 52) ** 2 + (y / 70) ** 2 + ((z - centre) / reach) ** 2 < 1
        for side in (-1, 1)
    ]
    lungs = sides[0] | sides[1]
    trachea = (x**2 + (y - 10) ** 2 < 9**2) & (z > centre)
    bronchi = np.zeros(shape, bool)
    for side in (-1, 1):
        middle = side * (centre - z) * 0.7
        bronchi |= ((x - middle) ** 2 + (y - 10) ** 2 < 7**2) & (z <= centre) & (z > centre - 40)
    vessel = ((x - 70) ** 2 + (y + 10) ** 2 < 5**2) & lungs
    nodule = (x - 113) ** 2 + y**2 + (z - centre) ** 2 < 9**2
    gas = (x + 30) ** 2 + (y + 50) ** 2 + (z - 0.1 * tall) ** 2 < 18**2
    spine = (x**2 + (y - 68) ** 2 < 22**2) & (z >= 0)
    marrow = (x**2 + (y - 68) ** 2 < 8**2) & (z >= 0)
    table = (np.abs(y - 112) < 4) & (np.abs(x) < 170) & (z >= 0)
    array = np.full(shape, float(AIR))
    for where, value in (
        (body, TISSUE),
        (lungs, LUNG),
        (vessel | nodule & body, TISSUE),
        (trachea | bronchi | gas, AIR),
        (spine, CORTEX),
        (marrow, 0),
        (table, -200),
    ):
        array[where & np.ones(shape, bool)] = value
    array += np.random.default_rng(5).normal(0, noise, shape)
    truth = {
        "body": body & np.ones(shape, bool),
        "lung": (lungs | nodule & body) & ~trachea & ~bronchi,
        "airways": trachea | bronchi,
        "nodule": nodule & body,
        "vessel": vessel,
        "gas": gas,
        "bone": spine & np.ones(shape, bool),
        "table": table,
    }
    facts = {"modality": "CT"}
    return Image(np.rint(array).astype(np.int16), axial_affine(spacing), {}, facts), truth


def head(shape=(44, 72, 64), spacing=(4.0, 3.0, 3.0)) -> tuple[Image, dict]:
    """Return a T1 of scalp, skull, brain, ventricle, a bright tumour at its edge, and neck."""
    z, y, x = _axes(shape, spacing)
    up = z - 95
    radius = np.sqrt((x / 70) ** 2 + (y / 85) ** 2 + (up / 68) ** 2)
    neck = ((x / 60) ** 2 + (y / 70) ** 2 < 1) & (z < 40)
    brain = radius < 0.9
    tumour = (x - 52) ** 2 + (y - 10) ** 2 + (up - 10) ** 2 < 9**2
    cord = ((x**2 + y**2) < 5**2) & (z < 60)
    array = np.zeros(shape)
    for where, value in (
        (neck, 550),
        (radius < 1.12, 1500),
        (radius < 1.02, 100),
        (brain, 600),
        (tumour, 1300),
        (radius < 0.2, 250),
        (cord, 600),
    ):
        array[where & np.ones(shape, bool)] = value
    array += np.abs(np.random.default_rng(6).normal(0, 12, shape))
    truth = {"brain": brain, "tumour": tumour & brain}
    facts = {"modality": "MR"}
    return Image(np.rint(array).astype(np.int16), axial_affine(spacing), {}, facts), truth


def mammogram(shape=(240, 180), spacing=1.0) -> tuple[Image, np.ndarray]:
    """Return a view of a breast at the left edge with a label beside it, and the breast."""
    y, x = np.ogrid[tuple(slice(n) for n in shape)]
    depth = 1 - (x / 110) ** 2 - ((y - 120) / 95) ** 2
    breast = depth > 0
    array = np.where(breast, 400 + 2200 * np.sqrt(np.maximum(depth, 0)), 40.0)
    array[20:32, 140:165] = 4000
    array += np.random.default_rng(7).normal(0, 10, shape)
    affine = axial_affine((1.0, spacing, spacing))
    view = np.clip(np.rint(array), 0, 4095).astype(np.uint16)[None]
    return Image(view, affine, {}, {"modality": "MG"}), breast


def balls(shape=(20, 40, 60), spacing=(2.0, 1.0, 1.0)) -> Image:
    """Return mask ``balls``: two that touch, a third apart, and a cavity in the largest."""
    z, y, x = _axes(shape, spacing)
    z = z - shape[0] * spacing[0] / 2
    middles = ((-14, 0, 11), (4, 0, 9), (23, 8, 6))
    mask = np.zeros(shape, bool)
    for at, up, radius in middles:
        mask |= (x - at) ** 2 + (y - up) ** 2 + z**2 < radius**2
    mask &= (x + 14) ** 2 + y**2 + z**2 > 2.5**2
    array = np.where(mask, 300, 20).astype(np.int16)
    return Image(array, axial_affine(spacing), {"balls": mask.astype(np.uint8)}, {})


def framed(shape=(150, 130), field=(20, 118, 15, 110), tilt_deg=0.0, outside=0.0):
    """Return a radiograph whose beam reached (top, bottom, left, right) alone, and that field."""
    y, x = (axis.astype(float) for axis in np.ogrid[tuple(slice(n) for n in shape)])
    slope = np.tan(np.radians(tilt_deg))
    top, bottom, left, right = field
    row, column = y - slope * (x - shape[1] / 2), x + slope * (y - shape[0] / 2)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    anatomy = 130 + 60 * np.sin(x / 9) * np.cos(y / 13) + 25 * np.sin(y / 5)
    noise = np.random.default_rng(8).normal(0, 2, shape)
    array = np.where(inside, anatomy, outside) + noise
    view = np.clip(np.rint(array), 0, 255).astype(np.uint8)[None]
    return Image(view, axial_affine((1.0, 1.0, 1.0)), {}, {"modality": "DX"}), inside
