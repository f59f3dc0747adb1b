"""Checks the built documentation: links, anchors, size, search, and that nothing is fetched from another host.

Prints one line for each fault and exits with 1 if there is any. Run by `make docs`.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_BYTES = 30 * 2**20
STARTS = {"start/tables.html": "JointEBM", "start/arrays.html": "Space", "start/images.html": "pretrained"}
MAX_CLICKS = 3
OF_THE_THEME = {"genindex.html", "py-modindex.html", "search.html"}  # reached by its search box alone
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
}  # what a browser fetches itself
LOADED_LINKS = ("stylesheet", "icon", "preload", "modulepreload", "manifest")
FETCHED_BY_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//")


class Page(HTMLParser):
    """What a page links to, what it fetches, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.code = ""
        self._depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects what the tag names."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self._depth += tag == "pre"
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        loads = tag in LOADS and (tag != "link" or given.get("rel") in LOADED_LINKS)
        if loads and given.get(LOADS[tag]):
            self.fetched.append(given[LOADS[tag]])

    def handle_endtag(self, tag: str) -> None:
        """Ends a block of code."""
        self._depth -= tag == "pre"

    def handle_data(self, data: str) -> None:
        """Collects code."""
        self.code += data if self._depth else ""


def main(arguments: list[str]) -> int:
    """Checks the site in a folder."""
    site = Path(arguments[0])
    faults = list(faults_of(site))
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def faults_of(site: Path) -> Iterator[str]:
    """Faults of a built site, one line each."""
    pages = {path.relative_to(site).as_posix(): Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    if size > MAX_BYTES:
        yield f"{site}: {size} bytes, at most {MAX_BYTES}"
    if not (site / "searchindex.js").is_file():
        yield f"{site}: no searchindex.js, so that search finds nothing"
    for name, page in pages.items():
        for link in (*page.links, *page.fetched):
            yield from (f"{name}: {link}: {why}" for why in broken(site, pages, name, link))
        yield from (f"{name}: fetches {url} from another host" for url in page.fetched if urlsplit(url).netloc)
    for style in sorted(site.rglob("*.css")):
        if FETCHED_BY_STYLE.search(style.read_text("utf-8")):
            yield f"{style.relative_to(site)}: fetches from another host"
    near = clicks_from(site, pages, "index.html")
    for name, word in STARTS.items():
        if name not in pages or word not in pages[name].code:
            yield f"{name}: no example with {word}"
        elif near.get(name, MAX_CLICKS + 1) > MAX_CLICKS:
            yield f"{name}: more than {MAX_CLICKS} clicks from the start page"
    yield from (
        f"{name}: no way to this page from the start page" for name in sorted(pages.keys() - near.keys() - OF_THE_THEME)
    )


def broken(site: Path, pages: dict[str, Page], name: str, link: str) -> Iterator[str]:
    """Why a link within the site leads nowhere; nothing if it leads somewhere, or to another host."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return
    target = target_of(site, name, parts.path)
    if not (site / target).is_file():
        yield "no such file"
    elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        yield "no such anchor"


def target_of(site: Path, name: str, path: str) -> str:
    """The file that a path on a page means, from the root of the site."""
    place = (site / name).parent / unquote(path) if path else site / name
    return (
        place.resolve().relative_to(site.resolve()).as_posix()
        if place.resolve().is_relative_to(site.resolve())
        else path
    )


def clicks_from(site: Path, pages: dict[str, Page], start: str) -> dict[str, int]:
    """The least number of clicks from one page to each that can be reached."""
    near, found = {start: 0}, [start]
    while found:
        name = found.pop(0)
        for link in pages[name].links:
            parts = urlsplit(link)
            target = "" if parts.scheme or parts.netloc else target_of(site, name, parts.path)
            if target in pages and target not in near:
                near[target] = near[name] + 1
                found.append(target)
    return near


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
