"""As many images as a bench asks for, and stage extract run on some of them."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ffdi.intake.tables import FOLD_COLUMNS, IMAGE_COLUMNS, write_table

STAGE = Path(__file__).parents[1] / "stages" / "extract.py"

PARAMS = """
data: {{root: {root}}}
backbones:
  mobilenet_v2:
    network: torchvision:mobilenet_v2
    weights: random
    cut: features.16
    image_size: {size}
    views: {{count: {views}, policy: seeds}}
recipes: {{mobilenet_v2: {{backbone: mobilenet_v2}}}}
split: {{embedding: mobilenet_v2}}
ladder: {{recipe: mobilenet_v2, backbone: mobilenet_v2}}
"""

# A small process of its own: Linux counts the memory of a forking process into the peak of the program that it starts.
WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class SyntheticImages:
    """`count` JPEGs of `pixels` squared, small and smooth, all different, with the tables that stage extract reads."""

    def __init__(self, folder: Path, count: int, pixels: int, size: int, views: int, weights: Path) -> None:
        self.folder, self.weights = folder, weights
        root = folder / "images"
        rng = np.random.default_rng(0)
        (folder / "params.yaml").write_text(PARAMS.format(root=root, size=size, views=views))
        ids = []
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
            buffer = io.BytesIO()
            coarse.resize((pixels, pixels), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
            file = root / str(number // 1000) / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(buffer.getvalue())
            ids.append(hashlib.sha256(buffer.getvalue()).hexdigest())
        facts = dict.fromkeys(IMAGE_COLUMNS, "") | {"label": 0, "width": pixels, "height": pixels, "phash": "0" * 32}
        paths = [f"{number // 1000}/{number}.jpg" for number in range(count)]
        self.images = pd.DataFrame(facts | {"image_id": ids, "path": paths, "group": ids})[list(IMAGE_COLUMNS)]

    def run(self, count: int, out: Path) -> dict[str, float]:
        """Stage extract on the first `count` images: its times by part, wall-clock seconds and peak bytes of memory."""
        images = self.images.head(count).sort_values("image_id")
        write_table(out / "images.csv", images)
        folds = images[["image_id", "group"]].assign(cluster=images["image_id"], role="train", fold=0)
        write_table(out / "folds.csv", folds[list(FOLD_COLUMNS)])
        command = [sys.executable, str(STAGE), "--params", str(self.folder / "params.yaml")]
        command += ["--backbone", "mobilenet_v2", "--weights", str(self.weights), "--out", str(out / "data/features/x")]
        command += ["--images", str(out / "images.csv"), "--folds", str(out / "folds.csv")]
        command += ["--timings", str(out / "data/timings")]
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", WATCH, *command], check=True, capture_output=True, text=True)
        wall = time.perf_counter() - started
        times: dict[str, float] = json.loads((out / "data" / "timings" / "extract-mobilenet_v2.json").read_text())
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        return times | {"wall": wall, "memory": int(done.stdout) * unit}
