"""What a set of crops holds, counted for the line that ends the stage and for faces.json."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ffdi.faces.journal import CroppedSource
from ffdi.faces.source_task import Unfit

_COMMONEST = 3  # reasons that a line names
_NUMBERS = re.compile(r" in \d+ frames|\d+x\d+ ")


@dataclass
class CropTotals:
    """What a set holds, counted."""

    photos: int = 0
    videos: int = 0
    frames: int = 0
    without_face: int = 0
    crops: int = 0
    tracks: int = 0
    versions: dict[str, set[str]] = field(default_factory=dict)

    def add(self, source: CroppedSource | None, is_of_video: bool) -> None:
        """Count a source that was searched; None for one that cannot be read."""
        if source is None:
            return
        for name, version in source.versions.items():
            self.versions.setdefault(name, set()).add(version)
        self.crops += len(source.faces)
        self.tracks += source.tracks
        if is_of_video:
            self.videos += 1
            self.frames += source.frames
            self.without_face += source.without_face
        else:
            self.photos += 1

    def versions_line(self) -> dict[str, str]:
        """The versions of each package that made crops of the set."""
        return {name: ", ".join(sorted(found)) for name, found in sorted(self.versions.items())}

    @property
    def line(self) -> str:
        """What was looked at and found."""
        return (
            f"{self.photos} photos and {self.videos} videos ({self.frames} frames, {self.without_face} of them without a "
            f"face): {self.crops} faces in {self.tracks} tracks"
        )


def counted_reasons(rejected: Iterable[Unfit]) -> str:
    """How many there are of each reason, without its particulars: "3 no face; 2 damaged"."""
    counts = Counter(_NUMBERS.sub("", one.reason.partition(":")[0]).strip() for one in rejected)
    commonest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(
        [f"{count} {reason}" for reason, count in commonest[:_COMMONEST]] + ["..."] * (len(commonest) > _COMMONEST)
    )
