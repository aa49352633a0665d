"""Compare: the library beside PyTorch and whatever other runtimes are installed."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from depthwise.bench.exported_model import BenchImages, Question
from depthwise.bench.peers import DIRECT, INT8, OURS, PEERS, at_precisions
from depthwise.bench.record import NetworkResult, RuntimeRecord
from depthwise.bench.rounds import compare as take_turns
from depthwise.graph.dtypes import FLOAT32
from depthwise.precision.request import noise
from depthwise.report.record import Comparison, Compilation, Report, RuntimeLine
from depthwise.runtime.library import load
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.sources.source import Source, TorchSource

SLOW = ("torch.compile",)  # to open: minutes; `depthwise bench` has it


def compare_runtimes(
    request: Request, network: CurrentNetwork, report: Report
) -> tuple[Comparison, CurrentNetwork]:
    """Time the saved library and the installed peers in rounds, each in a process of its own."""
    packages = installed_versions().keys()
    wanted = [peer for peer in PEERS if peer.name not in SLOW]
    peers = [peer for peer in wanted if packages >= set(peer.packages)]
    missing = tuple(peer.name for peer in wanted if peer not in peers)
    source, reason = network.source, _why_not(request, network.source, report)
    if reason or not isinstance(source, TorchSource):
        comparison = Comparison(
            found=None,
            rounds=0,
            lines=(),
            missing=missing,
            failed={},
            remarks=(reason,),
            disturbed="",
        )
        return comparison, network
    library = load(request.directory)
    question = Question(
        request.name, request.settings, request.weights, source.program, source.shapes[0], library
    )
    precision = library.manifest.build.precision
    if precision != FLOAT32.name:  # beside peers that compute in fewer bits, too
        shared = [each for each in (FLOAT32.name, precision) if each != INT8]
        peers = at_precisions(peers, shared, calibrated=False)
        images = BenchImages(*noise(question.shape))
        question = replace(question, precisions=(precision,), images=images)
    record = take_turns(question, peers, request.build.threads, request.rounds)
    return summarise(record, missing), network


def summarise(record: NetworkResult, missing: tuple[str, ...]) -> Comparison:
    """Return what was measured with a line a runtime, from the fastest to the slowest."""
    ran = [runtime for runtime in record.runtimes if runtime.rounds]
    failed = {
        runtime.title: runtime.failed
        for runtime in record.runtimes
        if runtime.failed and runtime.name != DIRECT.name
    }
    lines = sorted((_line(record, runtime) for runtime in ran), key=lambda line: line.median)
    return Comparison(
        found=record, rounds=len(record.peaks), lines=tuple(lines), missing=missing, failed=failed,
        remarks=(), disturbed=record.disturbed,
    )  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages of all peers that are installed."""
    found = {}
    for name in {name for peer in PEERS for name in peer.packages}:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return dict(sorted(found.items()))


def _why_not(request: Request, source: Source, report: Report) -> str:
    """Return why nothing can be compared, in a sentence; empty where it can."""
    compilation = report.find(Compilation)
    assert compilation
    network, chosen = compilation.manifest.network, request.build.chosen
    if not chosen.runs_here:
        return f"This machine cannot run a library for {chosen.full_name}: nothing is timed."
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        return "The network has several inputs or outputs: runtimes are compared on one of each."
    if not network.is_float32:
        return "The network has other numbers than float32, on which runtimes are compared."
    if not isinstance(source, TorchSource):
        return "The network did not come from PyTorch, which writes the files that runtimes read."
    if not source.takes_one:
        return "The network takes its input by name or in a container: others are called net(x)."
    return ""


def _line(record: NetworkResult, runtime: RuntimeRecord) -> RuntimeLine:
    own = runtime.name == OURS.name
    return RuntimeLine(
        name=runtime.title, version=next(iter(runtime.versions.values()), ""),
        median=1e3 * (runtime.seconds or 0), p10=1e3 * runtime.percentile(10),
        p90=1e3 * runtime.percentile(90), share_of_peak=record.share_of_peak(runtime),
        ratio=None if own else record.ratio(runtime), error=runtime.error or 0.0,
    )  # fmt: skip
