"""Hooks of mkdocs: README and its kind become pages of the site, and links to and from them keep working."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# Files beside docs/ and their pages. mkdocs would take a README.md for the home page.
PAGES = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "RELEASING.md": "releasing.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files beside docs/ as pages."""
    root = posixpath.dirname(config.config_file_path or "")
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=posixpath.join(root, source)))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Put llms.txt beside the pages, with its links to them."""
    root, site = Path(config.config_file_path or "").parent, Path(config.site_dir)

    def page(match: re.Match[str]) -> str:
        path = (PAGES.get(match[2]) or match[2].removeprefix("docs/")).removesuffix(".md")
        return f"{match[1]}{'.' if path == 'index' else path}/{match[3]}"

    text = (root / "llms.txt").read_text(encoding="utf-8")
    (site / "llms.txt").write_text(LINK.sub(page, text), encoding="utf-8")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with its links as they are on the site."""
    uri = page.file.src_uri
    here = posixpath.dirname(SOURCES.get(uri, f"docs/{uri}"))

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match[2]))
        on_site = PAGES.get(target) or target.removeprefix("docs/")
        return f"{match[1]}{posixpath.relpath(on_site, posixpath.dirname(uri) or '.')}{match[3]}"

    return LINK.sub(moved, markdown)
