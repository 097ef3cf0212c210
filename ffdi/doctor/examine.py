"""Everything that is looked at, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ffdi.doctor.diagnosis import Diagnosis
from ffdi.doctor.machine import machine_diagnoses
from ffdi.doctor.packages import package_diagnoses
from ffdi.errors import ParamsError
from ffdi.tails.settings import TrainSettings


def examine() -> Iterator[Diagnosis]:
    """What there is on this machine, and in the project of the folder that this process runs in, if it is one."""
    yield from package_diagnoses()
    file = Path("params.yaml")
    if not file.exists():
        train = TrainSettings()
        yield from machine_diagnoses(train.device, 0)
        remedy = "cd to the checkout: backbones, locks, disk and the next dvc repro are looked at there"
        yield Diagnosis("project", "params.yaml", "note", "not in this folder", remedy)
        return
    from ffdi.doctor.project import project_diagnoses
    from ffdi.params.reading import read_params

    try:
        params = read_params(file)
    except ParamsError as error:
        yield from machine_diagnoses("auto", 0)
        yield Diagnosis(
            "project", "params.yaml", "missing", f"{error}", "correct that key: docs/params.md has them all"
        )
        return
    yield from machine_diagnoses(params.train.device, params.train.memory_gb)
    yield from project_diagnoses(params)
