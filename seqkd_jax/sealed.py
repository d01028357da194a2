r"""Files that this library writes and later believes: they carry a digest, checked when read.

A record is one JSON object; a sealed file is a header, one line of JSON, and a body of any bytes.
Both name their format and carry the sha256 of all they say, under ``sha256``:

    {"format": "seqkd-model-1", "model": {...}, ..., "sha256": "9f86d0..."}
    {"format": "seqkd-topk-1", "k": 16, ..., "sha256": "60303a..."}\n<arrays>

An edited, truncated or foreign file is refused with its name and what to do. Nothing here runs
code from a file, and every read has a bound on memory. Floor 0.
"""

import hashlib
import json
from typing import Any

from .errors import UsageError, quoted
from .files import PathLike, atomic_write, read_file

RECORD_BYTES = 1 << 28  # of a file that is read as one JSON object, at most
HEADER_BYTES = 1 << 20  # of the first line of a sealed file, at most
RESTORE = (
    "Restore the file from a copy; or, if a seqkd command wrote it, delete it and run that "
    "command again."
)


def parse_json(text: str | bytes) -> Any:
    """Parses JSON as its standard has it: NaN and infinities are no numbers.

    Raises:
      ValueError: it is not JSON, is nested too deeply, or holds a number that is not finite.
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
      UsageError: it is not JSON, or larger than any record; the message ends in ``remedy``.
    """
    data = read_file(path, RECORD_BYTES)
    try:
        return parse_json(data)
    except ValueError as error:
        raise UsageError(f"{path}: damaged or not JSON ({error}). {remedy}") from None


def write_record(path: PathLike, format: str, record: dict[str, Any]) -> None:
    """Writes a record, whole or not at all.

    Args:
      path: of the file.
      format: name and version of what it is.
      record: JSON; ``format`` and ``sha256`` are added.
    """
    sealed = _sealed({"format": format, **record})
    atomic_write(path, (json.dumps(sealed, ensure_ascii=False, indent=1) + "\n").encode())


def read_record(path: PathLike, format: str, remedy: str = RESTORE) -> dict[str, Any]:
    """Reads what ``write_record`` wrote, without ``format`` and ``sha256``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is damaged, was edited, or is of another format; the message ends in
        ``remedy``.
    """
    record = read_json(path, remedy)
    try:
        _check_seal(record, format)
    except ValueError as error:
        raise UsageError(f"{path}: {error}. {remedy}") from None
    return {name: value for name, value in record.items() if name not in ("format", "sha256")}


def seal(format: str, header: dict[str, Any], body: bytes, align: int = 1) -> bytes:
    """The bytes of a sealed file.

    Args:
      format: name and version of what it is.
      header: JSON; ``format`` and ``sha256`` are added.
      body: what follows.
      align: the body begins at a multiple of so many bytes.
    """
    line = json.dumps(_sealed({"format": format, **header}, body)).encode()
    return line.ljust(-(-(len(line) + 1) // align) * align - 1) + b"\n" + body


def unseal(
    path: PathLike, data: bytes | memoryview, format: str, remedy: str = RESTORE
) -> tuple[dict[str, Any], memoryview]:
    """Header and body of a sealed file's bytes.

    Raises:
      UsageError: the file is damaged, was edited, or is of another format.
    """
    view = memoryview(data)
    line = bytes(view[:HEADER_BYTES]).partition(b"\n")[0]
    body = view[len(line) + 1 :]
    try:
        header = parse_json(line)
        _check_seal(header, format, body)
    except ValueError as error:
        raise UsageError(f"{path}: {error}. {remedy}") from None
    return header, body


def _sealed(record: dict[str, Any], body: bytes = b"") -> dict[str, Any]:
    record = json.loads(json.dumps(record))  # as a reader will see it: keys are strings
    return record | {"sha256": digest_of(record, body)}


def _check_seal(record: Any, format: str, body: bytes | memoryview = b"") -> None:
    if not isinstance(record, dict) or not isinstance(record.get("format"), str):
        raise ValueError(f"not a file of this library ({format} expected)")
    if record["format"] != format:
        raise ValueError(f"its format is {quoted(record['format'], 60)}, but {format} is expected")
    if record.get("sha256") != digest_of(record, body):
        raise ValueError("damaged or edited: its content does not match its digest")


def digest_of(record: dict[str, Any], body: bytes | memoryview = b"") -> str:
    """The sha256 of a record without its own digest, and of the body that follows it."""
    content = {name: value for name, value in record.items() if name != "sha256"}
    sha = hashlib.sha256(json.dumps(content, sort_keys=True).encode() + b"\n")
    sha.update(body)
    return sha.hexdigest()


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Where two records differ: the path of a value in them, and the value of each.

    A digest says that data differ, a setting which and how: digests come last.
    """
    before, after = _flat(old), _flat(json.loads(json.dumps(new)))
    found = [
        (name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return sorted(found, key=lambda found: any(map(_is_digest, found[1:])))


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64


def _flat(tree: Any, prefix: str = "", depth: int = 8) -> dict[str, Any]:
    """Values by their path; what is nested more deeply than any settings is one value."""
    if not isinstance(tree, dict) or not depth:
        return {prefix: tree}
    return {
        k: v
        for key, sub in tree.items()
        for k, v in _flat(sub, f"{prefix}.{key}".strip("."), depth - 1).items()
    }
