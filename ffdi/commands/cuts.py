"""ffdi cuts: where a network can be cut."""

from __future__ import annotations

import click

from ffdi.stagekit.command import OneLineErrors


@click.command(cls=OneLineErrors)
@click.argument("network")
@click.option("--image-size", default=224, show_default=True, type=click.IntRange(min=1))
@click.option("--dtype", default="float16", show_default=True, type=click.Choice(["float16", "float32", "int8"]))
def cuts(network: str, image_size: int, dtype: str) -> None:
    """Print where NETWORK, torchvision:NAME or timm:NAME, can be cut, and what each cut stores and saves.

    A cut is the module that the tail begins with. Its tensor is kept per image and view; the share of FLOPs is that of
    the frozen prefix, which is computed once.
    """
    from ffdi.features.backbone import INPUT
    from ffdi.features.cuts import Cut, list_cuts
    from ffdi.features.networks import headless_network
    from ffdi.files import human_bytes

    images = Cut(INPUT, (3, image_size, image_size), 0.0)
    found = list_cuts(headless_network(network), image_size)
    rows = [("cut", "shape", "bytes per image", "FLOPs before")]
    for cut, kept_as in [(images, "uint8"), *((cut, dtype) for cut in found)]:
        shape = "x".join(str(n) for n in cut.shape)
        rows.append((cut.name, shape, human_bytes(cut.bytes(kept_as)), f"{cut.flops_before:.1%}".replace("%", " %")))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for name, shape, size, share in rows:
        click.echo(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {size:>{widths[2]}}  {share:>{widths[3]}}")
