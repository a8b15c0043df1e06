"""Check a built site: every link and anchor leads somewhere inside it, and no page asks another host for anything.

    python docs/site/check_links.py build/site

Links that a reader may click may lead elsewhere.  Scripts, styles, fonts and pictures may not, nor may a style or a
script of the site fetch one.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "source": "srcset", "iframe": "src", "video": "src", "audio": "src"}
FETCHED = re.compile(r"""url\(\s*["']?(https?:)?//|@import\s+["']?(https?:)?//""")
# What makes the theme's own script ask api.github.com or unpkg.com.
ASKS = ('data-md-component="source"', 'class="mermaid"')


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.styles: list[str] = []
        self.in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and "href" in values:
            self.loaded.append(values["href"])
        if tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])
        if "style" in values:
            self.styles.append(values["style"])
        self.in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.styles.append(data)


def check(site: Path) -> list[str]:
    """What is wrong, a sentence each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    wrong = [] if pages else [f"{site} has no page; run mkdocs build --strict"]
    for path, page in pages.items():
        here = path.relative_to(site)
        foreign = [
            target for target in page.loaded if urlsplit(target).scheme not in ("", "data") or target[:2] == "//"
        ]
        wrong += [f"{here} loads {target} from another host" for target in foreign]
        wrong += [f"{here} has a style that loads from another host" for s in page.styles if FETCHED.search(s)]
        for target in [*page.links, *page.loaded]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment) or here.name == "404.html":
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                wrong.append(f"{here} links to {target}, which is not there")
            elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].anchors:
                wrong.append(f"{here} links to {target}, which has no such anchor")
    for path in sorted(site.rglob("*.css")):
        if FETCHED.search(path.read_text(encoding="utf-8")):
            wrong.append(f"{path.relative_to(site)} loads from another host")
    for path in pages:
        text = path.read_text(encoding="utf-8")
        for mark in ASKS:
            if mark in text:
                wrong.append(f"{path.relative_to(site)} has {mark}, for which the theme's script asks another host")
    return wrong


if __name__ == "__main__":
    found = check(Path(sys.argv[1] if len(sys.argv) > 1 else "build/site").resolve())
    print(
        "\n".join(found) if found else "every link and anchor leads somewhere, and nothing is loaded from another host"
    )
    sys.exit(bool(found))
