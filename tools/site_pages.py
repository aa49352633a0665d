"""Adds to the documentation's site what does not stand in docs/, and mends the links between them.

A hook of mkdocs.yml. In the repository README.md links to docs/compile.md; on the site, where the
files of docs/ lie at the top, the same link leads to compile.md. The page of the command line is
made of the verbs themselves.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files
from typer.main import get_group

from depthwise.cli.app import EXIT_CODES, app

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "depthwise/data/README.md",
)  # fmt: skip
EXAMPLES = ("*.py", "*.c", "*.cpp", "Makefile", "README.md")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)[^)\s#]+")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages at the repository's top, the example programs, and the command line."""
    examples = [path for kind in EXAMPLES for path in sorted((ROOT / "examples").glob(kind))]
    for path in [*PAGES, *(str(path.relative_to(ROOT)) for path in examples)]:
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    text = "\n".join(command_line())
    files.append(File.generated(config, "reference/command-line.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page whose links lead to the same files on the site as in the repository."""
    if page.file.generated_by:
        return markdown
    source = str(Path(page.file.abs_src_path).relative_to(ROOT))

    def on_site(link: re.Match[str]) -> str:
        target = normpath(join(dirname(source), link[0])).removeprefix("docs/")
        return relpath(target, dirname(page.file.src_uri) or ".")

    return LINK.sub(on_site, markdown)


def command_line() -> Iterator[str]:
    """Yield the lines of the page that has every verb, its arguments and its options."""
    yield from ("# Command line", "", EXIT_CODES + " [More of them](../exits.md).", "")
    for name, verb in get_group(app).commands.items():
        yield from (f"## depthwise {name}", "", escaped(verb.help or ""), "")
        yield from ("| argument or option | |", "|---|---|")
        for parameter in verb.params:
            names = [*parameter.opts, *parameter.secondary_opts]
            spelled = ", ".join(f"`{each}`" for each in names)
            usual = (
                f" Default: {parameter.default}." if type(parameter.default) in (str, int) else ""
            )
            yield f"| {spelled} | {escaped((parameter.help or '') + usual)} |"
        yield ""


def escaped(text: str) -> str:
    """Return plain text as Markdown of one line."""
    return re.sub(r"([|<>*_\[\]])", r"\\\1", " ".join(text.split()))
