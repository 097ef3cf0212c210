"""Plants leaks and shortcuts in a clean data set, with a strength and with images that each seed draws."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from ffdi.bootstrap import Bootstrap, auc_interval
from ffdi.features.backbone import Backbone
from ffdi.intake.auditing.classifier import cross_validated_scores
from ffdi.intake.auditing.file_facts import fact_features, file_facts
from ffdi.intake.auditing.findings import CHECKS, Finding
from ffdi.intake.auditing.inverted_labels import inverted_labels
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.auditing.probe_inputs import ProbeInputs, ProbeSample, read_probe_inputs
from ffdi.intake.auditing.shortcuts import WARN_ABOVE
from ffdi.intake.decoding.images import ImageSource, open_image, perceptual_hash, read_bytes, to_array
from ffdi.intake.ingest import ingest
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.near_duplicates.copies import find_copies, read_sketches
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.intake.near_duplicates.variants import sketch
from ffdi.intake.settings import AuditSettings, DataSettings, SplitSettings
from ffdi.intake.splitting.folds import assign_folds
from ffdi.intake.tables import join, sides

Picture = Image.Image
MAX_PIXELS = 10**8
LITE0: dict[str, Any] = {
    **{"name": "lite0", "network": "timm:tf_efficientnet_lite0", "weights": "package:efficientnet-lite0"},
    **{"cut": "blocks.5", "image_size": 224, "mean": (0.5,) * 3, "std": (0.5,) * 3},
    **{"dtype": "float16", "runtime": "auto", "precision": "float32"},
}


@dataclass(frozen=True)
class DataSet:
    """Audited rows (images.csv joined with folds.csv), what the audit reads of each image, and embeddings (N, D)."""

    root: Path
    rows: pd.DataFrame
    inputs: ProbeInputs
    embeddings: npt.NDArray[Any] | None = None

    @classmethod
    def read(cls, root: Path, layout: str, folder: Path) -> DataSet:
        """Ingested, split with all that finds copies, read for the probes, and embedded by the offline ImageNet weights."""
        from ffdi.features.compute import embed
        from ffdi.features.extractor import load_extractor
        from ffdi.features.weights import fetch_weights

        listed = read_layout(root, DataSettings(".", layout)).rows
        source = ImageSource(root, MAX_PIXELS)
        images = ingest(listed, source).images
        sketches = read_sketches(source, source.files_of(images))
        copies = find_copies(sketches, lambda one, other: one != other).pairs
        pairs = np.concatenate([perceptual_pairs(list(images["phash"]), 6), copies])
        folds = assign_folds(images, pairs, SplitSettings())
        rows = join(images, folds.assign(fold=folds["fold"].replace("", "-1").astype(int)))
        backbone = Backbone(**LITE0)
        weights = folder / "efficientnet_lite0.safetensors"
        fetch_weights(backbone.network, backbone.weights, weights, base=Path())
        embeddings = embed(rows, load_extractor(backbone, weights), source)
        return cls(root, rows, read_probe_inputs(rows, source), embeddings)

    def picture(self, row: int) -> Picture:
        return open_image(read_bytes(self.root, self.rows["path"][row]), max_pixels=MAX_PIXELS)

    def leaks(self) -> list[Finding]:
        return find_leaks(self.rows, AuditSettings(), sketches=self.inputs.sketches)

    def is_loud(self, family: str) -> bool:
        """Whether the probe of this family of file facts would warn."""
        label, group = self.rows["label"].to_numpy(), self.rows["group"].to_numpy(str)
        scores = cross_validated_scores(fact_features(self.rows, self.inputs.facts)[family], label, group)
        assert scores is not None
        return auc_interval(label, scores, group, bootstrap=Bootstrap(200))[0] > WARN_ABOVE

    def inverted(self) -> str:
        return inverted_labels(ProbeSample.take(self.rows, self.inputs, self.embeddings), Bootstrap(200))

    def with_images(self, added: list[Added]) -> DataSet:
        """A copy with more images."""
        rows, facts, thumbnails, sketches = [], [], [], []
        for one in added:
            image = open_image(one.data, max_pixels=MAX_PIXELS)
            identity = hashlib.sha256(one.data).hexdigest()
            made = {"image_id": identity, "cluster": identity, "group": identity, "intake_group": "", "given_split": ""}
            seen = {"width": image.width, "height": image.height, "format": "JPEG", "phash": perceptual_hash(image)}
            rows.append(made | seen | one.fields)
            facts.append(file_facts(one.data))
            thumbnails.append(to_array(image.resize((8, 8))).ravel())
            sketches.append(sketch(image))
        old = self.inputs
        inputs = ProbeInputs(
            pd.concat([old.facts, pd.DataFrame(facts)], ignore_index=True),
            np.concatenate([old.thumbnails, np.stack(thumbnails)]),
            np.concatenate([old.sketches, np.stack(sketches)]),
        )
        return replace(self, rows=pd.concat([self.rows, pd.DataFrame(rows)], ignore_index=True), inputs=inputs)


@dataclass(frozen=True)
class Added:
    """A file to be planted, with the fields of its row that the defaults do not give."""

    data: bytes
    fields: dict[str, Any]


def jpeg(picture: Picture, quality: int = 92) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def crop(picture: Picture, side: float, draw: Generator) -> Picture:
    """A square of this share of the side, anywhere, enlarged to the old size."""
    width, height = picture.size
    left, top = draw.uniform(0, width * (1 - side)), draw.uniform(0, height * (1 - side))
    box = (left, top, left + side * width, top + side * height)
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def _scaled(picture: Picture, share: float) -> Picture:
    return picture.resize((max(8, round(picture.width * share)), max(8, round(picture.height * share))))


def _video_frame(picture: Picture, strength: float, draw: Generator) -> Picture:
    """The next frames: the camera moves by up to `strength` of the side, the light and the grain change."""
    moved = crop(picture, 1 - strength * draw.uniform(0.2, 1), draw)
    lit = ImageEnhance.Brightness(moved).enhance(draw.uniform(0.92, 1.08))
    grain = np.asarray(lit, np.float64) + draw.normal(0, 4, (*lit.size[::-1], 3))
    return Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))


def _augmented(picture: Picture, strength: float, draw: Generator) -> Picture:
    """What augmentation leaves on disk: a rotation within +-strength degrees, then a flip or a stretch of contrast."""
    turned = picture.rotate(draw.uniform(-strength, strength), Image.Resampling.BILINEAR)
    after: list[Callable[[Picture], Picture]] = [lambda p: p, ImageOps.mirror, ImageOps.autocontrast]
    return after[int(draw.integers(len(after)))](turned)


def _bent(picture: Picture, strength: float, draw: Generator) -> Picture:
    gamma = strength if draw.random() < 0.5 else 1 / strength
    return picture.point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)


Change = Callable[[Picture, float, Generator], Picture]
# kind: (the picture's change, the strengths from mild to beyond detection, how strong a test may draw it)
COPIES: dict[str, tuple[Change, tuple[float, ...], tuple[float, float]]] = {
    "mirrored": (lambda p, s, d: ImageOps.mirror(p), (1.0,), (1.0, 1.0)),
    "upside down": (lambda p, s, d: ImageOps.flip(p), (1.0,), (1.0, 1.0)),
    "quarter turn": (
        lambda p, s, d: p.transpose(Image.Transpose.ROTATE_90 if d.random() < 0.5 else Image.Transpose.ROTATE_270),
        (1.0,),
        (1.0, 1.0),
    ),
    "crop, share of the side": (crop, (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6), (0.82, 0.97)),
    "crop and mirror": (lambda p, s, d: ImageOps.mirror(crop(p, s, d)), (0.95, 0.9, 0.85, 0.8, 0.75), (0.82, 0.97)),
    "resized, share of the side": (lambda p, s, d: _scaled(p, s), (0.75, 0.5, 0.25, 0.15, 0.1), (0.3, 0.9)),
    "recompressed, quality": (
        lambda p, s, d: Image.open(io.BytesIO(jpeg(p, int(s)))).convert("RGB"),
        (70, 50, 30, 10, 5, 2),
        (30, 80),
    ),
    "brightened, factor": (
        lambda p, s, d: ImageEnhance.Brightness(p).enhance(s),
        (1.1, 1.3, 1.6, 2.0, 3.0),
        (1.1, 1.5),
    ),
    "darkened, factor": (lambda p, s, d: ImageEnhance.Brightness(p).enhance(s), (0.8, 0.5, 0.25, 0.1), (0.5, 0.9)),
    "gamma": (_bent, (1.2, 1.5, 2.0, 3.0), (1.1, 1.6)),
    "grey": (lambda p, s, d: ImageOps.grayscale(p).convert("RGB"), (1.0,), (1.0, 1.0)),
    "blurred, radius in 256ths": (
        lambda p, s, d: p.filter(ImageFilter.GaussianBlur(s * p.width / 256)),
        (1, 2, 4, 8, 16),
        (1, 16),
    ),
    "equalised": (lambda p, s, d: ImageOps.equalize(p), (1.0,), (1.0, 1.0)),
    "rotated, degrees": (
        lambda p, s, d: p.rotate(s if d.random() < 0.5 else -s, Image.Resampling.BILINEAR),
        (2, 5, 10, 15, 20, 25, 35),
        (2, 20),
    ),
    "augmented on disk, degrees": (_augmented, (5, 10, 20, 30), (2, 18)),
    "video frame, movement": (_video_frame, (0.02, 0.05, 0.1, 0.2), (0.02, 0.12)),
}


def draw_strength(kind: str, draw: Generator) -> float:
    """Evenly within what a test may draw."""
    return float(draw.uniform(*COPIES[kind][2]))


def draw_victims(data: DataSet, draw: Generator, count: int) -> list[int]:
    """Rows of the test set and of the folds alike, no two of one group."""
    rows = data.rows.iloc[draw.permutation(len(data.rows))]
    return [int(row) for row in rows.drop_duplicates("group").index[:count]]


def elsewhere(data: DataSet, row: int, draw: Generator) -> dict[str, Any]:
    """Role and fold on another side than the row's."""
    own = sides(data.rows)[row]
    places = data.rows[sides(data.rows) != own].drop_duplicates(["role", "fold"])
    place = places.iloc[int(draw.integers(len(places)))]
    return {"role": place["role"], "fold": place["fold"]}


def plant_copy(data: DataSet, row: int, changed: bytes, name: str, draw: Generator, **fields: Any) -> Added:
    """A file made from the row's picture, with its label, on another side."""
    own = {"path": f"planted/{name}.jpg", "label": data.rows["label"][row]}
    return Added(changed, own | elsewhere(data, row, draw) | fields)


def found(findings: list[Finding], name: str, checks: tuple[str, ...] = CHECKS) -> bool:
    """Whether one of the checks names the planted file."""
    return any(
        not {f.check, *f.checks}.isdisjoint(checks) and f"planted/{name}.jpg" in (f.path_a, f.path_b) for f in findings
    )


def edited(picture: Picture, other: Picture, side: float, draw: Generator) -> Picture:
    """A forgery: a square of this share of the side, of another picture in this one's light, blended in."""
    width = round(picture.width * side)
    left, top = (int(draw.integers(picture.width // 5, picture.width * 4 // 5 - width)) for _ in range(2))
    box = (left, top, left + width, top + width)
    here, there = (np.asarray(p.resize(picture.size).crop(box), np.float64) for p in (picture, other))
    scale = here.std(axis=(0, 1)) / np.maximum(there.std(axis=(0, 1)), 1)
    lit = np.clip((there - there.mean(axis=(0, 1))) * scale + here.mean(axis=(0, 1)), 0, 255)
    mask = Image.new("L", (width, width), 0)
    mask.paste(255, (width // 8, width // 8, width * 7 // 8, width * 7 // 8))
    out = picture.copy()
    out.paste(Image.fromarray(lit.astype(np.uint8)), (left, top), mask.filter(ImageFilter.GaussianBlur(width / 16)))
    return out


def by_class(data: DataSet, draw: Generator, share: float) -> dict[str, DataSet]:
    """For each family of file facts, the data set with this share of its fakes given away by it and by nothing else."""
    fakes = np.flatnonzero(data.rows["label"] == 1)
    marked = sorted(draw.choice(fakes, max(1, round(share * len(fakes))), replace=False))
    own = set(data.inputs.facts["tables"])  # a quality that the data have already gives nothing away
    other = [q for q in range(50, 96) if file_facts(jpeg(Image.new("RGB", (8, 8)), q))["tables"] not in own]
    quality, tag = int(draw.choice(other)), f"tool {draw.integers(1000)}"
    grown, more = 1 + draw.uniform(0.2, 0.6), int(draw.integers(2, 12))
    start = int(draw.integers(10**5, 10**6))
    plain, facts = data.inputs.facts, {}
    for name in ("encoding", "metadata", "size"):
        rows = []
        for row in marked:
            data_bytes = read_bytes(data.root, data.rows["path"][row])
            if name == "size":
                changed = data_bytes + b"\0" * int(len(data_bytes) * (grown - 1))
            else:
                image = open_image(data_bytes, max_pixels=MAX_PIXELS)
                out = io.BytesIO()
                exif = Image.Exif()
                exif[305] = tag
                options = {"quality": quality} if name == "encoding" else {"quality": 92, "exif": exif}
                image.save(out, "JPEG", **options)
                changed = out.getvalue()
            rows.append(file_facts(changed))
        facts[name] = plain.copy()
        facts[name].loc[marked] = pd.DataFrame(rows, index=marked)
    wider = data.rows.copy()
    wider.loc[marked, ["width", "height"]] += more
    named = data.rows.assign(path=[f"img/{n:08d}.jpg" for n in draw.permutation(len(data.rows))])
    named.loc[marked, "path"] = [f"img/{start + n}_{tag[5:]}.jpg" for n in range(len(marked))]
    return {
        **{name: replace(data, inputs=replace(data.inputs, facts=table)) for name, table in facts.items()},
        "dimensions": replace(data, rows=wider),
        "name": replace(data, rows=named),
    }


def with_given_splits(data: DataSet, draw: Generator, *, turned: bool) -> DataSet:
    """Two given splits, by groups; in `turned` the test labels are the wrong way round."""
    groups = np.array(sorted(set(data.rows["group"])))
    test = data.rows["group"].isin(draw.choice(groups, len(groups) * 2 // 5, replace=False)).to_numpy()
    label = np.where(test & turned, 1 - data.rows["label"], data.rows["label"])
    path = [f"{n}.jpg" for n in draw.permutation(len(data.rows))]  # no name shall tell
    given = np.where(test, "test", "train")
    return replace(data, rows=data.rows.assign(label=label, given_split=given, path=path))
