"""The report's charts as SVG inside the page, with the page's colours and font.

A chart is drawn in the light colours of PALETTE, which are then replaced by the page's variables, so that it can be read
on white, on black and on paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ffdi.evaluation.headline import rung_count
from ffdi.evaluation.results import Results
from ffdi.metrics import Metrics

# variable of the page -> colour on white, colour on black
PALETTE = {
    "--c0": ("#2f6fb3", "#6ba6e6"),
    "--c1": ("#c2611f", "#eb9a5c"),
    "--c2": ("#2d8659", "#63c193"),
    "--c3": ("#94469b", "#cf8ad6"),
    "--c4": ("#8a6d14", "#d0b04f"),
    "--c5": ("#b53f3f", "#ee8484"),
    "--random": ("#8b93a0", "#7d8794"),
    "--soft": ("#5c6675", "#a3adba"),
    "--line": ("#d9dee6", "#343c48"),
}
COLOURS = [light for name, (light, _) in PALETTE.items() if name.startswith("--c")]
RANDOM, SOFT, LINE = (PALETTE[name][0] for name in ("--random", "--soft", "--line"))


def recipe_colours(results: Results) -> dict[str, str]:
    """A colour for each recipe on a pretrained prefix, in order of rank; the random ones are grey."""
    pretrained = [name for name, m in results.ranked if m["pretrained"]]
    return {
        name: COLOURS[pretrained.index(name) % len(COLOURS)] if name in pretrained else RANDOM
        for name in results.recipes
    }


def variable(colour: str) -> str:
    """The page's variable of a colour."""
    return next(f"var({name})" for name, (light, _) in PALETTE.items() if light == colour)


def roc(results: Results) -> str:
    """TPR over FPR, a step line per recipe."""
    figure, axes = _axes("false-positive rate: reals called fake", "true-positive rate: fakes found")
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
    for name, colour in _best_on_top(results):
        table = results.table(name, "roc")
        axes.plot(table["fpr"], table["tpr"], color=colour, linewidth=1.6, drawstyle="steps-post")
    return _svg(figure, "ROC curves")


def precision_recall(results: Results) -> str:
    """Precision over recall of fakes; the dotted line is the share of fakes."""
    figure, axes = _axes("recall: fakes found", "precision: fakes among those called fake")
    for name, colour in _best_on_top(results):
        table = results.table(name, "pr")
        axes.plot(table["recall"], table["precision"], color=colour, linewidth=1.6, drawstyle="steps-pre")
    labels = results.table(results.ranked[0][0], "scores")["label"]
    axes.axhline(labels.mean(), color=SOFT, linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1.03)
    return _svg(figure, "precision-recall curves")


def reliability(results: Results) -> str:
    """Share of fakes over mean score of each tenth, with the number of images as the size of its dot."""
    figure, axes = _axes("score: P(fake)", "share of fakes among them")
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
    for name, colour in _best_on_top(results):
        table = results.table(name, "calibration")
        sizes = 8 + 80 * table["images"] / max(table["images"].sum(), 1)
        axes.plot(table["score"], table["fakes"], color=colour, linewidth=1.2)
        axes.scatter(table["score"], table["fakes"], s=sizes, color=colour, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    return _svg(figure, "reliability")


def training(results: Results) -> str:
    """Validation AUC by epoch, a line per fold."""
    figure, axes = _axes("epoch", "validation AUC, a line per fold")
    for name, colour in _best_on_top(results):
        history = results.table_if_there(name, "history", "train")  # an ensemble has none
        for _, fold in history.groupby("fold") if len(history) else ():
            axes.plot(fold["epoch"] + 1, fold["val_auc"], color=colour, marker=".", markersize=4, linewidth=1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, "training curves")


def folds_alone(results: Results) -> str:
    """Test AUC of each fold's tail alone (dots) and of all together, with its 95 % interval (bar)."""
    names = [name for name, m in results.ranked if m["auc"] is not None]
    figure, axes = _axes("test AUC", "", width=5.0, height=0.9 + 0.36 * max(1, len(names)))
    colours = recipe_colours(results)
    for place, name in enumerate(names):
        m, alone = results.recipes[name], results.table(name, "folds")
        _bar(axes, place, m["auc_low"], m["auc_high"], colours[name])
        axes.plot(alone["auc"], [place] * len(alone), "o", color=colours[name], markersize=4, alpha=0.55)
        axes.plot(m["auc"], place, "D", color=colours[name], markersize=7)
    _rows(axes, names)
    return _svg(figure, "test AUC of each fold alone and of all together")


def ladder(metrics: Metrics) -> str:
    """Reported and true AUC of every rung."""
    numbers = range(rung_count(metrics))
    figure, axes = _axes("AUC", "", width=7.4, height=3.2)
    for n in numbers:
        reported, true = metrics[f"rung_{n}_reported_auc"], metrics[f"rung_{n}_true_auc"]
        if true is None:
            continue
        _bar(axes, n, metrics[f"rung_{n}_true_auc_low"], metrics[f"rung_{n}_true_auc_high"], COLOURS[0])
        axes.plot([reported, true], [n, n], color=SOFT, linewidth=1)
        axes.plot(true, n, "o", color=COLOURS[0], label="true, with its 95 % interval" if n == 0 else None)
        axes.plot(reported, n, "D", color=COLOURS[1], label="what its author would report" if n == 0 else None)
    _rows(axes, [f"{n}  {metrics[f'rung_{n}_name']}" for n in numbers])
    axes.legend(frameon=False, labelcolor=SOFT, loc="upper center", bbox_to_anchor=(0.3, -0.18), ncols=2)
    return _svg(figure, "the leak ladder")


def balance(counts: Sequence[Mapping[str, Any]]) -> str:
    """Reals and fakes of the test set and every fold."""
    figure, axes = _axes("images", "", width=5.0, height=0.9 + 0.34 * len(counts))
    for shift, name, colour in ((-0.19, "real", COLOURS[2]), (0.19, "fake", COLOURS[1])):
        axes.barh([n + shift for n in range(len(counts))], [c[name] for c in counts], 0.36, color=colour, label=name)
    _rows(axes, [c["place"] for c in counts])
    axes.legend(frameon=False, labelcolor=SOFT, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=2)
    return _svg(figure, "real and fake images of the test set and each fold")


def robustness(results: Results, name: str) -> str:
    """AUC of one recipe over the levels of each kind, with its 95 % interval; the clean test set is the dotted line."""
    table, m = results.table(name, "robustness"), results.recipes[name]
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    table["at"] = table["at"].fillna("") if "at" in table else ""
    kinds = list(dict.fromkeys(zip(table["kind"], table["at"], strict=True)))
    columns = min(3, len(kinds))
    lines = -(-len(kinds) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.1 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    colour = recipe_colours(results)[name]
    for axes, (kind, at) in zip(grid, kinds, strict=False):
        _style(axes)
        levels = table[(table["kind"] == kind) & (table["at"] == at)].reset_index(drop=True)
        middle, low, high = (levels[column] for column in ("auc", "auc_low", "auc_high"))
        axes.errorbar(
            levels.index, middle, [middle - low, high - middle], fmt="o-", color=colour, linewidth=1.2, markersize=4
        )
        if m["auc"] is not None:
            axes.axhline(m["auc"], color=SOFT, linewidth=0.8, linestyle=":")
        axes.axhline(0.5, color=LINE, linewidth=0.8)
        axes.set_xticks(levels.index, ["" if s != s else f"{s:g}" for s in levels["strength"]])
        axes.set_xlim(-0.5, max(len(levels) - 0.5, 0.5))
        twice = sum(other == kind for other, _ in kinds) > 1
        axes.set_title(UNITS.get(kind, kind) + (f" ({at})" if twice else ""), color=SOFT, fontsize=10)
    for axes in grid[len(kinds) :]:
        axes.set_visible(False)
    grid[0].set_ylim(min([0.48, *(table["auc_low"].dropna() - 0.02)]), 1.02)
    grid[0].yaxis.set_major_locator(MultipleLocator(0.1))
    figure.supylabel("test AUC", color=SOFT, fontsize=10)
    return _svg(figure, f"robustness of {name}")


UNITS = {
    "jpeg": "JPEG quality",
    "resize": "resize: share of the side",
    "blur": "blur: sigma, pixels",
    "noise": "noise: sigma, grey levels",
    "brightness": "brightness: factor",
    "crop": "crop: share of the area",
    "webp": "WebP quality",
    "double_jpeg": "JPEG twice: quality",
    "contrast": "contrast: factor",
    "gamma": "gamma: exponent",
    "tint": "tint: share",
    "sharpen": "sharpening: share",
    "shift": "colour shift: pixels",
    "screenshot": "screenshot: share of the side",
    "mix": "mix: strength, 1 to 5",
    "hflip": "mirrored",
}


def pareto(results: Results) -> str:
    """Test AUC over FLOPs to judge an image, with 95 % intervals; the line joins those that none beats in both."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, axes = _axes("GFLOPs to judge one image", "test AUC", width=5.0)
    colours = recipe_colours(results)
    judged = [(name, m) for name, m in results.ranked if m["auc"] is not None]
    points = sorted((_number(m, "flops_per_image") / 1e9, -_number(m, "auc"), name) for name, m in judged)
    line: list[tuple[float, float]] = []
    for at, (flops, minus_auc, name) in enumerate(points):
        m, middle, colour = results.recipes[name], -minus_auc, colours[name]
        axes.plot(flops, middle, "o", color=colour)
        if m["auc_low"] is not None:
            axes.plot([flops, flops], [m["auc_low"], m["auc_high"]], color=colour, linewidth=1)
        left = at + 1 < len(points) and points[at + 1][0] < 2.5 * flops  # the next one's name would lie over it
        place: dict[str, Any] = {"xytext": (-7 if left else 7, 5), "ha": "right" if left else "left"}
        axes.annotate(name, (flops, middle), textcoords="offset points", color=colour, fontsize=9, **place)
        if colour != RANDOM and (not line or middle > line[-1][1]):
            line.append((flops, middle))
    axes.step(*zip(*line, strict=True), where="post", color=SOFT, linewidth=0.8, linestyle=":") if line else None
    axes.set_xscale("log")
    axes.margins(x=0.35)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return _svg(figure, "test AUC against cost")


def _number(m: Metrics, key: str) -> float:
    value = m[key]
    assert isinstance(value, int | float), key
    return float(value)


def _best_on_top(results: Results) -> list[tuple[str, str]]:
    """(recipe, colour) in the order of drawing."""
    colours = recipe_colours(results)
    return [(name, colours[name]) for name, m in reversed(results.ranked) if m["auc"] is not None]


def _bar(axes: Any, place: float, low: Any, high: Any, colour: str) -> None:
    if low is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=7, alpha=0.25, solid_capstyle="butt")


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _axes(x: str, y: str, width: float = 4.6, height: float = 3.6) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x, color=SOFT)
    axes.set_ylabel(y, color=SOFT)
    _style(axes)
    return figure, axes


def _style(axes: Any) -> None:
    axes.tick_params(which="both", colors=SOFT, length=3)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)


def _svg(figure: Any, title: str) -> str:
    """The same chart gives the same bytes; `title` is read by screen readers."""
    import html

    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "font.size": 10}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()[text.getvalue().index("<svg") :]
    for name, (light, _) in PALETTE.items():
        drawn = drawn.replace(light, f"var({name})")
    drawn = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1system-ui, sans-serif", drawn)
    # Ids that nothing refers to are the same in every figure; the others are hashes salted with the title.
    drawn = re.sub(r' id="([^"]+)"', lambda found: found[0] if f"#{found[1]}" in drawn else "", drawn)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title, quote=True)}" ', 1)
