"""The differences between two revisions, against hand-worked figures, and how they are read from git."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ffdi.commands.main import main
from ffdi.errors import FfdiError, InputError
from ffdi.evaluation.diff import COLUMNS, LINES, Change, changes, commit_of, diff_lines, read_revision, read_workspace
from ffdi.files import write_json
from ffdi.metrics import Metrics


def auc(value: float, low: float | None = None, high: float | None = None) -> Metrics:
    return {"auc": value} | ({} if low is None else {"auc_low": low, "auc_high": high})


def one_change(old: Metrics, new: Metrics) -> Change:
    (change,) = changes({"one": old}, {"one": new})
    return change


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (auc(0.80, 0.70, 0.90), auc(0.91, 0.75, 0.97), "beyond"),  # the new value is outside the old interval
        (auc(0.80, 0.70, 0.90), auc(0.85, 0.81, 0.95), "beyond"),  # the old one is outside the new interval
        (auc(0.80, 0.70, 0.90), auc(0.90, 0.80, 0.95), "within"),  # the ends belong to it
        (auc(0.80, 0.70, 0.90), auc(0.80, 0.75, 0.85), "within"),  # the interval alone changed
        (auc(0.80, 0.70, 0.90), auc(0.95), "beyond"),
        (auc(0.80), auc(0.85, 0.81, 0.95), "beyond"),
        (auc(0.80), auc(0.99), "unbounded"),
        (auc(0.80), {"auc": None, "auc_reason": "one class"}, "changed"),
        ({"auc": None, "auc_reason": "one class"}, {"auc": None, "auc_reason": "one group"}, "changed"),
        ({"n_test": 96}, {"n_test": 120}, "changed"),
        ({"pretrained": False}, {"pretrained": True}, "changed"),
        ({}, {"brier": 0.2}, "new"),
        ({"brier": 0.2}, {}, "gone"),
    ],
)
def test_beyond_the_interval_is_outside_of_either(old: Metrics, new: Metrics, kind: str) -> None:
    assert one_change(old, new).kind == kind


def test_equal_figures_are_no_change() -> None:
    figures: dict[str, Metrics] = {"one": auc(0.8, 0.7, 0.9) | {"attr_b": None, "attr_b_reason": "many values"}}
    assert changes(figures, {"one": dict(figures["one"])}) == []
    assert diff_lines([], "HEAD", "workspace") == ["no figure differs between HEAD and workspace"]


def test_the_most_important_comes_first() -> None:
    old: dict[str, Metrics] = {
        "a": {
            "auc": 0.8, "auc_low": 0.7, "auc_high": 0.9, "n_test": 96, "ece": 0.1, "weights": "random", "flops_tail": 100,
            "attr_sex_f_auc": 0.5, "attr_sex_f_auc_low": 0.4, "attr_sex_f_auc_high": 0.6, "attr_sex_f_reals": 9,
            "fold_0_auc": 0.5, "fold_0_auc_low": 0.4, "fold_0_auc_high": 0.6, "accuracy": 0.8, "accuracy_low": 0.7,
            "accuracy_high": 0.9, "brier": 0.1,
        },
        "b": auc(0.5, 0.4, 0.6),
        "gone": auc(0.6),
        "audit": {"leaks": 0, "probe_name_auc": 0.5},
        "ladder": {"folds": 2, "rung_0_gap_auc": 0.1},
    }  # fmt: skip
    new: dict[str, Metrics] = {
        "a": old["a"]
        | {
            "auc": 0.85,
            "n_test": 120,
            "ece": 0.3,
            "weights": "file:w",
            "flops_tail": 200,
            "accuracy": 0.81,
            "brier": 0.5,
        }
        | {"attr_sex_f_auc": 0.7, "attr_sex_f_reals": 12, "fold_0_auc": 0.95},
        "b": auc(0.9, 0.8, 0.95),
        "late": auc(0.7, 0.6, 0.8),
        "audit": {"leaks": 3, "probe_name_auc": 0.501},
        "cross": {"a_on_wild_auc": 0.5},
    }
    found = changes(old, new)
    assert [(c.recipe, c.section, c.figure, c.kind) for c in found] == [
        ("", "audit", "leaks", "changed"),
        ("", "cross", "figures", "new"),
        ("gone", "recipe", "auc", "gone"),
        ("", "ladder", "figures", "gone"),
        ("late", "recipe", "auc", "new"),
        ("b", "headline", "auc", "beyond"),
        ("a", "headline", "auc", "within"),
        ("a", "folds", "fold_0_auc", "beyond"),
        ("a", "attributes", "sex_f_auc", "beyond"),
        ("a", "headline", "n_test", "changed"),
        ("a", "provenance", "weights", "changed"),
        ("a", "headline", "ece", "unbounded"),
        ("a", "other", "brier", "unbounded"),
        ("", "audit", "probe_name_auc", "unbounded"),
        ("a", "headline", "accuracy", "within"),
        ("a", "cost", "flops_tail", "changed"),
        ("a", "attributes", "sex_f_reals", "changed"),
    ]


def test_figures_beyond_the_plain_test_set_have_sections_of_their_own() -> None:
    places = {
        "held_out_gan_auc": ("held out", "gan_auc"),
        "held_out_worst": ("held out", "worst"),
        "robust_auc": ("robustness", "robust_auc"),
        "worst_auc": ("robustness", "worst_auc"),
        "robustness_mix_3_seen": ("robustness", "mix_3_seen"),
        "expected_fpr": ("threshold", "expected_fpr"),
        "fpr": ("threshold", "fpr"),
        "decided_error": ("threshold", "decided_error"),
        "threshold_rule": ("provenance", "threshold_rule"),
        "weight_late_cut": ("members", "late_cut"),
        "members": ("provenance", "members"),
        "folds_auc": ("refit", "folds_auc"),
        "refit_minus_folds_auc": ("refit", "refit_minus_folds_auc"),
        "folds": ("provenance", "folds"),
    }
    old, new = ({"a": dict.fromkeys(places, value)} for value in (0.1, 0.2))
    assert {(c.section, c.figure) for c in changes(old, new)} == set(places.values())


def test_keys_of_pairs_are_told_with_their_recipe() -> None:
    """The longest recipe's name that begins a key is its recipe's: net_b is no figure b of net."""
    old: dict[str, Metrics] = {"net": {}, "net_b": {}, "cross": {"net_b_on_wild_auc": 0.6, "net_on_wild_auc": 0.7}}
    old["summary"] = {"net_minus_net_b_auc": 0.1, "pairs": 1, "net_minus_net_b_auc_verdict": "no difference shown"}
    new = old | {"cross": {"net_b_on_wild_auc": 0.5, "net_on_wild_auc": 0.9}}
    new["summary"] = {"net_minus_net_b_auc": 0.4, "pairs": 1, "net_minus_net_b_auc_verdict": "net is better"}
    assert [(c.recipe, c.section, c.figure) for c in changes(old, new)] == [
        ("net", "compare", "minus_net_b_auc_verdict"),
        ("net", "compare", "minus_net_b_auc"),
        ("net", "cross", "on_wild_auc"),
        ("net_b", "cross", "on_wild_auc"),
    ]


def test_the_table_says_both_sides_the_difference_and_the_interval() -> None:
    old: Metrics = auc(0.8, 0.7, 0.9) | {"brier": 0.1, "threshold": 0.5, "n_test": 96, "weights": "random", "eer": None}
    new: Metrics = auc(0.95, 0.9, 0.98) | {"threshold": 0.5000000001, "n_test": 1120, "weights": "file:w", "eer": 0.2}
    lines = diff_lines(changes({"one": old}, {"one": new}), "HEAD", "late-exp")
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert rows == [
        ["recipe", "section", "figure", "HEAD", "late-exp", "change", "interval"],
        ["one", "headline", "auc", "0.800 [0.700, 0.900]", "0.950 [0.900, 0.980]", "+0.150", "beyond"],
        ["one", "headline", "n_test", "96", "1120", "+1,024"],
        ["one", "headline", "eer", "none", "0.200", "changed"],
        ["one", "provenance", "weights", "random", "file:w", "changed"],
        ["one", "headline", "threshold", "0.500", "0.500", "+1e-10", "none"],
        ["one", "other", "brier", "0.100", "-", "gone"],
        ["6 changes, 1 beyond the interval"],
    ]
    escaped = diff_lines(changes({"one": {"weights": "a\x1b[1m\nb"}}, {"one": {"weights": "c"}}), "HEAD", "workspace")
    assert "a?[1m?b" in escaped[1]
    table = diff_lines(
        changes({"one": {"weights": "a|b"}}, {"one": {"weights": "c"}}), "HEAD", "workspace", markdown=True
    )
    assert table[1:] == ["| --- " * 7 + "|", r"| one | provenance | weights | a\|b | c | changed |  |", "", table[-1]]


@pytest.mark.parametrize("markdown", [False, True])
def test_a_screen_and_no_more_unless_all(markdown: bool) -> None:
    name = "a_recipe_with_a_name_of_quite_some_length"
    old: Metrics = {f"attr_{'very_' * 8}long_{n}_auc": n / 1000 for n in range(300)}
    old |= {f"{key}{end}": value for key, value in old.items() for end in ("_low", "_high")}
    new: Metrics = {key: 1.0 - float(value or 0) for key, value in old.items()}
    found = changes({name: old}, {name: new})
    lines = diff_lines(found, "f" * 40, "e" * 40, markdown=markdown)
    assert len(lines) == LINES
    shown = LINES - (4 if markdown else 2)
    assert lines[-1] == f"300 changes, 300 beyond the interval; {300 - shown} left out: --all shows them"
    whole = diff_lines(found, "f" * 40, "e" * 40, whole=True, markdown=markdown)
    assert len(whole) == 300 + LINES - shown and name in whole[5]
    if not markdown:
        assert max(map(len, lines)) <= COLUMNS
        assert "0_auc" in lines[1]  # a name that is too long loses its middle


class Repo:
    """A git repository with the project in a folder of it, figures committed by hand."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.project.mkdir(parents=True)
        self.git("init", "-q")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self.project, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, value: float, folder: str = "metrics/details") -> str:
        self.write(value, folder)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"{value}")
        return self.git("rev-parse", "HEAD")

    def write(self, value: float, folder: str = "metrics/details") -> None:
        write_json(self.project / folder / "one.json", auc(value, value - 0.1, value + 0.1))


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    made = Repo(tmp_path)
    monkeypatch.chdir(made.project)
    return made


METRICS = Path("metrics")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["diff", *arguments])


def test_head_and_the_workspace_are_compared_by_default(repo: Repo) -> None:
    first = repo.commit(0.6)
    repo.commit(0.7)
    assert run().output == "no figure differs between HEAD and workspace\n"
    repo.write(0.85)
    lines = run().output.splitlines()
    assert "0.700 [0.600, 0.800]  0.850 [0.750, 0.950]  +0.150  beyond" in lines[1]
    assert "+0.250" in run("HEAD~1").output.splitlines()[1]
    assert "0.600 [0.500, 0.700]  0.700 [0.600, 0.800]  +0.100" in run(first, "HEAD").output
    assert run("HEAD", "HEAD~1", "--md").output.splitlines()[2].startswith("| one | headline | auc | 0.700")
    refused = run("HEAD", "HEAD", "HEAD")
    assert refused.exit_code == 2 and "not 3" in refused.output


def test_an_experiment_is_found_by_its_name(repo: Repo) -> None:
    """As dvc exp run leaves it: a commit that no branch has, under refs/exps/BASELINE/NAME."""
    head = repo.commit(0.6)
    other = repo.commit(0.9)
    repo.git("checkout", "-q", "--detach", head)
    repo.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/lazy-exp", other)
    assert commit_of("lazy-exp") == other and read_revision("lazy-exp", METRICS)["one"]["auc"] == 0.9
    assert "+0.300" in run("HEAD", "lazy-exp").output
    repo.git("update-ref", f"refs/exps/{other[:2]}/{other[2:]}/lazy-exp", head)  # another baseline has one of that name
    assert commit_of("lazy-exp") == other
    repo.git("checkout", "-q", "--detach", repo.git("commit-tree", "HEAD^{tree}", "-m", "elsewhere"))
    with pytest.raises(InputError, match="lazy-exp: names 2 experiments"):
        commit_of("lazy-exp")


def test_figures_from_before_the_details_are_read_too(repo: Repo) -> None:
    repo.commit(0.6, folder="metrics")
    repo.write(0.9)
    assert read_revision("HEAD", METRICS)["one"]["auc"] == 0.6
    assert "+0.300" in run().output


def test_the_protocol_of_each_recipe_is_compared_too(repo: Repo) -> None:
    """metrics/protocol has a file for each recipe, whose figures no other file has."""
    figures: Metrics = {"method": "clustered", "harder_by": 0.06, "harder_by_low": 0.03, "harder_by_high": 0.09}
    write_json(repo.project / "metrics" / "protocol" / "one.json", figures)
    repo.commit(0.6)
    assert run().output == "no figure differs between HEAD and workspace\n"
    write_json(repo.project / "metrics" / "protocol" / "one.json", figures | {"harder_by": 0.01})
    assert [line.split() for line in run().output.splitlines()[1:2]] == [
        ["one", "protocol", "harder_by", "0.060", "[0.030,", "0.090]", "0.010", "[0.030,", "0.090]", "-0.050", "beyond"]
    ]


def test_what_cannot_be_read_is_said_in_one_line(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run().output == "diff: HEAD: is no revision and no experiment of this repository\n"
    (repo.project / "notes").write_text("nothing")
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "no figures")
    said = run()
    assert said.exit_code == 1 and said.output.startswith("diff: HEAD: has no figures in metrics/details")
    repo.commit(0.7)
    assert run("nowhere").output == "diff: nowhere: is no revision and no experiment of this repository\n"
    (repo.project / "metrics" / "details" / "one.json").write_text("{")
    assert run().output.startswith("diff: metrics/details/one.json: not JSON")
    for alien in ('["auc"]', '{"auc": {"mean": 0.5}}'):
        (repo.project / "metrics" / "details" / "one.json").write_text(alien)
        assert run().output.startswith("diff: metrics/details/one.json: holds more than names and figures")
    (repo.project / "metrics" / "details" / "one.json").unlink()
    assert run().output.startswith("diff: metrics/details: has no figures: run dvc repro first")
    with pytest.raises(InputError):
        read_workspace(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("GIT_DIR", str(elsewhere / "none"))
    said = run()
    assert said.exit_code == 1 and said.output.startswith("diff: git rev-parse: fatal: not a git repository")
    assert len(said.output.splitlines()) == 1
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FfdiError, match="git is not installed"):
        commit_of("HEAD")
