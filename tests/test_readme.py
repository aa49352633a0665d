"""The README's commands do what they say, and README.zh-CN.md is the same page in Chinese."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from shipping_requests import measured_elsewhere  # noqa: F401  (a fixture, used by all)
from test_docs import blocks

import depthwise as dw
from depthwise.cli import main
from depthwise.weights import PHOTOGRAPHS

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
QUICK = {"compare", "draw", "cost", "lint", "look", "predict", "export"}
# tests/test_machine.py, test_bench.py, test_published.py, test_runs.py and, by dw.slim,
# test_slimming_slim.py have them
MINUTES = {"calibrate", "bench", "networks", "train", "slim"}


def commands():
    """Return the shell lines that start with our own command, without their comments."""
    lines = [line for block in blocks(ENGLISH) if block.language == "sh"
             for line in block.code.splitlines()]  # fmt: skip
    return [shlex.split(line, comments=True) for line in lines if line.startswith("depthwise ")]


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """Stand where the README's reader stands: with a checkpoint and a folder of photographs."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    torch.save(dw.create_model("mobilenet_v2", num_classes=10).state_dict(), "trained.pth")
    Path("names.txt").write_text("".join(f"class number {i}\n" for i in range(10)))
    Path("photos").mkdir()
    for photo in PHOTOGRAPHS:
        shutil.copy(photo, "photos")


def run(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


# ------------------------------------------------------------------------------------ commands


@pytest.mark.usefixtures("users_folder")
@pytest.mark.parametrize(
    "command", [c for c in commands() if c[1] in QUICK], ids=lambda command: " ".join(command[1:3])
)
def test_quick_commands_run(command, capsys):
    if "timm:" in command[2:3] or "--explain" in command:
        pytest.importorskip("timm")
    code = run(command[1:])
    assert code in ((0, 1) if command[1] == "lint" else (0,)), capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("users_folder")
@pytest.mark.parametrize(
    "command",
    [c for c in commands() if c[1] not in QUICK | MINUTES],
    ids=lambda command: " ".join(command[1:3]),
)
def test_commands_that_compile_run(command, capsys):
    assert run(command[1:]) == 0, capsys.readouterr().err
    folder = Path(command[command.index("--out") + 1])
    assert (folder / "net.c").is_file()
    assert (folder / "report.html").is_file() == (command[1] == "ship")


def test_every_command_is_tried_somewhere():
    tried = {command[1] for command in commands()}
    assert tried == {*QUICK, *MINUTES, "ship", "compile"}


def test_the_two_commands_need_python_alone():
    first, second = (block.code for block in blocks(ENGLISH)[:2])
    start = "python3 -m venv .venv && . .venv/bin/activate && pip install -e "
    assert first == f"{start}. && depthwise ship"
    assert second == f"{start}'.[dev]' && ./check"


# --------------------------------------------------------------------------------- translation


def headings(text):
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def links(text):
    return [target for target in re.findall(r"\]\(([^)]+)\)", text) if "README" not in target]


def prose_numbers(text):
    """Return the numbers outside of code blocks."""
    return sorted(re.findall(r"\d+(?:\.\d+)*", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))


def test_both_languages_have_the_same_sections_code_links_and_numbers():
    assert headings(CHINESE) == headings(ENGLISH)
    assert [b[0::2] for b in blocks(CHINESE)] == [b[0::2] for b in blocks(ENGLISH)]
    assert links(CHINESE) == links(ENGLISH)
    missing = set(prose_numbers(ENGLISH)) ^ set(prose_numbers(CHINESE))
    assert missing <= {"8", "9"}  # one in eight, one in nine: written in words in Chinese
    assert "[English](README.md)" in CHINESE
    assert "[中文](README.zh-CN.md)" in ENGLISH


def test_inline_code_is_the_same():
    found = [sorted(re.findall(r"`([^`\n]+)`", text)) for text in (ENGLISH, CHINESE)]
    assert found[0] == found[1]
