r"""Exported students: one file that translates with jax and numpy alone. Floor 0.

    translate = load_exported("student.seqkdx").translate
    print(translate(["ein hund schläft ."]))

``export.export_model`` writes the file; nothing else of this library is needed to read it, neither
models nor flax, optax, orbax or sentencepiece. It is sealed, and holds no code but ``jax.export``
programs, which XLA compiles for the machine at hand:

    {"format": "seqkd-exported-1", "weights": "int8", "programs": [...],
     "sections": {"about": [bytes, unpacked], ...}, "sha256": ...}\n
    about         JSON packed with xz: the model card, both vocabularies, the settings of the
                  search, names and shapes of the weights
    programs      packed with xz: for each group of platforms one that prepares the weights, and a
                  search for each shape [B, S] of sources
    weights       float32, bfloat16, int8 with a scale for each column, or ``coded``'s shared values
"""

import functools
import lzma
import math
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from .addresses import PathLike
from .coded import unpack_compressed
from .errors import SourceCut, UsageError, quoted, require_lines
from .files import UNPACKED_BYTES, UNPACKED_RATIO, read_file
from .sealed import parse_json, unseal
from .tokens import EOS, PAD, UNK, decoder, encoder

FORMAT = "seqkd-exported-1"
REMEDY = "Copy the file again, or export the model again with seqkd export."
PREPARE = (0, 0)  # in place of the shape of a search
FEW = 4  # batches of a smaller shape that are preferred to one of a larger shape
ALIGN = 64  # the weights begin at a multiple of this many bytes


class Translation(NamedTuple):
    """The N best translations of a line, best first; one empty text for an empty line."""

    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]  # ids, without EOS
    scores: tuple[float, ...]  # what translations are ranked by
    log_probs: tuple[float, ...]  # the model's own log-probabilities, natural log, EOS included


@dataclass(frozen=True)
class Exported:
    """A model that translates lines of text on one device; see ``load_exported``."""

    card: dict[str, Any]  # the model card: what the model is, what taught it, and its scores
    search: dict[str, Any]  # how translations are searched for: ``settings.Search``, as exported
    limits: tuple[int, ...]  # [max_source + 1], tokens of a translation by tokens of its source
    shapes: tuple[tuple[int, int], ...]  # [B, S] of the searches, ascending
    encode: Callable[[str], list[int]] = field(repr=False)
    decode: Callable[[Iterable[int]], str] = field(repr=False)
    # (shape) -> (src [B, S], limit [B]) -> tokens [B, N, T], scores [B, N], log_probs [B, N]
    program: Callable[[tuple[int, int]], Callable[..., Sequence[Any]]] = field(repr=False)

    def translate(self, lines: Iterable[str]) -> list[str]:
        """Returns the best translation of each line of text; an empty line stays empty.

        The first lines of each shape take seconds longer: their program is compiled.
        """
        return [translation.texts[0] for translation in self.nbest(lines)]

    def nbest(self, lines: Iterable[str]) -> list[Translation]:
        """Returns the translations of each line of text, as many as the search's ``n_best``.

        Lines of more tokens than the search's ``max_source`` are cut, with a warning
        (``SourceCut``).
        """
        sources = self._sources(lines)
        results = [Translation(("",), ((),), (0.0,), (0.0,))] * len(sources)
        # Longest first, so that lines of similar length share a shape.
        waiting = sorted(
            (n for n, ids in enumerate(sources) if ids), key=lambda n: -len(sources[n])
        )
        while waiting:
            rows, length = self._shape([len(sources[n]) for n in waiting])
            chosen, waiting = waiting[:rows], waiting[rows:]
            # Rows that only fill up the batch end after one token.
            src = np.full((rows, length), PAD, np.int32)
            src[:, 0], limits = UNK, np.ones(rows, np.int32)
            for row, n in enumerate(chosen):
                src[row, : len(sources[n])] = sources[n]
                limits[row] = self.limits[len(sources[n])]
            found = [np.asarray(x) for x in self.program((rows, length))(src, limits)]
            for row, n in enumerate(chosen):
                results[n] = self._translation(*(x[row] for x in found))
        return results

    def _sources(self, lines: Iterable[str]) -> list[list[int]]:
        require_lines(lines)
        sources, limit = [self.encode(line) for line in lines], len(self.limits) - 1
        cut = [n for n, ids in enumerate(sources, 1) if len(ids) > limit]
        if cut:
            warnings.warn(
                f"Sources longer than {limit} tokens were cut to that length: {len(cut):,}, the "
                f"first of them line {cut[0]}; max_source, chosen at export, sets the limit.",
                SourceCut,
                stacklevel=3,
            )
        return [ids[:limit] for ids in sources]

    def _shape(self, waiting: Sequence[int]) -> tuple[int, int]:
        """Returns the shape for the first of the sources of these lengths, longest first.

        Shorter ones that would fit a shorter shape wait for it; a larger shape is not used for so
        few sources that a few smaller ones hold them.
        """
        lengths = sorted({length for _, length in self.shapes}, reverse=True)
        length = min(length for length in lengths if length >= waiting[0])
        shorter = max((n for n in lengths if n < length), default=0)
        count = sum(n > shorter for n in waiting)
        rows = [rows for rows, of in self.shapes if of == length]
        return next((n for n in rows if count <= FEW * n), rows[-1]), length

    def _translation(self, tokens: Any, scores: Any, log_probs: Any) -> Translation:
        rows = np.flatnonzero(np.isfinite(scores))
        ids = [row[: row.index(EOS)] for row in tokens[rows].tolist()]
        return Translation(
            texts=tuple(map(self.decode, ids)),
            tokens=tuple(map(tuple, ids)),
            scores=tuple(scores[rows].tolist()),
            log_probs=tuple(log_probs[rows].tolist()),
        )


class _Malformed(ValueError):
    """A part of the file is not what its header says."""


def load_exported(path: PathLike) -> Exported:
    """Loads a file of ``seqkd export``; the weights are prepared on this process's first device.

    Programs are compiled when a shape is first needed; JAX keeps them for later processes if
    ``JAX_COMPILATION_CACHE_DIR`` names a folder.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, is not of ``seqkd export``, needs a newer jax, or was not
        exported for this machine's platform.

    >>> import tempfile
    >>> import seqkd_jax as skd
    >>> words = skd.build_words(["a dog sleeps"])
    >>> model = skd.attention_lstm(skd.Config(words.size, words.size, embed=4, hidden=4, layers=1))
    >>> trained = skd.TrainedModel(model, model.init(jax.random.key(0)), words, words)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path, search = f"{folder}/small.seqkdx", skd.Search(max_source=16)
    ...     sizes = skd.export_model(path, trained, search, platforms=["cpu"])
    ...     student = load_exported(path)
    >>> len(student.translate(["a dog", ""]))
    2
    """
    header, body = unseal(path, read_file(path), FORMAT, REMEDY)
    try:
        sections = _sections(header["sections"], body)
        about = parse_json(bytes(sections["about"]()))
        group = _group(path, header["programs"])
        programs = _programs(group, sections["programs"]())
        limits = tuple(map(int, about["limits"]))
        source, target = about["vocabularies"]
        encode = encoder(source["kind"], source["tokens"], source["scores"], source["lower"])
        decode = decoder(target["kind"], target["tokens"])
        weights = read_weights(path, header["weights"], about["arrays"], sections["weights"]())
        prepare = programs.pop(PREPARE)
        shapes = tuple(sorted(programs))
        prepared = jax.jit(prepare.call)(*weights)
    except UsageError:
        raise
    except (
        AssertionError,  # of flatbuffers
        AttributeError,
        jax.errors.JaxRuntimeError,  # a program that XLA cannot read
        LookupError,
        TypeError,
        ValueError,
        lzma.LZMAError,
        struct.error,
    ) as error:
        raise _unreadable(path, error) from None

    @functools.cache
    def program(shape: tuple[int, int]) -> Callable[..., Sequence[Any]]:
        return functools.partial(jax.jit(programs[shape].call), prepared)

    return Exported(about["card"], about["search"], limits, shapes, encode, decode, program)


def _unreadable(path: PathLike, error: Exception) -> UsageError:
    return UsageError(
        f"{path}: cannot be read by this version of seqkd_jax and jax {jax.__version__} "
        f"({quoted(str(error), 200)}). Use the versions that it was exported with, or newer ones; "
        "or export the model again."
    )


def _sections(sizes: Mapping[str, Sequence[int]], body: memoryview) -> dict[str, Callable]:
    """Returns the parts of the body by name, each as a function that unpacks it within bounds."""
    found, start = {}, 0
    for name, (stored, unpacked) in sizes.items():
        if type(stored) is not int or stored < 0 or start + stored > len(body):
            raise _Malformed(f"section {name} has {quoted(stored)} bytes")
        found[name] = functools.partial(_unpacked, body[start : start + stored], unpacked)
        start += stored + -stored % ALIGN
    return found


def _unpacked(data: memoryview, size: Any) -> memoryview:
    if size is None:
        return data
    limit = max(UNPACKED_BYTES, UNPACKED_RATIO * len(data))
    if type(size) is not int or not 0 <= size <= limit:
        raise _Malformed(f"a section unpacks to {quoted(size)} bytes, more than {limit:,}")
    unpacker = lzma.LZMADecompressor(memlimit=1 << 27)
    unpacked = unpacker.decompress(data, size + 1)
    if len(unpacked) != size:
        raise _Malformed(f"a section unpacks to {len(unpacked):,} bytes instead of {size:,}")
    return memoryview(unpacked)


def _group(path: PathLike, groups: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the programs of this process's platform."""
    backend = jax.default_backend()
    names = {"gpu": {"cuda", "rocm"}}.get(backend, {backend})
    for group in groups:
        if names & set(group["platforms"]):
            return group
    exported = ", ".join(name for group in groups for name in group["platforms"])
    raise UsageError(
        f"{path}: exported for {exported}, but this machine computes on {backend}; export the "
        "model with --platforms for it, or set JAX_PLATFORMS to one that the file is for."
    )


def _programs(
    group: Mapping[str, Any], data: memoryview
) -> dict[tuple[int, int], jax.export.Exported]:
    programs, start = {}, group["start"]
    for rows, length, size in ((*PREPARE, group["prepare"]), *group["searches"]):
        programs[rows, length] = jax.export.deserialize(bytearray(data[start : start + size]))
        start += size
    return programs


# Weights.


def read_weights(
    path: PathLike, form: str, arrays: Sequence[tuple[str, Sequence[int]]], data: memoryview
) -> list[np.ndarray]:
    """Returns the arrays that ``export.packed_weights`` stored, as float32.

    Args:
      path: the file, for messages.
      form: ``float32``, ``bfloat16``, ``int8`` or ``codes``.
      arrays: name and shape of each.
      data: their bytes.

    Raises:
      ValueError: the bytes do not fit the shapes.
    """
    shapes = {name: tuple(map(int, shape)) for name, shape in arrays}
    total = sum(map(math.prod, shapes.values()))
    if min((n for shape in shapes.values() for n in shape), default=0) < 0 or total > max(
        UNPACKED_BYTES, UNPACKED_RATIO * len(data)
    ):
        raise _Malformed(f"{total:,} weights in {len(data):,} bytes")
    if form == "codes":
        found = unpack_compressed(path, data, shapes)
        return [found[name] for name in shapes]
    read = {"float32": _float32, "bfloat16": _bfloat16, "int8": _int8}[form]
    found, start = [], 0
    for shape in shapes.values():
        array, size = read(data[start:], shape)
        found.append(array)
        start += size
    if start != len(data):
        raise _Malformed(f"{len(data) - start:,} bytes after the last array")
    return found


def _float32(data: memoryview, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    size = 4 * math.prod(shape)
    return np.frombuffer(data[:size], "<f4").reshape(shape), size


def _bfloat16(data: memoryview, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    size = 2 * math.prod(shape)
    halves = np.frombuffer(data[:size], "<u2").astype(np.uint32)
    return (halves << np.uint32(16)).view(np.float32).reshape(shape), size


def _int8(data: memoryview, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    if len(shape) < 2:  # biases are small, and a column of its own each
        return _float32(data, shape)
    columns, size = 4 * shape[-1], math.prod(shape)
    scales = np.frombuffer(data[:columns], "<f4")
    values = np.frombuffer(data[columns : columns + size], np.int8).reshape(shape)
    return values * scales, columns + size
