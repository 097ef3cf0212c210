"""Assemble the demo: plan who is drawn, who is forged and with whom; then draw and write it."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from ffdi.console import Console
from ffdi.demo.faces import add_grain, draw_portrait
from ffdi.demo.fields import Field
from ffdi.demo.forgeries import forge, region_mask
from ffdi.demo.people import Identity, Shot, draw_identity, draw_shot
from ffdi.errors import InputError
from ffdi.files import replacing_folder, write_text
from ffdi.memory import keep_freed_memory

FAMILY = 3  # identities at most; the donor of a forgery is of the same family, so the family is the group
QUALITY = 92  # JPEG quality of every picture, with 4:2:0 sampling
POSTED = 75  # JPEG quality of the foreign set: pictures that were posted on some platform
_FEWEST = 6
_OWN_DONOR = 0.3  # share of forgeries whose donor is another shot of the same identity
_REGION_SHARES = {"eyes": 0.3, "nose": 0.15, "mouth": 0.2, "face": 0.35}


@dataclass(frozen=True)
class Planned:
    """One picture to draw. A real one has no forgery and no donor."""

    path: str
    identity: int
    family: int
    shot: int
    forgery: str | None = None
    donor: int | None = None

    @property
    def label(self) -> int:
        """1 for a fake, 0 for a real picture."""
        return int(self.forgery is not None)


def plan_demo(identities: int, seed: int) -> tuple[Planned, ...]:
    """Every picture of the demo, sorted by path: 16 of a family of three, half of them forged.

    Raises InputError for fewer than 6 identities.
    """
    if identities < _FEWEST:
        raise InputError(f"demo.identities is {identities}: the demo needs at least {_FEWEST}")
    random = np.random.default_rng([seed, 0])
    drafts: list[Planned] = []
    for first in range(0, identities, FAMILY):
        members = list(range(first, min(first + FAMILY, identities)))
        shots = [(one, shot) for one in members for shot in range(5 + (one % FAMILY == 0))]
        # An odd family's odd picture is forged in every other family.
        forged = set(random.permutation(len(shots))[: (len(shots) + first // FAMILY % 2) // 2].tolist())
        for place, (one, shot) in enumerate(shots):
            draft = Planned("", one, first // FAMILY, shot)
            drafts.append(_forged(draft, members, random) if place in forged else draft)
    order = random.permutation(len(drafts))
    return tuple(replace(drafts[at], path=f"img/{number:05d}.jpg") for number, at in enumerate(order))


def _forged(draft: Planned, members: list[int], random: Generator) -> Planned:
    others = [one for one in members if one != draft.identity]
    same_person = not others or random.random() < _OWN_DONOR
    donor = draft.identity if same_person else int(random.choice(others))
    kind = str(random.choice(list(_REGION_SHARES), p=list(_REGION_SHARES.values())))
    return replace(draft, forgery=kind, donor=donor)


def draw_picture(planned: Planned, seed: int) -> Image.Image:
    """The planned picture, 256x256 RGB; real and fake are drawn, exposed and quantised by the same chain."""
    person = draw_identity(seed, planned.family, planned.identity)
    shot = draw_shot(seed, planned.identity, planned.shot)
    portrait = draw_portrait(person, shot)
    picture = add_grain(portrait.picture, shot, 0)
    if planned.forgery is not None and planned.donor is not None:
        random = _draws(planned, seed)
        donor = _dressed_as(draw_identity(seed, planned.family, planned.donor), person)
        source = add_grain(draw_portrait(donor, _donor_shot(shot, random)).picture, shot, 1)
        picture = forge(picture, portrait.face, source, planned.forgery, random)
    # Half of the noise comes last and everywhere, or the smoothed noise of a forgery would give it away.
    picture = np.clip(add_grain(picture, shot, 2), 0, 1)
    pixels = (picture.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
    return Image.fromarray(pixels)


def forged_region(planned: Planned, seed: int) -> Field:
    """(256, 256) in 0..1: how much of each pixel of draw_picture comes from the donor; zeros for a real picture."""
    shot = draw_shot(seed, planned.identity, planned.shot)
    face = draw_portrait(draw_identity(seed, planned.family, planned.identity), shot).face
    if planned.forgery is None:
        return np.zeros_like(face[0])
    random = _draws(planned, seed)
    _donor_shot(shot, random)  # its draws come before those of the mask
    return region_mask(face, planned.forgery, random)


def _draws(planned: Planned, seed: int) -> Generator:
    """What is random in a forgery."""
    return np.random.default_rng([seed, 6, planned.identity, planned.shot])


def _dressed_as(donor: Identity, person: Identity) -> Identity:
    """The donor with the person's hair, beard and glasses: forgers choose sources that fit."""
    worn = (
        "hair",
        "hairline",
        "hair_volume",
        "hair_length",
        "hair_part",
        "hair_opening",
        "hair_curl",
        "fringe",
    )
    return replace(donor, **{name: getattr(person, name) for name in (*worn, "beard", "glasses")})


def _donor_shot(shot: Shot, random: Generator) -> Shot:
    """Another moment in nearly the same pose: expression, gaze and light differ."""
    return replace(
        shot,
        yaw=shot.yaw + random.normal(0, 0.03),
        pitch=shot.pitch + random.normal(0, 0.02),
        light_azimuth=shot.light_azimuth + random.normal(0, 0.25),
        light_height=shot.light_height + random.normal(0, 0.1),
        smile=float(np.clip(shot.smile + random.normal(0, 0.4), -0.25, 1)),
        mouth_open=max(0.0, shot.mouth_open + random.normal(0, 0.3)),
        gaze_x=shot.gaze_x + random.normal(0, 0.012),
    )


def write_demo(
    out: Path, *, identities: int, seed: int, quality: int = QUALITY, workers: int = 2, console: Console = Console()
) -> None:
    """Write `out`/img/*.jpg and `out`/labels.csv (path,label,group,identity,forgery); it replaces all of `out`.

    The bytes depend on `identities`, `seed` and the JPEGs' `quality` alone, never on `workers`.
    """
    plan = plan_demo(identities, seed)
    with replacing_folder(out) as folder:
        (folder / "img").mkdir()
        _write_all(plan, partial(_write_picture, folder, seed, quality), workers, console)
        write_text(folder / "labels.csv", _table(plan))


def _write_picture(folder: Path, seed: int, quality: int, planned: Planned) -> None:
    draw_picture(planned, seed).save(folder / planned.path, quality=quality, subsampling="4:2:0")


def _write_all(plan: tuple[Planned, ...], write: Callable[[Planned], None], workers: int, console: Console) -> None:
    """Write all pictures in this process, or in new ones (not forked: a fork of a process with threads can hang)."""

    def follow(results: Iterable[None]) -> None:
        deque(console.progress(results, len(plan), unit="pictures"), maxlen=0)

    if workers == 1:
        follow(map(write, plan))
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), keep_freed_memory) as pool:
        follow(pool.map(write, plan, chunksize=8))


def _table(plan: tuple[Planned, ...]) -> str:
    rows = (
        f"{one.path},{one.label},family-{one.family:02d},person-{one.identity:03d},{one.forgery or ''}\n"
        for one in plan
    )
    return "path,label,group,identity,forgery\n" + "".join(rows)
