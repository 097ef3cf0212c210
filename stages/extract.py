"""Run a frozen prefix over every image once and cache its feature maps."""

from functools import partial
from pathlib import Path

import click

from ffdi.params import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console, say
from ffdi.stagekit.stopwatch import stopwatch


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--backbone", "name", required=True)
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--weights", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path))
def main(
    params_file: Path,
    root: Path | None,
    name: str,
    images_file: Path,
    folds_file: Path,
    weights: Path | None,
    out: Path | None,
) -> None:
    """Run a frozen prefix over every image once and cache its feature maps."""
    params = read_params(params_file)
    backbone = params.backbone(name)
    from ffdi.features.extract import extract, load_extractor
    from ffdi.features.self_blending import with_synthesised
    from ffdi.intake.tables import join, read_folds, read_images

    rows = join(read_images(images_file), read_folds(folds_file))
    rows = with_synthesised(rows, params.data.synthesise, backbone.view_seed)
    if fakes := int((rows["source"] != "").sum()):
        say(f"extract {name}: {fakes} self-blended fakes of real training images among them")
    workers = params.extract.workers
    out = out or Path(f"data/features/{name}")
    with stopwatch(f"extract-{name}", out.parent.parent / "timings") as times:  # of the last run that computed a row
        done = extract(
            rows,
            list(rows["role"]),
            root=params.root(root),
            prefix=load_extractor(backbone, weights or params.weights_file(name), known=out),
            out=out,
            shard_rows=params.extract.shard_rows,
            workers=None if workers == "auto" else workers,
            max_pixels=params.data.max_pixels,
            compression=params.extract.compression,
            say=lambda line: say(f"extract {name}: {line}"),
            progress=partial(console(f"extract {name}").progress, unit="views"),
        )
        times.update(done.seconds | {"computed": done.computed})
    say(f"extract {name}: {done.computed} rows computed, {done.reused} reused")
    if done.computed:
        seconds = dict(done.seconds)
        rate = done.computed / seconds.pop("work")
        parts = ", ".join(f"{part} {spent:.1f} s" for part, spent in seconds.items())
        say(f"extract {name}: {rate:.0f} views/s; {parts} (decode, views and prefix summed over the workers)")


if __name__ == "__main__":
    main()
