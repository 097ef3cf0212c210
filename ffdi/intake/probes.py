"""What the data gives away without a face: AUCs of file facts, thumbnails and neighbours, and labels turned round.

A probe warns and never fails. Its AUC is cross-validated by group, so that it tells what a detector could learn from
the shortcut about people that it has not seen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.bootstrap import Bootstrap, auc_interval
from ffdi.console import Console
from ffdi.intake.decoding.images import ImageSource, open_header, read_image, to_array
from ffdi.intake.groups import drawn_order
from ffdi.intake.near_duplicates.variants import sketch
from ffdi.intake.tables import sides
from ffdi.metrics import Metrics, auc, explain_nulls
from ffdi.parallel import cpu_count, ordered_map

Array = npt.NDArray[Any]
FACTS = ("size", "dimensions", "encoding", "metadata", "name")
PROBES = ("file_facts", *FACTS, "thumbnail", "nearest_neighbour")
WARN_ABOVE = 0.55  # the low end of the interval
MOST_PROBED = 20_000  # images: more make no figure here better
_COMMONEST = 20  # values of a fact that get an indicator of their own


@dataclass(frozen=True)
class ProbeInputs:
    """What the audit keeps of N decoded images.

    `facts` has a row an image; `thumbnails` is (N, 192) uint8, 8x8 RGB; `sketches` (N, 64, 64) uint8.
    """

    facts: pd.DataFrame
    thumbnails: Array
    sketches: Array


def read_probe_inputs(rows: pd.DataFrame, source: ImageSource, console: Console = Console()) -> ProbeInputs:
    """Read and decode each image of `rows` (images.csv) once; InputError names a file that cannot be read."""

    def one(path: str) -> tuple[dict[str, Any], Array, Array]:
        data, image = read_image(source, path)
        return file_facts(data), to_array(image.resize((8, 8))).ravel(), sketch(image)

    results = ordered_map(one, rows["path"], cpu_count())
    facts, thumbnails, sketches = zip(*console.progress(results, len(rows)), strict=True)
    return ProbeInputs(pd.DataFrame(list(facts)), np.stack(thumbnails), np.stack(sketches))


def file_facts(data: bytes) -> dict[str, Any]:
    """What a file tells without its pixels: bytes, quantisation tables, sampling, EXIF and other marks."""
    with open_header(data) as image:
        tables = getattr(image, "quantization", {})
        layers = getattr(image, "layer", [])
        exif = image.getexif()
        return {
            "bytes": len(data),
            "tables": hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:12] if tables else "",
            "coarseness": float(np.mean(tables[min(tables)])) if tables else 0.0,
            "sampling": " ".join(f"{layer[1]}x{layer[2]}" for layer in layers),
            "mode": image.mode,
            "progressive": int(bool(image.info.get("progressive", image.info.get("interlace")))),
            "exif_tags": len(exif),
            "software": f"{exif.get(271, '')}|{exif.get(272, '')}|{exif.get(305, '')}",  # make, model, software
            "marks": " ".join(sorted(str(key) for key in image.info)),
        }


def fact_features(rows: pd.DataFrame, facts: pd.DataFrame) -> dict[str, Array]:
    """A matrix (N, D) for each of FACTS."""
    width, height, size = rows["width"].to_numpy(float), rows["height"].to_numpy(float), facts["bytes"].to_numpy(float)
    shape = rows["width"].astype(str) + "x" + rows["height"].astype(str)
    stem = [re.sub(r"^.*/|\.[^.]*$", "", path) for path in rows["path"]]
    pattern = [re.sub(r"\d+", "0", name).lower() for name in stem]
    digits = ["".join(re.findall(r"\d+", name))[-9:] for name in stem]
    numbers = [(len(name), len(d), float(d or 0)) for name, d in zip(stem, digits, strict=True)]
    return {
        "size": np.column_stack([np.log(size), size / (width * height)]),
        "dimensions": np.column_stack([width, height, width / height, *_indicators(shape)]),
        "encoding": np.column_stack(
            [facts["coarseness"], facts["progressive"]]
            + [
                i
                for column in (rows["format"], facts["tables"], facts["sampling"], facts["mode"])
                for i in _indicators(column)
            ]
        ),
        "metadata": np.column_stack(
            [facts["exif_tags"], *_indicators(facts["software"]), *_indicators(facts["marks"])]
        ),
        "name": np.column_stack([*map(np.array, zip(*numbers, strict=True)), *_indicators(pd.Series(pattern))]),
    }


def _indicators(values: pd.Series) -> list[Array]:
    """A 0/1 column for each of the commonest values."""
    return [(values == value).to_numpy(float) for value in sorted(values.value_counts().head(_COMMONEST).index)]


def probe_shortcuts(
    rows: pd.DataFrame, inputs: ProbeInputs, *, bootstrap: Bootstrap, embeddings: Array | None = None
) -> Metrics:
    """AUC, cross-validated by group, of what needs no face; `rows` has label and group, `embeddings` is (N, D).

    Keys `probe_<name>_auc`, `_low`, `_high` for each of PROBES: `file_facts` is all FACTS together, from size in bytes
    to the pattern of the name; `thumbnail` 8x8 pixels; `nearest_neighbour` the share of fakes among the five images of
    other groups that are nearest by cosine. Of more than 20,000 images the first by image_id, a random order, are
    taken.
    """
    rows, embeddings = rows.iloc[:MOST_PROBED], None if embeddings is None else embeddings[:MOST_PROBED]
    label, group = rows["label"].to_numpy(), rows["group"].to_numpy(str)
    features = _features(rows, inputs)
    out: Metrics = {}
    for name in PROBES:
        if name != "nearest_neighbour":
            scores = cross_validated_scores(features[name], label, group)
        else:
            scores = None if embeddings is None else _neighbour_scores(embeddings, label, group)
        key = f"probe_{name}_auc"
        found: Metrics = {key: None, f"{key}_low": None, f"{key}_high": None}
        if scores is not None:
            low, high = auc_interval(label, scores, group, bootstrap=bootstrap)
            found = {key: auc(label, scores), f"{key}_low": low, f"{key}_high": high}
        off = name == "nearest_neighbour" and embeddings is None
        out |= explain_nulls(found, "audit.use_embedding is off" if off else "too few groups or one class")
    return out


def _features(rows: pd.DataFrame, inputs: ProbeInputs) -> dict[str, Array]:
    """A matrix for each of PROBES but the neighbours."""
    facts = fact_features(rows, inputs.facts.iloc[: len(rows)])
    thumbnails = inputs.thumbnails[: len(rows)] / 255.0
    return {"file_facts": np.column_stack([facts[name] for name in FACTS]), **facts, "thumbnail": thumbnails}


def inverted_labels(
    rows: pd.DataFrame, inputs: ProbeInputs, *, bootstrap: Bootstrap, embeddings: Array | None = None
) -> str:
    """Why the labels of the two given splits look turned round, or "".

    Whatever tells fake from real best within the given training set, by cross-validation, must not tell the opposite
    in the given test set: there its AUC's 95 % interval would lie below .5.
    """
    train, test = ((rows["given_split"] == side).to_numpy()[:MOST_PROBED] for side in ("train", "test"))
    told = _Told(rows, inputs, embeddings, bootstrap)
    found = told.opposite(train, test)
    return (
        f"{found[0]} tells fake at AUC {found[1]:.3f} within train, at {found[2]:.3f} from train to test"
        if found
        else ""
    )


def inverted_sides(
    rows: pd.DataFrame, inputs: ProbeInputs, *, bootstrap: Bootstrap, embeddings: Array | None = None
) -> list[str]:
    """Why the labels of the test set or of a fold look turned round, a line for each such side.

    As inverted_labels, of each side against all others. A side is looked at closely only where one fit on the others
    tells the opposite there, which keeps this at one fit for each side and kind of evidence where labels are right.
    """
    told, side = _Told(rows, inputs, embeddings, bootstrap), sides(rows)[:MOST_PROBED]
    out = []
    for name in np.unique(side):
        test = side == name
        if told.looks_opposite(~test, test) and (found := told.opposite(~test, test)):
            kind, within, across = found
            out.append(f"{kind} tells fake at AUC {within:.3f} within the rest, at {across:.3f} from there to {name}")
    return out


class _Told:
    """What tells fake from real in the first images: file facts, thumbnails, embeddings where there are some."""

    def __init__(self, rows: pd.DataFrame, inputs: ProbeInputs, embeddings: Array | None, bootstrap: Bootstrap) -> None:
        self.rows, self.inputs, self.embeddings = rows.iloc[:MOST_PROBED], inputs, embeddings
        self.label, self.group = self.rows["label"].to_numpy(), self.rows["group"].to_numpy(str)
        self.bootstrap = bootstrap

    @cached_property
    def kinds(self) -> dict[str, Array]:
        """A matrix for each kind; made where there are two sides to compare."""
        features = _features(self.rows, self.inputs)
        kinds = {name: features[name] for name in ("file_facts", "thumbnail")}
        return kinds if self.embeddings is None else kinds | {"embedding": self.embeddings[:MOST_PROBED]}

    def has_classes(self, *parts: Array) -> bool:
        return min(len(np.unique(self.label[part])) for part in parts) == 2

    def across(self, kind: str, train: Array, test: Array) -> tuple[float, float]:
        """(AUC, high end of its interval) on `test` (N,) bool, of a fit on `train`; no interval where it is .5 or more."""
        matrix, label = self.kinds[kind], self.label
        scores = _model().fit(matrix[train], label[train]).decision_function(matrix[test])
        value = auc(label[test], scores)
        high = auc_interval(label[test], scores, self.group[test], bootstrap=self.bootstrap)[1] if value < 0.5 else 1.0
        return value, high

    def looks_opposite(self, train: Array, test: Array) -> bool:
        return self.has_classes(train, test) and any(self.across(kind, train, test)[1] < 0.5 for kind in self.kinds)

    def opposite(self, train: Array, test: Array) -> tuple[str, float, float] | None:
        """(evidence, AUC within train, AUC from train to test) where the best evidence tells the opposite in `test`."""
        if not self.has_classes(train, test):
            return None
        evidence = []
        for kind, matrix in self.kinds.items():
            scores = cross_validated_scores(matrix[train], self.label[train], self.group[train])
            if scores is not None:
                low, _ = auc_interval(self.label[train], scores, self.group[train], bootstrap=self.bootstrap)
                evidence.append((low, auc(self.label[train], scores), kind))
        if not evidence or max(evidence)[0] <= 0.5:
            return None
        _, within, kind = max(evidence)
        value, high = self.across(kind, train, test)
        return (kind.replace("_", " "), within, value) if high < 0.5 else None  # nor when it is undefined


def _model() -> Any:
    """Balanced, for else a fold's share of fakes would shift its scores and with them the pooled AUC."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"))


def cross_validated_scores(features: Array, label: Array, group: Array) -> Array | None:
    """Out-of-fold scores of a logistic regression, by group; None when there are too few groups or one class."""
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    folds = min(5, *(len(np.unique(group[label == c])) for c in (0, 1)))
    if folds < 2:
        return None
    cv, groups = StratifiedGroupKFold(folds), drawn_order(group, 0)
    return np.asarray(cross_val_predict(_model(), features, label, groups=groups, cv=cv, method="decision_function"))


def _neighbour_scores(embeddings: Array, label: Array, group: Array, neighbours: int = 5) -> Array:
    """Share of fakes among the nearest images (cosine) of other groups."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    place = np.unique(group, return_inverse=True)[1]
    scores = np.empty(len(unit))
    for start in range(0, len(unit), 512):
        block = slice(start, start + 512)
        similarity = unit[block] @ unit.T
        similarity[place[block, None] == place[None]] = -np.inf
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
        others = np.isfinite(np.take_along_axis(similarity, nearest, axis=1))
        scores[block] = (label[nearest] * others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    return scores


def shortcuts(probes: Mapping[str, Any]) -> list[str]:
    """The probes that tell fake from real: even the low end of their interval is above .55."""
    return [name for name in PROBES if (probes.get(f"probe_{name}_auc_low") or 0.0) > WARN_ABOVE]


def warnings(probes: Mapping[str, Any]) -> list[str]:
    """A line for each probe with a figure; WARNING where it is one of `shortcuts`."""
    lines, loud = [], shortcuts(probes)
    for name in PROBES:
        value, low, high = (probes.get(f"probe_{name}_auc{end}") for end in ("", "_low", "_high"))
        if value is not None and low is not None:
            warning = "WARNING: " if name in loud else ""
            told = f"{name.replace('_', ' ')} alone tells fake from real"
            lines.append(f"{warning}{told} at AUC {value:.3f} [{low:.3f}, {high:.3f}]")
    return lines
