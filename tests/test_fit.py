import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import MODEL, example, largest_difference, params

from seqkd_jax.addresses import as_path
from seqkd_jax.train.checkpoint import Checkpoints
from seqkd_jax.train.loop import Progress, TrainingDiverged, fit, lock_folder
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_train_step
from seqkd_jax.trained import params_digest

TX = clipped_adam(1e-2)
STEP = make_train_step(MODEL, TX)
PER_EPOCH = 5
SLOW = pytest.mark.slow


def start():
    return init_state(MODEL, TX, jax.random.key(0), params())


def batches(epoch, first):
    return (example(100 * epoch + n) for n in range(first, PER_EPOCH))


def improving(p):
    return {"perplexity": 3.0, "score": float(np.abs(p.generator.bias).sum())}


def run(folder, step=STEP, epochs=3, state=None, **changes):
    settings = {"validate": improving, "batches": batches, "checkpoint_every": 2, **changes}
    return fit(
        folder,
        step,
        start() if state is None else state,
        batches_per_epoch=PER_EPOCH,
        epochs=epochs,
        key=jax.random.key(5),
        **settings,
    )


class Stop(Exception):
    pass


def stopping_at(step_number):
    """The same batches, but the process 'dies' before the given one."""
    counted = iter(range(10**6))

    def stopped_batches(epoch, first):
        for batch in batches(epoch, first):
            if next(counted) == step_number:
                raise Stop
            yield batch

    return stopped_batches


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped."""
    return run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def whole_averaged(tmp_path_factory):
    """A run that nothing stopped, with the mean of its last two checkpoints at the end."""
    return run(tmp_path_factory.mktemp("averaged"), average_last=2)


@pytest.mark.parametrize("when", [5, *(pytest.param(n, marks=SLOW) for n in (1, 3, 8, 14))])
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, whole, when):
    with pytest.raises(Stop):
        run(tmp_path / "stopped", batches=stopping_at(when))
    resumed = run(tmp_path / "stopped")
    assert params_digest(resumed.params) == params_digest(whole.params)
    assert resumed.progress.best_step == whole.progress.best_step
    assert resumed.validations == whole.validations


@pytest.mark.slow
def test_a_resumed_moving_average_ends_with_the_same_bits(tmp_path, whole):
    averaged = init_state(MODEL, TX, jax.random.key(0), params(), averaged=True)
    step = make_train_step(MODEL, TX, ema=0.9)
    smooth = run(tmp_path / "whole", step, state=averaged)
    with pytest.raises(Stop):
        run(tmp_path / "stopped", step, state=averaged, batches=stopping_at(8))
    resumed = run(tmp_path / "stopped", step, state=averaged)
    assert params_digest(resumed.params) == params_digest(smooth.params)
    assert largest_difference(whole.params, smooth.params) > 1e-4


@pytest.mark.parametrize("better", [True, pytest.param(False, marks=SLOW)])
def test_the_mean_of_the_last_checkpoints_is_kept_if_it_is_the_best(tmp_path, better):
    seen = []

    def validate(p):
        seen.append(jax.device_get(p))
        score = (10.0 if better else -10.0) if len(seen) > 4 else float(len(seen))
        return {"perplexity": 3.0, "score": score}

    fitted = run(tmp_path, epochs=4, validate=validate, average_last=3)
    assert len(seen) == 5
    mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *seen[1:4])
    assert largest_difference(seen[4], mean) < 1e-6
    assert largest_difference(fitted.params, mean if better else seen[3]) < 1e-6
    assert [v["epoch"] for v in fitted.validations] == [1, 2, 3, 4, 4]
    again = run(tmp_path, epochs=4, validate=lambda p: pytest.fail("again"), average_last=3)
    assert params_digest(again.params) == params_digest(fitted.params)


@pytest.mark.parametrize("when", [pytest.param(3, marks=SLOW), 8, pytest.param(14, marks=SLOW)])
def test_a_resumed_run_averages_the_same_checkpoints(tmp_path, whole_averaged, when):
    with pytest.raises(Stop):
        run(tmp_path, average_last=2, batches=stopping_at(when))
    resumed = run(tmp_path, average_last=2)
    assert params_digest(resumed.params) == params_digest(whole_averaged.params)
    assert resumed.validations == whole_averaged.validations


def test_a_run_that_is_stopped_before_it_has_averaged_does_so_when_it_is_resumed(
    tmp_path, whole, whole_averaged
):
    validations = iter(range(4))

    def stopping(p):
        if next(validations) == 3:
            raise Stop
        return improving(p)

    with pytest.raises(Stop):
        run(tmp_path, average_last=2, validate=stopping)
    resumed = run(tmp_path, average_last=2)
    assert params_digest(resumed.params) == params_digest(whole_averaged.params)
    assert resumed.progress.averaged and not whole.progress.averaged


def test_a_mean_that_is_the_best_does_not_renew_patience(tmp_path):
    scores = iter([3.0, 2.0, 1.0, 9.0])

    def validate(p):
        return {"perplexity": 3.0, "score": next(scores)}

    settings = {"epochs": 9, "patience": 2, "average_last": 2}
    first = run(tmp_path, validate=validate, **settings)
    again = run(tmp_path, validate=lambda p: pytest.fail("trained on"), **settings)
    assert params_digest(again.params) == params_digest(first.params)


def test_more_epochs_after_the_mean_was_taken_are_refused(tmp_path):
    run(tmp_path, epochs=2, average_last=2)
    with pytest.raises(ValueError, match="has ended with the mean of its last checkpoints"):
        run(tmp_path, epochs=3, average_last=2)


def test_a_finished_run_is_not_run_again(tmp_path):
    first = run(tmp_path)
    again = run(tmp_path, validate=lambda p: pytest.fail("validated again"))
    assert params_digest(first.params) == params_digest(again.params)


def test_the_best_parameters_are_kept_not_the_last(tmp_path):
    scores = iter([1.0, 3.0, 2.0, 2.5])
    seen = []

    def validate(p):
        seen.append(params_digest(p))
        return {"perplexity": 2.0, "score": next(scores)}

    fitted = run(tmp_path, epochs=4, validate=validate)
    assert params_digest(fitted.params) == seen[1]
    assert fitted.progress.best_step == 2 * PER_EPOCH


def test_it_stops_when_patience_is_at_an_end(tmp_path):
    scores = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    validate = lambda p: {"perplexity": 2.0, "score": next(scores)}  # noqa: E731
    fitted = run(tmp_path, epochs=5, validate=validate, patience=2)
    assert fitted.progress.epoch == 4


@pytest.mark.parametrize("every", [pytest.param(1, marks=SLOW), 5, pytest.param(10, marks=SLOW)])
@pytest.mark.parametrize(
    "stops", [pytest.param((), marks=SLOW), (2, 4), pytest.param((5, 7), marks=SLOW)], ids=str
)
def test_an_epoch_of_a_multiple_of_the_interval_loses_no_save(tmp_path, every, stops):
    """What is returned is what is on disk as the best, however often the run was stopped."""
    rising = itertools.count()
    validate = lambda p: {"perplexity": 3.0, "score": next(rising)}  # noqa: E731
    for when in stops:
        with pytest.raises(Stop):
            run(
                tmp_path,
                checkpoint_every=every,
                validate=validate,
                batches=stopping_at(when),
            )
    fitted = run(tmp_path, checkpoint_every=every, validate=validate)
    assert fitted.progress.best_step == 3 * PER_EPOCH
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        number, manifest = checkpoints.newest()
        assert manifest.step == 3 * PER_EPOCH and manifest.meta["epoch"] == 3
        assert manifest.meta["best"] == number
        kept = checkpoints.restore_params(number, start().params)
    assert params_digest(kept) == params_digest(fitted.params)


def validating(*metrics):
    """A validation that finds these (score, perplexity), one after the other."""
    given = iter(metrics)
    return lambda p: dict(zip(("score", "perplexity"), next(given), strict=True))


NAN = float("nan")


@pytest.mark.parametrize(
    "metrics, best",
    [
        pytest.param([(0.0, 74.0), (0.0, 44.0), (0.0, 50.0)], 2, marks=SLOW),
        pytest.param([(2.0, 74.0), (1.0, 44.0), (2.0, 74.0)], 1, marks=SLOW),
        pytest.param([(2.0, 74.0), (1.0, 44.0), (2.0, 73.0)], 3, marks=SLOW),
        ([(NAN, NAN), (0.0, NAN), (0.0, 9.0)], 3),
        pytest.param([(0.0, 9.0), (NAN, 8.0), (0.0, NAN)], 1, marks=SLOW),
    ],
)
def test_of_equal_scores_the_lower_perplexity_is_best(tmp_path, metrics, best):
    fitted = run(tmp_path, validate=validating(*metrics))
    assert fitted.progress.best_step == best * PER_EPOCH
    assert len(fitted.validations) == 3 and load_progress(tmp_path) == fitted.progress


def load_progress(folder):
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return Progress.of_meta(folder, checkpoints.newest()[1].meta)


def test_a_tie_with_lower_perplexity_is_an_improvement_to_patience(tmp_path):
    falling = [(0.0, 9.0), (0.0, 8.0), (0.0, 7.0), (0.0, 7.0), (0.0, 6.0)]
    fitted = run(tmp_path, epochs=5, validate=validating(*falling), patience=1)
    assert fitted.progress.epoch == 4 and fitted.progress.best_step == 3 * PER_EPOCH


def test_more_epochs_are_trained_and_fewer_refused(tmp_path):
    run(tmp_path, epochs=2)
    longer = run(tmp_path, epochs=3)
    assert longer.progress.epoch == 3
    with pytest.raises(ValueError, match="3 epochs have been trained there, but epochs is 2"):
        run(tmp_path, epochs=2)


def test_nothing_is_believed_that_stands_in_the_log(tmp_path, whole):
    with pytest.raises(Stop):
        run(tmp_path, batches=stopping_at(8))
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b'{"step": 5, "epoch": 1, "valid": {"score": 99}}\n[]\n{"step": "x"}\n\xff{')
    fitted = run(tmp_path)
    assert fitted.validations == whole.validations


@pytest.mark.parametrize("count, found", [(PER_EPOCH - 1, "4"), (PER_EPOCH + 1, "more")])
def test_an_epoch_of_another_number_of_batches_is_refused(tmp_path, count, found):
    other = lambda epoch, first: (example(n) for n in range(first, count))  # noqa: E731
    with pytest.raises(ValueError, match=f"batches_per_epoch is 5, but batches yields {found}"):
        run(tmp_path, batches=other)


def test_metrics_are_json_lines_without_repeats(tmp_path):
    run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["epoch"] for r in records if "valid" in r] == [1, 2, 3]


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path):
    def poisoned(epoch, first):
        for n, batch in enumerate(batches(epoch, first), first):
            if (epoch, n) == (1, 3):
                batch = batch.replace(weight=np.full_like(batch.weight, np.nan))
            yield batch

    settings = dict(batches_per_epoch=PER_EPOCH, epochs=3, key=jax.random.key(5))
    with pytest.raises(TrainingDiverged, match="Step 9: loss nan.*step 7"):
        fit(
            tmp_path,
            STEP,
            start(),
            batches=poisoned,
            validate=improving,
            checkpoint_every=2,
            **settings,
        )
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, meta = checkpoints.restore(start())
    assert int(state.step) == 7 and meta["batch"] == 2
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


def test_a_folder_has_one_writer(tmp_path):
    with lock_folder(tmp_path), pytest.raises(ValueError, match="another process is writing"):
        run(tmp_path)


def saved(folder, steps=(10, 20, 30), keep=frozenset()):
    """Checkpoints 1, 2, 3, ... of states at these steps."""
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            state = start().replace(step=jnp.int32(step))
            checkpoints.save(state, {"step": step}, keep=keep)
    return folder


def restored_step(folder):
    with Checkpoints(folder) as checkpoints:
        found = checkpoints.restore(start())
    return found and (int(found[0].step), found[1]["step"])


@pytest.mark.slow
def test_a_run_at_an_address_is_that_of_a_folder(tmp_path):
    address = f"memory://{uuid.uuid4().hex}"
    with pytest.raises(Stop):
        run(address, batches=stopping_at(8))
    checkpoints = as_path(address) / "checkpoints"
    newest = max(int(path.name) for path in checkpoints.glob("[0-9]*") if path.is_dir())
    damaged = next((checkpoints / f"{newest}/params").rglob("d/*"))
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    with pytest.warns(UserWarning, match=f"{checkpoints}/{newest}: it is damaged"):
        resumed = run(address)
    assert params_digest(resumed.params) == params_digest(run(tmp_path).params)
    assert len({path.stem for path in checkpoints.glob("*")}) == 3
    logs = [as_path(folder) / "metrics.jsonl" for folder in (address, tmp_path)]
    steps = [[json.loads(line)["step"] for line in log.read_text().splitlines()] for log in logs]
    assert steps[0] == steps[1] and len(steps[0]) > 2
    assert run(address).validations == resumed.validations


def test_a_state_comes_back_bit_for_bit(tmp_path):
    state = start()
    saved(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        back, _ = checkpoints.restore(state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(state.replace(step=30)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_newest_two_and_the_named_ones_are_kept(tmp_path):
    saved(tmp_path, steps=(10, 20, 30, 40, 50), keep={2})
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["2", "4", "5"]


def damage(folder, step, how):
    files = [p for p in (folder / str(step)).rglob("*") if p.is_file() and p.stat().st_size > 100]
    victim = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "bit flipped":
        data[len(data) // 2] ^= 1
    victim.write_bytes(data) if how != "deleted" else victim.unlink()


@pytest.mark.parametrize("how", ["truncated", "bit flipped", "deleted"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, how):
    damage(saved(tmp_path), 3, how)
    with pytest.warns(UserWarning, match="3: it is damaged.*checkpoint 2 is used instead"):
        assert restored_step(tmp_path) == (20, 20)


def test_a_checkpoint_that_was_not_finished_does_not_count(tmp_path):
    saved(tmp_path)
    (tmp_path / "3.sha256").unlink()
    (tmp_path / "99").mkdir()
    with pytest.warns(
        UserWarning, match="its .sha256 file is missing.*checkpoint 2 is used"
    ) as said:
        assert restored_step(tmp_path) == (20, 20)
    assert [Path(str(w.message).split(":")[0]).name for w in said] == ["99", "3"]
    assert restored_step(saved(tmp_path, steps=(30,))) == (30, 30)


def test_when_all_are_damaged_that_is_said_and_nothing_is_deleted(tmp_path):
    saved(tmp_path)
    for number in (2, 3):
        damage(tmp_path, number, "bit flipped")
    with pytest.raises(ValueError, match=r"no checkpoint can be used \(3: it is damaged.*copy"):
        restored_step(tmp_path)
    assert (tmp_path / "3").is_dir() and (tmp_path / "2").is_dir()


def test_when_all_manifests_are_lost_training_does_not_begin_anew(tmp_path):
    saved(tmp_path)
    for path in tmp_path.glob("*.sha256"):
        path.unlink()
    with pytest.raises(ValueError, match="no checkpoint can be used"):
        restored_step(tmp_path)


def test_an_edited_manifest_is_as_bad_as_an_edited_checkpoint(tmp_path):
    saved(tmp_path)
    manifest = tmp_path / "3.sha256"
    manifest.write_text(manifest.read_text().replace('"step": 30', '"step": 31'))
    with pytest.warns(UserWarning, match="3.sha256: damaged or edited.*checkpoint 2 is used"):
        assert restored_step(tmp_path) == (20, 20)


def test_with_the_newest_its_best_one_counts(tmp_path):
    """A run goes on from where its best parameters are still there."""
    saved(tmp_path, steps=(10, 20), keep={1})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(start().replace(step=jnp.int32(30)), {"step": 30}, keep={2})
    damage(tmp_path, 2, "bit flipped")
    with pytest.warns(UserWarning, match="2: it is damaged|best one so far, 2, is lost"):
        assert restored_step(tmp_path) == (10, 10)


def test_a_state_is_saved_under_a_name_that_no_other_had(tmp_path):
    saved(tmp_path, steps=(7, 7, 7))
    assert sorted(p.name for p in tmp_path.glob("*.sha256")) == ["2.sha256", "3.sha256"]


def test_an_empty_folder_restores_nothing(tmp_path):
    assert restored_step(tmp_path) is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    saved(tmp_path)
    other = start()
    wider = other.params.replace(generator=other.params.generator.replace(bias=jnp.zeros(99)))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="another model"):
        checkpoints.restore(other.replace(params=wider))


def test_saving_copies_before_it_returns(tmp_path):
    """The next step donates the state's buffers while the save goes on in the background."""
    donate = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = jax.tree.map(jnp.array, start())
    want = jax.tree.map(np.array, state.params)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {})
        for _ in range(3):
            state = donate(state)
    with Checkpoints(tmp_path) as checkpoints:
        back, _ = checkpoints.restore(start())
    assert largest_difference(back.params, want) == 0


KILLED = """
import sys
sys.path[:0] = {paths!r}
import jax
jax.config.update("jax_num_cpu_devices", 4)
import test_fit
print("ready", flush=True)
print(test_fit.params_digest(test_fit.run(sys.argv[1], epochs=12).params), flush=True)
"""


@pytest.mark.slow
def test_kill_nine_at_random_moments_changes_no_bit(tmp_path):
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(KILLED.format(paths=paths)))
    environment = dict(os.environ, JAX_PLATFORMS="cpu")

    def launch(folder):
        return subprocess.Popen(
            [sys.executable, script, folder], stdout=subprocess.PIPE, env=environment, text=True
        )

    whole = launch(tmp_path / "whole").communicate()[0].split()[-1]
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = launch(tmp_path / "killed")
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(1.0, 12.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert launch(tmp_path / "killed").communicate()[0].split()[-1] == whole
