"""How often the audit finds what is planted, by kind and strength: the tables in docs/audit.md.

    python bench/audit_rates.py [--real FOLDER] [--only copies|shortcuts]

Draws the demo, plants copies in it (and in FOLDER, an imagefolder of real faces) for ten seeds, and counts which are
named beside their source or an image of its group: by the perceptual hash, by that and the search for copies, and by
embeddings alone; how often a probe warns of a shortcut that gives a share of the fakes away, and of turned labels.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "intake"))
from plants import (  # type: ignore[import-not-found]
    COPIES,
    LITE0,
    MAX_PIXELS,
    DataSet,
    by_class,
    jpeg,
    plant_copy,
    with_given_splits,
)

from ffdi.demo.dataset import write_demo
from ffdi.features.backbone import Backbone
from ffdi.features.compute import embed
from ffdi.features.extractor import load_extractor
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.settings import AuditSettings

DOCS = Path(__file__).parents[1] / "docs" / "audit.md"
SEEDS = 10
MIN_COSINE = 0.95
SHARES = (0.05, 0.1, 0.2, 0.4, 1.0)
WAYS = ("hash", "copies", "embedding")
Rates = dict[tuple[str, float], dict[str, float]]


def planted_rates(data: DataSet, weights: Path, victims: int) -> tuple[Rates, int]:
    """(share found by each way, for each kind and strength; clean pairs named) over SEEDS draws."""
    trials = [(kind, float(s)) for kind, (_, strengths, _) in COPIES.items() for s in strengths] * victims
    prefix = load_extractor(Backbone(**LITE0), weights)
    hits: Counter[tuple[str, float, str]] = Counter()
    alarms = 0
    for seed in range(SEEDS):
        draw = np.random.default_rng([seed, 99])
        chosen = draw.choice(len(data.rows), len(trials), replace=False)
        with tempfile.TemporaryDirectory() as folder:
            added, ids = [], []
            for number, ((kind, strength), row) in enumerate(zip(trials, chosen, strict=True)):
                changed = jpeg(COPIES[kind][0](data.picture(int(row)), strength, draw))
                (Path(folder) / f"{number}.jpg").write_bytes(changed)
                ids.append(hashlib.sha256(changed).hexdigest())
                added.append(plant_copy(data, int(row), changed, str(number), draw))
            table = pd.DataFrame({"image_id": ids, "path": [f"{n}.jpg" for n in range(len(trials))]})
            assert data.embeddings is not None
            near = embed(table.drop_duplicates("image_id"), prefix, ImageSource(Path(folder), MAX_PIXELS))
            near = near[table["image_id"].factorize()[0]]
        grown = data.with_images(added)
        found = find_leaks(
            grown.rows,
            AuditSettings(min_cosine=MIN_COSINE),
            sketches=grown.inputs.sketches,
            embeddings=np.concatenate([data.embeddings, near]),
        )
        pairs: dict[str, set[frozenset[str]]] = {way: set() for way in WAYS}
        group = dict(zip(data.rows["path"], data.rows["group"], strict=True))
        for f in found:
            for way, check in zip(WAYS, ("perceptual", "augmented_copy", "embedding"), strict=True):
                if any(one.startswith(check) for one in (f.check, *f.checks)):
                    pairs[way].add(frozenset(group.get(path, path) for path in (f.path_a, f.path_b)))
        pairs["copies"] |= pairs["hash"]
        alarms += sum("planted/" not in "".join(pair) for pair in pairs["copies"])
        for number, (trial, row) in enumerate(zip(trials, chosen, strict=True)):
            pair = frozenset((f"planted/{number}.jpg", data.rows["group"][row]))
            for way in WAYS:
                hits[(*trial, way)] += pair in pairs[way]
        click.echo(f"seed {seed}: {len(trials)} planted, {alarms} false alarms so far", err=True)
    rates = {t: {way: hits[(*t, way)] / (SEEDS * victims) for way in WAYS} for t in dict.fromkeys(trials)}
    return rates, alarms


def table(results: dict[str, Rates]) -> str:
    """Markdown: a row a kind and strength, three columns a data set."""
    heads = [f"{name}: {way}" for name in results for way in ("hash", "+ copies", "embedding alone")]
    lines = ["| planted | strength | " + " | ".join(heads) + " |", "| --- | ---: |" + " ---: |" * len(heads)]
    for kind, (_, strengths, _) in COPIES.items():
        for strength in strengths:
            cells = [f"{r[kind, float(strength)][way] * 100:.0f} %" for r in results.values() for way in WAYS]
            shown = "" if len(strengths) == 1 else f"{strength:g}"
            lines.append(f"| {kind} | {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shortcut_rates(data: DataSet) -> dict[tuple[str, str], float]:
    """Share of SEEDS draws in which the probe warned: by family and share of the fakes given away, and of labels."""
    hits: Counter[tuple[str, str]] = Counter()
    for seed in range(SEEDS):
        for share in SHARES:
            planted = by_class(data, np.random.default_rng([seed, 98]), share)
            for family, marked in planted.items():
                hits[f"{family} by class", f"{share:.0%} of the fakes"] += marked.is_loud(family)
        for turned in (True, False):
            split = with_given_splits(data, np.random.default_rng([seed, 97]), turned=turned)
            hits["polarity of two given splits", "turned" if turned else "right"] += bool(split.inverted())
        click.echo(f"seed {seed}: {dict(hits)}", err=True)
    return {key: count / SEEDS for key, count in hits.items()}


def shortcut_table(results: dict[str, dict[tuple[str, str], float]]) -> str:
    """Markdown: a row a kind and strength, a column a data set."""
    lines = ["| planted | strength | " + " | ".join(results) + " |", "| --- | ---: |" + " ---: |" * len(results)]
    for kind, strength in sorted(next(iter(results.values())), key=lambda k: k[0]):
        cells = " | ".join(f"{rates[kind, strength] * 100:.0f} %" for rates in results.values())
        lines.append(f"| {kind} | {strength} | {cells} |")
    return "\n".join(lines)


def write_between(marker: str, text: str) -> None:
    """Put `text` between docs/audit.md's comments of this name."""
    pattern = rf"(?s)(<!-- {marker} -->\n).*(<!-- /{marker} -->)"
    DOCS.write_text(re.sub(pattern, lambda m: f"{m[1]}{text}\n{m[2]}", DOCS.read_text("utf-8")), "utf-8")


@click.command()
@click.option("--real", type=click.Path(path_type=Path, exists=True), help="an imagefolder of real faces")
@click.option("--only", type=click.Choice(["copies", "shortcuts"]))
def main(real: Path | None, only: str | None) -> None:
    """Write the rates into docs/audit.md."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_demo(home / "demo", identities=90, seed=0)
        sets = {"demo": (DataSet.read(home / "demo", "csv", home), 6)}
        if real:
            sets[real.name] = (DataSet.read(real, "imagefolder", home), 20)
        if only != "copies":
            write_between("shortcuts", shortcut_table({name: shortcut_rates(data) for name, (data, _) in sets.items()}))
        if only != "shortcuts":
            results, alarms = {}, {}
            for name, (data, victims) in sets.items():
                results[name], alarms[name] = planted_rates(data, home / "efficientnet_lite0.safetensors", victims)
            said = "; ".join(
                f"{name}: {SEEDS * victims} plants a row, {alarms[name]} false alarms of hash and copies"
                for name, (_, victims) in sets.items()
            )
            write_between("rates", f"{table(results)}\n\n{said}.")


if __name__ == "__main__":
    main()
