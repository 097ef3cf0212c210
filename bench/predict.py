"""How fast `ffdi predict` scores images, beside the extraction of their features: pairs on the same images, warm.

python bench/predict.py --model data/models/NAME --images FOLDER [--count 2000] [--pairs 3] [--tails 1]

The time of a processor is printed as well as the clock's: on a machine that does other work, only their shares compare.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd

from ffdi.deploy.detector import load
from ffdi.deploy.inputs import Inputs
from ffdi.deploy.pictures import pictures_of
from ffdi.features.devices import set_up_torch
from ffdi.features.extract import extract_features
from ffdi.files import sha256_file
from ffdi.intake.decoding.images import ImageSource


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds by the clock, seconds of processors)."""
    clock, processors = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--count", default=2000, type=int)
    parser.add_argument("--pairs", default=3, type=int)
    parser.add_argument("--tails", type=int, help="how many of the folds' tails score; one, as a refit model has")
    options = parser.parse_args()
    found, detector = Inputs(), load(options.model)
    found.add(options.images)
    (part,) = detector.model.parts
    part = replace(part, tails=dict(list(part.tails.items())[: options.tails]))
    detector = replace(detector, model=part)
    by_id = {sha256_file(file): file for file in found.files}
    files = list(by_id.values())[: options.count]
    names = [file.relative_to(options.images).as_posix() for file in files]
    rows = pd.DataFrame({"image_id": list(by_id)[: len(files)], "path": names, "role": "test"})
    rows = rows.sort_values("image_id", ignore_index=True)
    set_up_torch()
    pictures = [picture for file in files for picture in pictures_of(file)]
    list(detector.judgements(pictures[:64]))
    source, ratios = ImageSource(options.images), []

    def extract() -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract_features(rows, part.extractor(), Path(folder) / "features", source=source)

    for _ in range(options.pairs):
        extracted = timed(extract)
        predicted = timed(lambda: list(detector.judgements(pictures)))
        ratios.append([before / after for before, after in zip(extracted, predicted, strict=True)])
        rates = [len(files) / seconds for seconds in (*extracted, *predicted)]
        shown = "images/s: extraction {:.1f} ({:.1f} by processor time), predict {:.1f} ({:.1f})"
        print(shown.format(*rates), flush=True)
    clock, processors = (median(column) for column in zip(*ratios, strict=True))
    print(
        f"{len(files)} images, {len(part.tails)} tails: predict at {clock:.0%} of the extraction rate, {processors:.0%} by processor time"
    )


if __name__ == "__main__":
    main()
