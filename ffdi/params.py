"""params.yaml, typed. The sole reader of YAML: ruamel reads it as DVC does, so `1e-4` is a number."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ffdi.errors import ParamsError
from ffdi.evaluation.headline import RESERVED_NAMES
from ffdi.features import backbone as backbone_module
from ffdi.features.views import parse_level, resolve_policy
from ffdi.intake.archives import unpacked
from ffdi.intake.groups import group_names
from ffdi.intake.listing.layouts import READ_BY_ALL, READS, Layout
from ffdi.tails import recipe as recipe_module
from ffdi.tails.augment_operations import resolve_augment

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
Cosine = Annotated[float, Field(gt=0.0, le=1.0)]
Triple = tuple[float, float, float]


class Section(BaseModel):
    """Unknown keys are errors, a string is never read as a number, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _tuples_come_as_lists(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Demo(Section):
    identities: Annotated[int, Field(ge=6)] = 90
    seed: NonNegative = 0


class Columns(Section):
    """What a table calls its columns; a role that is not named stands under its own name, if at all."""

    path: str | None = None
    label: str | None = None
    group: str | tuple[str, ...] | None = None
    split: str | None = None


class Data(Section):
    root: str
    layout: Literal["imagefolder", "multi_ffdi", "csv"] = "csv"
    table: str = "labels.csv"
    columns: Columns = Columns()
    classes: Annotated[dict[str, Annotated[int, Field(ge=0, le=1)]], Field(min_length=1)] | None = None
    group: str | tuple[str, ...] | None = None
    max_ungrouped: Fraction = 0.05
    limit: Positive | None = None
    exclude: tuple[str, ...] | None = None
    max_pixels: Positive = 50_000_000
    max_rejected: Fraction = 0.01
    synthesise: NonNegative = 0
    unread: ClassVar[frozenset[str]] = frozenset()  # of what all layouts read

    @property
    def name(self) -> str:
        """What figures call this data set: its folder, or its archive without the suffixes."""
        return re.sub(r"(\.(zip|tar|t?gz|bz2|xz))+$", "", Path(self.root).name)

    def folder(self, override: Path | None = None) -> Path:
        """The folder of images: `override`, else `root`; of an archive, the folder that it is unpacked to, once."""
        root = override or resolve_path(self.root)
        return unpacked(root) if root.is_file() else root

    def as_layout(self) -> Layout:
        """How the data set is laid out, as the library takes it."""
        columns = {role: names for role, names in self.columns if names}
        return Layout(
            self.layout, self.table, self.classes, self.group, self.max_ungrouped, self.limit, columns, self.exclude
        )

    @field_validator("classes", mode="before")
    @classmethod
    def _names_may_be_numbers(cls, value: Any) -> Any:
        """In YAML, 0 and true are no strings; in a table of labels they are."""
        return {str(k) if isinstance(k, int) else k: v for k, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _each_setting_has_an_effect(self) -> Data:
        written = {key for key in self.model_fields_set if getattr(self, key)}  # null, 0 and [] ask for nothing
        reads = {*READ_BY_ALL, *READS[self.layout], "recipes"} - self.unread
        if idle := sorted(written - reads):
            choose = ", ".join(key for key in type(self).model_fields if key in reads)
            raise ValueError(f"{idle[0]} has no effect with layout {self.layout}, which reads {choose}: leave it out")
        if "max_ungrouped" in self.model_fields_set and not self.group:
            raise ValueError("max_ungrouped has no effect without group: leave it out")
        return self

    @field_validator("group")
    @classmethod
    def _names_a_group(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        patterns = (value,) if isinstance(value, str) else value
        try:
            named = patterns is None or (bool(patterns) and all("group" in group_names(p) for p in patterns))
        except re.error:
            named = False
        if not named:
            raise ValueError("must be a regular expression with (?P<group>...), or a list of such")
        return value


class Split(Section):
    method: Literal["stratified", "hash"] = "stratified"
    test_size: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    folds: Annotated[int, Field(ge=2)] = 5
    stratify_by: str | None = None
    use_given: bool = True
    two_sources: Literal["join", "drop"] = "join"
    phash_bits: Annotated[int, Field(ge=0, le=32)] = 6
    embedding: str = "efficientnet_lite0"
    use_embedding: bool = False
    min_cosine: Cosine = 0.95
    find_copies: bool = False
    seed: NonNegative = 0


class Audit(Section):
    fail: bool = True
    phash_bits: Annotated[int, Field(ge=0, le=32)] = 6
    find_copies: bool = True
    use_embedding: bool = False
    min_cosine: Cosine = 0.95


class Views(Section):
    count: Annotated[int, Field(ge=0, le=255)] = 0
    policy: str | tuple[str | dict[str, Any], ...] = "none"
    seed: NonNegative = 0


class Backbone(Section):
    network: Annotated[str, Field(pattern=r"^(torchvision|timm):[A-Za-z0-9_.]+$")]
    weights: str
    cut: str
    image_size: Annotated[int, Field(ge=8, le=4096)] = 224
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    views: Views = Views()
    dtype: Literal["float16", "float32", "int8"] = "float16"
    runtime: Literal["auto", "onnxruntime", "torch"] = "auto"
    precision: Literal["float32", "tf32", "float16", "bfloat16"] = "float32"
    compile: bool = False
    decoder: Literal["pillow", "nvjpeg"] = "pillow"
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"


class Head(Section):
    kind: Literal["linear", "mlp", "transformer"] = "mlp"
    hidden: tuple[Positive, ...] = (512, 256)
    dropout: Fraction = 0.0
    depth: Positive = 2
    heads: Positive = 4
    width: Positive = 128
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class Optimizer(Section):
    name: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    momentum: Fraction | None = None


class Schedule(Section):
    name: Literal["none", "step", "cosine"] = "none"
    size: Positive = 1
    gamma: PositiveFloat = 0.1
    warmup: NonNegative = 0


class Mix(Section):
    mixup: Annotated[float, Field(ge=0.0)] = 0.0
    cutmix: Annotated[float, Field(ge=0.0)] = 0.0


class Recipe(Section):
    backbone: str
    head: Head = Head()
    folds: Literal["all"] | Positive = "all"
    views: Literal["sample", "all"] = "sample"
    epochs: Positive = 10
    patience: Positive | None = None
    batch_size: Positive = 64
    optimizer: Optimizer = Optimizer()
    lr: PositiveFloat = 1e-4
    schedule: Schedule = Schedule()
    l1: Annotated[float, Field(ge=0.0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    class_weights: Literal["balanced"] | tuple[PositiveFloat, PositiveFloat] | None = None
    clip_grad: PositiveFloat | None = None
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    mix: Mix = Mix()
    augment: tuple[str | dict[str, Any], ...] = ()
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    seed: NonNegative = 0

    @field_validator("augment")
    @classmethod
    def _known_operations(cls, value: tuple[str | dict[str, Any], ...]) -> tuple[str | dict[str, Any], ...]:
        try:
            resolve_augment(value)
        except ParamsError as error:
            raise ValueError(str(error)) from None
        return value


class Train(Section):
    memory_gb: PositiveFloat = 8.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = True


class Extract(Section):
    engine: Literal["local"] = "local"
    workers: Literal["auto"] | Positive = "auto"
    shard_rows: Positive = 4096
    compression: Literal["none", "bitshuffle-lz4"] = "none"


class Robustness(Section):
    recipes: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()

    @field_validator("levels")
    @classmethod
    def _known_levels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for level in value:
                parse_level(level)
        except ParamsError as error:
            raise ValueError(str(error)) from None
        return value


class Foreign(Data):
    """Another data set, to test these recipes on: nothing is trained there, so nothing is synthesised."""

    recipes: tuple[str, ...]
    unread: ClassVar[frozenset[str]] = frozenset({"synthesise"})


class Evaluate(Section):
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    robustness: Robustness = Robustness()
    cross: dict[str, Foreign] = {}

    @field_validator("robustness", mode="before")
    @classmethod
    def _none_may_be_empty(cls, value: Any) -> Any:
        return {} if value in ((), []) else value


class Ladder(Section):
    recipe: str = "efficientnet_lite0"
    backbone: str = "efficientnet_lite0"  # the recipe's: dvc.yaml cannot look it up
    folds: Annotated[int, Field(ge=2)] = 2
    epochs: Positive | None = None
    seeds: Positive = 1


class Params(Section):
    """The whole of params.yaml."""

    seed: NonNegative = 0
    demo: Demo = Demo()
    data: Data
    split: Split = Split()
    audit: Audit = Audit()
    backbones: dict[str, Backbone]
    recipes: dict[str, Recipe]
    train: Train = Train()
    extract: Extract = Extract()
    evaluate: Evaluate = Evaluate()
    ladder: Ladder = Ladder()

    @model_validator(mode="after")
    def _names_exist(self) -> Params:
        named = (("backbone", self.backbones), ("recipe", self.recipes), ("evaluate.cross", self.evaluate.cross))
        for kind, names in named:
            for name in names:
                if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                    raise ValueError(f"{kind} {name!r}: a name has letters, digits, _ and - only")
        for name in self.recipes:
            if name in RESERVED_NAMES:
                raise ValueError(f"recipe {name!r}: {', '.join(RESERVED_NAMES)} are no recipe names")
        references: list[tuple[str, str, dict[str, Any]]] = [
            *((f"recipes.{n}.backbone", r.backbone, self.backbones) for n, r in self.recipes.items()),
            ("split.embedding", self.split.embedding, self.backbones),
            ("ladder.recipe", self.ladder.recipe, self.recipes),
            *(("evaluate.robustness.recipes", name, self.recipes) for name in self.evaluate.robustness.recipes),
            *(
                (f"evaluate.cross.{key}.recipes", name, self.recipes)
                for key, foreign in self.evaluate.cross.items()
                for name in foreign.recipes
            ),
        ]
        for place, wanted, known in references:
            if wanted not in known:
                raise ValueError(f"{place}: {wanted!r} is not one of {', '.join(known) or 'none'}")
        if self.ladder.backbone != (due := self.recipes[self.ladder.recipe].backbone):
            raise ValueError(f"ladder.backbone: is {self.ladder.backbone!r}, recipe {self.ladder.recipe} has {due!r}")
        return self

    def root(self, override: Path | None = None) -> Path:
        """The folder of the images that are trained on, see Data.folder."""
        return self.data.folder(override)

    def weights_file(self, backbone: str) -> Path:
        """Where the weights stage puts a backbone's weights by default."""
        return Path(f"data/weights/{backbone}.safetensors")

    def backbone(self, name: str) -> backbone_module.Backbone:
        """The backbone `name` as the library takes it; ParamsError lists the valid names."""
        fields = _pick("backbone", name, self.backbones).model_dump()
        chosen = backbone_module.Backbone(name=name, **fields | {"views": backbone_module.Views(**fields["views"])})
        resolve_policy(chosen.views.policy)  # an unknown operation is an error before anything is computed
        return chosen

    def recipe(self, name: str) -> recipe_module.Recipe:
        """The recipe `name` as the library takes it; ParamsError lists the valid names."""
        fields = _pick("recipe", name, self.recipes).model_dump()
        kinds = {
            "head": recipe_module.Head,
            "optimizer": recipe_module.Optimizer,
            "schedule": recipe_module.Schedule,
            "mix": recipe_module.Mix,
        }
        return recipe_module.Recipe(name=name, **fields | {key: kind(**fields[key]) for key, kind in kinds.items()})


def _pick(kind: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise ParamsError(f"{kind} {name!r} is not in params: choose one of {', '.join(known)}")
    return known[name]


def main_checkout() -> Path:
    """The folder that relative paths of params start from: the checkout itself, also under `dvc exp run --temp`.

    DVC runs such experiments in a copy below .dvc/tmp/exps of the checkout.
    """
    here = Path.cwd()
    for folder in here.parents:
        if folder.name == "exps" and folder.parts[-3:-1] == (".dvc", "tmp"):
            return folder.parents[2]
    return here


def resolve_path(path: str) -> Path:
    """A path of params: from here where it exists here (a stage's output), else from the main checkout."""
    return Path(path) if Path(path).exists() else main_checkout() / path


def read_params(file: Path) -> Params:
    """Read and check params.yaml; ParamsError names file, key, value and rule on one line.

    In a stage that DVC runs, keys that dvc.yaml names must stand in the file: see _refuse_what_dvc_misses.
    """
    raw = _read_yaml(file)
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(f"{file}: {'; '.join(_problem(dict(e)) for e in error.errors())}") from None
    pipeline = file.with_name("dvc.yaml")
    if "DVC_STAGE" in os.environ and pipeline.exists():  # DVC sets it for every command that it runs
        _refuse_what_dvc_misses(file, raw, params, _read_yaml(pipeline))
    return params


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        raw = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ParamsError(f"{file}: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{file}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ParamsError(f"{file}: holds no mapping of sections")
    return raw


def _refuse_what_dvc_misses(file: Path, raw: dict[str, Any], params: Params, pipeline: dict[str, Any]) -> None:
    """ParamsError with the lines to add, where a stage of dvc.yaml names keys that have a default but are not in `raw`.

    DVC reads the file without our defaults and ends at the first such stage, perhaps after hours of training. So the
    first stage that runs ends instead, before it computes anything.
    """
    missing: dict[str, dict[str, str]] = {}  # section -> its absent keys and their defaults; of a plain value none
    for key in _keys_of(pipeline):
        section, _, rest = key.partition(".")
        if rest and rest not in raw.get(section, ()):
            missing.setdefault(section, {})[rest] = _as_yaml(getattr(getattr(params, section), rest))
        elif section not in raw:
            missing.setdefault(section, {})
    lines = []
    for section, keys in missing.items():
        inner = ", ".join(f"{key}: {value}" for key, value in keys.items())
        whole = f"{{{inner}}}" if isinstance(getattr(params, section), Section) else _as_yaml(getattr(params, section))
        lines.append(f"`{inner}` to {section}" if section in raw else f"`{section}: {whole}`")
    if lines:
        known = "DVC, which does not know the defaults, misses what dvc.yaml names"
        raise ParamsError(f"{file}: {known}: add {', '.join(lines)}")


def _keys_of(pipeline: dict[str, Any]) -> list[str]:
    """The keys of params.yaml that the stages of dvc.yaml name, each once; those with ${...} DVC looks up itself."""
    bodies = [stage.get("do", stage) for stage in pipeline["stages"].values()]
    keys = (key for body in bodies for key in body.get("params", ()) if isinstance(key, str))
    return list(dict.fromkeys(key for key in keys if "${" not in key))


def _as_yaml(value: Any) -> str:
    return "{}" if isinstance(value, Section) else json.dumps(value)


def _keys_beside(place: tuple[int | str, ...]) -> list[str]:
    """The keys that the section of an unknown one may have."""
    section: Any = Params
    for part in place[:-1]:
        section = get_args(section)[1] if get_origin(section) is dict else section.model_fields[part].annotation
    return list(section.model_fields)


def _problem(error: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    rule = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"unknown key {place}: choose one of {', '.join(_keys_beside(error['loc']))}"
    value = "" if isinstance(error["input"], dict | Params) else f" (is {error['input']!r})"
    return f"{place}: {rule}{value}" if place else rule
