"""ffdi export: a model in a form that others read."""

from __future__ import annotations

from pathlib import Path

import click

from ffdi.commands.scoring import MODEL
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console, say
from ffdi.stagekit.local_path import LocalPath

_MEASURED = Path("metrics")


@click.command(
    cls=OneLineErrors,
    short_help="a model as an ONNX file, a model card or a folder for a hub",
    epilog="""ffdi export --model data/models/NAME --format onnx NAME.onnx
ffdi export --model data/models/NAME --format card README.md
ffdi export --model data/models/NAME --format hub hub/NAME --licence apache-2.0""",
)
@click.argument("out", type=LocalPath())
@click.option("--format", "kind", required=True, type=click.Choice(["onnx", "card", "hub"]), help="what to write")
@MODEL
@click.option("--licence", metavar="ID", help="of the model, such as apache-2.0, as you give it  [default: not stated]")
@click.option(
    "--dataset", metavar="ID", help="card, hub: the training's data set there, such as USER/NAME  [default: none]"
)
@click.option("--metrics", type=LocalPath(), help="card, hub: what was measured  [default: metrics]")
@click.option("--quantise", type=click.Choice(["int8"]), help="onnx: compute in eight bits; needs --images")
@click.option("--images", type=LocalPath(), help="int8: the training's images, a folder or a csv with path")
@click.option("--float-ends", is_flag=True, help="int8: the first and last layers stay in float")
def export(
    out: Path,
    kind: str,
    model: Path,
    licence: str | None,
    dataset: str | None,
    metrics: Path | None,
    quantise: str | None,
    images: Path | None,
    float_ends: bool,
) -> None:
    """Write a model to OUT in a form that others read.

    onnx: one file from RGB squares to the calibrated P(fake), which onnxruntime runs without ffdi. It is checked against the
    model before it appears. With --quantise int8 its layers compute in eight bits, with scales from images of the
    training; what that costs is measured on others of them, each scored by the tail that did not train on it.

    card: a model card, README.md with the head that hubs read. hub: a folder of the model's files and a card, which you
    push yourself; `ffdi predict --model OUT` reads it as it is.
    """
    report = console("export")
    if kind == "onnx":
        if metrics is not None or dataset is not None:
            raise click.UsageError(
                "--metrics and --dataset are for --format card and hub: an ONNX file holds no figures"
            )
        if quantise and images is None:
            raise click.UsageError("--quantise int8 needs --images, the data that the model was trained on")
        if not quantise and (images is not None or float_ends):
            raise click.UsageError("--images and --float-ends are for --quantise int8")
        if images is None:
            _export_onnx(out, model, licence)
        else:
            _export_int8(out, model, images, licence, float_ends)
        return
    if quantise or images is not None or float_ends:
        raise click.UsageError("--quantise, --images and --float-ends are for --format onnx")
    from ffdi.deploy.card.facts import Publication

    if kind == "card":
        from ffdi.deploy.card.writing import write_card as write
    else:
        from ffdi.deploy.hub import write_hub as write
    write(model, out, metrics=metrics or _MEASURED, published=Publication(licence, dataset), console=report)


def _export_onnx(out: Path, model: Path, licence: str | None) -> None:
    from ffdi.deploy.onnx.export import export_onnx
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


def _export_int8(out: Path, model: Path, images: Path, licence: str | None, float_ends: bool) -> None:
    from ffdi.deploy.onnx.quantise import POOR, cost_line, export_int8
    from ffdi.deploy.onnx.training_images import find_training_images
    from ffdi.features.devices import set_up_torch
    from ffdi.files import human_bytes
    from ffdi.tails.bundle_tables import read_oof
    from ffdi.tails.ensemble import load_model

    set_up_torch("cpu")
    report, loaded, name = console("export"), load_model(model), model.resolve().name
    found = find_training_images(images, read_oof(model), report)
    made = export_int8(loaded, out, name=name, images=found, float_ends=float_ends, licence=licence, console=report)
    of_groups = "by groups" if found.grouped else "each image a group of its own"
    say(
        f"{out}: int8, {human_bytes(made.size)}, in float {human_bytes(made.float_size)}; calibrated on {made.calibrated_on} images"
    )
    say(f"{cost_line(made.cost)}; {of_groups}")
    say(f"speed on this CPU: {made.speed:.1f} images/s, in float {made.float_speed:.1f}")
    if made.cost.verdicts_changed > POOR:
        say(f"WARNING: {name} quantises badly: {made.cost.verdicts_changed:.0%} of the verdicts change")
    if made.mended:
        say(f"with --float-ends: {cost_line(made.mended)}")
