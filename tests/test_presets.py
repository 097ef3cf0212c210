"""presets/seeds.yaml: the published systems, exact in architecture and settings, and run whole on tiny data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project, picture
from ruamel.yaml import YAML
from torch import nn
from torchvision import models

from ffdi.features.backbones import FrozenPrefix, without_classifier
from ffdi.features.cuts import cut_network
from ffdi.params import read_params
from ffdi.tails.heads import TailFactory
from ffdi.tails.train import Optimizer

HERE = Path(__file__).parents[1]
SEEDS = HERE / "presets" / "seeds.yaml"


def notebook(network: Any) -> tuple[nn.Module, nn.Module]:
    """(prefix, tail) as the notebooks wrote them."""
    if isinstance(network, models.MobileNetV2):
        head = [nn.Linear(1280, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.2)]
        tail = [network.features[16:], nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head, nn.Linear(256, 2)]
        return network.features[:16], nn.Sequential(*tail)
    n = network
    prefix = nn.Sequential(n.conv1, n.bn1, n.relu, n.maxpool, n.layer1, n.layer2, n.layer3)
    return prefix, nn.Sequential(n.layer4, n.avgpool, nn.Flatten(), nn.Dropout(0.5), nn.Linear(2048, 2))


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        ("mobilenet_v2", (160, 7, 7)),
        ("mobilenet_v2_massive", (160, 7, 7)),
        ("mobilenet_v2_nocv", (160, 7, 7)),
        ("wide_resnet50_2", (1024, 14, 14)),
    ],
)
def test_prefix_and_tail_are_the_notebooks(recipe: str, shape: tuple[int, ...]) -> None:
    params = read_params(SEEDS)
    backbone, head = params.backbone(params.recipe(recipe).backbone), params.recipe(recipe).head_spec()
    torch.manual_seed(0)
    network = models.get_model(backbone.network.removeprefix("torchvision:"), weights=None).eval()
    mine = TailFactory(network, backbone, head, shape).fresh(0)
    prefix, tail = notebook(network)
    for given, due in zip(
        mine.head.parameters(), list(tail.parameters())[-len(list(mine.head.parameters())) :], strict=True
    ):
        due.data = given.data.clone()
    images = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    frozen = cut_network(without_classifier(network, backbone.network), backbone.cut)[0]
    assert frozen is not None
    with torch.inference_mode():
        features = FrozenPrefix(frozen, backbone.mean, backbone.std)(images)
        theirs = prefix(
            (images.permute(0, 3, 1, 2) / 255 - torch.tensor(backbone.mean)[:, None, None])
            / torch.tensor(backbone.std)[:, None, None]
        )
        assert features.shape[1:] == shape
        torch.testing.assert_close(features, theirs, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(mine.eval()(features), tail.eval()(features), rtol=1e-2, atol=1e-3)
    shapes = [sorted(tuple(p.shape) for p in module.parameters()) for module in (mine, tail)]
    assert shapes[0] == shapes[1]  # the L1 term is over the same parameters
    kinds = [sorted(type(m).__name__ for m in module.modules() if isinstance(m, nn.Dropout)) for module in (mine, tail)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize(
    ("recipe", "lr", "l1", "batch", "epochs", "folds", "decay", "views"),
    [
        ("mobilenet_v2", 1e-4, 1e-4, 64, 10, "all", 0.0, 1),
        ("mobilenet_v2_massive", 1e-4, 1e-4, 192, 10, "all", 0.0, 2),
        ("mobilenet_v2_nocv", 1e-4, 1e-4, 192, 20, 1, 0.0, 2),
        ("wide_resnet50_2", 1e-3, 1e-3, 120, 10, 1, 0.1, 3),
    ],
)
def test_settings_are_the_notebooks(
    recipe: str, lr: float, l1: float, batch: int, epochs: int, folds: str | int, decay: float, views: int
) -> None:
    params = read_params(SEEDS)
    made = params.recipe(recipe)
    training, backbone = made.training(), params.backbone(made.backbone)
    assert (training.lr, training.l1, training.batch_size, training.epochs) == (lr, l1, batch, epochs)
    assert (made.folds, params.split.folds, params.split.test_size) == (folds, 5, 0.2)
    assert training.optimizer == Optimizer("adam", decay, None)  # coupled weight decay
    assert (training.schedule.name, training.label_smoothing, training.mixup, training.cutmix) == ("none", 0, 0, 0)
    assert (backbone.image_size, backbone.view_count, backbone.dtype) == (224, views, "float16")
    assert (backbone.mean, backbone.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert params.backbones[made.backbone].weights == "torchvision:IMAGENET1K_V1"


@pytest.mark.slow
def test_the_preset_runs_whole_on_a_folder_of_images(tmp_path: Path) -> None:
    """As it stands, but for the data root, random weights, 64 pixels and one epoch."""
    for at in range(60):
        file = tmp_path / "faces" / ("fake" if at % 2 else "real") / f"{at}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(at, 64, bool(at % 2)).save(file, quality=92)
    params = YAML(typ="safe", pure=True).load(SEEDS.read_text())
    params["data"]["root"] = str(tmp_path / "faces")
    for backbone in params["backbones"].values():
        backbone |= {"weights": "random", "image_size": 64}
    for recipe in params["recipes"].values():
        recipe["epochs"] = 1
    params["ladder"] |= {"folds": 2, "epochs": 1}
    params["evaluate"]["bootstrap"] = 100
    project = Project(tmp_path / "ffdi", params)
    project.run("git", "init", "-q")
    # A repository without a commit has no place for DVCLive's curves, and says so.
    said = project.run("dvc", "repro", "train@mobilenet_v2", check=False)
    assert "commit once" in said and "Traceback" not in said
    project.commit("start")
    project.run("dvc", "repro")
    for name in params["recipes"]:
        metrics = project.metrics(name)
        folds = 1 if name in ("mobilenet_v2_nocv", "wide_resnet50_2") else 5
        assert 0 <= float(str(metrics["auc"])) <= 1 and metrics["folds"] == folds
        oof = (project.folder / "data" / "models" / name / "oof.csv").read_text().splitlines()
        assert len(oof) > (40 if folds == 5 else 5)
    assert project.metrics("audit")["leaks"] == 0
    assert project.metrics("ladder")["rung_5_name"]
