"""Runtimes side by side: each in its own process, taking turns, round after round."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from math import inf, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from depthwise.bench.exported_model import Case, Question, write_case
from depthwise.bench.holding import NOT_HELD, hold
from depthwise.bench.peak import measure_peak
from depthwise.bench.peers import DIRECT, OURS, BatchWay, Form, Runtime, ways
from depthwise.bench.record import NetworkResult, RuntimeRecord
from depthwise.errors import CannotRun
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.load import Watch
from depthwise.progress import track
from depthwise.toolchain import children
from depthwise.toolchain.build import find_compiler

TOLERANCE = (
    1e-2  # of the largest output: MNN's Winograd is off by 3e-3 on ResNet-50, others by 3e-5
)
TURN = 0.25  # seconds of runs that a runtime gets in a round
FEWEST, MOST = 3, 300  # runs in a turn; one that takes as long as a turn is enough


class Worker:
    """A process that has opened one case in one runtime. Raises CannotRun where it cannot.

    Args:
        copies: How often it is opened, on a part of the threads each; `runs` of each are a run.
        held: Variables of the environment that keep it from using all that the CPU has.
    """

    def __init__(
        self, runtime: Runtime, case: Case, threads: int, copies: int = 1, runs: int = 1,
        held: Mapping[str, str] = NOT_HELD,
    ):  # fmt: skip
        self._errors: IO[str] = TemporaryFile("w+")  # noqa: SIM115  (close does)
        numbers = map(str, (threads, copies, runs))
        self._process = children.start(
            (sys.executable, "-m", "depthwise.bench.worker", runtime.module, str(case.folder),
             runtime.precision, *numbers),
            stdin=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, "OMP_NUM_THREADS": str(threads // copies), **held},
        )  # fmt: skip
        try:
            opened = self._answer()
        except BaseException:  # an interrupt, too
            self.close()
            raise
        self.pid = self._process.pid
        self.opened: float = opened["opened"]
        self.error: float = opened["error"]
        self.agreement: float | None = opened["agreement"]
        self.how: str = opened["how"]

    def run(self, count: int) -> list[float]:
        """Return the seconds of each of `count` runs."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it has ended: then it answers with the reason
            print(count, file=self._process.stdin, flush=True)
        return self._answer()["times"]

    def close(self) -> None:
        """End the process."""
        children.end(self._process)
        self._errors.close()

    def _answer(self) -> dict:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:]
            raise CannotRun(f"its process ended with {self._process.wait()}: {' '.join(last)}")
        answer = json.loads(line)
        if "failed" in answer:
            raise CannotRun(answer["failed"])
        return answer


@dataclass
class Participant:
    """A runtime under comparison: its process while it works, its reason once it has failed."""

    runtime: Runtime
    versions: dict[str, str] = field(default_factory=dict)
    worker: Worker | None = None
    way: str = ""
    held: str = ""
    how: str = ""
    error: float | None = None
    agreement: float | None = None
    opened: float | None = None
    failed: str | None = None
    rounds: list[list[float]] = field(default_factory=list)

    def open(self, given: "GivenBatch", threads: int, held: Mapping[str, str] = NOT_HELD) -> None:
        """Start its process, and hold what it computes against PyTorch.

        In float32 it has to be within TOLERANCE; what fewer bits do is measured, and has no limit.
        Of several ways to give it the input it is the fastest that works.
        """
        try:
            self.versions = {name: version(name) for name in self.runtime.packages}
        except PackageNotFoundError as error:
            install = self.runtime.install or error.name
            self.failed = f"{error.name} is not installed: pip install {install}"
            return
        fastest = inf
        for way, case in given.cases.items():
            if not self.runtime.takes(way, given.batch):
                continue
            tried = Participant(self.runtime)
            tried._open(case, threads, way.copies, given.runs(way), held)
            once = inf
            if tried.worker and len(given.cases) > 1:
                once = _once(tried)
            if tried.worker and (once < fastest or self.worker is None):
                self.close()
                fastest, self.worker, self.way = once, tried.worker, way.said(given.batch)
                self.error, self.opened, self.failed = tried.error, tried.opened, None
                self.agreement, self.how = tried.agreement, tried.how
                continue
            tried.close()
            if self.worker is None and self.failed is None:
                self.failed, self.error = tried.failed, tried.error
        if self.runtime.cc and self.worker:
            self.versions = {self.runtime.cc: find_compiler(self.runtime.cc).version}

    def _open(
        self, case: Case, threads: int, copies: int, runs: int, held: Mapping[str, str]
    ) -> None:
        case = case.compiled.get(self.runtime.cc or "", case)
        missing = [case.failed[form] for form in self.runtime.forms if form in case.failed]
        if missing and len(missing) == len(self.runtime.forms):
            self.failed = missing[0]
            return
        try:
            worker = Worker(self.runtime, case, threads, copies, runs, held)
        except CannotRun as failure:
            self.failed = str(failure)
            return
        self.error, self.opened = worker.error, worker.opened
        self.agreement, self.how = worker.agreement, worker.how
        reduced = self.runtime.precision != FLOAT32.name
        if worker.error <= TOLERANCE or (reduced and isfinite(worker.error)):
            self.worker = worker
            return
        worker.close()
        self.failed = f"its output is off by {worker.error:.1e} of the largest"

    def close(self) -> None:
        """End its process."""
        if self.worker:
            self.worker.close()

    @property
    def record(self) -> RuntimeRecord:
        """What was found of it; a runtime that failed on the way keeps no rounds."""
        rounds = () if self.failed else tuple(map(tuple, self.rounds))
        return RuntimeRecord(
            name=self.runtime.name, precision=self.runtime.precision, versions=self.versions,
            way=self.way, held=self.held, how=self.how, failed=self.failed, error=self.error,
            agreement=self.agreement, opened=self.opened, cc=self.runtime.cc, rounds=rounds,
        )  # fmt: skip


@dataclass(frozen=True)
class GivenBatch:
    """A batch in each of the ways to give it to a runtime, as files."""

    batch: int
    cases: Mapping[BatchWay, Case]

    def runs(self, way: BatchWay) -> int:
        """Return how often each copy runs for the whole batch."""
        return self.batch // (way.copies * way.images)


def compare(
    question: Question,
    peers: Sequence[Runtime],
    threads: int,
    rounds: int,
    compilers: Sequence[Runtime] = (),
    throughput: bool = False,
) -> NetworkResult:
    """Run a network in our library and in each peer, interleaved, and return all that was measured.

    Ours takes part in each precision of the question. On one thread our library in float32 takes
    part without Winograd, too, where it has any, and on any number once more by each of
    `compilers`, in the first precision. Peers are held to the target that our library is compiled
    for. With `throughput` each runtime gets the batch in the way in which it is fastest.

    Every runtime in float32 first has to compute what PyTorch does, within TOLERANCE; of others is
    told how far they are off, and where the question has images, how often they agree. Raises what
    compiling raises, and CannotRun where our own library disagrees: then there is nothing to
    compare.
    """
    held = hold(question.build.chosen)
    whole = FLOAT32.name in question.precisions
    alone = [DIRECT] if threads == 1 and not throughput and whole else []
    own = [replace(OURS, precision=each) for each in question.precisions]
    compilers = [replace(each, precision=question.precisions[0]) for each in compilers]
    participants = [Participant(runtime) for runtime in (*own, *alone, *compilers)]
    participants += [Participant(peer, held=held.said) for peer in peers]
    batch = question.shape[0]
    chosen = ways(batch, threads) if throughput else (BatchWay(1, batch),)
    with TemporaryDirectory() as folder, ExitStack() as open_workers:
        runtimes = [each.runtime for each in participants]
        cases = {way: _write(question, way, Path(folder), runtimes, threads) for way in chosen}
        given = GivenBatch(batch, cases)
        for participant in track(
            participants, f"opening {len(participants)} runtimes", pace="opening"
        ):
            participant.open(given, threads, held.environment if participant.held else NOT_HELD)
            open_workers.callback(participant.close)
        for ours in participants[: len(own)]:
            if ours.failed:
                raise CannotRun(f"our own library of {question.network}: {ours.failed}")
        conditions = take_turns(
            participants, rounds, lambda: measure_peak(threads, question.build.chosen)
        )
    case = cases[chosen[0]]
    return NetworkResult(
        network=question.network, settings=question.settings, weights=question.weights,
        input_shape=question.shape, macs=case.macs, params=case.params,
        peaks=tuple(each.peak for each in conditions),
        foreign=tuple(each.foreign for each in conditions),
        images=question.images.said if question.images else "",
        runtimes=tuple(participant.record for participant in participants),
    )  # fmt: skip


def _write(
    question: Question, way: BatchWay, folder: Path, runtimes: Sequence[Runtime], threads: int
) -> Case:
    """Write the forms of a network that takes as many images, in a folder of their number."""
    taking = [runtime for runtime in runtimes if runtime.takes(way, question.shape[0])]
    forms: set[Form] = {form for runtime in taking for form in runtime.forms}
    shape = (way.images, *question.shape[1:])
    own = folder / str(way.images)
    own.mkdir()
    compilers = [runtime.cc for runtime in taking if runtime.cc]
    return write_case(replace(question, shape=shape), own, forms, threads // way.copies, compilers)


@dataclass(frozen=True)
class RoundConditions:
    """What one round ran under: the peak in FLOP/s, and the share of all cores others took."""

    peak: float
    foreign: float | None


def take_turns(
    participants: Sequence[Participant], rounds: int, peak: Callable[[], float]
) -> list[RoundConditions]:
    """Give each runtime that works a turn in every round, and measure the peak before each round.

    The order turns by one from round to round, so that no runtime always follows the same one.
    A turn lasts about TURN seconds.
    """
    working = [participant for participant in participants if participant.worker]
    counts = [_runs_in_a_turn(participant) for participant in working]
    processes = [participant.worker.pid for participant in working if participant.worker]
    conditions = []
    doing = f"timing {len(working)} runtimes in {rounds} rounds"
    for number in track(range(rounds), doing, rounds * len(working) * TURN):
        watch, reached = Watch(processes), peak()
        start = number % len(working)
        pairs = list(zip(working, counts, strict=True))
        for participant, count in (*pairs[start:], *pairs[:start]):
            participant.rounds.append(_turn(participant, count))
        conditions.append(RoundConditions(reached, watch.load().foreign))
    return conditions


def _runs_in_a_turn(participant: Participant) -> int:
    once = _once(participant)
    return min(MOST, max(FEWEST if once < TURN else 1, round(TURN / once)))


def _once(participant: Participant) -> float:
    """Return the seconds of the fastest of a few runs, infinity where it fails in them."""
    times = _turn(participant, 1)
    if times and times[0] < TURN:
        times += _turn(participant, FEWEST - 1)
    return min(times, default=inf)


def _turn(participant: Participant, count: int) -> list[float]:
    """Return the times of a turn; a runtime that fails in it is out from then on."""
    if participant.failed or not participant.worker:
        return []
    try:
        return participant.worker.run(count)
    except CannotRun as failure:
        participant.failed = str(failure)
        return []
