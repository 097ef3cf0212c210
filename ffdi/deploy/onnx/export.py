"""A model as one ONNX file, which appears only when its scores are the model's.

export_onnx(load_model(Path("data/models/NAME")), Path("NAME.onnx"), name="NAME")
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.console import Console
from ffdi.deploy.onnx.facts import onnx_facts
from ffdi.deploy.onnx.scoring_graph import ScoringGraph, parameter_bytes
from ffdi.deploy.onnx.squares import Squares, drawn_pictures
from ffdi.errors import ExportError, first_cause, one_line
from ffdi.files import human_bytes, replacing
from ffdi.intake.decoding.images import RGB
from ffdi.tails.model import Model

OPSET = 18
MOST_BYTES = 2_000_000_000  # protobuf refuses 2 GiB
TOLERANCE = 1e-4
BATCHES = (1, 3, 16)
_TIMED_BATCH, _TIMED_SECONDS = 16, 2.0
Scores = npt.NDArray[np.float32]
Run = Callable[[RGB], tuple[Scores, Scores]]


@dataclass(frozen=True)
class Exported:
    """What the command says of the file: `most_apart` is the largest difference to the model's score on `images` images whose
    scores went from `lowest` to `highest`; the speeds are in images a second on this CPU."""

    opset: int
    size: int
    images: int
    most_apart: float
    lowest: float
    highest: float
    speed: float
    torch_speed: float


def export_onnx(
    model: Model,
    out: Path,
    *,
    name: str,
    squares: Squares | None = None,
    licence: str | None = None,
    console: Console = Console(),
) -> Exported:
    """Write the model to `out`: RGB uint8 `images` (N, S, S, 3) -> `score` (N,) and `by_fold` (N, K), for any N.

    The file is checked before it has its name: on `squares`, by default pictures that are drawn here, in batches of
    several sizes, its scores differ from the model's by at most TOLERANCE. ParamsError for a model that a graph of
    squares cannot hold, ExportError when it does not export, is too large, or gives other scores.
    """
    graph = ScoringGraph(model)
    console.say("the graph is made: this takes a minute or so")
    body = described(graph_of(graph, model), onnx_facts(model, name, folds=graph.folds, licence=licence))
    session, seen = onnx_scores(body), squares or Squares.of(model, drawn_pictures())
    apart = refuse_other_scores(session, seen, f"{out.name}: its scores are not those of {name}")
    timed = seen.pixels[:_TIMED_BATCH]
    speeds = [images_per_second(run, timed) for run in (session, torch_scores(graph))]
    with replacing(out) as temporary:
        temporary.write_bytes(body)
    ends = float(seen.scores.min()), float(seen.scores.max())
    return Exported(OPSET, len(body), len(seen.scores), apart, *ends, speeds[0], speeds[1])


def graph_of(graph: ScoringGraph, model: Model) -> Any:
    """The ONNX model of a scoring graph, of the standard's operators alone; equal weights are in it once."""
    import onnx
    import torch

    if (size := parameter_bytes([graph])) > MOST_BYTES:
        raise ExportError(
            f"its weights take {human_bytes(size)}, and one ONNX file holds {human_bytes(MOST_BYTES)}: train it with "
            "refit: true, which leaves one tail, or cut the network later"
        )
    side = model.parts[0].backbone.pixels.size
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own code
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["score", "by_fold"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # the exporter may raise anything
        raise ExportError(
            f"{model.description['network']} does not export to ONNX: {one_line(first_cause(error))[:200]}"
        ) from error
    assert program is not None
    made = share_weights(program.model_proto)
    onnx.checker.check_model(made)
    return made


def share_weights(made: Any) -> Any:
    """The graph with each of its constants once: those of tails that share a body, and of prefixes that are parts of another.

    ONNX Runtime computes once what has the same operators and inputs.
    """
    first: dict[bytes, str] = {}
    twin: dict[str, str] = {}
    unique = []
    for tensor in made.graph.initializer:
        content = hashlib.sha256(repr((tensor.data_type, list(tensor.dims))).encode() + tensor.raw_data).digest()
        if tensor.raw_data and content in first:
            twin[tensor.name] = first[content]
        else:
            first[content] = tensor.name
            unique.append(tensor)
    if twin:
        kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in unique]
        del made.graph.initializer[:]
        made.graph.initializer.extend(kept)
        for node in made.graph.node:
            for at, name in enumerate(node.input):
                node.input[at] = twin.get(name, name)
        infos = [info for info in made.graph.value_info if info.name not in twin]
        del made.graph.value_info[:]
        made.graph.value_info.extend(infos)
    return made


def described(made: Any, facts: Mapping[str, str]) -> bytes:
    """The bytes of a graph with its metadata, and without what the exporter noted of the code that it came from."""
    for node in made.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for info in (*made.graph.value_info, *made.graph.initializer, *made.graph.input, *made.graph.output):
        del info.metadata_props[:]
    del made.graph.metadata_props[:]
    made.producer_name, made.producer_version = "ffdi", facts["ffdi"]
    made.graph.name, made.doc_string = facts["model"], "RGB squares -> calibrated P(fake); see the metadata"
    del made.metadata_props[:]
    for key, value in facts.items():
        made.metadata_props.add(key=key, value=value)
    return bytes(made.SerializeToString(deterministic=True))


def onnx_scores(model: Path | bytes, threads: int = 0) -> Run:
    """What runs a file of export_onnx on the CPU: squares -> (score, by_fold). 0 threads: one a core of this process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    source = str(model) if isinstance(model, Path) else model
    session: Any = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(images: RGB) -> tuple[Scores, Scores]:
        score, by_fold = session.run(["score", "by_fold"], {"images": images})
        return score, by_fold

    return run


def torch_scores(graph: ScoringGraph) -> Run:
    """The same by torch."""
    import torch

    def run(images: RGB) -> tuple[Scores, Scores]:
        with torch.inference_mode():
            score, by_fold = graph(torch.from_numpy(images))
        return score.numpy(), by_fold.numpy()

    return run


def refuse_other_scores(run: Run, squares: Squares, what: str) -> float:
    """The largest difference to the model's scores; ExportError, which begins with `what`, when it is above TOLERANCE."""
    apart = most_apart(run, squares)
    if not apart <= TOLERANCE:
        far = f"they differ by up to {apart:.2g} on {len(squares.scores)} images, more than {TOLERANCE:g}"
        raise ExportError(f"{what}: {far}: no file is written")
    return apart


def most_apart(run: Run, squares: Squares) -> float:
    """The largest difference between a graph's scores of squares, in batches of each size, and those of the model."""
    given = [run(squares.pixels[at : at + size])[0] for size, at in batches(len(squares.scores))]
    return float(np.abs(np.concatenate(given) - squares.scores).max())  # NaN where there is one


def batches(count: int) -> Sequence[tuple[int, int]]:
    """(size, start) of batches that see each of `count` images once, by turns of each size."""
    found, at = list[tuple[int, int]](), 0
    while at < count:
        found.append((BATCHES[len(found) % len(BATCHES)], at))
        at += found[-1][0]
    return found


def images_per_second(run: Run, images: RGB) -> float:
    """The median over runs of one batch; the first, which may prepare things, is not timed."""
    run(images)
    seconds, start = list[float](), time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - start < _TIMED_SECONDS:
        begun = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - begun)
    return len(images) / float(np.median(seconds))
