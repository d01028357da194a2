"""The training loop: epochs, validation, best parameters, checkpoints, exact resumption.

A run has its own folder and one writer. If it is killed at any moment and started again with the
same arguments, it ends with the same bits as a run that was never stopped: the data order is a
function of (seed, epoch), dropout of (key, step, sentence), and the checkpoint holds the rest.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import stopping
from ..addresses import PathLike, as_path, is_local
from ..base import Array, Example, Params
from ..errors import UsageError
from ..files import LOCK, lock_folder, make_folder
from ..parallel import local, pmap_step, replicate, shard
from ..processes import first_in_turn, is_first, together
from ..progress import Bar
from .checkpoint import Checkpoints
from .metrics import Log, OnRecord, Window
from .state import TrainState
from .steps import TrainStep

LOG_EVERY = 50  # steps summarised in one line of metrics.jsonl
SHOW_EVERY = 10  # steps after which the progress bar shows their loss
SHOWN = {"bleu": "BLEU"}  # what it shows of a validation


class TrainingDiverged(UsageError):
    """A loss, a gradient or all validations were not finite; checkpoints are from before that."""


@dataclass(frozen=True)
class Progress:
    """The progress of a run; saved as JSON with each state."""

    epoch: int = 0  # epochs done, validation included
    batch: int = 0  # batches done in the current epoch
    best: int | None = None  # number of the checkpoint with the best parameters
    best_step: int | None = None  # its step
    best_score: float | None = None  # None if it was not finite
    best_perplexity: float | None = None
    since_best: int = 0  # validations since then
    seconds: float = 0.0  # spent in training steps, over all starts of the run
    validations: tuple[dict[str, Any], ...] = ()  # metrics of each epoch
    recent: tuple[int, ...] = ()  # numbers of the checkpoints after the last validations
    averaged: bool = False  # whether their mean has been validated

    @classmethod
    def of_meta(cls, path: Path, meta: dict[str, Any]) -> "Progress":
        """Returns the progress that a checkpoint's metadata hold; UsageError if they do not."""
        try:
            fields: dict[str, Any] = {name: value for name, value in meta.items() if name != "key"}
            fields["validations"] = tuple(meta["validations"])
            fields["recent"] = tuple(meta["recent"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"{path}: the progress of the run cannot be read from its checkpoints: {error}."
            ) from None


# (progress, updates done, metrics) after a validation
OnValidation = Callable[[Progress, int, dict[str, Any]], None]


@dataclass(frozen=True)
class Fitted:
    """The outcome of a run: its best parameters, and its progress."""

    params: Params
    progress: Progress
    validations: list[dict[str, Any]]  # metrics of each epoch, as in metrics.jsonl


def fit(
    folder: PathLike,
    step: TrainStep,
    state: TrainState,
    *,
    batches: Callable[[int, int], Iterator[Example]],
    batches_per_epoch: int,
    validate: Callable[[Params], dict[str, Any]],
    epochs: int,
    key: Array,
    teacher_params: Params = None,
    patience: int | None = None,
    checkpoint_every: int = 500,
    average_last: int = 1,
    on_validation: "OnValidation" = lambda progress, step, metrics: None,
    log: OnRecord | None = None,
) -> Fitted:
    """Trains for ``epochs``, or until ``patience`` validations in a row bring no improvement.

    An epoch ends with a validation; it need not be a pass over the data.

    If the command line has installed its handlers (``stopping.handlers``), SIGINT and SIGTERM end
    the run after the current step, with a checkpoint. Several processes, which must see the same
    folder, train together: process 0 writes, and all stop after the same step.

    Args:
      folder: of the run, which is resumed if the folder holds checkpoints. ``metrics.jsonl`` is
        written there, for people and plots; it is never read back.
      step: from ``make_train_step``.
      state: initial state, used if there is nothing to resume.
      batches: (epoch, start) -> the epoch's batches from index ``start`` on; a pure function. Of
        several processes, each yields its own rows (``parallel.own_rows``).
      batches_per_epoch: number of batches in one epoch.
      validate: params -> metrics, the same in all processes; ``score`` decides which parameters
        are best (higher is better), and ``perplexity`` (lower is better) breaks ties. The optimiser
        sees ``perplexity`` as well. Metrics that are not numeric (JSON) are only logged.
      epochs: in total.
      key: of the run; dropout folds step and sentence into it.
      teacher_params: for losses that compare with a teacher.
      patience: validations in a row without improvement that end the run; None for no limit.
      checkpoint_every: number of steps; the end of an epoch is always saved, before and after
        validation.
      average_last: at the end, the mean of the parameters after this many of the last validations
        is validated as well, and kept if it is the best; 1 for none.
      on_validation: is called with the progress, the number of updates and the metrics after each
        validation, in every process.
      log: is called with each record that is written to ``metrics.jsonl``, in process 0, such as
        ``{"step": 50, "train": {"loss": 3.2, ...}}`` and ``{"step": 300, "epoch": 1, "valid":
        {"bleu": 12.3, ...}}``: for TensorBoard, Weights & Biases and the like.

    Returns:
      The parameters with the best score, as saved on disk.

    Raises:
      TrainingDiverged: a loss or gradient was not finite.
      UsageError: the folder holds another model or a longer run, another process is writing to
        it, or an epoch has another number of batches than ``batches_per_epoch``.
      OSError: a checkpoint could not be written; earlier ones are intact.
      stopping.Stopped: a signal asked the process to end.
    """
    folder = as_path(folder).absolute()
    with _only_writer(folder), Checkpoints(folder / "checkpoints") as checkpoints:
        like, progress = state, Progress()
        with first_in_turn():  # process 0 also removes what is damaged
            restored = checkpoints.restore(like)
        if restored:
            state, meta = restored
            progress = _resumed(checkpoints.folder, meta, key)
        run = _Run(
            checkpoints=checkpoints,
            log=Log(folder / "metrics.jsonl", int(state.step), progress.epoch, log),
            step=pmap_step(step),
            key=key,
            batches=batches,
            batches_per_epoch=batches_per_epoch,
            validate=validate,
            epochs=epochs,
            patience=patience,
            checkpoint_every=checkpoint_every,
            average_last=average_last,
            teacher_params=teacher_params,
            on_validation=on_validation,
        )
        run.check(progress)
        if not run.is_over(progress):
            with together():
                run.train(state, progress)
        with first_in_turn():  # process 0 may still be writing, and numbers what it writes
            newest = checkpoints.newest()
            assert newest is not None
            progress = Progress.of_meta(checkpoints.folder, newest[1].meta)
            assert progress.best is not None
            params = checkpoints.restore_params(progress.best, like.params)
        return Fitted(params, progress, list(progress.validations))


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Locks the folder of a run; of several processes, process 0 does, for all of them."""
    with contextlib.ExitStack() as stack:
        with first_in_turn():
            if is_first():
                make_folder(folder)
                stack.enter_context(lock_folder(folder))
            elif is_local(folder) and not (folder / LOCK).exists():
                raise UsageError(
                    f"{folder}: process {jax.process_index()} does not see what process 0 writes "
                    "there. Give all processes the same folder, on a disk that they share."
                )
        yield


def _resumed(path: Path, meta: dict[str, Any], key: Array) -> Progress:
    if meta.get("key") != _key_as_json(key):
        raise UsageError(f"{path}: the run there has another seed (key). Choose another folder.")
    return Progress.of_meta(path, meta)


def _key_as_json(key: Array) -> list[int]:
    """Returns a key, typed or raw, as JSON."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.device_get(jax.random.key_data(key) if typed else key).ravel().tolist()


@dataclass(frozen=True)
class _Run:
    """The arguments of a run, and its methods; see ``fit``."""

    checkpoints: Checkpoints
    log: Log
    step: Callable[..., tuple[TrainState, dict[str, Array]]]
    key: Array
    batches: Callable[[int, int], Iterator[Example]]
    batches_per_epoch: int
    validate: Callable[[Params], dict[str, Any]]
    epochs: int
    patience: int | None
    checkpoint_every: int
    average_last: int
    teacher_params: Params
    on_validation: OnValidation

    def check(self, progress: Progress) -> None:
        """Raises UsageError if the run in the folder cannot be continued with these settings."""
        if progress.epoch > self.epochs:
            raise UsageError(
                f"{self.checkpoints.folder}: {progress.epoch} epochs have been trained there, but "
                f"epochs is {self.epochs} now. Choose another folder, or train for longer."
            )
        if progress.averaged and not self.is_trained(progress):
            raise UsageError(
                f"{self.checkpoints.folder}: the run there has ended with the mean of its last "
                "checkpoints, and training cannot go on from a mean. Choose another folder."
            )

    def is_over(self, progress: Progress) -> bool:
        """Returns whether nothing is left to be done."""
        return self.is_trained(progress) and (self.average_last == 1 or progress.averaged)

    def is_trained(self, progress: Progress) -> bool:
        """Returns whether all epochs are done, or patience has run out."""
        out_of_patience = self.patience is not None and progress.since_best >= self.patience
        return progress.epoch >= self.epochs or out_of_patience

    def train(self, state: TrainState, progress: Progress) -> None:
        """Trains and validates epoch by epoch; the last checkpoint holds the progress."""
        state = replicate(jax.tree.map(jnp.asarray, state))
        teacher_params = replicate(self.teacher_params)
        bar = Bar(
            total=self.epochs * self.batches_per_epoch,
            initial=int(state.step),
            desc=self.checkpoints.folder.parent.name if is_first() else None,
        )
        with bar:
            while not self.is_trained(progress):
                if progress.batch < self.batches_per_epoch:
                    with stopping.deferred():
                        state, progress = self.train_epoch(state, progress, teacher_params, bar)
                        self.save(state, progress)  # a stop during validation loses no steps
                bar.doing = "validating"
                metrics = self.validate(local(state.params))
                bar.doing = ""
                bar.show(**{name: metrics[key] for key, name in SHOWN.items() if key in metrics})
                with stopping.deferred():
                    state, progress = _after_epoch(state, progress, metrics)
                    progress = self.record_validation(state, progress, metrics)
                self.on_validation(progress, int(state.step), metrics)
            if not self.is_over(progress):
                bar.doing = "averaging"
                self.average(state)

    def train_epoch(
        self, state: TrainState, progress: Progress, teacher_params: Params, bar: Bar
    ) -> tuple[TrainState, Progress]:
        """Trains on the rest of an epoch; reads a step's metrics after the next is dispatched."""
        previous, window = None, Window()
        started, at_start = time.monotonic(), progress.seconds
        for batch in self.batches(progress.epoch, progress.batch):
            if progress.batch == self.batches_per_epoch:
                raise self.other_number("more")
            stop = stopping.requested() is not None
            state, metrics = self.step(state, shard(batch), self.key, teacher_params, stop)
            progress = replace(progress, batch=progress.batch + 1)
            self.read_metrics(previous, window, bar)
            # Several processes stop one step after the one whose metrics say so to all of them.
            if jax.process_count() > 1:
                stop = previous is not None and float(previous["stop"]) > 0
            previous = metrics | {"step": bar.n + 1}
            # At the end of the epoch, ``train`` saves.
            epoch_goes_on = progress.batch < self.batches_per_epoch
            if stop or (epoch_goes_on and progress.batch % self.checkpoint_every == 0):
                previous = self.read_metrics(previous, window, bar)
                progress = replace(progress, seconds=at_start + time.monotonic() - started)
                self.save(state, progress)
            if stop:
                self.checkpoints.finish()
                raise stopping.Stopped(stopping.requested() or signal.SIGTERM)
        self.read_metrics(previous, window, bar)
        if progress.batch < self.batches_per_epoch:
            raise self.other_number(f"{progress.batch:,}")
        return state, replace(progress, seconds=at_start + time.monotonic() - started)

    def other_number(self, found: str) -> UsageError:
        """Returns the error of an epoch that has another number of batches than was said."""
        return UsageError(
            f"batches_per_epoch is {self.batches_per_epoch:,}, but batches yields {found}. Let it "
            "yield as many as data.number_of_batches counts, or islice(batches, batches_per_epoch)."
        )

    def read_metrics(self, metrics: dict[str, Any] | None, window: Window, bar: Bar) -> None:
        """Waits for a step's metrics and logs them; TrainingDiverged if they are not finite."""
        if metrics is None:
            return
        step = metrics["step"]
        metrics = {name: float(value) for name, value in metrics.items()}
        if not metrics["finite"]:
            newest = self.checkpoints.newest()
            last = "there is no checkpoint yet"
            if newest is not None:
                where = self.checkpoints.folder
                last = f"the last good checkpoint, in {where}, is that of step {newest[1].step}"
            raise TrainingDiverged(
                f"Step {step}: loss {metrics['loss']:.4g}, gradient norm "
                f"{metrics['gradient_norm']:.4g}. This step was discarded; {last}. A lower "
                "learning rate or stronger clipping usually helps; if the model computes in "
                "bfloat16, a run in float32 shows whether its precision is the cause."
            )
        bar.update()
        window.add(metrics)
        if step % SHOW_EVERY == 0:
            bar.show(loss=window.summary()["loss"])
        if step % LOG_EVERY == 0:
            self.log.write(step, train=window.summary())
            window.clear()

    def average(self, state: TrainState) -> None:
        """Validates the mean of the parameters after the last validations, and saves it if best."""
        with first_in_turn():
            self.checkpoints.finish()  # process 0 knows the numbers of what it has written
            newest = self.checkpoints.newest()
            assert newest is not None
            progress = Progress.of_meta(self.checkpoints.folder, newest[1].meta)
        like = local(state.params)
        each = [self.checkpoints.restore_params(number, like) for number in progress.recent]
        mean = jax.tree.map(lambda *arrays: np.mean(arrays, axis=0, dtype=np.float32), *each)
        metrics = self.validate(jax.tree.map(jnp.asarray, mean))
        state = replicate(replace(local(state), params=mean))
        with stopping.deferred():
            progress = self.record_validation(state, replace(progress, averaged=True), metrics)
        self.on_validation(progress, int(state.step), metrics)

    def record_validation(
        self, state: TrainState, progress: Progress, metrics: dict[str, Any]
    ) -> Progress:
        """Records a validation, and saves the state, as the best so far if it is that."""
        number = self.checkpoints.next_number
        progress, best = _update_best(progress, metrics)
        if best:
            progress = replace(progress, best=number, best_step=int(state.step))
        progress = replace(progress, recent=(*progress.recent, number)[-self.average_last :])
        self.log.write(
            int(state.step), epoch=progress.epoch, seconds=progress.seconds, valid=metrics
        )
        self.save(state, progress)
        return progress

    def save(self, state: TrainState, progress: Progress) -> None:
        """Saves in the background."""
        if is_first():
            meta = asdict(progress) | {"key": _key_as_json(self.key)}
            recent = progress.recent if self.average_last > 1 else ()
            keep = {*recent, *(() if progress.best is None else (progress.best,))}
            self.checkpoints.save(state, meta, keep)


def _after_epoch(
    state: TrainState, progress: Progress, metrics: dict[str, Any]
) -> tuple[TrainState, Progress]:
    """Returns what the next epoch begins with; the optimiser sees the validation."""
    progress = replace(progress, epoch=progress.epoch + 1, batch=0)
    perplexity = jnp.float32(min(metrics["perplexity"], float(np.finfo(np.float32).max)))
    epoch = jnp.int32(progress.epoch)
    return replicate(replace(local(state), epoch=epoch, perplexity=perplexity)), progress


def _update_best(progress: Progress, metrics: dict[str, Any]) -> tuple[Progress, bool]:
    """Records a validation, and returns whether it is the best so far."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, Real)}
    finite = {name: _finite(value) for name, value in numbers.items()}
    score, perplexity = finite["score"], finite["perplexity"]
    best = progress.best is None or _rank(score, perplexity) > _rank(
        progress.best_score, progress.best_perplexity
    )
    if best:
        progress = replace(progress, best_score=score, best_perplexity=perplexity)
    if not progress.averaged:  # the mean of checkpoints says nothing about how training goes
        progress = replace(progress, since_best=0 if best else progress.since_best + 1)
    validations = (*progress.validations, finite | {"epoch": progress.epoch})
    return replace(progress, validations=validations), best


def _rank(score: float | None, perplexity: float | None) -> tuple[float, float]:
    """Returns a sort key: by score, then by lower perplexity; None is worst."""
    worst = -math.inf
    return worst if score is None else score, worst if perplexity is None else -perplexity


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
