"""The `ffdi` command, and what every stage script shares with it."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffdi.errors import FfdiError, InputError, printable
from ffdi.files import write_json

if TYPE_CHECKING:
    from ffdi.metrics import Metrics
    from ffdi.tails.bundle import Bundle

# Before torch loads OpenMP: threads that spin while they wait cost another busy process, or a noisy machine, several
# times the speed (4x was measured on 2 shared cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class _InUtf8(click.Command):
    """A program whose file names are UTF-8 in every locale, as its tables are: Python can be told at its start alone."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if sys.getfilesystemencoding() != "utf-8":
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
        return super().__call__(*args, **kwargs)


class OneLineErrors(_InUtf8):
    """A command that says a FfdiError on one line of stderr and exits with 1; click's own usage errors exit with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FfdiError as error:
            say(f"{ctx.info_name}: {error}")
            sys.exit(1)


class _Commands(_InUtf8, click.Group):
    """The `ffdi` command."""


def stage_command(function: Callable[..., Any]) -> click.Command:
    """Make a stage's function its command line."""
    return click.command(cls=OneLineErrors)(function)


@contextmanager
def stopwatch(name: str, folder: Path) -> Iterator[dict[str, float]]:
    """Write the wall-clock seconds of the body to `<folder>/<name>.json`: times are no metrics and are never compared.

    What the body puts into the mapping is written beside them. A run that computed nothing (`computed` is 0) leaves the
    times of the one that did.
    """
    started = time.perf_counter()
    more: dict[str, float] = {}
    yield more
    seconds = {"seconds": time.perf_counter() - started} | more
    if seconds.get("computed") != 0 or not (folder / f"{name}.json").exists():
        write_json(folder / f"{name}.json", {key: round(value, 4) for key, value in seconds.items()})


def say(line: str) -> None:
    """One line for the user, on stderr, where progress bars are too."""
    click.echo(printable(line), err=True)


def _tell(name: str, line: str) -> None:
    say(f"{name}: {line}")


def bar(name: str, unit: str = "images") -> Callable[..., Any]:
    """A progress bar that names its stage: bar("extract mobilenet_v2")(blocks, total) yields the blocks.

    Arrays count as their number of rows.
    """
    from tqdm import tqdm

    def show(items: Any, total: int | None = None) -> Any:
        with tqdm(desc=name, total=total, unit=f" {unit}", mininterval=0.5, dynamic_ncols=True) as shown:
            for item in items:
                yield item
                shown.update(len(item) if getattr(item, "ndim", 0) > 1 else 1)

    return show


@click.group(cls=_Commands)
@click.version_option(package_name="ffdi")
def main() -> None:
    """Judge images with a trained recipe, and look into networks and cached features."""


def _scoring(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that scores images, see _scored."""
    command = click.option("--max-pixels", default=50_000_000, show_default=True)(command)
    model = click.Path(path_type=Path)
    return click.option("--model", required=True, type=model, help="a folder such as data/models/NAME")(command)


def _scored(model: Path, files: Sequence[Path], max_pixels: int) -> tuple[Bundle, Iterator[tuple[Path, float | str]]]:
    """The bundle, and (file, P(fake) or the reason why it cannot be read) in the order of `files`."""
    import torch

    from ffdi.features.devices import set_up_device
    from ffdi.parallel import cpu_count, keep_freed_memory
    from ffdi.tails.bundle import load_bundle
    from ffdi.tails.predict import predict_files

    torch.set_num_threads(cpu_count())
    keep_freed_memory()
    bundle = load_bundle(model)
    command = click.get_current_context().info_name
    tell = partial(_tell, command or "ffdi")
    return bundle, predict_files(bundle, files, max_pixels=max_pixels, device=set_up_device("auto"), say=tell)


@main.command(cls=OneLineErrors)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@_scoring
def predict(images: tuple[Path, ...], model: Path, max_pixels: int) -> None:
    """Print path,score,verdict for IMAGES, files or folders, as CSV; score is the calibrated P(fake).

    An unreadable image gets an empty score and the reason, and makes the exit code 1, as a folder without any image does.
    What a folder has beside images is counted on stderr.
    """
    import csv

    from ffdi.intake.tables import CsvLines
    from ffdi.intake.walk import passed_over, walk

    files: list[Path] = []
    empty: list[str] = []
    for path in images:
        if not path.is_dir():
            files.append(path)
            continue
        tree = walk(path)
        files += [path / image for image in tree.images]
        over = ", ".join(passed_over(tree.skipped))
        if not tree.images:
            empty.append(f"{path}: no image in it" + (f"; passed over: {over}" if over else ""))
        elif over:
            say(f"predict: {path}: passed over: {over}")
    if not files:
        raise InputError("; ".join(empty))
    bundle, scores = _scored(model, files, max_pixels)
    if sys.stdout.errors == "strict" and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a name that is no UTF-8, or that stdout cannot spell
    table = csv.writer(CsvLines(sys.stdout), lineterminator=CsvLines.END)
    shown = printable if sys.stdout.isatty() else str
    table.writerow(["path", "score", "verdict"])
    unreadable = 0
    for file, score in scores:
        name = shown(str(file))
        if isinstance(score, str):
            unreadable += 1
            table.writerow([name, "", score])
        else:
            table.writerow([name, f"{score:.6f}", "fake" if score >= bundle.threshold else "real"])
    if unreadable:
        empty.insert(0, f"{unreadable} of {len(files)} images cannot be read")
    if empty:
        raise InputError("; ".join(empty))


@main.command(cls=OneLineErrors)
@click.option(
    "--list", "list_file", required=True, type=click.Path(path_type=Path), help="a csv with img_name, or names"
)
@click.option("--root", required=True, type=click.Path(path_type=Path), help="the folder that the names start from")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="such as submission.csv")
@click.option(
    "--max-rejected",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="the share of unreadable images above which there is no submission",
)
@_scoring
def submit(list_file: Path, root: Path, out: Path, max_rejected: float, model: Path, max_pixels: int) -> None:
    """Write img_name,y_pred for every row of a list, in its order, as CSV; y_pred is the calibrated P(fake).

    An unreadable image is named and gets the model's prior: the share of fakes among the images it was trained on. No
    file is written where more than --max-rejected, or all, are unreadable. Where the list has labels, as 0 and 1 in a
    column target or label, their AUC is said; nothing else depends on them.
    """
    import csv

    from ffdi.files import replacing
    from ffdi.intake.ingest import DISK_FAULT, WRONG_NAMES
    from ffdi.intake.label_files import read_list
    from ffdi.intake.names import find_files
    from ffdi.intake.tables import CsvLines

    listed, known = read_list(list_file, root)
    files, names = find_files(root, [file for _, file in listed])
    for line in names.said() if names else ():
        say(f"submit: {line}")
    bundle, scores = _scored(model, files, max_pixels)
    unreadable: list[str] = []
    in_a_row: list[Path] = []
    scored: list[float | None] = []
    with replacing(out) as temporary:  # opened first: who may not write there learns it before hours of scoring
        with open(temporary, "w", encoding="utf-8", newline="") as text:
            table = csv.writer(CsvLines(text), lineterminator=CsvLines.END)
            table.writerow(["img_name", "y_pred"])
            for (file, score), (name, _) in zip(bar("submit")(scores, len(listed)), listed):
                in_a_row = [*in_a_row, file] if isinstance(score, str) else []
                if isinstance(score, str):
                    like = names.closest(os.path.relpath(file, root)) if names and not os.path.lexists(file) else None
                    closest = f"; the closest name is {like!r}" if like else ""
                    unreadable.append(f"{str(file)!r}: {score}{closest}")
                    if len(in_a_row) == DISK_FAULT:
                        there = any(map(os.path.lexists, in_a_row))
                        rule = f"check {'the disk' if there else f'the list, for {WRONG_NAMES},'} and --root"
                        raise InputError(f"{DISK_FAULT} unreadable images in a row, the last {unreadable[-1]}: {rule}")
                    if len(unreadable) > max_rejected * len(listed) or len(unreadable) == len(listed):
                        raise InputError(
                            f"{len(unreadable)} of {len(listed)} images cannot be read, and perhaps more: nothing is "
                            f"written above --max-rejected {max_rejected:g}, nor where all are; the first is {unreadable[0]}"
                        )
                scored.append(None if isinstance(score, str) else score)
                table.writerow([name, bundle.prior if isinstance(score, str) else score])
        with open(temporary, encoding="utf-8", newline="") as text:
            written = sum(1 for _ in csv.reader(text)) - 1
        if written != len(listed):
            raise FfdiError(f"{out}: {written} rows were written, {list_file} lists {len(listed)}")
    for line in unreadable:
        say(line)
    if known:
        _judge_known(*known, scored, list_file)
    say(f"{out}: {len(unreadable)} of {len(listed)} images cannot be read: their y_pred is the prior {bundle.prior!r}")


def _judge_known(column: str, labels: Sequence[int], scored: Sequence[float | None], list_file: Path) -> None:
    """Say the AUC of what could be scored against a list's own labels; each image counts as a group."""
    import numpy as np

    from ffdi.bootstrap import auc_interval
    from ffdi.evaluation.below_chance import explain
    from ffdi.metrics import auc

    pairs = [(label, score) for label, score in zip(labels, scored, strict=True) if score is not None]
    label, score = (np.array(values) for values in zip(*pairs, strict=True))
    if len(np.unique(label)) < 2:
        return
    low, high = auc_interval(label, score, np.arange(len(label)), resamples=1000, seed=0)
    metrics: Metrics = {"auc": auc(label, score), "auc_low": low, "auc_high": high, "tested_on": list_file.name}
    for line in explain(metrics):
        say(f"submit: WARNING: {line}")
    figures = f"AUC {metrics['auc']:.3f} [{low:.3f}, {high:.3f}], each image a group of its own"
    say(f"submit: against column {column} of {list_file.name}: {figures}")


@main.command(cls=OneLineErrors)
@click.option("--images", "images_file", required=True, type=click.Path(path_type=Path), help="an images.csv")
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), help="its folds.csv: judge its test rows alone")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="the folder that its paths start from")
@click.option("--name", help="what to call this data set  [default: the name of --root]")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: metrics/cross/MODEL-on-NAME.json]"
)
@click.option(
    "--phash-bits", default=6, show_default=True, type=click.IntRange(0, 32), help="how unlike near-duplicates may be"
)
@click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(min=100), help="resamples")
@click.option("--seed", default=0, show_default=True, help="of the resampling")
@_scoring
def evaluate(
    images_file: Path,
    folds_file: Path | None,
    root: Path,
    name: str | None,
    out: Path | None,
    phash_bits: int,
    bootstrap: int,
    seed: int,
    model: Path,
    max_pixels: int,
) -> None:
    """Judge a model on another data set, with its frozen threshold; the report shows what metrics/cross has.

    Images that the model was trained on, and near-duplicates of them, are named and left out.
    """
    import torch

    from ffdi.evaluation.below_chance import explain
    from ffdi.evaluation.cross import cross_evaluate
    from ffdi.evaluation.evaluate import test_rows
    from ffdi.features.devices import set_up_device
    from ffdi.files import replacing
    from ffdi.intake.tables import join, read_folds, read_images
    from ffdi.parallel import cpu_count, keep_freed_memory
    from ffdi.tails.bundle import load_bundle

    torch.set_num_threads(cpu_count())
    keep_freed_memory()
    if not root.is_dir():
        raise InputError(f"{root}: is no folder")
    images = read_images(images_file)
    if folds_file:
        images = test_rows(join(images, read_folds(folds_file)))
    bundle, name = load_bundle(model), name or root.resolve().name
    out = out or Path("metrics/cross") / f"{model.resolve().name}-on-{name}.json"
    with replacing(out) as temporary:  # opened first: who may not write there learns it before all is scored
        away = cross_evaluate(
            bundle,
            images,
            root=root,
            tested_on=name,
            phash_bits=phash_bits,
            resamples=bootstrap,
            seed=seed,
            max_pixels=max_pixels,
            device=set_up_device("auto"),
            progress=bar(f"evaluate on {name}"),
            say=partial(_tell, f"evaluate on {name}"),
        )
        write_json(temporary, metrics := away.metrics)
    for path in away.seen["path"]:
        say(f"{str(path)!r}: left out: the model was trained on it or on a near-duplicate")
    for line in explain(metrics):
        say(f"WARNING: {line}")
    say(f"{metrics['trained_on']} -> {name}: {said(metrics)}; {metrics['n_seen']} images left out")
    say(f"{out}")


def said(metrics: Metrics) -> str:
    """The figures of an evaluation on one line."""
    m = metrics
    if m["auc"] is None:
        return f"no AUC ({m['auc_reason']}); accuracy {m['accuracy']:.3f} on {m['n_test']} images"
    auc, accuracy = (
        f"{m[key]:.3f} "
        + ("without interval" if m[f"{key}_low"] is None else f"[{m[f'{key}_low']:.3f}, {m[f'{key}_high']:.3f}]")
        for key in ("auc", "accuracy")
    )
    return f"test AUC {auc}, accuracy {accuracy}, {m['n_test']} images"


@main.command(cls=OneLineErrors)
@click.argument("revisions", nargs=-1, metavar="[REV [REV]]")
@click.option("--all", "whole", is_flag=True, help="every change, however long, at full width")
@click.option("--md", "markdown", is_flag=True, help="a table in Markdown")
def diff(revisions: tuple[str, ...], whole: bool, markdown: bool) -> None:
    """Show which figures changed, those beyond their interval first: a screen of them.

    From REV (a commit, branch, tag or experiment; HEAD if none is given) to the workspace, or from one REV to another.
    """
    from ffdi.evaluation.diff import changes, diff_lines, read_revision, read_workspace

    if len(revisions) > 2:
        raise click.UsageError(f"two revisions can be compared, not {len(revisions)}")
    metrics = Path("metrics")
    old, new = [*(revisions or ["HEAD"]), "workspace"][:2]
    before = read_revision(old, metrics)
    after = read_revision(new, metrics) if len(revisions) == 2 else read_workspace(metrics)
    for line in diff_lines(changes(before, after), old, new, whole=whole, markdown=markdown):
        click.echo(line)


@main.command(cls=OneLineErrors)
@click.argument("network")
@click.option("--image-size", default=224, show_default=True, type=click.IntRange(min=1))
@click.option("--dtype", default="float16", show_default=True, type=click.Choice(["float16", "float32", "int8"]))
def cuts(network: str, image_size: int, dtype: str) -> None:
    """Print where NETWORK, torchvision:NAME or timm:NAME, can be cut, and what each cut stores and saves.

    A cut is the module that the tail begins with. Its tensor is kept per image and view; the share of FLOPs is that of
    the frozen prefix, which is computed once.
    """
    from ffdi.features.backbones import build_network, without_classifier
    from ffdi.features.cuts import Cut, list_cuts
    from ffdi.features.spec import INPUT
    from ffdi.files import human_bytes

    images = Cut(INPUT, (3, image_size, image_size), 0.0)
    found = list_cuts(without_classifier(build_network(network), network), image_size)
    rows = [("cut", "shape", "bytes per image", "FLOPs before")]
    for cut, kept_as in [(images, "uint8"), *((cut, dtype) for cut in found)]:
        shape = "x".join(str(n) for n in cut.shape)
        rows.append((cut.name, shape, human_bytes(cut.bytes(kept_as)), f"{cut.flops_before:.1%}".replace("%", " %")))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for name, shape, size, share in rows:
        click.echo(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {size:>{widths[2]}}  {share:>{widths[3]}}")


@main.group()
def shards() -> None:
    """Look into a folder of cached features."""


@shards.command(cls=OneLineErrors)
@click.argument("folder", type=click.Path(path_type=Path))
def ls(folder: Path) -> None:
    """Print what the shards of FOLDER hold."""
    from ffdi.features.shards import read_index
    from ffdi.files import human_bytes

    index = read_index(folder)
    spec = index.spec
    shape = "x".join(str(n) for n in spec.shape)
    click.echo(
        f"{spec.network} cut at {spec.cut}, {index.provenance['weights']}: {index.rows} rows of {shape} {spec.dtype}, "
        f"compression {index.compression}, fingerprint {spec.fingerprint[:12]}"
    )
    for maker in index.made_by:
        click.echo("made by " + ", ".join(f"{key} {value}" for key, value in maker.items()))
    for entry in index.shards:
        file = folder / entry["name"]
        size = human_bytes(file.stat().st_size) if file.exists() else "missing"
        click.echo(f"{entry['name']}  {entry['rows']} rows  {size}  sha256 {entry['sha256']}")


@shards.command(cls=OneLineErrors)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def export(folder: Path, out: Path) -> None:
    """Write each shard of FOLDER as an npz file in OUT: features, image_id and view."""
    from ffdi.features.dataset import export_npz

    for file in export_npz(folder, out):
        click.echo(file)


@shards.command(cls=OneLineErrors)
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Check every shard of FOLDER against its schema and the index's hashes."""
    from ffdi.features.store import FeatureStore

    store = FeatureStore(folder)
    click.echo(f"{folder}: {len(store)} rows in {len(store.index.shards)} shards are whole")
