r"""Files that this library writes and later relies on: each carries a digest, checked on reading.

A record is one JSON object; a sealed file is a header (one line of JSON) and a body of any bytes.
Both name their format, and ``sha256`` is the digest of everything else in them:

    {"format": "seqkd-model-2", "model": {...}, ..., "sha256": "9f86d0..."}
    {"format": "seqkd-topk-2", "k": 16, ..., "sha256": "60303a..."}\n<arrays>

Edited, truncated and foreign files are refused with a message that names the file and what to do.
No code from a file is ever run, and the memory of every read is bounded. Floor 0.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from .addresses import PathLike
from .errors import UsageError, quoted
from .files import atomic_write, check_writable, read_beginning, read_file, same_file

RECORD_BYTES = 1 << 28  # largest file that is read as one JSON object
HEADER_BYTES = 1 << 20  # longest first line of a sealed file
RESTORE = (
    "Restore the file from a copy; or, if a seqkd command wrote it, delete it and run that "
    "command again."
)


def parse_json(text: str | bytes) -> Any:
    """Parses JSON as its standard defines it: NaN and infinities are not numbers.

    Raises:
      ValueError: the text is not JSON, is nested too deeply, or holds a number that is not finite.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not a JSON number")

    def number(digits: str) -> float:
        value = float(digits)
        return value if abs(value) < float("inf") else refuse(digits)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: PathLike, remedy: str = RESTORE) -> Any:
    """Reads a file that holds one JSON value.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is not JSON, or larger than any record; the message ends in ``remedy``.
    """
    data = read_file(path, RECORD_BYTES)
    try:
        return parse_json(data)
    except ValueError as error:
        raise UsageError(f"{path}: damaged or not JSON ({error}). {remedy}") from None


def write_record(path: PathLike, format: str, record: dict[str, Any]) -> None:
    """Writes a record atomically.

    Args:
      path: the file.
      format: name and version of its format.
      record: JSON; ``format`` and ``sha256`` are added.
    """
    sealed = _sealed({"format": format, **record})
    atomic_write(path, (json.dumps(sealed, ensure_ascii=False, indent=1) + "\n").encode())


def read_record(path: PathLike, format: str, remedy: str = RESTORE) -> dict[str, Any]:
    """Reads a record of ``write_record``; ``format`` and ``sha256`` are left out.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, was edited, or has another format; the message ends in
        ``remedy``.
    """
    record = read_json(path, remedy)
    try:
        _check_seal(record, format)
    except _OtherVersion as error:
        raise UsageError(f"{path}: {error}.") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}. {remedy}") from None
    return {name: value for name, value in record.items() if name not in ("format", "sha256")}


def seal(format: str, header: dict[str, Any], body: bytes, align: int = 1) -> bytes:
    """Returns the bytes of a sealed file.

    Args:
      format: name and version of its format.
      header: JSON; ``format`` and ``sha256`` are added.
      body: the bytes after the header.
      align: the body begins at a multiple of this many bytes.
    """
    line = json.dumps(_sealed({"format": format, **header}, body)).encode()
    return line.ljust(-(-(len(line) + 1) // align) * align - 1) + b"\n" + body


def unseal(
    path: PathLike, data: bytes | memoryview, format: str, remedy: str = RESTORE
) -> tuple[dict[str, Any], memoryview]:
    """Returns the header and the body of a sealed file.

    Raises:
      UsageError: the file is damaged, was edited, or has another format.
    """
    view = memoryview(data)
    line = bytes(view[:HEADER_BYTES]).partition(b"\n")[0]
    body = view[len(line) + 1 :]
    try:
        header = parse_json(line)
        _check_seal(header, format, body)
    except _OtherVersion as error:
        raise UsageError(f"{path}: {error}.") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}. {remedy}") from None
    return header, body


def beginning(format: str = "seqkd-") -> re.Pattern[bytes]:
    """Returns how a file of a format begins, in any version of it; by default, of any format."""
    return re.compile(rb'\{\s*"format": "%b-' % format.rpartition("-")[0].encode())


def check_output_file(
    path: PathLike,
    kind: re.Pattern[bytes] | None = None,
    inputs: Iterable[PathLike | None] = (),
) -> None:
    """Checks that a file can be written, and that nothing is lost if it replaces what is there.

    Args:
      path: of the file.
      kind: how the files begin that may be replaced; None for all that this library did not write.
      inputs: files that the same work reads, and which are not replaced either.

    Raises:
      FileNotFoundError: its folder does not exist.
      UsageError: the path is a folder, or a file that must not be replaced.
      OSError: the folder is not writable.
    """
    check_writable(path)
    begins = read_beginning(path)
    if begins and any(given is not None and same_file(given, path) for given in inputs):
        raise UsageError(f"{path}: is read by the same command; give another file to write.")
    if begins and (not kind.match(begins) if kind else beginning().match(begins)):
        raise UsageError(
            f"{path}: holds something else than this command writes, and would be replaced. Give "
            "another --out, or delete it."
        )


def _sealed(record: dict[str, Any], body: bytes = b"") -> dict[str, Any]:
    record = json.loads(json.dumps(record))  # as read back: keys become strings
    return record | {"sha256": digest_of(record, body)}


class _OtherVersion(ValueError):
    """A file of the right kind that another version of the library has written."""


def _check_seal(record: Any, format: str, body: bytes | memoryview = b"") -> None:
    if not isinstance(record, dict) or not isinstance(record.get("format"), str):
        raise ValueError(f"not a file of this library ({format} expected)")
    if record["format"] != format:
        if record["format"].rpartition("-")[0] == format.rpartition("-")[0]:
            raise _OtherVersion(
                f"written by another version of this library: its format is "
                f"{quoted(record['format'], 60)}, and this version reads {format}. Use the "
                "version that wrote it, or make it again with this one"
            )
        raise ValueError(f"its format is {quoted(record['format'], 60)}, but {format} is expected")
    if record.get("sha256") != digest_of(record, body):
        raise ValueError("damaged or edited: its content does not match its digest")


def digest_of(record: dict[str, Any], body: bytes | memoryview = b"") -> str:
    """Returns the sha256 of a record, its own digest left out, and of the body after it."""
    content = {name: value for name, value in record.items() if name != "sha256"}
    sha = hashlib.sha256(json.dumps(content, sort_keys=True).encode() + b"\n")
    sha.update(body)
    return sha.hexdigest()


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns where two records differ: (path of a value, its old value, its new value).

    Settings come first and digests last, because a digest only says that some data differ.
    """
    before, after = _flat(old), _flat(json.loads(json.dumps(new)))
    changes = [
        (name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return sorted(changes, key=lambda change: any(map(_is_digest, change[1:])))


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64


def _flat(tree: Any, prefix: str = "", depth: int = 8) -> dict[str, Any]:
    """Returns the values by their paths; what lies deeper than ``depth`` counts as one value."""
    if not isinstance(tree, dict) or not depth:
        return {prefix: tree}
    return {
        k: v
        for key, sub in tree.items()
        for k, v in _flat(sub, f"{prefix}.{key}".strip("."), depth - 1).items()
    }
