"""Draw the test set and the folds, by groups that near-duplicates have joined."""

from pathlib import Path

import click

from ffdi.cli import bar, say, stage_command
from ffdi.params import read_params


@stage_command
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path))
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
def main(params_file: Path, root: Path | None, weights: Path | None, images_file: Path, out: Path) -> None:
    """Draw the test set and the folds, by groups that near-duplicates have joined."""
    params = read_params(params_file)
    import numpy as np

    from ffdi.intake.duplicates import embedding_pairs, perceptual_pairs
    from ffdi.intake.folds import assign_folds
    from ffdi.intake.tables import read_images, write_table

    split, images = params.split, read_images(images_file)
    pairs = perceptual_pairs(list(images["phash"]), split.phash_bits)
    say(f"split: {len(pairs)} near-duplicate pairs by pHash within {split.phash_bits} bits")
    if split.use_embedding:
        from ffdi.features.extract import embed, load_prefix

        prefix = load_prefix(params.backbone(split.embedding), weights or params.weights_file(split.embedding))
        found = embed(
            images, root=params.root(root), prefix=prefix, max_pixels=params.data.max_pixels, progress=bar("split")
        )
        near = embedding_pairs(found, split.min_cosine)
        say(f"split: {len(near)} near-duplicate pairs by embedding at a cosine of {split.min_cosine} or more")
        pairs = np.concatenate([pairs, near])
    table = assign_folds(
        images,
        pairs,
        method=split.method,
        test_size=split.test_size,
        folds=split.folds,
        stratify_by=split.stratify_by,
        use_given=split.use_given,
        seed=split.seed,
    )
    write_table(out, table)
    label = images["label"].to_numpy()
    for name, rows in table.assign(label=label).groupby(["role", "fold"], sort=True):
        place = "test" if name[0] == "test" else f"fold {name[1]}"
        say(f"split: {place}: {(rows.label == 0).sum()} real, {rows.label.sum()} fake, {rows.group.nunique()} groups")


if __name__ == "__main__":
    main()
