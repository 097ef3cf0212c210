"""Facts of image files besides their pixels, and the matrices that a classifier takes."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.intake.decoding.images import open_header

_COMMONEST = 20  # values of a fact that get an indicator each


def file_facts(data: bytes) -> dict[str, Any]:
    """Facts of a file besides its pixels: bytes, quantisation tables, sampling, EXIF and other marks."""
    with open_header(data) as image:
        tables = getattr(image, "quantization", {})
        layers = getattr(image, "layer", [])
        exif = image.getexif()
        return {
            "bytes": len(data),
            "tables": hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:12] if tables else "",
            "coarseness": float(np.mean(tables[min(tables)])) if tables else 0.0,
            "sampling": " ".join(f"{layer[1]}x{layer[2]}" for layer in layers),
            "mode": image.mode,
            "progressive": int(bool(image.info.get("progressive", image.info.get("interlace")))),
            "exif_tags": len(exif),
            "software": f"{exif.get(271, '')}|{exif.get(272, '')}|{exif.get(305, '')}",  # make, model, software
            "marks": " ".join(sorted(str(key) for key in image.info)),
        }


def fact_features(rows: pd.DataFrame, facts: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """A matrix (N, D) for each of shortcuts.FACTS; `rows` is images.csv, `facts` has a row for each of them."""
    width, height, size = rows["width"].to_numpy(float), rows["height"].to_numpy(float), facts["bytes"].to_numpy(float)
    shape = rows["width"].astype(str) + "x" + rows["height"].astype(str)
    stem = [re.sub(r"^.*/|\.[^.]*$", "", path) for path in rows["path"]]
    pattern = [re.sub(r"\d+", "0", name).lower() for name in stem]
    digits = ["".join(re.findall(r"\d+", name))[-9:] for name in stem]
    numbers = [(len(name), len(d), float(d or 0)) for name, d in zip(stem, digits, strict=True)]
    return {
        "size": np.column_stack([np.log(size), size / (width * height)]),
        "dimensions": np.column_stack([width, height, width / height, *_indicators(shape)]),
        "encoding": np.column_stack(
            [facts["coarseness"], facts["progressive"]]
            + [
                i
                for column in (rows["format"], facts["tables"], facts["sampling"], facts["mode"])
                for i in _indicators(column)
            ]
        ),
        "metadata": np.column_stack(
            [facts["exif_tags"], *_indicators(facts["software"]), *_indicators(facts["marks"])]
        ),
        "name": np.column_stack([*map(np.array, zip(*numbers, strict=True)), *_indicators(pd.Series(pattern))]),
    }


def _indicators(values: pd.Series) -> list[npt.NDArray[np.float64]]:
    """A 0/1 column for each of the commonest values."""
    return [(values == value).to_numpy(float) for value in sorted(values.value_counts().head(_COMMONEST).index)]
