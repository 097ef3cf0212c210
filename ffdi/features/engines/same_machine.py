"""Whether a worker on another machine computes what the driver's would, and sees the files that it needs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ffdi.errors import ShardError
from ffdi.features.extractor import Extractor, PrefixFile, local_spec
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.image_views import ImageFiles
from ffdi.features.shard_place import LocalPlace
from ffdi.features.shard_task import ShardTask
from ffdi.files import sha256_file
from ffdi.intake.decoding.images import ImageSource

_MOUNT = ": mount the same folder on every node, or keep images and features at a URL"


@dataclass(frozen=True)
class Machine:
    """What each worker must see as the driver does: the folder that paths start from, a mark in the folder of the shards
    (None where they go to a URL), and an image of the source (None where none is read)."""

    folder: Path
    mark: Path | None
    source: ImageSource
    image: str | None

    @classmethod
    @contextmanager
    def here(cls, extractor: Extractor, tasks: Sequence[ShardTask], images: ImageFiles) -> Iterator[Machine]:
        """The driver's machine; the mark is there while the body runs."""
        place = tasks[0].place
        mark = place.folder / f".{uuid.uuid4().hex}.seen" if isinstance(place, LocalPlace) else None
        first = next(iter(images.files.values()), None)
        if mark:
            mark.touch()
        try:
            yield cls(Path.cwd(), mark, images.source, first.path if first else None)
        finally:
            if mark:
                with suppress(OSError):  # the commit may have removed its folder
                    mark.unlink()

    def refuse_other(self, extractor: Extractor) -> None:
        """ShardError when this process would compute other features, or does not see the driver's files."""
        with suppress(OSError):  # without it, only what is at a URL or has an absolute path is found
            os.chdir(self.folder)
        _refuse_other_features(extractor)
        if isinstance(extractor.load, PrefixFile) and extractor.backbone.has_prefix:
            _refuse_other_weights(extractor.load.weights, extractor.spec.weights_sha256)
        if self.mark and not self.mark.exists():
            raise ShardError(f"{self.mark.parent.absolute()}: is not the folder of the driver here{_MOUNT}")
        if self.image and not self.source.exists(self.image):
            raise ShardError(f"{self.source.place(self.image)}: the images of the driver are not seen here{_MOUNT}")


def _refuse_other_weights(weights: Path, sha256: str) -> None:
    if not weights.exists():
        raise ShardError(f"{weights.absolute()}: the weights are not seen here{_MOUNT}")
    if sha256_file(weights) != sha256:
        raise ShardError(f"{weights.absolute()}: other weights than the driver's{_MOUNT}")


def _refuse_other_features(extractor: Extractor) -> None:
    """ShardError naming what of the spec would be different if this process had made it."""
    spec, b = extractor.spec, extractor.backbone
    mine = local_spec(b, spec.weights_sha256, spec.shape)
    if b.runtime == "auto" and spec.policy["runtime"] == "torch-cpu" and mine.policy["runtime"] == "onnxruntime-cpu":
        mine = replace(mine, policy={**mine.policy, "runtime": "torch-cpu"})  # the driver found that it does not export
    if mine.fingerprint == spec.fingerprint:
        return
    ours, due = _flat(mine), _flat(spec)
    differ = [f"{key} {ours.get(key)}, not {value}" for key, value in due.items() if ours.get(key) != value]
    raise ShardError(
        f"features would be others than the driver's ({'; '.join(differ)}): install the same ffdi everywhere"
    )


def _flat(spec: FeatureSpec) -> dict[str, Any]:
    stored = spec.to_dict()
    return {key: value for key, value in stored.items() if key != "policy"} | dict(stored["policy"])
