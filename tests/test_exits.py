"""Exit codes, and whose fault it is: an input's in a sentence with its line, ours in a file."""

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from terminal import run

import depthwise as dw
from depthwise.sources import opening

NETS = """import sys
from torch import nn
def raises(): raise RuntimeError("mine")
def exits(): sys.exit(0)
def leaves(): sys.exit("bye")
def deep(): return deep()
def lines(): raise ValueError("one\\ntwo")
class Own(BaseException): pass
def own(): raise Own("odd")
class Late(nn.Module):
    def forward(self, x): sys.exit(0)
class Evil(nn.Conv2d):
    def __init__(self): super().__init__(3, 4, 3)
    def eval(self): raise KeyError("evil")
class Chatty(nn.Module):
    def __init__(self):
        super().__init__()
        print("from init")
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        print("from forward")
        return self.conv(x)
class Raising(nn.Module):
    def forward(self, x): raise ValueError("in forward")
class Mute(Exception):
    def __str__(self): raise self
def mute(): raise Mute
"""
FILES = {
    "syntax.py": "def x(:",
    "zero.py": "1 / 0",
    "leave.py": "import sys\nsys.exit(0)",
    "lacks.py": "import no_such_thing",
    "nul.py": "a = 1\0",
}


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    Path("nets.py").write_text(NETS)
    for name, text in FILES.items():
        Path(name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            "nets.py:raises",
            "nets.py:raises cannot be built: RuntimeError: mine, at *nets.py:3 (def",
        ),
        ("nets.py:exits", "its code ends the program, with exit code 0, at *nets.py:4 (def exits"),
        ("nets.py:leaves", "its code ends the program, with exit code 1, at *nets.py:5 (def"),
        ("nets.py:deep", "RecursionError: maximum recursion depth exceeded, at *nets.py:6 (def"),
        ("nets.py:lines", "ValueError: one ..., at *nets.py:7 (def lines"),
        ("nets.py:own", "the network's own code: Own: odd, at *nets.py:9 (def own"),
        ("nets.py:Late", "its code ends the program, with exit code 0, at *nets.py:11 (def"),
        ("nets.py:Evil", "the network's own code: KeyError: 'evil', at *nets.py:14 (def eval"),
        ("nets.py:Raising", "the network's forward raises ValueError: in forward, at *nets.py:"),
        ("nets.py:mute", "nets.py:mute cannot be built: Mute, at *nets.py:"),
        ("syntax.py:x", "syntax.py:x: SyntaxError: invalid syntax, at *syntax.py:1 (def x(:)"),
        ("zero.py:x", "zero.py:x: ZeroDivisionError: division by zero, at *zero.py:1 (1 / 0)"),
        ("leave.py:x", "leave.py:x: its code ends the program, with exit code 0, at *leave.py:2"),
        ("leave:x", "leave:x: its code ends the program, with exit code 0, at *leave.py:2"),
        ("lacks.py:x", "ModuleNotFoundError: No module named 'no_such_thing', at *lacks.py:1"),
        ("lacks:x", "ModuleNotFoundError: No module named 'no_such_thing', at *lacks.py:1"),
        ("nul.py:x", "source code string cannot contain null bytes"),
        ("timm:resnet18 --set block=3", "timm:resnet18 cannot be built with block=3: "),
    ],
)
@pytest.mark.usefixtures("nets")
def test_what_a_networks_own_code_raises_is_its_own_fault(network, said, capsys):
    code, out, err = run("lint", *network.split(), "--shape", "1,3,8,8", capsys=capsys)
    assert (code, out) == (2, "")
    pattern = re.escape(said).replace(r"\*", r"\S*")
    assert re.search(pattern, err), err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("nets")
def test_what_a_network_prints_is_no_result(capsys):
    code, out, err = run("lint", "nets.py:Chatty", "--shape", "1,3,8,8", "--json", capsys=capsys)
    assert (code, out) == (0, "[]\n")
    assert "from init" in err
    assert "from forward" in err


def fail(error, monkeypatch):
    """Have lint raise an error in code that is no user's: this file would be."""
    monkeypatch.setattr(opening, "describe", Mock(side_effect=error))


def test_our_own_fault_is_kept_in_a_file(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fail(AssertionError("a plan without steps"), monkeypatch)
    code, out, err = run("lint", "mobilenet_v2", "--shape", "1,3,8,8", capsys=capsys)
    (kept,) = tmp_path.iterdir()
    assert (code, out) == (70, "")
    assert err == (
        "depthwise: this is a fault of depthwise itself, not of what it was given: AssertionError: "
        f"a plan without steps; please report it, with {kept} (its traceback, versions and the "
        "command)\n"
    )
    text = kept.read_text()
    assert text.startswith("command: depthwise lint mobilenet_v2 --shape 1,3,8,8\n")
    assert "AssertionError: a plan without steps" in text
    assert "cli/lint.py" in text
    assert "torch 2." in text


def test_a_fault_that_cannot_be_kept_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no"))
    fail(AssertionError(), monkeypatch)
    code, _, err = run("lint", "mobilenet_v2", capsys=capsys)
    assert code == 70
    assert "the traceback could not be kept: No such file or directory" in err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there is not memory enough (MemoryError): take a smaller input"),
        (
            RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            "memory en",
        ),
        (OSError(12, "Cannot allocate memory"), "there is not memory enough"),
        (OSError(28, "No space left on device", "here"), "here: No space left on device\n"),
        (ImportError("libgomp.so: no", name="torch"), "cannot be imported: libgomp.so: no"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_ours(error, said, monkeypatch, capsys):
    fail(error, monkeypatch)
    code, _, err = run("lint", "mobilenet_v2", capsys=capsys)
    assert code == 2
    assert said in err


class Later(dw.DepthwiseError):
    """An error that the command line has never seen."""


@pytest.mark.parametrize("kind", [ValueError, dw.Unsupported, dw.BuildError, Later])
def test_what_a_caller_can_mend_is_said_in_its_words(kind, monkeypatch, capsys):
    fail(kind("what is wrong"), monkeypatch)
    code, _, err = run("lint", "mobilenet_v2", "--shape", "1,3,8,8", capsys=capsys)
    assert (code, err) == (2, "depthwise: what is wrong\n")


# ------------------------------------------------------------------------- standard output


def shell(command, folder):
    return subprocess.run(
        ["bash", "-c", command.replace("DW", f"{sys.executable} -m depthwise")], cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["--version", "--help", "cost conv:separable"])
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("> /dev/full", "cannot write to standard output: No space left on device"),
        (">&-", "cannot write to standard output: it is closed"),
    ],
)
def test_standard_output_that_takes_nothing(verb, where, said, tmp_path):
    done = shell(f"DW {verb} {where}", tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["--help", "networks", "cost mobilenet_v2 --json"])
def test_a_reader_that_has_gone_is_no_matter(verb, tmp_path):
    done = shell(f"DW {verb} | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("where", ["2>&-", "2> /dev/full"])
def test_standard_error_that_takes_nothing(where, tmp_path):
    assert shell(f"DW cost nothing {where}", tmp_path).returncode == 2
    done = shell(f"DW cost conv:separable --json {where}", tmp_path)
    assert done.returncode == 0
    assert '"macs"' in done.stdout


def test_letters_that_the_terminal_lacks_are_written_otherwise(tmp_path):
    done = shell(r"PYTHONIOENCODING=ascii DW lint mobilenet_v2; DW cost $'\xff.py:x'", tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no file at" in done.stderr


def test_help_says_the_exit_codes(capsys):
    for arguments in (["--help"], ["lint", "--help"]):
        code, out, _ = run(*arguments, capsys=capsys)
        assert code == 0
        assert "70 a fault of depthwise itself" in " ".join(out.split())


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    picture = tmp_path / "a.svg"
    picture.write_text("before")

    def full(self, *_, **__):
        Path(os.fspath(self)).touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        code, _, err = run("draw", "conv", "--out", picture, capsys=capsys)
    assert (code, err) == (2, f"depthwise: --out {picture}: No space left on device\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]
    assert picture.read_text() == "before"
    assert run("draw", "conv", "--out", picture, capsys=capsys)[0] == 0
    assert "<svg" in picture.read_text()
