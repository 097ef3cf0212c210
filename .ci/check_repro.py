"""Do the committed figures come out again? Clones HEAD, deletes its metrics, runs the whole DAG, compares.

On the machine type that `--record` noted, every figure and every hash of dvc.lock must be equal, but for the report,
which tells how long things took; elsewhere counts and strings exactly, AUC and accuracy within .02.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

TOLERANCE = 0.02
MACHINE = Path(".ci/machine")


def machine_type() -> str:
    """What decides the last bits of a float: system, processor and how many cores share a sum."""
    facts = [platform.system(), platform.machine(), f"{os.cpu_count()} cores"]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        facts += [named.get(key, "") for key in ("model name", "cpu family", "model")]
    return ", ".join(fact for fact in facts if fact)


def differences(committed: dict[str, Any], made: dict[str, Any], *, exact: bool) -> list[str]:
    """Lines that say which figures of one metrics file differ by more than allowed."""
    lines = [f"{key}: only in one of the two" for key in sorted(set(committed) ^ set(made))]
    for key in sorted(set(committed) & set(made)):
        a, b = committed[key], made[key]
        if a == b:
            continue
        numbers = all(isinstance(v, float) for v in (a, b))
        if exact or not numbers:
            lines.append(f"{key}: committed {a!r}, made {b!r}")
        elif ("auc" in key or "accuracy" in key) and not math.isclose(a, b, abs_tol=TOLERANCE):
            lines.append(f"{key}: committed {a!r}, made {b!r}, farther apart than {TOLERANCE}")
    return lines


def changed_hashes(committed: Path, made: Path) -> list[str]:
    """Stages whose dependencies, params or outs have other hashes than the committed dvc.lock says."""
    a, b = (YAML(typ="safe", pure=True).load(file.read_text())["stages"] for file in (committed, made))
    for stages in (a, b):
        stages.get("report", {}).pop("outs", None)
    return [f"dvc.lock: {stage}" for stage in sorted({*a, *b}) if a.get(stage) != b.get(stage)]


def repro(clone: Path) -> list[str]:
    """Run the whole DAG in the clone; returns the stages that were skipped."""
    environment = os.environ | {"PYTHONPATH": str(clone)}  # the clone's ffdi, not the one installed from here
    skipped = []
    with subprocess.Popen(
        ["dvc", "repro", "--force"], cwd=clone, env=environment, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            print(line, end="", flush=True)
            if "skipping" in line:
                skipped.append(line.strip())
    if run.returncode:
        sys.exit(f"check-repro: dvc repro failed with {run.returncode}")
    return skipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="note this machine's type as that of the metrics")
    if parser.parse_args().record:
        MACHINE.write_text(machine_type() + "\n")
        return
    exact = MACHINE.exists() and MACHINE.read_text().strip() == machine_type()
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="ffdi-check-repro-") as folder:
        clone = Path(folder) / "ffdi"
        subprocess.run(["git", "clone", "--quiet", str(here), str(clone)], check=True)
        committed = {file.name: json.loads(file.read_text()) for file in sorted((clone / "metrics").glob("*.json"))}
        lock = Path(folder) / "dvc.lock"
        lock.write_text((clone / "dvc.lock").read_text())
        for name in committed:
            (clone / "metrics" / name).unlink()
        problems = [f"skipped: {line}" for line in repro(clone)]
        made = {file.name: json.loads(file.read_text()) for file in sorted((clone / "metrics").glob("*.json"))}
        problems += [f"{name}: only in one of the two" for name in sorted(set(committed) ^ set(made))]
        for name in sorted(set(committed) & set(made)):
            problems += [f"{name}: {line}" for line in differences(committed[name], made[name], exact=exact)]
        if exact:
            problems += changed_hashes(lock, clone / "dvc.lock")
    rule = "equal" if exact else f"on another machine type, AUC and accuracy within {TOLERANCE}"
    if problems:
        sys.exit("check-repro: the committed metrics do not come out again:\n  " + "\n  ".join(problems))
    print(f"check-repro: {len(made)} metrics files come out again ({rule})")


if __name__ == "__main__":
    main()
