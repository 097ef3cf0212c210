"""Draw the test set and the folds, by groups that near-duplicates have joined."""

from pathlib import Path

import click

from ffdi.params import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console, say


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path))
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--plots", type=click.Path(path_type=Path))
def main(
    params_file: Path, root: Path | None, weights: Path | None, images_file: Path, out: Path, plots: Path | None
) -> None:
    """Draw the test set and the folds, by groups that near-duplicates have joined."""
    params = read_params(params_file)
    import numpy as np

    from ffdi.intake.decoding.images import ImageSource
    from ffdi.intake.folds import assign_folds, balance_table, describe_clusters
    from ffdi.intake.groups import single_names
    from ffdi.intake.near_duplicates.clusters import held_together
    from ffdi.intake.near_duplicates.embeddings import embedding_pairs
    from ffdi.intake.near_duplicates.hashes import perceptual_pairs
    from ffdi.intake.tables import read_images, sides, write_table
    from ffdi.intake.wholes import describe_dropped, describe_wholes

    split, images, pixels = params.split, read_images(images_file), params.data.max_pixels
    ids, cells = list(images["image_id"]), list(images["group"])
    groups = single_names(cells) if split.two_sources == "drop" else cells  # what holds images together
    pairs = perceptual_pairs(list(images["phash"]), split.phash_bits)
    say(f"split: {len(pairs)} near-duplicate pairs by pHash within {split.phash_bits} bits")
    if split.find_copies:
        from ffdi.intake.near_duplicates.copies import find_copies, read_sketches

        source = ImageSource(params.root(root), pixels)
        sketches = read_sketches(source, list(images["path"]), console("split"))
        held = held_together(pairs, ids, groups)
        copies = find_copies(sketches, lambda one, other: held[one] != held[other], console("split")).pairs
        say(f"split: {len(copies)} more pairs that are crops, turns, exposures or edits of one picture")
        pairs = np.concatenate([pairs, copies])
    if split.use_embedding:
        from ffdi.features.extract import embed, load_extractor

        prefix = load_extractor(params.backbone(split.embedding), weights or params.weights_file(split.embedding))
        found = embed(
            images,
            root=params.root(root),
            prefix=prefix,
            max_pixels=pixels,
            progress=console("split").progress,
            say=lambda line: say(f"split: {line}"),
        )
        near = embedding_pairs(found, split.min_cosine, held_together(pairs, ids, groups))
        say(f"split: {len(near)} more pairs by embedding, mutually nearest at a cosine of {split.min_cosine} or more")
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
        two_sources=split.two_sources,
    )
    write_table(out, table)
    balance = balance_table(images, table)
    if plots:
        write_table(plots / "balance.csv", balance)
    wholes = describe_wholes(cells, table["group"].to_numpy(str)) if split.two_sources == "join" else ""
    for line in (*describe_clusters(images, table), wholes, describe_dropped(images, table)):
        if line:
            say(f"split: {line}")
    groups_at = table["group"].groupby(sides(table)).nunique()
    for place, part in balance.groupby("place"):
        real, fake = part["images"]
        groups_there = "" if place == "dropped" else f", {groups_at[place]} groups"
        say(f"split: {place}: {real} real, {fake} fake{groups_there}")


if __name__ == "__main__":
    main()
