"""What goes wrong with images, done to images in real units: arrays in, arrays of the shape out.

Every function takes an image (z, y, x), a strength, the spacing (z, y, x) in mm and a generator,
and returns float32. What is random is drawn in the same order at every strength, so that a stronger
corruption is the same one, only stronger.

The design is that of MedMNIST-C (Di Salvo et al. 2024, arXiv:2406.17536): per modality what its
machines do, in five severities. The k-space of magnetic resonance is that of each slice on its own,
phase encoded along y.
"""

import io

import numpy as np

RANGE_PERCENTILES = (0.5, 99.5)
"""Grey values taken as the ends of an image's own range: one dead pixel must not set the scale."""

FIELD_ORDER = 3
"""Highest power of the polynomial that a bias field is the exponential of, as in TorchIO."""

MOTION_STEPS = 4
"""Positions that a patient takes during a scan."""

SHARPEN_MM = 0.7
"""Blur whose difference from the image is added: about the width a soft kernel leaves."""

JPEG_LEVELS = 255
"""Grey values of a JPEG beyond 0."""


def noise(image, strength, spacing, rng):
    """Add white noise of so many times the image's range."""
    low, high = grey_range(image)
    return _float(image) + strength * (high - low) * _normal(image, rng)


def blur(image, strength, spacing, rng):
    """Blur within the slice; the sigma is a share of the longer side."""
    from scipy.ndimage import gaussian_filter

    sigma = strength * max(image.shape[1:])
    return gaussian_filter(_float(image), (0, sigma, sigma), mode="nearest")


def brightness(image, strength, spacing, rng):
    """Multiply, and saturate where the image's own range ends."""
    return _shown(image, lambda grey: grey * strength)


def contrast(image, strength, spacing, rng):
    """Stretch about the mean grey value, and saturate where the image's own range ends."""
    return _shown(image, lambda grey: (grey - grey.mean()) * strength + grey.mean())


def gamma(image, strength, spacing, rng):
    """Raise grey values between 0 and 1 to a power."""
    return _shown(image, lambda grey: grey**strength)


def jpeg(image, strength, spacing, rng):
    """Write each slice as an 8-bit JPEG of a quality and read it back."""
    from PIL import Image

    def through(grey: np.ndarray) -> np.ndarray:
        out = np.empty_like(grey)
        for number, plane in enumerate(grey):
            stream = io.BytesIO()
            levels = np.rint(plane * JPEG_LEVELS).astype(np.uint8)
            Image.fromarray(levels).save(stream, "jpeg", quality=int(strength))
            out[number] = np.asarray(Image.open(stream), np.float32) / JPEG_LEVELS
        return out

    return _shown(image, through)


def pixelate(image, strength, spacing, rng):
    """Give so large a share of the rows and columns, each pixel the mean of what it stands for."""
    import cv2

    rows, columns = image.shape[1:]
    small = (max(1, round(columns * strength)), max(1, round(rows * strength)))
    planes = [
        cv2.resize(
            cv2.resize(plane, small, interpolation=cv2.INTER_AREA),
            (columns, rows),
            interpolation=cv2.INTER_NEAREST,
        )
        for plane in _float(image)
    ]
    return np.stack(planes)


def add(image, strength, spacing, rng):
    """Add a number of the image's unit, such as Hounsfield units."""
    return _float(image) + np.float32(strength)


def unit_noise(image, strength, spacing, rng):
    """Add white noise whose standard deviation is in the image's unit."""
    return _float(image) + np.float32(strength) * _normal(image, rng)


def smooth_kernel(image, strength, spacing, rng):
    """Blur within the slice by a sigma in mm, as a softer reconstruction kernel does."""
    from scipy.ndimage import gaussian_filter

    sigma = (0, strength / spacing[1], strength / spacing[2])
    return gaussian_filter(_float(image), sigma, mode="nearest")


def sharp_kernel(image, strength, spacing, rng):
    """Add so many times what a blur of `SHARPEN_MM` takes away: noise and edges grow."""
    image = _float(image)
    return image + np.float32(strength) * (image - smooth_kernel(image, SHARPEN_MM, spacing, rng))


def thick_slices(image, strength, spacing, rng):
    """Give each slice as the mean of so many slices around it, ends weighted by their share."""
    from scipy.ndimage import correlate1d

    side = (strength - 1) / 2
    whole = int(side)
    ends = [side - whole] if side > whole else []
    kernel = np.array([*ends, *np.ones(2 * whole + 1), *ends]) / strength
    return correlate1d(_float(image), kernel, axis=0, mode="nearest")


def bias_field(image, strength, spacing, rng):
    """Multiply by the exponential of a smooth polynomial whose largest size is the strength."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) if n > 1 else np.zeros(1) for n in image.shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    powers = [
        (i, j, k)
        for i in range(FIELD_ORDER + 1)
        for j in range(FIELD_ORDER + 1 - i)
        for k in range(FIELD_ORDER + 1 - i - j)
        if i + j + k
    ]
    drawn = zip(powers, rng.uniform(-1, 1, len(powers)), strict=True)
    field = sum(c * z**i * y**j * x**k for (i, j, k), c in drawn) + np.zeros(image.shape)
    largest = np.abs(field).max()
    return (_float(image) * np.exp(strength * field / (largest or 1.0))).astype(np.float32)


def ghosting(image, strength, spacing, rng):
    """Weaken every other phase-encoding line, which lays a ghost half a field away."""

    def weakened(lines: np.ndarray) -> np.ndarray:
        lines = lines.copy()
        # The centre, which holds the brightness, stays.
        lines[:, 1::2] *= 1 - strength
        return lines

    return _in_k_space(image, weakened)


def motion(image, strength, spacing, rng):
    """Move the patient by up to so many mm within the slice, in `MOTION_STEPS` sudden steps."""
    steps = rng.uniform(-1, 1, (MOTION_STEPS, 2))
    ends = np.sort(rng.uniform(0, 1, MOTION_STEPS - 1))

    def moved(lines: np.ndarray) -> np.ndarray:
        rows, columns = lines.shape[1:]
        when = np.fft.ifftshift(np.arange(rows)) / rows
        position = steps[np.searchsorted(ends, when)] * strength / np.asarray(spacing[1:])
        # Where the centre of k-space was taken is where the patient is seen to be.
        position = position - position[0]
        fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None]
        turn = fy * position[:, :1] + fx * position[:, 1:]
        return lines * np.exp(-2j * np.pi * turn)

    return _in_k_space(image, moved)


def rician(image, strength, spacing, rng):
    """Take the size of the signal with noise in both channels (Gudbjartsson and Patz 1995)."""
    _, high = grey_range(image)
    size = np.float32(strength * max(high, 0.0))
    real, imaginary = _normal(image, rng), _normal(image, rng)
    return np.hypot(_float(image) + size * real, size * imaginary)


def speckle(image, strength, spacing, rng):
    """Multiply by noise about 1."""
    return _float(image) * (1 + np.float32(strength) * _normal(image, rng))


def motion_blur(image, strength, spacing, rng):
    """Smear along one direction of the slice; the length is a share of the longer side."""
    import cv2

    angle = rng.uniform(0, np.pi)
    length = strength * max(image.shape[1:])
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 2, 2 * half + 2), np.float32)
    # Points of the line are shared among the four pixels around each: the length is no step.
    for along in np.linspace(-length / 2, length / 2, 16 * half + 1):
        row, column = half + along * np.sin(angle), half + along * np.cos(angle)
        top, left = int(np.floor(row)), int(np.floor(column))
        down, right = row - top, column - left
        share = np.outer([1 - down, down], [1 - right, right])
        kernel[top : top + 2, left : left + 2] += share
    kernel = kernel[:-1, :-1] / kernel.sum()
    border = cv2.BORDER_REPLICATE
    return np.stack([cv2.filter2D(p, -1, kernel, borderType=border) for p in _float(image)])


def grey_range(image: np.ndarray) -> tuple[float, float]:
    """Return the ends of an image's own range: `RANGE_PERCENTILES`, or all where they meet."""
    low, high = np.percentile(image, RANGE_PERCENTILES)
    if high <= low:
        low, high = image.min(), image.max()
    return float(low), float(high)


def _float(image: np.ndarray) -> np.ndarray:
    return np.asarray(image, np.float32)


def _normal(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(image.shape, np.float32)


def _shown(image: np.ndarray, change) -> np.ndarray:
    """Change grey values between 0 and 1, clipped before and after, and scale them back."""
    low, high = grey_range(image)
    if high <= low:
        return _float(image)
    grey = np.clip((_float(image) - low) / (high - low), 0, 1)
    return (low + np.clip(change(grey), 0, 1) * (high - low)).astype(np.float32)


def _in_k_space(image: np.ndarray, change) -> np.ndarray:
    """Change the spectrum (z, ky, kx) of the slices and return the size of what comes back."""
    image = _float(image)
    base = min(float(image.min()), 0.0)
    lines = change(np.fft.fft2(image - base, axes=(1, 2)))
    return (np.abs(np.fft.ifft2(lines, axes=(1, 2))) + base).astype(np.float32)
