"""Results -> one self-contained HTML page.

The page asks no host for anything, opens from disk, and escapes every text that comes from data.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from ffdi.errors import FfdiError
from ffdi.evaluation import charts
from ffdi.evaluation.compare import NO_DIFFERENCE
from ffdi.evaluation.explain import grad_cam
from ffdi.evaluation.results import Results, caveats, verdict
from ffdi.features.store import FeatureStore
from ffdi.files import human_bytes
from ffdi.intake.auditing.findings import CHECKS
from ffdi.intake.auditing.shortcuts import FACTS, PROBES, WARN_ABOVE
from ffdi.intake.decoding.images import open_image, read_bytes, resize
from ffdi.intake.tables import sides
from ffdi.tails.bundle import load_bundle

WRONGEST = 24
SIDE = 144  # pixels of a thumbnail
MADE_WITH = ("ffdi", "torch", "torchvision", "timm", "onnxruntime", "numpy", "scikit-learn", "pillow")
HeatMaps = Mapping[str, npt.NDArray[np.float64]]


def render_page(
    results: Results,
    rows: pd.DataFrame,
    root: Path,
    *,
    findings: Path | None,
    max_pixels: int,
    params_text: str = "",
    heat: HeatMaps | None = None,
    no_heat: str = "",
    unchecked: Mapping[str, str] | None = None,
) -> str:
    """The page. `rows` is images.csv joined with folds.csv, `findings` the audit's list, shown where there is one.

    `heat` has a map (H, W) in [0, 1] for images of `wrongest`, by image_id; `no_heat` says why there are none.
    `unchecked` maps checks of the audit that were not run to the reason.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _figure, "signed": _signed, "count": _count, "bytes": human_bytes}
    counts, colours = _counts(rows), charts.recipe_colours(results)
    swept = [name for name, _ in results.ranked if not results.table(name, "robustness").empty]
    return environment.get_template("report.html").render(
        verdict=verdict(results),
        caveats=caveats(results),
        results=results,
        best=results.ranked[0][0],
        palette=charts.PALETTE,
        colours={name: charts.variable(colour) for name, colour in colours.items()},
        pairs=results.pairs.to_dict("records"),
        no_difference=NO_DIFFERENCE,
        confusions={name: results.confusion(name) for name in results.recipes},
        attributes={name: _records(results.table(name, "attributes")) for name in results.recipes},
        robustness={
            name: (charts.robustness(results, name), _records(results.table(name, "robustness"))) for name in swept
        },
        cross=_cross(results),
        roc=charts.roc(results),
        pr=charts.precision_recall(results),
        reliability=charts.reliability(results),
        training=charts.training(results),
        folds_alone=charts.folds_alone(results),
        pareto=charts.pareto(results),
        ladder=charts.ladder(results.ladder),
        rungs=range(sum(key.endswith("_name") for key in results.ladder)),
        checks=CHECKS,
        facts=FACTS,
        unchecked=unchecked or {},
        probes=[p for p in PROBES if results.audit[f"probe_{p}_auc"] is not None],
        unprobed=[p for p in PROBES if results.audit[f"probe_{p}_auc"] is None],
        warn_above=WARN_ABOVE,
        findings=_findings(findings),
        counts=counts,
        balance=charts.balance(counts),
        wrong=_pictures(wrongest(results, rows), root, max_pixels, heat or {}),
        no_heat=no_heat,
        params_text=params_text,
        versions={name: version(name) for name in MADE_WITH},
    )


def wrongest(results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    """image_id, path, label, score and `called` of the test images whose score is farthest on the wrong side.

    Of the best recipe, and counted from its threshold; where fewer are wrong, the least right follow.
    """
    best, m = results.ranked[0]
    threshold: Any = m["threshold"]
    table = results.table(best, "scores").merge(rows[["image_id", "path"]], on="image_id")
    error = (table["score"] - threshold) * (1 - 2 * table["label"])
    worst: pd.DataFrame = (
        table.assign(error=error, called=(table["score"] >= threshold).astype(int))
        .sort_values(["error", "image_id"], ascending=[False, True], kind="stable")
        .head(WRONGEST)
    )
    return worst


def heat_maps(model: Path, features: Path, worst: pd.DataFrame) -> tuple[HeatMaps, str]:
    """({image_id: (H, W) in [0, 1]}, "") from the cached maps of `wrongest`'s rows, or ({}, why there are none)."""
    try:
        bundle, store = load_bundle(model), FeatureStore(features)
        bundle.refuse_other_features(store.spec)
        maps = torch.from_numpy(store.read([(image_id, 0) for image_id in worst["image_id"]]))
    except FfdiError as error:
        return {}, f"its model and features are not here ({error})"
    found = grad_cam(bundle, maps, fake=worst["called"].to_numpy() == 1)
    if found is None:
        return {}, f"cut at {bundle.backbone.cut} there is no feature map to look at"
    return dict(zip(worst["image_id"], found, strict=True)), ""


def _pictures(worst: pd.DataFrame, root: Path, max_pixels: int, heat: HeatMaps) -> list[dict[str, Any]]:
    out = []
    for row in worst.to_dict("records"):
        picture = resize(open_image(read_bytes(root, row["path"]), max_pixels=max_pixels), SIDE)
        out.append(
            {
                "path": row["path"],
                "label": "fake" if row["label"] else "real",
                "called": "fake" if row["called"] else "real",
                "right": row["label"] == row["called"],
                "score": row["score"],
                "source": _data_uri(picture),
                "heated": _data_uri(_heated(picture, heat[row["image_id"]])) if row["image_id"] in heat else "",
            }
        )
    return out


def _heated(picture: Image.Image, heat: npt.NDArray[np.float64]) -> Image.Image:
    """The picture in grey, with the places that spoke in colour."""
    from matplotlib import colormaps

    whole = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(picture.size, Image.Resampling.BICUBIC)).clip(
        0, 1
    )
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float64)
    colour = 255 * colormaps["inferno"](whole)[..., :3]
    share = 0.75 * whole[..., None]
    return Image.fromarray((grey * (1 - share) + colour * share).astype(np.uint8))


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _counts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for name, part in rows.groupby(sides(rows)):
        fakes = int(part["label"].sum())
        out.append({"place": name, "real": len(part) - fakes, "fake": fakes, "groups": part["group"].nunique()})
    return out


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as mappings; what is missing is None."""
    objects: Any = table.astype(object)
    return [dict(row) for row in objects.where(table.notna(), None).to_dict("records")]


def _findings(file: Path | None) -> list[dict[str, Any]]:
    if file is None or not file.exists():
        return []
    return _records(pd.read_csv(file, dtype=str, keep_default_na=False).head(100))


def _cross(results: Results) -> dict[str, Any]:
    """The matrix of AUCs: a row for each (data trained on, recipe), a column for each data set tested on."""
    home = [
        dict(m) | {"recipe": name, "tested_on": m["trained_on"]}
        for name, m in results.ranked
        if any(other["recipe"] == name and other["trained_on"] == m["trained_on"] for other in results.cross)
    ]
    cells = {(m["trained_on"], m["recipe"], m["tested_on"]): m for m in [*results.cross, *home]}
    return {
        "rows": sorted({key[:2] for key in cells}, key=str),
        "columns": sorted({key[2] for key in cells}, key=str),
        "cells": cells,
    }


def times_table(results: Results) -> str:
    """What this machine took, in Markdown: a row for each recipe, – where it did not run the stage.

    It stands beside the page: a page with times in it would be another one at every run.
    """
    lines = ["| recipe | prefix, an image | all tails, an image | training |", "| --- | --- | --- | --- |"]
    for name, _ in results.ranked:
        extracted = results.timings.get(f"extract-{results.backbones[name]}", {})
        judged, trained = results.timings.get(f"evaluate-{name}", {}), results.timings.get(f"train-{name}", {})
        prefix = extracted["work"] / extracted["computed"] if extracted.get("computed") else None
        tails = judged["tails"] / judged["images"] if judged.get("images") else None
        shown = " | ".join(map(_time, (prefix, tails, trained.get("seconds"))))
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:+.3f}".replace("-", "−")


def _count(value: float | None) -> str:
    """12345678 -> 12.3 M."""
    if value is None:
        return "–"
    for power, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= power:
            return f"{value / power:.3g}{unit}"
    return f"{value:g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds / 60:.3g} min"
