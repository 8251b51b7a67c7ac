"""Files that attack whoever opens them with torch.load or pickle, and damaged ones; `canary` is what an attack would make."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

MAGIC = 0x1950A86A20F9469CFC6C
Make = Callable[[Path, Path], None]
"""Writes a file: (path, canary)."""


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def named(name: str) -> bytes:
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def called(name: str, *arguments: bytes) -> bytes:
    """The instructions of a call."""
    return named(name) + b"(" + b"".join(arguments) + b"tR"


def plain(*instructions: bytes, protocol: int = 2) -> bytes:
    return bytes([0x80, protocol]) + b"".join(instructions) + b"."


def zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED, **storages: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("best/data.pkl", pickled)
        archive.writestr("best/byteorder", "little")
        for name, content in storages.items():
            archive.writestr(f"best/data/{name.removeprefix('s')}", content)
        archive.writestr("best/version", "3\n")
    return stream.getvalue()


def legacy(pickled: bytes, keys: bytes | None = None) -> bytes:
    dumped = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
    return b"".join([*dumped, pickled, keys or pickle.dumps([], 2)])


def module(kind: str, *attributes: bytes, modules: bytes = b"}") -> bytes:
    """The instructions for a stand-in of a module with attributes: alternating names and values."""
    return named(kind) + b")\x81}(" + text("_modules") + modules + b"".join(attributes) + b"ub"


def yolo(**attributes: bytes) -> bytes:
    extra = [part for name, value in attributes.items() for part in (text(name), value)]
    return b"}" + text("model") + module("models.yolo.DetectionModel", *extra) + b"s"


def storage(count: int, name: str = "0", kind: str = "torch.FloatStorage") -> bytes:
    number = b"\x8a\x08" + struct.pack("<q", count)
    return b"(" + text("storage") + named(kind) + text(name) + text("cpu") + number + b"tQ"


def tensor(size: tuple[int, ...], stride: tuple[int, ...], count: int, offset: int = 0, name: str = "0") -> bytes:
    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    first = b"\x8a\x08" + struct.pack("<q", offset)
    parts = (storage(count, name), first, numbers(size), numbers(stride), b"\x89", called("collections.OrderedDict"))
    return called("torch._utils._rebuild_tensor_v2", *parts)


def touching(canary: Path) -> dict[str, bytes]:
    """Instructions that make the canary when a pickle with them is loaded, by what they call."""
    command, python = text(f"touch {canary}"), text(f"open({str(canary)!r}, 'w').close()")
    return {
        "posix.system": called("posix.system", command),
        "os.system": called("os.system", command),
        "os.popen": called("os.popen", command),
        "subprocess.call": called("subprocess.call", b"]" + text("touch") + b"a" + text(str(canary)) + b"a"),
        "subprocess.Popen": called("subprocess.Popen", b"]" + text("touch") + b"a" + text(str(canary)) + b"a"),
        "builtins.eval": called("builtins.eval", python),
        "builtins.exec": called("builtins.exec", python),
        "__builtin__.eval": called("__builtin__.eval", python),
        "builtins.open": called("builtins.open", text(str(canary)), text("w")),
        "os.mkdir": called("os.mkdir", text(str(canary))),
        "timeit.timeit": called("timeit.timeit", python, text("pass"), named("time.time"), b"K\x01"),
        "cProfile.run": called("cProfile.run", python),
        "pickle.loads": called("_pickle.loads", called("_codecs.encode", text(plain_text(canary)), text("latin1"))),
        "pathlib.Path.touch": called("builtins.getattr", called("pathlib.Path", text(str(canary))), text("touch"))
        + b")R",
        "functools.partial": called("functools.partial", named("os.system"), command) + b")R",
        "operator.methodcaller": called("operator.methodcaller", text("touch"))
        + b"("
        + called("pathlib.Path", text(str(canary)))
        + b"tR",
        "os.system through map": called(
            "builtins.list", called("builtins.map", named("os.system"), b"]" + command + b"a")
        ),
        "os.system of old style": b"(" + command + b"ios\nsystem\n",
        "os.system as an object": b"(" + named("os.system") + command + b"o",
        "os.system named on the stack": text("os") + text("system") + b"\x93(" + command + b"tR",
        "a method through BUILD": called("types.SimpleNamespace")
        + b"}"
        + text("__setstate__")
        + named("os.system")
        + b"sb"
        + command
        + b"b",
    }


def plain_text(canary: Path) -> str:
    return plain(called("os.system", text(f"touch {canary}"))).decode("latin1")


def harmful_calls() -> dict[str, bytes]:
    """Instructions that would do harm without making the canary."""
    nothing = text("nothing")
    names = (
        *(
            "torch.load",
            "torch.hub.load",
            "torch.jit.load",
            "torch.ops.load_library",
            "numpy.testing._private.utils.runstring",
        ),
        *("importlib.import_module", "runpy.run_path", "ctypes.CDLL", "webbrowser.open", "socket.create_connection"),
        *(
            "shutil.rmtree",
            "os.remove",
            "marshal.loads",
            "code.interact",
            "pdb.run",
            "builtins.__import__",
            "builtins.compile",
        ),
        *("joblib.load", "dill._dill._load_type", "pip.main", "requests.get", "torch.utils.cpp_extension.load"),
        *("multiprocessing.util.spawnv_passfds", "logging.config.listen", "operator.attrgetter", "types.FunctionType"),
    )
    return {name: called(name, nothing) for name in names}
