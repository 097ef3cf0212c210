"""Metrics and plots -> one self-contained HTML page and the results table in Markdown.

The page asks no host for anything, opens from disk, and escapes every text that comes from data. The same inputs give
the same bytes.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.audit import CHECKS
from ffdi.intake.images import open_image, read_bytes, resize
from ffdi.intake.probes import FACTS, PROBES, WARN_ABOVE
from ffdi.intake.tables import sides
from ffdi.metrics import Metrics

NOT_RECIPES = ("audit", "ladder", "summary")
WRONGEST = 24
COLOURS = ("#3b82c4", "#d9772b", "#4a9d6f", "#b05fa8", "#a98b2d", "#c4534f")
RANDOM_COLOUR = "#999999"


@dataclass(frozen=True)
class Results:
    """What the stages before have written: metrics by recipe, of audit and ladder, and the folder of plots."""

    recipes: Mapping[str, Metrics]
    audit: Metrics
    ladder: Metrics
    plots: Path
    leftovers: Sequence[str]

    @property
    def ranked(self) -> list[tuple[str, Metrics]]:
        """Recipes by test AUC, pretrained before random prefixes, those without an AUC last."""

        def key(entry: tuple[str, Metrics]) -> tuple[bool, float]:
            value = entry[1]["auc"]
            return not entry[1]["pretrained"], -value if isinstance(value, float) else 1.0

        return sorted(self.recipes.items(), key=key)


def read_results(metrics: Path, recipes: Sequence[str]) -> Results:
    """Read metrics/*.json; InputError when a recipe's, the audit's or the ladder's are missing.

    Metrics of recipes that are no longer in params are `leftovers`, named and left out.
    """

    def read(name: str) -> Metrics:
        try:
            loaded: Metrics = json.loads((metrics / f"{name}.json").read_text(encoding="utf-8"))
            return loaded
        except FileNotFoundError:
            raise InputError(f"{metrics / f'{name}.json'}: missing: run the stage that writes it first") from None

    known = {*recipes, *NOT_RECIPES}
    leftovers = sorted(f.stem for f in metrics.glob("*.json") if f.stem not in known)
    return Results({r: read(r) for r in recipes}, read("audit"), read("ladder"), metrics / "plots", leftovers)


def verdict(results: Results) -> str:
    """One sentence: the best recipe, its interval, and whether the audit passed."""
    name, best = results.ranked[0]
    leaks = results.audit["leaks"]
    audit = "the audit found no leak" if leaks == 0 else f"the audit found {leaks} leaks: no figure here can be trusted"
    if best["auc"] is None:
        return f"{name} has no test AUC ({best['auc_reason']}); {audit}."
    kind = "an ImageNet-pretrained" if best["pretrained"] else "a random"
    return (
        f"{name}, on {kind} prefix, tells fake from real at a test AUC of {best['auc']:.3f} "
        f"(95 % interval {best['auc_low']:.3f} to {best['auc_high']:.3f}, {best['n_test']} images in "
        f"{best['n_groups']} groups); {audit}."
    )


def results_table(results: Results) -> str:
    """The leaderboard in Markdown; rows on random prefixes say so."""
    lines = [
        "| recipe | prefix | test AUC [95 %] | accuracy [95 %] | validation AUC |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, m in results.ranked:
        prefix = f"{m['weights']}" if m["pretrained"] else "*random prefix: shows that the path works*"
        spread = "" if m["val_auc_std"] is None else f" ± {m['val_auc_std']:.3f}"
        lines.append(
            f"| {name} | {prefix} | {_interval(m, 'auc')} | {_interval(m, 'accuracy')} | {m['val_auc_mean']:.3f}{spread} |"
        )
    return "\n".join(lines) + "\n"


def _interval(m: Metrics, key: str) -> str:
    if m[key] is None:
        return f"none: {m[f'{key}_reason']}"
    return f"{m[key]:.3f} [{m[f'{key}_low']:.3f}, {m[f'{key}_high']:.3f}]"


def render_page(results: Results, rows: pd.DataFrame, root: Path, *, findings: Path | None, max_pixels: int) -> str:
    """The page. `rows` is images.csv joined with folds.csv; `findings` the audit's list, shown where there is one."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = lambda value: "–" if value is None else f"{value:.3f}"
    best, counts = results.ranked[0][0], _counts(rows)
    return environment.get_template("report.html").render(
        verdict=verdict(results),
        results=results,
        best=best,
        colours=_colours(results),
        checks=CHECKS,
        facts=FACTS,
        probes=[p for p in PROBES if results.audit[f"probe_{p}_auc"] is not None],
        warn_above=WARN_ABOVE,
        rungs=range(sum(key.endswith("_name") for key in results.ladder)),
        roc=_svg_roc(results),
        reliability=_svg_reliability(results),
        curves=_svg_curves(results),
        ladder=_svg_ladder(results.ladder),
        counts=counts,
        balance=_svg_balance(counts),
        wrong=_most_wrong(results.plots / best / "test" / "scores.csv", rows, root, max_pixels),
        findings=_findings(findings),
    )


def _colours(results: Results) -> dict[str, str]:
    palette = iter(COLOURS * len(results.recipes))
    return {name: next(palette) if m["pretrained"] else RANDOM_COLOUR for name, m in results.ranked}


def _counts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for name, part in rows.groupby(sides(rows)):
        fakes = int(part["label"].sum())
        out.append({"place": name, "real": len(part) - fakes, "fake": fakes, "groups": part["group"].nunique()})
    return out


def _svg_balance(counts: Sequence[Mapping[str, Any]]) -> str:
    figure, axes = _axes("images", "", width=6.4, height=0.9 + 0.34 * len(counts))
    places = [c["place"] for c in counts]
    for shift, name, colour in ((-0.19, "real", COLOURS[2]), (0.19, "fake", COLOURS[1])):
        axes.barh([n + shift for n in range(len(places))], [c[name] for c in counts], 0.36, color=colour, label=name)
    axes.set_yticks(range(len(places)), places)
    axes.invert_yaxis()
    axes.legend(frameon=False, labelcolor="#888", loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return _svg(figure)


def _most_wrong(scores: Path, rows: pd.DataFrame, root: Path, max_pixels: int) -> list[dict[str, Any]]:
    """The test images whose score is farthest from their label, with a thumbnail each."""
    table = pd.read_csv(scores).merge(rows[["image_id", "path"]], on="image_id")
    table["error"] = (table["score"] - table["label"]).abs()
    worst = table.sort_values(["error", "image_id"], ascending=[False, True], kind="stable").head(WRONGEST)
    out = []
    for path, label, score in zip(worst["path"], worst["label"], worst["score"], strict=True):
        thumbnail = io.BytesIO()
        resize(open_image(read_bytes(root, path), max_pixels=max_pixels), 112).save(thumbnail, "JPEG", quality=80)
        source = "data:image/jpeg;base64," + base64.b64encode(thumbnail.getvalue()).decode()
        out.append({"path": path, "label": "fake" if label else "real", "score": score, "source": source})
    return out


def _findings(file: Path | None) -> list[dict[str, Any]]:
    if file is None or not file.exists():
        return []
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return [dict(zip(table.columns, row, strict=True)) for row in table.head(100).itertuples(index=False)]


def _svg_roc(results: Results) -> str:
    figure, axes = _axes("false-positive rate (real called fake)", "true-positive rate (fake found)")
    axes.plot([0, 1], [0, 1], color="#888", linewidth=0.8, linestyle=":")
    for name, colour in _colours(results).items():
        file = results.plots / name / "test" / "roc.csv"
        if file.exists():
            roc = pd.read_csv(file)
            axes.plot(roc["fpr"], roc["tpr"], color=colour, label=name, drawstyle="steps-post")
    axes.legend(frameon=False, labelcolor="#888", loc="lower right")
    return _svg(figure)


def _svg_reliability(results: Results) -> str:
    figure, axes = _axes("score: P(fake)", "share of fakes among them")
    axes.plot([0, 1], [0, 1], color="#888", linewidth=0.8, linestyle=":")
    for name, colour in _colours(results).items():
        table = pd.read_csv(results.plots / name / "test" / "calibration.csv")
        axes.plot(table["score"], table["fakes"], color=colour, marker="o", markersize=4, label=name)
    return _svg(figure)


def _svg_curves(results: Results) -> str:
    figure, axes = _axes("epoch", "validation AUC, a line per fold")
    for name, colour in _colours(results).items():
        history = pd.read_csv(results.plots / name / "train" / "history.csv")
        for number, (_, fold) in enumerate(history.groupby("fold")):
            label = name if number == 0 else None
            axes.plot(fold["epoch"], fold["val_auc"], color=colour, marker=".", linewidth=1, label=label)
    return _svg(figure)


def _svg_ladder(ladder: Metrics) -> str:
    figure, axes = _axes("AUC", "", width=7.2, height=3.2)
    numbers = range(sum(key.endswith("_name") for key in ladder))
    for n in numbers:
        reported, true = ladder[f"rung_{n}_reported_auc"], ladder[f"rung_{n}_true_auc"]
        low, high = ladder[f"rung_{n}_true_auc_low"], ladder[f"rung_{n}_true_auc_high"]
        if true is None or low is None:
            continue
        axes.plot([low, high], [n, n], color=COLOURS[0], linewidth=6, alpha=0.25, solid_capstyle="butt")
        axes.plot([reported, true], [n, n], color="#999", linewidth=1)
        axes.plot(true, n, "o", color=COLOURS[0], label="true, with its 95 % interval" if n == 0 else None)
        axes.plot(reported, n, "D", color=COLOURS[1], label="what its author would report" if n == 0 else None)
    axes.set_yticks(list(numbers), [f"{n}  {ladder[f'rung_{n}_name']}" for n in numbers])
    axes.invert_yaxis()
    axes.legend(frameon=False, labelcolor="#888", loc="upper center", bbox_to_anchor=(0.3, -0.18), ncols=2)
    return _svg(figure)


def _axes(x: str, y: str, width: float = 4.6, height: float = 3.6) -> tuple[Any, Any]:
    """A figure whose grey lines and text can be read on white and on black."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x, color="#888")
    axes.set_ylabel(y, color="#888")
    axes.tick_params(colors="#888")
    axes.grid(color="#888", alpha=0.2, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#888")
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "ffdi", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
