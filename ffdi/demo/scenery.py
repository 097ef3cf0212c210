"""The surroundings of a face: an out-of-focus backdrop and clothes. Linear RGB, (3, S, S) float32."""

import numpy as np
from numpy.random import Generator

from ffdi.demo.fields import Field, noise, resize, step

_COARSE = 48  # backdrops are out of focus: drawn this small, then enlarged


def _colour(random: Generator, bright: float) -> Field:
    """A muted random colour as (3, 1, 1)."""
    hue = random.uniform(0, 2 * np.pi)
    tint = 1 + random.uniform(0.05, 0.4) * np.cos(hue + np.array([0, 2.1, 4.2]))
    return (float(bright) * tint).astype(np.float32)[:, None, None]


def backdrop(random: Generator, size: int) -> Field:
    """A wall, a landscape or a room, blurred, with lights and dark shapes that differ from shot to shot."""
    line = np.linspace(-1, 1, _COARSE, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    turn = random.uniform(0, 2 * np.pi)
    ramp = step(-1.2, 1.2, x * np.cos(turn) + y * np.sin(turn) + 0 * (x + y))
    bright = np.exp(random.uniform(-3.5, -0.5))
    scene = _colour(random, bright) * (1 - ramp) + _colour(random, np.exp(random.uniform(-3.5, -0.5))) * ramp
    for _ in range(random.integers(4, 9)):
        at_x, at_y = random.uniform(-1.1, 1.1, 2)
        wide, tall = random.uniform(0.15, 0.8, 2)
        if random.random() < 0.5:
            r = np.sqrt(((x - at_x) / wide) ** 2 + ((y - at_y) / tall) ** 2)
        else:
            r = np.maximum(np.abs(x - at_x) / wide, np.abs(y - at_y) / (2 * tall))
        soft = random.uniform(0.1, 0.4)
        mask = step(1 + soft, 1 - soft, r) * random.uniform(0.6, 1)
        scene = scene + (_colour(random, float(random.choice([0.015, 0.08, 0.3, 0.8]))) - scene) * mask
    scene = scene * (1 + 0.12 * noise(random, (_COARSE, _COARSE), 5, 2))
    return np.clip(resize(np.ascontiguousarray(scene, np.float32), size, size), 0.002, None)


def clothes(random: Generator, canvas: Field, x: Field, y: Field, key: float) -> None:
    """Draw shoulders and a garment over the canvas; x and y are head coordinates (S, S)."""
    colour, second = _colour(random, float(random.choice([0.02, 0.08, 0.25, 0.5]))), _colour(random, 0.2)
    neckline = float(random.choice([0.0, 0.35, 0.8]))  # round, low, V
    shoulder = 1.16 + 0.34 * np.abs(x) ** 1.4 - 0.12 * np.exp(-((np.abs(x) / 0.55) ** 4))
    opening = 1.32 + 0.28 * neckline - (0.5 + 0.6 * neckline) * np.abs(x) ** (1.3 if neckline > 0.5 else 2.4)
    edge = np.maximum(shoulder, opening)
    folds = noise(random, x.shape, 5, 2)
    cloth = np.broadcast_to(colour, (3, *x.shape)).copy()
    if random.random() < 0.4:
        stripes = 0.5 + 0.5 * np.tanh(
            4 * np.sin((x if random.random() < 0.4 else y) * random.uniform(14, 40) + 0.4 * folds)
        )
        cloth += (second - cloth) * stripes.astype(np.float32)
    lit = key * (0.45 + 0.25 * step(0.4, -0.1, np.abs(x) - 1) + 0.12 * folds)
    rim = 1 - 0.45 * np.exp(-(((y - edge) / 0.03) ** 2))
    canvas += (cloth * np.clip(lit, 0.05, None) * rim - canvas) * step(-0.015, 0.015, y - edge)
