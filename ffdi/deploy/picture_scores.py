"""Pictures -> scores, in a stream: what judges pictures as they are and what judges the faces in them have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from ffdi.console import Console
from ffdi.deploy.judgement import Judgement
from ffdi.features.decoders import Read
from ffdi.features.devices import set_up_device
from ffdi.tails.model import Model
from ffdi.tails.predict import device_lines, score_by_models
from ffdi.tails.scoring import ImageScore

Ticket = TypeVar("Ticket")


def scored(
    models: Sequence[Model],
    pictures: Iterable[tuple[Ticket, str, Read]],
    *,
    max_pixels: int,
    console: Console = Console(),
) -> Iterator[tuple[Ticket, tuple[ImageScore, ...] | str]]:
    """(ticket, the score by each model, or the reason why there is none) of each (ticket, name, function that reads it).

    Models that read the same features share them. Only tickets wait for their scores: the pictures may be large.
    """
    device, tickets = set_up_device(), deque[Ticket]()
    for line in dict.fromkeys(line for model in models for line in device_lines(model)):
        console.say(line)

    def images() -> Iterator[tuple[str, Read]]:
        for ticket, name, read in pictures:
            tickets.append(ticket)
            yield name, read

    for scores in score_by_models(models, images(), max_pixels=max_pixels, device=device, console=console):
        yield tickets.popleft(), scores


def judgement_of(model: Model, name: str, score: ImageScore | str) -> Judgement:
    """The row of a score, or of the reason why there is none."""
    if isinstance(score, str):
        return Judgement(name, reason=score)
    by_fold = list(score.by_fold.values())
    spread = float(np.std(by_fold)) if len(by_fold) > 1 else None
    verdict = str(model.policy.verdicts(np.array([score.mean]))[0])
    return Judgement(name, score.mean, verdict, spread, score.unlike)
