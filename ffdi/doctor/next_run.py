"""What the next `dvc repro` would run, about how long it takes and how much it writes. Takes no lock and changes nothing.

DVC itself is asked what changed, stage by stage: `dvc status` would do the same under a lock, and names only the stages
that changed themselves, not those that come after them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.stagekit.stopwatch import stage_seconds_file

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage


@dataclass(frozen=True)
class NextStage:
    """A stage that the next run computes, or one that only follows such stages: it runs where what it reads changes.

    `seconds` and `bytes` are those of its last run; None where there was none.
    """

    name: str
    follows: bool
    seconds: float | None
    bytes: int | None


def planned_stages(folder: Path = Path()) -> list[NextStage]:
    """What the next run computes, in an order in which it could; DvcException when DVC cannot read the pipeline."""
    import networkx
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    planned: list[NextStage] = []
    with Repo(str(folder)) as repo:
        graph, running = repo.index.graph, set()
        for stage in reversed(list(networkx.topological_sort(graph))):  # its edges lead to what a stage depends on
            changed = _changed(stage)
            if changed or any(before in running for before in graph.successors(stage)):
                running.add(stage)
                name = str(stage.addressing).rpartition(":")[2]
                planned.append(NextStage(name, not changed, _seconds(name), _bytes(stage, _copies(repo))))
    return planned


def _changed(stage: Stage) -> bool:
    """Whether DVC would run a stage whatever the stages before it do."""
    if stage.frozen:
        return False
    if stage.is_callback or stage.always_changed or stage.changed_stage():
        return True
    return any(path.status() for path in (*stage.deps, *stage.outs))


def _copies(repo: Repo) -> int:
    """How often an output lies on the disk: in the workspace and in DVC's cache, or once where the one is a link."""
    kinds: Sequence[str] = repo.cache.local.cache_types
    return 1 if kinds[0] in ("hardlink", "symlink") else 2


def _bytes(stage: Stage, copies: int) -> int | None:
    """What dvc.lock says of the outputs of a stage; None for a stage that never ran."""
    sizes: list[tuple[int | None, int]] = [
        (out.meta.size, copies if out.use_cache else 1) for out in stage.outs if out.meta
    ]
    known = [size * times for size, times in sizes if size is not None]
    return sum(known) if len(known) == len(stage.outs) else None


def _seconds(name: str) -> float | None:
    """The longest of what was measured: a run that found everything there takes no time."""
    stage, _, key = name.partition("@")
    of_parts = Path("data/timings") / f"{'evaluate' if stage == 'fuse' else stage}-{key}.json"
    measured = [*_read(stage_seconds_file(name)), *_read(of_parts)]
    return max(measured, default=None)


def _read(file: Path) -> Iterator[float]:
    try:
        written: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        yield float(written["seconds"])
    except (OSError, ValueError, KeyError):
        return
