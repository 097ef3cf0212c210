"""Read the data set: every image decoded, identified, hashed, or rejected with a reason."""

from pathlib import Path

from ffdi.errors import InputError
from ffdi.params.paths import image_source
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import PARAMS, ROOT, path


@stage_command(
    PARAMS,
    ROOT,
    path("--out", help="[default: data/images.csv, or as data.tables says]"),
    path("--rejected", default="data/rejected.csv"),
    path("--skipped", help="[default: skipped.csv beside --out]"),
    path("--crops", help="how stage faces has cropped the images  [default: crops.json beside --out]"),
    path("--manifest", default="data/root", help="of a root at a URL: the files there, as stage root has listed them"),
)
def main(
    params_file: Path,
    root: Path | str | None,
    out: Path | None,
    rejected: Path,
    skipped: Path | None,
    crops: Path | None,
    manifest: Path,
) -> None:
    """Read the data set: every image decoded, identified, hashed, or rejected with a reason."""
    params = read_params(params_file)
    from ffdi.files import write_json
    from ffdi.intake.crop_facts import crop_facts
    from ffdi.intake.ingest import IntakeFiles, ingest_data_set
    from ffdi.intake.merging import ConflictError

    data, stage = params.data, console("ingest")
    source, out = image_source(data, root), out or Path(f"data/images.{data.tables}")
    files = IntakeFiles(out, rejected, skipped or out.with_name("skipped.csv"))
    try:
        ingested = ingest_data_set(source, data, files, stage, manifest)
    except ConflictError as error:
        raise InputError(f"{error}; all are in {rejected}") from None
    write_json(crops or out.with_name("crops.json"), crop_facts(source, stage))
    for line in (ingested.summary(), *ingested.class_lines()):
        stage.say(line)


if __name__ == "__main__":
    main()
