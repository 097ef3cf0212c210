"""Self-blended fakes of the user's own real training images (`data.synthesise`), made when their features are.

Such a fake exists only as rows of features: it has no file, so no second encoding tells it from the real images, and no
row of images.csv or folds.csv, so it can stand on no side of a split but that of its source.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from PIL import Image

SELF_BLEND = "self-blend-1"  # in every such image_id: whoever changes the forgery changes the name


def with_synthesised(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`rows` (images.csv joined with folds.csv), then `count` fakes of each real image of role train.

    A fake has label 1, its source's path, group, role and fold, an image_id of its own, and in the new column `source`
    the image_id of its source ("" for all others). Features of fakes are reused while `seed` is the same.
    """
    sources = rows[(rows["label"] == 0) & (rows["role"] == "train")]
    parts = [rows.assign(source="")]
    for number in range(count):
        ids = [_fake_id(image_id, number, seed) for image_id in sources["image_id"]]
        parts.append(sources.assign(source=sources["image_id"], image_id=ids, label=1))
    whole: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return whole


def _fake_id(image_id: str, number: int, seed: int) -> str:
    return hashlib.sha256(f"{SELF_BLEND}\0{seed}\0{image_id}\0{number}".encode()).hexdigest()


def synthesise(image: Image.Image, image_id: str) -> Image.Image:
    """The fake `image_id` of the square RGB `image` of its source; the id alone decides what is done."""
    from ffdi.demo.forgeries import self_blend

    picture = np.asarray(image, np.float32).transpose(2, 0, 1) / 255
    forged = self_blend(picture, np.random.default_rng(list(bytes.fromhex(image_id))))
    return Image.fromarray((forged.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))
