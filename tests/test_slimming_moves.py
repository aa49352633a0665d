"""The moves on one convolution: exact where they must be, and as harmful as they say elsewhere."""

import numpy as np
import pytest
from slimming_networks import images, measure, mixed, twins, white, with_neighbours

import depthwise as dw
from depthwise.analysis.cost import cost_of_graph
from depthwise.graph import Graph, capture, check, interpret
from depthwise.slimming.draft import Draft
from depthwise.slimming.moves import MOVES, channel_pair, ghost
from depthwise.slimming.sites import Site, find_sites


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


def harm(site: Site, after: Graph) -> float:
    """Return the damage that was done to the images, by what became of the layer's value.

    Outputs of different groups do not read the same patches, and are counted one by one.
    """
    error = outputs(after, site.node.name) - outputs(site.draft.graph, site.node.name)
    by_channel = np.moveaxis(error, 2, -1).reshape(-1, site.outputs).astype(np.float64)
    by_channel -= by_channel.mean(0)
    moments = by_channel.T @ by_channel / len(by_channel)
    moments *= np.kron(np.eye(site.groups), np.ones([site.outputs // site.groups] * 2))
    return 0.5 * site.statistics.pixels * float(np.sum(moments * site.statistics.gradient))


@pytest.mark.parametrize("move", [move for move in MOVES if move != "ghost"])
def test_each_change_saves_and_does_the_damage_that_it_says(move, network, known):
    sites = {site.path: site for site in find_sites(network, known)}
    offered = list(MOVES[move](network, known))
    assert offered
    macs = cost_of_graph(network.graph).macs
    for change in offered:
        after = check(change.apply(network).graph)
        assert cost_of_graph(after).macs < macs, change.words
        done = harm(sites[change.place], after)
        assert done == pytest.approx(change.damage, rel=1e-3), (change.place, change.words)


def test_pairs_of_full_rank_change_nothing(network, known):
    for site in find_sites(network, known):
        after = channel_pair.make_pair(site, site.outputs, network)
        assert_same(network.graph, after.graph)


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


def test_what_a_ghost_makes_exactly_changes_nothing():
    """Maps that are multiples of others are found, and made of these."""
    draft = Draft(twins())
    near = with_neighbours(draft.graph, measure(draft.graph))
    changes = list(ghost.changes(draft, near))
    assert {change.place for change in changes} == {"0", "2"}
    for change in changes:
        assert change.damage == pytest.approx(0, abs=1e-6)
        assert_same(draft.graph, change.apply(draft).graph)


@pytest.mark.parametrize(
    ("name", "left", "params", "macs"),
    [
        pytest.param("vgg16_cifar", (), 7_651_498, 158_109_696, marks=pytest.mark.slow),
        ("resnet56_cifar", ("stem.conv",), 438_154, 65_286_784),
    ],
)
def test_ghosts_have_the_published_counts(name, left, params, macs):
    """As tests/facts/networks.csv has them, of arXiv:1911.11907, section 4.1."""
    draft = Draft(capture(dw.create_model(name), (1, 3, 32, 32)))
    for change in ghost.changes(draft, white(draft.graph)):
        if change.place not in left and change.words.startswith("half"):
            draft = change.apply(draft)
    cost = cost_of_graph(check(draft.graph))
    assert (cost.params, cost.macs) == (params, macs)


def test_changes_of_one_network_fit_together(network, known):
    """One is applied after the other, to channels that others have moved or taken away."""
    ...
