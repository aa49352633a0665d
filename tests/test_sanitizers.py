"""net.c under AddressSanitizer and UBSan, each buffer an allocation of its own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from generator import Generator
from narrow_networks import Block
from net_program import NetProgram
from operator_cases import CASES
from precisions import PRECISIONS, Case, in_precision
from quantised_networks import EveryKernel
from test_compile import GIVEN, TOLERANCE, draw, flat, settle
from test_networks import side
from torch import nn

from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.families import construct, list_models
from depthwise.graph import capture
from depthwise.runtime.target import OPTIMISE, find_target

NATIVE = find_target("native")
FLAGS = (*OPTIMISE, "-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def check_sanitized(net: nn.Module, inputs: list[torch.Tensor], folder: Path) -> None:
    """Build a network with gcc's sanitizers, run it, and compare it with PyTorch."""
    plan = make_plan(rewrite(capture(net, *(tuple(x.shape) for x in inputs))), NATIVE)
    with torch.no_grad():
        wanted = np.concatenate([y.numpy().reshape(-1) for y in flat(net.eval()(*inputs))])
    found = run_sanitized(plan, [x.numpy() for x in inputs], folder)
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def run_sanitized(plan: Plan, inputs: list[np.ndarray], folder: Path) -> np.ndarray:
    """Return what gcc's program gives, run twice, having found nothing wrong."""
    if shutil.which("gcc") is None:
        pytest.skip("NOT SANITIZED: gcc is not installed")
    program = NetProgram(plan, folder, ("gcc", *FLAGS, *plan.target.march.split()))
    first, again = (np.concatenate(outputs) for outputs in program([inputs, inputs]))
    np.testing.assert_array_equal(first, again)
    return first


class TwoImages(nn.Module):
    """Two inputs and two outputs, at strides, through depthwise and grouped convolutions."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Conv2d(5, 7, 3, 2, 1)
        self.sweep = nn.Sequential(nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.Hardswish())
        self.cross = nn.Conv2d(12, 18, 1, groups=3)

    def forward(self, x, y):
        both = torch.cat((self.narrow(x), y), 1)
        return self.cross(self.sweep(both)), both.mean((2, 3))


@pytest.mark.slow
def test_a_generator_is_clean(tmp_path):
    net = Generator()
    settle(net)
    check_sanitized(net, draw((2, 5, 7, 6)), tmp_path)


def test_a_network_of_two_images_is_clean(tmp_path):
    check_sanitized(TwoImages(), draw((1, 5, 13, 10), (1, 5, 7, 5)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in GIVEN])
def test_operators_are_clean(name, tmp_path):
    net, shapes = CASES[name]
    check_sanitized(net, draw(*shapes), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_networks_are_clean(name, tmp_path):
    net = construct(name)
    settle(net)
    check_sanitized(net, draw((1, 3, side(name), side(name) + 3)), tmp_path)


# --------------------------------------------------------------------------- reduced precisions


def check_case(case: Case, net: nn.Module, inputs: list[torch.Tensor], folder: Path) -> None:
    """Build a network in a precision with gcc's sanitizers; hold it to the simulator's bits."""
    made = in_precision(net, [tuple(x.shape) for x in inputs], case)
    given = [x.numpy() for x in inputs]
    found = run_sanitized(make_plan(made.rewritten, case.target), given, folder)
    types = [made.rewritten.type(output.value) for output in made.rewritten.outputs]
    ends = np.cumsum([type_.size for type_ in types])[:-1]
    parts = [y.reshape(t.shape) for y, t in zip(np.split(found, ends), types, strict=True)]
    assert not any(made.errors(given, parts))


@pytest.mark.parametrize("case", PRECISIONS, ids=str)
def test_reduced_precisions_are_clean(case: Case, tmp_path):
    torch.manual_seed(0)
    net = EveryKernel() if case.precision == "int8" else Block()
    check_case(case.here(), net.eval(), draw((2, 3, 21, 18)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", list_models())
def test_networks_in_reduced_precisions_are_clean(name, case: Case, tmp_path):
    torch.manual_seed(0)
    net = construct(name).eval()
    settle(net)
    check_case(case.here(), net, draw((1, 3, side(name), side(name) + 3)), tmp_path)
