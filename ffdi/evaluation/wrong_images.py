"""The test images that the best recipe gets most wrong: which they are, and what they and their heat maps look like."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from ffdi.errors import FfdiError
from ffdi.evaluation.explain import grad_cam
from ffdi.evaluation.heated import HeatMap, heated
from ffdi.evaluation.results import Results
from ffdi.features.preprocessing import Preprocessing
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource, read_image
from ffdi.intake.tables import CROP_COLUMNS
from ffdi.tails.bundle import load_bundle

MOST_SHOWN = 24
SIDE = 144  # pixels of a thumbnail


@dataclass(frozen=True)
class HeatMaps:
    """Heat maps by image_id, or the reason why there are none; `pixels` is what the network sees of an image."""

    maps: Mapping[str, HeatMap] = field(default_factory=dict)
    missing_reason: str = ""
    pixels: Preprocessing = Preprocessing()


def most_wrong_images(results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    """image_id, path, name, label, score and `called` of the test images whose score is farthest on the wrong side.

    The scores are those of the best recipe, and the distance is measured from its threshold. When there are fewer wrong
    images than MOST_SHOWN, the right ones that are nearest to the threshold follow.
    """
    threshold: Any = results.best["threshold"]
    table = results.table(results.best_name, "scores").merge(
        rows.assign(name=shown_names(rows))[["image_id", "path", "name"]], on="image_id"
    )
    error = (table["score"] - threshold) * (1 - 2 * table["label"])
    worst: pd.DataFrame = (
        table.assign(error=error, called=(table["score"] >= threshold).astype(int))
        .sort_values(["error", "image_id"], ascending=[False, True], kind="stable")
        .head(MOST_SHOWN)
    )
    return worst


def shown_names(rows: pd.DataFrame) -> pd.Series[str]:
    """What readers know an image by: its path, or of a face crop, whose file has no speaking name, where it is from."""
    if not {f"attr_{column}" for column in CROP_COLUMNS} <= {*rows.columns}:
        return rows["path"]
    of_video = ", " + rows["attr_seconds"].astype(str) + " s, person " + rows["attr_track"].astype(str)
    from_where = rows["attr_source"] + of_video.where(rows["attr_video"] != "", "")
    return from_where.where(rows["attr_source"] != "", rows["path"])


def heat_maps(model: Path, features: Path, worst: pd.DataFrame) -> HeatMaps:
    """Grad-CAM on the cached feature maps of the rows of most_wrong_images."""
    try:
        bundle, store = load_bundle(model), FeatureStore(features)
        bundle.refuse_other_features(store.spec)
        features_of_rows = torch.from_numpy(store.read([(image_id, 0) for image_id in worst["image_id"]]))
    except FfdiError as error:
        return HeatMaps(missing_reason=f"its model and features are not here ({error})")
    maps = grad_cam(bundle, features_of_rows, fake=worst["called"].to_numpy() == 1, spec=store.spec)
    if maps is None:
        return HeatMaps(missing_reason=f"cut at {bundle.backbone.cut_name} there is no feature map to look at")
    return HeatMaps(dict(zip(worst["image_id"], maps, strict=True)), pixels=bundle.backbone.pixels)


def thumbnails(worst: pd.DataFrame, source: ImageSource, heat: HeatMaps) -> list[dict[str, Any]]:
    """What the page shows of each row of most_wrong_images: the image, and its heat map if there is one, as data URIs.

    The image is shown as the network sees it, so that the heat map lies where it belongs.
    """
    out, pixels = [], replace(heat.pixels, size=SIDE)
    for row, file in zip(worst.to_dict("records"), source.files_of(worst), strict=True):
        picture = pixels.square(read_image(source, *file)[1])
        heat_map = heat.maps.get(row["image_id"])
        out.append(
            {
                "name": row["name"],
                "label": "fake" if row["label"] else "real",
                "called": "fake" if row["called"] else "real",
                "right": row["label"] == row["called"],
                "score": row["score"],
                "source": data_uri(picture),
                "heated": "" if heat_map is None else data_uri(heated(picture, heat_map)),
            }
        )
    return out


def data_uri(picture: Image.Image) -> str:
    """The picture as a JPEG that a page holds itself."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
