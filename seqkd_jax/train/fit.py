"""The training loop: epochs, validation, the best parameters, checkpoints, exact resume.

A run lives in one folder and has one writer. Killed at any moment and started again with the
same arguments, it ends with the same bits as a run that was never stopped: the data order is a
function of (seed, epoch), dropout of (key, step, sentence), and all else is in the checkpoint.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from ..base import Array, Example, Params
from ..errors import UsageError
from ..files import atomic_write, claim
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

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done of the epoch that is under way
    best_step: int | None = None  # step whose parameters had the best score
    best_score: float | None = None
    since_best: int = 0  # validations since then
    seconds: float = 0.0  # spent in training steps, all starts together
    done: bool = False


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

    Args:
      folder: of the run; resumed from if it holds checkpoints. ``metrics.jsonl`` goes there.
      step: from ``make_train_step``.
      state: to start from, if there is nothing to resume.
      batches: (epoch, start) -> the epoch's batches from number ``start`` on; a pure function.
      batches_per_epoch: how many there are in one epoch.
      validate: params -> metrics; ``score`` decides which parameters are best (higher is
        better), ``perplexity`` is handed to the optimiser.
      epochs: in all.
      key: of the run; dropout folds step and sentence into it.
      teacher_params: for losses that compare with a teacher.
      patience: validations without a better score before the run ends; None for no limit.
      checkpoint_every: steps; the end of an epoch is always saved.

    Returns:
      The parameters with the best score.

    Raises:
      TrainingDiverged: a loss or gradient was not finite.
      UsageError: the folder holds another model, or another process is writing to it.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with claim(folder), Checkpoints(folder / "checkpoints") as checkpoints:
        like, progress = state, Progress()
        if restored := checkpoints.restore(like):
            state, progress = restored[0], Progress(**restored[1])
        log = _Log(folder / "metrics.jsonl", int(state.step))
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
        assert progress.best_step is not None
        params = checkpoints.restore_params(progress.best_step, like.params)
        return Fitted(params, progress, log.validations())


@dataclass(frozen=True)
class _Run:
    checkpoints: Checkpoints
    log: "_Log"
    step: Callable[..., tuple[TrainState, dict[str, Array]]]
    key: Array
    checkpoint_every: int

    def save(self, state: TrainState, progress: Progress) -> None:
        best = {progress.best_step} if progress.best_step is not None else set()
        if jax.process_index() == 0:
            self.checkpoints.save(state, asdict(progress), keep=best)


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
        while progress.epoch < epochs:
            state, progress = _one_epoch(run, state, progress, batches, teacher_params, bar)
            bar.set_postfix_str("validating")
            metrics = validate(state.params)
            state, progress = _judge(state, progress, metrics, epochs, patience)
            run.log.write(
                int(state.step), epoch=progress.epoch, seconds=progress.seconds, valid=metrics
            )
            run.save(state, progress)
            if progress.done:
                break
    return progress


def _one_epoch(run, state, progress, batches, teacher_params, bar):
    """Trains on the rest of an epoch. Metrics of a step are read after the next was sent off."""
    before, window = None, _Window()
    started, at_start = time.monotonic(), progress.seconds
    for batch in batches(progress.epoch, progress.batch):
        state, metrics = run.step(state, shard(batch), run.key, teacher_params)
        progress = replace(progress, batch=progress.batch + 1)
        _read(run, before, window, bar)
        before = metrics | {"step": bar.n + 1}
        if progress.batch % run.checkpoint_every == 0:
            before = _read(run, before, window, bar)
            progress = replace(progress, seconds=at_start + time.monotonic() - started)
            run.save(state, progress)
    _read(run, before, window, bar)
    return state, replace(progress, seconds=at_start + time.monotonic() - started)


def _read(run: _Run, metrics: dict[str, Any] | None, window: "_Window", bar: tqdm) -> None:
    if metrics is None:
        return
    step = metrics["step"]
    metrics = {name: float(value) for name, value in metrics.items()}
    if not metrics["finite"]:
        newest = run.checkpoints.newest()
        last = "there is none yet" if newest is None else f"is that of step {newest}"
        raise TrainingDiverged(
            f"Step {step}: loss {metrics['loss']:.4g}, gradient norm "
            f"{metrics['gradient_norm']:.4g}. Nothing of this step was kept; the last good "
            f"checkpoint ({run.checkpoints.folder}) {last}. A lower learning rate or stronger "
            "clipping usually helps; training bfloat16 in float32 shows whether it is precision."
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


def _judge(state, progress, metrics, epochs, patience):
    """Books a validation: the best score so far, and whether the run is over."""
    epoch = progress.epoch + 1
    state = state.replace(epoch=jnp.int32(epoch), perplexity=jnp.float32(metrics["perplexity"]))
    state = replicate(state)
    if progress.best_score is None or metrics["score"] > progress.best_score:
        progress = replace(
            progress, best_score=metrics["score"], best_step=int(state.step), since_best=0
        )
    else:
        progress = replace(progress, since_best=progress.since_best + 1)
    tired = patience is not None and progress.since_best >= patience
    return state, replace(progress, epoch=epoch, batch=0, done=epoch >= epochs or tired)


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
    """``metrics.jsonl``: a JSON object a line; those from after the resumed step are taken out."""

    def __init__(self, path: Path, step: int):
        self.path = path
        kept = [line for line in self._records() if line["step"] <= step]
        atomic_write(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def _records(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        records = []
        for line in self.path.read_bytes().split(b"\n"):
            try:
                records.append(json.loads(line))
            except ValueError:
                continue  # a line that was cut off when the run was killed
        return records

    def write(self, step: int, **record: Any) -> None:
        if jax.process_index() == 0:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **record}) + "\n")

    def validations(self) -> list[dict[str, Any]]:
        return [r["valid"] | {"epoch": r["epoch"]} for r in self._records() if "valid" in r]
