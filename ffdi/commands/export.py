"""ffdi export: a model in a form that others read."""

from __future__ import annotations

from pathlib import Path

import click

from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console, say

_MEASURED = Path("metrics")


@click.command(
    cls=OneLineErrors,
    short_help="a model as an ONNX file, a model card or a folder for a hub",
    epilog="""ffdi export --model data/models/NAME --format onnx NAME.onnx
ffdi export --model data/models/NAME --format card README.md
ffdi export --model data/models/NAME --format hub hub/NAME --licence apache-2.0""",
)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "kind", required=True, type=click.Choice(["onnx", "card", "hub"]), help="what to write")
@click.option("--model", required=True, type=click.Path(path_type=Path), help="a folder such as data/models/NAME")
@click.option("--licence", metavar="ID", help="of the model, such as apache-2.0, as you give it  [default: not stated]")
@click.option("--metrics", type=click.Path(path_type=Path), help="card, hub: what was measured  [default: metrics]")
def export(out: Path, kind: str, model: Path, licence: str | None, metrics: Path | None) -> None:
    """Write a model to OUT in a form that others read.

    onnx: one file from RGB squares to the calibrated P(fake), which onnxruntime runs without ffdi. It is checked against the
    model before it appears.

    card: a model card, README.md with the head that hubs read. hub: a folder of the model's files and a card, which you
    push yourself; `ffdi predict --model OUT` reads it as it is.
    """
    report = console("export")
    if kind == "onnx":
        if metrics is not None:
            raise click.UsageError("--metrics is for --format card and hub: an ONNX file holds no figures")
        _export_onnx(out, model, licence)
        return
    if kind == "card":
        from ffdi.deploy.card import write_card as write
    else:
        from ffdi.deploy.hub import write_hub as write
    write(model, out, metrics=metrics or _MEASURED, licence=licence, console=report)


def _export_onnx(out: Path, model: Path, licence: str | None) -> None:
    from ffdi.deploy.onnx_export import export_onnx
    from ffdi.features.devices import set_up_torch
    from ffdi.files import human_bytes
    from ffdi.tails.ensemble import load_model

    set_up_torch("cpu")
    name = model.resolve().name
    made = export_onnx(load_model(model), out, name=name, licence=licence, console=console("export"))
    say(f"{out}: {human_bytes(made.size)}, opset {made.opset}")
    apart = f"scores of {made.lowest:.3f} to {made.highest:.3f}, at most {made.most_apart:.1e} apart"
    say(f"{made.images} images get the same from {out.name} and from {name}: {apart}")
    say(f"speed on this CPU: {made.speed:.1f} images/s, torch {made.torch_speed:.1f}")
