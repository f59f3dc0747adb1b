"""What a page may say over its WebSocket: one JSON object per message."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from jointebm.storage.untrusted import reason_of

__all__ = ["Ack", "Clamp", "Command", "Copy", "Pause", "Play", "Restart", "Row", "Step", "read_command"]

MAX_RATE = 1000.0  # steps per second


class Message(BaseModel):
    """Base of all messages: no unknown fields, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Clamp(Message):
    """What is clamped from now on: all of it."""

    do: Literal["clamp"]
    given: dict[str, Any]


class Restart(Message):
    """Starts the chains again."""

    do: Literal["restart"]
    start: str = ""
    seed: int = 0
    row: int = 0


class Step(Message):
    """One step, and a frame."""

    do: Literal["step"]


class Play(Message):
    """Steps on and on."""

    do: Literal["play"]
    rate: float = Field(gt=0, le=MAX_RATE)  # steps per second


class Pause(Message):
    """Stops playing."""

    do: Literal["pause"]


class Ack(Message):
    """A frame has been shown: one more may be sent."""

    do: Literal["ack"]


class Copy(Message):
    """Asks for the view as Python and as a shell command."""

    do: Literal["copy"]


class Row(Message):
    """Asks for the values of a row of the data."""

    do: Literal["row"]
    number: int


Command = Clamp | Restart | Step | Play | Pause | Ack | Copy | Row
_ADAPTER: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="do")])


def read_command(text: str) -> Command:
    """Reads a message.

    Raises:
        ValueError: it is none; one line says why.

    Example:
        >>> read_command('{"do": "play", "rate": 20}')
        Play(do='play', rate=20.0)
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"message: {reason_of(error)}") from None
