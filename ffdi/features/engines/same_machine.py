"""Whether a worker on another machine computes what the driver's would, and sees the files that it needs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ffdi.byte_cache import byte_cache
from ffdi.errors import ShardError
from ffdi.features.extractor import Extractor, PrefixFile, local_spec
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.image_views import ImageFiles
from ffdi.features.remote_place import RemotePlace
from ffdi.features.shard_place import LocalPlace
from ffdi.features.shard_task import ShardTask
from ffdi.files import sha256_file
from ffdi.intake.decoding.images import ImageSource
from ffdi.storage import Remote

_MOUNT = ": mount the same folder on every node, or keep images and features at a URL"


@dataclass(frozen=True)
class SharedWeights:
    """The weights of the driver as a worker finds them: in the same file, or at a URL below which the shards go too."""

    file: Path
    sha256: str
    url: str | None

    def share(self) -> None:
        """Upload them where there is a URL, unless they are there."""
        if self.url and Remote(self.url).file(self._name) is None:
            Remote(self.url).put(self.file, self._name)

    def here(self) -> Path:
        """Their file on this machine. ShardError when there is none of the same sha256."""
        if self.file.exists() and sha256_file(self.file) == self.sha256:
            return self.file
        if self.url:
            return byte_cache().get(self.sha256, partial(self._download, Remote(self.url)), self._are_in)
        what = "other weights than the driver's" if self.file.exists() else "the weights are not seen here"
        raise ShardError(f"{self.file.absolute()}: {what}{_MOUNT}")

    @property
    def _name(self) -> str:
        return f"weights/{self.sha256}.safetensors"

    def _download(self, remote: Remote, to: Path) -> None:
        remote.get(self._name, to)
        if not self._are_in(to):
            raise ShardError(
                f"{remote.at(self._name)}: other weights than its name says: delete it and run extract again"
            )

    def _are_in(self, file: Path) -> bool:
        return sha256_file(file) == self.sha256


@dataclass(frozen=True)
class Machine:
    """What each worker must see as the driver does: the folder that paths start from, a mark in the folder of the shards
    (None where they go to a URL), and an image of the source (None where none is read)."""

    folder: Path
    mark: Path | None
    source: ImageSource
    image: str | None
    weights: SharedWeights | None

    @classmethod
    @contextmanager
    def here(cls, extractor: Extractor, tasks: Sequence[ShardTask], images: ImageFiles) -> Iterator[Machine]:
        """The driver's machine; the mark is there while the body runs."""
        place = tasks[0].place
        mark = place.folder / f".{uuid.uuid4().hex}.seen" if isinstance(place, LocalPlace) else None
        first = next(iter(images.files.values()), None)
        weights = None
        if isinstance(extractor.load, PrefixFile) and extractor.backbone.has_prefix:
            url = place.url if isinstance(place, RemotePlace) else None
            weights = SharedWeights(extractor.load.weights, extractor.spec.weights_sha256, url)
            weights.share()
        if mark:
            mark.touch()
        try:
            yield cls(Path.cwd(), mark, images.source, first.path if first else None, weights)
        finally:
            if mark:
                with suppress(OSError):  # the commit may have removed its folder
                    mark.unlink()

    def extractor_here(self, extractor: Extractor) -> Extractor:
        """The extractor with the weights of this machine. ShardError when this process would compute other features, or
        does not see the driver's files."""
        go_to(self.folder)
        _refuse_other_features(extractor)
        if self.mark and not self.mark.exists():
            raise ShardError(f"{self.mark.parent.absolute()}: is not the folder of the driver here{_MOUNT}")
        if self.image and not self.source.exists(self.image):
            raise ShardError(f"{self.source.place(self.image)}: the images of the driver are not seen here{_MOUNT}")
        if self.weights is None or not isinstance(extractor.load, PrefixFile):
            return extractor
        return replace(extractor, load=replace(extractor.load, weights=self.weights.here()))


def go_to(folder: Path) -> None:
    """Start paths from a folder, if it is there; without it, only what is at a URL or has an absolute path is found."""
    with suppress(OSError):
        os.chdir(folder)


def _refuse_other_features(extractor: Extractor) -> None:
    """ShardError naming what of the spec would be different if this process had made it."""
    spec, b = extractor.spec, extractor.backbone
    mine = local_spec(b, spec.weights_sha256, spec.shape)
    mine = replace(
        mine, policy={**mine.policy, "runtime": spec.policy["runtime"]}
    )  # to open it is to know that it runs
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
