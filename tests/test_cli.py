"""The command line: quick, and clear about what it was given."""

import errno
import json
import os
import subprocess
import sys

import pytest
from terminal import run

from depthwise import __version__
from depthwise.cli.arguments import parse_settings
from depthwise.families import find_network, list_models


def test_help_answers_in_half_a_second():
    """Of the processor's time: others may be using it, too."""
    times = []
    for _ in range(3):
        start = sum(os.times()[2:4])
        done = subprocess.run(
            [sys.executable, "-m", "depthwise", "--help"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        times.append(sum(os.times()[2:4]) - start)
        assert "predict" in done.stdout
    assert min(times) < 0.5


@pytest.mark.parametrize("module", ["depthwise", "depthwise.cli", "depthwise.cli.arguments"])
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
        "resnet14_cifar": 32,
        "resnet20_cifar": 32,
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
