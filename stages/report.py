"""Put every figure on one page."""

from pathlib import Path

import click

from ffdi.params import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import say


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--metrics", type=click.Path(path_type=Path), default=Path("metrics"))
@click.option("--models", type=click.Path(path_type=Path), default=Path("data/models"))
@click.option("--features", type=click.Path(path_type=Path), default=Path("data/features"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/report"))
def main(
    params_file: Path,
    root: Path | None,
    images_file: Path,
    folds_file: Path,
    metrics: Path,
    models: Path,
    features: Path,
    out: Path,
) -> None:
    """Put every figure on one page."""
    params = read_params(params_file)
    from ffdi.evaluation.report import heat_maps, render_page, times_table, wrongest
    from ffdi.evaluation.results import read_results, results_table, verdict
    from ffdi.files import replacing_folder, write_text
    from ffdi.intake.tables import join, read_folds, read_images

    rows = join(read_images(images_file), read_folds(folds_file))
    backbones = {name: recipe.backbone for name, recipe in params.recipes.items()}
    results = read_results(metrics, backbones, images_file.parent, models)
    best = results.ranked[0][0]
    heat, no_heat = heat_maps(models / best, features / backbones[best], wrongest(results, rows))
    page = render_page(
        results,
        rows,
        params.root(root),
        findings=images_file.parent / "audit_findings.csv",
        max_pixels=params.data.max_pixels,
        params_text=params_file.read_text(encoding="utf-8"),
        heat=heat,
        no_heat=no_heat,
        unchecked={
            check: f"audit.{key} is off"
            for check, key in (
                ("augmented_copy_across_border", "find_copies"),
                ("embedding_duplicate_across_border", "use_embedding"),
            )
            if not getattr(params.audit, key)
        },
    )
    with replacing_folder(out) as folder:
        write_text(folder / "index.html", page)
        write_text(folder / "results.md", results_table(results))
        write_text(folder / "verdict.txt", verdict(results) + "\n")
    write_text(images_file.parent / "timings" / "times.md", times_table(results))
    leftovers = [
        f"{place / name}"
        for place, known in ((models, params.recipes), (features, params.backbones))
        for name in sorted(p.name for p in place.glob("*") if p.is_dir() and p.name not in known)
    ]
    left = [folder / f"{name}.json" for name in results.leftovers for folder in (metrics, metrics / "details")]
    for name in (*(file for file in left if file.exists()), *leftovers):
        say(f"report: {name} is of no recipe of params, or of a model that is gone: left out; delete it")
    say(f"report: {verdict(results)}")
    say(f"report: {out / 'index.html'}")


if __name__ == "__main__":
    main()
