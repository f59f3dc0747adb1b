"""The page of `jointebm watch` in a real browser."""

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from jointebm.watch.json_tables import lists_of_frame
from page.conftest import MILLISECONDS
from support.watched import Frame, run_text, unpack_frame

pytestmark = pytest.mark.page
Serve = Callable[..., str]
PNG = base64.b64decode(  # 2 x 2, black on white
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR4nGP4z8Dw/z8AB/4C/le5yskAAAAASUVORK5CYII="
)


class Visit:
    """A page in the browser, with what it has asked for, said and received."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.frames: list[Frame] = []
        page.set_default_timeout(MILLISECONDS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        page.on("websocket", self._listen)
        page.goto(address)
        page.wait_for_selector("#controls .control")
        self.wait(lambda: len(self.frames) > 0)
        assert self.text("#status") == ""  # no longer connecting

    def _listen(self, socket: Any) -> None:
        self.requests.append(socket.url)
        socket.on("framereceived", self._receive)

    def _receive(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            self.frames.append(Frame(*unpack_frame(payload)))

    def wait(self, until: Callable[[], bool]) -> None:
        for _ in range(MILLISECONDS // 50):
            if until():
                return
            self.page.wait_for_timeout(50)
        raise TimeoutError(f"still not after {MILLISECONDS} ms")

    def button(self, name: str, **options: Any) -> Any:
        return self.page.get_by_role("button", name=name, **options)

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def more_frames(self, num: int) -> list[Frame]:
        """The next frames."""
        seen = len(self.frames)
        self.wait(lambda: len(self.frames) >= seen + num)
        return self.frames[seen : seen + num]

    def pause(self) -> Frame:
        """The last frame, when the chains stand still."""
        self.button("Pause").click()
        self.button("Play").wait_for()
        self.page.wait_for_timeout(300)
        return self.frames[-1]

    def copied(self, line: str) -> str:
        self.button(f"Copy as {line}").click()
        self.page.wait_for_selector("#copied[open]")
        text = self.text("#copied-text")
        self.button("Close").click()
        return text + "\n"


@contextmanager
def visited(browser: Any, address: str, **options: Any) -> Iterator[Visit]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    try:
        visit = Visit(context.new_page(), address)
        yield visit
        assert visit.errors == []
        hosts = {urlsplit(url).netloc for url in visit.requests}
        assert hosts == {urlsplit(address).netloc}, "the page asks another host"
    finally:
        context.close()


def test_lock_and_unlock(browser: Any, serve: Serve) -> None:
    with visited(browser, serve("pretrained:toy")) as visit:
        lock = visit.button("Lock left")
        assert lock.get_attribute("aria-pressed") == "false"
        lock.click()
        visit.button("Play").click()
        frames = visit.more_frames(20)
        assert len({int(label) for frame in frames[3:] for label in frame.arrays["value:left"].ravel()}) == 1
        assert lock.get_attribute("aria-pressed") == "true"
        lock.click()
        visit.wait(lambda: len(set(visit.frames[-1].arrays["value:left"].ravel().tolist())) == 2)
        assert lock.get_attribute("aria-pressed") == "false"


def test_clamped_cells_are_equal_in_200_frames(browser: Any, serve: Serve) -> None:
    with visited(browser, serve("pretrained:toy")) as visit:
        visit.page.get_by_role("spinbutton", name="point[0], value").fill("-2.5")
        visit.page.keyboard.press("Enter")
        visit.button("diagonal 1", exact=True).click()
        visit.button("Play").click()
        visit.more_frames(4)
        for frame in visit.more_frames(200):
            assert (frame.arrays["value:point"][:, 0] == np.float32(-2.5)).all()
            assert (frame.arrays["value:diagonal"] == 1).all()


def test_the_copied_python_gives_the_values_on_the_page(browser: Any, serve: Serve, tmp_path: Path) -> None:
    with visited(browser, serve("pretrained:toy")) as visit:
        visit.button("Step").click()
        visit.button("left 1", exact=True).click()
        visit.button("Play").click()
        visit.more_frames(10)
        visit.button("bottom 0", exact=True).click()
        visit.more_frames(10)
        last = visit.pause()
        values = run_text(visit.copied("Python"), tmp_path)["values"]
        for name, value in values.items():
            assert np.array_equal(value.numpy().reshape(16, -1), last.arrays[f"value:{name}"]), name
        assert visit.copied("shell").startswith("python3 - <<'END'")


def test_paint_keep_and_upload_a_picture(browser: Any, serve: Serve) -> None:
    with visited(browser, serve("pretrained:digits_any")) as visit:
        page = visit.page
        page.get_by_label("Start from").select_option("noise")  # without the path, which each change starts again
        visit.wait(lambda: "level" not in visit.frames[-1].header)
        visit.button("Play").click()
        visit.wait(lambda: "one pass" in visit.text("#answer-method"))
        spread = visit.text("#answer-bars")
        click = "(button) => { button.click(); return document.querySelector('#answer').className; }"
        assert visit.button("Keep top").evaluate(click) == "doubtful"  # the answer shown is to another question
        visit.wait(lambda: visit.text("#answer-bars") != spread)
        assert "32 of 64 clamped" in visit.text("#controls")
        shares = [int(share) for share in re.findall(r"(\d+)%", visit.text("#answer-bars"))]
        assert max(shares) > 25  # the top half of a digit tells which it is, more than nothing does
        kept = visit.frames[-1].arrays["value:image"][:, :32]
        assert (kept == kept[0]).all()
        page.get_by_role("radio", name="Free").click()
        box = page.locator(".paint").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 16, box["y"] + box["height"] / 16)
        visit.wait(lambda: "31 of 64 clamped" in visit.text("#controls"))
        upload = page.locator("input[type=file]")
        upload.set_input_files({"name": "torn.png", "mimeType": "image/png", "buffer": PNG[:40] + b"x" * 30})
        visit.wait(lambda: "torn.png: not a picture" in visit.text("#status"))
        assert "31 of 64 clamped" in visit.text("#controls")
        upload.set_input_files({"name": "good.png", "mimeType": "image/png", "buffer": PNG})
        visit.wait(lambda: "64 of 64 clamped" in visit.text("#controls"))
        visit.button("Free all").click()
        visit.wait(lambda: "clamped" not in visit.text("#controls"))


def test_everything_works_from_the_keyboard(browser: Any, serve: Serve) -> None:
    with visited(browser, serve("pretrained:digits_any")) as visit:
        page = visit.page
        page.locator("#chains").focus()
        page.keyboard.press("Space")
        visit.button("Pause").wait_for()
        page.keyboard.press("Space")
        visit.button("Play").wait_for()
        page.locator(".paint").focus()
        for key in ("ArrowUp", "ArrowLeft", "Space"):
            page.keyboard.press(key)
        visit.wait(lambda: "1 of 64 clamped" in visit.text("#controls"))
        reached = set()
        page.locator("#chains").focus()
        for _ in range(120):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
            )
        expected = {"Lock digit", "digit 3", "Copy as Python", "Step", "Seed", "Chain 16: digit ·"}
        assert {name for name in expected if not any(str(each).startswith(name[:8]) for each in reached)} == set()


NAMELESS = """() => [...document.querySelectorAll('button, input, select, canvas[role], [role=application]')]
  .filter((node) => node.offsetParent !== null && node.type !== 'file')
  .filter((node) => !(node.getAttribute('aria-label') || node.innerText?.trim() || node.labels?.length))
  .map((node) => node.outerHTML.slice(0, 120))"""


def test_every_control_has_a_label_and_every_id_is_unique(
    browser: Any, serve: Serve, pets_files: tuple[str, str]
) -> None:
    addresses = [serve("pretrained:toy"), serve("pretrained:digits_any"), serve(pets_files[0], "--data", pets_files[1])]
    for address in addresses:
        with visited(browser, address) as visit:
            assert visit.page.evaluate(NAMELESS) == []
            ids = visit.page.evaluate("() => [...document.querySelectorAll('[id]')].map((node) => node.id)")
            assert len(ids) == len(set(ids))
            levels = visit.page.evaluate(
                "() => [...document.querySelectorAll('h1,h2,h3,h4')].map((h) => +h.tagName[1])"
            )
            assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_shows_everything_without_scrolling_sideways(browser: Any, serve: Serve, scheme: str) -> None:
    options = {"viewport": {"width": 380, "height": 800}, "color_scheme": scheme}
    for model in ("pretrained:toy", "pretrained:digits_any"):
        with visited(browser, serve(model), **options) as visit:
            width = visit.page.evaluate("() => [document.scrollingElement.scrollWidth, innerWidth]")
            assert width[0] <= width[1]
            chains, known = (visit.page.locator(name).bounding_box() for name in ("#chains", "#known"))
            assert chains["y"] < known["y"]
            assert visit.page.evaluate("() => document.documentElement.dataset.theme") == scheme


def test_a_table_is_clamped_drawn_and_explained(
    browser: Any, serve: Serve, pets_files: tuple[str, str], tmp_path: Path
) -> None:
    with visited(browser, serve(pets_files[0], "--data", pets_files[1])) as visit:
        page = visit.page
        visit.button("income >50K", exact=True).click()
        page.get_by_role("checkbox", name="size, interval").check()
        page.get_by_role("spinbutton", name="size, from or value").fill("25")
        page.keyboard.press("Enter")
        visit.wait(lambda: min(visit.frames[-1].header["rows"]["size"]) >= 25)
        visit.button("Step").click()
        visit.wait(lambda: visit.frames[-1].header["step"] == 1)
        page.wait_for_timeout(300)
        rows = run_text(visit.copied("Python"), tmp_path)["rows"]
        assert lists_of_frame(rows) == visit.frames[-1].header["rows"]
        assert page.locator("#view tbody tr").count() == 16
        page.get_by_role("tab", name="One row").click()
        visit.button("Load row").click()
        visit.wait(lambda: page.locator("#row-view .depends:not([hidden])").count() >= 2)
        visit.wait(lambda: page.locator("#row-view .doubtful").count() == 0)
        assert "Dependence" in visit.text("#row-view .facts[role=status]")


@pytest.mark.parametrize("width", [1200, 820])
def test_log_p_of_each_row_is_in_view_however_wide_the_table(
    browser: Any, serve: Serve, wide_files: tuple[str, str], width: int
) -> None:
    """Unscrolled and scrolled; nothing lies over it."""
    with visited(browser, serve(*wide_files[:1]), viewport={"width": width, "height": 900}) as visit:
        page = visit.page
        region = page.locator("#view .table-scroll")
        assert region.evaluate("(node) => node.scrollWidth > node.clientWidth"), "the table is not wide"
        for scrolled in (0, 10_000):
            region.evaluate("(node, left) => { node.scrollLeft = left; }", scrolled)
            for cell in (
                page.get_by_role("columnheader", name="log p"),
                page.locator("#view tbody tr td:last-child").nth(3),
            ):
                cell.scroll_into_view_if_needed()
                region.evaluate("(node, left) => { node.scrollLeft = left; }", scrolled)
                box = cell.bounding_box()
                middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
                assert box["x"] + box["width"] <= width
                on_top = "([x, y]) => document.elementFromPoint(x, y).className"
                assert page.evaluate(on_top, middle) == "pinned"


def test_the_server_tells_when_too_many_pages_are_open(browser: Any, serve: Serve) -> None:
    address = serve("pretrained:toy", "--max-sessions", "1")
    with visited(browser, address) as visit:
        other = visit.page.context.new_page()
        other.goto(address)
        other.wait_for_function("() => document.querySelector('#status').textContent.includes('pages are open')")
        assert other.locator("#view canvas, #view tbody tr").count() == 0  # it watches nothing
        visit.button("Step").click()
        visit.wait(lambda: visit.frames[-1].header["step"] == 1)  # the first page goes on
