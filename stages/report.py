"""Put every result on one page."""

from pathlib import Path

from ffdi.params.paths import image_source
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import say
from ffdi.stagekit.options import FOLDS, IMAGES, PARAMS, ROOT, path

DATA = path("--data", default="data", help="the folder with comparisons.csv, audit_findings.csv, cross and timings")


@stage_command(
    *(PARAMS, ROOT, IMAGES, FOLDS, DATA),
    path("--metrics", default="metrics"),
    path("--models", default="data/models"),
    path("--features", default="data/features"),
    path("--out", default="data/report"),
)
def main(
    params_file: Path,
    root: Path | str | None,
    images_file: Path,
    folds_file: Path,
    data: Path,
    metrics: Path,
    models: Path,
    features: Path,
    out: Path,
) -> None:
    """Put every figure on one page."""
    params = read_params(params_file)
    from ffdi.evaluation.report import PipelineFolders, unused_folders, write_report
    from ffdi.evaluation.verdict import verdict
    from ffdi.intake.tables import join, read_folds, read_images

    switches = {"augmented_copy_across_border": "find_copies", "embedding_duplicate_across_border": "use_embedding"}
    results = write_report(
        out,
        PipelineFolders(metrics, data, models, features),
        {**{name: recipe.backbone for name, recipe in params.recipes.items()}, **dict.fromkeys(params.ensembles, "")},
        join(read_images(images_file), read_folds(folds_file)),
        image_source(params.data, root),
        params_text=params_file.read_text(encoding="utf-8"),
        unchecked={c: f"audit.{key} is off" for c, key in switches.items() if not getattr(params.audit, key)},
    )
    written = ((models, params.recipes), (features, params.backbones), (data / "ensembles", params.ensembles))
    unused = [folder for place, names in written for folder in unused_folders(place, names)]
    for file in (*results.leftover_files(metrics), *unused):
        say(f"report: {file} is of no recipe of params, or of a model that is gone: left out; delete it")
    say(f"report: {verdict(results)}")
    say(f"report: {out / 'index.html'}")


if __name__ == "__main__":
    main()
