"""The first stage: what the network costs, and what is wrong with its design."""

from dataclasses import asdict

import torch

from depthwise.analysis import Cost, cost_of_graph
from depthwise.analysis import cost as count_cost
from depthwise.analysis.lint import lint_graph
from depthwise.families.registry import construct
from depthwise.report.network_picture import network_picture
from depthwise.report.record import Counted, FindingRecord, KindRecord, LayerRecord, Report
from depthwise.shipping.request import Order

REFERENCE, TITLE = "resnet50", "ResNet-50"


def count(order: Order, _: Report) -> Counted:
    """Count and lint a network, and draw it."""
    graph = order.source.graph
    cost = cost_of_graph(graph, order.source.network)
    reference = _count_reference(order.source.side)
    return Counted(
        params=cost.params, macs=cost.macs, flops=cost.flops, weight_bytes=cost.weight_bytes,
        peak_bytes=cost.peak_bytes, peak_layer=cost.peak_layer,
        receptive_field=cost.receptive_field,
        layers=_layers(cost), kinds=_kinds(cost),
        not_counted=tuple(layer.name for layer in cost.not_counted),
        findings=tuple(FindingRecord(**asdict(finding)) for finding in lint_graph(graph)),
        reference=TITLE, reference_name=REFERENCE, reference_macs=reference,
        macs_saved=reference / cost.macs if reference and cost.macs else None,
        picture=network_picture(graph, order.source.network) if cost.layers else "",
    )  # fmt: skip


def _layers(cost: Cost) -> tuple[LayerRecord, ...]:
    """Return the layers that have multiply-adds or parameters, or whose field grew."""
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


def _count_reference(side: int | None) -> int | None:
    """Return the multiply-adds of ResNet-50 on images of `side` pixels."""
    if side is None:
        return None
    with torch.device("meta"):
        net = construct(REFERENCE)
    return count_cost(net, (1, 3, side, side)).macs
