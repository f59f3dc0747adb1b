"""The checker of the built site finds each kind of fault."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("site_check", Path(__file__).parents[2] / "tools" / "site_check.py")
assert spec is not None and spec.loader is not None
site_check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site_check)

FILES = {
    "index.html": '<a href="start/tables.html#a">t</a><a href="start/arrays.html">a</a><a href="start/images.html">i</a>'
    '<a href="https://example.org">elsewhere</a><script src="_static/x.js"></script>',
    "start/tables.html": '<h1 id="a">T</h1><pre>JointEBM</pre><a href="../index.html">back</a><a href="#a">here</a>',
    "start/arrays.html": "<pre>Space</pre>",
    "start/images.html": "<pre><span>pretrained</span>:digits</pre>",
    "_static/x.js": "",
    "searchindex.js": "",
    "_static/site.css": "a { background: url(x.png) }",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_sound_site_has_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site_check.main([str(write(tmp_path, FILES))]) == 0 and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "start/arrays.html",
            '<pre>Space</pre><a href="nowhere.html">x</a>',
            "nowhere.html: no such file",
        ),
        ("start/arrays.html", '<pre>Space</pre><a href="tables.html#b">x</a>', "tables.html#b: no such anchor"),
        ("start/arrays.html", '<pre>Space</pre><img src="no.png">', "no.png: no such file"),
        ("start/arrays.html", '<pre>Space</pre><img src="https://example.org/a.png">', "from another host"),
        ("_static/site.css", '@import "//example.org/a.css"', "_static/site.css: fetches from another host"),
        ("start/arrays.html", "<p>Space</p>", "start/arrays.html: no example with Space"),
        ("lost.html", "<p>lost</p>", "lost.html: no way to this page"),
    ],
)
def test_a_fault_is_found(name: str, text: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site_check.main([str(write(tmp_path, {**FILES, name: text}))]) == 1
    assert fault in capsys.readouterr().out


def test_a_start_page_that_is_four_clicks_away_is_found(tmp_path: Path) -> None:
    chain = {f"{n}.html": f'<a href="{n + 1}.html">on</a>' for n in range(3)}
    chain |= {"3.html": '<a href="start/arrays.html">on</a>'}
    index = FILES["index.html"].replace("start/arrays.html", "0.html")
    faults = list(site_check.faults_of(write(tmp_path, {**FILES, **chain, "index.html": index})))
    assert faults == ["start/arrays.html: more than 3 clicks from the start page"]


def test_size_and_search_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write(tmp_path, FILES)
    (site / "searchindex.js").unlink()
    monkeypatch.setattr(site_check, "MAX_BYTES", 10)
    faults = list(site_check.faults_of(site))
    assert len(faults) == 2 and "at most 10" in faults[0] and "searchindex.js" in faults[1]
