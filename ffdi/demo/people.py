"""Identities and shots as plain numbers, drawn from seeds: who is in front of the camera, and how.

Lengths are in head units: the eye line is at v = 0, the top of the head near v = -1.1, the chin near v = 1.1;
u runs to the picture's right, v down, z towards the camera. Colours are linear RGB, angles radians.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

Colour = tuple[float, float, float]

# sRGB skin, hair and iris colours from light to dark; identities lie between neighbours.
_SKINS = [(247, 214, 194), (232, 188, 160), (214, 163, 128), (184, 130, 94), (142, 95, 66), (97, 63, 45)]
_HAIRS = [
    (22, 18, 17),
    (44, 31, 25),
    (74, 50, 34),
    (112, 76, 45),
    (168, 128, 78),
    (150, 72, 38),
    (168, 164, 160),
]
_IRISES = [(62, 38, 22), (92, 60, 32), (112, 96, 52), (92, 120, 104), (92, 124, 156), (120, 138, 150)]


@dataclass(frozen=True)
class Identity:
    """The traits of a person that are the same in every shot."""

    skin: Colour
    hair: Colour
    iris: Colour
    lip_red: float
    freckles: float
    age: float
    width: float
    chin: float
    jaw: float
    cheek: float
    eye_gap: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_lift: float
    brow_thickness: float
    brow_arch: float
    nose_length: float
    nose_width: float
    nose_height: float
    mouth_level: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    hairline: float
    hair_volume: float
    hair_length: float
    hair_part: float
    hair_opening: float
    hair_curl: float
    fringe: float
    beard: float
    glasses: float


@dataclass(frozen=True)
class Shot:
    """The settings of one picture of a person: pose, light, expression, camera."""

    yaw: float
    pitch: float
    roll: float
    zoom: float
    shift_x: float
    shift_y: float
    light_azimuth: float
    light_height: float
    key: float
    fill: float
    warmth: float
    exposure: float
    smile: float
    mouth_open: float
    gaze_x: float
    gaze_y: float
    lids: float
    brow_raise: float
    tan: float
    gloss: float
    blur: float
    grain: float
    scene_seed: tuple[int, ...]
    grain_seed: tuple[int, ...]


def linear(red: float, green: float, blue: float) -> Colour:
    """Linear RGB in 0..1 of an sRGB colour in 0..255 (gamma 2.2)."""
    return (red / 255) ** 2.2, (green / 255) ** 2.2, (blue / 255) ** 2.2


def _between(palette: list[tuple[int, int, int]], place: float) -> Colour:
    """The palette's colour at `place` in 0..1, between its neighbours."""
    at = np.clip(place, 0, 1) * (len(palette) - 1)
    low = min(int(at), len(palette) - 2)
    red, green, blue = (a + (b - a) * (at - low) for a, b in zip(palette[low], palette[low + 1], strict=True))
    return linear(float(red), float(green), float(blue))


@dataclass(frozen=True)
class _Heredity:
    """Where a person's traits come from: the family's generator and the person's own."""

    kin: Generator
    individual: Generator

    def trait(self, low: float, high: float) -> float:
        """A number in low..high, half of which is the family's: relatives look alike."""
        return low + (high - low) * float(0.5 * self.kin.random() + 0.5 * self.individual.random())


def draw_identity(seed: int, family: int, identity: int) -> Identity:
    """The person `identity` of a `family`. The order of the draws decides every trait."""
    heredity = _Heredity(np.random.default_rng([seed, 1, family]), np.random.default_rng([seed, 2, identity]))
    kin, individual = heredity.kin, heredity.individual
    tone = float(np.clip(kin.random() ** 1.3 + individual.normal(0, 0.04), 0, 1))
    hair_place = kin.random() * (1 if tone < 0.5 else 0.35)
    soft = individual.random() < 0.5
    haircuts = [0, 0.2, 0.3, 0.5] if soft else [0.12, 0.7, 0.1, 0.08]
    haircut = str(individual.choice(["shaved", "short", "bob", "long"], p=haircuts))
    short, bob = heredity.trait(0.0, 0.35), heredity.trait(0.6, 1.2)
    beard = 0.0 if soft else float(individual.choice([0.0, 0.25, 0.6, 1.0], p=[0.4, 0.25, 0.15, 0.2]))
    return Identity(
        skin=_between(_SKINS, tone),
        hair=_between(_HAIRS, float(np.clip(hair_place + individual.normal(0, 0.06), 0, 1))),
        iris=_between(_IRISES, float(kin.random() * (1 if tone < 0.4 else 0.25))),
        **_draw_face(heredity, tone, soft),
        **_draw_hair(heredity, {"shaved": -0.1, "short": short, "bob": bob, "long": 2.5}[haircut], haircut == "shaved"),
        beard=beard,
        glasses=float(individual.uniform(0.6, 1) * (individual.random() < 0.22)),
    )


def _draw_face(heredity: _Heredity, tone: float, soft: bool) -> dict[str, float]:
    """The fields of Identity from lip_red to lower_lip; `soft`: rounder, with larger eyes and redder lips."""
    trait = heredity.trait
    return {
        "lip_red": trait(0.2, 0.5) + (0.25 if soft else 0),
        "freckles": max(0.0, trait(-0.6, 1)) if tone < 0.5 else 0.0,
        "age": trait(0, 1),
        "width": trait(0.7, 0.84) - (0.02 if soft else 0),
        "chin": trait(1.0, 1.2) - (0.03 if soft else 0),
        "jaw": trait(1.9, 2.9) + (0 if soft else 0.5),
        "cheek": trait(0.02, 0.09),
        "eye_gap": trait(0.29, 0.37),
        "eye_width": trait(0.135, 0.18),
        "eye_height": trait(0.05, 0.085) + (0.006 if soft else 0),
        "eye_tilt": trait(-0.14, 0.2),
        "brow_lift": trait(0.15, 0.25) + (0.02 if soft else 0),
        "brow_thickness": trait(0.02, 0.045) + (0 if soft else 0.014),
        "brow_arch": trait(0.0, 0.09),
        "nose_length": trait(0.38, 0.54),
        "nose_width": trait(0.1, 0.18),
        "nose_height": trait(0.16, 0.32),
        "mouth_level": trait(0.66, 0.76),
        "mouth_width": trait(0.2, 0.29),
        "upper_lip": trait(0.03, 0.075),
        "lower_lip": trait(0.05, 0.1),
    }


def _draw_hair(heredity: _Heredity, length: float, shaved: bool) -> dict[str, float]:
    """The fields of Identity from hairline to fringe."""
    trait, individual = heredity.trait, heredity.individual
    return {
        "hairline": trait(-0.78, -0.5),
        "hair_volume": 0.02 if shaved else trait(0.06, 0.24),
        "hair_length": length,
        "hair_part": float(individual.uniform(-0.45, 0.45)),
        "hair_opening": trait(0.58, 0.72),
        "hair_curl": trait(0, 1),
        "fringe": float(individual.random() < 0.25) * trait(0.1, 0.35),
    }


def draw_shot(seed: int, identity: int, shot: int) -> Shot:
    """Picture number `shot` of person `identity`: pose, framing, light, expression, scene and camera."""
    random = np.random.default_rng([seed, 3, identity, shot])
    return Shot(
        yaw=_wide(random, 0.4),
        pitch=_wide(random, 0.2),
        roll=_wide(random, 0.25),
        zoom=random.uniform(0.52, 0.82),
        shift_x=_wide(random, 0.26),
        shift_y=random.uniform(-0.16, 0.18),
        light_azimuth=random.uniform(-1.25, 1.25),
        light_height=random.uniform(0.05, 0.9),
        key=random.uniform(0.9, 1.6),
        fill=random.uniform(0.2, 0.55),
        warmth=_wide(random, 0.12),
        exposure=random.uniform(1.0, 1.4),
        smile=random.uniform(-0.25, 1),
        mouth_open=max(0.0, random.uniform(-0.8, 1)),
        gaze_x=_wide(random, 0.04),
        gaze_y=_wide(random, 0.015),
        lids=random.uniform(0.72, 1.1),
        brow_raise=_wide(random, 0.03),
        tan=_wide(random, 0.06),
        gloss=random.uniform(0.3, 1),
        blur=random.uniform(0.35, 0.7),
        grain=random.uniform(0.6, 1.4),
        scene_seed=(seed, 4, identity, shot),
        grain_seed=(seed, 5, identity, shot),
    )


def _wide(random: Generator, reach: float) -> float:
    return float(random.uniform(-reach, reach))
