"""Count: what the network costs, and what is wrong with its design."""

from dataclasses import asdict

import torch

from depthwise.analysis import Cost, cost_of_graph
from depthwise.analysis import cost as count_cost
from depthwise.analysis.lint import lint_graph
from depthwise.families.registry import construct
from depthwise.report.network_picture import network_picture
from depthwise.report.record import CostSummary, FindingRecord, KindRecord, LayerRecord, Report
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request

BASELINE, TITLE = "resnet50", "ResNet-50"  # what others are compared with


def count_costs(
    request: Request, network: CurrentNetwork, _: Report
) -> tuple[CostSummary, CurrentNetwork]:
    """Count and lint a network, and draw it."""
    graph = network.source.graph
    cost = cost_of_graph(graph, request.name)
    baseline = _count_baseline(network.side)
    summary = CostSummary(
        params=cost.params, macs=cost.macs, flops=cost.flops, weight_bytes=cost.weight_bytes,
        peak_bytes=cost.peak_bytes, peak_layer=cost.peak_layer,
        receptive_field=cost.receptive_field,
        layers=_layers(cost), kinds=_kinds(cost),
        not_counted=tuple(layer.name for layer in cost.not_counted),
        findings=tuple(FindingRecord(**asdict(finding)) for finding in lint_graph(graph)),
        baseline=TITLE, baseline_name=BASELINE, baseline_macs=baseline,
        macs_saved=baseline / cost.macs if baseline and cost.macs else None,
        picture=network_picture(graph, request.name) if cost.layers else "",
    )  # fmt: skip
    return summary, network


def _layers(cost: Cost) -> tuple[LayerRecord, ...]:
    """Return the layers that have multiply-adds or parameters, or that make the field larger."""
    return tuple(
        LayerRecord(
            path=layer.path or layer.name, kind=layer.kind, output_shape=layer.output_shape,
            params=layer.params, macs=layer.macs, share=_share(layer.macs or 0, cost.macs),
            receptive_field=layer.receptive_field, step=layer.step,
        )
        for layer in cost.layers
        if layer.macs != 0 or layer.kind == "pooling"
    )  # fmt: skip


def _kinds(cost: Cost) -> tuple[KindRecord, ...]:
    return tuple(
        KindRecord(kind=kind, layers=n, params=params, macs=macs, share=_share(macs, cost.macs))
        for kind, (n, params, macs) in cost.by_kind().items()
        if macs or params
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _count_baseline(side: int | None) -> int | None:
    """Return the baseline's multiply-adds for square images; None where the network takes none."""
    if side is None:
        return None
    with torch.device("meta"):
        net = construct(BASELINE)
    return count_cost(net, (1, 3, side, side)).macs
