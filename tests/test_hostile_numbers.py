"""Numbers that no machine can serve are refused in a sentence: every option of every verb."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from depthwise.cli.app import app

USUAL = {  # a small call of each verb that has numbers among its options
    "bench": ("conv:standard", "--peers", ""),
    "compile": ("conv:standard", "--show", "plan"),
    "draw": ("conv",),
    "lint": ("conv:separable",),
    "look": ("conv:standard", "no.jpg"),
    "predict": ("no.jpg",),
    "quantize": ("conv:standard", "--data", "no"),
    "ship": ("conv:standard", "--images", "no"),
    "slim": ("conv:standard", "--data", "no"),
    "tradeoff": ("no",),
    "train": ("no",),
}
HUGE = 99_999_999_999
NUMBERS = ("-1", "0", str(HUGE), str(10**30), "9" * 5000, "nan", "1e9", "")
RUNNER = Path(__file__).with_name("hostile_numbers.py")


def numeric_options():
    """Return (verb, option, default) of every option that takes a number."""
    found = []
    for command in app.registered_commands:
        assert command.callback
        for name, parameter in inspect.signature(command.callback).parameters.items():
            kind, *extra = get_args(parameter.annotation)
            if not {int, float} & {kind, *get_args(kind)}:
                continue
            names = [text for text in extra[0].param_decls or () if text.startswith("--")]
            option = names[0] if names else f"--{name.replace('_', '-')}"
            found.append((command.callback.__name__, option, parameter.default))
    return found


def run_all(cases, folder, seconds):
    """Run each case in one process; return its code, its seconds and what it said."""
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, RUNNER, "cases.json"], cwd=folder, capture_output=True, text=True,
        check=False, timeout=seconds,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(cases), f"{cases[len(rows)]} ended the process: {done.stderr[-300:]}"
    return rows


def assert_in_words(cases, rows):
    """Check that each case was done, or refused in a sentence."""
    for case, row in zip(cases, rows, strict=True):
        found = row["code"] == 1 and case[0] == "lint"
        assert found or row["code"] in (0, 2), f"{case}: {row}"
        assert "Traceback" not in row["said"], f"{case}: {row}"
        assert row["code"] != 2 or row["said"].strip(), f"{case}: nothing was said"


def test_there_are_numbers_to_try():
    found = {(verb, option) for verb, option, _ in numeric_options()}
    assert {("bench", "--rounds"), ("lint", "--object-size"), ("draw", "--size")} <= found
    assert {verb for verb, _ in found} == set(USUAL)


def test_every_number_of_every_verb(tmp_path):
    cases = [
        [verb, *USUAL[verb], f"{option}={number}"]
        for verb, option, default in numeric_options()
        for number in (*NUMBERS, str(1000 * (default or 1)))
    ]
    rows = run_all(cases, tmp_path, 500)
    assert_in_words(cases, rows)
    for case, row in zip(cases, rows, strict=True):
        number = case[-1].partition("=")[2]
        if number in ("-1", "nan", "1e9", "", "9" * 5000):
            assert row["code"] == 2, case


SHAPES = (
    "99999999999999999999,3,8,8", "1,3,100000,100000", "1,3,1000000000,1000000000", "0,3,8,8",
    "-1,3,8,8", "", ",", "1,3,8,nan", "1,3,8,1e9", "1,3,8,inf", "1,3,8", "9" * 5000, "1,1,1,1,1",
    "1000000000,3,8,8", "1,3,1099511627776,1", "1,3,8,٨",
)  # fmt: skip


@pytest.mark.parametrize("verb", ["cost", "lint", "draw", "compare"])
def test_every_shape(verb, tmp_path):
    networks = ("conv:separable", "conv:dilated") if verb == "compare" else ("conv:separable",)
    cases = [[verb, *networks, f"--shape={shape}"] for shape in SHAPES]
    rows = run_all(cases, tmp_path, 300)
    assert_in_words(cases, rows)
    refused = [shape for shape, row in zip(SHAPES, rows, strict=True) if row["code"] == 2]
    assert {SHAPES[0], *SHAPES[2:10], SHAPES[11]} <= set(refused)
    assert "more elements than any machine holds" in rows[0]["said"]


SETTINGS = (
    ("mobilenet_v2", "width"), ("mobilenet_v2", "num_classes"), ("mobilenet_v2", "in_channels"),
    ("ghostnet", "width"), ("resnet18", "num_classes"), ("conv:standard", "kernel_size"),
    ("conv:standard", "stride"), ("conv:standard", "padding"), ("conv:grouped", "groups"),
    ("conv:dilated", "dilation"), ("conv:ghost", "ratio"), ("conv:resize", "scale"),
    ("conv:transposed", "stride"), ("conv:deformable", "groups"),
)  # fmt: skip


@pytest.mark.parametrize("verb", ["cost", "lint"])
def test_every_setting(verb, tmp_path):
    numbers = ("1e9", "1e300", "nan", "inf", "-1", "0", str(HUGE), str(10**30), "(" * 300)
    cases = [
        [verb, network, "--set", f"{name}={number}"]
        for network, name in SETTINGS
        for number in numbers
    ]
    rows = run_all(cases, tmp_path, 500)
    for case, row in zip(cases, rows, strict=True):
        if case[-1].endswith(("=nan", "=inf", "=-1", "((")):
            assert row["code"] == 2, f"{case}: {row}"
    assert_in_words(cases, rows)


def test_weights_that_do_not_fit_are_refused_before_they_are_made(tmp_path):
    cases = [
        ["compile", "mobilenet_v2", "--set", "width=300", "--no-tune"],
        ["predict", "--set", "num_classes=10000000000"],
        ["bench", "mobilenet_v2", "--set", "num_classes=10000000000", "--layers"],
    ]
    rows = run_all(cases, tmp_path, 200)
    assert [row["code"] for row in rows] == [2, 2, 2]
    for row in rows:
        assert "GB of weights, and this machine" in row["said"]
