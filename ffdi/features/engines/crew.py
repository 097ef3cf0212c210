"""The workers of one map over a cluster: hired as far as there is room, handed items, heard, replaced when they die."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ffdi.console import Console
from ffdi.errors import FfdiError, ShardError
from ffdi.features.engines.host import Attempt, Host, Opened, Tell
from ffdi.features.engines.jobs import Jobs, pause_after
from ffdi.features.settings import RaySettings

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Any, Tell], Result]
Node = Mapping[str, float]

_LOOK = 2.0  # seconds between two looks at the nodes of the cluster
_LISTEN = 0.5  # seconds between two questions what a worker has to tell
_PATIENCE = 20.0  # seconds without any worker, after which that is said


@dataclass(frozen=True)
class MapOptions:
    """What Cluster.map was told besides the work and its items, and what a worker takes of a node now."""

    named: Callable[[Any], str]
    heard: Callable[[Any, Any], None]
    packed: Callable[[Any], Any]
    at_once: int
    console: Console = Console()


@dataclass(eq=False)
class _Worker:
    """An actor: it is opening, or has a name and items in its hands, by the references of their answers."""

    actor: Any
    opening: Any
    name: str = ""
    hands: dict[Any, int] = field(default_factory=dict)
    asked: Any = None

    @property
    def references(self) -> list[Any]:
        """All that it is yet to answer."""
        return [reference for reference in (self.opening, self.asked, *self.hands) if reference is not None]


class Crew(Generic[Item, Result]):
    """One map over a cluster: its workers and its jobs. Ray itself comes as an argument."""

    def __init__(
        self,
        ray: Any,
        make_work: Callable[[], Work[Result]],
        items: Sequence[Item],
        options: MapOptions,
        settings: RaySettings,
    ) -> None:
        self._ray, self._make_work, self._items = ray, make_work, items
        self._options, self._settings = options, settings
        self._jobs = Jobs[Result](len(items), self._settings.retries)
        self._workers: list[_Worker] = []
        self._share: dict[str, float] = {}
        self._wanted, self._next_look, self._next_hire, self._next_listen = 0, 0.0, 0.0, 0.0
        self._false_starts, self._said = 0, set[str]()  # starts that failed since one succeeded
        self._idle_since = time.monotonic()
        self._first: Opened | None = None

    def results(self) -> Iterator[tuple[Item, Result]]:
        """Every item with its result, in order; then the error of those that failed."""
        at, jobs = 0, self._jobs
        while jobs.left:
            self._hire()
            self._hand_out()
            self._take_answers()
            self._listen()
            while at in jobs.results or at in jobs.failures:
                if at in jobs.results:
                    yield self._items[at], jobs.results.pop(at)
                at += 1
        if jobs.failures:
            raise self._error()

    def dismiss(self) -> None:
        """End all workers, and whatever they are doing."""
        for worker in self._workers:
            self._end(worker)
        self._workers = []

    def _hire(self) -> None:
        """Have as many workers as there is room and work for; FfdiError when none of several could begin."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK
            nodes = living_nodes(self._ray)
            self._share = self._share or share_of(nodes, self._settings)
            room = sum(_fits(node, self._share) for node in nodes)
            most = self._settings.max_in_flight
            self._wanted = max(1, room) if most == "auto" else most
            self._say_when_idle(now, nodes)
        if now < self._next_hire:
            return
        while len(self._workers) < min(self._wanted, self._jobs.left):
            threads = self._options.at_once + 1  # one of them listens
            actor = (
                self._ray.remote(Host)
                .options(**self._share, max_concurrency=threads)
                .remote(self._make_work, self._share["num_gpus"])
            )
            self._workers.append(_Worker(actor, actor.open.remote()))

    def _hand_out(self) -> None:
        """Give items to the workers that have the fewest; each worker holds at most `at_once`."""
        while free := [worker for worker in self._workers if self._may_take(worker)]:
            worker = min(free, key=lambda w: len(w.hands))
            number = self._jobs.next()
            if number is None:
                return
            packed = self._options.packed(self._items[number])
            worker.hands[worker.actor.work.remote(number, packed)] = number

    def _may_take(self, worker: _Worker) -> bool:
        """Whether a worker takes another item. The last ones are left to those that would have nothing to do."""
        return bool(worker.name) and (
            not worker.hands or (len(worker.hands) < self._options.at_once and self._jobs.waiting > len(self._workers))
        )

    def _take_answers(self) -> None:
        """Wait a moment for an answer, and take all that have come."""
        waiting = {reference: worker for worker in self._workers for reference in worker.references}
        if not waiting:
            time.sleep(0.1)
            return
        self._ray.wait(list(waiting), timeout=0.2)
        answered, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for reference in answered:
            worker = waiting[reference]
            if worker in self._workers:  # it may have been lost with an answer before this one
                try:
                    self._take(worker, reference, self._ray.get(reference))
                except self._ray.exceptions.RayError as error:
                    self._lose(worker, FfdiError(f"the worker was lost ({_reason(error)})"))

    def _take(self, worker: _Worker, reference: Any, answer: Any) -> None:
        if reference == worker.opening:
            worker.opening = None
            if refusal := self._refusal(answer):
                self._refused(worker, refusal)
            else:
                worker.name, self._false_starts = answer.name, 0
            return
        if reference == worker.asked:
            worker.asked = None
            for number, told in answer:
                self._options.heard(self._items[number], told)
            return
        number, made = worker.hands.pop(reference), answer
        assert isinstance(made, Attempt)
        for told in made.told:
            self._options.heard(self._items[number], told)
        if made.error is None:
            self._jobs.done(number, made.result)
        else:
            self._failed(number, worker.name, made.error)

    def _refusal(self, opened: Opened) -> FfdiError | None:
        """Why a worker is not taken, if it is not: it cannot work, or its work would differ from that of the first."""
        if opened.error:
            return type(opened.error)(f"{opened.name}: {opened.error}")
        first = self._first = self._first or opened
        if first.about == opened.about:
            return None
        here = opened.about
        differ = [f"{key} {here.get(key)}, not {due}" for key, due in first.about.items() if here.get(key) != due]
        same = "give all nodes the same packages and devices"
        return ShardError(f"{opened.name}: differs from {first.name} ({'; '.join(differ)}): {same}")

    def _lose(self, worker: _Worker, error: FfdiError) -> None:
        """Let a dead worker go; what it had in its hands is tried again."""
        if worker.opening is not None:
            self._refused(worker, error)
            return
        self._workers.remove(worker)
        self._end(worker)  # it may only be out of reach, and would go on
        for number in worker.hands.values():
            self._failed(number, worker.name, error)

    def _refused(self, worker: _Worker, reason: FfdiError) -> None:
        """A worker could not begin. Others are tried later, unless none has begun in as many tries as an item has."""
        self._workers.remove(worker)
        self._end(worker)
        self._false_starts += 1
        self._next_hire = time.monotonic() + pause_after(self._false_starts)
        self._say_once(f"a worker cannot begin: {reason}")
        if self._false_starts > self._settings.retries and not any(other.name for other in self._workers):
            raise reason

    def _failed(self, number: int, worker: str, error: FfdiError) -> None:
        again = self._jobs.failed(number, worker, error)
        if not again:
            self._options.heard(self._items[number], self._jobs.failures[number])
        self._options.console.warn(
            f"{self._options.named(self._items[number])} failed on {worker}{': tried again later' if again else ''}: {error}"
        )

    def _listen(self) -> None:
        """Ask the workers that have work what they have to tell."""
        now = time.monotonic()
        if now < self._next_listen:
            return
        self._next_listen = now + _LISTEN
        for worker in self._workers:
            if worker.hands and worker.asked is None:
                worker.asked = worker.actor.told.remote()

    def _say_when_idle(self, now: float, nodes: Sequence[Node]) -> None:
        """Say once that no worker has begun for a while, and what the cluster has."""
        if any(worker.name for worker in self._workers):
            self._idle_since = now
        elif now - self._idle_since > _PATIENCE:
            has = [f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes]
            asked = f"{self._share['num_cpus']:g} CPUs and {self._share['num_gpus']:g} GPUs"
            self._say_once(
                f"waiting for room for a worker, which takes {asked}; the nodes have {'; '.join(has) or 'left'}"
            )

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._options.console.warn(line)

    def _end(self, worker: _Worker) -> None:
        with suppress(Exception):  # it may be dead, or the cluster gone
            self._ray.kill(worker.actor)

    def _error(self) -> FfdiError:
        """The first failure, of its own class, and how many others there are."""
        failures = self._jobs.failures
        first = min(failures)
        failure = failures[first]
        what = f"{self._options.named(self._items[first])}: failed {failure.tries} times, at last on {failure.worker}"
        others = f" ({len(failures) - 1} others failed too, named above)" if len(failures) > 1 else ""
        return type(failure.error)(f"{what}: {failure.error}{others}")


def living_nodes(ray: Any) -> list[Node]:
    """What each living node of the cluster has: `CPU`, `GPU` and others."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def share_of(nodes: Sequence[Node], settings: RaySettings) -> dict[str, float]:
    """What a worker takes of a node: `num_cpus` and `num_gpus`."""
    with_gpu = [node for node in nodes if node.get("GPU", 0)]
    gpus = (1.0 if with_gpu else 0.0) if settings.gpus_per_task == "auto" else settings.gpus_per_task
    cpus = 1.0 if settings.cpus_per_task == "auto" else float(settings.cpus_per_task)
    if settings.cpus_per_task == "auto" and gpus and with_gpu:
        cpus = max(1.0, min(node.get("CPU", 0) * gpus // node["GPU"] for node in with_gpu))
    return {"num_cpus": cpus, "num_gpus": gpus}


def _fits(node: Mapping[str, float], share: Mapping[str, float]) -> int:
    """How many workers a node has room for, were it empty."""
    wants = {"CPU": share["num_cpus"], "GPU": share["num_gpus"]}
    return min((int(node.get(kind, 0) / need + 1e-9) for kind, need in wants.items() if need), default=1)


def _reason(error: Exception) -> str:
    """Why a worker died, on one line: Ray's own pages name actors and are hard to read."""
    if lacks := re.search(r"No module named '[\w.]+'", str(error)):
        return f"{lacks.group()}: install the package on every node"
    known = {"OutOfMemoryError": "its node ran out of memory", "NodeDiedError": "its node is gone"}
    return known.get(type(error).__name__, "its process or its node died")
