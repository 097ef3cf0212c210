"""Hair: a shell around the head with an opening for the face, and strands that fall from the parting."""

import numpy as np
from numpy.random import Generator

from ffdi.demo.fields import Field, noise, sample, step
from ffdi.demo.people import Identity, Shot
from ffdi.demo.solids import Surface, fill, key_light, lay_over, shade


def hair_width(person: Identity, y: Field) -> Field:
    """Half-width of the hair at each height y, in head units; the same shape as y."""
    up = np.clip(-(y + 0.02) / (1.1 + person.hair_volume), 0, 1)
    down = np.clip(y, 0, None)
    flare = 1 + 0.09 * down if person.hair_length > 0.5 else 1 - 0.12 * down
    dome: Field = np.sqrt(np.maximum(1 - up**2.2, 0))
    return (person.width + 0.7 * person.hair_volume) * dome * flare + 1e-3


def hair_depth(person: Identity, y: Field) -> Field:
    """Half-depth of the hair at each height y, in head units; the same shape as y."""
    up = np.clip(-y / (1.12 + person.hair_volume), 0, 1)
    dome: Field = np.sqrt(np.maximum(1 - up**2.5, 0))
    return (0.95 + 0.5 * person.hair_volume) * dome + 1e-3


def draw_strands(person: Identity, shell: Surface, random: Generator) -> Field:
    """Noise drawn out along the hair, which falls from the parting; about unit deviation."""
    fall = np.maximum(shell.v + 1.25, 0.08)
    wave = sample(noise(random, (128, 128), 10), shell.v * 22 + 40, shell.angle * 16 + 60)
    across = (0.9 * shell.angle - person.hair_part * step(0.3, -1, shell.v)) / (0.25 + 0.75 * np.minimum(fall, 1.2))
    across = across + (0.006 + 0.035 * person.hair_curl) * wave
    fine, coarse = noise(random, (128, 256), 64), noise(random, (128, 256), 14)
    column = across * 100 + 1000
    return 0.7 * sample(fine, fall * 12, column) + 0.5 * sample(coarse, fall * 5, column * 0.6)


def draw_hair(
    canvas: Field, person: Identity, shot: Shot, shell: Surface, strands: Field, pixel: float, *, behind: bool
) -> None:
    """The hair behind the neck, or the hair in front of the head's sides and top."""
    v = shell.v + shot.pitch * 0.3
    ragged = 0.018 * strands * (1 + person.hair_curl)
    end = step(person.hair_length + 0.05, person.hair_length - 0.05, v + ragged * 2.5)
    if behind:
        if person.hair_length < 0.5:
            return
        cover, dim = shell.cover * end, 0.45
    else:
        part = 1 - person.fringe
        top = person.hairline * part - 0.1 * person.fringe + 0.07 * np.cos(shell.u * 4 - person.hair_part * 3)
        centre = 0.4
        rise = np.maximum(centre - v, 0) / (centre - top)
        half = person.hair_opening + 0.08 * step(0, 0.6, v)
        window = np.sqrt(np.abs(shell.u / half) ** 2.6 + rise**2.6) + ragged
        cover, dim = shell.cover * end * step(0.96, 1.07, window), 1.0
    body = shell.depth + 0.012 * strands
    lit = shade(fill(person.hair, strands.shape), body, pixel, shot, 0.0, 0.25)
    down = np.gradient(shell.depth, pixel, axis=0)
    slope = down / np.sqrt(1 + down**2)
    towards, colour = key_light(shot)
    tangent = np.clip(0.75 + towards[1] * 0.5 + slope - 0.45, -1, 1)
    sheen = np.exp(-((tangent / 0.22) ** 2)) * np.clip(0.5 + 0.45 * strands, 0, 2)
    tone = np.clip(0.85 + 0.3 * strands, 0.15, 2)
    for channel in range(3):
        gleam = sheen * (0.35 * person.hair[channel] + 0.012) * colour[channel]
        lit[channel] = (lit[channel] * 1.3 * tone + gleam) * dim
    lay_over(canvas, lit, np.clip(cover, 0, 1))
