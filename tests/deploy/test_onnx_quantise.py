"""A model in eight bits, and what that costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from conftest import Tiny, Trained, picture
from made_bundles import POLICY, vit_bundle
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ffdi.deploy.onnx import quantise, training_images
from ffdi.deploy.onnx.quantise import cost_of, drawn_parts, export_int8, int8_graph, kept_in_float, with_fold_tails
from ffdi.deploy.onnx.squares import drawn_pictures
from ffdi.deploy.onnx.training_images import TrainingImages, find_training_images
from ffdi.deploy.pictures import Picture
from ffdi.errors import ExportError, InputError
from ffdi.files import sha256_file
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.ensemble import Ensemble


def small_graph() -> Any:
    """images -> normalisation -> two convolutions -> a layer for each logit -> the mean of their sigmoids."""
    rng = np.random.default_rng(0)
    nodes = [
        ("Cast", ["images"], ["float"], {"to": TensorProto.FLOAT}),
        ("Transpose", ["float"], ["planes"], {"perm": [0, 3, 1, 2]}),
        ("Mul", ["planes", "scale"], ["scaled"], {}),
        ("Conv", ["scaled", "first"], ["a"], {}),
        ("Relu", ["a"], ["b"], {}),
        ("Conv", ["b", "second"], ["c"], {}),
        ("GlobalAveragePool", ["c"], ["d"], {}),
        ("Flatten", ["d"], ["e"], {}),
        ("Gemm", ["e", "last"], ["logits"], {}),
        ("Sigmoid", ["logits"], ["by_fold"], {}),
        ("ReduceMean", ["by_fold"], ["score"], {"axes": [1], "keepdims": 0}),
    ]
    weights = {
        "scale": np.array(1 / 255),
        "first": rng.normal(size=(4, 3, 3, 3)),
        "second": rng.normal(size=(4, 4, 3, 3)),
    }
    weights["last"] = rng.normal(size=(4, 2))
    made = [helper.make_node(kind, reads, gives, name=gives[0], **more) for kind, reads, gives, more in nodes]  # type: ignore[arg-type]
    ends = [("images", TensorProto.UINT8, ["N", 12, 12, 3]), ("score", TensorProto.FLOAT, ["N"])]
    values = [helper.make_tensor_value_info(*end) for end in (*ends, ("by_fold", TensorProto.FLOAT, ["N", 2]))]
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(made, "small", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_normalisation_and_score_stay_in_float_and_the_ends_on_demand() -> None:
    outside = ["float", "planes", "scaled", "by_fold", "score"]
    assert kept_in_float(small_graph(), ends=False) == outside
    assert kept_in_float(small_graph(), ends=True) == ["float", "planes", "scaled", "a", "logits", "by_fold", "score"]


def test_an_int8_graph_gives_nearly_the_same_scores() -> None:
    import onnxruntime

    made, pixels = small_graph(), np.random.default_rng(1).integers(0, 256, (24, 12, 12, 3), dtype=np.uint8)
    before = made.SerializeToString()
    small = int8_graph(made, pixels, float_ends=False)
    assert made.SerializeToString() == before
    weights = {tensor.name: tensor.data_type for tensor in small.graph.initializer}
    assert weights["second_quantized"] == weights["last_quantized"] == TensorProto.INT8
    due, given = (
        onnxruntime.InferenceSession(each.SerializeToString()).run(["score"], {"images": pixels})[0]
        for each in (made, small)
    )
    assert 0 < np.abs(given - due).max() < 0.05


def parts(count: int) -> TrainingImages:
    labels = np.arange(count) % 2
    return TrainingImages((None,) * count, labels, labels, labels.astype(str), True)  # type: ignore[arg-type]


def test_no_image_that_calibrates_is_measured() -> None:
    for count, due in ((60, (20, 40)), (300, (96, 204)), (900, (96, 500))):
        images = parts(count)
        numbered = TrainingImages(tuple(range(count)), *(images.labels,) * 3, True)  # type: ignore[arg-type]
        calibrating, measured = drawn_parts(numbered)
        assert (len(calibrating.pictures), len(measured.pictures)) == due
        assert not set(calibrating.pictures) & set(measured.pictures)


def test_the_cost_by_hand() -> None:
    """Of 4 pairs of a fake and a real, int8 loses one. One score crosses from below .25 into the band up to .75."""
    images = TrainingImages((None,) * 4, np.array([0, 0, 1, 1]), np.zeros(4), np.array(list("abcd")), True)  # type: ignore[arg-type]
    cost = cost_of(POLICY, np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.1, 0.74, 0.7, 0.9]), images)
    assert (cost.auc, cost.auc_int8, cost.difference, cost.images) == (1.0, 0.75, -0.25, 4)
    assert cost.score_difference == pytest.approx((0.54 + 0.1) / 4)
    assert cost.verdicts_changed == 0.5  # real to undecided, fake to undecided
    assert cost.low <= cost.difference <= cost.high <= 1
    with pytest.raises(ExportError, match="not finite"):
        cost_of(POLICY, np.zeros(4), np.full(4, np.nan), images)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """50 pictures and labels.csv with their groups."""
    rows = []
    for seed in range(50):
        picture(seed, 8).save(tmp_path / f"{seed}.png")
        rows.append(f"{seed}.png,g{seed // 2}\n")
    (tmp_path / "labels.csv").write_text("path,group\n" + "".join(rows))
    return tmp_path


def oof_of(folder: Path, count: int) -> pd.DataFrame:
    ids = [sha256_file(folder / f"{seed}.png") for seed in range(count)]
    return pd.DataFrame(
        {"image_id": ids, "fold": [seed % 3 for seed in range(count)], "label": [seed % 2 for seed in range(count)]}
    )


def test_training_images_are_found_by_their_bytes(folder: Path) -> None:
    for place, grouped in ((folder, False), (folder / "labels.csv", True)):
        found = find_training_images(place, oof_of(folder, 44))
        assert len(found.pictures) == 44 and found.grouped == grouped
        for shown, label, fold, group in zip(found.pictures, found.labels, found.folds, found.groups, strict=True):
            seed = int(Path(shown.name).stem)
            assert (label, fold) == (seed % 2, seed % 3) and Path(shown.name).parent == folder
            assert group == (f"g{seed // 2}" if grouped else sha256_file(folder / f"{seed}.png"))


def test_another_data_set_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="30 of its 50 images are of the model's training"):
        find_training_images(folder, oof_of(folder, 30))
    (folder / "49.png").unlink()
    with pytest.raises(InputError, match=r"49.png: labels.csv names it"):
        find_training_images(folder / "labels.csv", oof_of(folder, 44))


def test_a_refit_model_is_measured_with_the_tails_of_its_folds() -> None:
    folds = {0: nn.Identity(), 1: nn.Identity()}
    plain = Bundle(None, None, {}, *(None,) * 4, {})  # type: ignore[arg-type]
    refit = replace(plain, record={"refit": {}}, read_fold_tails=lambda: folds)  # type: ignore[arg-type,return-value]
    assert with_fold_tails(plain) is plain
    assert with_fold_tails(refit).parts[0].tails == folds
    joined = Ensemble({"a": plain, "b": refit}, *(None,) * 6)  # type: ignore[arg-type]
    assert [part.tails for part in with_fold_tails(joined).parts] == [{}, folds]


def test_a_steep_model_of_stored_features_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scores depend on the rounding of stored features by more than an export may differ: the check rounds, too."""
    monkeypatch.setattr(quantise, "int8_graph", lambda made, *_, **__: made)
    monkeypatch.setattr(quantise, "images_per_second", lambda *_: 1.0)
    monkeypatch.setattr(quantise, "drawn_pictures", lambda: drawn_pictures(20))
    labels = np.arange(12) % 2
    pictures = tuple(Picture(name, read) for name, read in drawn_pictures(12))
    images = TrainingImages(pictures, labels, labels // 2, np.arange(12).astype(str), True)
    steep = replace(vit_bundle(), temperature=0.01)
    made = export_int8(steep, tmp_path / "steep.onnx", name="steep", images=images)
    assert made.cost.images == 8 and made.size == (tmp_path / "steep.onnx").stat().st_size


@pytest.mark.long
def test_a_model_in_eight_bits(trained: Trained, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_images, "FEWEST", 10)
    images = find_training_images(tiny.root / "labels.csv", read_oof(trained.model))
    made = export_int8(load_bundle(trained.model), tmp_path / "m.onnx", name="m", images=images)
    assert made.size == (tmp_path / "m.onnx").stat().st_size < 0.4 * made.float_size
    assert made.cost.images + made.calibrated_on == len(images.pictures) == 36
    assert made.cost.score_difference < 0.2
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(facts["quantisation"])["images"] == made.cost.images
