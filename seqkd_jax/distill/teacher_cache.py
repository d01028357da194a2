"""What a teacher says of each position of a corpus, on disk: made once, read by any student.

    cache = cache_teacher("topk", teacher, params, encoded, teacher=digest, k=16)
    print(cache)                                     pairs, bytes per token, KL to the teacher
    step = make_train_step(student, tx, mix(nll, word_kd, 0.5))      no teacher runs any more
    for batch in cache.taught(batches(encoded, buckets, seed=1, epoch=0)):
        state, metrics = step(state, batch, key)

A pair is found by the content of its ids, never by its place: data order, batch size and number of
hosts may change between making and reading. For each token the k most probable ids are kept with
the distance of their log-probabilities to the largest in half precision (close ones are close to
exact), and the log of the mass of all other tokens in single precision; reading normalises the
listed to what that leaves. ``topk_shards`` knows the files.
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
from tqdm import tqdm

from ..base import PAD, Array, Example, Params, Seq2Seq, TopK, for_teaching, top_k
from ..data import Encoded, batches, plan_buckets
from ..errors import UsageError
from ..files import make_folder
from ..train.parallel import pmap_rows
from .shards import missing_shards, require_alike, work_through
from .topk_shards import (
    KEY_BYTES,
    Shard,
    complete_shards,
    made_by,
    read_shard,
    shard_name,
    shard_paths,
    write_shard,
)

SHARD_PAIRS = 2000
FARTHEST = float(np.finfo(np.float16).min)  # distance of a token of no probability


@dataclass(frozen=True)
class TeacherCache:
    """An open cache; the files are mapped, not read into memory."""

    folder: Path
    header: dict[str, Any]  # what made it
    keys: np.ndarray  # [pairs] of KEY_BYTES, rising through all shards
    first: np.ndarray  # [shards], number of the first pair of each
    starts: np.ndarray  # [pairs], its first token within its shard
    lengths: np.ndarray  # [pairs]
    shards: tuple[Shard, ...]
    mean_kl: float  # nats per token from the teacher to what is kept, the rest spread evenly
    src_ids: np.ndarray | None = None  # the cache's id of each source id that is asked for
    tgt_ids: np.ndarray | None = None  # [V], the same of targets

    @property
    def bytes_per_token(self) -> float:
        """Size on disk by target token, EOS counted."""
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
        """The cache for a student that numbers the same pieces differently.

        Args:
          src_ids: the cache's id of each of the student's source ids (``data.renumbering``).
          tgt_ids: the same of target ids, [V].
        """
        return replace(self, src_ids=src_ids, tgt_ids=tgt_ids)

    def taught(self, given: Iterable[Example]) -> Iterator[Example]:
        """Gives batches [B, ...] with ``taught``: a ``TopK`` of [B, T, k] from the cache.

        Raises:
          UsageError: a pair is not in the cache; the message names its line.
        """
        for batch in given:
            yield replace(batch, taught=self._of_batch(batch))

    def require(self, pairs: Encoded) -> None:
        """Checks that every pair is in the cache, before work begins.

        Raises:
          UsageError: one is not; the message names its line.
        """
        self._places(pairs.src, pairs.tgt, pairs.index)

    def _of_batch(self, batch: Example) -> TopK:
        src, tgt = np.asarray(batch.src), np.asarray(batch.tgt)
        sources, targets = ([_unpadded(row) for row in side] for side in (src, tgt))
        places = self._places(sources, targets, np.asarray(batch.index))
        shape = (*tgt.shape, self.header["k"])
        ids, log_probs = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        rest = np.zeros(tgt.shape, np.float32)
        for row, place in enumerate(places):
            shard = self.shards[np.searchsorted(self.first, place, side="right") - 1]
            start, size = self.starts[place], self.lengths[place]
            tokens = slice(start, start + size)
            rest[row, :size] = shard.rest[tokens]
            ids[row, :size] = shard.ids[tokens]
            log_probs[row, :size] = _log_probs(shard.distances[tokens], rest[row, :size])
        if self.tgt_ids is not None:
            ids = np.argsort(self.tgt_ids).astype(np.int32)[ids]
        fields: Any = (ids, log_probs, rest)
        return TopK(*fields, temperature=self.header["temperature"])

    def _places(
        self, src: Iterable[np.ndarray], tgt: Iterable[np.ndarray], index: np.ndarray
    ) -> np.ndarray:
        if self.src_ids is not None and self.tgt_ids is not None:
            of_src, of_tgt = self.src_ids, self.tgt_ids
            src, tgt = [of_src[s] for s in src], [of_tgt[t] for t in tgt]
        wanted = _keys(src, tgt)
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        if (missing := np.flatnonzero(self.keys[places] != wanted)).size:
            raise UsageError(
                f"{self.folder}: the pair of line {int(index[missing[0]]) + 1} is not in this "
                "cache, which was made from other text or with other vocabularies. Make a "
                "cache of the pairs that the student is trained on (seqkd cache)."
            )
        return places


def cache_teacher(
    folder: str | Path,
    model: Seq2Seq,
    params: Params,
    pairs: Encoded,
    *,
    teacher: str,
    k: int = 16,
    temperature: float = 1.0,
    tokens_per_batch: int = 2048,
    progress: str | None = "caching",
) -> TeacherCache:
    """Writes a teacher's top-k distributions over a corpus into sharded files, and opens them.

    Pairs that occur twice are kept once, in an order of their content. A shard appears in one piece
    or not at all; started again, the job goes on with the shards that are missing. Several workers
    may run this on one folder at once, and the files are the same bytes however many there were.

    Args:
      folder: for the shards.
      model: the teacher, an ensemble included.
      params: its parameters.
      pairs: in its vocabularies' ids.
      teacher: digest of its parameters; written into each shard's header.
      k: tokens kept of each distribution; at k = V all.
      temperature: that logits are divided by; the loss must ask for the same one.
      tokens_per_batch: padding included; V times a batch's sentences are held at once.
      progress: label of the progress bar; None for no bar.

    Raises:
      UsageError: there are no pairs, k is not between 1 and V, or the folder holds another cache.
    """
    folder = make_folder(folder)
    pairs, keys = _sorted(pairs)
    model, params = for_teaching(model, params)
    shards = -(-len(keys) // SHARD_PAIRS)
    header = {
        "teacher": teacher,
        "vocabulary": _vocabulary(model, params, pairs),
        "k": k,
        "temperature": float(temperature),
        "corpus": hashlib.sha256(keys.tobytes()).hexdigest(),
        "shards": shards,
    }
    whole: set[int] = set()
    # One plan for all shards, so that few programs are compiled.
    plan = plan_buckets(
        [len(s) for s in pairs.src],
        [len(t) for t in pairs.tgt],
        tokens_per_batch=tokens_per_batch,
    )

    def make(number: int) -> None:
        part = slice(number * SHARD_PAIRS, (number + 1) * SHARD_PAIRS)
        some = replace(pairs, src=pairs.src[part], tgt=pairs.tgt[part], index=pairs.index[part])
        shard, nats = _ask(model, params, some, keys[part], plan, header, bar)
        write_shard(
            folder / shard_name(number, shards), header | {"shard": number, "nats": nats}, shard
        )

    with tqdm(total=len(keys), desc=progress, unit="pair", disable=progress is None) as bar:
        work_through(
            folder,
            shards,
            lambda number: folder / shard_name(number, shards),
            lambda: complete_shards(folder, header, whole),
            make,
            bar,
            SHARD_PAIRS,
        )
    return open_teacher_cache(folder)


def open_teacher_cache(folder: str | Path) -> TeacherCache:
    """Opens a cache and checks every byte of it.

    Raises:
      FileNotFoundError: there is none in the folder.
      UsageError: a file is damaged or missing; the message names it.
    """
    folder = Path(folder)
    paths = shard_paths(folder)
    if not paths:
        raise FileNotFoundError(f"{folder}: has no teacher cache (no shard-*.topk).")
    read = [read_shard(path) for path in paths]
    common = made_by(read[0][0])
    for path, (header, _) in zip(paths, read, strict=True):
        require_alike(path, made_by(header), common)
    if missing := missing_shards({header["shard"] for header, _ in read}, common["shards"]):
        raise UsageError(
            f"{folder}: shards {missing} are missing; run the command that wrote the others again."
        )
    shards = tuple(shard for _, shard in read)
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
        mean_kl=sum(header["nats"] for header, _ in read) / tokens,
    )


def _keys(src: Iterable[np.ndarray], tgt: Iterable[np.ndarray]) -> np.ndarray:
    """Names of pairs by their content, [pairs] of KEY_BYTES."""

    def key(s: np.ndarray, t: np.ndarray) -> bytes:
        content = b"%d " % len(s) + np.concatenate([s.ravel(), t]).astype("<i4").tobytes()
        return hashlib.sha256(content).digest()[:KEY_BYTES]

    names = b"".join(key(s, t) for s, t in zip(src, tgt, strict=True))
    return np.frombuffer(names, f"S{KEY_BYTES}")


def _unpadded(ids: np.ndarray) -> np.ndarray:
    """The tokens of a sentence [S], or of one whose tokens are rows of ids, the word first."""
    return ids[(ids if ids.ndim == 1 else ids[:, 0]) != PAD]


def _sorted(pairs: Encoded) -> tuple[Encoded, np.ndarray]:
    """Each different pair once, in the order of its name; with the names."""
    if not pairs.src:
        raise UsageError("A cache needs sentence pairs, and there are none.")
    keys, places = np.unique(_keys(pairs.src, pairs.tgt), return_index=True)
    # The places serve as names of rows: what is made depends on nothing but the content.
    src, tgt = [pairs.src[n] for n in places], [pairs.tgt[n] for n in places]
    return replace(pairs, src=src, tgt=tgt, index=np.arange(len(keys), dtype=np.int32)), keys


def _vocabulary(model: Seq2Seq, params: Params, pairs: Encoded) -> int:
    def logits(params: Params) -> Array:
        hidden = model.hidden(params, pairs.src[0], pairs.tgt[0])
        return model.project(params, jax.tree.map(lambda h: h[0], hidden))

    return jax.eval_shape(logits, params).shape[0]


@functools.lru_cache(maxsize=8)
def _asker(model: Seq2Seq, k: int, temperature: float):
    """Compiles (params, src [B, S], tgt [B, T]) -> TopK of [B, T, k], sum of q log q [B, T]."""

    def one(params: Params, src: Array, tgt: Array):
        def of_token(hidden: Any) -> tuple[TopK, Array]:
            logits = model.project(params, hidden).astype(jnp.float32)
            q = jax.nn.softmax(logits / temperature)
            return top_k(logits, k, temperature), jax.scipy.special.xlogy(q, q).sum()

        # Position by position: V times the sentences of a batch exist at once, not its tokens.
        return lax.map(of_token, model.hidden(params, src, tgt))

    return pmap_rows(jax.vmap(one, (None, 0, 0)))


def _log_probs(distances: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Log-probabilities [..., k] that add up to what the rest leaves."""
    distances = distances.astype(np.float32)
    listed = np.log(np.exp(distances).sum(-1)) - np.log1p(-np.exp(rest))
    return distances - listed[..., None]


def _kl(log_probs: np.ndarray, rest: np.ndarray, kept: np.ndarray, others: int) -> np.ndarray:
    """The part of KL that sees what is kept, [tokens]; the rest is spread over ``others``."""
    listed = (np.exp(log_probs) * kept).sum(-1)
    mass = np.exp(rest)
    return -listed - np.where(
        mass > 0, mass * (np.maximum(rest, FARTHEST) - np.log(max(1, others))), 0
    )


def _ask(model, params, pairs: Encoded, keys, plan, header, bar) -> tuple[Shard, float]:
    """Lets the teacher run over the pairs of a shard."""
    k, vocabulary = header["k"], header["vocabulary"]
    run = _asker(model, k, header["temperature"])
    found: list[Any] = [None] * len(keys)
    first = int(pairs.index[0])
    for batch in batches(pairs, plan, seed=0, epoch=None):
        columns = jax.tree.leaves(run(params, batch.src, batch.tgt))
        for row, index in enumerate(np.asarray(batch.index)):
            if index >= 0:
                size = len(pairs.tgt[index - first])
                found[index - first] = [column[row, :size] for column in columns]
        bar.update(int((batch.index >= 0).sum()))
    ids, log_probs, rest, q_log_q = (np.concatenate(column) for column in zip(*found, strict=True))
    # Rounded here: inside the program it would keep XLA for CPUs from its fast top-k.
    distances = np.maximum(log_probs - log_probs[:, :1], FARTHEST).astype(np.float16)
    nats = q_log_q + _kl(log_probs, rest, _log_probs(distances, rest), vocabulary - k)
    lengths = np.array([len(t) for t in pairs.tgt])
    return Shard(keys, lengths, rest, ids, distances), float(nats.sum(dtype=np.float64))
