"""Caches of a teacher's distributions at each position of a corpus, which any student can read.

    cache = cache_teacher("topk", teacher, encoded, k=16)
    print(cache)                                     pairs, bytes per token, KL to the teacher
    step = make_train_step(student, tx, mix(nll, word_kd, 0.5))      no teacher runs any more
    for batch in cache.attach_to(batches(encoded, buckets, seed=1, epoch=0)):
        state, metrics = step(state, batch, key)

A pair is looked up by its ids, never by its index, so data order, batch size and number of hosts
may differ between writing and reading. For each token the cache holds the k most probable ids;
the distances of their log-probabilities to the largest, in half precision, which is nearly exact
for small distances; and the log of the mass of all other tokens, in single precision. On reading,
the k probabilities are normalised so that all add up to 1. ``topk_shards`` defines the files.
"""

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..addresses import PathLike, as_local
from ..base import PAD, Array, Example, Params, Seq2Seq, TopK, for_teaching, top_k
from ..data import Bucket, Encoded, batches, plan_buckets
from ..decode.shards import missing_shards, process_shards, require_same_header
from ..errors import UsageError
from ..files import make_folder
from ..parallel import pmap_rows
from ..progress import Bar
from ..trained import TrainedModel
from .topk_shards import (
    KEY_BYTES,
    Shard,
    complete_shards,
    read_shard,
    shard_name,
    shard_paths,
    shared_header,
    write_shard,
)

MIN_FLOAT16 = float(np.finfo(np.float16).min)  # distance of a token of probability 0


@dataclass(frozen=True)
class TeacherCache:
    """An open cache; its files are memory-mapped, not read into memory."""

    folder: Path
    header: dict[str, Any]  # fields that all shards share
    keys: np.ndarray  # [pairs] of KEY_BYTES, sorted over all shards
    first: np.ndarray  # [shards], index of the first pair of each shard
    starts: np.ndarray  # [pairs], index of its first token within its shard
    lengths: np.ndarray  # [pairs], target tokens
    shards: tuple[Shard, ...]
    mean_kl: float  # nats per token from the teacher to the cache, the rest spread evenly
    src_ids: np.ndarray | None = None  # the cache's id of each of the student's source ids
    tgt_ids: np.ndarray | None = None  # [V], the same for target ids

    @property
    def bytes_per_token(self) -> float:
        """Size on disk per target token, EOS counted."""
        size = sum(path.stat().st_size for path in shard_paths(self.folder))
        return size / max(1, int(self.lengths.sum()))

    def __str__(self) -> str:
        return (
            f"{len(self.keys):,} pairs of {int(self.lengths.sum()):,} tokens, k = "
            f"{self.header['k']} of {self.header['vocabulary']:,} at temperature "
            f"{self.header['temperature']:g}; {self.bytes_per_token:.1f} bytes and "
            f"{self.mean_kl:.2g} nats of KL a token"
        )

    def renumbered(self, src_ids: np.ndarray, tgt_ids: np.ndarray) -> "TeacherCache":
        """Returns the cache for a student that numbers the same pieces differently.

        Args:
          src_ids: the cache's id of each of the student's source ids (``data.renumbering``).
          tgt_ids: the same for target ids, [V].
        """
        return replace(self, src_ids=src_ids, tgt_ids=tgt_ids)

    def attach_to(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Yields the batches [B, ...] with ``teacher_targets``: a ``TopK`` of [B, T, k].

        Raises:
          UsageError: a pair is not in the cache; the message names its line.
        """
        for batch in examples:
            yield replace(batch, teacher_targets=self._of_batch(batch))

    def require(self, pairs: Encoded) -> None:
        """Checks that every pair is in the cache, before work begins.

        Raises:
          UsageError: a pair is not in the cache; the message names its line.
        """
        self._indices(pairs.src, pairs.tgt, pairs.index)

    def _of_batch(self, batch: Example) -> TopK:
        src, tgt = np.asarray(batch.src), np.asarray(batch.tgt)
        sources, targets = ([_unpadded(row) for row in side] for side in (src, tgt))
        indices = self._indices(sources, targets, np.asarray(batch.index))
        shape = (*tgt.shape, self.header["k"])
        ids, log_probs = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        rest = np.zeros(tgt.shape, np.float32)
        for row, index in enumerate(indices):
            shard = self.shards[np.searchsorted(self.first, index, side="right") - 1]
            start, size = self.starts[index], self.lengths[index]
            tokens = slice(start, start + size)
            rest[row, :size] = shard.rest[tokens]
            ids[row, :size] = shard.ids[tokens]
            log_probs[row, :size] = _log_probs(shard.distances[tokens], rest[row, :size])
        if self.tgt_ids is not None:
            ids = np.argsort(self.tgt_ids).astype(np.int32)[ids]
        fields: Any = (ids, log_probs, rest)
        return TopK(*fields, temperature=self.header["temperature"])

    def _indices(
        self, src: Iterable[np.ndarray], tgt: Iterable[np.ndarray], lines: np.ndarray
    ) -> np.ndarray:
        """Returns the index of each pair in the cache; ``lines`` is its index in the corpus."""
        if self.src_ids is not None and self.tgt_ids is not None:
            src_ids, tgt_ids = self.src_ids, self.tgt_ids
            src, tgt = [src_ids[s] for s in src], [tgt_ids[t] for t in tgt]
        keys = _keys(src, tgt)
        indices = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        if (missing := np.flatnonzero(self.keys[indices] != keys)).size:
            raise UsageError(
                f"{self.folder}: the pair of line {int(lines[missing[0]]) + 1} is not in this "
                "cache, which was made from other text or with other vocabularies. Make a "
                "cache of the pairs that the student is trained on (seqkd cache)."
            )
        return indices


def cache_teacher(
    folder: PathLike,
    teacher: TrainedModel,
    pairs: Encoded,
    *,
    k: int = 16,
    temperature: float = 1.0,
    tokens_per_batch: int = 2048,
    shard_pairs: int = 2000,
    progress: str | None = "caching",
) -> TeacherCache:
    """Writes a teacher's top-k distributions over a corpus into sharded files, and opens them.

    Repeated pairs are stored once, and pairs are sorted by their content. Shards are written
    atomically; a job that is started again makes only the missing ones. Several workers may run
    this on the same folder at once, and the files have the same bytes for any number of workers.

    Args:
      folder: for the shards.
      teacher: a model or an ensemble; the digest of its parameters is written into each shard's
        header.
      pairs: encoded with the teacher's vocabularies.
      k: tokens that are stored of each distribution; k = V stores all.
      temperature: by which logits are divided; the loss must use the same.
      tokens_per_batch: padding included; V times the sentences of a batch are in memory at once.
      shard_pairs: pairs of a shard, all of which a worker runs.
      progress: label of the progress bar; None for no bar.

    Raises:
      UsageError: there are no pairs, k is not between 1 and V, or the folder holds another cache.
    """
    folder = as_local(folder)
    pairs, keys = _sorted_by_key(pairs)
    model, params = for_teaching(teacher.model, teacher.params)
    vocabulary = _vocabulary(model, params, pairs, k, temperature)
    make_folder(folder)  # only now, so that wrong arguments leave no folder
    shards = -(-len(keys) // shard_pairs)
    header = {
        "teacher_digest": teacher.digest,
        "vocabulary": vocabulary,
        "k": k,
        "temperature": float(temperature),
        "corpus": hashlib.sha256(keys.tobytes()).hexdigest(),
        "shards": shards,
    }
    verified: set[int] = set()
    buckets = plan_buckets(pairs, tokens_per_batch=tokens_per_batch)

    def make(number: int) -> None:
        rows = slice(number * shard_pairs, (number + 1) * shard_pairs)
        part = replace(pairs, src=pairs.src[rows], tgt=pairs.tgt[rows], index=pairs.index[rows])
        shard, nats = run_teacher(part, keys[rows])
        shard_header = header | {"shard": number, "nats": nats}
        write_shard(folder / shard_name(number, shards), shard_header, shard)

    with Bar(total=len(keys), desc=progress, unit="pair") as bar:
        run_teacher = _TeacherRunner(model, params, buckets, header, bar)
        process_shards(
            folder,
            shards,
            lambda number: folder / shard_name(number, shards),
            lambda: complete_shards(folder, header, verified),
            make,
            bar,
            shard_pairs,
        )
    return open_teacher_cache(folder)


def open_teacher_cache(folder: PathLike) -> TeacherCache:
    """Opens a cache and checks all of its bytes.

    Raises:
      FileNotFoundError: the folder has no cache.
      UsageError: a file is damaged or missing, or the folder is at an address; the message names
        it.
    """
    folder = as_local(folder)
    paths = shard_paths(folder)
    if not paths:
        raise FileNotFoundError(f"{folder}: has no teacher cache (no shard-*.topk).")
    contents = [read_shard(path) for path in paths]
    common = shared_header(contents[0][0])
    for path, (header, _) in zip(paths, contents, strict=True):
        require_same_header(path, shared_header(header), common)
    if missing := missing_shards({header["shard"] for header, _ in contents}, common["shards"]):
        raise UsageError(
            f"{folder}: shards {missing} are missing; run the command that wrote the others again."
        )
    shards = tuple(shard for _, shard in contents)
    sizes = [len(shard.keys) for shard in shards]
    lengths = np.concatenate([shard.lengths for shard in shards]).astype(np.int64)
    tokens = int(lengths.sum())
    starts = [np.cumsum(s.lengths, dtype=np.int64) - s.lengths for s in shards]
    return TeacherCache(
        folder=folder,
        header=common,
        keys=np.concatenate([shard.keys for shard in shards]),
        first=np.concatenate([[0], np.cumsum(sizes)[:-1]]),
        starts=np.concatenate(starts),
        lengths=lengths,
        shards=shards,
        mean_kl=sum(header["nats"] for header, _ in contents) / tokens,
    )


def _keys(src: Iterable[np.ndarray], tgt: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the keys of pairs, which are hashes of their ids: [pairs] of KEY_BYTES."""

    def key(s: np.ndarray, t: np.ndarray) -> bytes:
        content = b"%d " % len(s) + np.concatenate([s.ravel(), t]).astype("<i4").tobytes()
        return hashlib.sha256(content).digest()[:KEY_BYTES]

    joined = b"".join(key(s, t) for s, t in zip(src, tgt, strict=True))
    return np.frombuffer(joined, f"S{KEY_BYTES}")


def _unpadded(ids: np.ndarray) -> np.ndarray:
    """Removes padding from ids [S], or from rows of ids [S, ...] that begin with the word."""
    return ids[(ids if ids.ndim == 1 else ids[:, 0]) != PAD]


def _sorted_by_key(pairs: Encoded) -> tuple[Encoded, np.ndarray]:
    """Returns each distinct pair once, sorted by its key, and the keys."""
    if not pairs.src:
        raise UsageError("A cache needs sentence pairs, and there are none.")
    keys, indices = np.unique(_keys(pairs.src, pairs.tgt), return_index=True)
    # Numbered anew, so that the cache depends on nothing but the content of the pairs.
    return replace(
        pairs,
        src=pairs.src[indices],
        tgt=pairs.tgt[indices],
        index=np.arange(len(keys), dtype=np.int32),
    ), keys


def _vocabulary(model: Seq2Seq, params: Params, pairs: Encoded, k: int, temperature: float) -> int:
    """Returns V; raises UsageError as ``top_k`` does, without computing anything."""

    def first_token(params: Params) -> tuple[Array, TopK]:
        hidden = model.hidden(params, pairs.src[0], pairs.tgt[0])
        logits = model.project(params, jax.tree.map(lambda h: h[0], hidden))
        return logits, top_k(logits, k, temperature)

    return jax.eval_shape(first_token, params)[0].shape[0]


@functools.lru_cache(maxsize=8)
def _distributions(model: Seq2Seq, k: int, temperature: float):
    """Compiles (params, src [B, S], tgt [B, T]) -> TopK of [B, T, k], sum of q log q [B, T]."""

    def of_sentence(params: Params, src: Array, tgt: Array):
        def of_token(hidden: Any) -> tuple[TopK, Array]:
            logits = model.project(params, hidden).astype(jnp.float32)
            q = jax.nn.softmax(logits / temperature)
            return top_k(logits, k, temperature), jax.scipy.special.xlogy(q, q).sum()

        # One position at a time, so that [B, V] exists in memory and not [B, T, V].
        return lax.map(of_token, model.hidden(params, src, tgt))

    return pmap_rows(jax.vmap(of_sentence, (None, 0, 0)))


def _log_probs(distances: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Returns log-probabilities [..., k] that add up to 1 with the rest."""
    distances = distances.astype(np.float32)
    listed = np.log(np.exp(distances).sum(-1)) - np.log1p(-np.exp(rest))
    return distances - listed[..., None]


def _cross_entropy(
    log_probs: np.ndarray, rest: np.ndarray, cached: np.ndarray, others: int
) -> np.ndarray:
    """Returns the cross-entropy [tokens] of the teacher and the cache.

    The mass of the rest is spread evenly over ``others``, the number of tokens that are not listed.
    """
    listed = (np.exp(log_probs) * cached).sum(-1)
    mass = np.exp(rest)
    return -listed - np.where(
        mass > 0, mass * (np.maximum(rest, MIN_FLOAT16) - np.log(max(1, others))), 0
    )


@dataclass(frozen=True)
class _TeacherRunner:
    """Runs a teacher over the pairs of a shard."""

    model: Seq2Seq
    params: Params
    buckets: tuple[Bucket, ...]  # the same for all shards, so that few programs are compiled
    header: dict[str, Any]
    bar: Bar

    def __call__(self, pairs: Encoded, keys: np.ndarray) -> tuple[Shard, float]:
        """Returns the shard, and the KL from the teacher to it in nats, summed over tokens."""
        k, vocabulary = self.header["k"], self.header["vocabulary"]
        run = _distributions(self.model, k, self.header["temperature"])
        of_pair: list[Any] = [None] * len(keys)
        first = int(pairs.index[0])
        for batch in batches(pairs, self.buckets, seed=0, epoch=None):
            columns = jax.tree.leaves(run(self.params, batch.src, batch.tgt))
            for row, index in enumerate(np.asarray(batch.index)):
                if index >= 0:
                    size = len(pairs.tgt[index - first])
                    of_pair[index - first] = [column[row, :size] for column in columns]
            self.bar.update(int((batch.index >= 0).sum()))
        ids, log_probs, rest, q_log_q = map(np.concatenate, zip(*of_pair, strict=True))
        # Rounded on the host: in the compiled program it would disable XLA's fast top-k on CPUs.
        distances = np.maximum(log_probs - log_probs[:, :1], MIN_FLOAT16).astype(np.float16)
        cached = _log_probs(distances, rest)
        nats = q_log_q + _cross_entropy(log_probs, rest, cached, vocabulary - k)
        lengths = np.array([len(t) for t in pairs.tgt])
        return Shard(keys, lengths, rest, ids, distances), float(nats.sum(dtype=np.float64))
