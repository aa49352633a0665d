"""The documentation as a site: built without a warning, with every public name in its reference."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group

import depthwise as dw
from depthwise.cli.app import app

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder that `mkdocs build --strict` writes: it fails where there is any warning."""
    for package in ("material", "mkdocstrings", "mkdocs"):
        pytest.importorskip(package, reason="NOT TESTED: pip install 'depthwise[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder),
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_reference_has_the_public_names_and_no_others(site):
    pages = "".join(path.read_text() for path in sorted((site / "reference").glob("*.html")))
    assert sorted(re.findall(r'<h2 id="depthwise\.(\w+)"', pages)) == sorted(dw.__all__)
    assert "doc-symbol-module" not in pages  # a function of its module's name


def test_the_command_line_has_every_verb(site):
    page = (site / "reference" / "command-line.html").read_text()
    verbs = get_group(app).commands
    assert re.findall(r'<h2 id="depthwise-(\w+)"', page) == list(verbs)
    for option in ("--weights", "--no-tune", "--shape"):
        assert f"<code>{option}</code>" in page


def test_pages_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\" >]+)", page.read_text()
        )
        assert not fetched, page
