"""Draw a portrait: an identity seen in a shot.

A head is a height field over a bent ellipsoid, turned by closed-form ray intersection (orthographic camera), lit
by a wrapped Lambert key light, a hemispheric fill and soft Blinn-Phong highlights. The features are drawn in the
coordinates (u, v) of the ellipsoid, so they follow every pose.
"""

from dataclasses import dataclass
from math import cos, sin
from types import EllipsisType
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from PIL import Image

from ffdi.demo.face_parts import draw_skin
from ffdi.demo.fields import Field, blur, bump, resize, step
from ffdi.demo.hair import draw_hair, draw_strands, hair_depth, hair_width
from ffdi.demo.people import Identity, Shot
from ffdi.demo.scenery import backdrop, clothes
from ffdi.demo.solids import fill, intersect_solid, lay_over, paint, shade

Window: TypeAlias = tuple[EllipsisType, slice, slice]  # of (H, W) and (C, H, W) alike
SIZE = 256  # of the picture, pixels
_RENDER = 320  # drawn at this size, then reduced


@dataclass(frozen=True)
class Portrait:
    """A developed picture without noise, and the position of the face in it."""

    picture: Field  # (3, 256, 256), sRGB in 0..1, before quantisation
    face: Field  # (2, 256, 256): the head's (u, v) at each pixel, both 9 where there is no head


def draw_portrait(person: Identity, shot: Shot) -> Portrait:
    """The person in the shot, through the camera: (3, 256, 256) in sRGB, and the face's coordinates."""
    x, y = _frame(shot)
    pixel = 2 / (_RENDER * shot.zoom)
    random = np.random.default_rng(shot.scene_seed)
    canvas = backdrop(random, _RENDER)
    top = _window(x, y, 1.25, -1.4, 2.6)
    on_top, top_x, top_y = canvas[top], x[top], y[top]
    shell = intersect_solid(top_x, top_y, hair_width(person, top_y), hair_depth(person, top_y), shot, pixel)
    strands = draw_strands(person, shell, random)
    draw_hair(on_top, person, shot, shell, strands, pixel, behind=True)
    low = _window(x, y, 9, 0.3, 9)
    _neck(canvas[low], person, shot, x[low], y[low], pixel)
    clothes(random, canvas[low], x[low], y[low], shot.key)
    for hand in (-1, 1):
        _ear(canvas, person, shot, x, y, pixel, hand)
    mid = _window(x, y, 1.0, -1.2, 1.3)
    face = np.full((2, _RENDER, _RENDER), 9, np.float32)
    face[mid] = _head(canvas[mid], person, shot, x[mid], y[mid], pixel, random)
    draw_hair(on_top, person, shot, shell, strands, pixel, behind=False)
    if person.glasses:
        _glasses(canvas[mid], person, shot, *face[mid])
    return Portrait(_camera(canvas, shot), resize(face, SIZE, SIZE))


def _window(x: Field, y: Field, reach: float, top: float, bottom: float) -> Window:
    """The smallest window that holds |x| < reach, top < y < bottom, so that only what is visible is computed."""
    inside = (np.abs(x) < reach) & (y > top) & (y < bottom)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return ..., slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _frame(shot: Shot) -> tuple[Field, Field]:
    """Head coordinates (x, y) of every pixel: unturned by the roll, in head units."""
    line = (np.arange(_RENDER, dtype=np.float32) + 0.5) * (2 / _RENDER) - 1
    across, down = line[None, :] - shot.shift_x, line[:, None] - shot.shift_y
    x = (across * cos(shot.roll) + down * sin(shot.roll)) / shot.zoom
    y = (down * cos(shot.roll) - across * sin(shot.roll)) / shot.zoom
    return x, y


def _head(canvas: Field, person: Identity, shot: Shot, x: Field, y: Field, pixel: float, random: Generator) -> Field:
    """Draw the head without hair; return its (u, v) as (2, H, W), 9 where it is not seen."""
    bulge = 0.95 * np.sqrt(np.clip(1 - (x / 1.3) ** 2 - (y / 1.7) ** 2, 0, 1))  # smooth, so that v grows with y
    nod, lean = cos(shot.pitch), sin(shot.pitch)
    v = (y - (bulge - 0.55) * lean) / nod
    width, deep = _profile(person, v)
    head = intersect_solid(x, v, width, deep, shot, pixel)
    raised = _relief(person, shot, head.u, v)  # the features lean with the head: shift by their height
    u, v = head.u - raised * sin(shot.yaw), v - raised * lean
    relief = _relief(person, shot, u, v)
    albedo, extra, wet = draw_skin(person, shot, u, v, random)
    depth = head.depth + (relief + extra) * cos(shot.yaw)
    lit = shade(albedo, depth, pixel, shot, shot.gloss * 0.7)
    lay_over(canvas, lit + wet * shot.key, head.cover)
    return np.where(head.cover > 0.5, np.stack([u, v]), np.float32(9))


def _profile(person: Identity, v: Field) -> tuple[Field, Field]:
    """Half-width and half-depth of the head at each height."""
    up, down = np.clip(-v / 1.12, 0, 1), np.clip(v / person.chin, 0, 1)
    taper = np.where(v < 0, 1 - up**2.3, 1 - down**person.jaw)
    width = person.width * np.sqrt(np.maximum(taper, 0)) * (1 - 0.1 * down)
    deep = 0.95 * np.sqrt(np.maximum(np.where(v < 0, 1 - up**2.6, 1 - 0.75 * down**5), 0))
    deep = deep * np.sqrt(np.clip(8 * taper, 0, 1))  # closes under the chin
    return width + 1e-3, deep.astype(np.float32) + 1e-3


def _relief(person: Identity, shot: Shot, u: Field, v: Field) -> Field:
    """Height of the features above the bare head, in head units."""
    a = np.abs(u)
    nose, mouth = person.nose_length, person.mouth_level * person.chin
    corner = person.mouth_width * (1 + 0.15 * shot.smile)
    along = np.clip((v + 0.12) / (nose + 0.1), 0, 1)
    ridge = (0.04 + along**1.3 * person.nose_height) * np.exp(-((u / (0.085 + 0.055 * along)) ** 2))
    height: Field = ridge * step(-0.3, 0.0, v) * step(nose + 0.09, nose - 0.06, v)
    height += 0.05 * bump(u, v, 0, nose - 0.05, 0.1, 0.085)
    height += 0.065 * bump(a, v, person.nose_width * 0.75, nose - 0.015, 0.065, 0.065)
    height += 0.055 * bump(a, v, person.eye_gap * 0.9, -0.2, 0.24, 0.08)
    height -= 0.11 * bump(a, v, person.eye_gap * 0.92, 0.0, 0.19, 0.12)
    height += 0.055 * bump(a, v, person.eye_gap, 0.0, 0.12, 0.075)
    height += (person.cheek + 0.03 * max(shot.smile, 0)) * bump(a, v, 0.43, 0.33, 0.19, 0.17)
    height += 0.09 * bump(u, v, 0, mouth, 0.34, 0.25)
    height += 0.06 * bump(u, v, 0, person.chin - 0.12, 0.17, 0.12)
    height -= 0.04 * bump(u, v, 0, mouth + person.lower_lip + 0.075, 0.17, 0.05)
    height -= 0.03 * bump(a, v, corner + 0.02, mouth - 0.02 * shot.smile, 0.05, 0.06)
    height -= 0.012 * np.exp(-((u / 0.025) ** 2)) * step(nose, nose + 0.06, v) * step(mouth - 0.02, mouth - 0.08, v)
    fold = np.abs(a - (person.nose_width + 0.02 + (v - nose + 0.05) * 0.55))
    crease = (0.008 + 0.02 * person.age + 0.018 * max(shot.smile, 0)) * np.exp(-((fold / 0.05) ** 2))
    height -= crease * step(nose - 0.1, nose, v) * step(mouth + 0.1, mouth - 0.05, v)
    return height


def _ear(canvas: Field, person: Identity, shot: Shot, x: Field, y: Field, pixel: float, hand: int) -> None:
    at = hand * (person.width * 0.985 + 0.02) * cos(shot.yaw) - 0.1 * sin(shot.yaw)
    window = _window(x - at, y, 0.17, -0.12, 0.48)
    down = y[window] - 0.17
    across = (x[window] - at) * hand + 0.12 * down
    r = np.sqrt((across / 0.115) ** 2 + (down / (0.24 - 0.03 * np.sign(down))) ** 2)
    dome = np.sqrt(np.clip(1.05 - r * r, 0, 1)) * 0.1 - 0.05 * bump(across, down, -0.01, 0.0, 0.05, 0.12)
    red, green, blue = person.skin
    lit = shade(fill((red, green * 0.85, blue * 0.85), r.shape), dome, pixel, shot, 0.3)
    lay_over(canvas[window], lit * 0.85, step(1.03, 0.97, r))


def _neck(canvas: Field, person: Identity, shot: Shot, x: Field, y: Field, pixel: float) -> None:
    drift = x + 0.12 * sin(shot.yaw) * step(1.6, 0.6, y)
    half = person.width * 0.68 + 0.4 * step(1.1, 1.9, y) ** 2
    barrel = np.sqrt(np.clip(1 - (drift / half) ** 2, 0, 1)) * 0.5
    cords = 0.012 * np.exp(-(((np.abs(drift) - 0.1 - 0.3 * (1.6 - y)) / 0.09) ** 2))
    lit = shade(fill(person.skin, x.shape), barrel + cords, pixel, shot, 0.2)
    shadow = y + 0.25 * drift * drift + 0.12 * sin(shot.light_azimuth) * drift
    chin = step(person.chin - 0.1, person.chin + 0.5, shadow)  # the chin's shadow ends
    lay_over(canvas, lit * (0.38 + 0.55 * chin), step(1.02, 0.98, np.abs(drift) / half))


def _glasses(canvas: Field, person: Identity, shot: Shot, u: Field, v: Field) -> None:
    a = np.abs(u)
    wide, tall = 0.225, 0.15 + 0.06 * (person.glasses - 0.6)
    r = (np.abs((a - person.eye_gap) / wide) ** 3.2 + np.abs((v - 0.04) / tall) ** 3.2) ** (1 / 3.2)
    frame = step(0.10, 0.05, np.abs(r - 1))
    bridge = step(0.02, 0.012, np.abs(v + 0.02 + 1.5 * u * u)) * step(
        person.eye_gap - wide, person.eye_gap - wide - 0.02, a
    )
    arms = step(0.022, 0.014, np.abs(v + 0.03)) * step(person.eye_gap + wide, person.eye_gap + wide + 0.02, a)
    seen = a < 2
    canvas += 0.03 * shot.key * step(1, 0.97, r) * seen
    ink = np.clip(frame + bridge + arms * (v < 2), 0, 1) * seen
    paint(canvas, ink * person.glasses, (0.03, 0.022, 0.02))


def _camera(canvas: Field, shot: Shot) -> Field:
    """Develop a linear (3, S, S) canvas: reduction, lens blur, exposure, vignette, tone curve, gamma."""
    light = blur(resize(canvas, SIZE, SIZE, Image.Resampling.BOX), shot.blur) * shot.exposure
    line = np.linspace(-1, 1, SIZE, dtype=np.float32) ** 2
    light = np.clip(light * (1 - 0.09 * (line[:, None] + line[None, :])), 0, None)
    developed: Field = np.clip((light * (1 + light / 6) / (1 + light * 0.75)) ** (1 / 2.2), 0, 1)
    return developed


def add_grain(picture: Field, shot: Shot, take: int) -> Field:
    """Add the shot's sensor noise, number `take`, to a (3, H, W) picture in sRGB; it may leave 0..1 a little.

    Shot noise grows with the root of the light; the gamma curve makes that nearly even.
    """
    grains: Field = np.random.default_rng([*shot.grain_seed, take]).standard_normal(picture.shape, dtype=np.float32)
    return picture + grains * shot.grain * (0.012 - 0.005 * picture)
