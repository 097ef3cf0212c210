"""Tiny real files: pictures on disk, their tables, and backbones small enough for a test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workers  # before the others: it takes this worker's cores

# isort: split
import numpy as np
import pandas as pd
import pytest
from in_browser import browser  # noqa: F401 - a fixture
from PIL import Image
from ray_cluster import (  # noqa: F401 - a hook of pytest and a fixture
    pytest_runtest_teardown,
    ray_cluster,
)
from s3_server import s3, s3_server  # noqa: F401 - fixtures
from workers import (  # noqa: F401 - hooks of pytest
    pytest_collection_finish,
    pytest_collection_modifyitems,
    pytest_unconfigure,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)

from ffdi.features.backbone import Backbone, Views

if TYPE_CHECKING:
    from fake_cuda import FakeCuda

    from ffdi.tails.recipe import Recipe

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
HERE = Path(__file__).parents[1]
REAL = HERE.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: needs the real faces and weights, which are no part of the project")
    config.addinivalue_line("markers", "slow: takes many seconds; files of slow tests come first")
    config.addinivalue_line(
        "markers", "long: for make test-long alone; a shorter test of make test sees the same faults"
    )
    config.addinivalue_line("markers", "ray: starts Ray on loopback")
    config.addinivalue_line("markers", "s3: talks to an S3 server on loopback")
    config.addinivalue_line("markers", "cuda: needs a GPU, and skips where there is none")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        from ffdi.features.devices import device_line, has_cuda

        if not has_cuda():
            pytest.skip(f"needs a GPU; here is {device_line()}")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FFDI_CACHE"] = str(workers.made_once(tmp_path_factory, "cache", lambda folder: None))


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real faces and weights; the test skips where it is absent."""
    if not (REAL / "data" / "ciplab160").is_dir():
        pytest.skip("real faces are not here: no folder shared/data/ciplab160 beside the checkout")
    return REAL


def picture(seed: int, size: int = 64, fake: bool = False) -> Image.Image:
    """A smooth random RGB picture; a fake one has a sharp-edged brighter square, which a tail can learn."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).copy()
    if fake:
        at, side = int(rng.integers(0, size // 2)), size // 3
        pixels[at : at + side, at : at + side] = 255 - pixels[at : at + side, at : at + side]
    return Image.fromarray(pixels)


@dataclass(frozen=True)
class Tiny:
    """A data set on disk (layout csv) with its images.csv and folds.csv as files and as tables."""

    root: Path
    images_file: Path
    folds_file: Path
    images: pd.DataFrame
    folds: pd.DataFrame
    rows: pd.DataFrame  # joined


def write_pictures(root: Path, count: int, *, groups: int, size: int = 64) -> None:
    """`count` JPEGs, alternately real and fake, in `groups` groups, with labels.csv."""
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        fake = i % 2
        picture(i, size, bool(fake)).save(root / f"{i:04d}.jpg", quality=92)
        rows.append(f"{i:04d}.jpg,{fake},g{(i // 2) % groups}\n")
    (root / "labels.csv").write_text("path,label,group\n" + "".join(rows))


def read_tiny(folder: Path) -> Tiny:
    """The data set that make_tiny has made in `folder`."""
    from ffdi.intake.tables import join, read_folds, read_images

    images_file, folds_file = folder / "images.csv", folder / "folds.csv"
    images, folds = read_images(images_file), read_folds(folds_file)
    return Tiny(folder / "pictures", images_file, folds_file, images, folds, join(images, folds))


def make_tiny(folder: Path, *, count: int = 48, groups: int = 12, folds: int = 3, size: int = 64) -> Tiny:
    """Pictures -> ingest -> split, all through the library."""
    from ffdi.intake.decoding.images import ImageSource
    from ffdi.intake.ingest import ingest
    from ffdi.intake.listing.layouts import read_layout
    from ffdi.intake.near_duplicates.hashes import perceptual_pairs
    from ffdi.intake.settings import DataSettings, SplitSettings
    from ffdi.intake.splitting.folds import assign_folds
    from ffdi.intake.tables import write_table

    root = folder / "pictures"
    write_pictures(root, count, groups=groups, size=size)
    listed = read_layout(root, DataSettings(".", "csv")).rows
    images = ingest(listed, ImageSource(root, 10**6)).images
    settings = SplitSettings(test_size=0.25, folds=folds)
    table = assign_folds(images, perceptual_pairs(list(images["phash"]), 2), settings)
    write_table(folder / "images.csv", images)
    write_table(folder / "folds.csv", table)
    return read_tiny(folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A data set for the whole run; tests that change files make their own with make_tiny."""
    return read_tiny(workers.made_once(tmp_path_factory, "tiny", make_tiny))


def tiny_backbone(**changes: Any) -> Backbone:
    """A random MobileNetV2 at 64 pixels on torch, changed as asked."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "network": "torchvision:mobilenet_v2",
        "weights": "random",
        "cut": "features.16",
        "image_size": 64,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "views": Views(1, "seeds"),
        "dtype": "float16",
        "runtime": "torch",
        "precision": "float32",
    }
    return Backbone(**(fields | changes))


@pytest.fixture
def backbone() -> Callable[..., Backbone]:
    """backbone(cut="features.16", dtype="float32", ...), see tiny_backbone."""
    return tiny_backbone


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random, calibrated weights of torchvision:mobilenet_v2."""
    from ffdi.features.weights import fetch_weights

    def make(folder: Path) -> None:
        fetch_weights("torchvision:mobilenet_v2", "random", folder / "mobilenet_v2.safetensors", base=Path())

    return workers.made_once(tmp_path_factory, "weights", make) / "mobilenet_v2.safetensors"


def tiny_recipe(**changes: Any) -> Recipe:
    """A small MLP on Adam at a constant rate, nothing mixed or augmented, changed as asked."""
    from ffdi.tails.recipe import Head, Recipe

    plain = Recipe("tiny", "tiny", Head("mlp", (16,), 0.2), epochs=8, batch_size=12, lr=0.001)
    return replace(plain, **changes)


def lay_out_multi_ffdi(root: Path, images: Iterable[tuple[Path, int, bool]]) -> None:
    """Copy files, each with (label, whether it is of the validation set), into trainset/ and valset/ with label files."""
    lines = {"trainset": ["img_name,target"], "valset": ["img_name,target"]}
    for file, label, held_out in images:
        name = "valset" if held_out else "trainset"
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / name / file.name)
        lines[name].append(f"{file.name},{label}")
    for name, rows in lines.items():
        (root / f"{name}_label.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Trained:
    """A recipe trained on the tiny set: its features, its bundle and what went into it."""

    features: Path
    model: Path
    save: Callable[[Path], None]  # writes the same bundle again


@pytest.fixture(scope="session")
def trained(tiny: Tiny, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Extracted, cross-validated (3 folds, 8 epochs) and bundled, all through the library."""
    import torch

    from ffdi.features.extract import extract_features
    from ffdi.features.extractor import load_extractor
    from ffdi.features.settings import ExtractSettings
    from ffdi.intake.decoding.images import ImageSource
    from ffdi.tails.settings import TrainSettings
    from ffdi.tails.train_recipe import train_recipe
    from ffdi.tails.training_inputs import TrainingInputs

    spec = tiny_backbone()

    def save(features: Path, model: Path) -> None:
        inputs = TrainingInputs("tiny", tiny.rows, spec, features, weights)
        train_recipe(tiny_recipe(), inputs, TrainSettings(memory_gb=1), device=torch.device("cpu")).save(model)

    def make(folder: Path) -> None:
        extract_features(
            tiny.rows,
            load_extractor(spec, weights),
            folder / "features",
            source=ImageSource(tiny.root, 10**6),
            settings=ExtractSettings(workers=2, shard_rows=32),
        )
        save(folder / "features", folder / "model")

    folder = workers.made_once(tmp_path_factory, "trained", make)
    return Trained(folder / "features", folder / "model", partial(save, folder / "features"))


@pytest.fixture(scope="session")
def warm_environment() -> Iterator[dict[str, str]]:
    """What makes `python` start a stage within 50 ms, see tests/warm_python.py."""
    from warm_python import warm_python

    with warm_python() as environment:
        yield environment


@pytest.fixture
def restore_threads() -> Iterator[None]:
    """A command sets torch's threads for its process, here that of all tests; a training's bytes depend on them."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_cuda() -> Iterator[None]:
    """The machine as it would be without the GPU that it may have.

    It patches by itself: `monkeypatch` of a test must begin after `fake_cuda`, and so end before it.
    """
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture
def fake_cuda(no_cuda: None) -> Iterator[FakeCuda]:
    """A CUDA device that this machine does not have, see tests/fake_cuda.py."""
    import torch
    from fake_cuda import faking

    with faking() as fake:
        yield fake
    assert "to" not in vars(torch.Tensor), "the test took its own patches back too late: the device stays"
