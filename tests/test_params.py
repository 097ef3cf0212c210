"""params.yaml: what is read, what is refused, and the error messages."""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from ffdi import params as params_module
from ffdi.errors import ParamsError
from ffdi.evaluation.headline import RESERVED_NAMES
from ffdi.intake.listing.layouts import READ_BY_ALL, READS
from ffdi.params import Data, Foreign, main_checkout, read_params, resolve_path

COMMITTED = Path(__file__).parents[1] / "params.yaml"


def changed(folder: Path, **changes: Any) -> Path:
    """The committed params with some keys changed, named as `-S` names them: {"recipes.x.lr": "1e-4"}."""
    tree = YAML(typ="safe", pure=True).load(COMMITTED)
    for key, value in changes.items():
        *way, last = key.split(".")
        section = tree
        for part in way:
            section = section[part]
        section[last] = value
    file = folder / "params.yaml"
    YAML(typ="safe", pure=True).dump(tree, file)
    return file


def test_the_committed_params_are_read() -> None:
    params = read_params(COMMITTED)
    assert params.data.layout == "csv"
    assert params.recipe("mobilenet_v2").lr == 1e-4
    backbone = params.backbone("mobilenet_v2")
    assert (backbone.cut, backbone.views.count, backbone.mean) == ("features.16", 2, (0.485, 0.456, 0.406))
    assert params.weights_file("mobilenet_v2") == Path("data/weights/mobilenet_v2.safetensors")
    assert params.root(Path("elsewhere")) == Path("elsewhere")
    for name, recipe in params.recipes.items():
        assert (params.recipe(name).name, params.recipe(name).lr) == (name, recipe.lr)


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
        ("split.method", "random", r"split.method: .*'stratified' or 'hash'"),
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
    ],
)
def test_what_is_wrong_is_said_on_one_line(tmp_path: Path, key: str, value: Any, says: str) -> None:
    file = changed(tmp_path, **{key: value})
    with pytest.raises(ParamsError, match=says) as caught:
        read_params(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


# A value of each key of `data` that asks for something.
ASKS: dict[str, Any] = {
    "root": "x",
    "layout": "csv",
    "table": "labels.csv",
    "columns": {"path": "file"},
    "classes": {"a": 0},
    "group": "(?P<group>.)",
    "max_ungrouped": 0.2,
    "limit": 3,
    "exclude": ["masks"],
    "max_pixels": 9,
    "max_rejected": 0.5,
    "synthesise": 1,
}


@pytest.mark.parametrize("section", [Data, Foreign], ids=lambda section: section.__name__)
@pytest.mark.parametrize("layout", list(READS))
def test_a_setting_that_has_no_effect_is_an_error(layout: str, section: type[Data]) -> None:
    assert set(ASKS) == set(Data.model_fields)  # a new key: say in READS which layouts read it
    for key, value in ASKS.items():
        data = {"root": "x", key: value} | {"layout": layout}
        if key == "max_ungrouped":
            with pytest.raises(ValidationError, match="max_ungrouped has no effect without group: leave it out"):
                section.model_validate(data | ({"recipes": []} if section is Foreign else {}))
            data["group"] = ASKS["group"]
        if section is Foreign:
            data["recipes"] = ["late_cut"]
        if key in (*READ_BY_ALL, *READS[layout]) and (section, key) != (Foreign, "synthesise"):
            assert key in section.model_validate(data).model_fields_set
        else:
            with pytest.raises(ValidationError, match=rf"{key} has no effect with layout {layout}, which reads root, "):
                section.model_validate(data)


@pytest.mark.parametrize(
    ("key", "place"),
    [("data", "data"), ("evaluate.cross", "evaluate.cross.away")],
)
def test_a_setting_that_has_no_effect_is_said_with_its_place(tmp_path: Path, key: str, place: str) -> None:
    data = {"root": "x", "layout": "imagefolder", "table": "labels.csv"}
    file = changed(tmp_path, **{key: data if key == "data" else {"away": data | {"recipes": ["late_cut"]}}})
    with pytest.raises(ParamsError) as caught:
        read_params(file)
    says = rf"{place}: table has no effect with layout imagefolder, which reads (root, .*): leave it out"
    found = re.fullmatch(rf"{re.escape(str(file))}: {says}", str(caught.value))
    assert found and "table" not in found[1] and ("synthesise" in found[1]) == (key == "data")


def test_what_asks_for_nothing_needs_no_effect() -> None:
    nothing = {"root": "x", "layout": "multi_ffdi", "classes": None, "group": None, "limit": None, "synthesise": 0}
    assert Data.model_validate(nothing | {"max_pixels": 9}).classes is None
    assert Foreign.model_validate(nothing | {"recipes": []}).synthesise == 0


def test_every_layout_says_what_it_reads() -> None:
    assert set(READS) == set(get_args(Data.model_fields["layout"].annotation))
    text = COMMITTED.with_name("docs").joinpath("data.md").read_text()
    keys = [key for key in Data.model_fields if key not in READ_BY_ALL]
    rows = [f"| `{key}` | {' | '.join('yes' if key in reads else '' for reads in READS.values())} |" for key in keys]
    for row in (f"| key of `data` | {' | '.join(f'`{name}`' for name in READS)} |", *rows):
        assert row in text, row


def test_the_settings_of_a_layout_reach_it() -> None:
    columns = {"path": "file", "group": ["a", "b"], "split": None}
    data = {"root": "x", "columns": columns, "classes": {0: 1, True: 0, "x": 1}, "table": "t.csv", "limit": 2}
    layout = Data.model_validate(data).as_layout()
    assert (layout.columns, layout.classes) == ({"path": "file", "group": ("a", "b")}, {"0": 1, "True": 0, "x": 1})
    assert (layout.name, layout.table, layout.group, layout.limit) == ("csv", "t.csv", None, 2)


@pytest.mark.parametrize(
    ("root", "name"),
    [("data/demo", "demo"), ("/faces/v1.2/", "v1.2"), ("../set.tar.gz", "set"), ("a/zip", "zip"), ("x.v2.tgz", "x.v2")],
)
def test_a_data_set_is_called_by_its_folder_or_archive(root: str, name: str, tmp_path: Path) -> None:
    assert read_params(changed(tmp_path, **{"data.root": root})).data.name == name


@pytest.mark.parametrize("none", [[], {}, {"levels": []}, {"recipes": []}])
def test_robustness_may_be_none(none: Any, tmp_path: Path) -> None:
    robustness = read_params(changed(tmp_path, **{"evaluate.robustness": none})).evaluate.robustness
    assert (robustness.recipes, robustness.levels) == ((), ())


@pytest.mark.parametrize("preset", sorted((COMMITTED.parent / "presets").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_presets_are_read(preset: Path) -> None:
    params = read_params(preset)
    assert set(params.evaluate.robustness.recipes) <= set(params.recipes)


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_names_that_metrics_files_have_are_no_recipes(tmp_path: Path, name: str) -> None:
    assert set(RESERVED_NAMES) == {"audit", "cross", "ladder", "plots", "summary"}
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


def test_relative_paths_start_from_the_main_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tmp_path / "repo" / ".dvc" / "tmp" / "exps" / "standalone" / "tmpx1"
    experiment.mkdir(parents=True)
    (tmp_path / "repo" / "faces").mkdir()
    monkeypatch.chdir(tmp_path / "repo")
    assert main_checkout() == tmp_path / "repo"
    monkeypatch.chdir(experiment)  # where `dvc exp run --temp` works
    assert main_checkout() == tmp_path / "repo"
    assert resolve_path("faces") == tmp_path / "repo" / "faces"
    (experiment / "faces").mkdir()  # a stage's output is here, though
    assert resolve_path("faces").resolve() == experiment / "faces"
    assert resolve_path("/abs/faces") == Path("/abs/faces")


def keys_in(tree: dict[str, Any], key: str) -> bool:
    section: Any = tree
    for part in key.split("."):
        if not isinstance(section, dict) or part not in section:
            return False
        section = section[part]
    return True


def without(tree: dict[str, Any], key: str) -> dict[str, Any]:
    changed = copy.deepcopy(tree)
    *way, last = key.split(".")
    section = changed
    for part in way:
        section = section[part]
    del section[last]
    return changed


YAML_FILE = YAML(typ="safe", pure=True)
PIPELINE = YAML_FILE.load(COMMITTED.with_name("dvc.yaml"))["stages"]
BODIES = [stage.get("do", stage) for stage in PIPELINE.values()]
TRACKED = sorted({key for body in BODIES for key in body.get("params", ()) if "$" not in key})
# DVC itself looks these up in params.yaml when it reads dvc.yaml, and says which it does not find before it runs anything
LOOKED_UP = sorted(set(re.findall(r"\$\{(?!key|item)([\w.]+)\}", COMMITTED.with_name("dvc.yaml").read_text())))
REQUIRED = ("backbones", "data", "data.root", "recipes")


def pipeline_params(folder: Path, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml beside the pipeline's dvc.yaml, in a stage that DVC runs."""
    shutil.copy(COMMITTED.with_name("dvc.yaml"), folder)
    monkeypatch.setenv("DVC_STAGE", "weights@late_cut")
    with open(folder / "params.yaml", "w") as file:
        YAML_FILE.dump(tree, file)
    return folder / "params.yaml"


@pytest.mark.parametrize("key", [key for key in TRACKED if key not in REQUIRED])
def test_a_key_that_dvc_would_miss_is_refused_with_the_line_to_add(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else DVC ends at the first stage that names it, "Parameters ... are missing", after all that was computed before."""
    tree = without(YAML_FILE.load(COMMITTED), key)
    for section, reference in (("split", "embedding"), ("ladder", "recipe"), ("ladder", "backbone")):
        if key == section:  # DVC looks these up, see LOOKED_UP
            tree.setdefault(section, {})[reference] = "late_cut"
    by_hand = tmp_path / "by_hand.yaml"
    YAML_FILE.dump(tree, by_hand)
    read_params(by_hand)  # with the defaults
    file = pipeline_params(tmp_path, tree, monkeypatch)
    if all(keys_in(tree, tracked) for tracked in TRACKED):
        read_params(file)
        return
    with pytest.raises(ParamsError, match=r"dvc\.yaml names") as caught:
        read_params(file)
    assert "\n" not in str(caught.value)
    lines = re.findall(r"`([^`]+)`(?: to (\w+))?", str(caught.value))
    for line, section in lines:
        (tree[section] if section else tree).update(YAML_FILE.load(line))
    assert all(keys_in(tree, tracked) for tracked in TRACKED)  # what DVC wants
    read_params(pipeline_params(tmp_path, tree, monkeypatch))


@pytest.mark.parametrize("key", REQUIRED)
def test_a_key_without_default_is_required(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match=rf"{re.escape(key)}: Field required"):
        read_params(pipeline_params(tmp_path, without(YAML_FILE.load(COMMITTED), key), monkeypatch))


@pytest.mark.parametrize("key", LOOKED_UP)
def test_a_key_that_dvc_looks_up_is_named_before_anything_runs(key: str, tmp_path: Path) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    for name in (".dvc/config", "dvc.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(COMMITTED.parent / name, tmp_path / name)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    with open(tmp_path / "params.yaml", "w") as file:
        YAML_FILE.dump(without(YAML_FILE.load(COMMITTED), key), file)
    with pytest.raises(DvcException) as caught, Repo(str(tmp_path)) as repo:
        len(repo.index.stages)
    assert f"Could not find '{key}'" in str(caught.value)
    assert key in (COMMITTED.parent / "docs" / "params.md").read_text()


def test_readmes_data_block_is_all_that_dvc_wants_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = COMMITTED.with_name("README.md").read_text()
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if text.startswith("data:"))
    tree = YAML_FILE.load(COMMITTED) | YAML_FILE.load(block)
    assert all(keys_in(tree, key) for key in TRACKED)
    assert read_params(pipeline_params(tmp_path, tree, monkeypatch)).data.layout == "imagefolder"


@pytest.mark.parametrize(
    "file", [COMMITTED, *sorted((COMMITTED.parent / "presets").glob("*.yaml"))], ids=lambda f: f.stem
)
def test_our_own_params_have_every_key_that_dvc_wants(file: Path) -> None:
    tree = YAML_FILE.load(file)
    assert all(keys_in(tree, key) for key in [*TRACKED, *LOOKED_UP])


# Whoever leaves a key out has its default in every figure, and DVC cannot see that it changed: it reruns nothing. So a
# default stands; to change what the demo or a preset does, write the key there.
DEFAULTS: dict[str, dict[str, Any]] = {
    "Demo": {"identities": 90, "seed": 0},
    "Data": {
        "layout": "csv",
        "table": "labels.csv",
        "group": None,
        "limit": None,
        "exclude": None,
        "max_pixels": 50000000,
        "max_rejected": 0.01,
        "synthesise": 0,
    },
    "Split": {
        "method": "stratified",
        "test_size": 0.2,
        "folds": 5,
        "stratify_by": None,
        "use_given": True,
        "phash_bits": 6,
        "embedding": "efficientnet_lite0",
        "use_embedding": False,
        "min_cosine": 0.95,
        "find_copies": False,
        "seed": 0,
    },
    "Audit": {"fail": True, "phash_bits": 6, "find_copies": True, "use_embedding": False, "min_cosine": 0.95},
    "Views": {"count": 0, "policy": "none", "seed": 0},
    "Backbone": {
        "image_size": 224,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "dtype": "float16",
        "runtime": "auto",
        "precision": "float32",
        "compile": False,
        "decoder": "pillow",
    },
    "Head": {
        "kind": "mlp",
        "hidden": (512, 256),
        "dropout": 0.0,
        "depth": 2,
        "heads": 4,
        "width": 128,
        "drop_path": 0.0,
    },
    "Optimizer": {"name": "adam", "weight_decay": 0.0, "momentum": None},
    "Schedule": {"name": "none", "size": 1, "gamma": 0.1, "warmup": 0},
    "Mix": {"mixup": 0.0, "cutmix": 0.0},
    "Recipe": {
        "folds": "all",
        "views": "sample",
        "epochs": 10,
        "patience": None,
        "batch_size": 64,
        "lr": 0.0001,
        "l1": 0.0,
        "label_smoothing": 0.0,
        "class_weights": None,
        "clip_grad": None,
        "ema": None,
        "augment": (),
        "precision": "float32",
        "seed": 0,
    },
    "Train": {"memory_gb": 8.0, "device": "auto"},
    "Extract": {"engine": "local", "workers": "auto", "shard_rows": 4096, "compression": "none"},
    "Evaluate": {"bootstrap": 2000, "cross": {}},
    "Ladder": {
        "recipe": "efficientnet_lite0",
        "backbone": "efficientnet_lite0",
        "folds": 2,
        "epochs": None,
        "seeds": 1,
    },
}


def test_defaults_stand() -> None:
    for name, due in DEFAULTS.items():
        fields = getattr(params_module, name).model_fields
        assert {key: fields[key].default for key in due} == due, name
    assert params_module.Params.model_fields["seed"].default == 0
