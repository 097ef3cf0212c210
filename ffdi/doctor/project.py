"""The project in this folder: its params.yaml, its backbones, who writes to it, and what its next run takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ffdi.doctor.data_root import root_diagnoses, root_diagnosis
from ffdi.doctor.diagnosis import Diagnosis, State
from ffdi.doctor.locks import lock_diagnoses
from ffdi.doctor.next_run import NextStage, planned_stages
from ffdi.doctor.weights import weights_diagnoses
from ffdi.errors import one_line
from ffdi.files import human_bytes
from ffdi.params.schema import Params

SECTION = "project"
_SHOWN = 8  # stages that are named
_SPARE = 1e9  # bytes that should stay free


def project_diagnoses(params: Params) -> Iterator[Diagnosis]:
    """Of the folder that this process runs in."""
    yield from weights_diagnoses(params)
    for name, faces in params.faces.items():
        yield root_diagnosis(faces, SECTION, f"faces.{name}.root")
    yield from root_diagnoses(params.data, SECTION)
    if params.extract.store:
        from ffdi.doctor.feature_store import store_diagnosis

        yield store_diagnosis(params.extract.store, list(params.backbones))
    for name, part in (("extract.ray", params.extract), ("train.ray", params.train)):
        if part.engine == "ray":
            from ffdi.doctor.ray_cluster import cluster_diagnosis

            yield cluster_diagnosis(part.ray, SECTION, name)
    yield from lock_diagnoses()
    yield from next_run_diagnoses()


def next_run_diagnoses() -> Iterator[Diagnosis]:
    """What the next `dvc repro` runs, its time, and the disk that it needs."""
    try:
        from dvc.exceptions import DvcException
    except ImportError:
        remedy = "pip install -e '.[pipeline]'"
        yield Diagnosis(SECTION, "next run", "missing", "DVC is not installed", remedy)
        yield _disk([])
        return
    try:
        planned = planned_stages()
    except DvcException as error:
        remedy = "mend what DVC names; a checkout without .dvc: dvc init"
        if "'data.tables'" in str(error):
            remedy = "take data.tables out of params.yaml, and change it in the vars of dvc.yaml"
        yield Diagnosis(
            SECTION, "next run", "missing", f"DVC cannot read the pipeline: {one_line(error)[:300]}", remedy
        )
        yield _disk([])
        return
    except FileNotFoundError as error:  # behind a link of data/root, which DVC follows
        found, remedy = f"DVC misses {error.filename}: it is gone", "dvc repro --single-item --force root"
        yield Diagnosis(SECTION, "next run", "missing", found, remedy)
        yield _disk([])
        return
    facts = {"runs": [stage.name for stage in planned if not stage.follows]}
    facts["follow"] = [stage.name for stage in planned if stage.follows]
    yield Diagnosis(SECTION, "next run", "ok", _stages_line(**facts), facts=facts)
    if planned:
        yield _time(planned)
    yield _disk(planned)


def _stages_line(runs: list[str], follow: list[str]) -> str:
    """What `dvc repro` runs, and what it may run after that."""
    if not runs:
        return "dvc repro has nothing to run"
    after = f"; then, where their results change, {_named(follow)}" if follow else ""
    return f"dvc repro runs {_named(runs)}{after}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _time(planned: list[NextStage]) -> Diagnosis:
    """How long these stages took the last time."""
    known = [stage.seconds for stage in planned if stage.seconds is not None]
    unknown = [stage.name for stage in planned if stage.seconds is None]
    found = f"about {_duration(sum(known))}, as they took the last time" if known else "never measured here"
    if known and unknown:
        found += f"; never measured: {_named(unknown)}"
    facts = {"seconds": round(sum(known), 1), "unknown": unknown}
    return Diagnosis(SECTION, "time", "ok", found, facts=facts)


def _duration(seconds: float) -> str:
    """45.3 -> '45 s'; 300 -> '5 min'; 9000 -> '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _disk(planned: list[NextStage]) -> Diagnosis:
    """What is free, against what these stages wrote the last time."""
    free = shutil.disk_usage(Path()).free
    needed = sum(stage.bytes or 0 for stage in planned)
    unknown = [stage.name for stage in planned if stage.bytes is None]
    found = f"{human_bytes(free)} free"
    if planned:
        found += f"; the next run writes about {human_bytes(needed)}, DVC's cache included"
    if unknown:
        found += f", and more that is not known before it ran: {_named(unknown)}"
    short: State = "missing" if needed > free else "note" if needed + _SPARE > free else "ok"
    remedy = "free some: docs/dvc.md; `ffdi cuts NETWORK` says what features take"
    facts = {"free": free, "needed": needed, "unknown": unknown}
    return Diagnosis(SECTION, "disk", short, found, "" if short == "ok" else remedy, facts)
