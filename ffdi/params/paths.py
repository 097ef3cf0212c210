"""The paths that params.yaml names, and those that its names stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ffdi.errors import InputError
from ffdi.intake.archives import unpacked
from ffdi.intake.remote_archives import is_archive_name, unpacked_from_url
from ffdi.intake.settings import DataSettings
from ffdi.storage import Remote
from ffdi.urls import is_url, local_path

if TYPE_CHECKING:
    from ffdi.intake.decoding.images import ImageSource


def main_checkout() -> Path:
    """The folder that relative paths of params start from: the checkout itself, also under `dvc exp run --temp`.

    DVC runs such experiments in a copy below .dvc/tmp/exps of the checkout.
    """
    here = Path.cwd()
    for folder in here.parents:
        if folder.name == "exps" and folder.parts[-3:-1] == (".dvc", "tmp"):
            return folder.parents[2]
    return here


def resolve_path(path: str) -> Path:
    """A path of params: from here where it exists here (a stage's output), otherwise from the main checkout."""
    return Path(path) if Path(path).exists() else main_checkout() / path


def unpacked_root(data: DataSettings) -> Path:
    """The folder of a data set's images on this machine; an archive is unpacked first, once."""
    root = image_source(data).root
    if not isinstance(root, Path):
        what = "is a URL" if isinstance(root, Remote) else "are several sets"
        raise InputError(f"{data.name}: {what}: name a folder of this machine")
    return root


def image_source(data: DataSettings, override: Path | str | None = None) -> ImageSource:
    """The images of a data set: those of `override`, or of its root; an archive is unpacked first, once.

    An archive at a URL is known by its suffix. Of several sets, `override` holds each under its name.
    """
    if not data.sets:
        return source_at(override or (data.place if is_url(data.place) else resolve_path(data.place)), data.max_pixels)
    from ffdi.intake.decoding.images import ImageSource

    sets = [(one.called, replace(one, max_pixels=data.max_pixels)) for one in data.sets]
    return ImageSource(tuple((name, image_source(one, _below(override, name))) for name, one in sets), data.max_pixels)


def _below(root: Path | str | None, name: str) -> Path | str | None:
    return root / name if isinstance(root, Path) else root and f"{root.rstrip('/')}/{name}"


def source_at(root: Path | str, max_pixels: int) -> ImageSource:
    """The images of a folder, an archive or a URL."""
    from ffdi.intake.decoding.images import ImageSource

    path = root if isinstance(root, Path) else local_path(root)
    if path is not None:
        return ImageSource(unpacked(Path(path)) if Path(path).is_file() else Path(path), max_pixels)
    remote = Remote(str(root))
    return ImageSource(unpacked_from_url(remote) if is_archive_name(remote.url) else remote, max_pixels)


def weights_file(backbone: str) -> Path:
    """Where the weights stage puts a backbone's weights by default."""
    return Path(f"data/weights/{backbone}.safetensors")
