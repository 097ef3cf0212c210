"""Put the data set, wherever it is, where DVC looks for it: a link to a folder, or a manifest of the files at a URL."""

import os
from pathlib import Path

from ffdi.errors import FfdiError, InputError
from ffdi.params.paths import resolve_path
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import PARAMS, path
from ffdi.urls import local_path


@stage_command(PARAMS, path("--out", default="data/root"))
def main(params_file: Path, out: Path) -> None:
    """Link the data set, wherever it is, to where DVC looks for it; of one at a URL, write the manifest of its files.

    DVC hashes the target of the link, so that a changed image reruns ingest. The stage cannot depend on data.root
    itself: an experiment in a copy of the checkout (`dvc exp run --temp`, `--queue`) has no files that git ignores. A
    change at a URL is seen when this stage runs again: dvc repro --single-item --force root.
    """
    data = read_params(params_file).data
    from ffdi.intake.listing.manifest import is_manifest, list_root

    if os.path.lexists(out) and not out.is_symlink() and not is_manifest(out):
        raise InputError(f"{out}: is no link and no manifest, but ffdi needs its place: move it elsewhere")
    root = local_path(data.root)
    if root is None:
        if out.is_symlink():
            out.unlink()
        console("root").say(list_root(data, out))
    else:
        _link(resolve_path(root).absolute(), out)


def _link(root: Path, out: Path) -> None:
    if not root.exists():
        raise InputError(f"data.root: {root}: no such folder or archive")
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
