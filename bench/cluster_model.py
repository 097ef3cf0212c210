"""A model of an extraction on a cluster: a driver, workers with an accelerator each, and a store that they share.

Time is simulated: nothing is computed. A task is one shard, as in ffdi.features.engines.on_ray. Its images are fetched,
decoded, rendered, run through the prefix and written as one stream, so that the slowest of these decides. Then the
shard is sealed, uploaded and reported to the driver, while the worker goes on with its next task.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, None]
GB = 1e9


@dataclass(frozen=True)
class Job:
    """What is to be extracted: `images` files of `image_bytes`, `views` rows of each, of `row_bytes` in shards."""

    images: int
    views: int
    image_bytes: float
    row_bytes: float
    shard_rows: int = 4096

    @property
    def rows(self) -> int:
        return self.images * self.views

    @property
    def tasks(self) -> list[int]:
        """The rows of each shard."""
        whole, rest = divmod(self.rows, self.shard_rows)
        return [self.shard_rows] * whole + [rest] * bool(rest)


@dataclass(frozen=True)
class Costs:
    """Seconds of each part, of one core, accelerator or driver."""

    decode: float
    """an image: read, decode, resize"""
    view: float
    """a row: rendering"""
    prefix: float
    """a row"""
    write: float
    """a byte of a shard, by the one thread that writes it while others compute"""
    seal: float
    """a byte of a shard, by the one thread that syncs it, hashes it and reads it for the upload"""
    plan: float
    """a row, by the driver, before the first task"""
    task: float
    """a task, by the driver: submitted and its result taken"""
    start: float
    """until a worker has loaded the runtime"""
    spread: float = 0.0
    """the standard deviation of the logarithm of a task's time"""


@dataclass(frozen=True)
class Cluster:
    """The machines. Rates are in bytes or requests a second; infinite where nothing limits them."""

    workers: int
    workers_a_node: int = 8
    cores: float = 8
    """of one worker, beside its accelerator"""
    prefix_on_cores: bool = False
    """whether there is no accelerator: the prefix takes the cores, too"""
    node_rate: float = math.inf
    store_rate: float = math.inf
    get_rate: float = math.inf
    """images a second that the store hands out; one request each"""
    latency: float = 0.0
    """of a request, seconds"""
    reads: int = 64
    """requests of one worker at the same time"""
    ahead: int = 2
    """tasks that wait for each worker"""
    hours_between_failures: float = math.inf
    """of one node, on average"""
    repair: float = 600.0
    """seconds until a failed node is back"""
    slow_share: float = 0.0
    """of workers that are slow all the time"""
    slow_factor: float = 1.0

    @property
    def most_requests(self) -> float:
        """Requests a second of one worker, which waits for each answer."""
        return self.reads / self.latency if self.latency else math.inf


@dataclass(frozen=True)
class Outcome:
    """Seconds in all, of them before the first task, and how busy each part was (1: all the time)."""

    seconds: float
    planning: float
    busy: dict[str, float]
    done: tuple[int, ...]
    """how often each task was committed"""
    repeated: int
    """tasks that were begun again after a failure"""
    bytes_in: float
    bytes_out: float

    @property
    def bottleneck(self) -> str:
        return max(self.busy, key=lambda part: self.busy[part])


class Line:
    """A line that flows share: each gets an equal part of `rate`, and at most `most`."""

    def __init__(self, env: simpy.Environment, rate: float, most: float, flows: int) -> None:
        self._env, self._rate, self._most = env, rate, most
        self._never_full = most * flows <= rate  # by so many flows at a time
        self._ends: list[tuple[float, int, simpy.Event]] = []
        self._number = itertools.count()
        self._moved, self._since, self._plan = 0.0, 0.0, 0
        self.total = 0.0

    def flow(self, amount: float) -> simpy.Event:
        """The event that `amount` has passed."""
        self.total += amount
        if self._never_full or math.isinf(self._most):
            return self._env.timeout(amount / self._most)
        self._advance()
        event = self._env.event()
        heapq.heappush(self._ends, (self._moved + amount, next(self._number), event))
        self._arrange()
        return event

    def _share(self) -> float:
        return min(self._most, self._rate / len(self._ends))

    def _advance(self) -> None:
        if self._ends:
            self._moved += (self._env.now - self._since) * self._share()
        self._since = self._env.now

    def _arrange(self) -> None:
        """Wake when the first flow ends, unless another one has begun until then."""
        self._plan += 1
        if self._ends:
            wait = max(0.0, (self._ends[0][0] - self._moved) / self._share())
            self._env.timeout(wait, self._plan).callbacks.append(self._ring)

    def _ring(self, event: simpy.Event) -> None:
        if event.value != self._plan:
            return
        self._advance()
        first = self._ends[0][0]
        while self._ends and self._ends[0][0] <= first:
            heapq.heappop(self._ends)[2].succeed()
        self._arrange()


class Run:
    """One simulated extraction."""

    def __init__(self, job: Job, costs: Costs, cluster: Cluster, seed: int = 0) -> None:
        self.job, self.costs, self.cluster, self.seed = job, costs, cluster, seed
        self.env = env = simpy.Environment()
        workers = cluster.workers
        share = min(cluster.store_rate, cluster.node_rate / min(cluster.workers_a_node, workers))
        self.incoming = Line(env, cluster.store_rate, share, workers)
        self.outgoing = Line(env, cluster.store_rate, share, workers)
        self.requests = Line(env, cluster.get_rate, min(cluster.get_rate, cluster.most_requests), workers)
        self.driver_free = 0.0
        self.ready = simpy.Store(env, cluster.ahead * workers)
        self.rows = job.tasks
        draw = random.Random(f"{seed} tasks")
        self.factors = [math.exp(draw.gauss(0, costs.spread)) for _ in self.rows]
        self.done, self.left, self.repeated = [0] * len(self.rows), len(self.rows), 0
        self.finished = env.event()
        self.spent = {"cores": 0.0, "accelerator": 0.0, "writer": 0.0, "sealer": 0.0, "driver": 0.0}

    def outcome(self) -> Outcome:
        """The extraction from its first row planned to its last shard committed."""
        planning = self.costs.plan * self.job.rows
        self.env.process(self._submit(list(range(len(self.rows)))))
        nodes = math.ceil(self.cluster.workers / self.cluster.workers_a_node)
        for node in range(nodes):
            workers = range(node, self.cluster.workers, nodes)
            self.env.process(self._node(node, len(workers)))
        self.env.run(self.finished)
        total, cluster = self.env.now + planning, self.cluster
        moved_most = max(self.incoming.total, self.outgoing.total)
        busy = {part: spent / total / cluster.workers for part, spent in self.spent.items()}
        busy["cores"] /= cluster.cores
        busy["driver"] = (self.spent["driver"] + planning) / total
        busy["store"] = moved_most / total / cluster.store_rate
        busy["network"] = moved_most / total / (nodes * cluster.node_rate)
        busy["requests"] = self.requests.total / total / cluster.get_rate
        busy["latency"] = self.requests.total / total / (cluster.workers * cluster.most_requests)
        moved = self.incoming.total, self.outgoing.total
        return Outcome(total, planning, busy, tuple(self.done), self.repeated, *moved)

    def _submit(self, tasks: list[int]) -> Steps:
        for task in tasks:
            yield from self._drive()
            yield self.ready.put(task)

    def _drive(self) -> Steps:
        """The driver's half of what a task costs it."""
        self.driver_free = max(self.driver_free, self.env.now) + self.costs.task / 2
        self.spent["driver"] += self.costs.task / 2
        yield self.env.timeout(self.driver_free - self.env.now)

    def _node(self, node: int, workers: int) -> Steps:
        """Workers of one node, which fail together and come back after the repair."""
        draw = random.Random(f"{self.seed} node {node}")
        slow = [draw.random() < self.cluster.slow_share for _ in range(workers)]
        mean = self.cluster.hours_between_failures * 3600
        while True:
            taken: list[set[int]] = [set() for _ in range(workers)]
            at_work = [self.env.process(self._worker(slow[n], taken[n])) for n in range(workers)]
            if math.isinf(mean):
                return
            yield self.env.timeout(draw.expovariate(1 / mean))
            for process in at_work:
                process.interrupt()
            lost = sorted(task for tasks in taken for task in tasks)
            self.repeated += len(lost)
            self.env.process(self._submit(lost))
            yield self.env.timeout(self.cluster.repair)

    def _worker(self, slow: bool, taken: set[int]) -> Steps:
        waiting: Any = None  # the event of the next task
        ending: simpy.Process | None = None
        try:
            yield self.env.timeout(self.costs.start)
            while True:
                waiting = self.ready.get()
                task = yield waiting
                waiting = None
                taken.add(task)
                yield from self._compute(task, self.cluster.slow_factor if slow else 1.0)
                if ending is not None and ending.is_alive:  # one shard at a time is written and uploaded
                    yield ending
                ending = self.env.process(self._end(task, taken))
        except simpy.Interrupt:
            if waiting is not None and waiting.triggered:
                self.env.process(self._submit([waiting.value]))
            elif waiting is not None:
                waiting.cancel()
            if ending is not None and ending.is_alive:
                ending.interrupt()

    def _compute(self, task: int, slow: float) -> Steps:
        rows, costs, cluster = self.rows[task], self.costs, self.cluster
        images, factor = rows / self.job.views, self.factors[task] * slow
        writer = rows * self.job.row_bytes * costs.write
        cores = images * costs.decode + rows * (costs.view + costs.prefix * cluster.prefix_on_cores)
        cores += writer + rows * self.job.row_bytes * costs.seal  # these threads take of the same cores
        accelerator = 0.0 if cluster.prefix_on_cores else rows * costs.prefix
        fetched, asked = self.incoming.flow(images * self.job.image_bytes), self.requests.flow(images)
        yield self.env.timeout(max(cores / cluster.cores, accelerator, writer) * factor)
        yield fetched
        yield asked
        self.spent["cores"] += cores * factor
        self.spent["accelerator"] += accelerator * factor
        self.spent["writer"] += writer * factor

    def _end(self, task: int, taken: set[int]) -> Steps:
        size = self.rows[task] * self.job.row_bytes
        try:
            yield self.env.timeout(size * self.costs.seal)
            self.spent["sealer"] += size * self.costs.seal
            yield self.outgoing.flow(size)
            yield from self._drive()
        except simpy.Interrupt:
            return
        taken.discard(task)
        self.left -= 1
        self.done[task] += 1
        if not self.left and not self.finished.triggered:
            self.finished.succeed()


@cache
def simulate(job: Job, costs: Costs, cluster: Cluster, seed: int = 0) -> Outcome:
    """An extraction; the same arguments give the same outcome."""
    return Run(job, costs, cluster, seed).outcome()
