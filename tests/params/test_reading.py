"""params.yaml: what is read, what is refused, and the error messages."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from params_files import COMMITTED, PRESETS, changed

from ffdi.errors import ParamsError
from ffdi.evaluation.headline import RESERVED_NAMES
from ffdi.params.reading import read_params


def test_the_committed_params_are_read() -> None:
    params = read_params(COMMITTED)
    assert params.data.layout == "csv"
    assert params.recipe("mobilenet_v2").lr == 1e-4
    backbone = params.backbone("mobilenet_v2")
    assert (backbone.cut, backbone.views.count, backbone.pixels.mean) == ("features.16", 2, (0.485, 0.456, 0.406))
    for name in params.recipes:
        assert params.recipe(name).name == name
    for name in params.backbones:
        assert params.backbone(name).name == name


def test_a_bare_exponent_is_a_number_as_it_is_for_dvc(tmp_path: Path) -> None:
    text = COMMITTED.read_text()
    for written, ok in (("1e-4", True), ('"1e-4"', False)):
        file = tmp_path / "params.yaml"
        file.write_text(text.replace("lr: 0.0003", f"lr: {written}"))
        if ok:
            assert read_params(file).recipe("efficientnet_lite0").lr == 1e-4
        else:
            with pytest.raises(ParamsError, match=r"recipes\.efficientnet_lite0\.lr: .*number \(is '1e-4'\)"):
                read_params(file)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("recipes.mobilenet_v2.lrr", 1, r"unknown key recipes.mobilenet_v2.lrr: choose one of backbone, .*\blr\b"),
        ("recipes.mobilenet_v2.head.size", 1, r"unknown key \S*head.size: choose one of kind, hidden, dropout"),
        ("splits", {}, r"unknown key splits: choose one of .*\bsplit\b"),
        ("split.folds", "5", r"split.folds: .*integer \(is '5'\)"),
        ("split.folds", 1, r"split.folds: .*2 \(is 1\)"),
        ("split.folds", 2.5, r"split.folds: .*2.5"),
        ("split.use_given", "no", r"split.use_given: .*'no'"),
        ("split.test_size", 1.0, r"split.test_size: .*less than 1"),
        ("split.method", "random", r"split.method: .*'stratified', 'hash', 'leave_one_out' or 'clustered'"),
        ("split.method", "leave_one_out", r"split: method leave_one_out needs by: name the attribute"),
        (
            "split",
            {"method": "leave_one_out", "by": "forgery", "folds": 5},
            r"split: folds has no effect with method leave_one_out, .* \(`-S ~split.folds`\)",
        ),
        ("split.by", "forgery", r"split: by has no effect with method stratified: only leave_one_out reads it"),
        ("split.min_fakes", 20, r"split: min_fakes has no effect with method stratified"),
        ("recipes.mobilenet_v2.lr", float("inf"), r"lr: .*finite"),
        (
            "recipes.mobilenet_v2.backbone",
            "vgg",
            r"recipes.mobilenet_v2.backbone: 'vgg' is not one of .*wide_resnet50_2",
        ),
        ("split.embedding", "vgg", r"split.embedding: 'vgg' is not one of efficientnet_lite0, "),
        ("ladder.recipe", "vgg", r"ladder.recipe: 'vgg' is not one of efficientnet_lite0, "),
        ("backbones.mobilenet_v2.network", "keras:x", r"backbones.mobilenet_v2.network: .*torchvision\|timm"),
        ("backbones.mobilenet_v2.mean", [0.5, 0.5], r"mean"),
        ("backbones.mobilenet_v2.keep", "eyes", r"v2.keep: must be one of all, cls, mean, .* \(is 'eyes'\)"),
        (
            "backbones.mobilenet_v2.keep",
            {"rows": [3, 3], "columns": [0, 1]},
            r"v2.keep: must .* 0 <= FIRST < END \(is ",
        ),
        ("backbones.mobilenet_v2.cut", ["features.4"], r"v2.cut: a list names two or more modules, each once"),
        ("backbones.mobilenet_v2.cut", ["features.4", "input"], r"v2.cut: a list names two or more .* not `input`"),
        ("data.group", "(", r"data.group: must be a regular expression with \(\?P<group>"),
        ("data.group", "person", r"data.group: must be a regular expression with \(\?P<group>"),
        ("data.group", [], r"data.group: must be a regular expression .* or a list of such"),
        ("data.group", ["(?P<group>.)", "(?P<group2>.)"], r"data.group: must be a regular expression"),
        ("data.classes", {"real": 0, "fake": 2}, r"data.classes.fake: .*1 \(is 2\)"),
        ("data.classes", {}, r"data.classes: .*at least 1 item"),
        ("data.columns", {"pth": "x"}, r"unknown key data.columns.pth: choose one of path, label, group, split"),
        ("data.columns", {"group": ["a", 1]}, r"data.columns.group.*string \(is 1\)"),
        ("recipes.mobilenet_v2.class_weights", [1.0], r"class_weights"),
        ("recipes.mobilenet_v2.class_weights", "equal", r"class_weights.*'balanced'"),
        ("recipes.mobilenet_v2.ema", 1.0, r"ema: .*less than 1"),
        ("recipes.mobilenet_v2.clip_grad", 0.0, r"clip_grad: .*greater than 0"),
        ("recipes.mobilenet_v2.precision", "float16", r"precision: .*'float32', 'tf32' or 'bfloat16'"),
        ("recipes.mobilenet_v2.augment", ["spin"], r"augment: augment operation 'spin' is not one of hflip"),
        ("recipes.mobilenet_v2.augment", [{"jpeg": {"q": 3}}], r"augment operation jpeg: option 'q' is not one of p"),
        ("recipes.mobilenet_v2.trainable", "heads", r"trainable: choose all, head, norms, .* \(is 'heads'\)"),
        ("recipes.mobilenet_v2.trainable", {"last": 0}, r"trainable: choose all, head, norms, \{last: N\}"),
        ("recipes.mobilenet_v2.trainable", {"first": 1}, r"trainable: choose all, head, norms, \{last: N\}"),
        ("recipes.mobilenet_v2.trainable", [], r"trainable: choose .* or a list of patterns"),
        ("recipes.mobilenet_v2.tta", ["jpeg-0"], r"tta: .*strength of jpeg is a whole number"),
        ("recipes.mobilenet_v2.tta", ["crop-0.9", "crop-0.9"], r"tta: a view is named twice"),
        ("recipes.mobilenet_v2.lr_decay", 1.5, r"lr_decay: .*less than or equal to 1"),
        ("recipes.mobilenet_v2.head.drop_path", 1.0, r"drop_path: .*less than 1"),
        ("data.synthesise", -1, r"data.synthesise: .*0 \(is -1\)"),
        ("evaluate.robustness.levels", ["fog-3"], r"evaluate.robustness.levels: level 'fog-3' .*kinds: jpeg, resize, "),
        ("evaluate.robustness.levels", ["jpeg-30", "jpeg-0"], r"level 'jpeg-0': the strength .* 1 to 100 \(is "),
        (
            "evaluate.robustness.recipes",
            ["late_cut", "vgg"],
            r"evaluate.robustness.recipes: 'vgg' is not one of efficientnet_lite0, late_cut, ",
        ),
        ("evaluate.robustness", ["jpeg-30"], r"evaluate.robustness: .*"),
        ("evaluate.robustness.level", [], r"unknown key evaluate.robustness.level: choose one of recipes, levels"),
        (
            "evaluate.cross",
            {"wild": {"root": "w", "recipes": ["vgg"]}},
            r"evaluate.cross.wild.recipes: 'vgg' is not one of efficientnet_lite0, late_cut, ",
        ),
        ("evaluate.cross", {"wild": {"recipes": ["late_cut"]}}, r"evaluate.cross.wild.root: Field required"),
        ("evaluate.cross", {"a/b": {"root": "w", "recipes": []}}, r"evaluate.cross 'a/b': a name has letters"),
        ("evaluate.cross", {"wild": {"rot": "w"}}, r"unknown key evaluate.cross.wild.rot: choose one of root, layout"),
        ("evaluate.bootstrap", 99, r"evaluate.bootstrap: .*100 \(is 99\)"),
        ("recipes", {}, r"'late_cut' is not one of none"),
        ("recipes.a/b", {"backbone": "mobilenet_v2"}, r"recipe 'a/b': a name has"),
        ("backbones", 3, r"backbones: .*\(is 3\)"),
        ("recipes.mobilenet_v2.name", "x", r"unknown key recipes.mobilenet_v2.name: choose one of backbone, head"),
        ("backbones.mobilenet_v2.name", "x", r"unknown key backbones.mobilenet_v2.name: choose one of network, w"),
        ("recipes", {1: {"backbone": "mobilenet_v2"}}, r"recipes.1: a key must be text \(is 1\): put it in quotes"),
        ("backbones.mobilenet_v2.cut", date(2026, 1, 2), r"cut: must be text, .*date.* put it in quotes"),
        ("evaluate.robustness", 3, r"evaluate.robustness: Input should be a valid dictionary \(is 3\)"),
        ("recipes.mobilenet_v2.head.hidden", 3, r"head.hidden: Input should be a valid list \(is 3\)"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(tmp_path: Path, key: str, value: Any, says: str) -> None:
    file = changed(tmp_path, **{key: value})
    with pytest.raises(ParamsError, match=says) as caught:
        read_params(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (
            {"head": {"kind": "probe"}, "lr": 0.1},
            "recipes.new: lr has no effect on head probe, which is fitted at once",
        ),
        ({"head": {"kind": "knn"}, "seed": 1}, "recipes.new: seed has no effect on head knn"),
        (
            {"head": {"kind": "probe", "dropout": 0.1}},
            "head: dropout has no effect on kind probe, which reads kind, norm,",
        ),
        ({"head": {"kind": "attentive", "hidden": [8]}}, "recipes.new.head: hidden has no effect on kind attentive"),
        ({"head": {"kind": "linear", "sweep": 20}}, "recipes.new.head: sweep has no effect on kind linear"),
        ({"head": {"kind": "knn", "norm": "l2"}}, "recipes.new.head: norm l2 has no effect on the cosine"),
        (
            {"head": {"kind": "probe", "c_range": [2.0, 1.0]}},
            "head.c_range: the first number must not be above the second",
        ),
        ({"head": {"kind": "probe", "c_range": [0.0, 1.0]}}, "head.c_range"),
        ({"head": {"kind": "knn", "neighbours": 0}}, "head.neighbours"),
        ({"head": {"kind": "knn", "temperature": 0.0}}, "head.temperature"),
        (
            {"threshold": {"at": 0.05}},
            "recipes.new.threshold: at has no effect on rule youden: leave it out, or set rule: fpr",
        ),
        ({"threshold": {"rule": "fpr", "at": 0.0}}, "recipes.new.threshold.at: .*greater than 0"),
        ({"threshold": {"rule": "eer"}}, "recipes.new.threshold.rule: .*'youden', 'accuracy' or 'fpr'"),
        ({"abstain": {"error": 0.5}}, "recipes.new.abstain.error: .*less than 0.5"),
        ({"head": {"kind": "linear", "norm": "batch"}}, "head.norm.*'none', 'l2', 'layer' or 'standardise'"),
    ],
)
def test_a_head_refuses_what_has_no_effect_on_it(tmp_path: Path, recipe: dict[str, Any], says: str) -> None:
    with pytest.raises(ParamsError, match=says) as caught:
        read_params(changed(tmp_path, **{"recipes.new": {"backbone": "mobilenet_v2"} | recipe}))
    assert "\n" not in str(caught.value)


def test_heads_that_are_fitted_at_once_are_read(tmp_path: Path) -> None:
    probe = {"backbone": "mobilenet_v2", "head": {"kind": "probe", "c_range": [1e-4, 1.0], "norm": "l2"}, "folds": 3}
    recipe = read_params(changed(tmp_path, **{"recipes.new": probe})).recipe("new")
    assert (recipe.head.c_range, recipe.head.norm, recipe.rounds) == ((1e-4, 1.0), "l2", 20)
    knn = {"backbone": "mobilenet_v2", "head": {"kind": "knn", "norm": "l2", "distance": "euclidean"}, "views": "all"}
    assert read_params(changed(tmp_path, **{"recipes.new": knn})).recipe("new").rounds == 1


def test_the_ladder_needs_a_recipe_with_epochs(tmp_path: Path) -> None:
    ladder = {"recipes.late_cut": {"backbone": "mobilenet_v2", "head": {"kind": "knn"}}}
    with pytest.raises(ParamsError, match=r"ladder.recipe: late_cut has head knn, which is fitted at once"):
        read_params(changed(tmp_path, **ladder))


@pytest.mark.parametrize("none", [[], {}, {"levels": []}, {"recipes": []}])
def test_robustness_may_be_none(none: Any, tmp_path: Path) -> None:
    robustness = read_params(changed(tmp_path, **{"evaluate.robustness": none})).evaluate.robustness
    assert (robustness.recipes, robustness.levels) == ((), ())


@pytest.mark.parametrize(("key", "value"), [("recipes", ["late_cut"]), ("levels", ["jpeg-50"])])
def test_half_a_sweep_has_no_effect(key: str, value: list[str], tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=rf"evaluate.robustness: {key} has no effect without"):
        read_params(changed(tmp_path, **{"evaluate.robustness": {key: value}}))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: file.stem)
def test_the_presets_are_read(preset: Path) -> None:
    params = read_params(preset)
    assert set(params.evaluate.robustness.recipes) <= {*params.recipes, *params.ensembles}


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_names_that_metrics_files_have_are_no_recipes(tmp_path: Path, name: str) -> None:
    assert set(RESERVED_NAMES) == {"audit", "cross", "ladder", "plots", "protocol", "summary"}
    with pytest.raises(ParamsError, match=f"recipe '{name}'"):
        read_params(changed(tmp_path, **{f"recipes.{name}": {"backbone": "mobilenet_v2"}}))


def test_unknown_names_asked_for_list_the_valid_ones() -> None:
    params = read_params(COMMITTED)
    with pytest.raises(
        ParamsError, match=r"backbone 'vgg' .* efficientnet_lite0, late_cut, mobilenet_v2, wide_resnet50_2"
    ):
        params.backbone("vgg")
    with pytest.raises(ParamsError, match=r"recipe 'vgg' .* mobilenet_v2"):
        params.recipe("vgg")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"seed: [", "not readable as YAML"),
        (b"seed: 0\nseed: 1", "duplicate key"),
        (b"seed: \xff", "not readable as YAML"),
        (b"- 1", "no mapping"),
        (b"", "no mapping"),
    ],
)
def test_files_that_are_no_params(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "params.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ParamsError, match=says) as caught:
        read_params(file)
    assert "params.yaml: " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"optimizer": {"decayed": "weights"}}, "optimizer.decayed: has no effect without optimizer.weight_decay"),
        ({"folds": 1, "calibration": "pair"}, "calibration: has no effect with `folds: 1`"),
        ({"trainable": "head", "lr_decay": 0.5}, "lr_decay: has no effect with `trainable: head`"),
        ({"trainable": "head", "loss": {"alignment": 0.1}}, "loss: has no effect with `trainable: head`"),
        ({"head": {"kind": "attentive"}, "trainable": "norms"}, "trainable: has no effect on head attentive"),
        ({"head": {"kind": "transformer"}, "loss": {"uniformity": 0.5}}, "loss: has no effect on head transformer"),
        (
            {"loss": {"alignment": 0.1}, "mix": {"mixup": 0.2}},
            "loss.alignment: compares images of one class, and `mix`",
        ),
        ({"loss": {"alignment": 0.1}, "batch_size": 1}, "loss: compares the images of a batch"),
        ({"pairing": "group", "batch_size": 31}, "pairing: a batch_size of 31 would part couples: make it even"),
    ],
)
def test_a_setting_of_training_without_effect_is_an_error(tmp_path: Path, recipe: dict[str, Any], says: str) -> None:
    file = changed(tmp_path, **{"recipes.mobilenet_v2": {"backbone": "mobilenet_v2"} | recipe})
    with pytest.raises(ParamsError, match=f"recipes.mobilenet_v2: {says}"):
        read_params(file)


@pytest.mark.parametrize(
    ("cut", "keep", "says"),
    [
        ("input", "mean", "keep: mean: `cut: input` stores images, which are kept whole"),
        (
            ["features.4", "features.8"],
            "patches",
            "keep: patches: of several cuts, pooled features are kept: all, cls, ",
        ),
        (["features.4", "features.8"], {"grid": 2}, "of several cuts, pooled features are kept"),
    ],
)
def test_a_backbone_refuses_what_cannot_be_kept_at_its_cut(tmp_path: Path, cut: Any, keep: Any, says: str) -> None:
    backbone = {"network": "timm:test_vit", "weights": "random", "cut": cut, "keep": keep}
    with pytest.raises(ParamsError, match=f"backbones.new.*{says}") as caught:
        read_params(changed(tmp_path, **{"backbones.new": backbone}))
    assert "\n" not in str(caught.value)
