"""Evaluate trained recipes on other data sets."""

from pathlib import Path

from ffdi.params.paths import image_source
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import DETAILS, PARAMS, path


@stage_command(
    PARAMS,
    path("--models", default="data/models"),
    path("--out", default="metrics/cross.json"),
    DETAILS,
    path("--folder", default="data/cross"),
)
def main(params_file: Path, models: Path, out: Path, details: Path | None, folder: Path) -> None:
    """Judge trained recipes on other data sets."""
    params = read_params(params_file)
    from ffdi.evaluation.headline import of_pairs, write_metrics
    from ffdi.evaluation.other_data import OtherDataSet, evaluate_on_all_other_data
    from ffdi.features.devices import device_line, set_up_torch
    from ffdi.files import replacing_folder

    device = set_up_torch(params.train.device)
    console("cross").say(device_line(params.train.device))
    unit, cross = params.evaluate.units, params.evaluate.cross
    data_sets = (OtherDataSet(name, data, image_source(data), unit) for name, data in cross.items())
    with replacing_folder(folder) as temporary:
        metrics = evaluate_on_all_other_data(
            data_sets,
            models,
            temporary,
            phash_bits=params.audit.phash_bits,
            bootstrap=params.bootstrap,
            device=device,
            consoles=console,
        )
    write_metrics(metrics, out, details, headline=of_pairs)


if __name__ == "__main__":
    main()
