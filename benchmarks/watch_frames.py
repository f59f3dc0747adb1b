"""Frames per second of `jointebm watch`, and how many frames pass until what was clamped shows.

    python benchmarks/watch_frames.py [MODEL] [--seconds S]

Plays the chains as fast as they go, with one thread, and takes every frame at once, as a page would that draws in no time.
Prints also the processor time of a frame, which other programs on the machine do not change.
"""

import argparse
import queue
import time
from typing import Any

import torch

from jointebm.watch.commands_of_page import Ack, Clamp, Play
from jointebm.watch.limits import Limits
from jointebm.watch.opened_models import open_watched
from jointebm.watch.packed_frames import unpack_frame
from jointebm.watch.stepping import Stepper

CHANGES = 10  # of what is clamped


def main() -> None:
    """Prints one line of speed and one of latency."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", default="pretrained:mnist")
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def take(message: bytes | dict[str, Any]) -> None:
        if isinstance(message, bytes):
            frames.put(message)

    watched = open_watched(asked.model).watched(Limits())
    label = next(block for block in watched.view()["blocks"] if block["kind"] != "real")
    stepper = Stepper(watched, take, seconds=30.0)
    stepper.start()
    stepper.tell(Play(do="play", rate=30.0))

    def shown() -> tuple[dict[str, Any], Any]:
        header, arrays = unpack_frame(frames.get())
        stepper.tell(Ack(do="ack"))
        return header, arrays[f"value:{label['name']}"]

    for _ in range(5):
        shown()
    time.sleep(1.0)  # the first answer of `predict` is over
    begin, used, num, steps = time.monotonic(), time.process_time(), 0, []
    while time.monotonic() - begin < asked.seconds:
        steps.append(shown()[0]["step"])
        num += 1
    seconds, processor = time.monotonic() - begin, time.process_time() - used
    print(
        f"{asked.model}: {num / seconds:.1f} frames/s, {(steps[-1] - steps[0]) / seconds:.1f} steps/s of "
        f"{watched.view()['num_chains']} chains; {1000 * processor / num:.1f} ms of one core per frame, "
        f"{num / processor:.1f} frames/s of a free core"
    )
    latencies = []
    for change in range(CHANGES):
        value = change % 2
        stepper.tell(Clamp(do="clamp", given={label["name"]: [value] * label["num_variables"]}))
        for frame in range(1, 100):
            if (shown()[1] == value).all():
                latencies.append(frame)
                break
    print(f"a change shows in frame {max(latencies)} after it at the latest ({len(latencies)} changes)")
    stepper.close()
    stepper.finish()


if __name__ == "__main__":
    main()
