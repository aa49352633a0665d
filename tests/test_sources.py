"""Networks from everywhere: what a text, a file or an object means, and what is refused."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.graph import capture, export
from depthwise.sources.opening import describe
from depthwise.sources.source import GraphSource, TorchSource
from depthwise.sources.spec import is_untrained, parse_spec

SHAPE = (1, 3, 8, 8)


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten()).eval()


@pytest.mark.parametrize(
    ("kind", "weights", "output"),
    [
        ("standard", 108, (1, 4, 5, 5)),
        ("grouped", 72, (1, 4, 5, 5)),
        ("depthwise", 27, (1, 3, 5, 5)),
        ("pointwise", 12, (1, 4, 5, 5)),
        ("separable", 39, (1, 4, 5, 5)),
        ("plain_separable", 39, (1, 4, 5, 5)),
        ("transposed", 192, (1, 4, 10, 10)),
        ("resize", 12, (1, 4, 10, 10)),
        ("dilated", 108, (1, 4, 5, 5)),
        ("deformable", 108 + 18 * 3 * 9 + 18, (1, 4, 5, 5)),
        ("ghost", 3 * 2 + 2 * 9 + 2 * 4, (1, 4, 5, 5)),
    ],
)
def test_single_convolutions(kind, weights, output):
    source = dw.open(f"conv:{kind}")
    assert sum(p.numel() for p in source.net.parameters()) == weights
    assert source.output_shapes == [output]


FILE = """
from torch import nn
def tiny(width: int = 4, flat: bool = False):
    assert flat in (True, False)
    layers = [nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers, nn.Flatten()) if flat else nn.Sequential(*layers)
net = tiny()
def three(): return 3
"""


@pytest.fixture
def nets_py(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_a_user.py").write_text(FILE)
    return tmp_path / "nets_of_a_user.py"


@pytest.mark.parametrize(
    ("spec", "options", "shape", "parameters"),
    [
        ("mobilenet_v2", {"width": "0.5", "in_channels": "1"}, (1, 1, 224, 224), 1_968_392),
        ("timm:mobilenetv3_small_050", {"in_chans": "1"}, (1, 1, 224, 224), 1_592_936),
        ("torchvision:mobilenet_v2", {"width_mult": "0.5"}, (1, 3, 224, 224), 1_968_680),
        ("torchvision:inception_v3", {"aux_logits": "False"}, (1, 3, 299, 299), 23_834_568),
        ("nets_of_a_user:tiny", {"width": "7", "flat": "true"}, (1, 3, 224, 224), 7 * 30),
        ("nets_of_a_user.py:tiny", {}, (1, 3, 224, 224), 4 * 30),
        ("nets_of_a_user.py:net", {}, (1, 3, 224, 224), 4 * 30),
        ("torchvision.models:resnet18", {}, (1, 3, 224, 224), 11_689_512),
    ],
)
@pytest.mark.usefixtures("nets_py")
def test_networks_from_everywhere(spec, options, shape, parameters):
    source = dw.open(spec, settings=options)
    assert source.shapes == (shape,)
    assert sum(p.numel() for p in source.net.parameters()) == parameters
    assert not source.net.training


def test_exported_programs(tmp_path, capfd):
    path = tmp_path / "net.pt2"
    net = nn.Conv2d(3, 4, 3).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, 9, 9),)), path)
    source = dw.open(str(path))
    assert source.shapes == ((2, 3, 9, 9),)
    assert torch.equal(source.net.state_dict["weight"], net.weight)
    with pytest.raises(ValueError, match=r"net\.pt2 is built already: it takes no --set width$"):
        dw.open(str(path), settings={"width": "1"})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"is no exported program .*, or a truncated one$"):
        dw.open(str(path))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (
            "conv:standrd",
            {},
            "no convolution is named 'standrd': the nearest are standard; all: "
            "deformable, depthwise, dilated, ghost, grouped, plain_separable, pointwise, resize, "
            "separable, standard, transposed",
        ),
        (
            "torchvision:alexne",
            {},
            "torchvision has no network 'alexne': the nearest are alexnet, googlenet",
        ),
        (
            "torchvision:alexnet",
            {"width": "2"},
            "torchvision:alexnet cannot be built with width=2: TypeError: AlexNet.__init__() got "
            "an unexpected keyword argument 'width'",
        ),
        ("no_such:net", {}, "no_such:net: no module named 'no_such'; a factory is "
         "package.module:factory or path/file.py:factory"),
        ("no/such.py:net", {}, "no file at no/such.py"),
        (
            "nets_of_a_user.py:tinny",
            {},
            "nets_of_a_user.py has no 'tinny': the nearest are tiny",
        ),
        (
            "nets_of_a_user.py:tiny",
            {"wide": "1"},
            "nets_of_a_user.py:tiny: got an unexpected keyword argument 'wide'",
        ),
        (
            "nets_of_a_user.py:net",
            {"width": "1"},
            "nets_of_a_user.py:net is of type Sequential: expected a function or class that "
            "returns a torch.nn.Module, or one without options",
        ),
        (
            "nets_of_a_user.py:three",
            {},
            "nets_of_a_user.py:three returned int: expected a torch.nn.Module",
        ),
        ("timm:", {}, "'timm:': a word is missing beside the colon, as in timm:resnet18"),
        (
            "no.pt2",
            {},
            "no file at no.pt2: give a .pt2 file that torch.export.save wrote",
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("nets_py")
def test_what_is_no_network_is_refused(spec, options, message):
    with pytest.raises(ValueError, match=r".") as refusal:
        dw.open(spec, settings=options)
    assert str(refusal.value) == message


def test_an_unknown_name_of_timm_gets_the_nearest():
    message = "timm has no network 'mobilenetv3_smal_100': the nearest are mobilenetv3_small_100,"
    with pytest.raises(ValueError, match=f"^{message}"):
        dw.open("timm:mobilenetv3_smal_100")


def test_timm_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"^timm:resnet18 needs timm: pip install timm$"):
        dw.open("timm:resnet18")


# ------------------------------------------------------------------- one rule for what a text means


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("mobilenet_v2", ("ours", "mobilenet_v2", "")),
        ("conv:ghost", ("conv", "ghost", "")),
        ("timm:resnet18.a1_in1k", ("timm", "resnet18.a1_in1k", "")),
        ("torchvision:alexnet", ("torchvision", "alexnet", "")),
        ("torchvision.models:alexnet", ("factory", "alexnet", "torchvision.models")),
        ("nets/tiny.py:net", ("factory", "net", "nets/tiny.py")),
        ("C:nets/tiny.py:net", ("factory", "net", "C:nets/tiny.py")),
        ("nets/net.pt2", ("file", "nets/net.pt2", "")),
        ("timm:net.pt2", ("file", "timm:net.pt2", "")),
        ("NET.ONNX", ("file", "NET.ONNX", "")),
        ("mobilenet_v2.safetensors", ("file", "mobilenet_v2.safetensors", "")),
    ],
)
def test_a_text_means_one_front_end(text, meant):
    spec = parse_spec(text)
    assert (spec.front_end, spec.name, spec.place) == meant
    assert spec.text == text


def test_the_ending_of_a_file_may_be_in_capitals(tmp_path):
    graph = dw.open(small(), SHAPE).graph
    dw.save_graph(graph, tmp_path / "net.safetensors")
    path = (tmp_path / "net.safetensors").rename(tmp_path / "NET.SafeTensors")
    assert list(dw.open(path).graph) == list(dw.open(str(path)).graph) == list(graph)


def test_what_lies_on_the_disk_does_not_change_what_a_text_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobilenet_v2").mkdir()
    (tmp_path / "timm:lcnet_035").write_bytes(b"a file")
    assert dw.open("mobilenet_v2").net.network == "mobilenet_v2"
    assert type(dw.open("timm:lcnet_035").net).__module__.startswith("timm.")
    with pytest.raises(ValueError, match=r"^timm:lcnet_035: no front end reads such a file"):
        dw.open(Path("timm:lcnet_035"))


@pytest.mark.parametrize("text", ["nets/net", "./mobilenet_v2", "nets/net.bin"])
def test_a_path_without_the_ending_of_a_network_is_no_name(text):
    message = rf"^'{text}' is a path that no front end reads: a network's file ends in \.pt2, "
    with pytest.raises(ValueError, match=message):
        dw.open(text)


def test_a_folder_is_no_file_of_a_network(tmp_path):
    (tmp_path / "net.pt2").mkdir()
    with pytest.raises(ValueError, match=r"net\.pt2 is a folder: .* a compiled library is op"):
        dw.open(tmp_path / "net.pt2")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network in each file that holds its shapes."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    program = export(small(), [SHAPE])
    torch.export.save(program, folder / "net.pt2")
    dw.save_graph(capture(program), folder / "net.safetensors")
    return folder


@pytest.mark.parametrize(
    ("holds", "named", "message"),
    [
        (".pt2", ".safetensors", "as what dw.save_graph writes, and holds what torch.export.save"),
        (".safetensors", ".pt2", "as what torch.export.save writes, and holds what dw.save_graph"),
        (".pt2", ".onnx", "as what an exporter to ONNX writes, and holds what torch.export.save"),
    ],
)
def test_a_file_that_holds_what_another_front_end_reads(files, tmp_path, holds, named, message):
    path = tmp_path / f"other{named}"
    path.write_bytes((files / f"net{holds}").read_bytes())
    with pytest.raises(ValueError, match=rf"other\{named} is named {message} does: name it other"):
        dw.open(path)


def test_a_checkpoint_is_no_network(tmp_path):
    dw.save_graph(capture(small(), SHAPE), tmp_path / "net.safetensors")
    from safetensors.torch import save_file

    save_file(small().state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors: there are tensors in it, and no "):
        dw.open(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("name", ["net.pt2", "net.safetensors"])
def test_what_was_saved_has_its_own_shapes_weights_and_options(files, name):
    path = files / name
    assert dw.open(path).shapes == (SHAPE,)
    with pytest.raises(ValueError, match=r"was exported for its own shapes: leave out --shape, or"):
        dw.open(path, (1, 3, 9, 9))
    with pytest.raises(ValueError, match=r"has its own weights: leave out --weights$"):
        dw.open(str(path), weights="imagenet")
    with pytest.raises(ValueError, match=r"is built already: it takes no --set width$"):
        dw.open(path, settings={"width": 1})


# --------------------------------------------------------------------------------- what is opened


def test_what_is_open_already_is_taken_as_it_is(files):
    net = small()
    source = dw.open(net, SHAPE)
    assert isinstance(source, TorchSource)
    assert (source.net, source.shapes, source.name) == (net, (SHAPE,), "Sequential")
    assert dw.open(source) is source
    program = dw.open(source.program)
    assert program.shapes == (SHAPE,)
    graph = dw.open(source.graph)
    assert isinstance(graph, GraphSource)
    assert graph.graph is source.graph
    x = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    for each in (program, graph, dw.open(dw.open(files / "net.safetensors").graph)):
        assert each.output_shapes == source.output_shapes == [(1, 144)]
    for each in (program, graph):
        np.testing.assert_allclose(each.run([x])[0], source.run([x])[0], atol=1e-6)


def test_a_module_can_have_other_shapes_and_nothing_else():
    source = dw.open(small(), SHAPE)
    assert dw.open(source, (2, 3, 9, 9)).shapes == ((2, 3, 9, 9),)
    assert source.shapes == (SHAPE,)
    for fixed in (source.program, source.graph, dw.open(source.program), dw.open(source.graph)):
        with pytest.raises(ValueError, match=r"for inputs of \(\(1, 3, 8, 8\),\)$"):
            dw.open(fixed, (1, 3, 9, 9))


UNSOUND = [None, 1, "1,3,8,8", (1.5, 3, 8, 8), ("1", 3, 8, 8), (True, 3, 8, 8), (-1, 3, 8, 8)]


@pytest.mark.parametrize("shape", UNSOUND)
def test_a_shape_is_a_tuple_of_whole_numbers(shape):
    net = small()
    for take in (dw.open, dw.cost, describe):
        for named in (net, "mobilenet_v1"):
            with pytest.raises(ValueError, match=f"the shape {re.escape(repr(shape))}: give each"):
                take(named, shape)
    found = dw.open(net, np.array(SHAPE)).shapes
    assert found == (SHAPE,)
    assert all(type(size) is int for size in found[0])


@pytest.mark.parametrize("thing", [3, None, [small], np.zeros(3)])
def test_what_is_no_network_at_all(thing):
    with pytest.raises(ValueError, match=f"^an? {type(thing).__name__} is no network: give a"):
        dw.open(thing)


def test_what_makes_a_network_is_to_be_called():
    for thing, what, call in ((nn.ReLU, "the class ReLU", "ReLU"), (small, "a function", "small")):
        with pytest.raises(ValueError, match=rf"^{what} is no network: .*; call it: {call}\(\)$"):
            dw.open(thing, SHAPE)
    with pytest.raises(
        ValueError, match=r"^'net\.py' is a file of Python: name what makes the net"
    ):
        dw.open("net.py", SHAPE)


def test_none_by_name_is_none_as_to_torch_export(tmp_path):
    net = small()
    assert dw.cost(net, SHAPE, kwargs=None) == dw.cost(net, SHAPE)
    dw.save_graph(dw.open(net, SHAPE).graph, tmp_path / "net.safetensors")
    for network, shapes in ((net, (SHAPE,)), (tmp_path / "net.safetensors", ())):
        assert dw.open(network, *shapes, kwargs=None).shapes == (SHAPE,)
        for given, message in (
            ({"kwargs": 3}, "kwargs is an int: give a dict"),
            ({"until": ["0"]}, "until is a list: give the path of a module"),
        ):
            with pytest.raises(ValueError, match=f"^{message}"):
                dw.open(network, *shapes, **given)


@pytest.mark.parametrize("path", [None, 3, b"net", ["net"]])
def test_what_is_no_path_of_a_file_is_refused(path):
    source = dw.open(small(), SHAPE)
    for write in (dw.open_graph, lambda path: dw.save_graph(source.graph, path),
                  lambda path: dw.export_onnx(source, path)):  # fmt: skip
        with pytest.raises(ValueError, match=r"^.* is given as an? .*: give its path, a text or a"):
            write(path)
    with pytest.raises(ValueError, match=r"^the network is given as an? .*: give its name"):
        dw.create_model(path)


def test_settings_are_values_or_text():
    for width in (0.5, "0.5"):
        source = dw.open("mobilenet_v2", settings={"width": width})
        assert sum(p.numel() for p in source.net.parameters()) == 1_968_680
    built = dw.open("timm:mobilenetv3_small_050", settings={"in_chans": 1})
    assert built.shapes == ((1, 1, 224, 224),)


def test_weights_come_with_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_with_weights.py").write_text("from torch import nn\nnet = nn.Conv2d(3, 4, 3)")
    torch.save(nn.Conv2d(3, 4, 3).state_dict(), "trained.pth")
    source = dw.open("nets_with_weights.py:net", SHAPE, weights="trained.pth")
    assert torch.equal(source.net.weight, torch.load("trained.pth")["weight"])
    with pytest.raises(ValueError, match=r"^timm:resnet18: no ImageNet weights of it are bundled"):
        dw.open("timm:resnet18", weights="imagenet")
    assert dw.open("mobilenet_v2", weights="imagenet").pretrained.num_classes == 1000


@pytest.mark.parametrize(
    ("text", "settings", "weights", "random"),
    [
        ("mobilenet_v2", {}, None, True),
        ("mobilenet_v2", {}, "imagenet", False),
        ("timm:resnet18", {}, None, True),
        ("timm:resnet18", {"pretrained": "true"}, None, False),
        ("timm:resnet18", {"pretrained": True}, None, False),
        ("timm:resnet18", {"pretrained": False}, None, True),
        ("torchvision:alexnet", {"weights": None}, None, True),
        ("torchvision:alexnet", {"weights": "None"}, None, True),
        ("torchvision:alexnet", {"weights": "DEFAULT"}, None, False),
        ("nets.py:net", {}, None, False),
        ("net.pt2", {}, None, False),
    ],
)
def test_networks_that_have_random_weights(text, settings, weights, random):
    assert is_untrained(text, settings, weights) == random


def test_what_is_counted_takes_no_memory_for_weights():
    for name in ("vgg16", "timm:resnet18"):
        source = describe(name)
        assert all(p.is_meta for p in source.net.parameters())
    assert dw.cost("vgg16").params == 138_357_544
    assert dw.cost("vgg16", (1, 3, 64, 64)).input_shapes == ((1, 3, 64, 64),)
    assert [finding.rule for finding in dw.lint("conv:deformable")] == [
        finding.rule for finding in dw.lint(dw.open("conv:deformable").net, (1, 3, 5, 5))
    ]


# ---------------------------------------------------------------------------------- without PyTorch

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # any import of it fails
import depthwise as dw
path, out = sys.argv[1:]
dw.compile(path, threads=2).save(out)
assert dw.compile(dw.open_graph(path), target="wasm32").manifest.plan_check.steps
print(dw.cost(path).macs, len(dw.lint(path)))
"""


def test_a_saved_graph_is_compiled_without_pytorch_to_the_same_code(files, tmp_path):
    saved = files / "net.safetensors"
    command = [sys.executable, "-c", WITHOUT_TORCH, str(saved), str(tmp_path / "without")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    dw.compile(files / "net.pt2", threads=2).save(tmp_path / "with")
    for name in ("net.c", "net.weights"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    found = dw.load(tmp_path / "without")
    assert found.manifest.verification.error < 1e-5
    assert found.manifest.network.name == "net"
    counted = dw.cost(files / "net.pt2")
    assert done.stdout.split() == [str(counted.macs), str(len(dw.lint(files / "net.pt2")))]
