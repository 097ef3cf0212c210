"""A model as an ONNX file whose layers compute in eight bits, with what that costs it on images of its own training.

Static quantisation of ONNX Runtime: weights int8 with a scale for each channel, activations uint8 with scales from
images of the training. Each image is scored by the tail that did not train on it, by the float graph and by the int8 one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ffdi.bootstrap import Bootstrap, auc_of, interval_around, resample
from ffdi.console import Console, only_errors
from ffdi.deploy.onnx.export import (
    Run,
    described,
    graph_of,
    images_per_second,
    onnx_scores,
    refuse_other_scores,
)
from ffdi.deploy.onnx.facts import onnx_facts
from ffdi.deploy.onnx.scoring_graph import ScoringGraph
from ffdi.deploy.onnx.squares import Squares, drawn_pictures, squares_of
from ffdi.deploy.onnx.training_images import TrainingImages
from ffdi.errors import ExportError
from ffdi.files import replacing
from ffdi.intake.decoding.images import RGB
from ffdi.metrics import auc
from ffdi.tails.bundle import Bundle
from ffdi.tails.ensemble import Ensemble
from ffdi.tails.model import Model
from ffdi.tails.policy import Policy

CALIBRATED_ON, MEASURED_ON = 96, 500  # images, at most
BATCH = 8
POOR = 0.05  # verdicts that change, from which on a network is said to quantise badly
_LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Cost:
    """What eight bits cost on `images` images that calibrated nothing, each scored by the tail of its own fold, which did not
    train on it: both AUCs, their difference with its 95 % interval over groups, the mean difference of the scores, and the
    share of verdicts that change."""

    images: int
    auc: float
    auc_int8: float
    difference: float
    low: float
    high: float
    score_difference: float
    verdicts_changed: float


@dataclass(frozen=True)
class Quantised:
    """What the command says of the file; speeds in images a second on this CPU. `mended` is the cost with float ends, where
    that was tried because `cost` is high."""

    size: int
    float_size: int
    calibrated_on: int
    cost: Cost
    mended: Cost | None
    speed: float
    float_speed: float


def cost_line(cost: Cost) -> str:
    """The cost on one line."""
    return (
        f"out-of-fold AUC {cost.auc_int8:.4f} in int8, {cost.auc:.4f} in float: {cost.difference:+.4f} "
        f"[{cost.low:+.4f}, {cost.high:+.4f}] on {cost.images} images; scores {cost.score_difference:.3f} apart on average, "
        f"{cost.verdicts_changed:.1%} of the verdicts change"
    )


def export_int8(
    model: Model,
    out: Path,
    *,
    name: str,
    images: TrainingImages,
    float_ends: bool = False,
    licence: str | None = None,
    console: Console = Console(),
) -> Quantised:
    """Write the model to `out` in eight bits. With `float_ends` the first and the last layers of the networks stay in float.

    The graph is first checked against the model in float, as export_onnx checks it. Of a refit recipe, whose tail trained
    on every image, the cost is that of the tails of its folds. Raises as export_onnx, and ExportError when a network cannot
    be quantised.
    """
    calibrating, measured = drawn_parts(images)
    console.say(f"made and quantised with {len(calibrating.pictures)} images of the training: this takes minutes")
    judge = with_fold_tails(model)
    pixels, shown = (squares_of(model, [(p.name, p.read) for p in part.pictures]) for part in (calibrating, measured))
    graph, made = float_graph(judge)
    session = onnx_scores(graph_of(ScoringGraph(judge), judge).SerializeToString())  # it rounds features, as the model
    refuse_other_scores(
        session, Squares.of(judge, drawn_pictures()), f"{out.name}: its scores in float are not {name}'s"
    )
    due = own_fold(session, shown, measured, graph)

    def cost(ends: bool) -> tuple[Any, Cost]:
        small = int8_graph(made, pixels, float_ends=ends)
        return small, cost_of(
            model.policy, due, own_fold(onnx_scores(small.SerializeToString()), shown, measured, graph), measured
        )

    small, found = cost(float_ends)
    mended = cost(True)[1] if not float_ends and found.verdicts_changed > POOR else None
    if judge is not model:
        graph, made = float_graph(model)
        small = int8_graph(made, pixels, float_ends=float_ends)
    facts = onnx_facts(model, name, folds=graph.folds, licence=licence)
    facts["quantisation"] = json.dumps({"int8": "static", "float_ends": float_ends} | asdict(found))
    body, plain = described(small, facts), made.SerializeToString()
    speeds = [images_per_second(onnx_scores(graph), pixels[:16]) for graph in (body, plain)]
    with replacing(out) as temporary:
        temporary.write_bytes(body)
    return Quantised(len(body), len(plain), len(pixels), found, mended, speeds[0], speeds[1])


def float_graph(model: Model) -> tuple[ScoringGraph, Any]:
    """The graph without the rounding of stored features, which would stand between two int8 layers."""
    graph = ScoringGraph(model, rounded=False)
    return graph, graph_of(graph, model)


def with_fold_tails(model: Model) -> Model:
    """The model with the tails of its folds in the place of refit ones; itself where there are none."""
    if not any(part.is_refit for part in model.parts):
        return model
    if isinstance(model, Ensemble):
        members = {name: replace(part, tails=part.fold_tails) for name, part in model.members.items()}
        return replace(model, members=members)
    assert isinstance(model, Bundle)
    return replace(model, tails=model.fold_tails)


def drawn_parts(images: TrainingImages) -> tuple[TrainingImages, TrainingImages]:
    """Images to calibrate with, at most a third, and others to measure the cost on, drawn by a fixed seed."""
    order = np.random.default_rng(0).permutation(len(images.pictures))
    count = min(CALIBRATED_ON, len(order) // 3)
    return images.take(order[:count]), images.take(order[count : count + MEASURED_ON])


def own_fold(run: Run, pixels: RGB, images: TrainingImages, graph: ScoringGraph) -> np.ndarray:
    """(N,) the score of each image by the tails of its own fold, which did not train on it."""
    by_fold = np.concatenate([run(pixels[at : at + BATCH])[1] for at in range(0, len(pixels), BATCH)])
    column = [graph.folds.index(fold) for fold in images.folds]
    return np.asarray(by_fold[np.arange(len(column)), column], np.float64)


def cost_of(policy: Policy, due: np.ndarray, given: np.ndarray, images: TrainingImages) -> Cost:
    """The cost of `given` (N,) scores in the place of `due`."""
    if not np.isfinite(given).all():
        raise ExportError("in int8 the scores are not finite: export it in float, without --quantise")
    labels = images.labels
    statistics = {"float": auc_of(labels, due), "int8": auc_of(labels, given)}
    drawn = resample(images.groups, statistics, bootstrap=Bootstrap(2000))
    plain, small = auc(labels, due), auc(labels, given)
    low, high = interval_around(small - plain, drawn["int8"] - drawn["float"], within=(-1, 1))
    changed = float((policy.verdicts(due) != policy.verdicts(given)).mean())
    return Cost(len(labels), plain, small, small - plain, low, high, float(np.abs(given - due).mean()), changed)


def int8_graph(made: Any, pixels: RGB, *, float_ends: bool) -> Any:
    """The graph `made` with its layers, and what lies between them, in eight bits. `pixels` (N, S, S, 3) calibrate it."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH))

        def get_next(self) -> dict[str, RGB] | None:
            return next(({"images": batch} for batch in self.batches), None)

    with TemporaryDirectory() as folder, only_errors():  # it advises to preprocess the graph, without need
        out = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                copied(made),
                out,
                Reader(),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept_in_float(made, ends=float_ends),
            )
        except Exception as error:  # the quantiser may raise anything
            reason = " ".join(str(error).split())[:200]
            raise ExportError(f"it cannot be quantised ({reason}): export it in float, without --quantise") from error
        return onnx.load(out)


def copied(made: Any) -> Any:
    """A copy: the quantiser changes what it is given."""
    return type(made).FromString(made.SerializeToString())


def kept_in_float(made: Any, *, ends: bool) -> list[str]:
    """The nodes before the first layers (normalisation) and behind the last ones (logits, temperature, mean), whose eight bits
    would be those of the score; with `ends` those layers as well."""
    ahead, behind = _reached(made.graph.node, forwards=True), _reached(made.graph.node[::-1], forwards=False)
    inside = {
        node.name
        for node in made.graph.node
        if (node.op_type in _LAYERS or node.name in ahead) and (node.op_type in _LAYERS or node.name in behind)
    }
    if ends:
        inside = {name for name in inside if name in ahead and name in behind}
    return [node.name for node in made.graph.node if node.name not in inside]


def _reached(nodes: Any, *, forwards: bool) -> set[str]:
    """The names of the nodes that have a layer before them, or behind them; `nodes` are in that order."""
    below, names = set[str](), set[str]()
    for node in nodes:
        reads, gives = (node.input, node.output) if forwards else (node.output, node.input)
        is_below = any(name in below for name in reads)
        if is_below:
            names.add(node.name)
        if is_below or node.op_type in _LAYERS:
            below.update(gives)
    return names
