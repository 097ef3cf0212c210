"""Images with planted shortcuts, and the probes of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conftest import picture

from ffdi.bootstrap import Bootstrap
from ffdi.intake.auditing.probe_inputs import ProbeInputs, ProbeSample, read_probe_inputs
from ffdi.intake.auditing.probes import probe_shortcuts
from ffdi.intake.auditing.shortcuts import PROBES
from ffdi.intake.decoding.images import ImageSource


def probe(rows: pd.DataFrame, seen: Path | ProbeInputs, embeddings: Any = None) -> dict[str, Any]:
    """The probes of files on disk, or of what was read of them."""
    inputs = read_probe_inputs(rows, ImageSource(seen, 10**6)) if isinstance(seen, Path) else seen
    return probe_shortcuts(ProbeSample.take(rows, inputs, embeddings), Bootstrap(100))


def written(folder: Path, count: int, **file: Any) -> pd.DataFrame:
    """Pictures that differ in their seeds alone, in groups of two; fakes (odd) are saved with the options of `file`."""
    for i in range(count):
        picture(i, 32).save(folder / f"{i}.jpg", quality=90, **(file if i % 2 else {}))
    facts: dict[str, Any] = {"width": 32, "height": 32, "format": "JPEG"}
    return pd.DataFrame({"path": [f"{i}.jpg" for i in range(count)]}).assign(
        label=[i % 2 for i in range(count)], group=[f"g{i // 2}" for i in range(count)], **facts
    )


def uniform(count: int, fakes: int | None = None) -> tuple[pd.DataFrame, ProbeInputs]:
    """Images that are alike in every fact and pixel: a half is fake, or every so many; each is a group of its own."""
    label = np.arange(count) % (fakes or 2) == 0
    rows = pd.DataFrame({"path": [f"{i}/x.jpg" for i in range(count)], "label": label.astype(int)}).assign(
        group=[f"g{i}" for i in range(count)], width=40, height=30, format="JPEG"
    )
    facts = {"bytes": 5000, "tables": "ab", "coarseness": 7.3, "sampling": "2x2 1x1 1x1", "mode": "RGB"}
    facts |= {"progressive": 0, "exif_tags": 0, "software": "||", "marks": "jfif"}
    thumbnails, sketches = np.full((count, 192), 99, np.uint8), np.zeros((count, 64, 64), np.uint8)
    return rows, ProbeInputs(pd.DataFrame([facts] * count), thumbnails, sketches)


def changed(rows: pd.DataFrame, inputs: ProbeInputs, label: Any, **values: Any) -> tuple[pd.DataFrame, ProbeInputs]:
    """The fakes by `label` with other facts; a function makes the value from the number of the row."""
    rows, facts = rows.copy(), inputs.facts.copy()
    for column, value in values.items():
        table = rows if column in rows else facts
        old = table[column].tolist()
        table[column] = [
            (value(i) if callable(value) else value) if y else v
            for i, (y, v) in enumerate(zip(label, old, strict=True))
        ]
    return rows, ProbeInputs(facts, inputs.thumbnails, inputs.sketches)


def aucs(out: dict[str, Any]) -> dict[str, Any]:
    return {name: out[f"probe_{name}_auc"] for name in PROBES}
