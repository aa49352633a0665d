"""Which channels are coupled, and what is left when some are cut."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slimming_cases import (
    SIZES,
    Net,
    attention,
    chain,
    concat,
    conv,
    deformable,
    draw,
    grouped,
    padded,
    randomized,
    residual,
    shuffled,
    silence,
)
from torch import nn

from depthwise.graph import Graph, capture, interpret, ops, trace
from depthwise.slimming.channels.cut import cut, cut_all
from depthwise.slimming.channels.groups import ChannelGroup, find_groups
from depthwise.slimming.draft import Draft

SHAPE = (1, 3, 8, 8)


def graph_of(net: nn.Module) -> Graph:
    return capture(randomized(net), SHAPE)


def groups_of(graph: Graph) -> dict[str, ChannelGroup]:
    return {group.place: group for group in find_groups(graph).groups.values()}


def outputs(graph: Graph, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
    return interpret(graph, x)[graph.outputs[0].value]


@pytest.mark.parametrize("make", SIZES, ids=lambda make: make.__name__)
def test_groups_have_as_many_units_as_channels_that_can_go(make):
    found = find_groups(graph_of(make()))
    assert [group.units for group in found.groups.values()] == SIZES[make]


EXACT = [make for make in SIZES if make is not attention]


@pytest.mark.parametrize("make", EXACT, ids=lambda make: make.__name__)
def test_what_is_left_computes_as_if_the_others_were_not_read(make):
    graph = graph_of(make())
    grouping = find_groups(graph)
    for share in (0.7, 0.4):
        choices = [(group, draw(group, share)) for group in grouping.groups.values()]
        silent = grouping.graph
        for group, keep in choices:
            silent = silence(silent, group, keep)
        after = cut_all(Draft(graph), choices).graph
        scale = np.abs(outputs(silent)).max()
        np.testing.assert_allclose(outputs(after), outputs(silent), atol=1e-5 * scale)
        assert sum(c.type.size for c in after.constants.values()) < share * 1.4 * sum(
            c.type.size for c in graph.constants.values()
        )


@pytest.mark.parametrize("make", [residual, attention], ids=lambda make: make.__name__)
def test_channels_of_zeros_are_nothing_lost(make):
    net = randomized(make())
    with torch.no_grad():
        for name in ("stem", "second"):  # what gives channels 2 and 7
            for tensor in net.get_submodule(name).parameters() if hasattr(net, name) else ():
                tensor[[2, 7]] = 0
    graph = capture(net, SHAPE)
    group = groups_of(graph)["stem"]
    after = cut(Draft(graph), group, np.setdiff1d(np.arange(16), [2, 7])).graph
    np.testing.assert_allclose(outputs(after), outputs(graph), rtol=1e-5, atol=1e-6)


def test_a_draft_remembers_which_channels_its_values_have():
    graph = graph_of(concat())
    draft = cut(Draft(graph), groups_of(graph)["one"], np.array([0, 3, 5]))
    name = next(node.name for node in graph if isinstance(node.op, ops.Concat))
    assert draft.kept[name].tolist() == [0, 3, 5, *range(8, 36)]
    again = cut(draft, groups_of(draft.graph)["one"], np.array([1]))
    assert again.kept[name].tolist() == [3, *range(8, 36)]
    assert (
        graph.type("input" if "input" in graph.inputs else next(iter(graph.inputs))).shape == SHAPE
    )


def test_names_of_constants_stay_those_of_the_state_dict():
    net = chain()
    graph = graph_of(net)
    after = cut(Draft(graph), groups_of(graph)["0"], np.arange(10)).graph
    assert set(net.state_dict()) - set(after.constants) == {"1.num_batches_tracked"}
    assert after.constants["0.weight"].type.shape == (10, 3, 3, 3)
    assert after.constants["1.running_var"].type.shape == (10,)
    assert after.constants["2.weight"].type.shape == (10,)
    assert after.constants["4.weight"].type.shape == (16, 10, 3, 3)
    assert after.constants["4.weight"].trainable


def test_what_was_computed_from_parameters_is_a_parameter_once_it_is_cut():
    """As a standardised weight: what it came from has channels that are no more."""
    net = Net(
        lambda n, x: n.last(F.conv2d(x, n.stem.weight.tanh())),
        stem=conv(3, 8), last=conv(8, 5),
    )  # fmt: skip
    graph = graph_of(net)
    (name,) = (name for name, known in graph.constants.items() if known.sources)
    group = next(iter(find_groups(graph).groups.values()))
    after = cut(Draft(graph), group, np.arange(3)).graph
    assert after.constants[name].trainable
    assert not after.constants[name].sources
    assert "stem.weight" not in after.constants
    same = cut_all(Draft(graph), []).graph
    assert "stem.weight" in same.constants


def test_shuffles_stay_shuffles_where_they_can():
    graph = graph_of(shuffled())
    group = groups_of(graph)["stem"]

    def kinds(keep: list[int]) -> Counter:
        after = cut(Draft(graph), group, np.array(keep)).graph
        return Counter(type(node.op).__name__ for node in after)

    first = [*range(6), *range(12, 18)]  # as many of each half, and branches give 12 each
    assert kinds(list(range(24)))["Gather"] == 0
    assert kinds(first)["Gather"] >= 1


def test_parts_of_a_grouped_convolution_stay_equal():
    graph = graph_of(grouped())
    group = groups_of(graph)["0"]
    assert [units.tolist() for units in group.parts.values()] == [[[*range(8)], [*range(8, 16)]]]
    with pytest.raises(ValueError, match=r"\[8, 7\] channels would be left"):
        cut(Draft(graph), group, np.arange(15))
    after = cut(Draft(graph), group, np.array([1, 2, 8, 9])).graph
    assert after.constants["1.weight"].type.shape == (24, 2, 3, 3)


def test_small_groups_of_a_convolution_go_as_a_whole():
    graph = graph_of(grouped())
    after = cut(Draft(graph), groups_of(graph)["4"], np.array([0, 2, 5])).graph
    assert after.constants["5.weight"].type.shape == (9, 2, 3, 3)
    assert any(isinstance(node.op, ops.Conv2d) and node.op.groups == 3 for node in after)


def test_zeros_in_a_shortcut_go_with_what_they_are_added_to():
    graph = graph_of(padded())
    group = groups_of(graph)["stem"]
    wide = next(member for member in group.writers if len(member.units) == 16)
    keep = wide.units[[0, 3, 6, 7, 12]]
    after = cut(Draft(graph), group, np.sort(keep)).graph
    pads = next(node.op.pads[1] for node in after if isinstance(node.op, ops.Pad))
    assert pads == (2, 1)


def test_halves_that_are_joined_and_divided_again_are_read_by_their_own_layers():
    """As in MixNet, where Torch-Pruning 1.6.1 has the second half's reader read the first."""

    def forward(n, x):
        s = n.stem(x)
        one, two = torch.cat([n.one(s), n.two(s)], 1).split([16, 16], 1)
        return n.last(torch.cat([n.left(one), n.right(two)], 1))

    graph = graph_of(Net(forward, stem=conv(3, 8), one=conv(8, 16), two=conv(8, 16),
                         left=conv(16, 12), right=conv(16, 12), last=conv(24, 5)))  # fmt: skip
    paths = {node.name: node.path for node in graph}
    found = {
        place: [paths[member.node] for member in group.readers]
        for place, group in groups_of(graph).items()
    }
    assert found["one"] == ["left"]
    assert found["two"] == ["right"]


# ------------------------------------------------------------------------------ what has to stay


def reasons(net: nn.Module, find=capture) -> dict[str, str]:
    graph = find(randomized(net), SHAPE)
    paths = {node.name: node.path for node in graph}
    return {paths[name]: reason for name, reason in find_groups(graph).pinned.items()}


def test_what_the_network_returns_stays():
    assert reasons(residual()) == {"last": "the network returns it"}


def test_offsets_stay():
    assert "offsets" in reasons(deformable())["offsets"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda s: F.local_response_norm(s, 3), "along other axes"),
        (lambda s: s.softmax(1), "Softmax"),
        (lambda s: s * s.amax(1, keepdim=True), "max"),
        (lambda s: s.cumsum(1), "Cumulate"),
        (lambda s: s.transpose(1, 3), "along other axes"),
        (lambda s: F.conv2d(s, s.mean((2, 3)).view(1, 8, 1, 1).expand(8, 8, 1, 1)), "computed"),
        (lambda s: torch.fft.fft2(s).real, "fft"),
    ],
    ids=["lrn", "softmax", "maximum", "running sum", "mixed", "computed", "unknown"],
)  # fmt: skip
def test_what_cannot_be_cut_is_named(function, reason):
    net = Net(lambda n, x: n.last(function(n.stem(x))), stem=conv(3, 8), last=conv(8, 5))
    assert reason in reasons(net, trace)["stem"]


def test_shared_weights_stay():
    net = Net(
        lambda n, x: n.last(n.again(n.again(n.stem(x)))),
        stem=conv(3, 8), again=conv(8, 8), last=conv(8, 5),
    )  # fmt: skip
    found = reasons(net)
    assert found["stem"] == found["again"] == "its weights are shared"


def test_a_group_that_is_another_by_now_is_refused():
    graph = graph_of(residual())
    group = groups_of(graph)["stem"]
    draft = cut(Draft(graph), group, np.arange(9))
    with pytest.raises(ValueError, match="it has 9 now"):
        cut(draft, group, np.arange(4))


def test_something_is_left_of_each_value():
    graph = graph_of(concat())
    with pytest.raises(ValueError, match="nothing would be left"):
        cut(Draft(graph), groups_of(graph)["one"], np.array([], int))
