"""Draw a portrait: an identity seen in a shot.

A head is a height field over a bent ellipsoid, turned by closed-form ray intersection (orthographic camera), lit by a
wrapped Lambert key light, a hemispheric fill and soft Blinn-Phong highlights; the ellipsoid's own coordinates (u, v)
carry the features, so they follow every pose.
"""

from dataclasses import dataclass
from math import cos, sin

import numpy as np
from PIL import Image

from ffdi.demo.fields import Field, blur, bump, noise, resize, sample, soften, step
from ffdi.demo.people import Identity, Shot
from ffdi.demo.scenery import backdrop, clothes

SIZE = 256  # of the picture, pixels
_RENDER = 384  # drawn at this size, then reduced


@dataclass(frozen=True)
class Portrait:
    """A developed picture and where the face lies on it."""

    picture: Field  # (3, 256, 256), sRGB in 0..1, before quantisation
    face: Field  # (2, 256, 256): the head's (u, v) at each pixel, both 9 where there is no head


@dataclass(frozen=True)
class _Surface:
    """A solid as the camera sees it, each (S, S)."""

    u: Field
    v: Field
    depth: Field
    cover: Field


def draw_portrait(person: Identity, shot: Shot) -> Portrait:
    """The person in the shot, through the camera: (3, 256, 256) in sRGB, and the face's coordinates."""
    x, y = _frame(shot)
    pixel = 2 / (_RENDER * shot.zoom)
    random = np.random.default_rng(shot.scene_seed)
    canvas = backdrop(random, _RENDER) * shot.key
    shell = _solid(x, y, _hair_width(person, y), _hair_depth(person, y), shot, 3.0)
    strands = _strands(person, shell, random)
    _hair(canvas, person, shot, shell, strands, pixel, behind=True)
    _neck(canvas, person, shot, x, y, pixel)
    clothes(random, canvas, x, y, shot.key)
    _ears(canvas, person, shot, x, y, pixel)
    u, v = _head(canvas, person, shot, x, y, pixel, random)
    _hair(canvas, person, shot, shell, strands, pixel, behind=False)
    if person.glasses:
        _glasses(canvas, person, shot, u, v)
    face = resize(np.stack([u, v]), SIZE, SIZE)
    return Portrait(_camera(canvas, shot), face)


def _frame(shot: Shot) -> tuple[Field, Field]:
    """Head coordinates (x, y) of every pixel: unturned by the roll, in head units."""
    line = (np.arange(_RENDER, dtype=np.float32) + 0.5) * (2 / _RENDER) - 1
    across, down = line[None, :] - shot.shift_x, line[:, None] - shot.shift_y
    x = (across * cos(shot.roll) + down * sin(shot.roll)) / shot.zoom
    y = (down * cos(shot.roll) - across * sin(shot.roll)) / shot.zoom
    return x, y


def _solid(x: Field, y: Field, width: Field, depth: Field, shot: Shot, sharp: float) -> _Surface:
    """Meet a solid whose slice at each height is the ellipse (width, depth), turned by the shot's yaw.

    A ray at x meets the slice (u/w)^2 + (z/d)^2 = 1, u = x cos - Z sin, z = x sin + Z cos, at a quadratic's root Z.
    """
    turn, side = cos(shot.yaw), sin(shot.yaw)
    reach = (width * turn) ** 2 + (depth * side) ** 2 + 1e-6
    inside = reach - x * x
    root = np.sqrt(np.maximum(inside, 0)) * width * depth
    near = (x * side * turn * (width**2 - depth**2) + root) / reach
    near = np.where(inside > 0, near, 0)
    cover = np.clip(inside / np.sqrt(reach) * (_RENDER * shot.zoom / 4) * sharp / 3, 0, 1)
    return _Surface(x * turn - near * side, y, near, cover)


def _head_profile(person: Identity, v: Field) -> tuple[Field, Field]:
    """Half-width and half-depth of the head at each height."""
    up, down = np.clip(-v / 1.12, 0, 1), np.clip(v / person.chin, 0, 1)
    taper = np.where(v < 0, 1 - up**2.3, 1 - down**person.jaw)
    width = person.width * np.sqrt(np.maximum(taper, 0)) * (1 - 0.1 * down)
    deep = 0.95 * np.sqrt(np.maximum(np.where(v < 0, 1 - up**2.6, 1 - 0.75 * down**5), 0))
    return width + 1e-3, deep.astype(np.float32) + 1e-3


def _relief(person: Identity, shot: Shot, u: Field, v: Field) -> Field:
    """Height of the features above the bare head, in head units."""
    a = np.abs(u)
    nose, mouth = person.nose_length, person.mouth_level * person.chin
    corner = person.mouth_width * (1 + 0.15 * shot.smile)
    along = np.clip((v + 0.12) / (nose + 0.1), 0, 1)
    ridge = (0.04 + along**1.3 * person.nose_height) * np.exp(-((u / (0.075 + 0.05 * along)) ** 2))
    height = ridge * step(-0.3, 0.0, v) * step(nose + 0.07, nose - 0.035, v)
    height += 0.05 * bump(u, v, 0, nose - 0.045, 0.085, 0.075)
    height += 0.085 * bump(a, v, person.nose_width * 0.72, nose - 0.01, 0.055, 0.06)
    height += 0.055 * bump(a, v, person.eye_gap * 0.9, -0.2, 0.24, 0.08)
    height -= 0.11 * bump(a, v, person.eye_gap * 0.92, 0.0, 0.19, 0.12)
    height += 0.055 * bump(a, v, person.eye_gap, 0.0, 0.12, 0.075)
    height += (person.cheek + 0.03 * max(shot.smile, 0)) * bump(a, v, 0.43, 0.33, 0.19, 0.17)
    height += 0.09 * bump(u, v, 0, mouth, 0.34, 0.25)
    height += 0.06 * bump(u, v, 0, person.chin - 0.12, 0.17, 0.12)
    height -= 0.045 * bump(u, v, 0, mouth + person.lower_lip + 0.075, 0.17, 0.05)
    height -= 0.03 * bump(a, v, corner + 0.02, mouth - 0.02 * shot.smile, 0.05, 0.06)
    height -= 0.012 * np.exp(-((u / 0.025) ** 2)) * step(nose, nose + 0.06, v) * step(mouth - 0.02, mouth - 0.08, v)
    fold = np.abs(a - (person.nose_width + 0.02 + (v - nose + 0.05) * 0.55))
    crease = (0.008 + 0.02 * person.age + 0.018 * max(shot.smile, 0)) * np.exp(-((fold / 0.05) ** 2))
    height -= crease * step(nose - 0.1, nose, v) * step(mouth + 0.1, mouth - 0.05, v)
    return height


def _shade(albedo: Field, height: Field, pixel: float, shot: Shot, gloss: float, wrap: float = 0.3) -> Field:
    """Light an (3, S, S) albedo on a depth map (S, S) in head units; `pixel` is a pixel's side in them."""
    down, right = np.gradient(height, pixel)
    length = 1 / np.sqrt(right * right + down * down + 1)
    normal = (-right * length, -down * length, length)
    light, colour = _key_light(shot)
    facing = normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2]
    hollow = np.clip(1 + 2.2 * (soften(height, 14) - height).clip(-1, 0.6) * -1, 0.35, 1.15)
    sky = (0.55 - 0.45 * normal[1]) * hollow * shot.fill
    middle = np.array([light[0], light[1], light[2] + 1]) / np.sqrt(2 + 2 * light[2])
    mirror = np.clip(normal[0] * middle[0] + normal[1] * middle[1] + normal[2] * middle[2], 0, 1)
    shine = gloss * (0.10 * mirror**10 + 0.16 * mirror**44) * shot.key
    lit = np.empty_like(albedo)
    for channel, bleed in enumerate((wrap + 0.12, wrap, wrap - 0.06)):  # red light travels farther under skin
        key = np.clip((facing + bleed) / (1 + bleed), 0, 1) ** 1.2 * (0.55 + 0.45 * hollow)
        lit[channel] = albedo[channel] * (key * colour[channel] + sky) + shine * colour[channel]
    return lit


def _key_light(shot: Shot) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    level = cos(shot.light_height)
    towards = (sin(shot.light_azimuth) * level, -sin(shot.light_height), cos(shot.light_azimuth) * level)
    return towards, (shot.key * (1 + shot.warmth), shot.key, shot.key * (1 - shot.warmth))


def _over(canvas: Field, layer: Field, cover: Field) -> None:
    canvas += (layer - canvas) * cover


def _fill(colour: tuple[float, float, float], shape: tuple[int, ...]) -> Field:
    return np.broadcast_to(np.array(colour, np.float32)[:, None, None], (3, *shape)).copy()


def _head(
    canvas: Field, person: Identity, shot: Shot, x: Field, y: Field, pixel: float, random: np.random.Generator
) -> tuple[Field, Field]:
    """Draw the head without hair; return its (u, v), 9 where it is not seen."""
    width, deep = _head_profile(person, y)
    first = _solid(x, y, width, deep, shot, 3.0)
    nod, lean = cos(shot.pitch), sin(shot.pitch)
    v = (y - (first.depth - 0.55) * lean * step(0, 0.5, first.depth)) / nod
    width, deep = _head_profile(person, v)
    head = _solid(x, v, width, deep, shot, 3.0)
    raised = _relief(person, shot, head.u, v)  # the features lean with the head: shift by their height
    u, v = head.u - raised * sin(shot.yaw), v - raised * lean
    relief = _relief(person, shot, u, v)
    albedo, extra, wet = _skin(person, shot, u, v, random)
    depth = head.depth + (relief + extra) * cos(shot.yaw)
    cover = head.cover
    lit = _shade(albedo, depth, pixel, shot, shot.gloss * 0.7)
    lit += wet * shot.key
    _over(canvas, lit, cover)
    seen = cover > 0.5
    return np.where(seen, u, 9).astype(np.float32), np.where(seen, v, 9).astype(np.float32)


def _paint(albedo: Field, mask: Field, colour: tuple[float, float, float]) -> None:
    for plane, value in zip(albedo, colour, strict=True):
        plane += (value - plane) * mask


def _skin(
    person: Identity, shot: Shot, u: Field, v: Field, random: np.random.Generator
) -> tuple[Field, Field, Field]:
    """Albedo (3, S, S), fine relief (S, S) and wet highlights (S, S) of the face."""
    shape, a = u.shape, np.abs(u)
    albedo = _fill(person.skin, shape)
    blotch, pores = noise(random, shape, 6, 3), noise(random, shape, 130)
    nose, mouth = person.nose_length, person.mouth_level * person.chin
    red = bump(a, v, 0.42, 0.35, 0.2, 0.17) + 0.7 * bump(u, v, 0, nose - 0.05, 0.12, 0.1)
    tint = 1 + shot.tan + 0.03 * blotch + 0.02 * pores
    albedo[0] *= tint * (1 + 0.06 * red)
    albedo[1] *= tint * (1 - 0.10 * red - 0.015 * blotch)
    albedo[2] *= tint * (1 - 0.10 * red - 0.02 * blotch)
    albedo *= 1 - 0.16 * (0.4 + person.age) * bump(a, v, person.eye_gap * 0.95, 0.05, 0.17, 0.1)
    if person.freckles:
        spots = step(1.1, 1.7, noise(np.random.default_rng(shot.scene_seed[2]), shape, 60)) * person.freckles
        albedo *= 1 - 0.35 * spots * np.exp(-(((v - 0.25) / 0.3) ** 2))
    if person.beard:
        fuzz = noise(random, shape, 150)
        cheeks = step(0.42, 0.62, v + 0.55 * (a - 0.3) ** 2 + 0.28 * a) * step(0.1, 0.25, a + step(0.55, 0.7, v))
        growth = cheeks * (1 - 0.6 * bump(u, v, 0, mouth + 0.14, 0.08, 0.03))
        growth *= step(0.9 - 0.7 * person.beard, 1.3, 0.9 + 0.3 * fuzz + 0.35 * person.beard)
        _paint(albedo, growth * min(1, 0.45 + 0.5 * person.beard), tuple(0.4 * c + 0.002 for c in person.hair))  # type: ignore[arg-type]
    lips, lip_relief = _mouth(albedo, person, shot, u, v, mouth)
    hole = bump(a, v, person.nose_width * 0.5, nose + 0.028, 0.036, 0.017)
    albedo *= 1 - 0.85 * np.clip(hole * 1.3, 0, 1)
    wet = 0.10 * lips * bump(u, v, -0.03, mouth + person.lower_lip * 0.55, 0.09, 0.018)
    _brows(albedo, person, shot, u, v, random)
    wet += _eyes(albedo, person, shot, u, v)
    return albedo, lip_relief + 0.0016 * pores + 0.004 * person.age * blotch, wet


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
    _paint(albedo, above * inside * 0.85, (lip[0] * 0.82, lip[1] * 0.78, lip[2] * 0.8))
    _paint(albedo, below * inside * 0.85, lip)
    if shot.mouth_open:
        cavity = step(-0.004, 0.006, level + gap * 0.33) * step(0.004, -0.006, level - gap * 0.75) * inside
        _paint(albedo, cavity * step(0.0, 0.02, gap), (0.03, 0.008, 0.008))
        teeth = cavity * step(0.0, -0.012, level - gap * 0.22) * step(0.85, 0.6, np.abs(t)) * step(0.008, 0.03, gap)
        ruled = 0.86 + 0.14 * np.abs(np.cos(u * 42))
        _paint(albedo, teeth, (0.62, 0.58, 0.5))
        albedo *= 1 - teeth * (1 - ruled)
    line = np.exp(-((level / 0.011) ** 2)) * step(1.12, 0.95, np.abs(t)) * (1 if shot.mouth_open < 0.1 else 0.2)
    albedo *= 1 - 0.72 * line
    relief = 0.022 * (above * (1 - line) + 1.3 * below) - 0.02 * line
    return (above + below) * inside, relief.astype(np.float32)


def _brows(
    albedo: Field, person: Identity, shot: Shot, u: Field, v: Field, random: np.random.Generator
) -> None:
    a = np.abs(u)
    t = (a - person.eye_gap) / (person.eye_width * 1.45)
    centre = -person.brow_lift - shot.brow_raise - person.brow_arch * (1 - (t - 0.25) ** 2) + 0.05 * np.clip(t, 0, 2) ** 2
    thick = person.brow_thickness * (1.05 - 0.45 * np.clip(t, -1, 1.2))
    hairs = sample(noise(random, (64, 64), 32), a * 120 + v * 60, u * 25 - v * 90)
    mask = step(1.35, 0.35, np.abs(v - centre) / thick + 0.22 * hairs) * step(1.12, 0.8, np.abs(t))
    _paint(albedo, 0.88 * mask, tuple(0.55 * c + 0.002 for c in person.hair))  # type: ignore[arg-type]


def _eyes(albedo: Field, person: Identity, shot: Shot, u: Field, v: Field) -> Field:
    """Paint both eyes; return their catchlights."""
    shine = np.zeros_like(u)
    for side in (-1, 1):
        near = (np.abs(u - side * person.eye_gap) < 0.32) & (np.abs(v) < 0.26)
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        if rows.size < 4 or columns.size < 4:
            continue
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        shine[window] += _eye(albedo[:, *window], person, shot, u[window], v[window], side)
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
    lash = np.exp(-(((level - top + 0.004) / (0.011 + 0.005 * np.clip(out, -0.5, 1))) ** 2)) * step(1.12, 0.9, np.abs(out))
    rim = np.exp(-(((level - bottom - 0.004) / 0.010) ** 2)) * step(1.05, 0.8, np.abs(out))
    albedo *= 1 - 0.45 * crease
    shadow = 0.5 + 0.5 * step(-0.01, 0.05, level - top)
    white = np.stack([0.60 * shadow, 0.54 * shadow, 0.52 * shadow]) * (1 - 0.35 * np.clip(np.abs(out) - 0.55, 0, 1))
    white[1:] *= 1 - 0.45 * np.exp(-(((out + 0.98) / 0.16) ** 2))  # the pink inner corner
    radius = 0.074
    across, down = u - side * person.eye_gap - shot.gaze_x, v + 0.008 - shot.gaze_y
    r = np.sqrt(across**2 + down**2)
    rays = 0.85 + 0.3 * np.cos(np.arctan2(down, across) * 17 + 3 * np.sin(r * 90)) * 0.5
    iris = np.array(person.iris, np.float32)[:, None, None] * 1.5 * rays * (0.55 + 0.75 * step(0.0, radius, r)) * shadow
    iris = iris * (1 - 0.7 * step(radius * 0.78, radius, r))
    _over(white, iris, step(radius + 0.006, radius - 0.006, r))
    _over(white, np.full_like(white, 0.004), step(0.034, 0.024, r))
    _over(albedo, white.astype(np.float32), opening)
    albedo *= 1 - 0.88 * np.clip(lash, 0, 1)
    albedo *= 1 - 0.3 * rim
    towards, _ = _key_light(shot)
    glint = bump(across, down, 0.03 * towards[0], 0.03 * towards[1] - 0.005, 0.014, 0.014)
    moist = 0.05 * bump(out, level, -0.9, 0.02, 0.1, 0.02)
    return (opening * (0.75 * glint + moist)).astype(np.float32)


def _ears(canvas: Field, person: Identity, shot: Shot, x: Field, y: Field, pixel: float) -> None:
    turn, side = cos(shot.yaw), sin(shot.yaw)
    for hand in (-1, 1):
        at = hand * (person.width * 0.985 + 0.02) * turn - 0.1 * side
        across, down = (x - at) * hand, y - 0.17
        across = across + 0.12 * down
        r = np.sqrt((across / 0.115) ** 2 + (down / (0.24 - 0.03 * np.sign(down))) ** 2)
        dome = np.sqrt(np.clip(1.05 - r * r, 0, 1)) * 0.1 - 0.05 * bump(across, down, -0.01, 0.0, 0.05, 0.12)
        ear = _shade(_fill((person.skin[0], person.skin[1] * 0.85, person.skin[2] * 0.85), x.shape), dome, pixel, shot, 0.3)
        _over(canvas, ear * 0.85, step(1.03, 0.97, r))


def _neck(canvas: Field, person: Identity, shot: Shot, x: Field, y: Field, pixel: float) -> None:
    drift = x + 0.12 * sin(shot.yaw) * step(1.6, 0.6, y)
    half = person.width * 0.62 + 0.35 * step(1.15, 1.9, y) ** 2
    round_ = np.sqrt(np.clip(1 - (drift / half) ** 2, 0, 1)) * 0.5
    cords = 0.03 * np.exp(-(((np.abs(drift) - 0.2 - 0.12 * (1.5 - y)) / 0.07) ** 2))
    lit = _shade(_fill(person.skin, x.shape), round_ + cords, pixel, shot, 0.2)
    chin = step(person.chin - 0.1, person.chin + 0.5, y + 0.25 * drift * drift + 0.12 * sin(shot.light_azimuth) * drift)
    _over(canvas, lit * (0.3 + 0.62 * chin), step(1.02, 0.98, np.abs(drift) / half) * step(0.3, 0.4, y))


def _hair_width(person: Identity, y: Field) -> Field:
    up = np.clip(-(y + 0.02) / (1.1 + person.hair_volume), 0, 1)
    down = np.clip(y, 0, None)
    flare = 1 + 0.09 * down if person.hair_length > 0.5 else 1 - 0.12 * down
    return (person.width + 0.7 * person.hair_volume) * np.sqrt(np.maximum(1 - up**2.2, 0)) * flare + 1e-3


def _hair_depth(person: Identity, y: Field) -> Field:
    up = np.clip(-y / (1.12 + person.hair_volume), 0, 1)
    return (0.95 + 0.5 * person.hair_volume) * np.sqrt(np.maximum(1 - up**2.5, 0)) + np.float32(1e-3)


def _strands(person: Identity, shell: _Surface, random: np.random.Generator) -> Field:
    """Noise drawn out along the hair, which falls from the parting; about unit deviation."""
    fall = np.maximum(shell.v + 1.25, 0.08)
    wave = sample(noise(random, (128, 128), 10), shell.v * 30 + 40, shell.u * 12 + 40)
    across = (shell.u - person.hair_part * step(0.3, -1, shell.v)) / (0.25 + 0.75 * np.minimum(fall, 1.2))
    across = across + (0.02 + 0.07 * person.hair_curl) * wave
    fine, coarse = noise(random, (128, 256), 64), noise(random, (128, 256), 14)
    column = across * 130 + 1000 + shell.depth * 30
    return 0.65 * sample(fine, fall * 14, column) + 0.75 * sample(coarse, fall * 5, column * 0.6)


def _hair(
    canvas: Field, person: Identity, shot: Shot, shell: _Surface, strands: Field, pixel: float, *, behind: bool
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
    body = shell.depth + 0.02 * strands
    lit = _shade(_fill(person.hair, strands.shape), body, pixel, shot, 0.0, 0.25)
    down = np.gradient(shell.depth, pixel, axis=0)
    slope = down / np.sqrt(1 + down**2)
    towards, colour = _key_light(shot)
    tangent = np.clip(0.75 + towards[1] * 0.5 + slope - 0.45, -1, 1)
    sheen = np.exp(-((tangent / 0.22) ** 2)) * np.clip(0.5 + 0.45 * strands, 0, 2)
    tone = np.clip(0.8 + 0.38 * strands, 0.1, 2)
    for channel in range(3):
        gleam = sheen * (0.35 * person.hair[channel] + 0.012) * colour[channel]
        lit[channel] = (lit[channel] * 1.3 * tone + gleam) * dim
    _over(canvas, lit, np.clip(cover, 0, 1))


def _glasses(canvas: Field, person: Identity, shot: Shot, u: Field, v: Field) -> None:
    a = np.abs(u)
    wide, tall = 0.225, 0.15 + 0.06 * (person.glasses - 0.6)
    r = (np.abs((a - person.eye_gap) / wide) ** 3.2 + np.abs((v - 0.04) / tall) ** 3.2) ** (1 / 3.2)
    frame = step(0.10, 0.05, np.abs(r - 1))
    bridge = step(0.02, 0.012, np.abs(v + 0.02 + 1.5 * u * u)) * step(person.eye_gap - wide, person.eye_gap - wide - 0.02, a)
    arms = step(0.022, 0.014, np.abs(v + 0.03)) * step(person.eye_gap + wide, person.eye_gap + wide + 0.02, a)
    seen = a < 2
    canvas += 0.03 * shot.key * step(1, 0.97, r) * seen
    ink = np.clip(frame + bridge + arms * (v < 2), 0, 1) * seen
    _paint(canvas, ink * person.glasses, (0.03, 0.022, 0.02))


def _camera(canvas: Field, shot: Shot) -> Field:
    """Reduce, expose and develop a linear (3, S, S) canvas: lens blur, shot and read noise, gamma."""
    light = blur(resize(canvas, SIZE, SIZE, Image.Resampling.BOX), shot.blur) * shot.exposure
    line = np.linspace(-1, 1, SIZE, dtype=np.float32) ** 2
    light = np.clip(light * (1 - 0.09 * (line[:, None] + line[None, :])), 0, None)
    random = np.random.default_rng(shot.grain_seed)
    grains = random.standard_normal(light.shape, dtype=np.float32)
    light = light + grains * shot.grain * (0.004 + 0.012 * np.sqrt(light))
    light = np.clip(light, 0, None)
    return np.clip((light * (1 + light / 6) / (1 + light * 0.75)) ** np.float32(1 / 2.2), 0, 1)
