"""Read and check params.yaml. The sole reader of YAML and user of pydantic: ruamel reads `1e-4` as a number, as DVC does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ffdi.bounds import Rule, entry_of, section_of
from ffdi.errors import FfdiError, ParamsError
from ffdi.evaluation.settings import EvaluateSettings, Robustness
from ffdi.intake.settings import DataSettings, SplitSettings
from ffdi.params.schema import Params
from ffdi.tails.policy_settings import ThresholdRule
from ffdi.tails.recipe import Head, Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.urls import shown

# Unknown keys are errors, a string is never read as a number, and nothing changes after reading.
CONFIG = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
_ROOT = ("data", "root")
# Settings that have a rule for which of their keys are written
_CHECKED = (DataSettings, SplitSettings, Head, Recipe, ThresholdRule, EvaluateSettings, Robustness, TrainSettings)
# What pydantic says of types in JSON's words, in those of YAML
_MESSAGES = {
    "dataclass_type": "Input should be a valid dictionary",
    "dict_type": "Input should be a valid dictionary",
    "tuple_type": "Input should be a valid list",
}


def read_params(file: Path) -> Params:
    """Read and check params.yaml; ParamsError names file, key, value and rule on one line.

    In a stage that DVC runs, keys that dvc.yaml names must stand in the file: see _refuse_what_dvc_misses.
    """
    raw = _read_yaml(file)
    try:
        params = _checked(raw)
    except ParamsError as error:
        raise ParamsError(f"{file}: {error}") from None
    pipeline = file.with_name("dvc.yaml")
    if "DVC_STAGE" in os.environ and pipeline.exists():  # DVC sets it for every command that it runs
        _refuse_what_dvc_misses(file, raw, params, _read_yaml(pipeline))
    return params


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        raw = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        cure = "run in the folder that has it, or name it with --params"
        raise ParamsError(f"{file}: {error.strerror}: {cure}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{file}: not readable as YAML: {shown(' '.join(str(error).split()))}") from error
    if not isinstance(raw, dict):
        raise ParamsError(f"{file}: holds no mapping of sections: start from a file of presets/")
    return raw


def _checked(raw: dict[str, Any]) -> Params:
    """The params of a file's content; ParamsError says everything that is wrong, or the first wrong name."""
    try:
        params = _validator().validate_json(json.dumps(_as_json(raw)))
    except ValidationError as error:
        raise ParamsError("; ".join(_problems([dict(e) for e in error.errors()]))) from None
    if broken := list(_broken_rules(params, raw)):
        raise ParamsError("; ".join(broken))
    params.check_names()
    return params


@cache
def _validator() -> TypeAdapter[Params]:
    """pydantic's validator of the schema. It reads JSON, where a strict validator takes a list for a tuple."""
    return TypeAdapter(with_config(CONFIG)(Params))


def _as_json(value: Any, *place: str) -> Any:
    """A value of YAML as the validator takes it; ParamsError for what JSON has not.

    The entries of `backbones`, `recipes` and `ensembles` get their names, the names of classes may be numbers, and an empty list is
    no sweep over robustness.
    """
    if isinstance(value, dict):
        section = {_key(key, place): _as_json(inner, *place, str(key)) for key, inner in value.items()}
        if len(place) == 2 and place[0] in ("backbones", "recipes", "ensembles"):
            if "name" in section:
                raise ParamsError(_unknown_key((*place, "name")))
            section["name"] = place[1]
        return section
    if isinstance(value, list):
        return {} if place == ("evaluate", "robustness") and not value else [_as_json(inner, *place) for inner in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ParamsError(
        f"{'.'.join(place)}: must be text, a number, a list or a mapping (is {value!r}): put it in quotes"
    )


def _key(key: Any, place: tuple[str, ...]) -> str:
    if place[-1:] == ("classes",) and isinstance(key, int):  # in YAML, 0 and true are no strings; in labels they are
        return str(key)
    if not isinstance(key, str):
        raise ParamsError(f"{'.'.join((*place, str(key)))}: a key must be text (is {key!r}): put it in quotes")
    return key


def _problems(errors: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each error; of data.root, text or a list, those of what it is: pydantic tries the one and the other."""
    roots = [error for error in errors if error["loc"][:2] == _ROOT and len(error["loc"]) > len(_ROOT)]
    is_list = any(isinstance(error["input"], list) for error in roots if error["loc"][2] == "str")
    for error in errors:
        if error in roots:
            if (error["loc"][2] == "str") is is_list:
                continue
            error["loc"] = (*_ROOT, *error["loc"][3:])
        yield _problem(error)


def _problem(error: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["loc"][-1] == "root" and isinstance(error["input"], list):
        return f"{place}: must be one folder, archive or URL: only data.root may be a list of sets"
    if error["type"] == "unexpected_keyword_argument":
        return _unknown_key(error["loc"])
    rule = _MESSAGES.get(error["type"], error["msg"])
    return f"{place}: {rule}" + ("" if isinstance(error["input"], dict) else f" (is {shown(repr(error['input']))})")


def _unknown_key(place: tuple[int | str, ...]) -> str:
    """The line for a key that a section may not have, with those that it may have."""
    section: Any = Params
    is_entry = False
    for part in place[:-1]:
        if isinstance(part, int):  # of a list, whose sections it is already
            continue
        is_entry = get_origin(section) is dict
        section = get_args(section)[1] if is_entry else get_type_hints(section)[str(part)]
        section = section_of(section) or entry_of(section) or section
    keys = [field.name for field in fields(section) if not (is_entry and field.name == "name")]
    return f"unknown key {'.'.join(map(str, place))}: choose one of {', '.join(keys)}"


def _broken_rules(settings: Any, raw: Any, *place: str) -> Iterator[str]:
    """A line for each rule that types cannot say and that the settings of a section, or below it, break."""
    if isinstance(settings, dict) and all(is_dataclass(entry) for entry in settings.values()):
        for name, entry in settings.items():
            yield from _broken_rules(entry, raw[name], *place, name)
    if isinstance(settings, tuple) and isinstance(raw, list):
        for number, (entry, written) in enumerate(zip(settings, raw, strict=True)):
            yield from _broken_rules(entry, written, *place, str(number))
    if not is_dataclass(settings) or not isinstance(raw, dict):
        return
    for key, hint in get_type_hints(type(settings), include_extras=True).items():
        if key not in raw:
            continue
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Rule):
                try:
                    mark.check(getattr(settings, key))
                except FfdiError as error:
                    yield f"{'.'.join((*place, key))}: {error} (is {shown(repr(raw[key]))})"
        yield from _broken_rules(getattr(settings, key), raw[key], *place, key)
    if isinstance(settings, _CHECKED):
        try:
            settings.check_written(raw)
        except ParamsError as error:
            yield f"{'.'.join(place)}: {error}"


def _refuse_what_dvc_misses(file: Path, raw: dict[str, Any], params: Params, pipeline: dict[str, Any]) -> None:
    """ParamsError with the lines to add, where a stage of dvc.yaml names keys that have a default but are not in `raw`.

    DVC reads the file without our defaults and ends at the first such stage, perhaps after hours of training. So the
    first stage that runs ends instead, before it computes anything.
    """
    missing: dict[str, dict[str, str]] = {}  # section -> its absent keys and their defaults; none for a plain value
    for key in _keys_of(pipeline):
        section, _, rest = key.partition(".")
        if rest and rest not in raw.get(section, ()):
            missing.setdefault(section, {})[rest] = _as_yaml(getattr(getattr(params, section), rest))
        elif section not in raw:
            missing.setdefault(section, {})
    lines = []
    for section, keys in missing.items():
        inner = ", ".join(f"{key}: {value}" for key, value in keys.items())
        whole = f"{{{inner}}}" if is_dataclass(getattr(params, section)) else _as_yaml(getattr(params, section))
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
    return "{}" if is_dataclass(value) else json.dumps(value)
