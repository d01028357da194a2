"""The training loop: epochs, validation, the best parameters, checkpoints, exact resume.

A run lives in one folder and has one writer. Killed at any moment and started again with the
same arguments, it ends with the same bits as a run that was never stopped: the data order is a
function of (seed, epoch), dropout of (key, step, sentence), and all else is in the checkpoint.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from .. import stopping
from ..base import Array, Example, Params
from ..errors import UsageError
from ..files import atomic_write, claim
from ..sealed import parse_json
from .checkpoint import Checkpoints
from .parallel import pmap_step, replicate, shard
from .state import TrainState
from .steps import TrainStep

LOG_EVERY = 50  # steps summed up in one line of metrics.jsonl


class TrainingDiverged(UsageError):
    """The loss or its gradient is not finite; the last checkpoint is from before."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands; saved as JSON beside each state."""

    epoch: int = 0  # epochs done, validation included
    batch: int = 0  # batches done of the epoch that is under way
    best: int | None = None  # number of the checkpoint whose parameters were best
    best_step: int | None = None  # its step
    best_score: float | None = None  # None where it was no number
    best_perplexity: float | None = None
    since_best: int = 0  # validations since then
    seconds: float = 0.0  # spent in training steps, all starts together
    done: bool = False
    validations: tuple[dict[str, Any], ...] = ()  # metrics of each epoch

    @classmethod
    def of_meta(cls, path: Path, meta: dict[str, Any]) -> "Progress":
        """Reads what ``asdict`` made of it; raises UsageError if that was something else."""
        try:
            fields: dict[str, Any] = {name: value for name, value in meta.items() if name != "key"}
            fields["validations"] = tuple(meta["validations"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"{path}: the progress of the run cannot be read from its checkpoints: {error}."
            ) from None


@dataclass(frozen=True)
class Fitted:
    """The outcome of a run: the best parameters, and how it went."""

    params: Params
    progress: Progress
    validations: list[dict[str, Any]]  # one record an epoch, as in metrics.jsonl


def fit(
    folder: str | Path,
    step: TrainStep,
    state: TrainState,
    *,
    batches: Callable[[int, int], Iterator[Example]],
    batches_per_epoch: int,
    validate: Callable[[Params], dict[str, float]],
    epochs: int,
    key: Array,
    teacher_params: Params = None,
    patience: int | None = None,
    checkpoint_every: int = 500,
) -> Fitted:
    """Trains until ``epochs`` are done or ``patience`` validations brought nothing better.

    Where the command line has asked for it (``stopping.handlers``), SIGINT and SIGTERM are obeyed
    after the step that is under way, with a checkpoint.

    Args:
      folder: of the run; resumed from if it holds checkpoints. ``metrics.jsonl`` goes there, for
        people and plots; nothing is read back from it.
      step: from ``make_train_step``.
      state: to start from, if there is nothing to resume.
      batches: (epoch, start) -> the epoch's batches from number ``start`` on; a pure function.
      batches_per_epoch: how many there are in one epoch.
      validate: params -> metrics; ``score`` decides which parameters are best (higher is
        better), and ``perplexity`` (lower is better) where scores are equal. It is also handed to
        the optimiser.
      epochs: in all.
      key: of the run; dropout folds step and sentence into it.
      teacher_params: for losses that compare with a teacher.
      patience: validations without better parameters before the run ends; None for no limit.
      checkpoint_every: steps; the end of an epoch is always saved, before and after validation.

    Returns:
      The parameters with the best score, as they are on disk.

    Raises:
      TrainingDiverged: a loss or gradient was not finite.
      UsageError: the folder holds another model or a longer run, or another process is writing to
        it.
      OSError: a checkpoint could not be written; those before it are whole.
      stopping.Stopped: a signal asked for it.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with claim(folder), Checkpoints(folder / "checkpoints") as checkpoints:
        like, progress = state, Progress()
        if restored := checkpoints.restore(like):
            state = restored[0]
            progress = _resumed(checkpoints.folder, restored[1], epochs, patience, key)
        log = _Log(folder / "metrics.jsonl", int(state.step), progress.epoch)
        if not progress.done:
            run = _Run(checkpoints, log, pmap_step(step), key, checkpoint_every)
            state = replicate(jax.tree.map(jnp.asarray, state))
            progress = _epochs(
                run,
                state,
                progress,
                batches,
                batches_per_epoch,
                validate,
                epochs,
                patience,
                replicate(teacher_params),
            )
        assert progress.best is not None
        params = checkpoints.restore_params(progress.best, like.params)
        return Fitted(params, progress, list(progress.validations))


def _resumed(
    path: Path, meta: dict[str, Any], epochs: int, patience: int | None, key: Array
) -> Progress:
    """The progress of a run that goes on; ``epochs`` and ``patience`` may be others than before."""
    if meta.get("key") != _written(key):
        raise UsageError(f"{path}: the run there has another seed (key). Choose another folder.")
    progress = Progress.of_meta(path, meta)
    if progress.epoch > epochs:
        raise UsageError(
            f"{path}: {progress.epoch} epochs have been trained there, but epochs is {epochs} "
            "now. Choose another folder, or raise --epochs (epochs)."
        )
    return replace(progress, done=_over(progress, epochs, patience))


def _over(progress: Progress, epochs: int, patience: int | None) -> bool:
    tired = patience is not None and progress.since_best >= patience
    return progress.epoch >= epochs or tired


def _written(key: Array) -> list[int]:
    """A key, typed or raw, as JSON."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.device_get(jax.random.key_data(key) if typed else key).ravel().tolist()


@dataclass(frozen=True)
class _Run:
    checkpoints: Checkpoints
    log: "_Log"
    step: Callable[..., tuple[TrainState, dict[str, Array]]]
    key: Array
    checkpoint_every: int

    def save(self, state: TrainState, progress: Progress, best: bool = False) -> Progress:
        """Saves in the background; ``best`` makes this the best checkpoint so far."""
        if best:
            number = self.checkpoints.next_number
            progress = replace(progress, best=number, best_step=int(state.step))
        if jax.process_index() == 0:
            meta = asdict(progress) | {"key": _written(self.key)}
            keep = () if progress.best is None else (progress.best,)
            self.checkpoints.save(state, meta, keep)
        return progress

    def stop(self) -> None:
        """Waits until all is on disk, and raises what the signal stands for."""
        self.checkpoints.finish()
        raise stopping.Stopped(stopping.requested() or signal.SIGINT)


def _epochs(
    run, state, progress, batches, batches_per_epoch, validate, epochs, patience, teacher_params
) -> Progress:
    bar = tqdm(
        total=epochs * batches_per_epoch,
        initial=int(state.step),
        desc=run.checkpoints.folder.parent.name,
        unit="step",
        disable=jax.process_index() != 0,
        dynamic_ncols=True,
        mininterval=1,
    )
    with bar:
        while not progress.done:
            if progress.batch < batches_per_epoch:
                with stopping.deferred():
                    state, progress = _one_epoch(
                        run, state, progress, batches, batches_per_epoch, teacher_params, bar
                    )
                    run.save(state, progress)  # who stops during validation loses no more
            bar.set_postfix_str("validating")
            metrics = validate(state.params)
            with stopping.deferred():
                state, progress, best = _judge(state, progress, metrics)
                progress = replace(progress, done=_over(progress, epochs, patience))
                run.log.write(
                    int(state.step), epoch=progress.epoch, seconds=progress.seconds, valid=metrics
                )
                progress = run.save(state, progress, best)
    return progress


def _one_epoch(run, state, progress, batches, batches_per_epoch, teacher_params, bar):
    """Trains on the rest of an epoch. Metrics of a step are read after the next was sent off."""
    before, window = None, _Window()
    started, at_start = time.monotonic(), progress.seconds
    for batch in batches(progress.epoch, progress.batch):
        state, metrics = run.step(state, shard(batch), run.key, teacher_params)
        progress = replace(progress, batch=progress.batch + 1)
        _read(run, before, window, bar)
        before = metrics | {"step": bar.n + 1}
        # Several processes would have to agree here on whether one of them was asked.
        stop = stopping.requested() is not None
        # At the end of the epoch ``_epochs`` saves.
        due = progress.batch % run.checkpoint_every == 0 and progress.batch < batches_per_epoch
        if due or stop:
            before = _read(run, before, window, bar)
            progress = replace(progress, seconds=at_start + time.monotonic() - started)
            run.save(state, progress)
        if stop:
            run.stop()
    _read(run, before, window, bar)
    return state, replace(progress, seconds=at_start + time.monotonic() - started)


def _read(run: _Run, metrics: dict[str, Any] | None, window: "_Window", bar: tqdm) -> None:
    if metrics is None:
        return
    step = metrics["step"]
    metrics = {name: float(value) for name, value in metrics.items()}
    if not metrics["finite"]:
        newest = run.checkpoints.newest()
        last = "there is no checkpoint yet"
        if newest is not None:
            where = run.checkpoints.folder
            last = f"the last good checkpoint, in {where}, is that of step {newest[1].step}"
        raise TrainingDiverged(
            f"Step {step}: loss {metrics['loss']:.4g}, gradient norm "
            f"{metrics['gradient_norm']:.4g}. Nothing of this step was kept; {last}. A lower "
            "learning rate or stronger clipping usually helps; training bfloat16 in float32 "
            "shows whether it is precision."
        )
    bar.update()
    window.add(metrics)
    if step % LOG_EVERY == 0:
        summary = window.summary()
        bar.set_postfix_str(
            f"loss {summary['loss']:.3f}, {summary['tokens_per_second']:,.0f} tok/s"
        )
        run.log.write(step, train=summary)
        window.clear()


def _judge(
    state: TrainState, progress: Progress, metrics: dict[str, float]
) -> tuple[TrainState, Progress, bool]:
    """Books a validation, and says whether these parameters are the best so far."""
    epoch = progress.epoch + 1
    perplexity = jnp.float32(metrics["perplexity"])
    state = replicate(replace(state, epoch=jnp.int32(epoch), perplexity=perplexity))
    finite = {name: _finite(value) for name, value in metrics.items()}
    score, perplexity = finite["score"], finite["perplexity"]
    best = progress.best is None or _merit(score, perplexity) > _merit(
        progress.best_score, progress.best_perplexity
    )
    if best:
        progress = replace(progress, best_score=score, best_perplexity=perplexity, since_best=0)
    else:
        progress = replace(progress, since_best=progress.since_best + 1)
    validations = (*progress.validations, finite | {"epoch": epoch})
    return state, replace(progress, epoch=epoch, batch=0, validations=validations), best


def _merit(score: float | None, perplexity: float | None) -> tuple[float, float]:
    """What is better compares greater: the score, and of equal ones the lower perplexity."""
    worst = -math.inf
    return worst if score is None else score, worst if perplexity is None else -perplexity


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class _Window:
    """Sums of the metrics of a few steps: sums and counts, never means of means."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.nats = self.tokens = self.norm = 0.0
        self.steps, self.started = 0, time.monotonic()

    def add(self, metrics: dict[str, float]) -> None:
        self.nats += metrics["loss"] * metrics["tokens"]
        self.tokens += metrics["tokens"]
        self.norm += metrics["gradient_norm"]
        self.steps += 1

    def summary(self) -> dict[str, float]:
        return {
            "loss": self.nats / self.tokens,
            "gradient_norm": self.norm / self.steps,
            "tokens_per_second": self.tokens / (time.monotonic() - self.started),
        }


class _Log:
    """``metrics.jsonl``: a JSON object a line; those from after the resumed state are taken out."""

    def __init__(self, path: Path, step: int, epochs: int):
        self.path = path
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        kept = [line + b"\n" for line in lines if _is_until(line, step, epochs)]
        atomic_write(path, b"".join(kept))

    def write(self, step: int, **record: Any) -> None:
        if jax.process_index() == 0:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **record}) + "\n")


def _is_until(line: bytes, step: int, epochs: int) -> bool:
    """Whether a line of the log is whole, and not from after a state."""
    try:
        record = parse_json(line)
        return record["step"] <= step and record.get("epoch", 0) <= epochs
    except (ValueError, TypeError, KeyError, AttributeError):
        return False  # cut off when the run was killed, or edited
