"""The head of a model card that hubs read: licence, data sets, pipeline tag, and the figures as a model-index."""

from __future__ import annotations

from typing import Any

from ffdi.deploy.card.facts import CardFacts
from ffdi.deploy.card.text import interval, yaml
from ffdi.metrics import Metrics

TASK = "image-classification"
# of metrics/details, as hubs name them and as people do
_INDEXED = {
    "auc": ("roc_auc", "AUC"),
    "accuracy": ("accuracy", "Accuracy"),
    "ap": ("average_precision", "Average precision"),
}


def head(facts: CardFacts) -> str:
    """The YAML between the two lines of dashes, those included."""
    networks = [str(part["backbone"]["network"]).partition(":")[2] for part in facts.parts.values()]
    entries: dict[str, Any] = {"license": facts.licence} if facts.licence else {}
    entries |= {
        "library_name": "ffdi",
        "pipeline_tag": TASK,
        "tags": list(dict.fromkeys(["deepfake-detection", "ffdi", *networks])),
        **({"datasets": [facts.dataset]} if facts.dataset else {}),
    }
    results = [
        *([_result(facts.metrics, facts.data, "test", facts.dataset)] if facts.metrics else []),
        *(_result(metrics, str(metrics["tested_on"]), "all") for metrics in facts.other_data()),
    ]
    results = [result for result in results if result["metrics"]]
    if results:
        named = {metric["type"]: None for result in results for metric in result["metrics"]}
        entries |= {"metrics": list(named), "model-index": [{"name": facts.name, "results": results}]}
    return f"---\n{yaml(entries)}---\n"


def _result(metrics: Metrics, data: str, split: str, dataset: str | None = None) -> dict[str, Any]:
    """An entry of the model-index; figures that are undefined are left out.

    `data` is what this project calls the data set: on a hub it may be the name of someone else's.
    """
    return {
        "task": {"type": TASK, "name": "Real or fake"},
        "dataset": {"type": dataset or "custom", "name": data, "split": split},
        "metrics": [
            {"type": kind, "name": name + _interval(metrics, key), "value": round(value, 4)}
            for key, (kind, name) in _INDEXED.items()
            if isinstance(value := metrics.get(key), float)
        ],
    }


def _interval(metrics: Metrics, key: str) -> str:
    ends = interval(metrics, key)
    return f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
