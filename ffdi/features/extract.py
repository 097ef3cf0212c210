"""images -> views -> prefix -> shards: plan what is missing, compute it, write it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ffdi.console import Console
from ffdi.errors import FfdiError
from ffdi.features.engines.engine import EngineResult, choose_engine
from ffdi.features.extractor import Extractor
from ffdi.features.feature_spec import Rows
from ffdi.features.image_views import locate_images
from ffdi.features.remote_shard_set import RemoteShardSet
from ffdi.features.settings import ExtractSettings
from ffdi.features.shard_set import Goal, Plan, ShardSet
from ffdi.files import human_bytes, sole_writer
from ffdi.intake.decoding.images import ImageSource

_PLANNED = 1 << 18  # images at a time


@dataclass(frozen=True)
class ExtractionSummary:
    """What a run did: rows in all, reused, derived from shards that hold more, and computed, the bytes of their features,
    and where the time went.

    `seconds` by part: `start` opens the runtime, and `work` is the wall clock without it. `decode`, `views` and
    `prefix` are summed over the workers; `write` is the writer's own part of `work`.
    """

    rows: int
    reused: int
    derived: int
    computed: int
    bytes: int
    seconds: Mapping[str, float]

    @property
    def lines(self) -> list[str]:
        """What was done, and if rows were computed, how fast."""
        derived = f", {self.derived} derived" if self.derived else ""
        lines = [f"{self.computed} rows computed, {self.reused} reused{derived}"]
        if self.computed:
            rate = self.computed / self.seconds["work"]
            parts = ", ".join(f"{part} {spent:.1f} s" for part, spent in self.seconds.items() if part != "work")
            lines.append(f"{rate:.0f} views/s; {parts} (decode, views and prefix summed over the workers)")
        return lines


def plan_rows(
    image_ids: Sequence[str] | pd.Series[str], roles: Sequence[str] | pd.Series[str], view_count: int
) -> Rows:
    """Sorted (image_id, view): views 0..view_count of train images, view 0 of test images, view 1 of `perturbed` ones."""
    views = {"train": range(view_count + 1), "test": range(1), "perturbed": range(1, 2)}
    code, found = pd.factorize(pd.Series(roles))
    of_role = [views[role] for role in found]
    first, count = (np.array([part(r) for r in of_role], np.int64)[code] for part in (lambda r: r.start, len))
    ends = np.cumsum(count)
    keys = np.empty((int(ends[-1]) if len(ends) else 0, 33), np.uint8)
    for start in range(0, len(code), _PLANNED):
        some = slice(start, start + _PLANNED)
        digits = np.frombuffer(bytes.fromhex("".join(image_ids[some])), np.uint8).reshape(-1, 32)
        here = np.repeat(np.arange(len(digits)), count[some])
        before = ends[some] - count[some]
        at = np.arange(len(here)) + (before[0] if len(before) else 0)
        keys[at, :32] = digits[here]
        keys[at, 32] = first[some][here] + at - before[here]
    planned = keys.view("S33").ravel()
    return Rows(planned if (planned[:-1] <= planned[1:]).all() else np.sort(planned))


def extract_features(
    images: pd.DataFrame,
    extractor: Extractor,
    out: Path,
    *,
    source: ImageSource,
    settings: ExtractSettings = ExtractSettings(),
    console: Console = Console(),
) -> ExtractionSummary:
    """Bring `out` to hold the features of every image of `images`, reusing each row whose fingerprint is unchanged.

    `images` has the columns of images.csv and `role` (see plan_rows). Raises InputError when a file is no longer the
    one that was ingested, FfdiError when the disk is too small, LockedError when another process writes here. The
    console gets warnings of what computes rows, when any are missing, and of what that and the decoder meet.
    """
    spec = extractor.spec
    rows = plan_rows(images["image_id"], images["role"], extractor.backbone.views.count)
    provenance = {
        "weights": extractor.provenance.source,
        "pretrained": extractor.provenance.pretrained,
        "weights_sha256": spec.weights_sha256,
    }
    goal = Goal(spec, rows, settings.shard_rows, provenance, settings.compression)
    size = len(rows) * spec.row_bytes
    with sole_writer(out):
        shape = "x".join(str(n) for n in spec.shape)
        url = f"{settings.store.rstrip('/')}/{extractor.backbone.name}" if settings.store else None
        console.say(
            f"{len(rows)} rows of {shape} {spec.dtype}: {human_bytes(size)} {f'at {url}' if url else 'on disk'}"
        )
        started = time.perf_counter()
        shards = RemoteShardSet(out, goal, url) if url else ShardSet(out, goal)
        done = EngineResult((), (), {})
        if plan := shards.plan():
            if not url:
                _refuse_small_disk(plan, out)
            _announce(plan, None if settings.engine == "ray" else extractor, console)
            files = locate_images(images, source)
            done = choose_engine(settings.engine)(plan.tasks, extractor, files, settings, console)
            made_by = done.made_by if plan.missing or plan.unnamed else ()
            if plan.unnamed and not made_by:
                made_by = extractor.open().made_by
            shards.commit(plan, done.entries, made_by)
        seconds = _by_part(done.seconds, time.perf_counter() - started)
    computed, derived = (len(plan.missing), sum(plan.derived.values())) if plan else (0, 0)
    return ExtractionSummary(len(rows), len(rows) - computed - derived, derived, computed, size, seconds)


def _refuse_small_disk(plan: Plan, out: Path) -> None:
    """FfdiError when the disk is too small: the old set stays until the new one is complete, so both must fit."""
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if plan.bytes > free:
        room = f"needs {human_bytes(plan.bytes)}, the disk has {human_bytes(free)} free"
        raise FfdiError(f"{out}: {room}: free some, or store less: a later cut (`ffdi cuts`), keep, fewer views")


def _announce(plan: Plan, computes_here: Extractor | None, console: Console) -> None:
    """Say what is to be done, and by which device where it is one of this machine."""
    there = sum(len(task.rows) for task in plan.tasks) - sum(plan.derived.values())
    for folder, rows in plan.derived.items():
        console.say(f"{rows} rows derived from {folder}")
    if missing := len(plan.missing):
        if computes_here:
            console.warn(computes_here.device_line)
        console.say(f"{there - missing} rows are there, {missing} to compute")


def _by_part(engine: Mapping[str, float], total: float) -> dict[str, float]:
    """The seconds of an ExtractionSummary, from the engine's and those of planning, engine and writing in `total`."""
    parts = {"start": 0.0} | {part: spent for part, spent in engine.items() if part != "wait"}
    work = total - parts["start"]
    return parts | {"work": work} | ({} if "write" in parts else {"write": work - engine.get("wait", 0.0)})
