"""A face's colours: skin, lips, brows and eyes, painted on the head's coordinates (u, v)."""

import numpy as np
from numpy.random import Generator

from ffdi.demo.fields import Field, bump, noise, sample, step
from ffdi.demo.people import Colour, Identity, Shot
from ffdi.demo.solids import fill, key_light, lay_over, paint


def draw_skin(person: Identity, shot: Shot, u: Field, v: Field, random: Generator) -> tuple[Field, Field, Field]:
    """Albedo (3, S, S), fine relief (S, S) and wet highlights (S, S) of the face."""
    shape, a = u.shape, np.abs(u)
    albedo = fill(person.skin, shape)
    blotch, pores = noise(random, shape, 6, 3), noise(random, shape, 130)
    nose, mouth = person.nose_length, person.mouth_level * person.chin
    red = bump(a, v, 0.42, 0.35, 0.2, 0.17) + 0.7 * bump(u, v, 0, nose - 0.05, 0.12, 0.1)
    tint = 1 + shot.tan + 0.025 * blotch + 0.015 * pores
    albedo[0] *= tint * (1 + 0.06 * red)
    albedo[1] *= tint * (1 - 0.10 * red - 0.015 * blotch)
    albedo[2] *= tint * (1 - 0.10 * red - 0.02 * blotch)
    albedo *= 1 - 0.16 * (0.4 + person.age) * bump(a, v, person.eye_gap * 0.95, 0.05, 0.17, 0.1)
    if person.freckles:
        spots = step(1.0, 1.7, noise(random, shape, 60)) * person.freckles
        albedo *= 1 - 0.35 * spots * np.exp(-(((v - 0.25) / 0.3) ** 2))
    if person.beard:
        fuzz = noise(random, shape, max(shape) // 2)
        cheeks = step(0.42, 0.62, v + 0.55 * (a - 0.3) ** 2 + 0.28 * a) * step(0.1, 0.25, a + step(0.55, 0.7, v))
        growth = cheeks * (1 - 0.6 * bump(u, v, 0, mouth + 0.14, 0.08, 0.03))
        growth *= np.clip(0.4 + 0.55 * person.beard + (0.22 - 0.1 * person.beard) * fuzz, 0, 1)
        paint(albedo, growth * min(1, 0.45 + 0.5 * person.beard), _dimmed(person.hair, 0.4))
    lips, lip_relief = _mouth(albedo, person, shot, u, v, mouth)
    hole = bump(a, v, person.nose_width * 0.5, nose + 0.03, 0.034, 0.014)
    albedo *= 1 - 0.7 * hole
    wet = 0.10 * lips * bump(u, v, -0.03, mouth + person.lower_lip * 0.55, 0.09, 0.018)
    _brows(albedo, person, shot, u, v, random)
    wet += _eyes(albedo, person, shot, u, v)
    return albedo, lip_relief + 0.0005 * pores + 0.003 * person.age * blotch, wet


def _dimmed(colour: Colour, share: float) -> Colour:
    red, green, blue = (share * value + 0.002 for value in colour)
    return red, green, blue


def _mouth(albedo: Field, person: Identity, shot: Shot, u: Field, v: Field, mouth: float) -> tuple[Field, Field]:
    """Paint lips, teeth and the dark between them; return the lips' mask and relief."""
    half = person.mouth_width * (1 + 0.18 * shot.smile)
    t = np.clip(u / half, -1.2, 1.2)
    level = v - mouth + 0.055 * shot.smile * t * t - 0.012 * shot.smile  # corners rise with a smile
    arch = np.maximum(1 - t * t, 0)
    gap = 0.075 * shot.mouth_open * np.sqrt(arch) * arch
    bow = 1 - 0.28 * np.exp(-((t / 0.16) ** 2)) - 0.15 * np.abs(t)
    upper, lower = person.upper_lip * (1 - 0.15 * shot.smile) * bow * arch**0.7, person.lower_lip * arch**0.75
    above = step(0.012, -0.008, -level - upper - gap * 0.35) * step(-0.006, 0.008, -level - gap * 0.3)
    below = step(0.014, -0.012, level - lower - gap) * step(-0.006, 0.008, level - gap * 0.7)
    fleshy = person.lip_red
    base = person.skin
    lip = (base[0] * (0.82 - 0.1 * fleshy), base[1] * (0.66 - 0.42 * fleshy), base[2] * (0.72 - 0.4 * fleshy))
    inside = step(1.06, 0.98, np.abs(t))
    paint(albedo, above * inside * 0.85, (lip[0] * 0.82, lip[1] * 0.78, lip[2] * 0.8))
    paint(albedo, below * inside * 0.85, lip)
    if shot.mouth_open:
        cavity = step(-0.004, 0.006, level + gap * 0.33) * step(0.004, -0.006, level - gap * 0.75) * inside
        paint(albedo, cavity * step(0.0, 0.02, gap), (0.03, 0.008, 0.008))
        teeth = cavity * step(0.0, -0.012, level - gap * 0.22) * step(0.85, 0.6, np.abs(t)) * step(0.008, 0.03, gap)
        ruled = 0.86 + 0.14 * np.abs(np.cos(u * 42))
        paint(albedo, teeth, (0.62, 0.58, 0.5))
        albedo *= 1 - teeth * (1 - ruled)
    line = np.exp(-((level / 0.011) ** 2)) * step(1.12, 0.95, np.abs(t)) * (1 if shot.mouth_open < 0.1 else 0.2)
    albedo *= 1 - 0.72 * line
    relief = 0.022 * (above * (1 - line) + 1.3 * below) - 0.02 * line
    return (above + below) * inside, relief * inside


def _brows(albedo: Field, person: Identity, shot: Shot, u: Field, v: Field, random: Generator) -> None:
    a = np.abs(u)
    t = (a - person.eye_gap) / (person.eye_width * 1.45)
    centre = (
        -person.brow_lift - shot.brow_raise - person.brow_arch * (1 - (t - 0.25) ** 2) + 0.05 * np.clip(t, 0, 2) ** 2
    )
    thick = person.brow_thickness * (1.05 - 0.45 * np.clip(t, -1, 1.2))
    hairs = sample(noise(random, (64, 64), 32), a * 120 + v * 60, u * 25 - v * 90)
    mask = step(1.35, 0.35, np.abs(v - centre) / thick + 0.22 * hairs) * step(1.12, 0.8, np.abs(t))
    paint(albedo, 0.88 * mask, _dimmed(person.hair, 0.55))


def _eyes(albedo: Field, person: Identity, shot: Shot, u: Field, v: Field) -> Field:
    """Paint both eyes; return their catchlights."""
    shine = np.zeros_like(u)
    for side in (-1, 1):
        near = (np.abs(u - side * person.eye_gap) < 0.32) & (np.abs(v) < 0.26)
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        if rows.size < 4 or columns.size < 4:
            continue
        window = ..., slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        shine[window] += _eye(albedo[window], person, shot, u[window], v[window], side)
    return shine


def _eye(albedo: Field, person: Identity, shot: Shot, u: Field, v: Field, side: int) -> Field:
    """Paint one eye on a window of the albedo; return its catchlight."""
    out = (u - side * person.eye_gap) * side / person.eye_width  # -1 at the inner corner, 1 at the outer
    level = v + person.eye_tilt * 0.16 * out
    arch = np.clip(1 - out * out, 0, 1)
    top = -person.eye_height * shot.lids * arch**0.62 * (1 - 0.12 * out)
    bottom = person.eye_height * 0.62 * (1 - 0.18 * max(shot.smile, 0)) * arch**0.8 * (1 + 0.15 * out)
    opening = step(-0.008, 0.006, level - top) * step(0.008, -0.006, level - bottom) * step(1.03, 0.97, np.abs(out))
    crease = np.exp(-(((level - top * 1.35 + 0.018) / 0.013) ** 2)) * step(1.15, 0.5, np.abs(out))
    lash = np.exp(-(((level - top + 0.004) / (0.011 + 0.005 * np.clip(out, -0.5, 1))) ** 2)) * step(
        1.12, 0.9, np.abs(out)
    )
    rim = np.exp(-(((level - bottom - 0.004) / 0.010) ** 2)) * step(1.05, 0.8, np.abs(out))
    albedo *= 1 - 0.45 * crease
    shadow = 0.5 + 0.5 * step(-0.01, 0.05, level - top)
    white = np.stack([0.66 * shadow, 0.60 * shadow, 0.57 * shadow]) * (1 - 0.35 * np.clip(np.abs(out) - 0.55, 0, 1))
    white[1:] *= 1 - 0.45 * np.exp(-(((out + 0.98) / 0.16) ** 2))  # the pink inner corner
    radius = 0.074
    across, down = u - side * person.eye_gap - shot.gaze_x, v + 0.008 - shot.gaze_y
    r = np.sqrt(across**2 + down**2)
    rays = 0.85 + 0.3 * np.cos(np.arctan2(down, across) * 17 + 3 * np.sin(r * 90)) * 0.5
    iris = np.array(person.iris, np.float32)[:, None, None] * 1.5 * rays * (0.55 + 0.75 * step(0.0, radius, r)) * shadow
    iris = iris * (1 - 0.7 * step(radius * 0.78, radius, r))
    lay_over(white, iris, step(radius + 0.006, radius - 0.006, r))
    lay_over(white, np.full_like(white, 0.004), step(0.034, 0.024, r))
    lay_over(albedo, white.astype(np.float32), opening)
    albedo *= 1 - 0.88 * np.clip(lash, 0, 1)
    albedo *= 1 - 0.3 * rim
    towards, _ = key_light(shot)
    glint = bump(across, down, 0.03 * towards[0], 0.03 * towards[1] - 0.005, 0.014, 0.014)
    moist = 0.05 * bump(out, level, -0.9, 0.02, 0.1, 0.02)
    return (opening * (0.75 * glint + moist)).astype(np.float32)
