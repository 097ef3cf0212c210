"""Threads score files ahead of the caller, with the same scores as one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, picture
from odd_bytes import encoded

from ffdi.console import Console
from ffdi.errors import FfdiError, ParamsError
from ffdi.features.backbone import Backbone
from ffdi.features.decoders import Decoder
from ffdi.features.extractor import load_extractor
from ffdi.features.weights import load_network
from ffdi.tails import predict as predict_module
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import Bundle
from ffdi.tails.feature_source import one_thread
from ffdi.tails.heads import TailFactory
from ffdi.tails.policy import Policy
from ffdi.tails.predict import predict_files
from ffdi.tails.recipe import Head

CPU = torch.device("cpu")


def untrained(backbone: Backbone, weights: Path) -> Bundle:
    """Two fresh tails behind a backbone's prefix."""
    prefix = load_extractor(backbone, weights)
    head = Head("mlp", (16,), 0.2, 1, 1, 1)
    network = load_network(backbone.network, weights)[0]
    factory = TailFactory(network, backbone, head, prefix.spec.shape)
    source = {"weights_sha256": prefix.spec.weights_sha256, "weights": "random", "pretrained": False}
    facts = {"provenance": source, "shape": list(prefix.spec.shape)}
    tails, seen = {fold: factory.fresh(fold) for fold in (0, 1)}, pd.DataFrame({"image_id": [], "phash": []})
    return Bundle(backbone, prefix.load if backbone.has_prefix else None, tails, Policy(0.5), 1.0, 0.5, seen, facts)


def scored(bundle: Bundle, files: list[Path]) -> list[tuple[Path, float | str]]:
    return list(predict_files(bundle, files, max_pixels=10**6, device=CPU))


@pytest.mark.parametrize(
    "changes",
    [{"runtime": "onnxruntime"}, {"runtime": "torch"}, {"runtime": "onnxruntime", "dtype": "int8"}, {"cut": "input"}],
)
def test_scores_stay_with_their_files(
    changes: dict[str, Any],
    tiny: Tiny,
    weights: Path,
    tmp_path: Path,
    backbone: Callable[..., Backbone],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = untrained(backbone(**changes), weights)
    good = [tiny.root / path for path in tiny.rows["path"].head(24)]
    alone = {file: scored(bundle, [file])[0][1] for file in good}
    bad = [tmp_path / f"{i}.jpg" for i in range(24)]
    files = [good[0], *bad, *good, *(file for pair in zip(good, bad) for file in pair), *good]  # 121: two batches
    read_bytes = predict_module.read_bytes

    def uneven(root: Path, path: str) -> bytes:
        data = read_bytes(root, path)
        time.sleep(data[-3] % 7 / 1000)
        return data

    monkeypatch.setattr(predict_module, "read_bytes", uneven)
    monkeypatch.setattr("ffdi.parallel.worker_count", lambda: 4)
    found = scored(bundle, files)
    assert [file for file, _ in found] == files
    for file, score in found:
        if file in alone:
            assert score == pytest.approx(alone[file], abs=1e-6)
        else:
            assert score == "cannot be read: No such file or directory"
    assert len(set(alone.values())) == len(good)


@pytest.mark.parametrize("decoder", ["pillow", "nvjpeg"])
def test_what_ingest_rejects_has_no_score(
    decoder: str,
    tiny: Tiny,
    weights: Path,
    tmp_path: Path,
    backbone: Callable[..., Backbone],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = tiny.root / tiny.rows["path"].iloc[0]
    (closed := tmp_path / "closed.jpg").write_bytes(whole.read_bytes()[:-300] + b"\xff\xd9")
    (strange := tmp_path / "strange.jpg").write_bytes(encoded("EPS"))
    bundle = untrained(backbone(), weights)
    monkeypatch.setattr(
        predict_module, "Decoder", lambda b, **options: Decoder(replace(b, decoder=decoder), **options, device="cpu")
    )
    found = dict(scored(bundle, [closed, whole, strange]))
    assert isinstance(found[whole], float)
    assert found[closed] == "damaged: Corrupt JPEG data: premature end of data segment"
    assert found[strange] == "EPS is not on the list of formats"


def test_an_uncut_network_is_given_the_images_themselves(
    weights: Path, tmp_path: Path, backbone: Callable[..., Backbone]
) -> None:
    bundle = untrained(backbone(cut="input"), weights)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for seed, file in enumerate(files):
        picture(seed).save(file)
    images = torch.from_numpy(np.stack([np.array(picture(seed)) for seed in range(3)])).permute(0, 3, 1, 2)
    with one_thread():  # as in a worker: with two, torch sums a layer's products in another order
        expected = bundle.scores(FeatureTable.of_features(images.contiguous()), CPU)
    assert [score for _, score in scored(bundle, files)] == list(expected)


def test_threads_read_ahead_but_not_without_end(
    tiny: Tiny, weights: Path, backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = untrained(backbone(), weights)
    read: list[str] = []
    tails: list[str] = []
    threads, each = torch.get_num_threads(), set[int]()
    torch.set_num_threads(2)
    bytes_of, scores_of = predict_module.read_bytes, predict_module.score_features

    def bytes_read(*arguments: Any) -> Any:
        read.append(threading.current_thread().name)
        return bytes_of(*arguments)

    def scores(*arguments: Any) -> Any:
        tails.append(threading.current_thread().name)
        each.add(torch.get_num_threads())
        return scores_of(*arguments)

    monkeypatch.setattr(predict_module, "read_bytes", bytes_read)
    monkeypatch.setattr(predict_module, "score_features", scores)
    monkeypatch.setattr("ffdi.parallel.worker_count", lambda: 3)
    files = [tiny.root / path for path in tiny.rows["path"]] * 10
    results = predict_files(bundle, files, max_pixels=10**6, device=CPU)
    next(results)
    ahead, patience = 2 * 3 + 1, time.monotonic() + 60
    while len(read) < ahead * 16 and time.monotonic() < patience:
        time.sleep(0.05)
    time.sleep(0.5)  # in which nothing more is read
    assert ahead * 16 <= len(read) <= (ahead + 1) * 16 < len(files)
    assert len(list(results)) == len(files) - 1 and len(read) == len(files)
    assert 1 < len(set(read)) <= 3 and set(tails) == set(read)  # the tails of a block where its features are
    assert threading.main_thread().name not in read
    assert (each, torch.get_num_threads()) == ({1}, 2)
    torch.set_num_threads(threads)


def test_a_score_that_is_no_number_is_an_error(tiny: Tiny, weights: Path, backbone: Callable[..., Backbone]) -> None:
    bundle = untrained(backbone(runtime="torch"), weights)
    with torch.no_grad():
        next(bundle.tails[0].head.parameters()).fill_(float("nan"))
    with pytest.raises(FfdiError, match="1 of 1 scores are not finite"):
        scored(bundle, [tiny.root / tiny.rows["path"].iloc[0]])


@pytest.mark.parametrize("cut", ["features.16", "input"])
def test_a_decoder_that_cannot_run_here_is_refused(
    cut: str, tiny: Tiny, weights: Path, backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = untrained(backbone(cut=cut), weights)
    bundle = replace(bundle, backbone=replace(bundle.backbone, decoder="nvjpeg"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParamsError, match="decoder: nvjpeg needs runtime torch on CUDA"):
        scored(bundle, [tiny.root / tiny.rows["path"].iloc[0]])


def test_what_nvjpeg_left_to_pillow_is_said(
    tiny: Tiny, weights: Path, tmp_path: Path, backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = untrained(backbone(cut="input"), weights)
    bundle = replace(bundle, backbone=replace(bundle.backbone, decoder="nvjpeg"))
    monkeypatch.setattr(predict_module, "Decoder", partial(Decoder, device="cpu"))
    monkeypatch.setattr("ffdi.features.extractor.runtime_name", lambda backbone: "torch-cuda")
    picture(0).save(tmp_path / "a.png")
    said: list[str] = []
    files = [tiny.root / tiny.rows["path"].iloc[0], tmp_path / "a.png"]
    assert len(list(predict_files(bundle, files, max_pixels=10**6, device=CPU, console=Console(said.append)))) == 2
    assert said[-1] == "nvjpeg decoded 1 images; Pillow decoded 1 that are no plain JPEGs"
