"""Draw the test set and the folds, by groups that near-duplicates have joined."""

from pathlib import Path
from typing import Any

from ffdi.params.paths import unpacked_root, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import IMAGES, PARAMS, ROOT, WEIGHTS, path


@stage_command(PARAMS, ROOT, WEIGHTS, IMAGES, path("--out", default="data/folds.csv"), path("--plots"))
def main(
    params_file: Path, root: Path | None, weights: Path | None, images_file: Path, out: Path, plots: Path | None
) -> None:
    """Draw the test set and the folds, by groups that near-duplicates have joined."""
    params = read_params(params_file)
    from ffdi.intake.decoding.images import ImageSource
    from ffdi.intake.splitting.split import split_images
    from ffdi.intake.tables import read_images, write_table

    settings, stage = params.split, console("split")
    source = ImageSource(unpacked_root(params.data, root), params.data.max_pixels)

    def embed(rows: Any) -> Any:
        from ffdi.features.compute import embed_with

        name = settings.embedding
        return embed_with(params.backbone(name), weights or weights_file(name), rows, source, stage)

    split = split_images(read_images(images_file), source, settings, embed, stage)
    write_table(out, split.folds)
    if plots:
        write_table(plots / "balance.csv", split.balance)


if __name__ == "__main__":
    main()
