"""Adds to the documentation's site what stands outside of docs/, and mends the links between them.

A hook of mkdocs.yml. In the repository README.md links to docs/compile.md; on the site, where the
files of docs/ lie at the top, the same link leads to compile.md.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "depthwise/data/README.md",
)  # fmt: skip
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)[^)\s#]+")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages at the repository's top, and the example programs as files."""
    examples = [path for path in (ROOT / "examples").rglob("*") if path.is_file()]
    for path in [*PAGES, *(str(path.relative_to(ROOT)) for path in sorted(examples))]:
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page whose links lead to the same files on the site as in the repository."""
    source = str(Path(page.file.abs_src_path).relative_to(ROOT))

    def on_site(link: re.Match[str]) -> str:
        target = normpath(join(dirname(source), link[0])).removeprefix("docs/")
        return relpath(target, dirname(page.file.src_uri) or ".")

    return LINK.sub(on_site, markdown)
