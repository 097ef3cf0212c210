"""Layout df40: DF40's folders of frames, with the real frames of FaceForensics++ and Celeb-DF-v2 beside them.

DF40/METHOD/{ff,cdf}/[frames/]VIDEO/000.png and DF40_train/METHOD/[ff/][frames/]VIDEO/000.png are fake; nine methods have
METHOD/{fake,real}/ instead. VIDEO has the names of its two people as those data sets do: 001_870, id0_id1_0000.
"""

from __future__ import annotations

import re

from ffdi.intake.decoding.formats import VIDEO_SUFFIXES
from ffdi.intake.listing.importer import Importer, LayoutFit, RootFiles
from ffdi.intake.listing.layout_rows import LayoutRows
from ffdi.intake.listing.media_rows import MediaRow, RowSource, layout_rows, no_example, some

_KINDS = {
    "face swapping": "fsgan faceswap simswap inswap blendface uniface mobileswap e4s facedancer deepfacelab",
    "reenactment": "fomm facevid2vid wav2lip mraa one_shot_free pirender tpsm lia danet sadtalker mcnet hyperreenact heygen",
    "synthesis": "vqgan stylegan2 stylegan3 styleganxl sd2.1 ddim rddm pixart dit sit midjourney whichfaceisreal whichisreal",
    "editing": "collabdiff e4e stargan starganv2 styleclip",
}
DF40_METHODS = {method: kind for kind, methods in _KINDS.items() for method in methods.split()}
_DOMAINS = {"ff": 1, "cdf": 1, "fake": 1, "real": 0}  # with their labels
_REALS = {"original_sequences": "ff", "celeb-real": "cdf", "youtube-real": "cdf"}
_SPLITS = {"df40": "test", "df40_train": "train"}
_CLIP = re.compile(r"(\d{3})(?:_(\d{3}))?|(id\d+)_(?:(id\d+)_)?\d+|(\d{5})")


def _row(path: str) -> MediaRow | None:
    parts = path.split("/")
    names = [part.casefold() for part in parts[:-1]]
    is_clip = path.lower().endswith(VIDEO_SUFFIXES)
    folder = path.rpartition("." if is_clip else "/")[0]  # of the frames of a video, or the video itself
    video = folder.rpartition("/")[2]
    if (real := next((part for part in names if part in _REALS), None)) is not None:
        return MediaRow(path, 0, _people(video, folder), "", _attributes("", "", _REALS[real], folder), real)
    for at, name in enumerate(names):
        above, below = names[at - 1] if at else "", names[at + 1] if at + 1 < len(names) else ""
        if name in DF40_METHODS and (above in _SPLITS or (above == "" and below in _DOMAINS) or below in ("ff", "cdf")):
            domain = below if below in _DOMAINS else "ff"
            label, own = _DOMAINS[domain], domain in ("fake", "real")
            flat = not is_clip and names[at + 1 :] in ([domain], [domain, domain])  # pictures that are of no video
            groups = () if flat else (f"{parts[at]} {video}",) if own else _people(video, folder)
            attributes = _attributes(parts[at] if label else "", DF40_METHODS[name] if label else "", domain, folder)
            return MediaRow(path, label, groups, _SPLITS.get(above, ""), attributes, domain if own else parts[at])
    return None


def _people(video: str, folder: str) -> tuple[str, ...]:
    clip = _CLIP.fullmatch(video)
    return tuple(filter(None, clip.groups())) if clip else (folder,)


def _attributes(method: str, kind: str, domain: str, video: str) -> dict[str, str]:
    return {"method": method, "kind": kind, "domain": domain if domain in ("ff", "cdf") else "own", "video": video}


def _read(files: RootFiles) -> LayoutRows:
    rows = [row for path in files.media if (row := _row(path))]
    messages = (
        () if any(not row.label for row in rows) else ("no real frame: put FaceForensics++/ and Celeb-DF-v2/ beside",)
    )
    return layout_rows(rows, files, RowSource("df40", messages=messages))


def _recognise(files: RootFiles) -> list[LayoutFit]:
    methods = {row.attributes["method"] for path in files.media if (row := _row(path)) and row.label}
    return [LayoutFit(f"folders of the methods {some(methods)}", own_table=True)] * bool(methods)  # no other has these


DF40 = Importer(lambda files, data: _read(files), lambda files, data: _recognise(files), excluded=no_example)
