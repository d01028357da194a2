"""Translating a corpus into n-best files, in shards.

The job can be resumed and shared by any number of workers, and the files name the teacher and the
search that made them.
"""

import functools
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..addresses import PathLike
from ..data.lines import lines_digest
from ..errors import UsageError
from ..files import atomic_write, make_folder
from ..progress import Bar
from ..search import for_search
from ..settings import Search
from ..trained import TrainedModel
from .nbest import NBest, complete_shards, open_nbest, pack_shard, shard_path
from .shards import map_shards, process_shards
from .translation import translate_texts

TeacherSource = TrainedModel | Callable[[], TrainedModel]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def translate_corpus(
    folder: PathLike,
    teacher: TeacherSource,
    lines: Sequence[str],
    search: Search,
    *,
    map: Map | None = None,
    shard_sentences: int = 2000,
    progress: str | None = "decoding",
) -> Sequence[NBest]:
    """Decodes a corpus into sharded n-best files, and returns its lists, which stay in the files.

    Each sentence is decoded exactly once. Shards are written atomically; a job that is started
    again makes only the missing ones. Several workers may run this on the same local folder at
    once: each takes shards that no other is making. Or one process runs it with the ``map`` of an
    engine, whose workers decode and need not see the folder. The files have the same bytes for any
    number of workers on machines of the same kind.

    Args:
      folder: for the shards; may be an address (``files.as_path``).
      teacher: with its vocabularies; the digest of its parameters is written into each shard's
        header. Workers in other processes need a function that loads it and can be pickled, such as
        ``functools.partial(load_model, "/shared/teacher")``; each calls it once.
      lines: source sentences.
      search: settings; written into each shard's header.
      map: like the builtin ``map``: applies a function, which can be pickled, to each missing shard
        and yields the results, in any order. ``concurrent.futures``' ``Executor.map``, the
        ``imap_unordered`` of a pool, or ``cluster.ray_map``; None decodes in this process.
      shard_sentences: sentences of a shard, all of which a worker decodes.
      progress: label of the progress bar; None for no bar.

    Raises:
      UsageError: the folder holds lists of another teacher, corpus or search; a worker loaded
        another teacher; or the teacher cannot be sent to the workers.

    >>> import tempfile
    >>> import jax
    >>> from seqkd_jax import Config, TrainedModel, attention_lstm, build_words
    >>> words = build_words(["a dog sleeps"])
    >>> model = attention_lstm(Config(words.size, words.size, embed=4, hidden=4, layers=1))
    >>> trained = TrainedModel(model, model.init(jax.random.key(0)), words, words)  # or load_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lists = translate_corpus(folder, trained, ["a dog", "a"], Search(), progress=None)
    ...     print([(one.index, len(one.texts)) for one in lists])
    [(0, 1), (1, 1)]
    """
    folder = make_folder(folder)
    here = teacher() if callable(teacher) else teacher
    header = {
        "teacher_digest": here.digest,
        "search": asdict(search),
        "source": lines_digest(lines),
        "sentences": len(lines),
    }
    shards = max(1, -(-len(lines) // shard_sentences))
    job = _Job(uuid.uuid4().hex, here if map is None else teacher, search, header)
    verified: set[int] = set()

    def path(shard: int) -> Path:
        return shard_path(folder, shard, shards)

    def part(shard: int) -> _Part:
        first = shard * shard_sentences
        return _Part(shard, first, lines[first : first + shard_sentences])

    def done() -> set[int]:
        return complete_shards(folder, header, verified)

    with Bar(total=len(lines), desc=progress, unit="sentence") as bar:
        bar.begin(sum(len(part(shard).lines) for shard in done()))
        if map is None:

            def make(shard: int) -> None:
                atomic_write(path(shard), _decode_part(job, part(shard), bar)[1])

            process_shards(folder, shards, path, done, make, bar, shard_sentences)
        else:

            def keep(shard: int, data: bytes) -> None:
                atomic_write(path(shard), data)
                bar.update(min(shard_sentences, len(lines) - shard * shard_sentences))

            decode = functools.partial(_decode_part, job)
            map_shards(folder, shards, done, lambda n: map(decode, (part(i) for i in n)), keep)
    _prepared.cache_clear()
    return open_nbest(folder)


class _Part(NamedTuple):
    """The lines of a shard."""

    shard: int
    first: int  # index of the first line in its corpus
    lines: Sequence[str]


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know about a corpus, whichever shard it gets."""

    name: str  # of no other job; the worker's teacher is kept by it
    teacher: TeacherSource = field(compare=False)
    search: Search = field(compare=False)
    header: dict[str, Any] = field(compare=False)


def _decode_part(job: _Job, part: _Part, bar: tqdm | None = None) -> tuple[int, bytes]:
    """Returns the number and the bytes of a shard."""
    nbest = translate_texts(_prepared(job), part.lines, job.search, first=part.first, bar=bar)
    return part.shard, pack_shard(job.header, nbest)


@functools.lru_cache(maxsize=1)
def _prepared(job: _Job) -> TrainedModel:
    """Returns a job's teacher, made ready once for all shards, which then share its programs."""
    teacher = job.teacher() if callable(job.teacher) else job.teacher
    if teacher.digest != job.header["teacher_digest"]:
        raise UsageError(
            "A worker has loaded another teacher than the process that started it: give both the "
            "same folder, one that all machines see."
        )
    model, params = for_search(teacher.model, teacher.params)
    return teacher.with_params(params, model)
