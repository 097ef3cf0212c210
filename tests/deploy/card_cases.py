"""A model's folder and the figures of a pipeline as a card reads them: written by hand, so that each figure is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import tiny_backbone

from ffdi.files import write_json
from ffdi.tails.record import FORMAT_VERSION, record_hash


def write_model(folder: Path, **changes: Any) -> dict[str, Any]:
    """bundle.json of a recipe that was trained on 6 images, changed as asked, and seen.csv; returns the record."""
    record: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "recipe": {"name": "tiny"},
        "head": {"kind": "mlp"},
        "backbone": tiny_backbone(weights="package:efficientnet-lite0").to_dict(),
        "provenance": {
            **{"weights": "package:efficientnet-lite0", "pretrained": True, "weights_sha256": "ab" * 32},
            **{"data": "faces", "synthesised": 0},
        },
        "threshold": 0.4375,
        "temperature": 1.25,
        "prior": 0.5,
        "val_auc": {"0": 0.75, "1": 0.8},
        "sha256": {},
    }
    record |= changes
    record["facts_sha256"] = record_hash(record)
    write_json(folder / "bundle.json", record)
    (folder / "seen.csv").write_text("image_id,phash\n" + "a,b\n" * 6)
    return record


def write_metrics(metrics: Path, record: dict[str, Any], **changes: Any) -> None:
    """Figures of the test set, of another data set, and of the audit."""
    own = {key: record[key] for key in ("threshold", "temperature")}
    own |= {"weights_sha256": record["provenance"]["weights_sha256"]}
    figures: dict[str, Any] = {
        **{
            "auc": 0.87654,
            "auc_low": 0.8,
            "auc_high": 0.9,
            "accuracy": 0.75,
            "accuracy_low": 0.7,
            "accuracy_high": 0.8,
        },
        **{"ap": 0.85, "brier": 0.125, "fpr": 0.25, "recall": 0.75, "ece": 0.0625, "n_test": 40, "n_groups": 30},
        **{"tpr_at_fpr_1e_2": None, "tpr_at_fpr_1e_2_reason": "20 reals cannot resolve it"},
    }
    apart = {
        **{"robustness_jpeg_30_auc": 0.61, "robustness_jpeg_30_auc_low": 0.5, "robustness_jpeg_30_auc_high": 0.7},
        **{
            "robustness_jpeg_30_accuracy": 0.6,
            "robustness_resize_0_5_auc": 0.7,
            "robustness_resize_0_5_accuracy": 0.55,
        },
        **{"robust_auc": 0.66, "robust_levels": 2, "worst_auc": 0.61, "worst_level": "jpeg-30"},
        **{"attr_kind_swap_auc": 0.9, "attr_kind_whole_auc": 0.55, "attr_kind_whole_auc_low": 0.5},
        **{"attr_kind_whole_auc_high": 0.6, "attr_kind_whole_reals": 0, "attr_kind_whole_fakes": 7},
    }
    write_json(metrics / "details" / "tiny.json", own | figures | apart | changes)
    elsewhere = {"recipe": "tiny", "tested_on": "street", "model_sha256": record["facts_sha256"]}
    write_json(metrics / "cross" / "tiny-on-street.json", elsewhere | figures | {"auc": 0.65, "auc_low": 0.6})
    audit = {"leaks": 0, "images": 46, "fakes": 23, "groups": 36, "test_images": 40, "images_with_group": 46}
    probes = {"probe_name_auc": 0.7, "probe_name_auc_low": 0.6, "probe_name_auc_high": 0.8}
    write_json(metrics / "details" / "audit.json", audit | probes)
