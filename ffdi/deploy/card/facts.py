"""What a model card may say: the bundle, and the figures that were measured of this very bundle and of no other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffdi.console import Console
from ffdi.deploy.licences import binding, source_name, weights_licences
from ffdi.errors import InputError
from ffdi.evaluation.results import read_metrics
from ffdi.faces.recorded import RecordedCrops
from ffdi.intake.tables import count_rows
from ffdi.metrics import Metrics
from ffdi.tails.record import is_ensemble, read_record, refuse_changed, seen_file

_IDENTITY = ("weights_sha256", "threshold", "temperature")  # of a bundle, among its metrics


@dataclass(frozen=True)
class CardFacts:
    """`record` is bundle.json, `parts` that of each recipe by its name. `metrics` is metrics/details/NAME.json, `audit` that
    of the audit, both empty where there are none; `elsewhere` has the metrics on each other data set. `licence` is what the
    user publishes the model under, `dataset` how a hub calls the data set of the training, `licences` that of each source of
    weights. `images` counts those of the training."""

    record: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]
    images: int
    metrics: Metrics = field(default_factory=dict)
    audit: Metrics = field(default_factory=dict)
    elsewhere: Sequence[Metrics] = ()
    licence: str | None = None
    dataset: str | None = None
    licences: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the recipe or the ensemble, as metrics have it."""
        return _name(self.record)

    @property
    def data(self) -> str:
        """The name of the data set of the training."""
        return str(self.record["provenance"]["data"])

    @property
    def pretrained(self) -> bool:
        """Whether every prefix is."""
        return bool(self.record["provenance"]["pretrained"])

    @property
    def crops(self) -> RecordedCrops | None:
        """How the images of the training were cropped; None of whole images."""
        record = next(iter(self.parts.values()))["provenance"].get("crops")
        return RecordedCrops.of(record) if record else None

    @property
    def weights(self) -> list[str]:
        """The sources of the weights, each once."""
        return list(dict.fromkeys(source_name(str(part["provenance"]["weights"])) for part in self.parts.values()))

    def other_data(self) -> list[Metrics]:
        """The metrics on each data set that is not the training's own."""
        return [metrics for metrics in self.elsewhere if metrics["tested_on"] != self.data]


@dataclass(frozen=True)
class Publication:
    """What the user says of a model that is published: its licence, and how a hub calls the data set of its training."""

    licence: str | None = None
    dataset: str | None = None

    def refuse_unfit(self) -> None:
        """InputError when one is no identifier."""
        if self.licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.licence):
            what = "is no identifier of a licence such as mit, apache-2.0 or cc-by-nc-4.0"
            raise InputError(f"--licence {self.licence!r}: {what}")
        if self.dataset is not None and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", self.dataset, re.ASCII):
            raise InputError(f"--dataset {self.dataset!r}: is no name of a data set on a hub such as USER/NAME")


UNSAID = Publication()


def read_facts(model: Path, metrics: Path, published: Publication = UNSAID, console: Console = Console()) -> CardFacts:
    """Read what there is to say of the model in the folder `model`.

    `metrics` is the folder of the pipeline, or one that is missing; evaluations on other data are looked for in its cross/
    and in data/cross beside it. Raises BundleError when bundle.json is missing or changed, InputError when the figures are of
    another bundle, or when what is `published` is no identifier. The console hears which evaluations are of another bundle, and left
    out, and which licences bind.
    """
    published.refuse_unfit()
    record = read_record(model)
    refuse_changed(model, record)
    parts = _parts(model, record)
    licences = weights_licences(parts.values())
    for line in binding(licences):
        console.warn(line)
    images = count_rows(model / seen_file(record))
    own, audit = _own_metrics(metrics, record), _audit(metrics, record, images)
    elsewhere = _elsewhere(metrics, record, console)
    return CardFacts(record, parts, images, own, audit, elsewhere, published.licence, published.dataset, licences)


def _name(record: Mapping[str, Any]) -> str:
    parent = record.get("parent")
    return f"{parent['name']}, recalibrated" if parent else str(record["recipe"]["name"])


def _parts(model: Path, record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    if not is_ensemble(record):
        return {str(record["recipe"]["name"]): record}
    return {name: read_record(model / entry["path"]) for name, entry in record["members"].items()}


def _own_metrics(folder: Path, record: Mapping[str, Any]) -> Metrics:
    """metrics/details/NAME.json; empty where there is none, and for a recalibrated model: they are its parent's."""
    name = str(record["recipe"]["name"])
    file = folder / "details" / f"{name}.json"
    if "recalibrated" in record or not file.exists():
        return {}
    metrics, stage = read_metrics(file), "fuse" if is_ensemble(record) else "evaluate"
    own = {"weights_sha256": record["provenance"]["weights_sha256"], "threshold": record["threshold"]}
    own["temperature"] = record["temperature"]
    for key in _IDENTITY:
        if metrics.get(key) != own[key]:
            raise InputError(
                f"{file}: is of another model: its {key} is {metrics.get(key)}, here it is {own[key]}: run "
                f"`dvc repro {stage}@{name}`, or name the metrics of this model with --metrics"
            )
    return metrics


def _audit(folder: Path, record: Mapping[str, Any], images: int) -> Metrics:
    """metrics/details/audit.json; empty where there is none. InputError when it has another number of training images."""
    file = folder / "details" / "audit.json"
    if not file.exists():
        return {}
    audit = read_metrics(file)
    trained_on = audit["images"] - audit.get("test_images", 0)  # type: ignore[operator]
    if "recalibrated" not in record and "test_images" in audit and trained_on != images:
        raise InputError(
            f"{file}: is of other data: it has {trained_on} training images, the model was trained on {images}: run "
            "`dvc repro`, or name the metrics of this model with --metrics"
        )
    return audit


def _elsewhere(folder: Path, record: Mapping[str, Any], console: Console) -> list[Metrics]:
    """The evaluations of this bundle on other data, each data set once; those of another bundle of its name are left out."""
    found, own = {}, (record["facts_sha256"], record.get("exported_from"))
    places = (folder / "cross", folder.resolve().parent / "data" / "cross")
    for file in (file for place in places for file in sorted(place.glob("*.json"))):
        metrics = read_metrics(file)
        if "tested_on" in metrics and metrics.get("model_sha256") in own:
            found[str(metrics["tested_on"])] = metrics
        elif metrics.get("recipe") == _name(record):
            console.warn(f"{file}: is of another model of this name, and is left out: run the evaluation again")
    return list(found.values())
