"""Files that are not checkpoints, whatever their suffix says: recognised by their first bytes."""

from __future__ import annotations

import json
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEAD = 4096  # bytes that are looked at


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file is, and what to do with it."""

    what: str
    """As in "this is ..."; begins with "the weights" for those."""
    remedy: str
    """What to do, as an imperative."""

    def __str__(self) -> str:
        verb = "these are" if self.what.startswith("the weights") else "this is"
        return f"{verb} {self.what}; {self.remedy}"


_SIGNATURES = (
    (
        b"\x89HDF\r\n",
        "an HDF5 file, as Keras and MATLAB save them",
        "export the model to ONNX: python -m tf2onnx.convert",
    ),
    (b"\x93NUMPY", "a numpy array", "give the model file"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the model inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive", "unpack it and give the model inside"),
    (b"Rar!", "a RAR archive", "unpack it and give the model inside"),
    (b"BZh", "a bzip2 archive", "unpack it and give the model inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and give the model inside"),
    (
        b"\x78\x9c",
        "compressed with zlib, as joblib saves objects",
        "export the model to ONNX with the package that trained it",
    ),
    (b"\xff\xd8\xff", "a JPEG picture", "give the model file"),
    (b"\x89PNG", "a PNG picture", "give the model file"),
    (b"%PDF", "a PDF document", "give the model file"),
    (b"GGUF", "a GGUF file, of language models", "give a vision model"),
    (b"ftrt", "an engine of TensorRT, for one GPU alone", "give the .pt or .onnx file that it was made of"),
    (b"\x7fELF", "a program", "give the model file"),
    (b"\0\0\0\0\2\0\0\0", "the weights of a Darknet model", "export the model to ONNX, with its .cfg"),
    (b"MZ", "a program for Windows", "give the model file"),
)
_OFFSETS = (
    (4, b"TFL3", "a TensorFlow Lite model", "export the model to ONNX with the package that trained it"),
    (257, b"ustar", "a tar archive", "unpack it and give the model inside"),
)
_PICKLES = tuple(bytes([byte]) for byte in b"\x80(c]}GXUVSIJKLMNT")


def _is_tar(file: BinaryIO) -> bool:
    """Whether torch.load would read a file as a tar archive, which it tries first, even if the file begins like a pickle."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:"):
            return True
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        return False


def recognise(path: Path) -> Verdict | None:
    """What a file is that is no checkpoint.

    Args:
        path: The file.

    Returns:
        The verdict, None for what could be a checkpoint.

    Raises:
        OSError: The file can't be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
        is_tar = _is_tar(file)
    if not head:
        return Verdict("empty", "copy or download it again")
    if not head.strip(b"\0"):
        return Verdict("filled with zeros: the download or the copy broke off", "copy or download it again")
    if is_tar:
        return Verdict("a tar archive", "unpack it and give the model inside")
    for signature, what, remedy in _SIGNATURES:
        if head.startswith(signature):
            return Verdict(what, remedy)
    for offset, signature, what, remedy in _OFFSETS:
        if head[offset:].startswith(signature):
            return Verdict(what, remedy)
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return Verdict("the weights of an OpenVINO model", f"give {path.with_suffix('.xml').name}, which is beside it")
    return _text(head) or _safetensors(head, size) or _onnx(head) or _unknown(head)


def _text(head: bytes) -> Verdict | None:
    if head.startswith(b"version https://git-lfs"):
        return Verdict("a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull")
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return Verdict("a web page: the download link led to a page instead of the file", "download the file itself")
    if start.startswith(b"<?xml"):
        is_openvino = b"<net " in head
        what = "an OpenVINO model" if is_openvino else "an XML document"
        return Verdict(what, "name it .xml, with its .bin beside it" if is_openvino else "give the model file")
    if b"\0" in head or head[:1] in (b"\x80", b"("):
        return None
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return None
        text = head[: error.start].decode("utf-8")
    printable = sum(character.isprintable() or character in "\r\n\t" for character in text)
    if len(text) < 8 or printable < len(text):
        return None
    if text.lstrip()[:1] in ("{", "["):
        return Verdict("a JSON text", "give the model file")
    return Verdict("a text file", "give the model file")


def _safetensors(head: bytes, size: int) -> Verdict | None:
    if len(head) < 10 or head[8:9] != b"{":
        return None
    [length] = struct.unpack("<Q", head[:8])
    if not 2 <= length <= min(size - 8, 100 << 20):
        return None
    if length <= len(head) - 8:
        try:
            json.loads(head[8 : 8 + length])
        except ValueError:
            return None
    return Verdict(
        "a safetensors file: weights without the network",
        "give its folder with config.json, if Hugging Face's transformers made it; else export the model to ONNX",
    )


def _onnx(head: bytes) -> Verdict | None:
    # The first field of an ONNX file is ir_version, a number under 32; next come opset, producer or graph.
    if (
        head[:1] == b"\x08"
        and head[1:2] < b"\x20"
        and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x32", b"\x3a", b"\x42")
    ):
        return Verdict("an ONNX model", "name it .onnx")
    return None


def _unknown(head: bytes) -> Verdict | None:
    # What a pickle can begin with: its protocol, or, before protocol 2, an instruction that makes something.
    if head[:1] in _PICKLES or head.startswith(b"PK\x03\x04"):
        return None
    return Verdict(
        f"in no format that is known here (it begins with the bytes {head[:8].hex(' ')})", "give the model file"
    )
