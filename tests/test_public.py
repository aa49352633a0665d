"""What `import depthwise as dw` offers, and the one family of its errors."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import depthwise as dw
from depthwise import errors

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


def test_dir_shows_the_public_names_and_nothing_else():
    shown = subprocess.run(
        [sys.executable, "-c", "import depthwise as dw, depthwise.errors; print(*dir(dw))"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert shown == sorted(dw.__all__) == sorted(dw._HOMES)
    assert {"Library", "Cost", "Finding", "Machine", "DepthwiseError"} <= set(shown)
    assert not {"Any", "TYPE_CHECKING", "importlib", "errors"} & set(shown)


@pytest.mark.parametrize("name", dw.__all__)
def test_a_public_name_is_of_depthwise(name):
    found = getattr(dw, name)
    assert found.__name__ == name
    assert found.__module__.startswith("depthwise.")
    assert found.__doc__


def test_no_other_name_is_public():
    with pytest.raises(AttributeError, match="module 'depthwise' has no attribute 'nothing'"):
        dw.nothing  # noqa: B018


def test_every_error_is_public_and_under_one_base():
    for kind in ERRORS:
        assert issubclass(kind, dw.DepthwiseError)
        assert getattr(dw, kind.__name__) is kind


def test_no_error_stands_elsewhere():
    """Derived ones may; those from BaseException end the program and are no errors."""
    above = {"Exception", "ValueError", "RuntimeError", "OSError", "TypeError", "LookupError"}
    for path in Path(dw.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            bases = {getattr(b, "id", "") for b in getattr(node, "bases", ())}
            assert path.name == "errors.py" or not bases & above, f"{path}: {bases & above}"
