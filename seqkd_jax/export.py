"""Writing the file that ``exported.load_exported`` translates with. Floor 7.

The search of ``decode.translation`` is exported for a few shapes of sources, with the weights as an
argument, so they are stored once. Each kind of platform has programs of its own: the faster form
that the model takes there (``models.inference``), and how many sentences are decoded together.
"""

import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import jax
import jax.export
import ml_dtypes
import numpy as np

from .addresses import PathLike
from .base import Params, traced_for
from .coded import pack_compressed
from .compress.deep import share_weights
from .data import PieceVocabulary, Vocabulary, WordVocabulary
from .decode.translation import QUEUE_FACTOR, live_tokens, search_function
from .errors import UsageError
from .exported import ALIGN, FORMAT
from .files import atomic_write
from .progress import Bar
from .sealed import beginning, check_output_file, seal
from .search import for_search
from .settings import Search
from .trained import TrainedModel

Weights = Literal["float32", "bfloat16", "int8", "codes"]
PLATFORMS = ("cpu", "cuda", "tpu")
KINDS = {"cpu": ("cpu",), "gpu": ("cuda", "rocm"), "tpu": ("tpu",)}  # share their programs
SMALL_BATCHES = (1, 16)  # sentences of the smaller shapes: one line at once, and a few
SHORTEST = 16  # tokens of the shortest shape; each other is twice as long as the one before
CODE_BITS = 8


@dataclass(frozen=True)
class Sizes:
    """Bytes of the parts of an exported file."""

    about: int  # model card and vocabularies
    programs: int
    weights: int
    file: int


def export_model(
    path: PathLike,
    trained: TrainedModel,
    search: Search = Search(),  # noqa: B008
    *,
    weights: Weights = "float32",
    platforms: Sequence[str] = PLATFORMS,
    card: dict[str, Any] | None = None,
) -> Sizes:
    """Writes a model as one sealed file that translates with jax and numpy alone.

    Args:
      path: the file to write.
      trained: any model with vocabularies of words, or of pieces that were trained here.
      search: how the file will translate; fixed when it is exported.
      weights: how they are stored; they are computed with in the model's own type. ``bfloat16``
        rounds them; ``int8`` too, with a scale for each column of a matrix; ``codes`` lets each
        array have at most 255 values, which is exact for a model of ``seqkd compress``.
      platforms: that the file will translate on (``cpu``, ``cuda``, ``rocm``, ``tpu``); none of
        them has to be here.
      card: the model card, JSON; see ``card.model_card``.

    Raises:
      UsageError: a vocabulary is of another kind, a parameter is not finite float32, or
        ``search`` sets no ``max_source``; nothing is written.
      FileNotFoundError: the folder of ``path`` does not exist.

    >>> import jax, tempfile
    >>> from seqkd_jax import Config, TrainedModel, attention_lstm, build_words, load_exported
    >>> words = build_words(["a dog sleeps"])
    >>> model = attention_lstm(Config(words.size, words.size, embed=4, hidden=4, layers=1))
    >>> trained = TrainedModel(model, model.init(jax.random.key(0)), words, words)  # or load_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/small.seqkdx"
    ...     sizes = export_model(path, trained, Search(max_source=16), platforms=["cpu"])
    ...     print(load_exported(path).search["max_source"])
    16
    """
    check_output_file(path, beginning(FORMAT))
    vocabularies = [
        vocabulary_record(vocab, side)
        for vocab, side in ((trained.src_vocab, "source"), (trained.tgt_vocab, "target"))
    ]
    if search.max_source is None:
        raise UsageError(
            "An exported model has searches for sources up to a limit: set --max-source "
            "(max_source)."
        )
    if not platforms:
        raise UsageError("Name at least one platform to export for (--platforms).")
    named, packed = packed_weights(trained.params, weights)
    programs, groups = _exported_programs(trained, search, platforms)
    about = {
        "card": card or {},
        "vocabularies": vocabularies,
        "search": asdict(search),
        "limits": [search.limit(tokens) for tokens in range(search.max_source + 1)],
        "arrays": named,
    }
    about_data = json.dumps(about, ensure_ascii=False).encode()
    sections = {
        "about": (lzma.compress(about_data), len(about_data)),
        "programs": (lzma.compress(programs), len(programs)),
        "weights": (packed, None),
    }
    header = {
        "weights": weights,
        "programs": groups,
        "sections": {name: (len(data), size) for name, (data, size) in sections.items()},
    }
    body = b"".join(
        data.ljust(len(data) + -len(data) % ALIGN, b"\0") for data, _ in sections.values()
    )
    file = seal(FORMAT, header, body, ALIGN)
    atomic_write(path, file)
    return Sizes(*(len(data) for data, _ in sections.values()), file=len(file))


def vocabulary_record(vocab: Vocabulary, side: str) -> dict[str, Any]:
    """Returns what ``tokens.encoder`` needs."""
    scores: Sequence[float] = ()
    if isinstance(vocab, PieceVocabulary) and vocab.kind != "sentencepiece":
        scores = vocab.scores
    elif not isinstance(vocab, WordVocabulary):
        what = "features or characters"
        if isinstance(vocab, PieceVocabulary):
            what = "a SentencePiece model from elsewhere, which may normalise text"
        raise UsageError(
            f"The {side} vocabulary has {what}, and an exported model splits text by itself, "
            "without the tools for it: export a model with words or with pieces that were trained "
            "here (--vocabulary words, bpe or unigram), or serve this one with seqkd translate."
        )
    names = vocab.tokens(range(vocab.size))
    return {"kind": vocab.kind, "lower": vocab.lower, "tokens": names, "scores": list(scores)}


# Programs.


def _exported_programs(
    trained: TrainedModel, search: Search, platforms: Sequence[str]
) -> tuple[bytes, list[dict[str, Any]]]:
    """Returns all programs, and for each group of platforms where they are."""
    groups, data = [], b""
    kinds = {kind: [name for name in names if name in platforms] for kind, names in KINDS.items()}
    total = len(_shapes(search)) * sum(map(bool, kinds.values()))
    with Bar(desc="exporting", unit="program", total=total) as bar:
        for kind, named in kinds.items():
            if not named:
                continue
            with traced_for(kind):
                prepare, run = _prepared(trained, search, named)
                start, searches = len(data), []
                data += prepare
                for rows, length in _shapes(search):
                    bar.doing = f"compiling for {rows} x {length} tokens on {kind}"
                    program = run(rows, length)
                    data += program
                    searches.append((rows, length, len(program)))
                    bar.update()
            sizes = {"start": start, "prepare": len(prepare), "searches": searches}
            groups.append({"platforms": named, **sizes})
    return data, groups


def _shapes(search: Search) -> list[tuple[int, int]]:
    """Returns the shapes [B, S] of the searches on the platform that programs are traced for."""
    assert search.max_source is not None
    lengths = [SHORTEST]
    while lengths[-1] < search.max_source:
        lengths.append(2 * lengths[-1])
    most = QUEUE_FACTOR * live_tokens(search)
    return [
        (rows, s)
        for s in lengths
        for rows in sorted({*SMALL_BATCHES, max(SMALL_BATCHES[-1], most // s)})
    ]


def _prepared(
    trained: TrainedModel, search: Search, platforms: Sequence[str]
) -> tuple[bytes, Callable[[int, int], bytes]]:
    """Returns the program that prepares the weights, and what makes a search for a shape [B, S]."""
    leaves, tree = jax.tree.flatten(trained.params)
    faster: list[Any] = []

    def prepare(*leaves: Any) -> Any:
        model, params = for_search(trained.model, tree.unflatten(leaves))
        prepared, structure = jax.tree.flatten(params)
        faster[:] = model, structure
        return prepared

    program = jax.export.export(jax.jit(prepare), platforms=platforms)(*map(_shape_of, leaves))
    model, structure = faster
    weights = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in program.out_avals]

    def run(rows: int, length: int) -> bytes:
        slots = max(1, live_tokens(search) // length)
        find = search_function(model, search, search.limit(length), slots)

        def found(weights: Any, src: Any, limit: Any) -> Any:
            best = find(structure.unflatten(weights), src, limit)
            return best.tokens, best.scores, best.log_probs

        sources = jax.ShapeDtypeStruct((rows, length), np.int32)
        limits = jax.ShapeDtypeStruct((rows,), np.int32)
        exported = jax.export.export(jax.jit(found), platforms=platforms)
        return bytes(exported(weights, sources, limits).serialize())

    return bytes(program.serialize()), run


def _shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype)


# Weights.


def packed_weights(params: Params, form: Weights) -> tuple[list[tuple[str, tuple]], bytes]:
    """Returns names and shapes of the arrays, and their bytes; see ``exported.read_weights``.

    Raises UsageError if an array is not finite float32.
    """
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    for name, array in named.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise UsageError(
                f"params{name}: only finite float32 can be exported, but the array is "
                f"{'not finite' if array.dtype == np.float32 else array.dtype}."
            )
    shapes = [(name, array.shape) for name, array in named.items()]
    if form == "codes":
        return shapes, pack_compressed(share_weights(params, CODE_BITS))[0]
    pack = {"float32": _float32, "bfloat16": _bfloat16, "int8": _int8}[form]
    return shapes, b"".join(pack(array) for array in named.values())


def _float32(array: np.ndarray) -> bytes:
    return array.astype("<f4").tobytes()


def _bfloat16(array: np.ndarray) -> bytes:
    return array.astype(ml_dtypes.bfloat16).view(np.uint16).astype("<u2").tobytes()


def _int8(array: np.ndarray) -> bytes:
    if array.ndim < 2:
        return _float32(array)
    largest = np.abs(array).reshape(-1, array.shape[-1]).max(0)
    scales = np.where(largest > 0, largest, 1) / np.float32(127)
    return _float32(scales) + np.rint(array / scales).astype(np.int8).tobytes()
