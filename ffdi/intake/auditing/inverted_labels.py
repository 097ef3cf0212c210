"""Labels that look inverted: what tells fake from real on one side tells the opposite on another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ffdi.bootstrap import Bootstrap, auc_interval
from ffdi.intake.auditing.classifier import cross_validated_scores, linear_classifier
from ffdi.intake.auditing.probe_inputs import Matrix, ProbeSample
from ffdi.intake.tables import sides
from ffdi.metrics import auc

Mask = npt.NDArray[np.bool_]  # (N,) which images


def inverted_labels(sample: ProbeSample, bootstrap: Bootstrap) -> str:
    """Why the labels of the two given splits look inverted against each other, or "".

    The evidence that tells fake from real best within the given training set, by cross-validation, must not tell the
    opposite in the given test set: its AUC's 95 % interval there would lie below .5.
    """
    train, test = ((sample.rows["given_split"] == side).to_numpy() for side in ("train", "test"))
    opposite = _Comparison(sample, bootstrap).opposite(train, test)
    if opposite is None:
        return ""
    within, across = f"{opposite.within:.3f} within train", f"{opposite.across:.3f} from train to test"
    return f"{opposite.kind} tells fake at AUC {within}, at {across}"


def inverted_sides(sample: ProbeSample, bootstrap: Bootstrap) -> list[str]:
    """Why the labels of the test set or of a fold look inverted, a line for each such side.

    Compares each side with all others, as inverted_labels compares the given splits. A side is examined closely only
    where one fit on the others tells the opposite there. So where labels are right, each side costs one fit for each
    kind of evidence.
    """
    comparison, side = _Comparison(sample, bootstrap), sides(sample.rows)
    out = []
    for name in np.unique(side):
        test = side == name
        if comparison.looks_opposite(~test, test) and (opposite := comparison.opposite(~test, test)):
            within, across = f"{opposite.within:.3f} within the rest", f"{opposite.across:.3f} from there to {name}"
            out.append(f"{opposite.kind} tells fake at AUC {within}, at {across}")
    return out


@dataclass(frozen=True)
class _Opposite:
    """A kind of evidence with its AUC within the training images, and from those to the test images."""

    kind: str
    within: float
    across: float


@dataclass(frozen=True)
class _Comparison:
    """Fits on some images of the sample that are tested on others."""

    sample: ProbeSample
    bootstrap: Bootstrap

    @cached_property
    def evidence(self) -> dict[str, Matrix]:
        """A matrix for each kind: file facts, thumbnails, embeddings where there are some."""
        kinds = {name: self.sample.features[name] for name in ("file_facts", "thumbnail")}
        return kinds if self.sample.embeddings is None else kinds | {"embedding": self.sample.embeddings}

    def has_classes(self, *parts: Mask) -> bool:
        return min(len(np.unique(self.sample.label[part])) for part in parts) == 2

    def across(self, kind: str, train: Mask, test: Mask) -> tuple[float, float]:
        """(AUC, high end of its interval) on `test` of a fit on `train`; the end is 1 where the AUC is .5 or more."""
        matrix, label = self.evidence[kind], self.sample.label
        scores = linear_classifier().fit(matrix[train], label[train]).decision_function(matrix[test])
        value = auc(label[test], scores)
        if not value < 0.5:
            return value, 1.0
        return value, auc_interval(label[test], scores, self.sample.group[test], bootstrap=self.bootstrap)[1]

    def looks_opposite(self, train: Mask, test: Mask) -> bool:
        return self.has_classes(train, test) and any(self.across(kind, train, test)[1] < 0.5 for kind in self.evidence)

    def opposite(self, train: Mask, test: Mask) -> _Opposite | None:
        """The kind of evidence that is best within `train`, if it tells the opposite in `test`."""
        if not self.has_classes(train, test):
            return None
        label, group = self.sample.label[train], self.sample.group[train]
        figures = []
        for kind, matrix in self.evidence.items():
            scores = cross_validated_scores(matrix[train], label, group)
            if scores is not None:
                low, _ = auc_interval(label, scores, group, bootstrap=self.bootstrap)
                figures.append((low, auc(label, scores), kind))
        if not figures or max(figures)[0] <= 0.5:
            return None
        _, within, kind = max(figures)
        across, high = self.across(kind, train, test)
        return _Opposite(kind.replace("_", " "), within, across) if high < 0.5 else None  # nor where `high` is NaN
