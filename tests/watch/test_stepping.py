"""The thread of a page: it shows what was clamped within two frames, and waits for a page that reads slowly."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from jointebm.watch.commands_of_page import Clamp, Copy, Pause, Play, Restart, Row, Step, read_command
from jointebm.watch.packed_frames import pack_frame, unpack_frame
from jointebm.watch.stepping import FRAMES_AHEAD, Stepper


class Counter:
    """Stands for chains: counts its steps, and shows what is clamped."""

    seed = 0

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.num_steps, self.given, self.num_clamps = seconds, 0, 0.0, 0

    def view(self) -> dict[str, Any]:
        return {"kind": "counter"}

    def clamp(self, given: Mapping[str, Any]) -> None:
        if given["x"] < 0:
            raise ValueError("x is negative")
        self.given, self.num_clamps = float(given["x"]), self.num_clamps + 1

    def restart(self, *, start: str, seed: int, row: int) -> None:  # noqa: ARG002
        self.num_steps = 0

    def step(self) -> None:
        time.sleep(self.seconds)
        self.num_steps += 1

    def frame(self, *, with_probs: bool) -> bytes:  # noqa: ARG002
        return pack_frame({"step": self.num_steps}, {"x": np.array([self.given])})

    has_probs = False

    def question(self) -> None:
        return None

    def row_values(self, number: int) -> dict[str, Any]:
        return {"x": number}

    def copied(self) -> dict[str, str]:
        return {"python": "", "shell": ""}


class Client:
    """Receives what a thread sends."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, float]] = []  # step and x
        self.said: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def send(self, message: bytes | dict[str, Any]) -> None:
        with self._changed:
            if isinstance(message, bytes):
                header, arrays = unpack_frame(message)
                self.frames.append((header["step"], float(arrays["x"][0])))
            else:
                self.said.append(message)
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool], seconds: float = 60.0) -> bool:
        with self._changed:
            return self._changed.wait_for(until, seconds)


@pytest.fixture
def started() -> Iterator[Callable[[Counter], tuple[Stepper, Client]]]:
    steppers: list[Stepper] = []

    def start(counter: Counter) -> tuple[Stepper, Client]:
        client = Client()
        steppers.append(Stepper(counter, client.send, seconds=5.0))
        steppers[-1].start()
        return steppers[-1], client

    yield start
    for stepper in steppers:
        stepper.close()
        stepper.finish()
        assert not stepper.is_alive()


ACK = read_command('{"do": "ack"}')


def test_a_page_that_does_not_read_gets_two_frames_and_makes_the_chains_wait(started: Any) -> None:
    counter = Counter()
    stepper, client = started(counter)
    stepper.tell(Play(do="play", rate=1000.0))
    assert client.wait(lambda: len(client.frames) == FRAMES_AHEAD)
    time.sleep(0.3)
    steps = counter.num_steps
    time.sleep(0.3)
    assert (len(client.frames), counter.num_steps) == (FRAMES_AHEAD, steps)
    for number in range(3, 8):
        stepper.tell(ACK)
        assert client.wait(lambda number=number: len(client.frames) == number)
    assert counter.num_steps > steps


def test_what_is_clamped_shows_in_the_second_frame_at_the_latest(started: Any) -> None:
    stepper, client = started(Counter(seconds=0.002))
    stepper.tell(Play(do="play", rate=500.0))
    for x in range(1, 21):
        seen = len(client.frames)
        stepper.tell(Clamp(do="clamp", given={"x": x}))
        stepper.tell(ACK)
        stepper.tell(ACK)
        assert client.wait(lambda seen=seen: len(client.frames) >= seen + 2)
        assert x in [shown for _, shown in client.frames[seen : seen + 2]]


def test_of_changes_that_wait_only_the_last_is_made(started: Any) -> None:
    counter = Counter(seconds=0.2)
    stepper, client = started(counter)
    stepper.tell(Step(do="step"))
    for x in range(50):
        stepper.tell(Clamp(do="clamp", given={"x": x}))
    stepper.tell(ACK)
    assert client.wait(lambda: bool(client.frames) and client.frames[-1][1] == 49)
    assert counter.num_clamps <= 3


def test_a_refused_change_pauses_and_says_why(started: Any) -> None:
    counter = Counter()
    stepper, client = started(counter)
    stepper.tell(Play(do="play", rate=5.0))
    stepper.tell(Clamp(do="clamp", given={"x": -1}))
    assert client.wait(lambda: {"kind": "error", "error": "x is negative"} in client.said)
    assert client.wait(lambda: client.said[-1] == {"kind": "state", "playing": False})
    steps = counter.num_steps
    time.sleep(0.5)
    assert counter.num_steps == steps


def test_an_error_of_the_chains_is_told_to_the_page_and_to_the_log(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours ends the thread, and is not swallowed."""
    logged: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", logged.append)
    counter = Counter()
    monkeypatch.setattr(counter, "step", lambda: 1 // 0)
    stepper, client = started(counter)
    stepper.tell(Step(do="step"))
    stepper.join(timeout=60)
    assert not stepper.is_alive()
    assert client.said[-1]["error"].startswith("the chains have ended: ZeroDivisionError: ")
    assert [each.exc_type for each in logged] == [ZeroDivisionError]


def test_an_error_of_the_answers_is_told_to_the_page_and_to_the_log(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def answer(self) -> dict[str, Any]:
            raise RuntimeError("out of memory")

    logged: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", logged.append)
    counter = Counter()
    monkeypatch.setattr(counter, "question", Failing)
    _, client = started(counter)
    said = {"kind": "answer", "error": "no more answers: RuntimeError: out of memory"}
    assert client.wait(lambda: said in client.said and bool(logged))
    assert [each.exc_type for each in logged] == [RuntimeError]


def test_each_command_does_what_it_says(started: Any) -> None:
    counter = Counter()
    stepper, client = started(counter)
    for command in (Step(do="step"), Step(do="step"), Copy(do="copy"), Row(do="row", number=3)):
        stepper.tell(command)
    assert client.wait(lambda: len(client.said) == 2)
    assert counter.num_steps == 2
    assert client.said == [
        {"kind": "copied", "python": "", "shell": ""},
        {"kind": "row", "number": 3, "values": {"x": 3}},
    ]
    stepper.tell(Restart(do="restart"))
    stepper.tell(Play(do="play", rate=100.0))
    stepper.tell(Pause(do="pause"))
    assert client.wait(lambda: client.said[-1] == {"kind": "state", "playing": False})
    assert counter.num_steps < 100


def test_the_speed_is_that_of_the_slider(started: Any) -> None:
    counter = Counter()
    stepper, _ = started(counter)
    stepper.tell(Play(do="play", rate=20.0))
    begin = time.monotonic()
    while time.monotonic() - begin < 1.0:
        stepper.tell(ACK)
        time.sleep(0.01)
    assert 1 <= counter.num_steps <= 20 * (time.monotonic() - begin) + 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '"step"', '{"do": "fly"}', '{"do": "play"}', '{"do": "play", "rate": 0}', "{}"),
        *('{"do": "play", "rate": 1e9}', '{"do": "play", "rate": NaN}', '{"do": "clamp"}', '{"do": "step", "x": 1}'),
        *('{"do": "clamp", "given": []}', '{"do": "row", "number": "1"}', '{"do": "restart", "seed": 1.5}'),
        "[" * 100_000,
    ],
)
def test_a_message_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="message") as error:
        read_command(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
