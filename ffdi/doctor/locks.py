"""Who is writing here: stages that hold a folder, and runs of DVC."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ffdi.doctor.diagnosis import Diagnosis
from ffdi.errors import FfdiError
from ffdi.files import locked

SECTION = "project"
REMEDY = "wait for it, or end it"


def lock_diagnoses() -> Iterator[Diagnosis]:
    """One for each folder of data/ that a process writes to, and one for each process of DVC; or one that says none."""
    held = [*_stages(), *_dvc()]
    yield from held
    if not held:
        yield Diagnosis(SECTION, "locks", "ok", "nobody is writing here")


def _stages() -> Iterator[Diagnosis]:
    """What sole_writer holds. Its file with the PID is gone where nobody holds it, except after a kill."""
    for holder in sorted(Path("data").glob("*/*.lock.pid")):
        lock = holder.with_suffix("")
        try:
            with locked(lock, wait=False):
                pass
        except BlockingIOError:
            with suppress(OSError):  # it has just ended
                pid = holder.read_text(encoding="utf-8").strip()
                yield Diagnosis(SECTION, "locks", "note", f"{lock.with_suffix('')} is written to by PID {pid}", REMEDY)
        except FfdiError as error:
            yield Diagnosis(SECTION, "locks", "note", f"{error}", "run where the disk can be written")


def _dvc() -> Iterator[Diagnosis]:
    """What DVC says of the paths that it is working on: .dvc/tmp/rwlock, which names killed processes too."""
    try:
        written: dict[str, Any] = json.loads(Path(".dvc/tmp/rwlock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    writers = written.get("write", {}).values()
    readers = (reader for of_path in written.get("read", {}).values() for reader in of_path)
    commands = {int(entry["pid"]): entry["cmd"] for entry in (*writers, *readers)}
    for pid, command in commands.items():
        if _runs(pid):
            yield Diagnosis(SECTION, "locks", "note", f"{command} is running (PID {pid})", REMEDY)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
