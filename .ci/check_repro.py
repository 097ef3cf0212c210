"""Do the committed figures come out again? Clones HEAD, deletes its metrics, runs the whole DAG, compares.

On the type of machine that `--record` noted, every figure and every hash of dvc.lock must be equal. Elsewhere the test
scores and all that follows from them may differ by what another processor explains: figure_rules.py has the rule.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from figure_rules import figure_differences
from figures import Figures, digest, read_figures, score_differences
from ruamel.yaml import YAML

from ffdi.evaluation.results import read_results, results_table
from ffdi.evaluation.verdict import verdict
from ffdi.features.devices import describe_cuda
from ffdi.parallel import cpu_count
from ffdi.params.reading import read_params

MACHINE, SCORES = Path(".ci/machine"), Path(".ci/scores")


def machine_type() -> str:
    """What decides the last bits of a float: system, processor, how many cores share a sum, the packages, the GPU."""
    python = ".".join(platform.python_version_tuple()[:2])  # the lock has other packages for another Python
    facts = [platform.system(), platform.machine(), f"Python {python}", f"{cpu_count()} cores"]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        facts += [named.get(key, "") for key in ("model name", "cpu family", "model")]
    return ", ".join(fact for fact in (*facts, *describe_cuda().values()) if fact)


def figures_of(checkout: Path) -> Figures:
    """The figures of a checkout whose pipeline has run."""
    return read_figures(
        checkout / "metrics/details",
        plots=checkout / "metrics/plots",
        models=checkout / "data/models",
        cross=checkout / "data/cross",
        images=checkout / "data/images.csv",
    )


def read_all(folder: Path) -> dict[str, Any]:
    """Every tracked JSON of a metrics folder, by its path: those below plots are DVC's, and a clone has none."""
    files = [*folder.glob("*.json"), *folder.glob("details/*.json")]
    return {str(file.relative_to(folder)): json.loads(file.read_text()) for file in sorted(files)}


def unequal(committed: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    """Lines that say which files, and which of their figures, are not the same to the last bit."""
    lines = [f"{name}: only in one of the two" for name in sorted(set(committed) ^ set(made))]
    for name in sorted(set(committed) & set(made)):
        old, new = committed[name], made[name]
        lines += [
            f"{name}: {key}: committed {old.get(key, 'nothing')!r}, made {new.get(key, 'nothing')!r}"
            for key in sorted({*old, *new})
            if (key in old, old.get(key)) != (key in new, new.get(key))
        ]
    return lines


def other_headlines(metrics: Mapping[str, Any]) -> list[str]:
    """Figures of a headline that are not those of its details."""
    return [
        f"{name}: {key} is {value!r}, in the details {metrics[f'details/{name}'].get(key)!r}"
        for name, headline in metrics.items()
        if f"details/{name}" in metrics
        for key, value in headline.items()
        if metrics[f"details/{name}"].get(key) != value
    ]


def changed_hashes(committed: Path, made: Path) -> list[str]:
    """Stages whose dependencies, params or outs have other hashes than the committed dvc.lock says."""
    a, b = (YAML(typ="safe", pure=True).load(file.read_text())["stages"] for file in (committed, made))
    return [f"dvc.lock: {stage}" for stage in sorted({*a, *b}) if a.get(stage) != b.get(stage)]


def readme_with_figures(checkout: Path) -> str:
    """README.md with the results table and the verdict of the checkout's metrics."""
    params = read_params(checkout / "params.yaml")
    results = read_results(checkout / "metrics", dict.fromkeys([*params.recipes, *params.ensembles], ""))
    said = "\n".join(textwrap.wrap(verdict(results), 110))
    text = (checkout / "README.md").read_text(encoding="utf-8")
    for name, figures in (
        ("results", results_table(results)),
        ("verdict", f"```\n{said}\nThe page: data/report/index.html\n```\n"),
    ):
        pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"
        text = re.sub(pattern, lambda _, figures=figures: figures, text, flags=re.S)  # type: ignore[misc]
    return text


def record() -> None:
    """Note that the figures of this checkout are this machine's: its type, the test scores, README's table."""
    made = figures_of(Path.cwd())
    if missing := [name for name in made.recipes if name not in made.scores]:
        sys.exit(f"record: {missing[0]} has no test scores here: run dvc repro first")
    SCORES.mkdir(parents=True, exist_ok=True)
    for stale in SCORES.glob("*.csv"):
        stale.unlink()
    for name, scores in made.scores.items():
        digest(scores).to_csv(SCORES / f"{name}.csv", index=False)
    MACHINE.write_text(machine_type() + "\n")
    Path("README.md").write_text(readme_with_figures(Path.cwd()), encoding="utf-8")
    print(f"record: the figures are of {machine_type()}: commit them with {MACHINE}, {SCORES} and README.md")


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


def problems_elsewhere(clone: Path, committed: Mapping[str, Any]) -> list[str]:
    """What differs by more than another type of machine explains."""
    made = figures_of(clone)
    details = {Path(name).stem: m for name, m in committed.items() if name.startswith("details/")}
    digests = {file.stem: pd.read_csv(file) for file in (clone / SCORES).glob("*.csv")}
    problems = [f"{name}: no scores are recorded: make record" for name in made.recipes if name not in digests]
    for name in sorted(set(digests) & set(made.scores)):
        problems += [f"{name}: {line}" for line in score_differences(digests[name], made.scores[name])]
    return problems + figure_differences(details, made, digests) + other_headlines(read_all(clone / "metrics"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="note that the present figures are of this machine")
    parser.add_argument(
        "--keep-demo", action="store_true", help="leave its demo in data/demo, for the tests, if none is there"
    )
    options = parser.parse_args()
    if options.record:
        return record()
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="ffdi-check-repro-") as folder:
        clone = Path(folder) / "ffdi"
        subprocess.run(["git", "clone", "--quiet", str(here), str(clone)], check=True)
        committed = read_all(clone / "metrics")
        problems = []
        if readme_with_figures(clone) != (clone / "README.md").read_text(encoding="utf-8"):
            problems.append("README.md: shows other figures than the committed ones: make record")
        recorded_on = (clone / MACHINE).read_text().strip() if (clone / MACHINE).exists() else "no machine"
        lock = Path(folder) / "dvc.lock"
        lock.write_text((clone / "dvc.lock").read_text())
        for name in committed:
            (clone / "metrics" / name).unlink()
        problems += [f"skipped: {line}" for line in repro(clone)]
        if options.keep_demo and not Path("data/demo").exists():
            shutil.copytree(clone / "data/demo", "data/demo")
        if recorded_on == machine_type():
            problems += unequal(committed, read_all(clone / "metrics")) + changed_hashes(lock, clone / "dvc.lock")
            rule = "equal to the last bit"
        else:
            problems += problems_elsewhere(clone, committed)
            rule = f"within what another machine may change: recorded on {recorded_on}, this is {machine_type()}"
    if problems:
        sys.exit("check-repro: the committed figures do not come out again:\n  " + "\n  ".join(problems))
    print(f"check-repro: {len(committed)} metrics files come out again ({rule})")


if __name__ == "__main__":
    main()
