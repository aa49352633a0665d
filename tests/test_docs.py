"""Every Python block of the documentation runs, page by page, and every picture is there."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from depthwise.hardware import calibration

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^ *(```+|~~~+)(.*)$")


class Block(NamedTuple):
    """A fenced block: its language, the line it starts at, and its text."""

    language: str
    line: int
    code: str


def blocks(text):
    """Return the fenced blocks of a page. Raises ValueError for a block that does not end."""
    found, opened = [], None
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened = (fence[1], fence[2].strip(), number)
        elif opened is not None and fence and fence[1] == opened[0] and not fence[2].strip():
            code = "\n".join(lines[opened[2] : number - 1])
            found.append(Block(opened[1], opened[2] + 1, code))
            opened = None
    if opened is not None:
        raise ValueError(f"the block that starts on line {opened[2]} does not end")
    return found


def run(page, text):
    """Run the Python blocks of a page in one namespace; errors point to the page's own lines."""
    namespace = {"__name__": "__main__"}
    for block in blocks(text):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.code
            exec(compile(source, str(page), "exec"), namespace)


@pytest.fixture
def default_dtype():
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("default_dtype")
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what an example writes goes away with the test
    # tests are no quiet minute: what they measure must not be kept for later
    monkeypatch.setattr(calibration, "machine_path", lambda: tmp_path / "machines" / "this.json")
    run(page, page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_name_their_language(page):
    known = {"python", "sh", "text", "c", "toml", "json", "html"}
    for block in blocks(page.read_text()):
        assert block.language in known, f"{page}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_mark_of_a_draft_is_left(page):
    for number, line in enumerate(page.read_text().split("\n"), 1):
        assert not re.match(r"@@|TODO|FIXME|XXX|TBD", line.strip()), f"{page}:{number}: {line}"


def test_every_picture_is_shown_and_says_what_it_shows():
    text = "".join(page.read_text() for page in PAGES)
    shown = {Path(path).name for alt, path in re.findall(r"!\[([^]]+)\]\(([^)]+)\)", text) if alt}
    assert {path.name for path in (ROOT / "docs" / "pictures").glob("*.svg")} <= shown


def test_blocks_share_a_namespace_and_fail_on_their_own_line():
    page = (
        "one\n```python\na = 2\n```\nskip\n```text\nnot code\n```\n```python\nassert a == 3\n```\n"
    )
    with pytest.raises(AssertionError) as failure:
        run("page.md", page)
    assert failure.traceback[-1].lineno + 1 == 10
    run("page.md", page.replace("a = 2", "a = 3"))


def test_a_block_that_does_not_end_is_refused():
    with pytest.raises(ValueError, match="starts on line 2 does not end"):
        blocks("text\n```python\na = 1\n")
