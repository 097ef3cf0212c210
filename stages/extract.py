"""Run a frozen prefix over every image once and cache its feature maps."""

from dataclasses import replace
from pathlib import Path

from ffdi.features.settings import EngineName
from ffdi.params.paths import image_source, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import ENGINE, FOLDS, IMAGES, PARAMS, ROOT, TIMINGS, WEIGHTS, name, path
from ffdi.stagekit.stopwatch import stopwatch


@stage_command(PARAMS, ROOT, name("--backbone"), IMAGES, FOLDS, WEIGHTS, path("--out"), TIMINGS, ENGINE)
def main(
    params_file: Path,
    root: Path | str | None,
    name: str,
    images_file: Path,
    folds_file: Path,
    weights: Path | None,
    out: Path | None,
    timings: Path,
    engine: EngineName | None,
) -> None:
    """Run a frozen prefix over every image once and cache its feature maps."""
    params = read_params(params_file)
    backbone = params.backbone(name)
    from ffdi.features.engines.loading import load_for_engine
    from ffdi.features.extract import extract_features
    from ffdi.features.self_blending import with_synthesised
    from ffdi.intake.tables import join, read_folds, read_images

    settings = replace(params.extract, engine=engine or params.extract.engine)
    stage, out = console(f"extract {name}"), out or Path(f"data/features/{name}")
    images = join(read_images(images_file), read_folds(folds_file))
    images = with_synthesised(images, params.data.synthesise, backbone.views.seed)
    if fakes := int((images["source"] != "").sum()):
        stage.say(f"{fakes} self-blended fakes of real training images among them")
    with stopwatch(f"extract-{name}", timings) as times:  # of the last run that computed a row
        done = extract_features(
            images,
            load_for_engine(backbone, weights or weights_file(name), out, settings, stage),
            out,
            source=image_source(params.data, root),
            settings=settings,
            console=stage,
        )
        times.update({**done.seconds, "computed": done.computed})
    for line in done.lines:
        stage.say(line)


if __name__ == "__main__":
    main()
