"""Malformed files, one per guard, and what must be said about each; `forked.py` runs them.

A case is a folder with one bad file among good ones, a command that reads it, the file that the message must name, and
words that it must hold.
"""

import gzip
import hashlib
import io
import json
import math
import os
import pickle
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jointebm import Categorical, Continuous, KernelSpec, Model, ModelConfig, Space
from jointebm.data import Toy
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs.provenance import environment
from jointebm.spaces.transforms import Logit

GIGABYTES = 3 << 30
CONFIG, WEIGHTS, DIGITS = "model/config.json", "model/model.safetensors", "images/model.safetensors"
IMAGES, ROWS, RECIPE, FACTS = "mnist/train-images-idx3-ubyte", "rows.npz", "run/recipe.json", "run/run.json"
COMMANDS = {
    "config": "evaluate model --rows 1 --methods exact",
    "weights": "evaluate model --rows 1 --methods exact",
    "images": "evaluate images --rows 1 --methods exact --data .",
    "values": "predict model rows.npz",
    "given": "sample model --steps 1 --given point=@rows.npz",
    "run": "train --resume run",
}
SMALL = ("num_iterations=1", "batch_size=4", "buffer_size=8", "hidden=[2]", "num_steps=1", "num_test_steps=1")


class Case(NamedTuple):
    """One malformed file.

    Args:
        reader: what reads it, a key of `COMMANDS`.
        name: what is wrong with it; with `reader`, unique.
        write: puts it into a folder in which all other files are good; or its content.
        file: the file that the message names.
        words: what else it says.
    """

    reader: str
    name: str
    write: Callable[[Path], object] | bytes
    file: str
    words: str

    def put(self, folder: Path) -> None:
        write_good(folder)
        if isinstance(self.write, bytes):
            (folder / self.file).write_bytes(self.write)
        else:
            self.write(folder)


# Good files.


@cache
def good() -> dict[str, bytes]:
    """Every file of a folder in which all commands work, by path."""
    spaces = {"toy": Toy().space, "mnist": Space(image=Continuous((28, 28), Logit(1e-6)), digit=Categorical(10))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, (data, space) in zip(("model", "images"), spaces.items(), strict=True):
            energy, kernel = ConcatSpec(net=MLPSpec(hidden=(2,))), KernelSpec(step_size=0.1)
            config = ModelConfig(name=data, data=data, space=space.config, energy=energy, kernel=kernel, num_steps=1)
            Model(config).save(folder / path)
        content = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
    return content | {
        ROWS: npz(point=npy(np.zeros((3, 2), np.float32))),
        IMAGES: idx((2, 28, 28), bytes(2 * 784)),
        RECIPE: override(find("toy"), [*SMALL, "num_test_chains=1"]).model_dump_json().encode(),
        FACTS: encoded({"recipe": "toy", "seed": 0, **environment()}),
    }


def write_good(folder: Path) -> None:
    for name, content in good().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


# Bad ones.


def an_endless_device(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to("/dev/zero"))


def as_long_as(name: str, size: int, start: bytes = b"") -> Callable[[Path], object]:
    """A sparse file, which takes no room on the disk."""
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


Bad = dict[str, tuple[bytes, str]]


def config_cases() -> list[Case]:
    text, no_room = good()[CONFIG], "do not fit model.safetensors"
    classes = {"kind": "categorical", "num_classes": 10**9, "shape": []}
    bad: Bad = {
        "cut off": (text[:-20], "not a model configuration"),
        "100,000 lists deep": (b"[" * 100_000, "recursion limit"),
        "a terminal command in a key": (text.replace(b'"format"', b'"\\u001b[2J\\r\\n": 1, "format"'), r"\x1b[2J"),
    }
    changes: dict[str, tuple[str, Any, str]] = {
        "another format": ("format", 2, "format: Input should be 1"),
        "an unknown field": ("module", "os", "Extra inputs are not permitted"),
        "an energy named by a path": ("energy kind", "torch.nn.Linear", "Input tag 'torch.nn.Linear' found"),
        "a width of 1e30": ("energy net hidden", [10**30], no_room),
        "40,000 layers": ("energy net hidden", [1] * 40_000, no_room),
        "a block named by a path": ("space left kind", "subprocess.Popen", "block of kind 'subprocess.Popen'"),
        "a block with a terminal command": ("space", {"\x1b[2J": {}}, "String should match pattern"),
        "a transform named by a path": ("space point transform name", "builtins.eval", "'builtins.eval'"),
        "a transform of NaN": ("space point transform", {"name": "logit", "margin": math.nan}, "margin"),
        "a shape of 1e30": ("space left shape", [10**30], "block 'left' is larger than all of"),
        "40,000 dimensions": ("space left shape", [1] * 40_000, "block 'left' is larger than all of"),
        "1e9 classes": ("space left", classes, "block 'left' is larger than all of"),
    }
    bad |= {case: (changed(CONFIG, *path.split(), to=value), words) for case, (path, value, words) in changes.items()}
    return [
        Case("config", "an endless device", an_endless_device(CONFIG), "model", "holds neither config.json"),
        Case("config", "3 GB long", as_long_as(CONFIG, GIGABYTES, b"{"), CONFIG, "longer than 131072 bytes"),
        *(Case("config", case, content, CONFIG, words) for case, (content, words) in bad.items()),
    ]


class Tensors(NamedTuple):
    """The two parts of a safetensors file."""

    header: dict[str, Any]
    body: bytes

    @staticmethod
    def of(content: bytes) -> "Tensors":
        length = int.from_bytes(content[:8], "little")
        return Tensors(json.loads(content[8 : 8 + length]), content[8 + length :])

    def with_header(self, name: str, **fields: Any) -> bytes:
        return packed(encoded(self.header | {name: {**self.header[name], **fields}}), self.body)

    def with_values(self, name: str, *values: float) -> bytes:
        start, new = self.header[name]["data_offsets"][0], np.array(values, "<f4").tobytes()
        return packed(encoded(self.header), self.body[:start] + new + self.body[start + len(new) :])

    def and_zeros(self, name: str, dtype: str, num: int, size: int = 4) -> bytes:
        end = len(self.body)
        more = {name: {"dtype": dtype, "shape": [num], "data_offsets": [end, end + num * size]}}
        return packed(encoded(self.header | more), self.body + bytes(num * size))


def packed(header: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


def weights_cases() -> list[Case]:
    tensors, images = Tensors.of(good()[WEIGHTS]), Tensors.of(good()[DIGITS])
    weight, shape = "energy.net.0.weight", tensors.header["energy.net.0.weight"]["shape"]
    not_one, misfit = "not a safetensors file", "does not fit config.json"
    bad: Bad = {
        "seven bytes": (good()[WEIGHTS][:7], "shorter than 8 bytes"),
        "a pickle": (pickle.dumps(print), not_one),
        "a header of 2**63 bytes": (packed(b"{}", length=2**63), "9223372036854775808 bytes"),
        "a header of 10 MB": (packed(b"{" + b" " * (10 << 20) + b"}"), "10485762 bytes"),
        "whole numbers": (tensors.with_header(weight, dtype="I32"), "holds I32, expected one of F64"),
        "two types": (tensors.and_zeros("extra", "F64", 1, 8), "different types, F32, F64"),
        "a transposed tensor": (tensors.with_header(weight, shape=shape[::-1]), f"{weight!r} {misfit}"),
        "one tensor too many": (tensors.and_zeros("extra", "F32", 1), f"'extra' {misfit}"),
        "a tensor with a terminal command": (tensors.and_zeros("\x1b[2J", "F32", 1), r"\x1b[2J"),
        "a weight of NaN": (tensors.with_values(weight, math.nan), "holds NaN or infinity"),
        "bounds the wrong way round": (tensors.with_values("noise_point", 2.0), "'noise_point' does not hold bounds"),
        "a probability of two": (tensors.with_values("noise_left", 2.0), "'noise_left' does not hold probabilities"),
    }
    no_sum = images.with_values("noise_digit", 0.9, 0.9)
    sparse = packed(encoded({"a": {"dtype": "F32", "shape": [GIGABYTES // 4], "data_offsets": [0, GIGABYTES]}}))
    return [
        Case("weights", "an endless device", an_endless_device(WEIGHTS), WEIGHTS, "no such file"),
        Case("weights", "a layer larger than the file", wide_next_to_a_large_tensor, WEIGHTS, misfit),
        Case("weights", "3 GB", as_long_as(WEIGHTS, len(sparse) + GIGABYTES, sparse), WEIGHTS, misfit),
        Case("images", "probabilities that sum to two", no_sum, DIGITS, "sum to one"),
        *(Case("weights", case, content, WEIGHTS, words) for case, (content, words) in bad.items()),
    ]


def wide_next_to_a_large_tensor(folder: Path) -> None:
    """No width is larger than what the file holds, but the layer between two of them is."""
    (folder / CONFIG).write_bytes(changed(CONFIG, "energy", "net", "hidden", to=[20_000, 20_000]))
    (folder / WEIGHTS).write_bytes(Tensors.of(good()[WEIGHTS]).and_zeros("a", "F32", 400_000))


def idx(shape: tuple[int, ...], content: bytes, *, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def bomb() -> bytes:
    """A few good images, and then 300 MB in 300 KB of gzip."""
    stream = zlib.compressobj(9, wbits=31)
    parts = [stream.compress(idx((2, 28, 28), b"")), *(stream.compress(bytes(1 << 20)) for _ in range(300))]
    return b"".join([*parts, stream.flush()])


def idx_cases() -> list[Case]:
    plain = good()[IMAGES]
    whole = gzip.compress(plain, mtime=0)
    bad: Bad = {
        "floats": (idx((2,), bytes(8), kind=0x0D), "type 0x0d"),
        "cut off in the header": (plain[:10], "cut off in the header"),
        "2**128 bytes": (idx((2**32 - 1,) * 4, b"a"), "bytes, holds 1"),
        "no images": (idx((0, 28, 28), b""), "declares (0, 28, 28) = 0 bytes"),
        "other images": (plain, "not the original mnist file"),
        "gzip, cut off": (whole[:-4], "broken gzip stream: Compressed file ended"),
        "gzip, another checksum": (whole[:-8] + bytes(4) + whole[-4:], "broken gzip stream"),
        "gzip, bytes after the end": (whole + b"garbage", "broken gzip stream"),
        "gzip, a bomb": (bomb(), "longer than"),
    }
    long = Case("images", "3 GB of nothing", as_long_as(IMAGES, GIGABYTES), IMAGES, "longer than")
    return [long, *(Case("images", case, content, IMAGES, words) for case, (content, words) in bad.items())]


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def headed(text: str) -> bytes:
    """An npy file with any header."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(24)


def described(descr: str, shape: str) -> bytes:
    return headed(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")


def npz(*, method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, content in members.items():
            written.writestr(zipfile.ZipInfo(f"{name}.npy"), content, method)
    return file.getvalue()


def patched(content: bytes, offset: int, new: bytes) -> bytes:
    """A zip archive with a field of the first record of its list of members overwritten."""
    at = content.index(b"PK\1\2") + offset
    return content[:at] + new + content[at + len(new) :]


class _Exploding:
    def __reduce__(self) -> Any:
        return (os._exit, (77,))


def values_cases() -> list[Case]:
    good_npy, good_npz, not_one = npy(np.zeros((3, 2), np.float32)), good()[ROWS], "not an npz file"
    objects = np.empty((1, 2), object)
    objects[:] = _Exploding()
    arrays: Bad = {
        "objects": (npy(objects), "allow_pickle=False"),
        "words": (npy(np.array([["a", "b"]])), "cannot be read as numbers"),
        "an expression": (described("__import__('os').system('exit')", "(1, 2)"), not_one),
        "a header of signs": (headed("-" * 9000 + "1"), not_one),
        "a type of nothing": (described("()", "(1, 2)"), not_one),
        "a shape that overflows": (described("'<f4'", f"({2**40}, {2**40})"), "does not fill its"),
        "a negative shape": (described("'<f4'", "(-3, -2)"), "does not fill its"),
        "rows of another shape": (npy(np.zeros((3, 5))), "expected (rows, 2)"),
        "infinite numbers": (npy(np.full((3, 2), np.inf)), "finite"),
    }
    too_much = npz(point=good_npy, x=bytes(64 << 20), method=zipfile.ZIP_DEFLATED)
    bad: Bad = {
        "no arrays": (npz(), "holds no named arrays"),
        "another checksum": (patched(good_npz, 16, b"abcd"), "Bad CRC-32"),
        "encrypted": (patched(good_npz, 8, b"\1\0"), "encrypted"),
        "compressed by bzip2": (npz(point=good_npy, method=zipfile.ZIP_BZIP2), "by a method that numpy does not write"),
        "a size of 4 GB": (patched(good_npz, 24, b"\xfe\xff\xff\xff"), "more than 100 times its size"),
        "a list of 30,000": (npz(**dict.fromkeys(map(str, range(30_000)), b"")), "its list of members has"),
        "a name with a terminal command": (npz(**{"\x1b[2J": good_npy}), r"\x1b[2J"),
        "a bomb": (too_much, "more than 100 times its size"),
        "a label out of range": (npz(point=good_npy, left=npy(np.array([0, 1, 7]))), "got label 7 in row 2"),
        **{f"array: {case}": (npz(point=content), words) for case, (content, words) in arrays.items()},
    }
    return [
        Case("values", "an endless device", an_endless_device(ROWS), ROWS, "no such file"),
        Case("values", "3 GB of nothing", as_long_as(ROWS, GIGABYTES), ROWS, not_one),
        Case("given", "objects", npz(point=npy(objects)), ROWS, "allow_pickle=False"),
        *(Case("values", case, content, ROWS, words) for case, (content, words) in bad.items()),
    ]


def run_cases() -> list[Case]:
    no_recipe = "not a recipe of this version"
    return [
        Case("run", "recipe absent", lambda folder: (folder / RECIPE).unlink(), RECIPE, "no such file"),
        Case("run", "recipe cut off", good()[RECIPE][:-20], RECIPE, no_recipe),
        Case("run", "recipe with an unknown field", changed(RECIPE, "module", to="os"), RECIPE, no_recipe),
        Case("run", "a seed of 1e30", b'{"seed": %d}' % 10**30, FACTS, "seed"),
        Case("run", "a manifest of nothing", empty_checkpoint, "manifest.json", "Field required"),
    ]


def empty_checkpoint(folder: Path) -> None:
    """A checkpoint whose manifest has its checksum, and holds nothing."""
    place = folder / "run/checkpoints/000000001"
    place.mkdir(parents=True)
    (place / "manifest.json").write_bytes(b"{}")
    (place / "manifest.sha256").write_text(hashlib.sha256(b"{}").hexdigest() + "\n")
    (place / "state.safetensors").write_bytes(packed(b"{}"))


@cache
def cases() -> tuple[Case, ...]:
    return (*config_cases(), *weights_cases(), *idx_cases(), *values_cases(), *run_cases())
