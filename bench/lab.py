"""Images, weights, features and prefixes for the checks: all made on the spot, smooth random JPEGs and random weights."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from ffdi.console import Console
from ffdi.features.backbone import Backbone, Views
from ffdi.features.extract import ExtractionSummary, extract_features
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.weights import fetch_weights
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import read_table, write_table
from ffdi.params.reading import read_params

MAX_PIXELS = 50_000_000


PRESET = Path(__file__).parents[1] / "presets" / "seeds.yaml"


NETWORKS = {  # name: network, cut
    "mobilenet_v2": ("torchvision:mobilenet_v2", "features.16"),
    "wide_resnet50_2": ("torchvision:wide_resnet50_2", "layer4"),
    "resnet18": ("torchvision:resnet18", "layer4"),
    "shufflenet": ("torchvision:shufflenet_v2_x0_5", "stage4"),
    "vit_tiny": ("timm:vit_tiny_patch16_224", "blocks.5"),
    "vit_small": ("timm:vit_small_patch16_224", "norm"),
}


Say = Callable[[str], None]


def quiet(line: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Lab:
    """`count` JPEGs of `pixels` squared in `folder`, which a prefix on `device` sees at `size` squared.

    Labs of other counts may share a folder, and then have the same weights.
    """

    folder: Path
    device: str
    count: int
    pixels: int
    size: int

    @property
    def root(self) -> Path:
        return self.folder / str(self.count) / "images"

    def rows(self) -> pd.DataFrame:
        """images.csv joined with folds.csv: of every four images one is of the test set and three are of folds 0 to 2."""
        file = self.folder / str(self.count) / "rows.csv"
        if not file.exists():
            self.root.mkdir(parents=True)
            with ThreadPoolExecutor() as pool:
                ids = list(pool.map(self._write, range(self.count)))
            number = np.arange(self.count)
            facts = {"width": self.pixels, "height": self.pixels, "format": "JPEG", "phash": "0" * 32, "group": ids}
            table = pd.DataFrame({"image_id": ids, "path": [f"{n}.jpg" for n in number], **facts})
            table["label"], table["fold"] = number // 4 % 2, np.where(number % 4 == 3, -1, number % 4)
            table["role"] = np.where(number % 4 == 3, "test", "train")
            write_table(file, table.sort_values("image_id"))
        table = read_table(file, ("image_id",))
        return table.astype({"label": int, "fold": int, "width": int, "height": int})

    def _write(self, number: int) -> str:
        """A smooth picture, and on that of a fake a sharp-edged square."""
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        picture = np.asarray(coarse.resize((self.pixels, self.pixels), Image.Resampling.BICUBIC)).copy()
        if number // 4 % 2:
            side = self.pixels // 4
            x, y = rng.integers(0, self.pixels - side, 2)
            picture[y : y + side, x : x + side] = 255 - picture[y : y + side, x : x + side]
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=90, progressive=number % 8 == 0)
        (self.root / f"{number}.jpg").write_bytes(buffer.getvalue())
        return hashlib.sha256(buffer.getvalue()).hexdigest()

    def backbone(self, name: str, **changes: Any) -> Backbone:
        """One of NETWORKS with random weights, run by torch, changed as asked."""
        network, cut = NETWORKS[name]
        size = 224 if name.startswith("vit") else self.size
        fields: dict[str, Any] = {"name": name, "network": network, "weights": "random", "cut": cut, "image_size": size}
        plain = {"runtime": "torch", "views": Views(1, "light")}
        return replace(read_params(PRESET).backbone("mobilenet_v2"), **(fields | plain | changes))

    def weights(self, name: str) -> Path:
        """Random weights of one of NETWORKS."""
        file = self.folder / "weights" / f"{name}.safetensors"
        if not file.exists():
            fetch_weights(NETWORKS[name][0], "random", file, base=Path())
        return file

    def prefix(self, name: str, **changes: Any) -> Extractor:
        return load_extractor(self.backbone(name, **changes), self.weights(name))

    def pictures(self, name: str, count: int) -> npt.NDArray[np.uint8]:
        """(count, S, S, 3) random pixels as the backbone takes them."""
        size = self.backbone(name).pixels.size
        return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)

    def extract(self, name: str, out: Path, say: Say = quiet, **changes: Any) -> ExtractionSummary:
        """Stage extract's work on all images."""
        rows = self.rows()
        source = ImageSource(self.root, MAX_PIXELS)
        return extract_features(rows, self.prefix(name, **changes), out, source=source, console=Console(say))

    def features(self, name: str, **changes: Any) -> Path:
        """Features of all images, extracted once."""
        out = self.folder / str(self.count) / "-".join([name, *map(str, changes.values())])
        self.extract(name, out, **changes)
        return out
