"""Where the time of a whole experiment goes, and what compiling a shape costs."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from records import Record, child


def compiling(given: argparse.Namespace) -> Iterator[Record]:
    """Measures seconds for each new shape, with and without what earlier processes kept."""
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": folder}
        tuned = Path(folder) / "xla_gpu_per_fusion_autotune_cache_dir"
        yield from _first_calls("an empty cache", given, cache)
        yield from _first_calls("the programs kept", given, cache)
        for path in Path(folder).iterdir():  # programs, but not the results of autotuning
            if path != tuned:
                path.unlink()
        kept = sum(path.is_file() for path in tuned.rglob("*"))
        yield from _first_calls(f"{kept} results of autotuning kept", given, cache)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    none = {"JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_FLAGS": flags}
    yield from _first_calls("nothing kept, no autotuning", given, none)


def _first_calls(what: str, given: argparse.Namespace, environment: dict) -> Iterator[Record]:
    command = child("first-calls", given)
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode:
        yield {"what": what, "failed": (done.stderr.strip() or "no message").split("\n")[-1]}
    for line in done.stdout.splitlines():
        yield json.loads(line) | {"what": what}


def first_calls(given: argparse.Namespace) -> Iterator[Record]:
    """Measures the first calls of two rows at several lengths, in a new process."""
    from seqkd_jax import bench
    from seqkd_jax.bench import timing
    from seqkd_jax.commands import prepare

    prepare()
    batch = 2 if given.small else 64
    training = bench.fixed_row("train", "student", batch)
    longer = replace(training, length=24)
    for row in (training, longer, bench.fixed_row("decode", "student", batch, 1)):
        facts, _ = timing.first_calls(bench.step_of(row))
        yield {"row": f"{row}, {row.length} tokens", "seconds": facts["compile_s"]}


def multi30k(given: argparse.Namespace) -> Iterator[Record]:
    """Trains teacher, baseline and Seq-KD student, and times each stage and its compilation."""
    import jax

    from seqkd_jax import recipes
    from seqkd_jax.commands import prepare
    from seqkd_jax.model_folder import training_seconds
    from seqkd_jax.report.table import table

    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration_secs)

    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", f"{folder}/cache")  # "from nothing"
        prepare()
        jax.monitoring.register_event_duration_secs_listener(listen)
        exp = _experiment(Path(folder) / "runs", given.small)
        stages = {
            "vocabulary": lambda: exp.vocabularies,
            "teacher": lambda: recipes.teacher(exp),
            "baseline": lambda: recipes.baseline(exp),
            "n-best lists of the training set": lambda: recipes.seq_kd_pairs(exp),
            "seq-kd": lambda: recipes.seq_kd(exp),
            "evaluation": lambda: recipes.run(
                exp, ["teacher", "baseline", "seq-kd"], anyway=given.small
            ),
        }
        result: Any = None
        for name, stage in stages.items():
            compiled.clear()
            started = time.perf_counter()
            result = stage()
            record: Record = {"what": name, "seconds": time.perf_counter() - started}
            record |= {"compiling": sum(compiled), "programs": len(compiled)}
            if (exp.folder / name / "checkpoints").exists():
                record["in_steps"] = training_seconds(exp.folder / name)
            yield record
        yield {"what": "table", "lines": table(result).split("\n")}


def _experiment(folder: Path, small: bool) -> Any:
    from seqkd_jax import load_corpus, recipes
    from seqkd_jax.settings import PLANS, Training

    if not small:
        if "SEQKD_DATA" not in os.environ:
            raise SystemExit("SEQKD_DATA does not name a folder with multi30k.")
        return recipes.experiment("multi30k", folder)
    corpus, plan, short = load_corpus("grammar"), PLANS["grammar"], Training(epochs=1, buckets=1)
    corpus = replace(
        corpus, train=corpus.train[:300], valid=corpus.valid[:20], test=corpus.test[:20]
    )
    plan = replace(
        plan,
        teacher_size=replace(plan.teacher_size, hidden=32, embed=32),
        teacher_training=short,
        student_training=short,
    )
    return recipes.experiment(corpus, folder, plan)
