"""Crop the faces of a set of raw photos and videos."""

from pathlib import Path

from ffdi.errors import placed
from ffdi.params.paths import unpacked_root
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import PARAMS, name, path


@stage_command(PARAMS, name("--set"), path("--out"))
def main(params_file: Path, name: str, out: Path | None) -> None:
    """Crop the faces of a set of raw photos and videos."""
    settings, stage = read_params(params_file).face_set(name), console(f"faces {name}")
    from ffdi.faces.crop_set import make_crop_set

    with placed(f"faces.{name}"):
        made = make_crop_set(unpacked_root(settings), settings, out or Path(f"data/faces/{name}"), stage)
    stage.say(made.line)


if __name__ == "__main__":
    main()
