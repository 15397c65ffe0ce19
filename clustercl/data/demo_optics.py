"""What lies between skin and picture in a synthetic dermoscopic photograph: vessels as lines, hair, rulers, gel, pen,
stickers, light, the dermatoscope's dark edge and the camera's noise."""

import numpy as np

from clustercl.data.demo_noise import fractal, sigmoid

OVERSAMPLING = 3  # lines are drawn this much larger and shrunk, which smooths their edges


def photograph(rng: np.random.Generator, light: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) in 0..1 to a photograph, uint8 (h, w, 3); `mask` (h, w) bool is kept clear of stickers."""
    from scipy import ndimage

    picture = light.astype(np.float32)
    shape = picture.shape[:2]
    if rng.uniform() < 0.12:
        picture = _sticker(rng, picture, mask)
    if rng.uniform() < 0.15:
        picture = _pen(rng, picture, mask)
    if rng.uniform() < 0.35:
        picture = _ruler(rng, picture)
    if rng.uniform() < 0.55:
        picture = _hair(rng, picture)
    picture = _gel(rng, picture)
    picture = ndimage.gaussian_filter(picture, (0.45, 0.45, 0))
    picture *= _illumination(rng, shape)[..., None] * rng.normal(1, 0.03, 3)
    if rng.uniform() < 0.45:
        picture = _dark_edge(rng, picture)
    noise = rng.normal(0, rng.uniform(0.004, 0.014), picture.shape)
    return np.rint(255 * (picture + noise).clip(0, 1)).astype(np.uint8)


def strokes(shape: tuple[int, int], lines: list[np.ndarray], widths: list[float]) -> np.ndarray:
    """Coverage (h, w) in 0..1 by polylines; each line (points, 2) as y, x in pixels, widths in pixels."""
    from PIL import Image, ImageDraw

    h, w = shape
    canvas = Image.new("L", (w * OVERSAMPLING, h * OVERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for line, width in zip(lines, widths):
        points = [(float(x) * OVERSAMPLING, float(y) * OVERSAMPLING) for y, x in line]
        draw.line(points, fill=255, width=max(1, round(width * OVERSAMPLING)), joint="curve")
    return np.asarray(canvas.resize((w, h), Image.Resampling.BOX), np.float32) / 255


def vessels(rng: np.random.Generator, inside: np.ndarray) -> np.ndarray:
    """Coverage (h, w) by vessels that start inside the lesion (`inside` > 0.5), wind and branch."""
    starts = np.argwhere(inside > 0.5)
    lines, widths = [], []
    for _ in range(rng.integers(10, 22)):
        heads = [(starts[rng.integers(len(starts))].astype(float), rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.9))]
        while heads:
            point, heading, width = heads.pop()
            line = [point]
            for _ in range(rng.integers(6, 16)):
                heading += rng.normal(0, 0.55)
                line.append(line[-1] + 2.5 * np.array([np.sin(heading), np.cos(heading)]))
            lines.append(np.array(line))
            widths.append(width)
            if width > 0.8:
                heads += [(line[-1], heading + turn, 0.62 * width) for turn in rng.uniform(0.3, 0.9, 2) * (1, -1)]
    return strokes(inside.shape, lines, widths)


def _over(picture: np.ndarray, cover: np.ndarray, colour) -> np.ndarray:
    cover = cover[..., None]
    return picture * (1 - cover) + np.asarray(colour, np.float32) * cover


def _hair(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A few to many hairs: quadratic Bezier curves of one rough direction, dark on most people, blond on some."""
    shape = np.array(picture.shape[:2])
    count = rng.integers(3, 10) if rng.uniform() < 0.6 else rng.integers(10, 34)
    direction, thickness = rng.uniform(0, np.pi), rng.uniform(0.6, 1.5)
    t = np.linspace(0, 1, 24)[:, None]
    lines = []
    for _ in range(count):
        angle = direction + rng.normal(0, 0.45)
        step = rng.uniform(0.3, 1.1) * shape.min() * np.array([np.sin(angle), np.cos(angle)])
        start = rng.uniform(-0.15, 1.0, 2) * shape
        bend = start + step / 2 + rng.normal(0, 0.14, 2) * shape
        lines.append((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * (start + step))
    cover = strokes(tuple(shape), lines, list(thickness * rng.uniform(0.7, 1.3, count)))
    colour = ((0.10, 0.07, 0.06), (0.24, 0.15, 0.09), (0.52, 0.40, 0.26))[rng.choice(3, p=(0.5, 0.35, 0.15))]
    return _over(picture, rng.uniform(0.6, 0.9) * cover, colour)


def _ruler(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A millimetre scale along the lower edge, a little askew."""
    h, w = picture.shape[:2]
    length, tilt, gap = rng.uniform(0.4, 0.8) * w, rng.normal(0, 0.16), rng.uniform(5, 9)
    along, up = np.array([np.sin(tilt), np.cos(tilt)]), np.array([-np.cos(tilt), np.sin(tilt)])
    start = np.array([rng.uniform(0.86, 0.95) * h, rng.uniform(0.05, 0.9 - length / w) * w])
    lines, widths = [np.array([start, start + length * along])], [1.0]
    for tick in range(int(length / gap) + 1):
        foot = start + tick * gap * along
        lines.append(np.array([foot, foot + (8 if tick % 5 == 0 else 4) * up]))
        widths.append(0.7)
    return _over(picture, 0.75 * strokes((h, w), lines, widths), (0.12, 0.11, 0.12))


def _pen(rng: np.random.Generator, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Purple scribbles of a surgical pen beside the lesion."""
    shape = mask.shape
    outside = np.argwhere(~mask)
    lines = []
    for _ in range(rng.integers(1, 4)):
        centre = outside[rng.integers(len(outside))]
        heading = rng.uniform(0, np.pi)
        for _ in range(rng.integers(3, 8)):
            reach = rng.uniform(5, 14) * np.array([np.sin(heading), np.cos(heading)]) + rng.normal(0, 1.5, 2)
            lines.append(centre + rng.normal(0, 2.5, 2) + np.array([-reach, 0 * reach, reach]))
    cover = strokes(shape, lines, [0.8] * len(lines)) * sigmoid(2 * fractal(rng, shape, 5, 1) + 1.5) * ~mask
    return _over(picture, 0.7 * cover, (0.42, 0.20, 0.55))


def _sticker(rng: np.random.Generator, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A coloured paper disc that reaches in from the edge, never over the lesion."""
    h, w = mask.shape
    y, x = np.ogrid[:h, :w]
    centre = ((rng.uniform(0, h), rng.choice([-0.04, 1.04]) * w), (rng.choice([-0.04, 1.04]) * h, rng.uniform(0, w)))
    cy, cx = centre[rng.integers(2)]
    colours = ((0.05, 0.50, 0.80), (0.45, 0.80, 0.80), (0.93, 0.50, 0.08), (0.20, 0.60, 0.35), (0.88, 0.20, 0.55))
    colour = np.array(colours[rng.integers(len(colours))])
    distance = np.hypot(y - cy, x - cx)
    clear = distance[mask].min() - 4
    radius = min(rng.uniform(0.22, 0.42) * min(h, w), clear)
    paper = 1 + 0.04 * fractal(rng, (h, w), 3, 2)[..., None]
    return _over(picture, sigmoid(2 * (radius - distance)), colour * paper) if radius > 8 else picture


def _gel(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Air bubbles in the gel: a thin dark ring with a bright one inside, and a highlight."""
    h, w = picture.shape[:2]
    y, x = np.ogrid[:h, :w]
    for _ in range(rng.poisson(5) if rng.uniform() < 0.4 else 0):
        centre, radius = rng.uniform((0, 0), (h, w)), 2.0 + rng.exponential(4.5)
        distance = np.hypot(y - centre[0], x - centre[1])
        picture = _over(picture, 0.25 * np.exp(-((distance - radius) ** 2)), (0.15, 0.1, 0.1))
        picture = _over(picture, 0.35 * np.exp(-((distance - radius + 1.5) ** 2)), (1, 1, 1))
        spark = np.hypot(y - centre[0] + 0.45 * radius, x - centre[1] + 0.45 * radius)
        picture = _over(picture, 0.9 * np.exp(-((spark / (0.18 * radius + 0.5)) ** 2)), (1, 1, 1))
    return picture


def _illumination(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Exposure, a gradient across the picture, and a fall-off towards its corners."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.12) * (np.cos(angle) * x + np.sin(angle) * y)
    return rng.uniform(0.88, 1.06) * (1 + slope - rng.uniform(0.02, 0.14) * (x**2 + y**2) / 2)


def _dark_edge(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """The round field of the dermatoscope: everything beyond it is nearly black."""
    h, w = picture.shape[:2]
    y, x = np.ogrid[:h, :w]
    centre = np.array([h, w]) / 2 + rng.normal(0, 0.015, 2) * (h, w)
    radius = rng.uniform(0.84, 0.98) * np.hypot(h, w) / 2
    beyond = sigmoid((np.hypot(y - centre[0], x - centre[1]) - radius) / rng.uniform(0.6, 2.5))
    return _over(picture, 0.97 * beyond, (0.03, 0.03, 0.04))
