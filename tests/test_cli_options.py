"""Options of all verbs: the same name means the same, and a wrong one gets the right one."""

from itertools import groupby
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer
from terminal import run

from depthwise.cli.app import app
from depthwise.cli.verb import MEANT

VERBS = typer.main.get_command(app).commands
FUNCTIONS = {info.callback.__name__: info.callback for info in app.registered_commands}
# of which the help says what they are: --out a directory or a file, as the verb writes, and
# --resolution the pixels of one network or the multipliers of several, --batch the images of a
# training's step or of a run, --cc the compiler or those to compare, --data images with labels or,
# to slim, without them, --curve what slimming costs or what layers in eight bits do, --agreement
# what a precision or those layers must keep
SEVERAL = {
    "--out", "--resolution", "--batch", "--cc", "--data", "--budget", "--precision", "--curve",
    "--agreement",
}  # fmt: skip
SEVERAL_KINDS = {"--resolution", "--precision"}


def options():
    """Return (option, verb, parameter) of all verbs, by option."""
    found = [
        (name, verb, parameter)
        for verb, command in VERBS.items()
        for parameter in command.params
        for name in parameter.opts
        if name.startswith("-")
    ]
    return sorted(found, key=lambda each: each[:2])


def kind(verb, parameter):
    """Return the type that a verb's function takes, without None."""
    hint = get_type_hints(FUNCTIONS[verb])[parameter.name]
    return frozenset(get_args(hint) or {hint}) - {type(None)}


@pytest.mark.parametrize(
    ("name", "uses"),
    [(name, list(uses)) for name, uses in groupby(options(), key=lambda each: each[0])],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_option_is_the_same_in_every_verb(name, uses):
    kinds = {(kind(verb, p), p.is_flag, p.multiple, p.nargs) for _, verb, p in uses}
    assert len(kinds) == 1 or name in SEVERAL_KINDS, [verb for _, verb, _ in uses]
    assert len({p.help for _, _, p in uses}) == 1 or name in SEVERAL


def test_every_verb_has_json_as_a_flag_and_files_as_out():
    by_verb = {verb: {name: p for name, v, p in options() if v == verb} for verb in VERBS}
    assert set(by_verb) == {
        "ship", "networks", "cost", "compare", "draw", "lint", "predict", "compile", "bench",
        "calibrate", "export", "look", "train", "tradeoff", "evaluate", "slim", "quantize",
    }  # fmt: skip
    assert all(found["--json"].is_flag for found in by_verb.values())
    written = {verb for verb, found in by_verb.items() if "--out" in found}
    assert written == {
        "ship", "compile", "draw", "cost", "bench", "export", "look", "train", "tradeoff",
        "evaluate", "slim", "quantize",
    }  # fmt: skip
    paths = {
        name for verb, found in by_verb.items() for name, p in found.items()
        if Path in kind(verb, p)
    }  # fmt: skip
    assert paths <= {"--out", "--images", "--labels", "--library", "--run", "--recipe", "--resume"}


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in VERBS)], ids="".join)
def test_h_is_help_everywhere(verb, capsys):
    code, out, _ = run(*verb, "-h", capsys=capsys)
    assert code == 0
    assert out.startswith("\n Usage: depthwise") or "Usage: depthwise" in out
    assert run(*verb, "--help", capsys=capsys)[1] == out


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["cost", "x", "--picture", "a.svg"], "(Possible options: --out)"),
        (["cost", "x", "--shap", "1,3,8,8"], "--shape"),
        (["cost", "x", "--input-shape", "1,3,8,8"], "(Possible options: --shape)"),
        (["compile", "x", "--checkpoint", "a.pth"], "(Possible options: --weights)"),
        (["compile", "x", "-o", "a"], "(Possible options: --out)"),
        (["ship", "x", "--num-classes", "5"], "(Possible options: --set)"),
        (["ship", "x", "--class_names", "a.txt"], "(Possible options: --labels)"),
        (["bench", "x", "--iterations", "5"], "(Possible options: --rounds)"),
        (["predict", "--model", "x"], "(Possible options: --network)"),
        (["predict", "--images", "x"], "It is given without one: depthwise predict IMAGES"),
        (["cost", "--network", "x"], "It is given without one: depthwise cost NETWORK"),
        (["compare", "--model", "x"], "It is given without one: depthwise compare FIRST"),
    ],
)
def test_an_unknown_option_gets_the_one_that_was_meant(arguments, advice, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = run(*arguments, capsys=capsys)
    assert (code, out) == (2, "")
    assert "No such option" in err
    assert advice in err


def test_what_is_meant_is_an_option_of_some_verb():
    known = {name for name, _, _ in options()}
    assert set(MEANT) <= known
    others = [word for words in MEANT.values() for word in words]
    assert len(others) == len(set(others))
