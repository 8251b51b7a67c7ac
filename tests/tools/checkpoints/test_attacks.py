"""Files that attack whoever opens them: nothing of them runs, and time and memory stay bounded."""

from __future__ import annotations

import copy
import io
import pickle
import re
import resource
import struct
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import StartupError
from tests.tools.checkpoints import forged
from tests.tools.checkpoints.forged import called, legacy, named, plain, storage, tensor, text, yolo, zipped
from tools.checkpoints.archive import opened
from tools.checkpoints.convert import to_onnx
from tools.checkpoints.errors import BadCheckpoint
from tools.checkpoints.identify import Family, identify
from tools.checkpoints.unpickler import Unpickler
from tools.new.__main__ import main

SECONDS, KILOBYTES = 8, 400 << 10

_events: list[str] = []
_watched = False


def _watch(event: str, arguments: Any) -> None:
    if _watched and event in (
        "pickle.find_class",
        "os.system",
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
    ):
        _events.append(event)


sys.addaudithook(_watch)


@pytest.fixture
def watched() -> Iterator[list[str]]:
    """What Python's own unpickler looks up, and commands and code that run, while the test does."""
    global _watched
    _events.clear()
    _watched = True
    yield _events
    _watched = False


def refusal(path: Path) -> str:
    """The message with which a file is refused, in bounded time and memory."""
    begin, most = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StartupError) as caught:
        to_onnx(path, path.with_name("converted.onnx"))
    assert time.process_time() - begin < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < KILOBYTES
    assert not path.with_name("converted.onnx").exists()
    return str(caught.value).removeprefix(f"{path}: ")


CONTAINERS = {
    "pickle": lambda code: plain(code, protocol=2),
    "dictionary": lambda code: plain(b"}" + text("model") + code + b"s", protocol=2),
    "zip": lambda code: zipped(plain(code, protocol=2)),
    "checkpoint": lambda code: zipped(plain(yolo(names=code), protocol=2)),
    "older format": lambda code: legacy(plain(code, protocol=2)),
    "storages of the older format": lambda code: legacy(plain(b"N"), plain(code, protocol=2)),
}
ATTACKS = [(name, "pickle") for name in forged.touching(Path("x"))] + [("posix.system", name) for name in CONTAINERS]


@pytest.mark.parametrize(("attack", "container"), ATTACKS)
def test_no_code_of_a_file_runs(tmp_path: Path, watched: list[str], attack: str, container: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / "best.pt"
    path.write_bytes(CONTAINERS[container](forged.touching(canary)[attack]))
    message = refusal(path)
    assert not canary.exists() and watched == []
    if attack not in ("pathlib.Path.touch", "a method through BUILD"):
        assert "torch.load would call" in message and "don't open it" in message


@pytest.mark.parametrize("attack", forged.touching(Path("x")))
def test_the_attacks_work_elsewhere(tmp_path: Path, attack: str) -> None:
    path, canary = tmp_path / "best.pt", tmp_path / "canary"
    path.write_bytes(plain(forged.touching(canary)[attack], protocol=2))
    code = f"import pickle, time; pickle.load(open({str(path)!r}, 'rb')); time.sleep(0.2)"
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert canary.exists()


@pytest.mark.parametrize("name", forged.harmful_calls())
def test_names_that_no_weights_need_are_named(tmp_path: Path, watched: list[str], name: str) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(zipped(plain(yolo(opt=forged.harmful_calls()[name]))))
    assert f"torch.load would call {name}, which weights never need" in refusal(path)
    assert watched == []


def test_a_forged_model_of_ultralytics_never_reaches_their_package(tmp_path: Path, watched: list[str]) -> None:
    canary, path = tmp_path / "canary", tmp_path / "best.pt"
    for code in (
        called("os.system", text(f"touch {canary}")),
        called("ultralytics.utils.checks.check_requirements", text("x")),
    ):
        model = forged.module("ultralytics.nn.tasks.DetectionModel", text("names"), code)
        path.write_bytes(zipped(plain(b"}" + text("model") + model + b"s")))
        found = identify(path)
        assert found.family is Family.OTHER and not canary.exists() and watched == []
    assert "parts that their package doesn't have: ultralytics.utils.checks.check_requirements" in found.verdict.what


def test_make_new_leaves_nothing_of_an_attack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canary, path, target = tmp_path / "canary", tmp_path / "best.pt", tmp_path / "mine"
    path.write_bytes(zipped(plain(yolo(opt=forged.touching(canary)["os.system"]))))
    assert main([f"WEIGHTS={path}", "NAME=mine", f"OUT={target}"]) == 1
    assert "would call os.system" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [path]


def lookup(attribute: str, then: bytes = b"") -> bytes:
    return zipped(
        plain(yolo(detect=called("__builtin__.getattr", named("models.yolo.Detect"), text(attribute)) + then))
    )


def convolution(weight: bytes, **storages: bytes) -> bytes:
    """A network whose first layer has these weights."""
    parameters = b"}" + text("weight") + weight + b"s"
    conv = forged.module(
        "torch.nn.modules.conv.Conv2d",
        text("_parameters"),
        parameters,
        *(part for name in ("stride", "padding", "dilation", "groups") for part in (text(name), b"K\x01")),
    )
    head = forged.module(
        "models.yolo.Detect",
        text("f"),
        b"J\xff\xff\xff\xff",
        text("nc"),
        b"K\x01",
        text("stride"),
        tensor((1,), (1,), 1, name="stride"),
    )
    layers = forged.module(
        "torch.nn.modules.container.Sequential", modules=b"}" + text("0") + conv + b"s" + text("1") + head + b"s"
    )
    model = forged.module(
        "models.yolo.DetectionModel",
        text("names"),
        b"]" + text("a") + b"a",
        modules=b"}" + text("model") + layers + b"s",
    )
    return zipped(plain(b"}" + text("model") + model + b"s"), sstride=struct.pack("<f", 8), **storages)


def nested(depth: int) -> bytes:
    return b")" + b"\x85" * depth


MANY = b"K\x00" * 100_000
FORGED: dict[str, tuple[bytes, str]] = {
    "getattr of something else": (lookup("__globals__"), "would call __builtin__.getattr"),
    "a call of what getattr gives": (lookup("forward", b")R"), "calls something that it made itself"),
    "the state of a class": (
        plain(named("torch.nn.modules.conv.Conv2d") + b"}" + text("forward") + b"Nsb"),
        "sets the state",
    ),
    "a registered extension": (plain(b"\x82\x01"), "an instruction that no checkpoint needs: EXT1"),
    "a buffer outside": (plain(b"\x97", protocol=5), "an instruction that no checkpoint needs: NEXT_BUFFER"),
    "a text as persistent id": (plain(b"Pevil\n"), "refers to something other than a storage"),
    "a codec that unpacks": (plain(called("_codecs.encode", text("x"), text("zlib"))), "bytes in the encoding 'zlib'"),
    "numpy's scalar of an object": (
        plain(called("numpy.core.multiarray.scalar", called("numpy.dtype", text("O8")), text("x"))),
        "a pickle without a network's weights .*numpy.core.multiarray.scalar",
    ),
    "a memo of two billion": (plain(b"Nr\xff\xff\xff\x7f"), "a pickle without a network's weights"),
    "bytes of a terabyte": (plain(b"\x8e" + struct.pack("<Q", 1 << 40)), "damaged or cut off"),
    "a text of a terabyte": (plain(b"\x8d" + struct.pack("<Q", 1 << 40), protocol=2), "damaged or cut off"),
    "a number of two gigabytes": (plain(b"\x8b\xff\xff\xff\x7f"), "damaged or cut off"),
    "a frame of a terabyte": (plain(b"\x95" + struct.pack("<Q", 1 << 40) + b"N", protocol=2), "a pickle without"),
    "a number of a million digits": (plain(b"L" + b"9" * 1_000_000 + b"L\n"), "damaged or cut off"),
    "millions of instructions": (plain(b"N0" * 750_000), "more than 1,000,000 instructions"),
    "copies of a large list": (
        plain(b"](" + MANY + b"eq\x00" + b"".join([named("builtins.set") + b"h\x00\x85R0"] * 20)),
        "more than 1,000,000 instructions",
    ),
    "a key of nested tuples": (plain(b"}" + nested(100_000) + b"Ns"), "a key of type tuple"),
    "a key of doubled tuples": (plain(b"}" + b")" + b"2\x86" * 64 + b"Ns"), "a key of type tuple"),
    "deep lists": (plain(b"]" * 100_000 + b"a" * 99_999), "a pickle without a network's weights"),
    "a list in itself": (plain(b"]q\x00h\x00a"), "a pickle without a network's weights"),
    "a dictionary in itself": (plain(b"}q\x00" + text("model") + b"h\x00s"), "a pickle without a network's weights"),
    "nothing on the stack": (plain(b"R"), "damaged or cut off"),
    "a mark that is missing": (plain(b"t"), "a mark is missing"),
    "no end": (b"\x80\x02N", "damaged or cut off"),
    "a storage larger than the file": (
        convolution(tensor((1, 3, 1, 1), (3, 1, 1, 1), 1 << 40), s0=bytes(16)),
        r"a storage of 1099511627776 values has 16 bytes",
    ),
    "a tensor larger than its storage": (
        convolution(tensor((4, 3, 1, 1), (3, 1, 1, 1), 4), s0=bytes(16)),
        "in a storage of 4",
    ),
    "a tensor of one value repeated": (
        convolution(tensor((1 << 40, 3, 1, 1), (0, 0, 0, 0), 4), s0=bytes(16)),
        "in a storage of 4",
    ),
    "a tensor before its storage": (
        convolution(tensor((1, 3, 1, 1), (3, 1, 1, 1), 4, -4), s0=bytes(16)),
        "is not a list of numbers",
    ),
    "a storage that is missing": (
        convolution(tensor((1, 3, 1, 1), (3, 1, 1, 1), 4)),
        "the archive has no 'best/data/0'",
    ),
    "a storage outside of the archive": (
        zipped(plain(storage(4, "../../etc/passwd"))),
        "refers to a storage in an unknown way",
    ),
    "an entry outside of the archive": (
        zipped(plain(b"N"), **{"s../../evil": b""}),
        "an entry outside of it: 'best/data/../../evil'",
    ),
    "a packed bomb": (zipped(plain(text("0" * 10_000_000)), zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "a storage of an unknown type": (
        zipped(plain(storage(1, kind="torch.QUInt8Storage"))),
        "a storage of the type torch.QUInt8",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused(tmp_path: Path, watched: list[str], name: str) -> None:
    content, message = FORGED[name]
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    assert re.search(message, refusal(path))
    assert watched == []


@pytest.mark.parametrize("name", ["best/DATA.PKL", "best/data.pkl", "worst/DATA.PKL", "worst/version"])
def test_a_second_pickle_that_only_torch_would_read_is_refused(tmp_path: Path, watched: list[str], name: str) -> None:
    """torch.load finds DATA.PKL where data.pkl is asked for, if it comes last."""
    path = tmp_path / "best.pt"
    path.write_bytes(zipped(plain(b"N")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a duplicate name
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, plain(called("os.system", text("true"))))
    assert "several folders, or with a name in it twice" in refusal(path)
    assert watched == []


def test_two_archives_in_a_row_are_refused(tmp_path: Path, watched: list[str]) -> None:
    """Of two of the same size zipfile reads the second, torch the first."""
    path = tmp_path / "best.pt"
    path.write_bytes(zipped(plain(called("os.system", text("true")))) + zipped(plain(b"N")))
    assert "further bytes before or after it" in refusal(path)
    path.write_bytes(zipped(plain(b"N")))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"further bytes"
    assert "further bytes before or after it" in refusal(path)
    assert watched == []


def test_a_tar_archive_that_begins_like_a_pickle_is_refused(tmp_path: Path) -> None:
    """torch.load tries tar first; the checksum of the first header is all that makes one."""
    member = tarfile.TarInfo("name")
    header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    header[:100] = (b"\x80\x02B" + struct.pack("<I", 2041)).ljust(
        100, b"x"
    )  # the value of this instruction is the archive
    header[257:265] = bytes(8)  # as tar was written before it had a mark
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "best.pt"
    path.write_bytes(bytes(header) + bytes(1536) + b"0N.")
    assert tarfile.is_tarfile(path)
    assert "a tar archive" in refusal(path)


def test_entries_that_overlap_are_read_once(tmp_path: Path) -> None:
    """64 storages of 64 KB each in a file of 80 KB: the same bytes, as in a zip bomb."""
    path, names = tmp_path / "best.pt", [str(index) for index in range(64)]
    code = b"}" + b"".join(text(name) + tensor((1,), (1,), 1 << 14, name=name) + b"s" for name in names)
    path.write_bytes(zipped(plain(code), s0=bytes(1 << 16)))
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("best/data/0")
        for name in names[1:]:
            entry = copy.copy(first)
            entry.filename = f"best/data/{name}"
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
        archive._didModify = True
    with opened(path) as content, pytest.raises(BadCheckpoint, match=r"[Oo]verlap"):
        assert [weights.array().shape for weights in content.value.values()] != []


def test_the_values_of_a_pickle_are_those_of_python() -> None:
    value = {
        "numbers": [0, 1, -1, 255, 70_000, 1 << 70, -(1 << 70), 0.5, True, None],
        "texts": ["", "Löwe", "x" * 300, b"", b"\xff" * 300],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((1,), [2])],
        ("a", 1): {1, 2, 3},
        5: frozenset("ab"),
    }
    value["again"] = value["numbers"]
    for protocol in range(2, 6):
        assert Unpickler(io.BytesIO(pickle.dumps(value, protocol))).load() == value
