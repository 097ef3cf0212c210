"""Solids in front of a camera and the light on them; every part of a portrait uses this."""

from dataclasses import dataclass
from math import cos, sin, sqrt

import numpy as np

from ffdi.demo.fields import Field, soften
from ffdi.demo.people import Colour, Shot


@dataclass(frozen=True)
class Surface:
    """A solid as the camera sees it: coordinates on the solid, depth and opacity, each (H, W)."""

    u: Field
    v: Field
    angle: Field  # about the vertical axis: 0 in front, growing towards u
    depth: Field
    cover: Field


def intersect_solid(x: Field, y: Field, width: Field, depth: Field, shot: Shot, pixel: float) -> Surface:
    """Intersect rays with a solid whose slice at each height is the ellipse (width, depth), turned by the shot's yaw.

    A ray at x meets the slice (u/w)^2 + (z/d)^2 = 1, where u = x cos - Z sin and z = x sin + Z cos, at the nearer
    root Z of a quadratic. All fields are (H, W), in head units; the cover fades over one pixel, `pixel` units wide.
    """
    turn, side = cos(shot.yaw), sin(shot.yaw)
    reach = (width * turn) ** 2 + (depth * side) ** 2 + 1e-6
    inside = reach - x * x
    root = np.sqrt(np.maximum(inside, 0)) * width * depth
    near = (x * side * turn * (width**2 - depth**2) + root) / reach
    near *= inside > 0
    cover = np.clip(inside / (2 * pixel * np.sqrt(reach)), 0, 1)
    u = x * turn - near * side
    angle = np.arctan2(u / width, (x * side + near * turn) / depth)
    return Surface(u, y, angle, near, cover)


def key_light(shot: Shot) -> tuple[tuple[float, float, float], Colour]:
    """The unit vector towards the key light, and its colour."""
    level = cos(shot.light_height)
    towards = (sin(shot.light_azimuth) * level, -sin(shot.light_height), cos(shot.light_azimuth) * level)
    return towards, (shot.key * (1 + shot.warmth), shot.key, shot.key * (1 - shot.warmth))


def shade(albedo: Field, height: Field, pixel: float, shot: Shot, gloss: float, wrap: float = 0.3) -> Field:
    """Light a (3, H, W) albedo on a depth map (H, W) in head units; `pixel` is a pixel's side in them."""
    down, right = np.gradient(height, pixel)
    length = 1 / np.sqrt(right * right + down * down + 1)
    normal = (-right * length, -down * length, length)
    light, colour = key_light(shot)
    facing = normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2]
    hollow = np.clip(1 + 2.0 * (height - soften(height, 0.1 / pixel)), 0.4, 1.15)  # ambient occlusion
    sky = (0.55 - 0.45 * normal[1]) * hollow * shot.fill
    mirror = np.clip((facing + normal[2]) / sqrt(2 + 2 * light[2]), 0, 1)  # the normal towards the half-way vector
    mirror **= 12
    shine = gloss * (0.09 * mirror + 0.12 * mirror**4) * shot.key
    lit = np.empty_like(albedo)
    for channel, bleed in enumerate((wrap + 0.12, wrap, wrap - 0.06)):  # red light travels farther under skin
        key = np.clip((facing + bleed) / (1 + bleed), 0, 1) * (0.55 + 0.45 * hollow)
        lit[channel] = albedo[channel] * (key * colour[channel] + sky) + shine * colour[channel]
    return lit


def lay_over(canvas: Field, layer: Field, cover: Field) -> None:
    """Blend a (3, H, W) layer into the canvas, in place, by an (H, W) opacity."""
    canvas += (layer - canvas) * cover


def fill(colour: Colour, shape: tuple[int, ...]) -> Field:
    """(3, *shape) of one colour."""
    layer: Field = np.broadcast_to(np.array(colour, np.float32)[:, None, None], (3, *shape)).copy()
    return layer


def paint(albedo: Field, mask: Field, colour: Colour) -> None:
    """Blend one colour into a (3, H, W) albedo, in place, by an (H, W) mask."""
    for plane, value in zip(albedo, colour, strict=True):
        plane += (value - plane) * mask
