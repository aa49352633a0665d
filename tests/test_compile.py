"""Compiled networks against eager PyTorch: every operator, every layer, every network."""

import math
import re
import subprocess
import threading

import numpy as np
import pytest
import torch
from operator_cases import CASES, LAYERS, Function
from precisions import BEST, Case, in_precision
from test_networks import beginning, side
from tiers import slow_where
from torch import nn
from torchvision.ops import deform_conv2d

import depthwise as dw
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.pipeline import rewrite, show_stage
from depthwise.compiler.planning import make_plan
from depthwise.families import construct, find_network, list_models
from depthwise.graph import capture
from depthwise.layers import DeformRoIPool
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import find_target
from depthwise.toolchain.build import find_compiler
from depthwise.weights import PHOTOGRAPHS

TOLERANCE = 1e-4  # of the largest output


def settle(net: nn.Module) -> None:
    """Draw BatchNorm's scales, shifts and statistics at random, about those of the initial network.

    Further away the signal grows or dies with depth, until PyTorch's own float32 differs from
    float64 by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(6)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.weight.data.uniform_(0.8, 1.2, generator=generator)
            norm.running_var.uniform_(0.8, 1.2, generator=generator)
            norm.bias.data.uniform_(-0.1, 0.1, generator=generator)
            norm.running_mean.uniform_(-0.1, 0.1, generator=generator)


def draw(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(3)) for shape in shapes]


def flat(result) -> tuple:
    if isinstance(result, dict):
        return tuple(result.values())
    return result if isinstance(result, tuple | list) else (result,)


def agree(net: nn.Module, *inputs: torch.Tensor):
    library = dw.compile(net, *(tuple(x.shape) for x in inputs))
    with torch.no_grad():
        expected = net.eval()(*(x.clone() for x in inputs))
    found = library(*inputs)
    assert type(found) is type(expected)
    for y, wanted in zip(flat(found), flat(expected), strict=True):
        assert (y.shape, y.dtype) == (wanted.shape, wanted.dtype)
        error = (y.double() - wanted.double()).abs().max()
        assert error <= TOLERANCE * wanted.double().abs().max()
    return library


# ---------------------------------------------------------------------- operators and layers

# weights that the network is given as inputs, not as parameters
GIVEN = ("deformable", "deformable, modulated, grouped")


@pytest.mark.parametrize("name", [name for name in CASES if name not in GIVEN])
def test_operators(name):
    net, shapes = CASES[name]
    agree(net, *draw(*shapes))


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    net, shapes = LAYERS[name]
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.3)
    agree(net, *draw(*shapes))


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_convolutions_of_several_groups(modulated):
    class Deformable(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
            self.bias = nn.Parameter(torch.randn(4))

        def forward(self, x, offsets, *mask):
            return deform_conv2d(
                x, 3 * offsets, self.weight, self.bias, 2, (2, 1), (2, 1), *mask
            )  # fmt: skip

    shapes = [(2, 6, 9, 11), (2, 36, 5, 6), (2, 18, 5, 6)]
    agree(Deformable(), *draw(*shapes[: 3 if modulated else 2]))


def test_regions():
    net = DeformRoIPool(6, 3, spatial_scale=0.5)
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.5)
    boxes = torch.tensor([[0, 1.0, 2.0, 7.0, 8.0], [1, 0.0, 0.0, 10.5, 4.0], [0, -3.0, 1, 12, 20]])
    library = dw.compile(net, (2, 6, 9, 11), (3, 5), samples=[(torch.randn(2, 6, 9, 11), boxes)])
    assert library.manifest.verification.error <= TOLERANCE


# ------------------------------------------------------------------------------------ networks


def image_of(name: str) -> tuple[int, ...]:
    """Return a shape: tests of one network compile it once, for the cache finds it by its C."""
    return (1, 3, side(name), side(name) + 3)


SOON = (  # compiled: each has blocks that those before do not
    "alexnet", "vgg16_cifar", "resnet18", "se_resnet50", "googlenet", "mobilenet_v1",
    "mobilenet_v2", "mobilenet_v3_small", "ghostnet",
)  # fmt: skip


@pytest.mark.parametrize("name", slow_where(lambda name: name not in SOON, list_models()))
def test_networks(name):
    net = construct(name)
    settle(net)
    agree(net, *draw(image_of(name)))


# what only larger networks have, each in a block of theirs
BLOCKS = {
    "scaled residual": ("inception_resnet_v2", "residual_b1", 1088),
    "gated, in groups": ("senet154", "3", 256),
    "without a gate, of hard swishes": ("mobilenet_v3_large", "7", 80),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name):
    network, block, channels = BLOCKS[name]
    with torch.device("meta"):
        net = construct(network).blocks.get_submodule(block)
    net = net.to_empty(device="cpu")
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.05)
    settle(net)
    agree(net, *draw((1, channels, 7, 9)))


@pytest.mark.slow
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("name", list_models())
def test_networks_at_full_size(name, odd):
    net = construct(name)
    settle(net)
    resolution = find_network(name).resolution
    agree(net, *draw((1, 3, 97, 131) if odd else (1, 3, resolution, resolution)))


@pytest.fixture(scope="module")
def pretrained():
    return dw.create_model("mobilenet_v2", weights="imagenet").eval()


@pytest.fixture(scope="module")
def compiled(pretrained):
    return dw.compile(pretrained, (1, 3, 224, 224))


@pytest.mark.parametrize("photo", PHOTOGRAPHS, ids=lambda photo: photo.stem)
def test_photographs_get_the_same_label_and_probability(pretrained, compiled, photo):
    x = pretrained.pretrained.preprocessing.apply(photo)
    with torch.no_grad():
        expected = pretrained(x).softmax(1)[0]
    found = compiled(x).softmax(1)[0]
    assert found.argmax() == expected.argmax()
    assert (found - expected).abs().max() <= 1e-4


# ------------------------------------------------------------------------------------ behaviour


def test_a_training_network_is_compiled_as_in_evaluation_and_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    library = dw.compile(net, (1, 3, 8, 8))
    assert all(module.training for module in net.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    (x,) = draw((1, 3, 8, 8))
    with torch.no_grad():
        assert torch.allclose(library(x), net.eval()(x), atol=1e-6)


def test_a_flattened_value_that_lies_in_another_order_is_not_compared():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 7, 5))
    layers = agree(net, *draw((1, 3, 8, 9))).manifest.verification.layers
    assert [layer.path for layer in layers] == ["0", "2"]
    assert all(layer.error <= 1e-5 for layer in layers)


def test_outputs_keep_their_structure():
    net = Function(lambda x: {"out": x.relu(), "aux": x.flatten(1) * 2})
    found = agree(net, *draw((2, 3, 4, 5)))
    assert [output.name for output in found.manifest.network.outputs] == ["out", "aux"]


def test_inputs_and_weights_stay_as_they_are(compiled):
    (x,) = draw((1, 3, 224, 224))
    kept = x.clone()
    first = compiled(x)
    assert torch.equal(x, kept)
    assert torch.equal(compiled(x), first)


def test_eight_threads_agree(compiled):
    inputs = [torch.randn(1, 3, 224, 224) for _ in range(8)]
    alone = [compiled(x) for x in inputs]
    together: list = [None] * 8

    def run(i):
        for _ in range(3):
            together[i] = compiled(inputs[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "ghostnet", "googlenet", "resnet18"])
def test_nothing_is_written_outside_of_arena_and_output(name):
    net, shape = construct(name), image_of(name)
    settle(net)
    graph = rewrite(capture(net, shape))
    plan = make_plan(graph, find_target("native"))
    code = Code(dw.compile(net, shape)._artefact.shared)
    guard, mark = 256, 0xA5
    arena = aligned_bytes(plan.arena.bytes + 2 * guard)
    arena[:] = mark
    outputs = np.full(graph.type(graph.outputs[0].value).size + 2 * guard, 7.0, np.float32)
    inputs = np.full(math.prod(shape) + 2 * guard, 7.0, np.float32)
    inputs[guard:-guard] = np.random.default_rng(0).standard_normal(math.prod(shape))
    kept = inputs.copy()
    code.run(align_copy(plan.weights), [inputs[guard:-guard]], [outputs[guard:-guard]],
             arena[guard:-guard])  # fmt: skip
    assert (arena[:guard] == mark).all()
    assert (arena[-guard:] == mark).all()
    assert (outputs[:guard] == 7).all()
    assert (outputs[-guard:] == 7).all()
    assert np.array_equal(inputs, kept)


def test_every_byte_of_the_arena_counts():
    """The arena may hold anything before a run: nothing is read that was not written."""
    net, shape = construct("mobilenet_v2"), image_of("mobilenet_v2")
    settle(net)
    library = dw.compile(net, shape)
    code, weights = Code(library._artefact.shared), align_copy(library._artefact.weights)
    (x,) = draw(shape)
    results = []
    for fill in (0x00, 0xFF):  # 0xFFFFFFFF is NaN
        arena = aligned_bytes(code.arena_bytes)
        arena[:] = fill
        y = np.empty((1, 1000), np.float32)
        code.run(weights, [x.numpy()], [y], arena)
        results.append(y)
    assert np.array_equal(*results)


FLOAT32 = (Case("float32", "x86-64-v4"), Case("float32", "x86-64-v3"))


@pytest.mark.parametrize("case", [FLOAT32[1], *BEST], ids=str)
def test_emission_is_deterministic(case: Case):
    net = construct("ghostnet")
    settle(net)
    graphs = [in_precision(net.eval(), [(1, 3, 64, 64)], case).rewritten for _ in range(2)]
    texts = {emit(make_plan(graph, case.target)) for graph in graphs}
    assert len(texts) == 1


@pytest.mark.parametrize("case", [*FLOAT32, *BEST], ids=str)
def test_c_passes_every_warning(case: Case, tmp_path):
    net = beginning("mobilenet_v3_small", 5, 40)
    graph = in_precision(net.eval(), [(1, 3, 64, 64)], case).rewritten
    warnings = ["-Wall", "-Wextra", "-Werror", "-O1", "-c", "-o", str(tmp_path / "net.o")]
    source = tmp_path / "net.c"
    source.write_text(emit(make_plan(graph, case.target)))
    for compiler in (find_compiler("gcc"), find_compiler(None)):
        command = [*compiler.command, *compiler.flags(case.target), *warnings, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:2000]


def test_the_library_needs_nothing_but_string_and_math(compiled, tmp_path):
    (tmp_path / "net").write_bytes(compiled._artefact.shared)
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", str(tmp_path / "net")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    needed = {re.sub(r"@.*", "", line.split()[-1]) for line in listed.splitlines()}
    allowed = {
        "memcpy", "memset", "memmove", "expf", "logf", "tanhf", "erff", "powf", "sqrtf", "log1pf",
        "expm1f", "fmaf", "floorf", "roundf",
    }  # fmt: skip
    weak = {"__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable",
            "_ITM_registerTMCloneTable"}  # fmt: skip
    assert needed <= allowed | weak


# -------------------------------------------------------------------------------------- refusals


def test_weights_that_are_computed_while_running_are_refused():
    net, shapes = CASES["deformable"]
    with pytest.raises(dw.Unsupported, match="is computed while the network runs: weights must be"):
        dw.compile(net, *shapes)


def test_the_meta_device_is_refused():
    with torch.device("meta"):
        net = construct("mobilenet_v2")
    with pytest.raises(ValueError, match="is on the meta device and has no numbers: call net"):
        dw.compile(net, (1, 3, 64, 64))
    with pytest.raises(dw.Unsupported, match="the network is on the meta device; build it on the"):
        show_stage(capture(net, (1, 3, 64, 64)), "c")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads=0: a library runs on 1 to 64 threads"),
        ({"threads": 2, "target": "wasm32"}, "threads=2: wasm32 has no threads; leave it at 1"),
        ({"optimize": "size"}, "optimize='size': optimize for speed or memory"),
    ],
)
def test_options_that_no_library_has_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dw.compile(nn.ReLU(), (1, 3), **options)


def test_an_unknown_target_names_the_known():
    with pytest.raises(ValueError, match="no target is named 'arm': take one of native, aarch64"):
        dw.compile(nn.ReLU(), (1, 3), target="arm")
