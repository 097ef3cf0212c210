"""Link the data set, wherever it is, to where DVC looks for it."""

import os
from pathlib import Path

from ffdi.errors import FfdiError, InputError
from ffdi.params.paths import resolve_path
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.options import PARAMS, path


@stage_command(PARAMS, path("--out", default="data/root"))
def main(params_file: Path, out: Path) -> None:
    """Link the data set, wherever it is, to where DVC looks for it.

    DVC hashes the target of the link, so that a changed image reruns ingest. The stage cannot depend on data.root
    itself: an experiment in a copy of the checkout (`dvc exp run --temp`, `--queue`) has no files that git ignores.
    """
    root = resolve_path(read_params(params_file).data.root).absolute()
    if not root.exists():
        raise InputError(f"data.root: {root}: no such folder or archive")
    if out.exists() and not out.is_symlink():
        raise InputError(f"{out}: is no link, but ffdi needs its place for one: move it elsewhere")
    place = out.parent.resolve()
    if root == out.absolute() or place.is_relative_to(root.resolve()):
        raise InputError(f"data.root: {root} is or holds what ffdi writes to: name a folder of images alone")
    try:
        place.mkdir(parents=True, exist_ok=True)
        out.unlink(missing_ok=True)
        out.symlink_to(os.path.relpath(root, place) if root.is_relative_to(Path.cwd()) else root)
    except OSError as error:
        raise FfdiError(f"{out}: cannot be made a link to {root}: {error.strerror}") from error


if __name__ == "__main__":
    main()
