"""The presets: the published systems, exact in architecture and settings, trained in full on tiny data."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pytest
import torch
from conftest import lay_out_multi_ffdi, picture
from project import Project
from ruamel.yaml import YAML
from torch import nn
from torchvision import models, transforms

from ffdi.features.cuts import cut_network
from ffdi.features.networks import FrozenPrefix, build_network, without_classifier
from ffdi.params.reading import read_params
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.heads import TailFactory
from ffdi.tails.optimisation import Optimizer

HERE = Path(__file__).parents[1]
SEEDS = HERE / "presets" / "seeds.yaml"
MULTI_FFDI = HERE / "presets" / "multi-ffdi.yaml"


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
    backbone, head = params.backbone(params.recipe(recipe).backbone), params.recipe(recipe).head
    torch.manual_seed(0)
    network = models.get_model(backbone.network.removeprefix("torchvision:"), weights=None).eval()
    prefix, tail = notebook(network)
    mine = TailFactory(without_classifier(network, backbone.network), backbone, head, shape).fresh(0)
    for given, due in zip(
        mine.head.parameters(), list(tail.parameters())[-len(list(mine.head.parameters())) :], strict=True
    ):
        due.data = given.data.clone()
    images = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    frozen = cut_network(network, backbone.cut, backbone.pixels.size)[0]
    assert frozen is not None
    with torch.inference_mode():
        features = FrozenPrefix(frozen, backbone.pixels.mean, backbone.pixels.std)(images)
        theirs = prefix(
            (images.permute(0, 3, 1, 2) / 255 - torch.tensor(backbone.pixels.mean)[:, None, None])
            / torch.tensor(backbone.pixels.std)[:, None, None]
        )
        assert features.shape[1:] == shape
        torch.testing.assert_close(features, theirs, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(mine.eval()(features), tail.eval()(features), rtol=1e-2, atol=1e-3)
    shapes = [sorted(tuple(p.shape) for p in module.parameters()) for module in (mine, tail)]
    assert shapes[0] == shapes[1]  # the L1 term is over the same parameters
    kinds = [sorted(type(m).__name__ for m in module.modules() if isinstance(m, nn.Dropout)) for module in (mine, tail)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize(
    ("recipe", "trained", "folds", "decay", "views"),
    [
        ("mobilenet_v2", (1e-4, 1e-4, 64, 10), "all", 0.0, 1),
        ("mobilenet_v2_massive", (1e-4, 1e-4, 192, 10), "all", 0.0, 2),
        ("mobilenet_v2_nocv", (1e-4, 1e-4, 192, 20), 1, 0.0, 2),
        ("wide_resnet50_2", (1e-3, 1e-3, 120, 10), 1, 0.1, 3),
    ],
)
def test_settings_are_the_notebooks(
    recipe: str, trained: tuple[float, float, int, int], folds: str | int, decay: float, views: int
) -> None:
    params = read_params(SEEDS)
    made = params.recipe(recipe)
    backbone = params.backbone(made.backbone)
    assert (made.lr, made.l1, made.batch_size, made.epochs) == trained  # lr, l1, batch size, epochs
    assert (made.folds, params.split.folds, params.split.test_size) == (folds, 5, 0.2)
    assert made.optimizer == Optimizer("adam", decay, None)  # coupled weight decay
    assert (made.schedule.name, made.label_smoothing, made.mix.mixup, made.mix.cutmix) == ("none", 0, 0, 0)
    assert (backbone.pixels.size, backbone.views.count, backbone.dtype) == (224, views, "float16")
    assert (backbone.pixels.mean, backbone.pixels.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert params.backbones[made.backbone].weights == "torchvision:IMAGENET1K_V1"


FLIPS = ({"name": "hflip", "p": 0.5}, {"name": "vflip", "p": 0.5})
JITTER = {"name": "jitter", "brightness": 0.5, "contrast": 0.0, "saturation": 0.0, "hue": 0.3, "p": 1.0}
ADAM = Optimizer("adam", 0.0, None)


@pytest.mark.parametrize(
    ("recipe", "network", "lr", "optimizer", "augment", "mix"),
    [
        ("ffdi_baseline", "timm:resnet18", 0.005, ADAM, FLIPS, (0, 0)),
        ("ffdi_strong", "timm:efficientnet_b1", 0.007, ADAM, (*FLIPS, JITTER), (0, 0)),
        ("ffdi_mixup", "timm:efficientnet_b1", 0.007, ADAM, (*FLIPS, JITTER), (0.2, 0)),
        ("ffdi_cutmix", "timm:efficientnet_b1", 0.007, ADAM, (*FLIPS, JITTER), (0, 1.0)),
        ("ffdi_strong_sgd", "timm:efficientnet_b1", 0.007, Optimizer("sgd", 0.0, 0.9), (*FLIPS, JITTER), (0, 0)),
        ("ffdi_strong_adamw", "timm:efficientnet_b1", 0.0005, Optimizer("adamw", 0.05, None), (*FLIPS, JITTER), (0, 0)),
    ],
)
def test_settings_are_the_articles(
    recipe: str,
    network: str,
    lr: float,
    optimizer: Optimizer,
    augment: tuple[dict[str, Any], ...],
    mix: tuple[float, float],
) -> None:
    params = read_params(MULTI_FFDI)
    made = params.recipe(recipe)
    backbone = params.backbone(made.backbone)
    assert (params.data.layout, params.data.limit, params.split.use_given) == ("multi_ffdi", 1000, True)
    assert (backbone.network, backbone.cut, backbone.pixels.size) == (network, "input", 256)
    assert (backbone.pixels.mean, backbone.pixels.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (made.lr, made.batch_size, made.optimizer) == (lr, 40, optimizer)
    assert (made.schedule.name, made.schedule.size, made.schedule.gamma) == ("step", 4, 0.85)
    assert (resolve_augment(made.augment), (made.mix.mixup, made.mix.cutmix)) == (augment, mix)
    assert (made.label_smoothing, made.l1, made.ema, made.clip_grad) == (0, 0, None, None)
    assert (made.head.kind, made.head.dropout) == ("linear", 0.0)
    schedule = [made.lr * made.schedule.factor(epoch, 10) for epoch in range(10)]
    assert schedule == pytest.approx([lr] * 4 + [0.85 * lr] * 4 + [0.85**2 * lr] * 2)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b1"])
def test_end_to_end_is_timms_own_network(name: str) -> None:
    """With two classes and the same weights: equal logits and equal gradients in train mode."""
    params = read_params(MULTI_FFDI)
    backbone = params.backbone(f"{name}_input")
    torch.manual_seed(0)
    network = build_network(f"timm:{name}")
    headless = without_classifier(copy.deepcopy(network), backbone.network)
    tail = TailFactory(headless, backbone, params.recipe("ffdi_baseline").head, (3, 64, 64)).fresh(0)
    network.reset_classifier(2)  # type: ignore[operator]
    classifier = network.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        for own, given in zip(classifier.parameters(), tail.head.parameters(), strict=True):
            own.copy_(given)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    normal = transforms.Normalize(backbone.pixels.mean, backbone.pixels.std)(images / 255)
    for mode in (False, True):
        torch.manual_seed(1)
        mine = tail.train(mode)(images)
        torch.manual_seed(1)
        theirs = network.train(mode)(normal)
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    mine.sum().backward()
    theirs.sum().backward()
    torch.testing.assert_close(next(tail.parameters()).grad, next(network.parameters()).grad, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "targets"),
    [
        (["ffdi_baseline", "hybrid_vit"], ["evaluate@ffdi_baseline", "evaluate@hybrid_vit"]),
        pytest.param(["ffdi_baseline", "ffdi_cutmix", "hybrid_vit"], [], marks=pytest.mark.long),
    ],
    ids=["evaluated", "whole"],
)
def test_multi_ffdi_runs_from_labels_to_submission(
    names: list[str], targets: list[str], tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    """The preset itself, but for data root, random weights, 64 pixels, one epoch and the recipes; no `targets`: all stages."""
    pictures = []
    for at in range(56):
        pictures.append((tmp_path / f"{at}.jpg", at % 2, at >= 40))
        picture(at, 64, bool(at % 2)).save(pictures[-1][0], quality=92)
    root = tmp_path / "phase1"
    lay_out_multi_ffdi(root, pictures)
    params = YAML(typ="safe", pure=True).load(MULTI_FFDI.read_text())
    params["data"] |= {"root": str(root), "limit": 38, "synthesise": 1}
    params["demo"]["identities"] = 6  # the stages draw it whatever data.root is
    for backbone in params["backbones"].values():
        backbone |= {"weights": "random", "image_size": 64}
    params["split"] |= {"folds": 2, "embedding": "mobilenet_v2"}
    params["recipes"] = {name: params["recipes"][name] for name in names}
    used = {recipe["backbone"] for recipe in params["recipes"].values()}
    params["backbones"] = {name: backbone for name, backbone in params["backbones"].items() if name in used}
    for recipe in params["recipes"].values():
        recipe |= {"epochs": 1, "folds": 1}
    params["ladder"] |= {"folds": 2, "epochs": 1}
    params["evaluate"]["bootstrap"] = 100
    project = Project(tmp_path / "ffdi", params, warm_environment)
    project.run("git", "init", "-q")
    project.commit("start")
    project.run("dvc", "repro", *targets)
    assert project.metrics("audit")["leaks"] == 0
    for name in params["recipes"]:
        metrics = project.metrics(name)
        assert metrics["n_test"] == 16 and metrics["synthesised"] == 19, name  # limit is of each set
        assert metrics["tpr_at_fpr_1e_3"] is None and "8 reals" in str(metrics["tpr_at_fpr_1e_3_reason"])
        assert 0 <= float(str(metrics["tpr_at_fpr_1e_3_at_most"])) <= 1
    with h5py.File(project.folder / "data" / "features" / "resnet18_input" / "shard-00000.h5") as shard:
        assert shard["features"].dtype == "uint8" and shard["features"].shape == (38 + 16 + 19, 3, 64, 64)

    # The scores that evaluate gave the validation set are those of a submission for it.
    (root / "valset" / "broken.jpg").write_text("no picture")
    files = [f"{at}.jpg" for at in range(55, 39, -1)]
    listed = tmp_path / "testset.txt"
    listed.write_text("img_name\n" + "\n".join([*files, "broken.jpg"]) + "\n")
    for name in ("ffdi_baseline", "hybrid_vit"):
        out = tmp_path / f"{name}.csv"
        model = f"data/models/{name}"
        said = project.run(
            *("ffdi", "submit", "--model", model, "--list", str(listed)),
            *("--root", str(root / "valset"), "--out", str(out)),
        )
        lines = out.read_text().splitlines()
        assert lines[0] == "img_name,y_pred" and [line.split(",")[0] for line in lines[1:]] == [*files, "broken.jpg"]
        submitted = {line.split(",")[0]: float(line.split(",")[1]) for line in lines[1:]}
        assert submitted.pop("broken.jpg") == 0.5 and "broken.jpg" in said
        images = pd.read_csv(project.folder / "data" / "images.csv").set_index("image_id")
        scores = pd.read_csv(project.folder / "metrics" / "plots" / name / "test" / "scores.csv")
        for image_id, score in zip(scores["image_id"], scores["score"], strict=True):
            assert submitted[Path(images.loc[image_id, "path"]).name] == pytest.approx(score, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [["mobilenet_v2", "mobilenet_v2_nocv"], pytest.param([], marks=pytest.mark.long)],
    ids=["evaluated", "whole"],
)
def test_seeds_runs_on_a_folder_of_images(names: list[str], tmp_path: Path, warm_environment: dict[str, str]) -> None:
    """The preset itself, but for the data root, random weights, 64 pixels and one epoch; all its stages without `names`."""
    for at in range(60):
        file = tmp_path / "faces" / ("fake" if at % 2 else "real") / f"{at}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(at, 64, bool(at % 2)).save(file, quality=92)
    params = YAML(typ="safe", pure=True).load(SEEDS.read_text())
    params["data"]["root"] = str(tmp_path / "faces")
    params["demo"]["identities"] = 6  # the stages draw it whatever data.root is
    for backbone in params["backbones"].values():
        backbone |= {"weights": "random", "image_size": 64}
    for recipe in params["recipes"].values():
        recipe["epochs"] = 1
    params["ladder"] |= {"folds": 2, "epochs": 1}
    params["evaluate"]["bootstrap"] = 100
    project = Project(tmp_path / "ffdi", params, warm_environment)
    project.run("git", "init", "-q")
    # A repository without a commit has no place for DVCLive's curves, and says so.
    said = project.run("dvc", "repro", "train@mobilenet_v2", check=False)
    assert "commit once" in said and "Traceback" not in said
    project.commit("start")
    project.run("dvc", "repro", *(f"evaluate@{name}" for name in names))
    for name in names or params["recipes"]:
        metrics = project.metrics(name)
        folds = 1 if name in ("mobilenet_v2_nocv", "wide_resnet50_2") else 5
        assert 0 <= float(str(metrics["auc"])) <= 1 and metrics["folds"] == folds
        oof = (project.folder / "data" / "models" / name / "oof.csv").read_text().splitlines()
        assert len(oof) > (40 if folds == 5 else 5)
    assert project.metrics("audit")["leaks"] == 0
    assert names or project.metrics("ladder")["rung_5_name"]
