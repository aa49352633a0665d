"""Layer by layer: what became of each, which are left alone, which are frozen."""

import copy

import numpy as np
import pytest
import torch
from slimming_networks import classifier, white
from torch import nn

import depthwise as dw
from depthwise.report.slimming_record import StepRecord
from depthwise.slimming.costs.layers import compare_layers
from depthwise.slimming.costs.prices import Prices
from depthwise.slimming.draft import Draft
from depthwise.slimming.frozen import frozen_weights
from depthwise.slimming.layers.sites import find_sites
from depthwise.slimming.moves.channels import changes
from depthwise.slimming.moves.ghost import changes as ghosts

SHAPE = (1, 3, 12, 12)
ELSEWHERE = dw.CompileOptions("aarch64")  # so that nothing is timed


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return classifier()


def step(move: str, place: str, words: str) -> StepRecord:
    return StepRecord(
        move=move, place=place, words=words, damage=0.0, saving=1.0, milliseconds=0.1, why=""
    )


def test_each_layer_is_told_before_and_after(net):
    """By counts that follow from the shapes."""
    graph = dw.open(net, SHAPE).graph
    draft = Draft(graph)
    (change,) = [
        each for each in changes(draft, white(graph)) if (each.place, each.words) ==
        ("3", "32 to 8 channels")
    ]  # fmt: skip
    after, times = change.apply(draft).graph, Prices("milliseconds")
    found = compare_layers(graph, after, times, [step("channels", "3", change.words)])
    assert [(each.path, each.kind) for each in found] == [
        ("0", "standard"), ("3", "standard"), ("7", "standard"), ("12", "linear"),
    ]  # fmt: skip
    first, cut, reader, last = found
    assert first.after == first.before
    assert not first.done + last.done
    assert (cut.before.shape, cut.after.shape) == ((32, 12, 12), (8, 12, 12))
    assert (cut.before.macs, cut.after.macs) == (144 * 9 * 16 * 32, 144 * 9 * 16 * 8)
    assert cut.after.milliseconds < cut.before.milliseconds
    assert cut.done == "channels: 32 to 8 channels"
    assert (reader.before.parameters, reader.after.parameters) == (9 * 32 * 32, 9 * 8 * 32)
    assert reader.done == "reads 8 of 32 channels"
    whole = sum(times.by_path(graph).values())
    assert whole == pytest.approx(times.cost(graph))
    assert sum(each.before.milliseconds for each in found) < whole  # pooling takes some


def test_a_ghost_module_stands_in_its_layers_place(net):
    graph = dw.open(net, SHAPE).graph
    draft = Draft(graph)
    change = next(each for each in ghosts(draft, white(graph)) if each.place == "3")
    found = compare_layers(graph, change.apply(draft).graph, Prices("milliseconds"), [])
    assert found[1].after.layers == 2
    assert found[1].after.shape == (32, 12, 12)
    assert found[1].after.macs < found[1].before.macs


def test_a_layer_that_is_gone_is_told(net):
    graph = dw.open(net, SHAPE).graph
    shorter = dw.open(nn.Sequential(*list(net)[:7]), SHAPE).graph
    found = compare_layers(graph, shorter, Prices("milliseconds"), [])
    assert [(each.after is None, each.done) for each in found[2:]] == 2 * [(True, "removed")]


@pytest.fixture
def partly_frozen(net):
    made = copy.deepcopy(net)
    made[3].weight.requires_grad_(False)
    made[8].requires_grad_(False)  # a BatchNorm
    return made


def test_frozen_weights_are_those_of_the_module(partly_frozen):
    source = dw.open(partly_frozen, SHAPE)
    norm = {f"8.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    assert frozen_weights(source) == {"3.weight", *norm}
    assert not frozen_weights(dw.open(source.graph))


def test_frozen_layers_stay_as_they_are_and_are_named(partly_frozen):
    """By every move, refitting and mimicking; afterwards they are frozen still."""
    images = np.random.default_rng(0).standard_normal((80, *SHAPE[1:]), np.float32)
    options = dw.SlimmingOptions(
        moves=("channels", "channel_pair", "ghost"), build=ELSEWHERE, mimic=1.0
    )
    found = dw.slim(partly_frozen, SHAPE, "80%", images, options=options)
    assert found.record.after.macs < found.record.before.macs
    assert found.record.left_alone == {"3": "3.weight is frozen (requires_grad=False)"}
    parameters = dict(found.module.named_parameters())
    for name in ("3.weight", "8.weight", "8.bias"):
        assert torch.equal(parameters[name], partly_frozen.get_parameter(name))
        assert not parameters[name].requires_grad
    assert torch.equal(
        found.module.get_buffer("8.running_mean"), partly_frozen.get_buffer("8.running_mean")
    )
    assert parameters["12.weight"].requires_grad


def test_slimmed_folders_keep_what_is_frozen(partly_frozen, tmp_path):
    images = np.random.default_rng(0).standard_normal((80, *SHAPE[1:]), np.float32)
    options = dw.SlimmingOptions(moves=("channels", "channel_pair"), build=ELSEWHERE)
    dw.slim(partly_frozen, SHAPE, "80%", images, options=options, directory=tmp_path)
    again = dw.open(f"slimmed:{tmp_path}")
    assert "3.weight" in frozen_weights(again)
    assert "0.weight" not in frozen_weights(again)


def test_a_site_is_no_frozen_layer(partly_frozen):
    source = dw.open(partly_frozen, SHAPE)
    draft = Draft(source.graph, frozen=frozen_weights(source))
    assert [site.path for site in find_sites(draft, white(source.graph))] == ["0", "7", "12"]


def test_networks_that_are_frozen_as_a_whole_are_refused(net):
    frozen = copy.deepcopy(net).requires_grad_(False)
    with pytest.raises(ValueError, match=r"all 4 layers of .* frozen .*net.requires_grad_\(True\)"):
        dw.slim(frozen, SHAPE, "50%", np.zeros((80, *SHAPE[1:]), np.float32))
