"""Tables at every width: numbers are whole or not there, and what is left out is named."""

import re
from functools import partial
from importlib import import_module

import pytest
from rich.cells import cell_len
from test_bench_layers import machine

import depthwise as dw
from depthwise.analysis.explain import explain, explanation_table
from depthwise.analysis.finding import lint_table
from depthwise.analysis.fitted import Column, FittedTable, shorten
from depthwise.analysis.tables import compare_table, cost_table, render
from depthwise.analysis.units import in_percent, in_ratio, in_seconds, in_units, time_unit
from depthwise.bench.layers import LayerTime, Profile
from depthwise.bench.record import NetworkResult, RuntimeRecord
from depthwise.bench.tables import layers_table, network_table
from depthwise.graph import trace
from depthwise.hardware.tables import machine_table

# the packages show the verbs themselves under these names
NETWORKS, PREDICT = (import_module(f"depthwise.cli.{verb}") for verb in ("networks", "predict"))
WIDTHS = (40, 60, 80, 120, 200)
NUMBER = re.compile(r"(?<![\w.,])<?\d[\d,]*(?:\.\d+)?(?:e-\d+)?x?(?![\w.,…])")


@pytest.fixture(scope="module")
def costs():
    names = ("mobilenet_v3_small", "resnet56_cifar")
    return [dw.cost(dw.create_model(name), (1, 3, 64, 64)) for name in names]


@pytest.fixture(scope="module")
def networks():
    return NETWORKS._describe_all()


def runtime(name, *rounds, failed=None):
    return RuntimeRecord(name=name, versions={}, rounds=rounds, failed=failed, error=3e-6)


def bench_of(factor):
    peers = [
        runtime("onnxruntime", (3.0 * factor,), (3.3 * factor,)),
        runtime("mnn", failed="no such"),
    ]
    return NetworkResult(
        network="n", settings={}, weights="", input_shape=(1, 3, 8, 8), macs=100, params=1,
        peaks=(4e10, 5e10),
        runtimes=(runtime("depthwise", (1.0 * factor,), (1.2 * factor,)), *peers),
    )  # fmt: skip


def layer_times(count):
    layers = [
        LayerTime(f"features.{i}.block.0.conv_dw", f"n{i}", "f32_depthwise", (1, 96, 112, 112),
                  "tile 16x1 and more words", 1, 123.4e-6 * (i + 1), 12345678, 12345678, 98765)
        for i in range(count)
    ]  # fmt: skip
    return Profile(tuple(layers), 99, 1e11)


@pytest.fixture(scope="module")
def tables(costs):
    """Return every table of a verb as what prints it."""
    findings = dw.lint(dw.create_model("ghostnet", width=0.5), (1, 3, 64, 64))
    assert findings
    return {
        "cost": cost_table(costs[0]),
        "explain": explanation_table(explain(trace(dw.create_model("ghostnet"), (1, 3, 64, 64)))),
        "compare": compare_table(*costs),
        "lint": lint_table(findings),
        "bench": network_table(bench_of(1e-3), 1),
        "layers": layers_table("n", layer_times(3), machine()),
        "calibrate": machine_table(machine()),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "name", ["cost", "explain", "compare", "lint", "bench", "layers", "calibrate"]
)
def test_a_narrow_table_has_whole_numbers_and_names_what_it_lacks(tables, name, width):
    table = tables[name]
    whole, text = render(table, 400), render(table, width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert set(NUMBER.findall(text)) <= set(NUMBER.findall(whole)) | {str(i) for i in range(1, 12)}
    assert not re.search(r"(^|\s)[\d,.]*\d…", text)
    lost = set(NUMBER.findall(whole)) - set(NUMBER.findall(text))
    assert bool(lost) <= ("left out at this width" in " ".join(text.split()))


def test_what_is_left_out_is_the_least_needed_and_said(costs):
    text = render(cost_table(costs[0]), 80)
    assert (
        "layer                     kind            out     params       MACs      %  sees" in text
    )
    said = "4 columns are left out at this width: in, read, written, FLOP/B; a wider terminal or"
    assert said in " ".join(text.split())
    assert "read, written: bytes" not in text  # nobody explains what is not there
    assert "left out" not in render(cost_table(costs[0]), 200)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_verbs_print_fits_the_terminal(width, networks, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    NETWORKS._print_table(networks)
    out = capsys.readouterr().out
    assert "2.54 M" in out
    assert ("left out" in out) == (width < 80)
    guesses = [
        ("Egyptian cat", 0.9),
        ("a class with a name of many more than forty letters", 0.0001),
    ]
    PREDICT._print_table({"folder/cat.jpg": guesses})
    guessed = capsys.readouterr().out
    assert guessed.startswith("cat.jpg\n90.0%  Egyptian cat\n<0.1%  a class with")
    assert max(map(cell_len, (out + guessed).splitlines())) <= width


def test_a_long_name_is_shortened_in_its_middle():
    assert shorten("blocks.10.depthwise.conv", 15) == "blocks.…se.conv"
    assert shorten("short", 5) == "short"
    assert shorten("fvcore 0.1.5, of timm's tables", 22) == "fvcore …m's tables"
    assert shorten("blocks.10.depthwise.conv", 16) == "blocks.…se.conv"
    assert [cell_len(shorten("分类器的很长的名字", width)) <= width for width in (4, 5, 9)] == [
        True
    ] * 3


def test_wide_characters_and_texts_keep_columns_in_line():
    columns = (Column("n", kind="name"), Column("v"), Column("what", kind="text", least=10))
    table = FittedTable(
        columns, [("猫", "1", "one two three four"), ("dog", "22", "")], ("all", "23", "")
    )
    assert render(table, 20).splitlines() == [
        "n     v  what",
        "猫    1  one two",
        "         three four",
        "dog  22",
        "all  23",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (partial(in_units, 432, "B"), "432 B"),
        (partial(in_units, 3712, "B"), "3.71 kB"),
        (partial(in_units, 999_999, "B"), "1.00 MB"),
        (partial(in_units, 300_774_272), "300.77 M"),
        (partial(in_seconds, 1.5), "1.50 s"),
        (partial(in_seconds, 3.2e-3), "3.20 ms"),
        (partial(in_seconds, 4e-6), "4.00 us"),
        (partial(in_seconds, 80e-9), "80 ns"),
        (partial(in_percent, 0.0), "0.00"),
        (partial(in_percent, 0.00002), "<0.01"),
        (partial(in_ratio, 2.768), "2.77x"),
        (partial(in_ratio, 0.00123), "0.0012x"),
        (partial(in_ratio, 0.0), "0.00x"),
    ],
)
def test_a_unit_suits_its_size(made, text):
    assert made() == text


def test_a_column_of_times_has_one_unit():
    assert time_unit([0.0, 2e-3, 1.0]).show(2e-3) == "2.00"
    assert time_unit([4e-4, 1.0]).show(4e-4) == "400.00"
    assert time_unit([4e-9]).show(4e-9) == "<0.01"
    assert "us" in render(network_table(bench_of(2e-6), 1), 120)
    assert "0.00" not in render(network_table(bench_of(2e-6), 1), 120)
