"""The corpus of malformed files: what a stranger may hand over, and what must be said about it.

    python tests/malformed.py FOLDER           writes every case into a folder of its own
    python tests/malformed.py FOLDER --run     runs their commands there too, and prints one line of JSON for each

Each case is a folder with one bad file among good ones, a command that reads it, the file that the message must name, and
words that it must hold.
"""

import contextlib
import gzip
import hashlib
import io
import json
import math
import os
import pickle
import resource
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from jointebm import Categorical, Continuous, KernelSpec, Model, ModelConfig, Space
from jointebm.cli import main
from jointebm.data import Toy
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs.provenance import environment
from jointebm.spaces.transforms import Logit

SEVERAL_GIGABYTES = 3 << 30
EVALUATE = "evaluate model --rows 1 --methods exact"
EVALUATE_IMAGES = "evaluate images --rows 1 --methods exact --data ."
PREDICT = "predict model rows.npz"
SAMPLE = "sample model --steps 1 --given point=@rows.npz"
RESUME = "train --resume run"
IMAGES = "mnist/train-images-idx3-ubyte"


class Case(NamedTuple):
    """One malformed file.

    Args:
        reader: what reads it.
        name: what is wrong with it; with `reader`, unique.
        write: puts it into a folder in which all other files are good.
        command: what to run there.
        file: the file that the message names.
        words: what else it says.
    """

    reader: str
    name: str
    write: Callable[[Path], object]
    command: str
    file: str
    words: str


# Good files.


@cache
def good() -> dict[str, bytes]:
    """Every file of a folder in which all commands work, by path."""
    toy = Model(config_of("toy", Toy().space))
    images = Model(config_of("mnist", Space(image=Continuous((28, 28), Logit(1e-6)), digit=Categorical(10))))
    recipe = override(
        find("toy"),
        [
            "num_iterations=1",
            "batch_size=4",
            "buffer_size=8",
            "hidden=[2]",
            "num_steps=1",
            "num_test_steps=1",
            "num_test_chains=1",
        ],
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        toy.save(folder / "model")
        images.save(folder / "images")
        content = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
    return content | {
        "rows.npz": npz(point=npy(np.zeros((3, 2), np.float32))),
        IMAGES: idx((2, 28, 28), bytes(2 * 784)),
        "run/recipe.json": recipe.model_dump_json().encode(),
        "run/run.json": encoded({"recipe": "toy", "seed": 0, **environment()}),
    }


def config_of(name: str, space: Space) -> ModelConfig:
    return ModelConfig(
        name=name,
        data=name,
        space=space.config,
        energy=ConcatSpec(net=MLPSpec(hidden=(2,))),
        kernel=KernelSpec(step_size=0.1),
        num_steps=1,
    )


def write_good(folder: Path) -> None:
    for name, content in good().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


# How a file goes bad.


def holding(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def absent(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def a_folder(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def a_loop(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to(Path(name).name))


def a_pipe(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


def an_endless_device(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to("/dev/zero"))


def as_long_as(name: str, size: int, start: bytes = b"") -> Callable[[Path], object]:
    """A file of holes, which takes no room on the disk."""
    return lambda folder: ((folder / name).write_bytes(start), os.truncate(folder / name, size))


def encoded(parsed: Any) -> bytes:
    return json.dumps(parsed).encode()


def changed(name: str, *path: str, to: Any) -> bytes:
    """A good JSON file with one field replaced."""
    parsed = json.loads(good()[name])
    parent = parsed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = to
    return encoded(parsed)


# model/config.json

NOT_ONE = "not a model configuration"
NO_MODEL = "does not describe a model"


def config_cases() -> list[Case]:
    name = "model/config.json"
    text = good()[name]
    block = {"kind": "continuous", "shape": [2], "transform": {"name": "identity"}}
    mlp = {"hidden": [2]}
    neither = "holds neither config.json"
    places = {
        "absent": (absent(name), neither),
        "a folder": (a_folder(name), neither),
        "a symlink to itself": (a_loop(name), neither),
        "a pipe": (a_pipe(name), neither),
        "an endless device": (an_endless_device(name), neither),
    }
    contents: dict[str, tuple[bytes, str]] = {
        "empty": (b"", NOT_ONE),
        "cut off": (text[:-20], NOT_ONE),
        "goes on": (text + b"}", NOT_ONE),
        "not UTF-8": (text.replace(b"toy", b"t\xff\xfe"), "can't decode byte"),
        "UTF-16": (text.decode().encode("utf-16"), "can't decode byte"),
        "byte order mark": (b"\xef\xbb\xbf" + text, "BOM"),
        "a pickle": (pickle.dumps({"format": 1}), NOT_ONE),
        "null": (b"null", "expected an object"),
        "a list": (b"[1]", "expected an object"),
        "100,000 lists deep": (b"[" * 100_000, "nested too deeply"),
        "20,000 objects deep": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "nested too deeply"),
        "500 lists deep in a field": (
            changed(name, "space", to={"x": {"a": json.loads("[" * 500 + "]" * 500)}}),
            NOT_ONE,
        ),
        "a field twice": (text.replace(b'"format"', b'"name": "a", "format"'), "key 'name' stands there twice"),
        "a block twice": (text.replace(b'"bottom"', b'"left"'), "key 'left' stands there twice"),
        "a number of 5000 digits": (changed(name, "num_steps", to="X").replace(b'"X"', b"9" * 5000), "digits"),
        "a terminal command in a key": (text.replace(b'"format"', b'"\\u001b[2J\\r\\n": 1, "format"'), r"\x1b[2J"),
        "half a character": (text.replace(b'"toy"', b'"\\ud800"'), NOT_ONE),
        "50,000 mistakes": (changed(name, "energy", "net", "hidden", to=[0] * 40_000), "greater than or equal to 1"),
    }
    changes: dict[str, tuple[tuple[str, ...], Any, str]] = {
        "another format": (("format",), 2, "format 2; this version reads format 1"),
        "a format of 100,000 characters": (("format",), "x" * 100_000, "this version reads format 1"),
        "an unknown field": (("module",), "os", "Extra inputs are not permitted"),
        "a name with slashes": (("name",), "../../escape", "name: String should match pattern"),
        "a name with a terminal command": (("name",), "\x1b]0;owned\x07", "name: String should match pattern"),
        "a name of 100,000 characters": (("name",), "x" * 100_000, "name: String should have at most 200"),
        "an energy named by a path": (("energy", "kind"), "torch.nn.Linear", "Input tag 'torch.nn.Linear' found"),
        "an energy of no kind": (("energy",), mlp, "Unable to extract tag"),
        "an unknown activation": (("energy", "net", "activation"), "os.system", "Input should be 'elu' or 'silu'"),
        "widths in words": (("energy", "net", "hidden"), ["2"], "valid integer"),
        "a width of a truth value": (("energy", "net", "hidden"), [True], "valid integer"),
        "a width of 1e9": (("energy", "net", "hidden"), [10**9, 10**9], "need a larger network"),
        "a width of 1e30": (("energy", "net", "hidden"), [10**30], "need a larger network"),
        "a negative width": (("energy", "net", "hidden"), [-1], "greater than or equal to 1"),
        "40,000 layers": (("energy", "net", "hidden"), [1] * 40_000, "need a larger network"),
        "a scale of an unknown block": (("energy", "scale"), {"z": 2.0}, "'z'"),
        "a scale in words": (("energy", "scale"), {"left": "2"}, "valid number"),
        "an encoder of 1e9 pixels": (("energy", "encoder"), {"side": 8 * 10**9}, "need a larger network"),
        "an encoder that does not halve": (("energy", "encoder"), {"side": 9}, "does not halve"),
        "an encoder without channels": (("energy", "encoder"), {"side": 8, "channels": []}, "at least 1 item"),
        "features without end": (
            ("energy",),
            {"kind": "bilinear", "g": mlp, "h": mlp, "num_features": 10**12},
            "need a larger network",
        ),
        "an infinite step": (("kernel", "step_size"), math.inf, "Infinity is not JSON"),
        "a step of NaN": (("kernel", "step_size"), math.nan, "NaN is not JSON"),
        "a negative step": (("kernel", "step_size"), -1.0, "greater than 0"),
        "1e9 moves": (("kernel", "discrete_moves"), 10**9, "less than or equal to 1000"),
        "1e30 chains": (("num_chains",), 10**30, "less than or equal to"),
        "half a step": (("num_steps",), 1.5, "valid integer"),
        "no space": (("space",), None, "Input should be an object"),
        "no blocks": (("space",), {}, "needs at least one block"),
        "1,500 blocks": (("space",), {f"b{i}": block for i in range(1500)}, "does not fit config.json"),
        "a block that is a list": (("space",), {"x": []}, "Input should be an object"),
        "a block named by a path": (("space", "left", "kind"), "subprocess.Popen", "block of kind 'subprocess.Popen'"),
        "a block of an unhashable kind": (("space", "left", "kind"), {"a": 1}, "block of kind"),
        "a block named self": (("space", "self"), block, "'self'"),
        "a block with a terminal command": (("space",), {"\x1b[2J": block}, "String should match pattern"),
        "a transform named by a path": (("space", "point", "transform", "name"), "builtins.eval", "'builtins.eval'"),
        "a transform with arguments": (("space", "point", "transform", "command"), "ls", "'command'"),
        "a transform that is a number": (("space", "point", "transform"), 3, NO_MODEL),
        "a transform of NaN": (("space", "point", "transform"), {"name": "logit", "margin": "nan"}, NO_MODEL),
        "a shape of 1e12": (("space", "point", "shape"), [10**6, 10**6], "block 'point' is larger than all of"),
        "a shape of 1e30": (("space", "left", "shape"), [10**30], "block 'left' is larger than all of"),
        "9,000 sizes of 1e9": (("space", "left", "shape"), [10**9] * 9000, "block 'left' is larger than all of"),
        "40,000 dimensions": (("space", "left", "shape"), [1] * 40_000, "block 'left' is larger than all of"),
        "a shape in words": (("space", "left", "shape"), "12", "whole numbers >= 1"),
        "a shape of nothing": (("space", "left", "shape"), [0], "whole numbers >= 1"),
        "1e9 classes": (
            ("space", "left"),
            {"kind": "categorical", "num_classes": 10**9, "shape": []},
            "block 'left' is larger than all of",
        ),
        "a ragged group of 1e9": (
            ("space", "left"),
            {"kind": "categorical", "num_classes": [10**9, 10**9], "shape": []},
            "block 'left' is larger than all of",
        ),
        "no classes": (("space", "left"), {"kind": "categorical", "shape": []}, "'num_classes'"),
    }
    contents |= {case: (changed(name, *path, to=value), words) for case, (path, value, words) in changes.items()}
    elsewhere = {"1,500 blocks": "model/model.safetensors"}
    return [
        *(Case("config", case, write, EVALUATE, "model", words) for case, (write, words) in places.items()),
        Case(
            "config", "3 GB long", as_long_as(name, SEVERAL_GIGABYTES, b"{"), EVALUATE, name, "longer than 131072 bytes"
        ),
        *(
            Case("config", case, holding(name, content), EVALUATE, elsewhere.get(case, name), words)
            for case, (content, words) in contents.items()
        ),
    ]


# model/model.safetensors


class Tensors(NamedTuple):
    """The two parts of a safetensors file."""

    header: dict[str, Any]
    body: bytes

    @staticmethod
    def of(name: str) -> "Tensors":
        content = good()[f"{name}/model.safetensors"]
        length = int.from_bytes(content[:8], "little")
        return Tensors(json.loads(content[8 : 8 + length]), content[8 + length :])

    def write(self) -> bytes:
        return packed(encoded(self.header), self.body)

    def with_header(self, name: str, **fields: Any) -> bytes:
        return Tensors(self.header | {name: {**self.header[name], **fields}}, self.body).write()

    def with_values(self, name: str, values: list[float]) -> bytes:
        start = self.header[name]["data_offsets"][0]
        new = np.array(values, "<f4").tobytes()
        return Tensors(self.header, self.body[:start] + new + self.body[start + len(new) :]).write()


def packed(header: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


def weights_cases() -> list[Case]:
    name = "model/model.safetensors"
    content, tensors, images = good()[name], Tensors.of("model"), Tensors.of("images")
    weight, shape = "energy.net.0.weight", tensors.header["energy.net.0.weight"]["shape"]
    offsets = tensors.header[weight]["data_offsets"]
    end = len(tensors.body)
    extra = {"extra": {"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}}
    whole = {key: {**fields, "dtype": "I32"} for key, fields in tensors.header.items()}
    mixed = {"extra": {"dtype": "F64", "shape": [1], "data_offsets": [end, end + 8]}}
    not_one, misfit = "not a safetensors file", "does not fit config.json"
    contents: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "shorter than 8 bytes"),
        "seven bytes": (content[:7], "shorter than 8 bytes"),
        "text": (b"<html>not found</html>", not_one),
        "a pickle": (pickle.dumps(print), not_one),
        "a zip archive": (npz(weight=npy(np.zeros(2))), not_one),
        "cut off in the header": (content[:100], not_one),
        "cut off in the numbers": (content[:-4], not_one),
        "goes on": (content + b"\0", not_one),
        "a header of 2**63 bytes": (packed(b"{}", length=2**63), "9223372036854775808 bytes"),
        "a header of 2**64 - 1 bytes": (packed(b"{}", length=2**64 - 1), "18446744073709551615 bytes"),
        "a header longer than the file": (packed(b"{}", length=1000), not_one),
        "a header of 10 MB": (packed(b"{" + b" " * (10 << 20) + b"}"), "10485762 bytes"),
        "a header of many tensors": (many_tensors(200_000), not_one),
        "a header of zero bytes": (packed(b""), not_one),
        "a header that is no JSON": (packed(b"{'a': 1}"), not_one),
        "a header that is a list": (packed(b"[]"), not_one),
        "a header not in UTF-8": (packed(b'{"\xff": 1}'), not_one),
        "a header 100,000 lists deep": (packed(b'{"a":' + b"[" * 100_000), not_one),
        "a tensor that is null": (packed(b'{"a": null}'), not_one),
        "an unknown type": (tensors.with_header(weight, dtype="X9"), not_one),
        "whole numbers": (tensors.with_header(weight, dtype="I32"), "holds I32, expected one of F64"),
        "eight-bit floats": (eight_bit(), "holds F8_E4M3, expected one of F64"),
        "two types": (Tensors(tensors.header | mixed, tensors.body + bytes(8)).write(), "different types, F32, F64"),
        "whole numbers throughout": (Tensors(whole, tensors.body).write(), "holds I32, expected one of F64"),
        "overlapping tensors": (tensors.with_header(weight, data_offsets=[0, offsets[1] - offsets[0]]), not_one),
        "offsets the wrong way round": (tensors.with_header(weight, data_offsets=offsets[::-1]), not_one),
        "negative offsets": (tensors.with_header(weight, data_offsets=[-8, 0]), not_one),
        "offsets beyond the end": (tensors.with_header(weight, data_offsets=[2**40, 2**40 + 40]), not_one),
        "offsets that overflow": (tensors.with_header(weight, data_offsets=[2**64 - 8, 2**64]), not_one),
        "a shape larger than its numbers": (tensors.with_header(weight, shape=[10**6, 10**6]), not_one),
        "a shape that overflows": (tensors.with_header(weight, shape=[2**62, 2**62]), not_one),
        "a negative shape": (tensors.with_header(weight, shape=[-2, -5]), not_one),
        "a transposed tensor": (tensors.with_header(weight, shape=shape[::-1]), f"{weight!r} {misfit}"),
        "a flat tensor": (tensors.with_header(weight, shape=[math.prod(shape)]), f"{weight!r} {misfit}"),
        "one tensor too many": (Tensors(tensors.header | extra, tensors.body + bytes(4)).write(), f"'extra' {misfit}"),
        "tensors of another model": (good()["images/model.safetensors"], misfit),
        "a tensor with a terminal command": (renamed(tensors, weight, "\x1b[2J"), r"\x1b[2J"),
        "a tensor under another name": (renamed(tensors, weight, "energy.net.0.kernel"), misfit),
        "a weight of NaN": (tensors.with_values(weight, [math.nan]), "holds NaN or infinity"),
        "a weight of infinity": (tensors.with_values(weight, [-math.inf]), "holds NaN or infinity"),
        "noise of NaN": (tensors.with_values("noise_point", [math.nan]), "'noise_point' holds NaN"),
        "bounds the wrong way round": (tensors.with_values("noise_point", [2.0]), "'noise_point' holds no bounds"),
        "a negative probability": (tensors.with_values("noise_left", [-0.5]), "'noise_left' holds no probabilities"),
        "a probability of two": (tensors.with_values("noise_left", [2.0]), "'noise_left' holds no probabilities"),
    }
    digits = "images/model.safetensors"
    no_sum = images.with_values("noise_digit", [0.9] * 2)
    zeros = images.with_values("noise_digit", [0.0] * 10)
    sparse = packed(
        encoded({"a": {"dtype": "F32", "shape": [SEVERAL_GIGABYTES // 4], "data_offsets": [0, SEVERAL_GIGABYTES]}})
    )
    return [
        Case("weights", "absent", absent(name), EVALUATE, name, "no such file"),
        Case("weights", "a folder", a_folder(name), EVALUATE, name, "no such file"),
        Case("weights", "a symlink to itself", a_loop(name), EVALUATE, name, "no such file"),
        Case("weights", "a pipe", a_pipe(name), EVALUATE, name, "no such file"),
        Case(
            "weights",
            "no tensors",
            holding(name, packed(b"{}")),
            EVALUATE,
            "model/config.json",
            "than all of model.safet",
        ),
        Case("weights", "a layer larger than the file", wide_beside_a_large_tensor, EVALUATE, name, misfit),
        Case("weights", "3 GB of nothing", as_long_as(name, SEVERAL_GIGABYTES), EVALUATE, name, not_one),
        Case(
            "weights",
            "a tensor of 3 GB",
            as_long_as(name, len(sparse) + SEVERAL_GIGABYTES, sparse),
            EVALUATE,
            name,
            misfit,
        ),
        *(
            Case("weights", case, holding(name, content), EVALUATE, name, words)
            for case, (content, words) in contents.items()
        ),
        Case(
            "weights", "probabilities that sum to two", holding(digits, no_sum), EVALUATE_IMAGES, digits, "sum to one"
        ),
        Case("weights", "probabilities of zero", holding(digits, zeros), EVALUATE_IMAGES, digits, "sum to one"),
    ]


def wide_beside_a_large_tensor(folder: Path) -> None:
    """No width is larger than what the file holds, but the layer between two of them is."""
    name = "model/config.json"
    (folder / name).write_bytes(changed(name, "energy", "net", "hidden", to=[20_000, 20_000]))
    tensors = Tensors.of("model")
    end = len(tensors.body)
    large = {"a": {"dtype": "F32", "shape": [400_000], "data_offsets": [end, end + 1_600_000]}}
    content = Tensors(tensors.header | large, tensors.body + bytes(1_600_000)).write()
    (folder / "model/model.safetensors").write_bytes(content)


def eight_bit() -> bytes:
    return packed(encoded({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}), bytes(4))


def many_tensors(num: int) -> bytes:
    return packed(encoded({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(num)}))


def renamed(tensors: Tensors, name: str, new: str) -> bytes:
    return Tensors(
        {new if key == name else key: fields for key, fields in tensors.header.items()}, tensors.body
    ).write()


# IDX, plain and gzip


def idx(shape: tuple[int, ...], content: bytes, *, kind: int = 8, num: int | None = None) -> bytes:
    return bytes([0, 0, kind, len(shape) if num is None else num]) + struct.pack(f">{len(shape)}I", *shape) + content


def zeros_in_gzip(num: int, start: bytes = b"") -> bytes:
    """A gzip stream of so many zeros, made without holding them."""
    stream = zlib.compressobj(9, wbits=31)
    parts = [stream.compress(start)]
    for at in range(0, num, 1 << 20):
        parts.append(stream.compress(bytes(min(1 << 20, num - at))))
    return b"".join([*parts, stream.flush()])


@cache
def bomb() -> bytes:
    """A few good images, and then 300 MB in 300 KB."""
    return zeros_in_gzip(300 << 20, idx((2, 28, 28), b""))


def idx_cases() -> list[Case]:
    plain = good()[IMAGES]
    whole = gzip.compress(plain, mtime=0)
    contents: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "starts with nothing"),
        "three bytes": (plain[:3], "starts with 00 00 08"),
        "text": (b"<html>not found</html>", "not an IDX file"),
        "another start": (b"\1" + plain[1:], "not an IDX file"),
        "no dimensions": (idx((), b"a"), "not an IDX file"),
        "255 dimensions": (idx((1,) * 255, b"a"), "not an IDX file"),
        "floats": (idx((2,), bytes(8), kind=0x0D), "type 0x0d"),
        "an unknown type": (idx((2,), bytes(8), kind=0xFF), "type 0xff"),
        "cut off in the header": (plain[:10], "cut off in the header"),
        "cut off in the images": (plain[:-1], "cut off: declares (2, 28, 28)"),
        "goes on": (plain + b"\0", "goes on after the 1568 bytes"),
        "2**32 - 1 by 2**32 - 1": (idx((2**32 - 1,) * 2, b"a"), "more than the file can hold"),
        "2**128 bytes": (idx((2**32 - 1,) * 4, b"a"), "more than the file can hold"),
        "no images": (idx((0, 28, 28), b""), "expected 1 to"),
        "nothing times everything": (idx((0, 2**32 - 1, 2**32 - 1, 2**32 - 1), b""), "expected 1 to"),
        "other images": (plain, "not the original mnist file"),
        "gzip: only its first bytes": (b"\x1f\x8b", "broken gzip stream"),
        "gzip: cut off in its header": (whole[:9], "broken gzip stream"),
        "gzip: cut off": (whole[: len(whole) // 2], "broken gzip stream"),
        "gzip: cut off in the checksum": (whole[:-3], "broken gzip stream"),
        "gzip: another checksum": (whole[:-8] + bytes(4) + whole[-4:], "broken gzip stream"),
        "gzip: another length": (whole[:-4] + bytes(4), "broken gzip stream"),
        "gzip: an unknown method": (whole[:2] + b"\7" + whole[3:], "broken gzip stream"),
        "gzip: a damaged block": (whole[:10] + b"\xff" + whole[11:], "broken gzip stream"),
        "gzip: bytes after the end": (whole + b"garbage", "7 bytes follow it"),
        "gzip: a million empty streams": (whole + gzip.compress(b"", mtime=0) * 1_000_000, "bytes follow it"),
        "gzip: a name without end": (whole[:3] + b"\x08" + whole[4:10] + b"a" * (8 << 20), "broken gzip stream"),
        "gzip: of nothing": (gzip.compress(b""), "starts with nothing"),
        "gzip: of gzip": (gzip.compress(whole), "not an IDX file"),
        "gzip: declares too much for its size": (
            gzip.compress(idx((60_000, 1000, 1000), b"a")),
            "more than the file can",
        ),
        "gzip: declares what it does not hold": (
            gzip.compress(idx((60, 28, 28), np.random.default_rng(0).bytes(999))),
            "cut off: declares",
        ),
        "gzip: a bomb that goes on": (bomb(), "goes on after the 1568 bytes"),
        "gzip: a bomb that is all declared": (
            zeros_in_gzip(300 << 20, idx((300, 1024, 1024), b"")),
            "expected 1 to 50331648",
        ),
    }
    return [
        Case("idx", "a folder", a_folder(IMAGES), EVALUATE_IMAGES, IMAGES, "no such file"),
        Case("idx", "a symlink to itself", a_loop(IMAGES), EVALUATE_IMAGES, IMAGES, "no such file"),
        Case("idx", "3 GB of nothing", as_long_as(IMAGES, SEVERAL_GIGABYTES), EVALUATE_IMAGES, IMAGES, "longer than"),
        Case(
            "idx",
            "3 GB, all declared",
            as_long_as(IMAGES, SEVERAL_GIGABYTES + 16, idx((3, 2**15, 2**15), b"")),
            EVALUATE_IMAGES,
            IMAGES,
            "longer than",
        ),
        *(
            Case("idx", case, holding(IMAGES, content), EVALUATE_IMAGES, IMAGES, words)
            for case, (content, words) in contents.items()
        ),
    ]


# Files of values


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def forged(header: str | bytes, body: bytes = b"", *, version: int = 1, length: int | None = None) -> bytes:
    """An npy file with any header."""
    text = header.encode() if isinstance(header, str) else header
    width = 2 if version == 1 else 4
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(width, "little") + text + body


def described(descr: str, shape: str, body: bytes = b"", fortran: str = "False") -> bytes:
    return forged(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}", body)


def npz(*, method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    return archive({f"{name}.npy": content for name, content in members.items()}, method=method)


def archive(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, content in members.items():
            written.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def patched(content: bytes, signature: bytes, offset: int, new: bytes) -> bytes:
    """Overwrites a field of every record of a zip archive that starts with a signature."""
    patched, at = bytearray(content), content.find(signature)
    while at >= 0:
        patched[at + offset : at + offset + len(new)] = new
        at = content.find(signature, at + 1)
    return bytes(patched)


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


@cache
def array_bomb() -> bytes:
    """Rows of zeros that are all declared: 256 MB in 256 KB."""
    num = 256 << 20
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written, written.open("point.npy", "w") as member:
        member.write(described("'<f4'", f"({num // 8}, 2)"))
        for _ in range(num >> 20):
            member.write(bytes(1 << 20))
    return file.getvalue()


class _Exploding:
    def __reduce__(self) -> Any:
        return (os._exit, (77,))


def two_of_a_name() -> bytes:
    twins = archive({"point.npy": npy(np.zeros((3, 2))), "poinu.npy": npy(np.zeros((3, 2)))}, method=zipfile.ZIP_STORED)
    return twins.replace(b"poinu.npy", b"point.npy")


def values_cases() -> list[Case]:
    rows = np.zeros((3, 2), np.float32)
    good_npy, good_npz = npy(rows), npz(point=npy(rows))
    objects = np.empty((1, 2), object)
    objects[:] = _Exploding()
    pickled = io.BytesIO()
    np.save(pickled, objects, allow_pickle=True)
    one_bit = bytearray(npz(point=npy(np.arange(6, dtype=np.float32).reshape(3, 2))))
    one_bit[one_bit.index(np.float32(5).tobytes()) + 3] ^= 1
    plain, header = "not a plain array of numbers", "has a header of"
    arrays: dict[str, tuple[bytes, str]] = {
        "objects": (pickled.getvalue(), "allow_pickle=False"),
        "objects under another name": (described("'|O8'", "(1, 2)", pickle.dumps(_Exploding())), "allow_pickle=False"),
        "words": (npy(np.array([["a", "b"]])), "cannot be read as numbers"),
        "dates": (npy(np.zeros((3, 2), "M8[s]")), "cannot be read as numbers"),
        "complex numbers": (npy(np.zeros((3, 2), complex)), "cannot be read as numbers"),
        "bytes of another order": (npy(rows.astype(">f4")), "byte order"),
        "numbers of 16 bytes": (npy(rows.astype(np.longdouble)), "cannot be read as numbers"),
        "numbers of 3 bytes": (described("'<f3'", "(1, 2)", bytes(6)), "cannot be read as numbers"),
        "records": (npy(np.zeros(3, [("a", "<f4"), ("b", "<f4")])), plain),
        "a record in a record": (described("[('a', [('b', '<f4')])]", "(1, 2)", bytes(8)), plain),
        "no type": (described("None", "(1, 2)"), plain),
        "a type of 2**40 bytes": (described("'V1099511627776'", "(1, 2)"), "cannot be read as numbers"),
        "an expression": (described("__import__('os').system('exit')", "(1, 2)"), plain),
        "another start": (b"\x92NUMPY" + good_npy[6:], "not an npy file"),
        "another version": (good_npy[:6] + b"\x09" + good_npy[7:], "not an npy file"),
        "a header of 2**32 - 1 bytes": (forged("{}", version=2, length=2**32 - 1), f"{header} 4294967295"),
        "a header of 65535 bytes": (forged("{}" + " " * 65533), f"{header} 65535"),
        "a header cut off": (good_npy[:40], plain),
        "a header of brackets": (forged("(" * 9000), plain),
        "a header of signs": (forged("-" * 9000 + "1"), plain),
        "a header of sums": (forged("1+" * 4500 + "1"), plain),
        "a header of objects in objects": (forged("{" * 150 + "}" * 150), plain),
        "a header that is no text": (forged(b"\xff" * 100), "can't decode byte"),
        "a header without a shape": (forged("{'descr': '<f4', 'fortran_order': False}"), plain),
        "a shape that overflows": (described("'<f4'", f"({2**40}, {2**40})", bytes(24)), "does not fill its"),
        "a shape of 5 GB": (described("'<f4'", "(671088640, 2)", bytes(24)), "does not fill its"),
        "a shape of powers": (described("'<f4'", "(10**9, 2)", bytes(24)), plain),
        "a negative shape": (described("'<f4'", "(-3, -2)", bytes(24)), plain),
        "a shape of 10,000 sizes": (described("'<f4'", "(" + "1," * 4000 + ")", bytes(4)), plain),
        "a shape of 64 sizes": (described("'<f4'", "(" + "1," * 64 + ")", bytes(4)), "point"),
        "a shape of 20 digits": (described("'<f4'", "(99999999999999999999, 2)", bytes(24)), plain),
        "nothing times everything": (described("'<f4'", f"(0, {10**17}, {10**17})"), "not an npz file"),
        "numbers cut off": (good_npy[:-4], "does not fill its"),
        "numbers that go on": (good_npy + bytes(4), "does not fill its"),
        "no member": (b"", "not an npy file"),
        "rows of another shape": (npy(np.zeros((3, 5))), "expected (rows, 2)"),
        "infinite numbers": (npy(np.full((3, 2), np.inf)), "finite"),
    }
    zipped: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "not an npz file"),
        "text": (b"<html>not found</html>", "not an npz file"),
        "an npy file": (good_npy, "not an npz file"),
        "a pickle": (pickle.dumps(_Exploding()), "not an npz file"),
        "no arrays": (archive({}), "holds no named arrays"),
        "cut off": (good_npz[:-30], "not an npz file"),
        "cut off at the start": (good_npz[30:], "not an npz file"),
        "only its end": (good_npz[good_npz.index(END) :], "not an npz file"),
        "a flipped bit": (bytes(one_bit), "Bad CRC-32"),
        "another checksum": (patched(good_npz, CENTRAL, 16, b"abcd"), "Bad CRC-32"),
        "encrypted": (patched(good_npz, CENTRAL, 8, b"\1\0"), "is encrypted"),
        "an unknown method": (patched(good_npz, CENTRAL, 10, b"\x63\0"), "compressed by a method"),
        "compressed by bzip2": (npz(point=good_npy, method=zipfile.ZIP_BZIP2), "compressed by a method"),
        "compressed by lzma": (npz(point=good_npy, method=zipfile.ZIP_LZMA), "compressed by a method"),
        "damaged while deflated": (
            patched(npz(point=npy(np.random.default_rng(0).random((99, 2))), method=8), LOCAL, 60, b"\xff" * 9),
            "not an npz file",
        ),
        "a longer size": (patched(good_npz, CENTRAL, 20, struct.pack("<II", 10**6, 10**6)), "does not fill its"),
        "a size of 4 GB": (patched(good_npz, CENTRAL, 24, b"\xfe\xff\xff\xff"), "more than 100 times its size"),
        "a shorter size": (patched(good_npz, CENTRAL, 20, struct.pack("<II", 100, 100)), "not"),
        "a place beyond the end": (patched(good_npz, CENTRAL, 42, b"\xfe\xff\xff\x7f"), "not an npz file"),
        "a list of 2 GB": (patched(good_npz, END, 12, b"\xff\xff\xff\x7f"), "not an npz file"),
        "a list of 20,000": (archive(dict.fromkeys(map(str, range(20_000)), b"")), "its list of members has"),
        "two arrays of one name": (two_of_a_name(), "two arrays of one name"),
        "a name outside": (archive({"../../point.npy": good_npy}), "'../../point'"),
        "an absolute name": (archive({"/etc/point.npy": good_npy}), "'/etc/point'"),
        "a name with a terminal command": (archive({"\x1b[2J.npy": good_npy}), r"\x1b[2J"),
        "a bomb": (array_bomb(), "more than 100 times its size"),
        "a bomb beside the rows": (
            archive({"point.npy": good_npy, "x.npy": zlib.compress(b"") + bytes(64 << 20)}),
            "more than 100 times its size",
        ),
    }
    zipped |= {f"array: {case}": (npz(point=content), words) for case, (content, words) in arrays.items()}
    given_too = ("array: objects", "array: a shape of 5 GB", "array: infinite numbers", "array: rows of another shape")
    beyond = npz(point=good_npy, left=npy(np.array([0, 1, 7])))
    return [
        Case("values", "absent", absent("rows.npz"), PREDICT, "rows.npz", "no such file"),
        Case("values", "a folder", a_folder("rows.npz"), PREDICT, "rows.npz", "no such file"),
        Case("values", "a pipe", a_pipe("rows.npz"), PREDICT, "rows.npz", "no such file"),
        Case("values", "an endless device", an_endless_device("rows.npz"), PREDICT, "rows.npz", "no such file"),
        Case("values", "3 GB of nothing", as_long_as("rows.npz", SEVERAL_GIGABYTES), PREDICT, "rows.npz", "not an npz"),
        Case(
            "values", "a label out of range", holding("rows.npz", beyond), PREDICT, "rows.npz", "got label 7 in row 2"
        ),
        *(
            Case("values", case, holding("rows.npz", content), PREDICT, "rows.npz", words)
            for case, (content, words) in zipped.items()
        ),
        *(
            Case("given", case, holding("rows.npz", content), SAMPLE, "rows.npz", words if "shape" not in case else "")
            for case, (content, words) in zipped.items()
            if case in given_too or not case.startswith("array: ")
        ),
    ]


# Run folders


def checkpoint(content: bytes) -> Callable[[Path], object]:
    """A checkpoint whose manifest is what its checksum says, and still wrong."""

    def write(folder: Path) -> None:
        place = folder / "run/checkpoints/000000001"
        place.mkdir(parents=True)
        (place / "manifest.json").write_bytes(content)
        (place / "manifest.sha256").write_text(hashlib.sha256(content).hexdigest() + "\n")
        (place / "state.safetensors").write_bytes(packed(b"{}"))

    return write


def a_model_of(config: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / "run/model").mkdir()
        (folder / "run/model/config.json").write_text(config)
        (folder / "run/model/model.safetensors").touch()

    return write


def run_cases() -> list[Case]:
    recipe, facts = "run/recipe.json", "run/run.json"
    text = good()[recipe]
    recipes = {
        "empty": b"",
        "cut off": text[:-20],
        "a list": b"[]",
        "not UTF-8": b"\xff\xfe",
        "100,000 lists deep": b"[" * 100_000,
        "an unknown field": changed(recipe, "module", to="os"),
        "an energy named by a path": changed(recipe, "energy", "kind", to="torch.nn.Linear"),
        "a width in words": changed(recipe, "energy", "net", "hidden", to=["2"]),
        "a rate of NaN": changed(recipe, "train", "learning_rate", to=math.nan),
        "a number of 5000 digits": changed(recipe, "num_test_steps", to="X").replace(b'"X"', b"9" * 5000),
    }
    seeds = {
        "empty": b"",
        "cut off": b'{"seed": ',
        "a list": b"[]",
        "no seed": b"{}",
        "a seed of null": b'{"seed": null}',
        "a seed in words": b'{"seed": "one"}',
        "not UTF-8": b"\xff\xfe",
        "100,000 lists deep": b"[" * 100_000,
        "an infinite seed": b'{"seed": Infinity}',
        "a seed of 1e30": b'{"seed": %d}' % 10**30,
    }
    manifests = {"a list": b"[]", "an empty object": b"{}", "deep": b"[" * 100_000, "no format": b'{"files": {}}'}
    return [
        Case("run", "recipe absent", absent(recipe), RESUME, recipe, "no such file"),
        Case("run", "recipe: a folder", a_folder(recipe), RESUME, recipe, "no such file"),
        Case("run", "facts absent", absent(facts), RESUME, facts, "no such file"),
        *(
            Case("run", f"recipe: {case}", holding(recipe, content), RESUME, recipe, "not a recipe of this version")
            for case, content in recipes.items()
        ),
        *(
            Case("run", f"facts: {case}", holding(facts, content), RESUME, facts, "seed")
            for case, content in seeds.items()
        ),
        *(
            Case("run", f"checkpoint: {case}", checkpoint(content), RESUME, "manifest.json", "")
            for case, content in manifests.items()
        ),
        Case("run", "model: not JSON", a_model_of("{"), "evaluate run", "run/model/config.json", NOT_ONE),
    ]


@cache
def cases() -> tuple[Case, ...]:
    return (*config_cases(), *weights_cases(), *idx_cases(), *values_cases(), *run_cases())


# Running them


class Outcome(NamedTuple):
    """What came of a case.

    Args:
        code: exit code; negative if a signal ended it.
        out: what it printed.
        err: what it said.
        seconds: time it took.
        megabytes: most memory it had, above that of the process before.
    """

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float


def run_forked(folder: Path, words: list[str]) -> Outcome:
    """Runs a command in a copy of this process, so that its memory can be told apart and its crash does no harm."""
    report, answer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(report)
        try:
            outcome = _run_limited(folder, words)
            with os.fdopen(answer, "w") as file:
                json.dump(outcome, file)
        finally:
            os._exit(0)
    os.close(answer)
    with os.fdopen(report) as file:
        text = file.read()
    _, status = os.waitpid(process, 0)
    return (
        Outcome(*json.loads(text)) if text else Outcome(-(status & 0x7F), "", "ended by a signal", math.inf, math.inf)
    )


def _run_limited(folder: Path, words: list[str]) -> Outcome:
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    room = (kilobytes("VmSize") << 10) + (8 << 30)  # a file of 3 GB may be mapped twice
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    before, started = kilobytes("VmRSS"), time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is no exit code 2
            code = 70
            err.write(f"{type(error).__name__}: {str(error)[:1000]}\n")
    seconds = time.perf_counter() - started
    return Outcome(code, out.getvalue(), err.getvalue(), seconds, (kilobytes("VmHWM") - before) / 1000)


def kilobytes(field: str) -> int:
    """A field of this process's memory; a fork starts with a peak of its own."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])


def folder_of(root: Path, case: Case) -> Path:
    return root / case.reader / "".join(letter if letter.isalnum() else "-" for letter in case.name)


def write_all(root: Path) -> None:
    for case in cases():
        folder = folder_of(root, case)
        folder.mkdir(parents=True)
        write_good(folder)
        case.write(folder)


def run_all(root: Path) -> None:
    torch.set_num_threads(1)
    warm = root / "good"
    warm.mkdir()
    write_good(warm)
    os.chdir(warm)
    with contextlib.redirect_stdout(io.StringIO()):  # imports what is imported late
        codes = [main(words.split()) for words in (EVALUATE, PREDICT, SAMPLE, RESUME)]
    assert codes == [0, 0, 0, 0], codes
    for case in cases():
        outcome = run_forked(folder_of(root, case), case.command.split())
        print(json.dumps([case.reader, case.name, outcome]), flush=True)  # noqa: T201  # read by test_hostile


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
    if "--run" in sys.argv[2:]:
        run_all(Path(sys.argv[1]).absolute())
