"""The paths that params.yaml names, and those that its names stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ffdi.intake.archives import unpacked
from ffdi.intake.settings import DataSettings

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


def unpacked_root(data: DataSettings, override: Path | None = None) -> Path:
    """The folder of a data set's images, `override` or its root; an archive is unpacked first, once."""
    root = override or resolve_path(data.root)
    return unpacked(root) if root.is_file() else root


def image_source(data: DataSettings, override: Path | None = None) -> ImageSource:
    """The images of a data set: those of `override`, or of its root; an archive is unpacked first, once."""
    from ffdi.intake.decoding.images import ImageSource

    return ImageSource(unpacked_root(data, override), data.max_pixels)


def weights_file(backbone: str) -> Path:
    """Where the weights stage puts a backbone's weights by default."""
    return Path(f"data/weights/{backbone}.safetensors")
