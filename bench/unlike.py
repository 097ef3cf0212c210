"""What "unlike the training data" is worth: how often it fires on the test set, on other data and on what is no face.

Run it in the folder of a finished pipeline. The other data sets are those of evaluate.cross, and what --other names, a
folder of images or another pipeline's images.csv with its root (NAME=IMAGES.csv:ROOT). A bundle from before the index
gets one from its shards. Prints a Markdown table: the share of images beyond the limit, the AUC of the distance that
tells them from the test set, both with 95 % intervals over groups, and, where labels are known, the accuracy at the
frozen threshold on the images within the limit and on those beyond it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from ffdi.bootstrap import Bootstrap, auc_interval, rate_interval
from ffdi.features.devices import set_up_torch
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import read_bytes
from ffdi.intake.listing.walk import walk
from ffdi.intake.tables import join, read_folds, read_images
from ffdi.metrics import auc
from ffdi.params.paths import unpacked_root
from ffdi.params.reading import read_params
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.folds import FoldedTable
from ffdi.tails.predict import score_images
from ffdi.tails.scoring import ImageScore
from ffdi.tails.unlike import TrainingIndex

RESAMPLES, DRAWN, SIDE = 2000, 100, 224


def with_index(bundle: Bundle, rows: pd.DataFrame, shards: Path) -> Bundle:
    """The bundle with the index that a training on these shards writes."""
    if bundle.index or not bundle.backbone.has_prefix:
        return bundle
    train = rows[rows["role"] == "train"]
    store, ids = FeatureStore(shards), list(train["image_id"])
    table = load_table(store, ids, list(train["label"]), views=0, memory_gb=4)
    folded = FoldedTable.of(table, list(train["fold"]), groups=list(train["group"]))
    return replace(bundle, index=TrainingIndex.of_features(folded, set_up_torch()))


def noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def text(rng: np.random.Generator) -> Image.Image:
    page = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(200, 256, 3).tolist()))
    for line in range(8, SIDE - 10, 14):
        letters = "".join(rng.choice(list("abcdefghij klmnop "), 34))
        ImageDraw.Draw(page).text((8, line), letters, fill=tuple(rng.integers(0, 90, 3).tolist()))
    return page


def landscape(rng: np.random.Generator) -> Image.Image:
    """A sky that darkens downwards, a hilly horizon, the noise of a camera."""
    sky, land = rng.integers(100, 256, 3), rng.integers(20, 140, 3)
    pixels = np.repeat((sky * (1 - 0.3 * np.linspace(0, 1, SIDE)[:, None]))[:, None], SIDE, axis=1)
    hills = SIDE / 2 + 20 * np.sin(np.arange(SIDE) / rng.uniform(15, 40) + rng.uniform(0, 6))
    pixels[np.arange(SIDE)[:, None] > hills] = land
    grainy = (pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grainy).filter(ImageFilter.GaussianBlur(1))


def drawn(folder: Path) -> Iterator[tuple[str, pd.DataFrame, Path]]:
    """The sets of what is no face, drawn by a seed into folders."""
    for name, draw in (("noise", noise), ("text", text), ("landscape", landscape)):
        rng, root = np.random.default_rng(0), folder / name
        root.mkdir(parents=True, exist_ok=True)
        for number in range(DRAWN):
            draw(rng).save(root / f"{number:03}.png")
        yield f"no faces: {name}", files_in(root), root


def files_in(root: Path) -> pd.DataFrame:
    """The images of a folder, each a group of its own, without labels."""
    paths = walk(root).images
    return pd.DataFrame({"path": paths, "group": paths, "label": -1})


def scored(bundle: Bundle, images: pd.DataFrame, root: Path) -> list[ImageScore]:
    """The scores; an image that cannot be read ends the bench."""
    reads = [(path, partial(read_bytes, root, path)) for path in images["path"]]
    found = list(score_images(bundle, reads, max_pixels=50_000_000, device=set_up_torch()))
    wrong = [score for score in found if isinstance(score, str)]
    assert not wrong, wrong[0]
    return [score for score in found if isinstance(score, ImageScore)]


def line(name: str, bundle: Bundle, images: pd.DataFrame, scores: Sequence[ImageScore], home: pd.DataFrame) -> str:
    """A row of the table; `home` has group and distance of the test images."""
    distance = np.array([score.distance for score in scores], np.float64)
    groups, labels, beyond = images["group"].to_numpy(str), images["label"].to_numpy(), distance > 1
    low, high = rate_interval(beyond, groups, bootstrap=Bootstrap(RESAMPLES))
    hits = (np.array([score.mean for score in scores]) >= bundle.threshold) == labels
    right = [_share(hits[chosen]) if (labels >= 0).all() else "–" for chosen in (~beyond, beyond)]
    told = "–"
    if name != "test set":
        both = np.concatenate([home["distance"], distance])
        foreign = np.repeat([0, 1], [len(home), len(distance)])
        of_both = np.concatenate(["home " + home["group"].to_numpy(str).astype(object), groups]).astype(str)
        ends = auc_interval(foreign, both, of_both, bootstrap=Bootstrap(RESAMPLES))
        told = f"{auc(foreign, both):.3f} ({ends[0]:.3f} to {ends[1]:.3f})"
    share = f"{beyond.mean():.1%} ({low:.1%} to {high:.1%})"
    return f"| {name} | {len(images)} | {share} | {told} | {right[0]} | {right[1]} |"


def _share(hits: npt.NDArray[np.bool_]) -> str:
    return f"{hits.mean():.3f} of {len(hits)}" if len(hits) else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--other", action="append", default=[], help="NAME=FOLDER or NAME=IMAGES.csv:ROOT")
    parser.add_argument("--most", type=int, default=400, help="images of each other set, drawn by a seed")
    parser.add_argument("--folder", type=Path, required=True, help="where what is no face is drawn")
    chosen = parser.parse_args()
    params = read_params(Path("params.yaml"))
    rows = join(read_images(Path("data/images.csv")), read_folds(Path("data/folds.csv")))
    bundle = load_bundle(Path("data/models") / chosen.recipe)
    bundle = with_index(bundle, rows, Path("data/features") / bundle.backbone.name)
    sets = [("test set", rows[rows["role"] == "test"], unpacked_root(params.data))]
    for name, data in params.evaluate.cross.items():
        sets.append((name, read_images(Path(f"data/cross/{name}-images.csv")), unpacked_root(data)))
    for named in chosen.other:
        name, _, place = named.partition("=")
        table, _, root = place.partition(":")
        images = read_images(Path(table)) if root else files_in(Path(place))
        sets.append((name, images, Path(root or place)))
    print(f"| {chosen.recipe} | images | unlike the training | told from the test set | accuracy within | beyond |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    home = pd.DataFrame()
    for name, images, root in [*sets, *drawn(chosen.folder)]:
        images = images.assign(group=images["group"].where(images["group"] != "", images["path"]))
        if name != "test set" and len(images) > chosen.most:
            images = images.sample(chosen.most, random_state=0)
        scores = scored(bundle, images, root)
        if home.empty:
            home = pd.DataFrame({"group": images["group"], "distance": [score.distance for score in scores]})
        print(line(name, bundle, images, scores, home), flush=True)


if __name__ == "__main__":
    main()
