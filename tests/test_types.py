"""Libraries of networks with booleans, integers and numbers of other widths, inside and outside."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from operator_cases import Function, conv
from terminal import run
from torch import nn

import depthwise as dw
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.verification import decisions, verify
from depthwise.errors import Unsupported
from depthwise.graph import capture, check, interpret, ops, trace


class Typed(nn.Module):
    """A convolution of bytes, beside a mask and indices that come and go."""

    def __init__(self):
        super().__init__()
        self.conv = conv(3, 4, 3, padding=1)

    def forward(self, image, mask, index):
        y = self.conv(image.float() / 255)
        return {
            "scores": y * mask, "mask": ~mask | (y > 0.1), "next": index + 1,
            "negative": 100 - image, "class": (y > y.mean(1, keepdim=True)).sum(1),
        }  # fmt: skip


INPUTS = (
    torch.arange(2 * 3 * 5 * 6).reshape(2, 3, 5, 6).mul(7).byte(),
    torch.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6) % 3 == 0,
    torch.tensor([3, 0, -9]),
)


@pytest.fixture(scope="module")
def typed():
    torch.manual_seed(0)
    return Typed().eval()


@pytest.fixture(scope="module")
def program(typed):
    return torch.export.export(typed, INPUTS)


def assert_equal(found: dict[str, torch.Tensor], net: nn.Module, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        expected = net(*(x.clone() for x in inputs))
    assert list(found) == list(expected)
    for name, y in expected.items():
        torch.testing.assert_close(found[name], y, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------- a whole library


@pytest.mark.parametrize("options", [{}, {"optimize": "memory", "threads": 2}])
def test_inputs_and_outputs_have_the_networks_types(typed, program, options, tmp_path):
    library = dw.compile(program, **options)
    network = library.manifest.network
    assert [e.dtype for e in network.inputs] == ["uint8", "bool", "int64"]
    assert [e.dtype for e in network.outputs] == ["float32", "bool", "int64", "uint8", "int64"]
    library.save(tmp_path / "net")
    for each in (library, dw.load(tmp_path / "net")):
        assert_equal(each(*INPUTS), typed, *INPUTS)
        arrays = each(*(x.numpy() for x in INPUTS))
        assert [y.dtype for y in arrays.values()] == [
            np.float32,
            bool,
            np.int64,
            np.uint8,
            np.int64,
        ]
        assert_equal({name: torch.from_numpy(y) for name, y in arrays.items()}, typed, *INPUTS)


@pytest.mark.parametrize("target", ["aarch64", "wasm32"])
def test_plans_for_other_machines_are_done_with_types(program, target):
    assert dw.compile(program, target=target).manifest.plan_check


def test_other_types_than_the_networks_are_refused(program):
    library = dw.compile(program)
    image, mask, index = INPUTS
    with pytest.raises(ValueError, match="input 'image' is float32: the library takes uint8, conv"):
        library(image.float(), mask, index)
    with pytest.raises(
        ValueError, match="input 'index' is int32: the library takes int64, convert"
    ):
        library(image, mask, index.int())
    with pytest.raises(ValueError, match="sample 0 is float32: the library takes bool, convert it"):
        dw.compile(program, samples=[(image, mask.float(), index)])


def test_programs_in_c_take_every_type(typed, program, tmp_path: Path):
    """net.h says the types, and the examples print what PyTorch computes of a file."""
    folder = tmp_path / "net"
    dw.compile(program).save(folder)
    text = (folder / "net.h").read_text()
    for line in (
        "in[1]: 2 x 4 x 5 x 6, mask, bool (unsigned char, 0 or 1)", "out[2]: 3, next, int64 (long",
        "#define NET_INPUT_BYTES {180, 240, 24}",
        "#define NET_OUTPUT_BYTES {960, 240, 24, 180, 480}",
        "net_run(const void *weights, const void *const *in, void *const *out, void *arena)",
    ):  # fmt: skip
        assert line in text
    (folder / "input").write_bytes(b"".join(x.numpy().tobytes() for x in INPUTS))
    zig, flags = (
        [sys.executable, "-m", "ziglang"],
        ["-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"],
    )
    for command in (
        ["cc", "-std=c11", *flags, "-c", "net.c"], ["cc", *flags, "net.o", "example.c", "-o", "c"],
        ["c++", "-std=c++17", *flags, "net.o", "example.cpp", "-o", "cpp"],
    ):  # fmt: skip
        subprocess.run(
            [*zig, *command, *(() if "-c" in command else ("-lm",))], cwd=folder, check=True
        )
    with torch.no_grad():
        expected = torch.cat([y.double().flatten() for y in typed(*INPUTS).values()])
    for program_ in ("c", "cpp"):
        done = subprocess.run([f"./{program_}", "net.weights", "input"], cwd=folder, check=True,
                              capture_output=True, text=True)  # fmt: skip
        found = torch.tensor([float(line) for line in done.stdout.split()], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# ----------------------------------------------------------------------------- what is computed

WHOLE = torch.tensor([-128, -127, -7, -1, 0, 1, 6, 100, 127])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_whole_numbers_are_computed_as_in_pytorch(dtype):
    """Narrow types wrap around, and a conversion keeps the last bits."""
    net = Function(lambda x: (x + 100, x * 3, 5 - x, -x, x.abs(), x**2, x.clamp(-3, 100),
                              x.to(torch.uint8), x.to(torch.int8), x.to(torch.int16), x.bool(),
                              torch.maximum(x, x * 2), (x > 3) * x, x.float() * 700.5))  # fmt: skip
    x = WHOLE.to(dtype)
    graph = trace(torch.export.export(net, (x,)))
    for form in (graph, rewrite(graph)):
        values = interpret(form, x.numpy())
        for output, y in zip(form.outputs, net(x), strict=True):
            found = values[output.value]
            assert found.dtype == y.numpy().dtype
            np.testing.assert_array_equal(found, y.numpy(), str(output))


def test_numbers_beyond_a_narrow_range_keep_their_last_bits():
    x = torch.tensor([300.7, -300.7, -0.9, 255.99, 256, 1e6 + 0.5, -3e7, 70000.5, 2.0**30 + 4096])
    net = Function(lambda x: (x.byte(), x.to(torch.int8), x.short(), x.long(), x.bool()))
    graph = capture(net, tuple(x.shape))
    for form in (graph, rewrite(graph)):
        values = interpret(form, x.numpy())
        for output, y in zip(form.outputs, net(x), strict=True):
            np.testing.assert_array_equal(values[output.value], y.numpy())
    library = dw.compile(net, tuple(x.shape))
    for found, y in zip(library(x), net(x), strict=True):
        assert torch.equal(found, y)


def test_integers_are_divided_to_whole_numbers():
    """The graph's own division of integers, which ONNX has, cuts off towards zero."""
    a, b = np.int32([7, -7, 7, -7, 6, 2**24]), np.int32([2, 2, -2, -2, -3, 3])
    graph = trace(
        torch.export.export(Function(lambda a, b: a * b), (torch.tensor(a), torch.tensor(b)))
    )
    node = graph.nodes[0]
    graph = check(replace(graph, nodes=(replace(node, op=ops.Binary("divide")),)))
    library = rewrite(graph)
    found = interpret(library, a, b)[library.outputs[0].value]
    expected = torch.div(torch.tensor(a), torch.tensor(b), rounding_mode="trunc")
    np.testing.assert_array_equal(found, expected.numpy())


def test_whole_numbers_that_float32_does_not_hold_are_refused():
    net = Function(lambda x: x.long() + 16777217)
    with pytest.raises(
        Unsupported, match=r"16,777,217, in .* of int64: .* numbers up to 16,777,216"
    ):
        dw.compile(net, (2, 3))
    assert dw.compile(Function(lambda x: x.long() + 16777215), (2, 3)).manifest.verification


# ------------------------------------------------------------------------- numbers of other widths


@pytest.mark.parametrize("kind", ["half", "double", "bfloat16"])
def test_networks_of_other_widths_are_computed_in_float32(kind):
    """Weights are as they are, so that the library is the float32 network of the same weights."""
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), Function(lambda x: x * 0.1 + 1)
    )
    net = getattr(net.eval(), kind)()
    library = dw.compile(net, (1, 3, 8, 8))
    assert {
        e.dtype for e in (*library.manifest.network.inputs, *library.manifest.network.outputs)
    } == {"float32"}
    x = torch.randn(1, 3, 8, 8).to(next(net.parameters()).dtype)
    with torch.no_grad():
        expected = net.float()(x.float())
    for given in (x, x.float()):
        torch.testing.assert_close(library(given), expected, rtol=1e-5, atol=1e-5)
    if kind != "bfloat16":
        np.testing.assert_allclose(library(x.numpy()), expected.numpy(), rtol=1e-5, atol=1e-5)
    assert library.manifest.network.precisions == (str(x.dtype).removeprefix("torch."),)
    with pytest.raises(ValueError, match="is int64: the library takes float32, convert it"):
        library(x.long())


def test_floating_numbers_that_a_network_does_not_have_are_not_converted():
    library = dw.compile(nn.ReLU(), (2, 3))
    with pytest.raises(ValueError, match="is float64: the library takes float32, convert it"):
        library(np.zeros((2, 3)))


# ------------------------------------------------------------------------- types that are asked for


def test_a_type_may_stand_in_the_place_of_a_shape(typed):
    image, mask, index = (dw.TensorType(tuple(x.shape), str(x.dtype).removeprefix("torch."))
                          for x in INPUTS)  # fmt: skip
    library = dw.compile(typed, image, mask, kwargs={"index": index})
    assert_equal(library(INPUTS[0], INPUTS[1], index=INPUTS[2]), typed, *INPUTS)
    half = nn.Conv2d(3, 4, 1).half()
    assert dw.open(half, (1, 3, 5, 5)).graph.inputs["input"].dtype == "float16"
    wrong = dw.TensorType((2, 3, 5, 6), "int8")
    program = torch.export.export(typed, INPUTS)
    with pytest.raises(
        ValueError, match=r"an input of torch.int8: this program was .* for one of torch.uint8"
    ):
        dw.open(program, wrong, mask, index)
    with pytest.raises(ValueError, match="input image of int8: this graph takes uint8"):
        dw.open(capture(program), wrong, mask, index)


def test_types_are_asked_for_on_the_command_line(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n        return x.float() / 255 > 0.5\n"
    )
    network, out = f"{tmp_path}/net.py:Net", str(tmp_path / "out")
    code, _, err = run("compile", network, "--shape", "1,3,4,4:uint8", "--out", out, capsys=capsys)
    assert code == 0, err
    record = dw.load(out).manifest.network
    assert (record.inputs[0].dtype, record.outputs[0].dtype) == ("uint8", "bool")
    code, _, err = run("compile", network, "--shape", "1,3,4,4:byte", "--out", out, capsys=capsys)
    assert code == 2
    assert "--shape 1,3,4,4:byte: element type 'byte' is not known" in err


# ------------------------------------------------------------------------ what rounding decides


class Tipping(nn.Module):
    """A network that compares with what is an element of its own at the first random input."""

    def __init__(self, element: int):
        super().__init__()
        self.conv = conv(3, 8, 3, padding=1)
        x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
        with torch.no_grad():
            self.threshold = float(self.conv(torch.from_numpy(x)).flatten()[element])

    def forward(self, x):
        y = self.conv(x)
        return y > self.threshold, torch.where(y > self.threshold, y + 1, y - 1)


def test_what_rounding_alone_decides_is_no_fault(monkeypatch):
    torch.manual_seed(0)
    tipped = 0
    for element in (0, 14, 35, 63, 70):
        net = Tipping(element)
        assert dw.compile(net, (1, 3, 8, 8)).manifest.verification.error < 1e-6
        with monkeypatch.context() as patch:
            patch.setattr(verify, "find_undecided", lambda *_: [np.zeros((), bool)] * 2)
            try:
                dw.compile(net, (1, 3, 8, 8))
            except (dw.Mismatch, Unsupported):
                tipped += 1
    assert tipped  # else this shows nothing


def test_what_is_decided_by_more_than_rounding_is_a_fault():
    """An element that moves with the weights' last digits is in the balance, no other one."""
    expected = [np.zeros(3), np.float32([1, 2, 3])]

    class Fixed:
        def start(self, _, shaken=0):
            self.shaken = shaken
            return self

        def outputs(self):
            return [np.array([0, self.shaken % 2, 0]), np.float32([1, 2, 3])]

    undecided = decisions.find_undecided(Fixed(), [], expected, 1e-4)
    assert [mask.tolist() for mask in undecided] == [[False, True, False], [False] * 3]
