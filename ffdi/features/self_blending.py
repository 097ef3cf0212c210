"""Self-blended fakes of real training images (`data.synthesise`), made when their features are computed.

Such a fake exists only as rows of features. It has no file, so no second encoding distinguishes it from real images. It
has no row in images.csv or folds.csv, so it is always on the same side of a split as its source.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from PIL import Image

SELF_BLEND = "self-blend-1"  # part of every such image_id: change it when the forgery changes


def with_synthesised(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`rows` (images.csv joined with folds.csv), then `count` fakes of each real image of role train.

    A fake has label 1, the path, group, role and fold of its source, and a new image_id. The new column `source` holds
    the image_id of its source ("" for all other rows). Features of fakes are reused as long as `seed` stays the same.
    """
    sources = rows[(rows["label"] == 0) & (rows["role"] == "train")]
    parts = [rows.assign(source="")]
    for number in range(count):
        ids = [_fake_id(image_id, number, seed) for image_id in sources["image_id"]]
        parts.append(sources.assign(source=sources["image_id"], image_id=ids, label=1))
    together: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return together


def _fake_id(image_id: str, number: int, seed: int) -> str:
    return hashlib.sha256(f"{SELF_BLEND}\0{seed}\0{image_id}\0{number}".encode()).hexdigest()


def synthesise(image: Image.Image, image_id: str) -> Image.Image:
    """The fake `image_id`, made from the square RGB `image` of its source. The id alone decides the forgery."""
    from ffdi.demo.forgeries import self_blend

    picture = np.asarray(image, np.float32).transpose(2, 0, 1) / 255
    forged = self_blend(picture, np.random.default_rng(list(bytes.fromhex(image_id))))
    return Image.fromarray((forged.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))
