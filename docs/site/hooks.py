"""What mkdocs does beside its plugins: links that leave docs/, prompts in examples, and the tabs of Start.

Pages link to files of the repository, such as ../examples/digits_torch.py, and so they work where the repository is
shown.  In the site such a file becomes a page of its own, below files/.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\(|<(?:img|source)[^>]*? src(?:set)?=\")([^)\s\"]+)(\)|\")")
PICTURE = re.compile(r'<picture>\s*<source [^>]*srcset="([^"]+)">\s*(<img [^>]*>)\s*</picture>')
FENCE = re.compile(r"^(```.*?^```[^\n]*$)", re.M | re.DOTALL)
LANGUAGES = {".py": "python", ".R": "r", ".csv": "text", ".toml": "toml", ".yml": "yaml"}
TABS = [
    ("pytorch", "PyTorch"),
    ("keras", "Keras"),
    ("jax", "JAX"),
    ("scikit-learn", "scikit-learn"),
    ("boosters", "Boosters"),
    ("command-line", "Command line"),
]

copied: dict[str, str] = {}  # pages of files, and where the files lie in the repository


def outside(text: str, place: str) -> set[str]:
    """Files outside docs/ that a page links to, as paths in the repository; and those in docs/ that are no pages."""
    found = set()
    for part in FENCE.split(text):
        if part.startswith("```"):
            continue
        for match in LINK.finditer(part):
            target = match[2].partition("#")[0]
            if not target or "://" in target or target.startswith("mailto:"):
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
            if not path.startswith("docs/") or path.endswith((".py", ".R", ".mplstyle")):
                found.add(path)
    return found


def page_of(path: str) -> str:
    """Where a file of the repository lies among the sources of the site."""
    if path.startswith("docs/") and not path.endswith((".py", ".R", ".mplstyle")):
        return path.removeprefix("docs/")
    return f"files/{path}" if path.endswith(".md") else f"files/{path}.md"


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File, InclusionLevel

    copied.clear()
    waiting = {f"docs/{file.src_uri}" for file in files.documentation_pages()}
    seen: set[str] = set()
    while waiting:
        place = waiting.pop()
        seen.add(place)
        if not place.endswith(".md"):
            continue
        text = (ROOT / place).read_text(encoding="utf-8")
        for path in outside(text, place) - set(copied.values()):
            if not (ROOT / path).is_file():
                continue  # mkdocs says that the link leads nowhere
            copied[page_of(path)] = path
            made = File.generated(config, page_of(path), content=page_text(path), inclusion=InclusionLevel.NOT_IN_NAV)
            files.append(made)
            waiting |= {path} - seen
    return files


def page_text(path: str) -> str:
    """A file of the repository as a page."""
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return f"# {path}\n\nA file of {(ROOT / path).stat().st_size:,} bytes, which is not text.\n"
    if path.endswith(".md"):
        return text
    lines = text.splitlines()
    if path.endswith(".csv") and len(lines) > 400:
        text = "\n".join([*lines[:400], f"... {len(lines) - 400:,} more rows"])
    fence = "`````"
    return f"# {path}\n\n{fence}{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n{fence}\n"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    place = copied.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    if place.endswith(".md"):
        markdown = "".join(
            part if part.startswith("```") else LINK.sub(lambda match: relinked(match, place, page), part)
            for part in FENCE.split(markdown)
        )
    if place in copied.values():
        page.meta["search"] = {"exclude": True}
    markdown = re.sub(r"(?<=\d) (?=±[.\d])", "\u00a0", markdown)  # a number and its error stay on one line
    markdown = PICTURE.sub(both_pictures, markdown)
    markdown = re.sub(r"^( *)```python\n(?=\s*>>>)", r"\1```pycon\n", markdown, flags=re.M)
    if page.file.src_uri == "index.md":
        page.meta["hide"] = ["navigation", "toc"]
    if page.file.src_uri.startswith("start/") and page.file.name != "index":
        markdown = with_tabs(markdown, page.file.src_uri)
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """The search finds what the reference says, and not the source below it."""
    return html.replace(
        '<details class="mkdocstrings-source"', '<details data-search-exclude class="mkdocstrings-source"'
    )


def relinked(match: re.Match[str], place: str, page: Any) -> str:
    """A link of a file in the repository, from where its page lies in the site."""
    target, mark, anchor = match[2].partition("#")
    if not target or "://" in target or target.startswith("mailto:"):
        return match[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
    here = posixpath.dirname(page.file.src_uri)
    return f"{match[1]}{posixpath.relpath(page_of(path), here or '.')}{mark}{anchor}{match[3]}"


def both_pictures(match: re.Match[str]) -> str:
    """The dark and the light picture, of which the style shows one: the reader may choose against the system."""
    dark, light = match[1], match[2]
    of_light = re.sub(r"<img ", '<img class="only-light" ', light)
    of_dark = re.sub(r'src="[^"]*"', f'src="{dark}"', light).replace("<img ", '<img class="only-dark" ')
    return f'<div class="picture">{of_light}{of_dark}</div>'


def with_tabs(markdown: str, uri: str) -> str:
    """The six pages of Start as tabs, below the title."""
    tabs = " ".join(
        f"[{title}]({name}.md){{ .start-tab {'.start-tab--active ' * (uri == f'start/{name}.md')}}}"
        for name, title in TABS
    )
    title, _, rest = markdown.partition("\n")
    return f'{title}\n\n<div class="start-tabs" markdown>\n\n{tabs}\n\n</div>\n{rest}'


def on_post_build(config: Any) -> None:
    """The index of the search as a script too, which a page can load from a folder."""
    index = Path(config.site_dir, "search/search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text()}")
