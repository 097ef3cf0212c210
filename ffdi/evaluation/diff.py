"""Which metrics differ between two revisions, the most important first; the noise of small test sets comes last."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ffdi.errors import FfdiError, InputError, one_line
from ffdi.evaluation.headline import OF_RECIPE, OF_UNITS, RESERVED_NAMES
from ffdi.metrics import Metrics

MetricsFiles = Mapping[str, Metrics]  # metrics/details/*.json by name
Interval = tuple[float, float]
Value = float | int | str | bool | None

PROVENANCE = (
    *("network", "cut", "weights", "weights_sha256", "trained_on", "synthesised", "folds", "n_groups"),
    *("threshold_rule", "threshold_at", "members", "stacking"),
)
_SECTIONS = {  # of a recipe's keys, by how they begin
    "fold_": "folds",
    "attr_": "attributes",
    "robustness_": "robustness",
    **dict.fromkeys(("robust_", "worst_"), "robustness"),
    **dict.fromkeys(("held_out_", "held_out="), "held out"),
    **dict.fromkeys(("fpr", "expected_", "coverage", "decided_", "abstain_", "undecided"), "threshold"),
    **dict.fromkeys(("refit", "folds_"), "refit"),
    "unlike_": "unlike",
    "unit": "units",
    **dict.fromkeys(("weight_", "stack_"), "members"),
    **dict.fromkeys(("parameters_", "flops_", "bytes_", "views_"), "cost"),
}
_SHORTENED = ("attr_", "robustness_", "held_out_", "held_out=", "weight_")  # the section says it
PROTOCOL = "protocol"  # the folder in metrics/ with a file for each recipe whose folds were compared with random ones
_OF_FILE = {"summary": "compare"}  # by the stage that writes it, where the file is called otherwise
LINES, COLUMNS = 40, 120  # of a screen
HEADINGS = ("recipe", "section", "figure", "change", "interval")


@dataclass(frozen=True)
class Change:
    """A metric that differs. `kind`: `new` or `gone`; `changed` when a side is no float; `beyond` or `within` its interval;
    `unbounded` when neither side has an interval."""

    recipe: str  # "" when it belongs to no single recipe
    section: str
    figure: str
    old: Value
    new: Value
    old_interval: Interval | None
    new_interval: Interval | None
    kind: str
    whole: bool = False  # a recipe, or a stage's file, is new or gone: this one metric stands for all of it

    @property
    def delta(self) -> float | int | None:
        """New minus old; None when one of them is no number."""
        old, new = _number(self.old), _number(self.new)
        return None if old is None or new is None else new - old

    @property
    def size(self) -> float:
        """How far apart the two are, relative to the larger one when that is above 1. 0 when one is no number."""
        return abs(self.delta or 0) / max(1.0, abs(_number(self.old) or 0), abs(_number(self.new) or 0))

    @property
    def rank(self) -> int:
        """The lowest rank comes first: recipes and leaks, their AUC, beyond the interval, other conditions, the rest."""
        if self.whole or (self.section, self.figure) == ("audit", "leaks"):
            return 0
        if (self.section, self.figure) == ("headline", "auc") and self.old != self.new:
            return 1
        if self.kind == "beyond":
            return 2
        if self.kind == "changed" and self.section in ("headline", "provenance", "compare"):
            return 3
        return {"unbounded": 4, "within": 5}.get(self.kind, 6)


def changes(old: MetricsFiles, new: MetricsFiles) -> list[Change]:
    """Every metric that differs, the most important first (see Change.rank); within a rank the headline's, then the largest.

    A metric changes beyond its interval when its new value is outside the old interval, or its old value outside the new
    one; the ends are inside. `_low`, `_high` and `_reason` belong to their metric.
    """
    recipes = sorted({*old, *new} - {*RESERVED_NAMES, PROTOCOL}, key=lambda name: (-len(name), name))
    found = [
        change for name in sorted({*old, *new}) for change in _of_file(name, old.get(name), new.get(name), recipes)
    ]
    return sorted(found, key=lambda change: (change.rank, change.section != "headline", -change.size))


def _of_file(name: str, old: Metrics | None, new: Metrics | None, recipes: Sequence[str]) -> Iterator[Change]:
    if old is None or new is None:
        key = "auc" if name in recipes else "figures"
        count: Metrics = {"figures": len(old or new or {})}
        before, after = ({} if side is None else count | side for side in (old, new))
        yield replace(
            _change(name, key, before, after, recipes), section="recipe" if name in recipes else name, whole=True
        )
        return
    keys = dict.fromkeys([*new, *old])
    parts = {key + end for key in keys for end in ("_low", "_high", "_reason")}
    for key in keys:
        ends = [key, f"{key}_low", f"{key}_high"] + [f"{key}_reason"] * (old.get(key) is None and new.get(key) is None)
        differs = any(old.get(end) != new.get(end) for end in ends) or (key in old) != (key in new)
        if key not in parts and differs:
            yield _change(name, key, old, new, recipes)


def _change(name: str, key: str, old: Metrics, new: Metrics, recipes: Sequence[str]) -> Change:
    a, b, before, after = old.get(key), new.get(key), _interval(old, key), _interval(new, key)
    if key not in old or key not in new:
        kind = "gone" if key not in new else "new"
    elif not isinstance(a, float) or not isinstance(b, float):
        kind = "changed"
    elif before is None and after is None:
        kind = "unbounded"
    else:
        kind = "beyond" if _outside(b, before) or _outside(a, after) else "within"
    return Change(*_place(name, key, recipes), a, b, before, after, kind)


def _place(name: str, key: str, recipes: Sequence[str]) -> tuple[str, str, str]:
    """(recipe, section, the metric's name there). `recipes` has the longest names first: the keys of pairs begin with one."""
    if name not in recipes:
        recipe = next((recipe for recipe in recipes if key.startswith(f"{recipe}_")), "")
        return recipe, _OF_FILE.get(name, name), key[len(recipe) + 1 :] if recipe else key
    if key in OF_RECIPE or key in OF_UNITS:
        return name, "headline", key
    if key in PROVENANCE:
        return name, "provenance", key
    start = next((start for start in _SECTIONS if key.startswith(start)), None)
    if start:
        section = _SECTIONS[start]
        return name, section, key.removeprefix(start) if start in _SHORTENED else key
    return name, "other", key


def _interval(metrics: Metrics, key: str) -> Interval | None:
    low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
    return (low, high) if isinstance(low, float) and isinstance(high, float) else None


def _outside(value: float, interval: Interval | None) -> bool:
    return interval is not None and not interval[0] <= value <= interval[1]


def _number(value: Value) -> float | int | None:
    return None if isinstance(value, bool | str) else value


def diff_lines(
    found: Sequence[Change], old: str, new: str, *, whole: bool = False, markdown: bool = False
) -> list[str]:
    """The table of `changes` between the revisions named `old` and `new`, and a line that counts them.

    At most LINES lines of at most COLUMNS columns: the least important changes are left out, unless `whole`.
    """
    if not found:
        return [f"no figure differs between {old} and {new}"]
    shown = found if whole else found[: LINES - (4 if markdown else 2)]
    head = [*HEADINGS[:3], *(_fit(name, min(len(name), 20)) for name in (old, new)), *HEADINGS[3:]]
    cells = [
        ["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in (head, *map(_cells, shown))
    ]
    beyond = sum(change.kind == "beyond" for change in found)
    last = f"{len(found)} {'change' if len(found) == 1 else 'changes'}, {beyond} beyond the interval"
    if left := len(found) - len(shown):
        last += f"; {left} left out: --all shows them"
    if markdown:
        rows = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in cells]
        return [rows[0], "| --- " * len(head) + "|", *rows[1:], "", last]
    widths = [max(map(len, column)) for column in zip(*cells)]
    if not whole:
        for column, least in ((2, 24), (0, 14), (3, 20), (4, 20)):  # figure, recipe, old, new
            excess = sum(widths) + 2 * (len(widths) - 1) - COLUMNS
            widths[column] -= max(0, min(excess, widths[column] - least))
    lines = ["  ".join(_fit(cell, width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    return [*lines, last]


def _cells(change: Change) -> list[str]:
    old = "-" if change.kind == "new" else _said(change.old, change.old_interval)
    new = "-" if change.kind == "gone" else _said(change.new, change.new_interval)
    difference = change.kind if change.delta is None else _signed(change.delta)
    interval = {"beyond": "beyond", "within": "within", "unbounded": "none"}.get(change.kind, "")
    return [change.recipe or "-", change.section, change.figure, old, new, difference, interval]


def _said(value: Value, interval: Interval | None) -> str:
    if not isinstance(value, float):
        return "none" if value is None else str(value)
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _signed(delta: float | int) -> str:
    if isinstance(delta, int):
        return f"{delta:+,}"
    return f"{delta:+.3f}" if abs(delta) >= 0.0005 or delta == 0 else f"{delta:+.0e}"


def _fit(text: str, width: int) -> str:
    """Padded to the width, or cut in its middle."""
    if len(text) <= width:
        return text.ljust(width)
    return text[: width // 2] + "…" + text[len(text) - (width - width // 2 - 1) :]


def read_workspace(metrics: Path) -> MetricsFiles:
    """metrics/details/*.json as they are now, and those of metrics/protocol as one of that name."""
    files = sorted((metrics / "details").glob("*.json"))
    if not files:
        raise InputError(f"{metrics / 'details'}: has no figures: run dvc repro first, where dvc.yaml is")
    protocol = sorted((metrics / PROTOCOL).glob("*.json"))
    return _with_protocol(
        *({file.stem: _parsed(file.read_bytes(), str(file)) for file in f} for f in (files, protocol))
    )


def read_revision(revision: str, metrics: Path) -> MetricsFiles:
    """metrics/details/*.json of a commit, branch, tag or experiment, or metrics/*.json of one from before the details.

    With metrics/protocol, as read_workspace.
    """
    commit = commit_of(revision)

    def files_in(folder: Path) -> MetricsFiles:
        listed = _git("ls-tree", "-z", "--name-only", commit, f"{folder.as_posix()}/") or ""
        files = [Path(name) for name in listed.split("\0") if name.endswith(".json")]
        return {
            file.stem: _parsed(_git("show", f"{commit}:./{file.as_posix()}") or "", f"{revision}: {file}")
            for file in files
        }

    for folder in (metrics / "details", metrics):
        if files := files_in(folder):
            return _with_protocol(files, files_in(metrics / PROTOCOL))
    rule = "run this where dvc.yaml is, and commit what dvc repro has made"
    raise InputError(f"{revision}: has no figures in {metrics / 'details'} of this folder: {rule}")


def _with_protocol(files: MetricsFiles, protocol: MetricsFiles) -> MetricsFiles:
    """`files`, and the figures of each recipe's protocol under one name, as the figures of pairs are: `RECIPE_harder_by`."""
    figures = {f"{recipe}_{key}": value for recipe, m in protocol.items() for key, value in m.items()}
    return {**files, PROTOCOL: figures} if figures else files


def commit_of(revision: str) -> str:
    """The commit's hash. Git does not know the name of an experiment: DVC keeps it under refs/exps/BASELINE/NAME.

    Raises InputError when there is no such commit, or when experiments of several baselines have that name and none of
    the baselines is HEAD.
    """
    if known := _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"):
        return known.strip()
    refs = [
        line.split()
        for line in (_git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/") or "").splitlines()
    ]
    named = {
        "".join(parts[2:4]): commit
        for commit, ref in refs
        if len(parts := ref.split("/")) == 5 and parts[4] == revision
    }
    head = (_git("rev-parse", "--verify", "--quiet", "HEAD") or "").strip()
    if head in named or len(named) == 1:
        return named.get(head) or next(iter(named.values()))
    if named:
        raise InputError(
            f"{revision}: names {len(named)} experiments, of other commits than HEAD: give the hash of one"
        )
    raise InputError(f"{revision}: is no revision and no experiment of this repository")


def _git(*arguments: str) -> str | None:
    """The output of git; None when it fails without a message. FfdiError with git's message when it has one."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise FfdiError("git is not installed: what was committed cannot be read") from None
    if done.returncode and done.stderr.strip():
        raise FfdiError(f"git {arguments[0]}: {one_line(FfdiError(done.stderr))}")
    return None if done.returncode else done.stdout


def _parsed(text: str | bytes, place: str) -> Metrics:
    try:
        loaded: Metrics = json.loads(text)
    except ValueError as error:
        raise InputError(f"{place}: not JSON ({error}): dvc repro, or git checkout, gives it back") from error
    if not isinstance(loaded, dict) or any(isinstance(value, dict | list) for value in loaded.values()):
        raise InputError(f"{place}: holds more than names and figures: it is not of a stage: delete it")
    return loaded
