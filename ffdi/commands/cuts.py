"""ffdi cuts: where a network can be cut, what each cut stores, and how well a linear probe reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console, say
from ffdi.stagekit.options import PARAMS, ROOT, WEIGHTS, path, table

if TYPE_CHECKING:
    from ffdi.features.backbone import Backbone
    from ffdi.features.cuts import Cut

_LISTING = ("cut", "shape", "keep: all", "mean", "cls", "FLOPs before")
_PROBES = ("cut", "keep", "width", "FLOPs before", "AUC", "95 % interval")


@click.command(
    cls=OneLineErrors,
    short_help="where a network can be cut, and what each cut stores",
    epilog="ffdi cuts timm:vit_tiny_patch16_224\nffdi cuts --probe data/folds.csv --backbone NAME",
)
@click.argument("networks", nargs=-1)
@click.option(
    "--image-size", type=click.IntRange(min=1), help="[default: that of the backbone or of its arguments, or 224]"
)
@click.option("--dtype", default="float16", show_default=True, type=click.Choice(["float16", "float32", "int8"]))
@click.option("--network-arg", "written_args", multiple=True, metavar="KEY=VALUE", help="as network_args in params")
@path("--probe", "folds_file", help="a folds.csv: probe cuts on its training images")
@click.option("--backbone", "name", help="of params, for --probe")
@click.option("--at", help="the cuts that --probe compares, with commas between  [default: up to 12 over the depth]")
@table("--images", "images_file", "data/images", help="for --probe  [default: data/images.csv]")
@ROOT
@WEIGHTS
@PARAMS
@path("--plots", help="the folder where --probe writes depth.csv, such as metrics/plots/depth")
def cuts(
    networks: tuple[str, ...],
    image_size: int | None,
    dtype: str,
    written_args: tuple[str, ...],
    folds_file: Path | None,
    name: str | None,
    at: str | None,
    images_file: Path,
    root: Path | str | None,
    weights: Path | None,
    params_file: Path,
    plots: Path | None,
) -> None:
    """Print where NETWORKS, torchvision:NAME or timm:NAME, can be cut, and what each cut stores and saves.

    A cut is the module that the tail begins with. Its features are stored per image and view, or a part of them, as `keep`
    says; the share of FLOPs is that of the frozen prefix, which is computed once.

    With --probe data/folds.csv, a linear probe is trained at every named cut of a --backbone of params, or of a network
    with --weights, in one pass over the training images; its AUC is out of fold. Test images are not read.
    """
    if folds_file is None:
        if not networks or name or at or weights or plots:
            raise click.UsageError("name a network to list, or give --probe FOLDS with --backbone NAME")
        for network in networks:
            click.echo(f"{network}\n" if len(networks) > 1 else "", nl=False)
            _echo(_listed(_plain_backbone(network, written_args, image_size), dtype))
        return
    if not (name and not networks and not written_args) and not (len(networks) == 1 and weights and not name):
        raise click.UsageError("--probe takes --backbone NAME, or one network with --weights FILE")
    from ffdi.evaluation.depth import probe_cuts
    from ffdi.intake.tables import join, read_folds, read_images, write_table
    from ffdi.params.paths import image_source, weights_file
    from ffdi.params.reading import read_params

    params = read_params(params_file)
    backbone = params.backbone(name) if name else _plain_backbone(networks[0], written_args, None)
    table = probe_cuts(
        join(read_images(images_file), read_folds(folds_file)),
        replace(backbone, image_size=image_size) if image_size else backbone,
        weights or weights_file(backbone.name),
        image_source(params.data, root),
        at=tuple(at.split(",")) if at else (),
        bootstrap=params.bootstrap,
        console=console(f"cuts {backbone.name}"),
    )
    _echo([_PROBES, *map(_probed, table.itertuples(index=False))])
    if plots:
        write_table(plots / "depth.csv", table)
        say(f"{plots / 'depth.csv'}")


def _listed(backbone: Backbone, dtype: str) -> list[tuple[str, ...]]:
    """A row for each cut of a network, the empty prefix first."""
    from ffdi.features.backbone import INPUT
    from ffdi.features.cuts import Cut, list_cuts
    from ffdi.features.networks import headless_network

    size = backbone.pixels.size
    images = Cut(INPUT, (3, size, size), 0.0)
    found = list_cuts(headless_network(backbone.network, backbone.network_args), size)
    return [_LISTING, _row(images, "uint8"), *(_row(cut, dtype) for cut in found)]


def _row(cut: Cut, dtype: str) -> tuple[str, ...]:
    """What is known of a cut; a dash where there is nothing of a kind to keep."""
    from ffdi.errors import ParamsError
    from ffdi.features.feature_spec import stored_bytes
    from ffdi.features.keep import Keep, kept_shape
    from ffdi.files import human_bytes

    def size(keep: Keep) -> str:
        try:
            shape = kept_shape(cut.shape, keep, cut.tokens)
        except ParamsError:
            return "-"
        nothing = keep != "all" and dtype in ("uint8", "int8")  # images are kept whole, and vectors not in int8
        return "-" if nothing else human_bytes(stored_bytes(shape, dtype))

    shape = "x".join(str(n) for n in cut.shape)
    return cut.name, shape, size("all"), size("mean"), size("cls"), _percent(cut.flops_before)


def _probed(row: tuple[str, str, int, float, float, float, float]) -> tuple[str, ...]:
    """A row of probe_cuts as text."""
    cut, keep, width, share, auc, low, high = row
    return cut, keep, str(width), _percent(share), f"{auc:.4f}", f"{low:.4f} to {high:.4f}"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _echo(rows: list[tuple[str, ...]]) -> None:
    """Print a table: the first two columns begin at their left, the others end at their right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{text:{'<' if n < 2 else '>'}{widths[n]}}" for n, text in enumerate(row))
        click.echo("  ".join(cells))


def _plain_backbone(network: str, written_args: tuple[str, ...], image_size: int | None) -> Backbone:
    """A backbone of a network that params do not name. A value of an argument is JSON, or text."""
    from ffdi.features.backbone import INPUT, Backbone

    args: dict[str, Any] = {}
    for written in written_args:
        key, equals, value = written.partition("=")
        if not equals:
            raise click.UsageError(f"--network-arg {written}: is not KEY=VALUE, such as img_size=256")
        try:
            args[key] = json.loads(value)
        except ValueError:
            args[key] = value
    return Backbone(network.rpartition(":")[2], network, "", INPUT, image_size, network_args=args)
