"""What is said of a network that cannot be compiled: where, why, and what would work."""

import re

import pytest
import torch
import torchvision
from refused_networks import IMAGE, REFUSED
from torch import nn

import depthwise as dw
from depthwise.users_code import is_users

FORBIDDEN = ("site-packages", "depthwise/graph", "frontends", "github", "Traceback", "\n")
LONGEST = 600


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_help(name, capfd):
    case = REFUSED[name]
    net = case.build().eval()
    capfd.readouterr()
    with pytest.raises((dw.Unsupported, ValueError)) as refusal:
        dw.compile(net, *case.shapes)
    message = str(refusal.value)
    assert type(refusal.value).__name__ == case.error, message
    assert not [word for word in case.words if word not in message], message
    assert not [word for word in FORBIDDEN if word in message], message
    assert len(message) <= LONGEST, message
    assert capfd.readouterr() == ("", "")


class Head(nn.Module):
    """Boxes and scores of each pixel, as a dict."""

    def __init__(self):
        super().__init__()
        self.boxes, self.scores = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1)

    def forward(self, x):
        return {"boxes": self.boxes(x).flatten(2), "scores": self.scores(x).flatten(1).sigmoid()}


class Detector(nn.Module):
    """As detectors are: a trunk, anchors, a head, and boxes chosen by their scores."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head, self.anchors = nn.Conv2d(3, 4, 3), Head(), nn.Identity()

    def forward(self, x):
        found = self.head(self.trunk(x))
        boxes = found["boxes"][0].T + self.anchors(torch.ones(36, 4))
        chosen = found["scores"][0] > 0.5
        kept = torchvision.ops.nms(boxes[chosen], found["scores"][0][chosen], 0.5)
        if len(kept) == 0:
            return boxes[:0]
        return boxes[chosen][kept]


def test_the_advice_of_a_detector_works():
    net = Detector().eval()
    with pytest.raises(dw.Unsupported) as refusal:
        dw.compile(net, IMAGE)
    (end,) = re.findall(r"until='(.+)'$", str(refusal.value))
    assert end == "head"
    x = torch.randn(IMAGE)
    found = dw.compile(net, IMAGE, until=end)(x)
    with torch.no_grad():
        expected = net.head(net.trunk(x))
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(torch.as_tensor(found[name]), tensor)


def test_counting_gives_the_same_advice():
    for verb in (dw.cost, dw.lint):
        with pytest.raises(dw.Unsupported, match=r"until='head'$"):
            verb(Detector().eval(), IMAGE)


class Heads(nn.Module):
    """Heads in a list, which is never called itself, and an end that depends on values."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid())])

    def forward(self, x):
        return torch.nonzero(self.heads[0](x) * 2)


def test_the_module_that_is_advised_is_one_that_is_called():
    with pytest.raises(dw.Unsupported, match=r"until='heads\.0'$"):
        dw.compile(Heads().eval(), IMAGE)


class Bessel(nn.Module):
    """An operator that is not known, then weights: to end before it would leave little."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.last(torch.special.bessel_j0(self.first(x)))


def test_no_end_is_advised_where_most_comes_after():
    with pytest.raises(dw.Unsupported, match=r"aten\.special_bessel_j0") as refusal:
        dw.compile(Bessel().eval(), IMAGE)
    assert "until=" not in str(refusal.value)


def test_wrappers_are_taken_off():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    for wrapped in (nn.DataParallel(net), torch.compile(net), torch.compile(nn.DataParallel(net))):
        assert dw.open(wrapped, IMAGE).net is net


def test_the_line_named_is_the_users(tmp_path):
    path = tmp_path / "net_of_a_user.py"
    path.write_text(
        "import torch, torchvision\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.special.bessel_j0(torchvision.ops.box_convert(x, 'xyxy', 'xywh'))\n"
        "class Wrong(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torchvision.ops.box_convert(x, 'xyxy', 'none')\n"
    )
    with pytest.raises(dw.Unsupported, match=rf"\({re.escape(str(path))}:4\) is not supported"):
        dw.compile(dw.open(f"{path}:Net", (6, 4)))
    with pytest.raises(ValueError, match=rf"at {re.escape(str(path))}:7 \(return torchv") as wrong:
        dw.compile(dw.open(f"{path}:Wrong", (6, 4)))
    assert "site-packages" not in str(wrong.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "end"),
    [("ssdlite320_mobilenet_v3_large", "head"), ("fasterrcnn_mobilenet_v3_large_320_fpn", "rpn")],
)
def test_detectors_of_torchvision(name, end, capfd):
    build = getattr(torchvision.models.detection, name)
    net = build(weights=None, weights_backbone=None).eval()
    with pytest.raises(dw.Unsupported) as refusal:
        dw.compile(net, (1, 3, 320, 320))
    assert f"until='{end}" in str(refusal.value)
    assert not [word for word in FORBIDDEN if word in str(refusal.value)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("folder", ["site-packages/torch", "dist-packages/numpy"])
def test_packages_of_another_environment_are_no_users(folder):
    assert not is_users(f"/somewhere/else/lib/python3.11/{folder}/module.py")
    assert is_users(f"/somewhere/else/{folder.split('/')[1]}/module.py")
