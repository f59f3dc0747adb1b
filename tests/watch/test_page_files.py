"""Files of the page: a request names one that was read at the start, and the page names nothing elsewhere."""

import re
from importlib.resources import files
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from jointebm.watch.page_files import page_files
from support.watched import TOKEN

PAGE = {path: content.decode() for path, (content, _) in page_files().items()}
OWN = {path: text for path, text in PAGE.items() if not path.startswith("/vendor/")}


def test_each_file_is_served_as_what_it_is(toy_client: TestClient) -> None:
    for path, (content, media) in page_files().items():
        answer = toy_client.get(f"/{TOKEN}{path}")
        assert answer.content == content
        assert answer.headers["content-type"].startswith(media)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../access.py",
            "..%2faccess.py",
            "%2e%2e/access.py",
            "..\\access.py",
            "vendor/../../access.py",
            "/etc/passwd",
        ),
        *("//etc/passwd", "file:///etc/passwd", "main.js/", "main.js%00", "vendor/", "vendor", "__init__.py", "%ff%fe"),
        *("style.css/../../../pretrained/toy/config.json", "main.js?../../x/", ".", "..", "~", "main%2ejs%20"),
    ],
)
def test_no_path_of_a_request_is_opened(toy_client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_client.get(f"/{TOKEN}/")

    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"opens {arguments}")

    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    answer = toy_client.get(f"/{TOKEN}/{path}")
    contents = {each for each, _ in page_files().values()}
    assert answer.status_code in (401, 404) or answer.content in contents


def test_what_a_file_names_is_a_file_of_the_page() -> None:
    for path, text in OWN.items():
        named = re.findall(r'from "(\./[^"]+)"|(?:href|src)="([^"#][^"]*)"', text)
        for name in (first or second for first, second in named):
            assert f"/{name.removeprefix('./')}" in PAGE, f"{path} names {name}"


def test_the_page_names_no_other_host() -> None:
    namespaces = {"http://www.w3.org/2000/svg"}
    for path, text in PAGE.items():
        for address in re.findall(r"(?:https?|wss?):?//[^\s\"'`)]+", text):
            is_comment = path.startswith("/vendor/") and f"{address}" in "\n".join(
                line for line in text.splitlines() if line.lstrip().startswith(("*", "//", "/*")) or "// http" in line
            )
            assert address in namespaces or is_comment, f"{path}: {address}"


def test_the_page_has_no_inline_script_or_style() -> None:
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", OWN["/index.html"])
    for path, text in OWN.items():
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|cssText", text), path


def test_the_licence_of_the_vendored_library_is_with_it() -> None:
    assert "MIT" in files("jointebm").joinpath("watch", "page", "vendor", "LICENSE-uPlot").read_text()
    assert quote(TOKEN) == TOKEN
