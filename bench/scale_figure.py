"""The figure of docs/scale.md: hours by the number of GPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Curves = Mapping[str, Callable[[int], float]]  # hours on so many GPUs, by the name of a curve


def draw(curves: Curves, gpus: Sequence[int], file: Path) -> None:
    """An SVG with a curve each, and what twice as many GPUs would take at best. The same curves give the same bytes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "ffdi", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for (name, hours), mark in zip(curves.items(), "osD^vP", strict=False):
        found = [hours(count) for count in gpus]
        (line,) = axes.plot(gpus, found, marker=mark, markersize=4, label=name)
        best = [found[0] * gpus[0] / count for count in gpus]
        axes.plot(gpus, best, linestyle=":", linewidth=0.8, color=line.get_color())
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(list(gpus), [str(count) for count in gpus])
    axes.set_xlabel("GPUs")
    axes.set_ylabel("hours")
    axes.set_title("100,000,000 images, simulated; dotted: nothing but the GPUs counts", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
