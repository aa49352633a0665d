"""The moves on one convolution: exact where they must be, and as harmful as they say elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slimming_networks import (
    hidden_groups,
    images,
    measure,
    mixed,
    randomized,
    twins,
    white,
    with_neighbours,
)
from torch import nn

import depthwise as dw
from depthwise.analysis.cost import Cost, cost_of_graph
from depthwise.graph import Graph, capture, check, interpret, ops
from depthwise.graph.rewrite import GraphRewriter
from depthwise.layers import GhostModule
from depthwise.slimming.channels.cut import cut
from depthwise.slimming.channels.groups import find_groups
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.calibration import calibrate
from depthwise.slimming.layers.ordering import reorder
from depthwise.slimming.layers.sites import Site, channels_axis, find_sites, left_alone
from depthwise.slimming.layers.weighted import find_output_basis
from depthwise.slimming.moves import (
    MOVES,
    bottleneck,
    channel_pair,
    ghost,
    grouped,
    low_rank,
    separable,
    spatial_pair,
)

# moves that leave a layer's value what it was, as nearly as they can
REFITTED = (
    "low_rank", "channel_pair", "spatial_pair", "separable", "smaller_kernel", "grouped",
    "bottleneck",
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Draft:
    return Draft(mixed())


@pytest.fixture(scope="module")
def known(network):
    return measure(network.graph)


def outputs(graph: Graph, value: str = "") -> np.ndarray:
    """Return a value, the network's output without one, on the images of the statistics."""
    value = value or graph.outputs[0].value
    return np.stack([interpret(graph, *inputs)[value] for inputs in images(graph)])


def assert_same(before: Graph, after: Graph) -> None:
    expected = outputs(before)
    error = np.abs(outputs(check(after)) - expected).max()
    assert error <= 1e-5 * np.abs(expected).max()


def harm(site: Site, after: Draft) -> float:
    """Return the damage that was done to the images, by what became of the layer's value.

    Outputs of different groups do not read the same patches, and are counted one by one.
    """
    name, axis = site.node.name, channels_axis(site.node) + 1
    order = after.kept.get(name, np.arange(site.outputs))
    error = outputs(after.graph, name) - outputs(site.draft.graph, name).take(order, axis)
    by_channel = np.moveaxis(error, axis, -1).reshape(-1, site.outputs).astype(np.float64)
    by_channel -= by_channel.mean(0)
    moments = by_channel.T @ by_channel / len(by_channel)
    moments *= np.kron(np.eye(site.groups), np.ones([site.outputs // site.groups] * 2))
    return (
        0.5
        * site.statistics.pixels
        * float(np.sum(moments * site.statistics.gradient[np.ix_(order, order)]))
    )


@pytest.mark.parametrize("move", REFITTED)
def test_each_change_saves_and_does_the_damage_that_it_says(move, network, known):
    sites = {site.path: site for site in find_sites(network, known)}
    offered = list(MOVES[move](network, known))
    assert offered
    macs = cost_of_graph(network.graph).macs
    for change in offered:
        after = change.apply(network)
        assert cost_of_graph(check(after.graph)).macs < macs, change.words
        done = harm(sites[change.place], after)
        assert done == pytest.approx(change.damage, rel=1e-3), (change.place, change.words)


def test_a_pair_does_as_little_damage_as_its_rank_allows(network, known):
    """What is lost are the smallest singular values of G^½ · W · C^½ (Eckart and Young)."""
    for site in find_sites(network, known):
        if site.groups == 1:
            found = site.statistics
            left = np.linalg.cholesky(found.gradient + 1e-9 * np.eye(site.outputs)).T
            right = np.linalg.cholesky(found.covariance[0] + 1e-9 * np.eye(site.rows.shape[1]))
            singular = np.linalg.svd(left @ site.rows @ right, compute_uv=False)
            rank = site.outputs // 4
            least = 0.5 * found.pixels * (singular[rank:] ** 2).sum()
            assert find_output_basis(site).damage(rank) == pytest.approx(least, rel=0.02)


@pytest.mark.parametrize("move", [move for move in REFITTED if move != "grouped"])
def test_a_change_keeps_the_means(move, network, known):
    """In biases, or in the BatchNorm that follows."""
    follower = {node.inputs[0]: node.name for node in network.graph if node.inputs}
    values = {s.path: follower.get(s.node.name, s.node.name) for s in find_sites(network, known)}
    for change in list(MOVES[move](network, known))[::2]:
        value = values[change.place]
        if not value.startswith("relu"):  # which makes other means of other values
            before, after = (outputs(d.graph, value) for d in (network, change.apply(network)))
            axes = tuple(axis for axis in range(before.ndim) if axis != 2)
            assert np.allclose(before.mean(axes), after.mean(axes), atol=1e-4)


def test_pairs_of_full_rank_change_nothing(network, known):
    for site in find_sites(network, known):
        full = site.outputs * site.kernel[1] * site.groups  # and more than that
        pair = channel_pair.make_pair(site, find_output_basis(site), full)
        assert_same(network.graph, pair.graph)
        if site.kernel != (1, 1):
            pair = spatial_pair.make_pair(site, spatial_pair.find_pair(site, full))
            assert_same(network.graph, pair.graph)


def test_ghosts_do_the_damage_that_they_say(network, known):
    near = with_neighbours(network.graph, known)
    for change in ghost.changes(network, near):
        site = next(site for site in find_sites(network, near) if site.path == change.place)
        after = change.apply(network)
        check(after.graph)
        name = site.node.name
        maps = np.concatenate(
            [outputs(after.graph, name), outputs(after.graph, f"{name}.cheap")], 2
        )
        order = np.concatenate([after.kept[name], after.kept[f"{name}.cheap"]])
        assert sorted(order) == list(range(site.outputs))
        error = np.moveaxis(maps - outputs(network.graph, name)[:, :, order], 2, -1)
        harms = error.reshape(-1, site.outputs).var(0) * np.diag(site.statistics.gradient)[order]
        done = 0.5 * site.statistics.pixels * harms.sum()
        assert done == pytest.approx(change.damage, rel=1e-2), (change.place, change.words)


def test_calibration_measures_neighbours(network):
    graph = network.graph
    x = np.concatenate([x for (x,) in images(graph)])
    found = calibrate(network, x)["conv2d"].neighbours
    assert found is not None
    one = int(found.covariance[:, 4, 4].argmax())  # some are never above zero
    values = [interpret(graph, image[None]) for image in x]
    made = np.pad(np.concatenate([v["relu"] for v in values]), ((0, 0), (0, 0), (1, 1), (1, 1)))
    shifted = [made[:, one, r : r + 14, s : s + 12].reshape(-1) for r in range(3) for s in range(3)]
    other = np.concatenate([v["conv2d"] for v in values])[:, 5].reshape(-1)
    expected = np.cov([*shifted, other], bias=True)
    assert np.allclose(found.mean[one], np.mean(shifted, 1), atol=1e-5)
    assert np.allclose(found.covariance[one], expected[:9, :9], atol=1e-4)
    assert np.allclose(found.products[one, :, 5], expected[:9, 9], atol=1e-4)


def test_what_a_ghost_makes_exactly_changes_nothing():
    """Maps that are multiples of others are found, and made of these."""
    draft = Draft(twins())
    near = with_neighbours(draft.graph, measure(draft.graph))
    changes = list(ghost.changes(draft, near))
    assert {change.place for change in changes} == {"0", "2"}
    for change in changes:
        assert change.damage == pytest.approx(0, abs=1e-6)
        assert_same(draft.graph, change.apply(draft).graph)


def make_ghosts(name: str) -> Cost:
    """Return the cost of a network of Ghost modules, but for a ResNet's first convolution."""
    draft = Draft(capture(dw.create_model(name), (1, 3, 32, 32)))
    for change in ghost.changes(draft, white(draft.graph)):
        if change.place != "stem.conv" and change.words.startswith("half"):
            draft = change.apply(draft)
    return cost_of_graph(check(draft.graph))


def test_ghosts_cost_what_those_of_the_families_cost():
    found = make_ghosts("resnet14_cifar")
    family = dw.cost(dw.create_model("resnet14_cifar", conv=GhostModule), (1, 3, 32, 32))
    assert (found.params, found.macs) == (family.params, family.macs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [("vgg16_cifar", 7_651_498, 158_109_696), ("resnet56_cifar", 438_154, 65_286_784)],
)
def test_ghosts_have_the_published_counts(name, params, macs):
    """As tests/facts/networks.csv has them, of arXiv:1911.11907, section 4.1."""
    found = make_ghosts(name)
    assert (found.params, found.macs) == (params, macs)


def test_changes_are_made_in_any_order():
    """Weights are fitted to channels that another change has moved meanwhile."""
    draft = Draft(twins())
    near = with_neighbours(draft.graph, measure(draft.graph))
    moved = next(change for change in ghost.changes(draft, near) if change.place == "2")
    pair = next(change for change in low_rank.changes(draft, near) if change.place == "5")
    assert "flatten" in moved.apply(draft).kept
    first, second = (a.apply(b.apply(draft)) for a, b in ((moved, pair), (pair, moved)))
    expected = outputs(check(first.graph))
    assert np.abs(expected - outputs(draft.graph)).max() > 0.01 * np.abs(expected).max()
    assert_same(first.graph, second.graph)


def test_a_chain_begins_with_the_inputs_that_matter_most(network, known):
    """Of one tap, few channels before are as good as few between, which are known to be best."""
    site = next(site for site in find_sites(network, known) if site.path == "10")
    chain = bottleneck.find_chain(site, bottleneck.Between(16, site.outputs))
    assert site.damage(chain.rows) == pytest.approx(find_output_basis(site).damage(16), rel=0.01)


def test_chains_of_all_channels_change_nothing(network, known):
    for site in find_sites(network, known):
        if site.kernel != (1, 1) and site.groups == 1:
            whole = bottleneck.Between(site.inputs, site.outputs)
            after = bottleneck.make_chain(site, bottleneck.find_chain(site, whole))
            assert_same(network.graph, after.graph)


def test_as_many_separable_convolutions_as_taps_change_nothing(network, known):
    for site in find_sites(network, known):
        if site.kernel != (1, 1) and site.groups == 1:
            every = separable.find_sum(site, site.kernel[0] * site.kernel[1])
            after = separable.make_separable(site, every)
            assert_same(network.graph, after.graph)


@pytest.mark.parametrize("count", [2, 4])
def test_groups_that_are_there_are_found(count):
    draft = Draft(hidden_groups(count))
    for site in list(find_sites(draft, measure(draft.graph)))[1:]:
        after = grouped.make_grouped(site, grouped.find_groups(site, count))
        assert_same(draft.graph, after.graph)
        moved = [node.path for node in after.graph if isinstance(node.op, ops.Gather)]
        assert moved == {"2": [], "5": ["6"]}[site.path]  # the output keeps its order


class Coupled(nn.Module):
    """Channels that meet again: a gate, a sum, a concatenation, a depthwise convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.other, self.slope = nn.Conv2d(16, 16, 1), nn.PReLU(16)
        self.beside, self.linear = nn.Conv2d(3, 5, 5, padding=1), nn.Linear(21 * 6 * 7, 4)

    def forward(self, x):
        y = F.relu(self.norm(self.first(x))) * torch.linspace(1, 2, 8).reshape(8, 1, 1)
        y = y * F.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = self.depthwise(F.pad(y, (0, 1, 0, 0)))[..., :-1]
        y = self.slope(y + self.other(y))
        y = torch.cat([self.beside(x), y], 1)
        return self.linear(F.max_pool2d(y, 1).flatten(1))


def test_channels_take_another_order_without_a_step():
    graph = capture(randomized(Coupled()), (1, 3, 8, 9))
    conv = next(graph.readers()["x"].__iter__())
    order = np.random.default_rng(0).permutation(8)
    edit = GraphRewriter(graph)
    for name in conv.inputs[1:]:
        edit.set_constant(name, edit.data(name)[order])
    kept = reorder(edit, {}, conv.name, order, {conv.name})
    after = edit.result()
    assert kept is not None
    assert len(after.nodes) == len(graph.nodes)
    assert_same(graph, after)
    before, now = (interpret(g, *next(images(graph))) for g in (graph, after))
    moved = [name for name in kept if not np.array_equal(kept[name], np.sort(kept[name]))]
    assert len(moved) > 12
    for name in moved:
        assert np.allclose(now[name], before[name][:, kept[name]], atol=1e-5)


def test_an_order_that_would_reach_the_output_is_not_taken():
    graph = capture(randomized(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())), (1, 3, 8, 9))
    edit = GraphRewriter(graph)
    assert reorder(edit, {}, "conv2d", np.arange(8)[::-1], {"conv2d"}) is None
    assert edit.result() is graph


class Shared(nn.Module):
    """A convolution used twice, one whose weight is a buffer, and one that is free."""

    def __init__(self):
        super().__init__()
        self.twice, self.free = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 32, 3, padding=1)
        self.back = nn.ConvTranspose2d(32, 8, 3)
        self.register_buffer("fixed", torch.ones(8, 8, 3, 3))

    def forward(self, x):
        return self.back(self.free(F.conv2d(self.twice(self.twice(x)), self.fixed)))


def test_weights_that_are_not_free_are_left_alone():
    graph = capture(randomized(Shared()), (1, 8, 8, 9))
    reasons = left_alone(graph)
    assert list(reasons) == ["twice", "conv2d_2", "back"]
    assert "shared with twice" in reasons["twice"]
    assert "fixed is no parameter" in reasons["conv2d_2"]
    assert "ConvTranspose2d" in reasons["back"]
    draft, known = Draft(graph), measure(graph)
    places = {change.place for move in REFITTED for change in MOVES[move](draft, known)}
    assert places == {"free"}


def test_groups_read_inputs_through_a_gather_where_nothing_else_can_order_them():
    net = nn.Sequential(nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    randomized(net)
    rows, columns = torch.randperm(16) % 2, torch.randperm(16) % 2
    with torch.no_grad():
        net[0].weight *= (rows[:, None] == columns)[:, :, None, None]
    draft = Draft(capture(net, (1, 16, 6, 5)))
    (site,) = find_sites(draft, measure(draft.graph))
    after = grouped.make_grouped(site, grouped.find_groups(site, 2))
    kinds = [type(node.op).__name__ for node in after.graph]
    assert kinds == ["Gather", "Conv2d", "BatchNorm", "Activation", "Gather"]
    assert_same(draft.graph, after.graph)


def test_a_change_fits_what_other_changes_have_left(network, known):
    """Channels before it are cut first: the same as if it never had any others."""
    pair = next(c for c in channel_pair.changes(network, known) if c.place == "6")
    groups = {group.place: group for group in find_groups(network.graph).groups.values()}
    fewer = cut(network, groups["4"], np.arange(0, 32, 2))
    found = replace(measure(fewer.graph)["conv2d_2"], gradient=known["conv2d_2"].gradient)
    (site,) = find_sites(fewer, {"conv2d_2": found})
    fresh = channel_pair.make_pair(site, find_output_basis(site), int(pair.words.split()[2]))
    assert_same(fresh.graph, pair.apply(fewer).graph)


def test_a_layer_that_was_replaced_is_not_changed_again(network, known):
    pair = next(c for c in low_rank.changes(network, known) if c.place == "10")
    with pytest.raises(ValueError, match="10: the layer was replaced"):
        pair.apply(pair.apply(network))
