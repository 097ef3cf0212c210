"""Evaluation with a sweep, ladder, predict, cross and explain finish on the fake device, with the CPU's results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe
from fake_cuda import FakeCuda, faking

from ffdi.bootstrap import Bootstrap
from ffdi.commands.main import main
from ffdi.console import Console
from ffdi.errors import ShardError
from ffdi.evaluation.evaluate import Evaluation, EvaluationInputs, evaluate_recipe, state_hash
from ffdi.evaluation.experiment import LoadedRecipe
from ffdi.evaluation.explain import grad_cam
from ffdi.evaluation.ladder import climb_ladder
from ffdi.evaluation.settings import LadderSettings
from ffdi.features import runtimes
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.networks import FrozenPrefix
from ffdi.features.perturbed import PerturbationSweep
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.predict import predict_files, score_files
from ffdi.tails.recipe import Head

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _small_batches(no_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "CUDA_BATCH", 8)


@pytest.fixture(scope="module")
def test_features(tiny: Tiny, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FeatureStore]:
    """test_features(fake, precision=...): of the tiny set's test images, made by the CPU or by the fake device."""
    made: dict[str, Path] = {}

    def make(*, runtime: str, **changes: Any) -> FeatureStore:
        key = f"{runtime}-{changes}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp("features") / "f"
            prefix = load_extractor(tiny_backbone(runtime=runtime, **changes), weights)
            test = tiny.rows[tiny.rows["role"] == "test"]
            settings = ExtractSettings(workers=2, shard_rows=32)
            extract_features(test, prefix, made[key], source=ImageSource(tiny.root, 10**6), settings=settings)
        return FeatureStore(made[key])

    return make


def bundle_of(trained: Trained, spec: FeatureSpec, **changes: Any) -> Bundle:
    """The trained bundle as if it had been trained on features of `spec`."""
    bundle = load_bundle(trained.model)
    backbone = replace(bundle.backbone, **changes)
    return replace(bundle, backbone=backbone, record={**bundle.record, "fingerprint": spec.fingerprint})


def swept(
    bundle: Bundle, store: FeatureStore, tiny: Tiny, out: Path, device: torch.device, console: Console = Console()
) -> Evaluation:
    """Evaluated with a sweep of one level, whose features are in `out`."""
    sweep = PerturbationSweep(
        ["jpeg-30"], out, ImageSource(tiny.root, 10**6), ExtractSettings(workers=2, shard_rows=32)
    )
    inputs = EvaluationInputs(bundle, store, tiny.rows).with_perturbed(sweep, console)
    return evaluate_recipe(inputs, bootstrap=Bootstrap(100), memory_gb=1, device=device)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_evaluation_with_a_sweep_is_the_same_computed_and_cached(
    precision: str, trained: Trained, tiny: Tiny, test_features: Any, fake_cuda: FakeCuda, tmp_path: Path
) -> None:
    store = test_features(runtime="auto", precision=precision)
    outputs = []
    for _ in range(2):
        bundle = bundle_of(trained, store.spec, runtime="auto", precision=precision)
        before = state_hash(bundle)
        outputs.append(swept(bundle, store, tiny, tmp_path / "levels", CUDA).metrics)
        assert {p.dtype for p in bundle.prefix.parameters()} == {torch.float32}  # type: ignore[union-attr]
        assert before == state_hash(bundle)
    assert outputs[0] == outputs[1] and outputs[0]["robustness_jpeg_30_auc"] is not None


def test_evaluation_on_cuda_gives_the_figures_of_the_cpu(
    trained: Trained, tiny: Tiny, fake_cuda: FakeCuda, tmp_path: Path
) -> None:
    store = FeatureStore(trained.features)
    figures = [
        swept(load_bundle(trained.model), store, tiny, tmp_path / device.type, device).metrics for device in (CPU, CUDA)
    ]
    for key, value in figures[0].items():
        assert figures[1][key] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value), key


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_sweep_of_features_of_the_cpu_stays_theirs_on_a_gpu_machine(
    runtime: str, trained: Trained, tiny: Tiny, test_features: Any, tmp_path: Path
) -> None:
    """The rows would else stand under the CPU's fingerprint, and the next machine would reuse them as its own."""
    store = test_features(runtime=runtime)
    bundle = bundle_of(trained, store.spec, runtime="auto")
    swept(bundle, store, tiny, tmp_path / "here", CPU)
    said: list[str] = []
    with faking():
        swept(bundle, store, tiny, tmp_path / "there", CUDA, Console(said.append))
    here, there = FeatureStore(tmp_path / "here/jpeg-30"), FeatureStore(tmp_path / "there/jpeg-30")
    assert here.read(here.rows).tobytes() == there.read(here.rows).tobytes()
    assert {maker["runtime"] for maker in (*here.index.made_by, *there.index.made_by)} == {f"{runtime}-cpu"}
    assert said == [f"robustness: cpu: runtime {runtime} is asked for (not used: NVIDIA Fake, driver 570.86.15)"]


def test_a_sweep_of_features_of_a_gpu_is_refused_where_none_is(
    trained: Trained, tiny: Tiny, test_features: Any, tmp_path: Path
) -> None:
    with faking():
        store = test_features(runtime="auto")
    bundle = bundle_of(trained, store.spec, runtime="auto")
    with pytest.raises(ShardError, match=r"made by torch-cuda-contiguous, which cannot run here \(cpu: .*run extract"):
        swept(bundle, store, tiny, tmp_path / "levels", CPU)
    assert not list(tmp_path.rglob("*.h5"))


def test_the_whole_ladder_on_cuda(tiny: Tiny, weights: Path) -> None:
    """The careless rungs have their extraction on the device, too; all figures are those of a CPU."""
    backbone = tiny_backbone(runtime="torch", cut="features.18")
    recipe = tiny_recipe(head=Head("linear", (), 0.0), epochs=1, lr=1e-4)

    def climb(device: torch.device) -> dict[str, Any]:
        loaded = LoadedRecipe.load(recipe, backbone, weights)
        runtime = loaded.extractor.spec.policy["runtime"]
        assert runtime == ("torch-cpu" if device == CPU else "torch-cuda-contiguous")
        source, settings = ImageSource(tiny.root, 10**6), LadderSettings(folds=2, seeds=1)
        return dict(climb_ladder(pick(tiny), loaded, source, settings, bootstrap=Bootstrap(100), device=device))

    due = climb(CPU)
    with faking():
        found = climb(CUDA)
    for key, value in due.items():
        if isinstance(value, float) and key.endswith("auc"):
            assert found[key] == pytest.approx(value, abs=0.1), key  # of eight images, in other batches


def pick(tiny: Tiny) -> Any:
    """Eight train and eight test images of the tiny set."""
    return tiny.rows.groupby("role", group_keys=False)[tiny.rows.columns.tolist()].head(8)


def test_prediction_and_cross_evaluation_on_cuda(trained: Trained, tiny: Tiny, fake_cuda: FakeCuda) -> None:
    bundle, own = load_bundle(trained.model), pick(tiny)
    files = [tiny.root / path for path in own["path"]]
    due = np.array([score for _, score in predict_files(bundle, files, max_pixels=10**6, device=CPU)])
    assert bundle.prefix is not None
    said: list[str] = []
    found = [
        score for _, score in predict_files(bundle, files, max_pixels=10**6, device=CUDA, console=Console(said.append))
    ]
    np.testing.assert_allclose(np.array(found), due, atol=1e-5)
    assert said == ["cuda: NVIDIA Fake, driver 570.86.15"]
    scored = score_files(bundle, own, ImageSource(tiny.root, 10**6), device=CUDA)
    np.testing.assert_allclose(scored.mean, due, atol=1e-5)


def test_halving_is_said_by_whoever_computes(
    trained: Trained, tiny: Tiny, test_features: Any, fake_cuda: FakeCuda, tmp_path: Path, monkeypatch: Any
) -> None:
    store = test_features(runtime="auto")
    true_forward = FrozenPrefix.forward

    def forward(self: FrozenPrefix, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return true_forward(self, images)

    monkeypatch.setattr(FrozenPrefix, "forward", forward)
    halved, own = "out of memory on cuda: batch halved to 4", pick(tiny)
    said: list[str] = []
    bundle = bundle_of(trained, store.spec, runtime="auto")
    swept(bundle, store, tiny, tmp_path / "levels", CUDA, Console(said.append))
    assert f"robustness: {halved}" in said
    told = list[str]()
    list(
        predict_files(
            bundle, [tiny.root / own["path"].iloc[0]], max_pixels=10**6, device=CUDA, console=Console(told.append)
        )
    )
    score_files(bundle, own.head(1), ImageSource(tiny.root, 10**6), device=CUDA, console=Console(told.append))
    assert told.count(halved) == 2


def test_explaining_after_a_score_on_cuda(trained: Trained, tiny: Tiny, fake_cuda: FakeCuda) -> None:
    """Heat maps stay on the CPU, wherever the same bundle's tails scored before."""
    store, fake = FeatureStore(trained.features), np.array([True, False])
    ids = list(tiny.rows[tiny.rows["role"] == "test"]["image_id"].head(2))
    features, bundle = torch.from_numpy(store.read([(i, 0) for i in ids])), load_bundle(trained.model)
    due = grad_cam(bundle, features, fake=fake)
    bundle.scores(load_table(store, ids, [0, 1], views=0, memory_gb=1, device=CUDA), CUDA)
    found = grad_cam(bundle, features, fake=fake)
    assert due is not None and found is not None and np.array_equal(due, found) and 0 < due.max() <= 1


def test_a_command_says_its_device_beside_its_scores(
    trained: Trained, tiny: Tiny, fake_cuda: FakeCuda, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    file = tiny.root / tiny.rows["path"].iloc[0]
    result = CliRunner().invoke(main, ["predict", str(file), "--model", str(trained.model)])
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == "predict: cuda: NVIDIA Fake, driver 570.86.15"
    assert result.stdout.startswith("path,score,verdict,") and result.stdout.splitlines()[1].startswith(f"{file},")
