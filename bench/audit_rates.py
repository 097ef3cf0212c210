"""How often the audit finds a planted copy, by kind and strength: the table in docs/audit.md.

    python bench/audit_rates.py [--real FOLDER]

Draws the demo, plants copies in it (and in FOLDER, an imagefolder of real faces) for ten seeds, and counts which are
named beside their source or an image of its group: by the perceptual hash, by that and the search for copies, and by
embeddings alone.
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
from plants import COPIES, LITE0, MAX_PIXELS, DataSet, jpeg, plant_copy

from ffdi.demo.dataset import write_demo
from ffdi.features.backbones import Backbone
from ffdi.features.extract import embed, load_prefix
from ffdi.intake.audit import find_leaks

DOCS = Path(__file__).parents[1] / "docs" / "audit.md"
SEEDS = 10
MIN_COSINE = 0.95
WAYS = ("hash", "copies", "embedding")
Rates = dict[tuple[str, float], dict[str, float]]


def planted_rates(data: DataSet, weights: Path, victims: int) -> tuple[Rates, int]:
    """(share found by each way, for each kind and strength; clean pairs named) over SEEDS draws."""
    trials = [(kind, float(s)) for kind, (_, strengths, _) in COPIES.items() for s in strengths] * victims
    prefix = load_prefix(Backbone(**LITE0), weights)
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
            near = embed(table.drop_duplicates("image_id"), root=Path(folder), prefix=prefix, max_pixels=MAX_PIXELS)
            near = near[table["image_id"].factorize()[0]]
        grown = data.with_images(added)
        found = find_leaks(
            grown.rows,
            phash_bits=6,
            sketches=grown.examined.sketches,
            embeddings=np.concatenate([data.embeddings, near]),
            min_cosine=MIN_COSINE,
        )
        pairs: dict[str, set[frozenset[str]]] = {way: set() for way in WAYS}
        group = dict(zip(data.rows["path"], data.rows["group"], strict=True))
        for f in found:
            for way, check in zip(WAYS, ("perceptual", "augmented_copy", "embedding"), strict=True):
                if f.check.startswith(check):
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


@click.command()
@click.option("--real", type=click.Path(path_type=Path, exists=True), help="an imagefolder of real faces")
def main(real: Path | None) -> None:
    """Write the rates into docs/audit.md."""
    results, alarms = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_demo(home / "demo", identities=90, seed=0)
        sets = {"demo": (DataSet.read(home / "demo", "csv", home), 6)}
        if real:
            sets[real.name] = (DataSet.read(real, "imagefolder", home), 20)
        for name, (data, victims) in sets.items():
            results[name], alarms[name] = planted_rates(data, home / "efficientnet_lite0.safetensors", victims)
    said = "; ".join(
        f"{name}: {SEEDS * victims} plants a row, {alarms[name]} false alarms of hash and copies"
        for name, (_, victims) in sets.items()
    )
    text = re.sub(
        r"(?s)(<!-- rates -->\n).*(<!-- /rates -->)",
        lambda m: f"{m[1]}{table(results)}\n\n{said}.\n{m[2]}",
        DOCS.read_text(encoding="utf-8"),
    )
    DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
