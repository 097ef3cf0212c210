"""Draw the test set and the folds, by groups that near-duplicates have joined."""

from pathlib import Path

from ffdi.params.paths import image_source, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import IMAGES, PARAMS, ROOT, WEIGHTS, path

OUT = path("--out", help="[default: data/folds, with the ending of --images]")


@stage_command(PARAMS, ROOT, WEIGHTS, IMAGES, OUT, path("--plots"))
def main(
    params_file: Path,
    root: Path | str | None,
    weights: Path | None,
    images_file: Path,
    out: Path | None,
    plots: Path | None,
) -> None:
    """Draw the test set and the folds, by groups that near-duplicates have joined."""
    params = read_params(params_file)
    from ffdi.features.compute import Embedder
    from ffdi.intake.splitting.split import split_images
    from ffdi.intake.tables import read_images, write_table

    settings, stage = params.split, console("split")
    source = image_source(params.data, root)
    backbone = params.backbones[settings.embedding]
    embed = Embedder(backbone, weights or weights_file(backbone.name), source, stage)
    split = split_images(read_images(images_file), source, settings, embed, stage)
    write_table(out or Path("data/folds").with_suffix(images_file.suffix), split.folds)
    if plots:
        write_table(plots / "balance.csv", split.balance)


if __name__ == "__main__":
    main()
