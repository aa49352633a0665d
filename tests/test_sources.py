"""Networks from everywhere: what a text, a file or an object means, and what is refused."""

import sys

import pytest
import torch
from torch import nn

import depthwise as dw


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
