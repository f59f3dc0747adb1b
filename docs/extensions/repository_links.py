"""Links of pages that are also read in the repository: to files beyond the site, and from the site's copies of files."""

import re
from pathlib import PurePosixPath
from posixpath import normpath

REPOSITORY = "https://github.com/jointebm/jointebm"
OWN = re.compile(rf"{re.escape(REPOSITORY)}/(?:blob|raw|tree)/main/([^)#\s]+)")
LINK = re.compile(r"(\]\(|^\[[^\]]+\]:\s*)([^)\s]+)", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}


def rewritten(text: str, path: str) -> str:
    """The text of a Markdown file of the repository with its links as the site has them; `path` from the root.

    Links to pages of the site begin with a slash, which is the root of the site; links to other files of the repository
    lead to their place in it.
    """
    code = [match.span() for match in FENCE.finditer(text)]

    def replaced(match: re.Match[str]) -> str:
        inside = any(first <= match.start() < last for first, last in code)
        return match[0] if inside else match[1] + _target(match[2], PurePosixPath(path))

    return LINK.sub(replaced, text)


def _target(link: str, path: PurePosixPath) -> str:
    target, mark, anchor = link.partition("#")
    own = OWN.fullmatch(target)
    if not target or (not own and re.match(r"[a-z]+:|/", target)):
        return link
    named = own[1] if own else normpath((path.parent / target).as_posix())
    if named in PAGES:
        return f"/{PAGES[named]}{mark}{anchor}"
    if named.startswith("docs/") and PurePosixPath(named).suffix:
        return f"/{named.removeprefix('docs/')}{mark}{anchor}"
    kind = "blob" if PurePosixPath(named).suffix else "tree"
    return f"{REPOSITORY}/{kind}/main/{named}{mark}{anchor}"
