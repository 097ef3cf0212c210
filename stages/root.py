"""Put the data set, wherever it is, where DVC looks for it: a link to a folder, or a manifest of the files at a URL."""

from pathlib import Path

from ffdi.params.paths import resolve_path
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import PARAMS, path


@stage_command(PARAMS, path("--out", default="data/root"))
def main(params_file: Path, out: Path) -> None:
    """Link the data set, wherever it is, to where DVC looks for it; of one at a URL, write the manifest of its files.

    DVC hashes the target of the link, so that a changed image reruns ingest. The stage cannot depend on data.root
    itself: an experiment in a copy of the checkout (`dvc exp run --temp`, `--queue`) has no files that git ignores. A
    change at a URL is seen when this stage runs again: dvc repro --single-item --force root. So is a new file in a
    folder of several sets.
    """
    data = read_params(params_file).data
    from ffdi.intake.listing.placing import place_root

    for line in place_root(data, out, resolve_path):
        console("root").say(line)


if __name__ == "__main__":
    main()
