"""What the audit reads of each image: facts of its file, a thumbnail, a sketch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.console import Console
from ffdi.intake.auditing.file_facts import fact_features, file_facts
from ffdi.intake.auditing.shortcuts import FACTS
from ffdi.intake.decoding.images import ImageSource, read_image, to_array
from ffdi.intake.decoding.read_ahead import ReadAhead
from ffdi.intake.near_duplicates.variants import Sketches, sketch
from ffdi.parallel import cpu_count, ordered_map

Matrix = npt.NDArray[Any]  # (N, D)
MOST_PROBED = 20_000  # images: with more, no figure gets better


@dataclass(frozen=True)
class ProbeInputs:
    """What the audit keeps of N decoded images.

    `facts` has a row an image; `thumbnails` is (N, 192) uint8, 8x8 RGB; `sketches` (N, 64, 64) uint8.
    """

    facts: pd.DataFrame
    thumbnails: npt.NDArray[np.uint8]
    sketches: Sketches


def read_probe_inputs(rows: pd.DataFrame, source: ImageSource, console: Console = Console()) -> ProbeInputs:
    """Read and decode each image of `rows` (images.csv) once; InputError names a file that cannot be read."""

    ahead = ReadAhead(source)

    def one(file: tuple[str, str]) -> tuple[dict[str, Any], npt.NDArray[np.uint8], Sketches]:
        data, image = read_image(source, *file, ahead)
        return file_facts(data), to_array(image.resize((8, 8))).ravel(), sketch(image)

    files = source.files_of(rows)
    results = ordered_map(one, ahead.over(files, lambda file: [file]), cpu_count())
    facts, thumbnails, sketches = zip(*console.progress(results, len(rows)), strict=True)
    return ProbeInputs(pd.DataFrame(list(facts)), np.stack(thumbnails), np.stack(sketches))


@dataclass(frozen=True)
class ProbeSample:
    """The images that are probed; `rows` has label and group, `embeddings` is (N, D) where there are some."""

    rows: pd.DataFrame
    inputs: ProbeInputs
    embeddings: Matrix | None

    @classmethod
    def take(cls, rows: pd.DataFrame, inputs: ProbeInputs, embeddings: Matrix | None = None) -> ProbeSample:
        """The first 20,000 images by image_id, which is a random order."""
        first = slice(MOST_PROBED)
        kept = ProbeInputs(inputs.facts.iloc[first], inputs.thumbnails[first], inputs.sketches[first])
        return cls(rows.iloc[first], kept, None if embeddings is None else embeddings[first])

    @cached_property
    def label(self) -> npt.NDArray[np.int64]:
        return self.rows["label"].to_numpy()

    @cached_property
    def group(self) -> npt.NDArray[np.str_]:
        return self.rows["group"].to_numpy(str)

    @cached_property
    def features(self) -> dict[str, Matrix]:
        """A matrix for each of PROBES but nearest_neighbour; made once, and only where a probe needs it."""
        facts = fact_features(self.rows, self.inputs.facts)
        stacked = np.column_stack([facts[name] for name in FACTS])
        return {"file_facts": stacked, **facts, "thumbnail": self.inputs.thumbnails / 255.0}
