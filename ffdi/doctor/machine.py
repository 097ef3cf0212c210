"""The device that computes and why, the processors and the memory, and the folder of the cache."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from ffdi.doctor.diagnosis import Diagnosis, State, one_of
from ffdi.errors import one_line
from ffdi.features.devices import device_line, has_cuda
from ffdi.files import cache_folders, human_bytes
from ffdi.memory import memory_limit
from ffdi.parallel import cpu_count

SECTION = "machine"


def machine_diagnoses(device: str, memory_gb: float) -> Iterator[Diagnosis]:
    """`device` and `memory_gb` are those of `train` in params.yaml."""
    line = device_line(device)
    state: State = "ok" if line.startswith("cuda") or line in ("cpu: no driver", "cpu: asked for") else "note"
    remedy = "torch and driver must fit: install a newer driver, or the build of torch for it (pytorch.org)"
    if device == "cuda" and not has_cuda():
        state, remedy = "missing", f"train.device is cuda: set it to auto, or: {remedy}"
    yield one_of(state, SECTION, "device", line, remedy)
    yield _onnxruntime()
    memory = min(memory_limit(), _memory())
    short = memory < memory_gb * 1e9
    found = f"{cpu_count()} for this process, {human_bytes(memory)} of memory"
    remedy = f"train.memory_gb is {memory_gb:g}: lower it, and what does not fit is streamed"
    yield one_of("note" if short else "ok", SECTION, "processors", found, remedy)
    yield _cache()


def _onnxruntime() -> Diagnosis:
    """Whether what computes prefixes on the CPU loads: its version alone does not say that."""
    try:
        import onnxruntime
    except Exception as error:  # a broken installation may raise anything
        remedy = "set runtime: torch in the backbones, or install onnxruntime anew"
        return Diagnosis(SECTION, "onnxruntime", "missing", f"does not load: {one_line(error)[:200]}", remedy)
    return Diagnosis(SECTION, "onnxruntime", "ok", ", ".join(onnxruntime.get_available_providers()))


def _memory() -> float:
    """The bytes of memory that the machine has; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return math.inf


def _cache() -> Diagnosis:
    """Where exported prefixes and unpacked archives are kept."""
    remedy = "set FFDI_CACHE to a folder that can be written: what is cached is made anew every time"
    folder = next(iter(cache_folders()), None)
    if folder is None:
        return Diagnosis(SECTION, "cache", "note", "there is no home folder", remedy)
    there = next(each for each in (folder, *folder.parents, Path("/")) if each.exists())
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    found = f"{folder}" if writable else f"{folder} cannot be written"
    return one_of("ok" if writable else "note", SECTION, "cache", found, remedy)
