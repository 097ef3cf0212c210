"""Whether heat lies where a forgery is: the demo's test fakes, whose forged region is known because the demo draws it.

The share of the heat map, and of the falls of the score under occlusion, that lies inside the region, against two kinds of
chance: the region's share of the picture, and the share that the maps of other people's fakes have in it, which also
grants that faces are in the middle. Rises of the score count as nothing. 95 % intervals over resamples of the groups
(families). Prints a table in Markdown.

python bench/heat.py --model data/models/efficientnet_lite0 --model data/models/late_cut
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from ffdi.bootstrap import Array, Bootstrap, interval_around, mean_of, resample
from ffdi.demo.dataset import forged_region, plan_demo
from ffdi.deploy.detector import Detector, load
from ffdi.deploy.explanation.explain import explain, heaviest
from ffdi.deploy.explanation.occlusion import Patches
from ffdi.deploy.pictures import Picture, pictures_of
from ffdi.evaluation.heated import enlarged
from ffdi.stagekit.console import console

Map = npt.NDArray[np.float64]
SIDE = 112  # pixels at which maps and regions are compared
FORGED = 0.5  # of the largest opacity: from here on a pixel belongs to the region


class Fakes(NamedTuple):
    """Of each test fake: its picture, group and kind of forgery, and where it is forged, (N, S, S) of 0/1."""

    pictures: list[Picture]
    groups: Array
    kinds: Array
    regions: Map


def test_fakes(data: Path, detector: Detector, identities: int, seed: int) -> Fakes:
    """Those of a finished pipeline of the demo; the regions lie as the network sees the pictures."""
    rows = pd.read_csv(data / "images.csv").merge(pd.read_csv(data / "folds.csv")[["image_id", "role"]], on="image_id")
    rows = rows[(rows["role"] == "test") & (rows["label"] == 1)]
    planned = {one.path: one for one in plan_demo(identities, seed)}
    pixels = replace(heaviest(detector.model)[1].backbone.pixels, size=SIDE)
    regions = []
    for path in rows["path"]:
        region = forged_region(planned[path], seed)
        grey = Image.fromarray((255 * (region >= FORGED * region.max())).astype(np.uint8)).convert("RGB")
        regions.append(np.asarray(pixels.square(grey).convert("L"), float) >= 128)
    pictures = [pictures_of(data / "root" / path)[0] for path in rows["path"]]
    return Fakes(pictures, rows["group"].to_numpy(), rows["attr_forgery"].to_numpy(), np.stack(regions).astype(float))


def shares(maps: Map, fakes: Fakes) -> dict[str, Array]:
    """(N,) of each fake: the share of its map inside its region, the region's share of the picture, and the mean share
    that the maps of other groups have in it. NaN where a map is zero everywhere."""
    flat = maps.reshape(len(maps), -1)
    with np.errstate(invalid="ignore"):
        flat = flat / flat.sum(axis=1, keepdims=True)
    inside = flat @ fakes.regions.reshape(len(maps), -1).T  # map, region
    other = np.where(fakes.groups[:, None] != fakes.groups[None, :], inside, np.nan)
    return {
        "inside": np.diag(inside),
        "area": fakes.regions.mean(axis=(1, 2)),
        "others": np.nanmean(other, axis=0),
    }


def line(name: str, of: dict[str, Array], groups: Array, bootstrap: Bootstrap) -> str:
    """A row of the table."""
    known = np.isfinite(of["inside"])
    of, groups = {key: values[known] for key, values in of.items()}, groups[known]
    cells = [name, str(len(groups)), *(f"{of[key].mean():.3f}" for key in ("inside", "area", "others"))]
    for chance in ("area", "others"):
        gain = of["inside"] - of[chance]
        drawn = resample(groups, {"": mean_of(gain)}, bootstrap=bootstrap)[""]
        low, high = interval_around(float(gain.mean()), drawn, within=(-1.0, 1.0))
        cells.append(f"{gain.mean():+.3f} ({low:+.3f} to {high:+.3f})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, action="append", required=True)
    parser.add_argument("--data", type=Path, default=Path("data"), help="of a finished pipeline of the demo")
    parser.add_argument("--identities", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="fakes at most")
    parser.add_argument("--across", type=int, default=8, help="parts of an occlusion; 0: heat maps alone")
    parser.add_argument("--stride", type=float, default=1.0, help="from one part to the next, in sides of a part")
    parser.add_argument("--bootstrap", type=int, default=2000)
    asked = parser.parse_args()
    print("| maps | fakes | inside | area | others' | over area | over others' |\n|---|---|---|---|---|---|---|")
    for folder in asked.model:
        detector = load(folder)
        fakes = test_fakes(asked.data, detector, asked.identities, asked.seed)
        fakes = Fakes(*(part[: asked.limit] for part in fakes))  # type: ignore[arg-type]
        patches = Patches(asked.across, asked.stride) if asked.across else None
        maps: dict[str, list[Map]] = {}
        for picture in console(f"heat {detector.name}").progress(fakes.pictures, len(fakes.pictures)):
            found = explain(detector, picture, toward="fake", patches=patches)
            for what, values in {found.method: found.heat, "occlusion": found.occlusion}.items():
                if values is not None:
                    small = enlarged(values.clip(min=0), (SIDE, SIDE)).clip(min=0)
                    maps.setdefault(what, []).append(small.astype(float))
        for what, of_fakes in maps.items():
            of = shares(np.stack(of_fakes), fakes)
            print(line(f"{detector.name}: {what}", of, fakes.groups, Bootstrap(asked.bootstrap)), flush=True)
            for kind in np.unique(fakes.kinds):
                chosen = fakes.kinds == kind
                of_kind = {key: values[chosen] for key, values in of.items()}
                print(line(f"- {kind}", of_kind, fakes.groups[chosen], Bootstrap(asked.bootstrap)), flush=True)


if __name__ == "__main__":
    main()
