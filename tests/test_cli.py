"""The command line: quick, and clear about what it was given."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from terminal import run
from torch import nn

from depthwise import __version__
from depthwise.cli.source import parse_settings, resolve
from depthwise.families import find_network, list_models


def test_help_answers_in_half_a_second():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "depthwise", "--help"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        times.append(time.perf_counter() - start)
        assert "predict" in done.stdout
    assert min(times) < 0.5


@pytest.mark.parametrize("module", ["depthwise", "depthwise.cli", "depthwise.cli.source"])
def test_nothing_heavy_is_imported_before_a_verb_runs(module):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )  # fmt: skip
    heavy = {"torch", "torchvision", "numpy", "matplotlib", "PIL", "timm", "pydantic"}
    assert not heavy & set(done.stdout.split())


def test_version_and_no_arguments(capsys):
    assert run("--version", capsys=capsys) == (0, f"depthwise {__version__}\n", "")
    code, out, err = run(capsys=capsys)
    assert code == 2
    assert "Usage: depthwise" in out + err


def test_networks_lists_all(capsys):
    code, out, _ = run("networks", "--json", capsys=capsys)
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["mobilenet_v2"]["parameters"] == 3_504_872
    assert rows["mobilenet_v2"]["resolution"] == 224
    assert "width" in rows["mobilenet_v2"]["options"]
    code, out, _ = run("networks", capsys=capsys)
    assert code == 0
    assert "3.50 M" in out
    assert all(f"\n{name} " in out for name in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--network", "mobilenet_v22"],
            "no network is named 'mobilenet_v22': the nearest are mobilenet_v2,",
        ),
        (["--network", "mobilenet_v1"], "no ImageNet weights of mobilenet_v1 are bundled, only of"),
        (["--weights", "no.pth"], "no checkpoint file at no.pth"),
        (["no.jpg"], "no image file at no.jpg"),
        (["--set", "width"], "--set width: expected name=value, as in --set width=0.5"),
        (["--set", "wdth=1"], "mobilenet_v2 has no option 'wdth': it takes width, num_classes,"),
        (
            ["--set", "width=wide"],
            "mobilenet_v2: option width='wide': Input should be a valid number",
        ),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, message, capsys):
    code, out, err = run("predict", *arguments, capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"depthwise: {message}")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("verb", "option", "place"),
    [
        (["draw"], "--out", "taken.svg"),
        (["cost"], "--out", "taken.svg"),
        (["cost"], "--out", "no/a.svg"),
        (["bench", "--peers", "", "--rounds", "1"], "--out", "taken.json"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_message(
    verb, option, place, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if place.startswith("taken"):
        (tmp_path / place).mkdir()
    code, _, err = run(*verb, "conv:standard", option, place, capsys=capsys)
    assert code == 2
    reason = "there is no folder no" if place == "no/a.svg" else os.strerror(errno.EISDIR)
    assert err == f"depthwise: {option} {place}: {reason}\n"


# ------------------------------------------------------------------------- what networks are called


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
    net, shape = resolve(f"conv:{kind}", {})
    assert sum(p.numel() for p in net.parameters()) == weights
    with torch.inference_mode():
        assert net(torch.zeros(shape)).shape == output


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
    net, found = resolve(spec, options)
    assert found == shape
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert not net.training


def test_exported_programs(tmp_path, capfd):
    path = tmp_path / "net.pt2"
    net = nn.Conv2d(3, 4, 3).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, 9, 9),)), path)
    program, shape = resolve(str(path), {})
    assert shape == (2, 3, 9, 9)
    assert torch.equal(program.state_dict["weight"], net.weight)
    with pytest.raises(ValueError, match=r"net\.pt2 is built already: it takes no --set width$"):
        resolve(str(path), {"width": "1"})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"is no exported program .*, or a truncated one$"):
        resolve(str(path), {})
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
        resolve(spec, options)
    assert str(refusal.value) == message


def test_an_unknown_name_of_timm_gets_the_nearest():
    message = "timm has no network 'mobilenetv3_smal_100': the nearest are mobilenetv3_small_100,"
    with pytest.raises(ValueError, match=f"^{message}"):
        resolve("timm:mobilenetv3_smal_100", {})


def test_timm_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"^timm:resnet18 needs timm: pip install timm$"):
        resolve("timm:resnet18", {})


def test_settings():
    assert parse_settings(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(ValueError, match=r"^--set a=2: a is already set to 1$"):
        parse_settings(["a=1", "a=2"])
    for bad in ("a", "a=", "=1"):
        with pytest.raises(ValueError, match=rf"^--set {bad}: expected name=value"):
            parse_settings([bad])


def test_every_default_is_a_value_that_its_option_takes():
    for entry in map(find_network, list_models()):
        for option, parameter in entry.options.items():
            assert entry.parse(option, parameter.default) == parameter.default
            if isinstance(parameter.default, int | float | str):
                assert entry.parse(option, str(parameter.default)) == parameter.default


def test_networks_know_the_resolution_of_their_papers():
    sizes = {entry.name: entry.resolution for entry in map(find_network, list_models())}
    assert {name: size for name, size in sizes.items() if size != 224} == {
        "alexnet": 227,
        "inception_resnet_v2": 299,
        "inception_v3": 299,
        "inception_v4": 299,
        "resnet56_cifar": 32,
        "vgg16_cifar": 32,
        "xception": 299,
    }


def test_options_are_read_from_text():
    entry = find_network("mobilenet_v2")
    assert entry.parse("output_stride", "8") == 8
    assert entry.parse("width", "0.5") == 0.5
    for option, value, message in (
        ("output_stride", "7", "option output_stride='7': Input should be 8, 16 or 32"),
        ("num_classes", "0", "option num_classes='0': Input should be greater than or equal to 1"),
        ("width", "inf", "option width='inf': Input should be a finite number"),
    ):
        with pytest.raises(ValueError, match=r".") as refusal:
            entry.parse(option, value)
        assert str(refusal.value) == f"mobilenet_v2: {message}"
