"""What a GPU has to tell about this library, in at most 12 minutes.

    python docs/gpu.py --out gpu.json --torch PYTHON   # of an environment with PyTorch for CUDA
    python docs/gpu.py --out small.json --small        # small sizes, to try the script on a CPU

The parts, each a process of its own; --parts names some of them:

    machine   devices; rates of large matrix products and of copying memory, as measured
    shares    training and search at B = 64, 512 and 4,096: the share of these rates that they reach
    profile   where the time of three rows of ``seqkd bench`` goes, kernel by kernel
    compile   seconds for each new shape, with JAX's cache, with results of autotuning, with neither
    multi30k  teacher, baseline and Seq-KD from nothing to the table, and where the minutes go
    against   rows of ``seqkd bench`` in turns with PyTorch: eager, scripted, compiled, CUDA graphs
    tests     tests that once assumed a CPU

A part that fails or takes too long is named, and the next one begins. Every record is printed and
written to the file at once. Multi30k is read from the folder that SEQKD_DATA names.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqkd_jax.files import atomic_write

Record = dict[str, Any]
HERE = Path(__file__).parent
SHARES = {  # of the time; what a part leaves over is shared by those after it
    "machine": 20,
    "shares": 140,
    "profile": 30,
    "compile": 85,
    "multi30k": 190,
    "against": 195,
    "tests": 60,
}
DEVICE_TESTS = (
    "test_bench.py::test_a_row_is_measured_in_all_columns_and_written",
    "test_bench.py::test_a_peer_is_measured_beside_its_own_row",
    "test_stream.py::test_a_chunk_fits_its_budget_or_has_the_fewest_tokens_that_pay",
    "test_steps.py::test_sharding_fills_with_rows_of_no_weight",
    "test_translate.py::test_two_workers_make_the_same_bytes_as_one",
    "test_teacher_cache.py::test_two_workers_make_the_same_bytes_as_one",
)


def attempt(what: str, work: Callable[[], Record]) -> Record:
    """Returns what was found, or why it was not: the other rows of a part go on."""
    try:
        return {"what": what} | work()
    except Exception as error:
        return {"what": what, "failed": f"{type(error).__name__}: {error}".split("\n")[0][:300]}


def seconds_of(call: Callable[[], Any], at_least: float = 0.3) -> float:
    """Returns the seconds of a call: the median of several that together take some time."""
    import jax

    jax.block_until_ready([call(), call()])
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < at_least:
        started = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def rates(small: bool) -> dict[str, float]:
    """Measures FLOP/s of a large product in each precision, and bytes/s of reading and writing."""
    import jax
    import jax.numpy as jnp

    n, words = (512, 2**22) if small else (8192, 2**28)
    found = {}
    for name, dtype, precision in (
        ("float32", "float32", None),
        ("float32, highest", "float32", "highest"),
        ("bfloat16", "bfloat16", None),
    ):
        x = jnp.ones((n, n), dtype)
        product = jax.jit(lambda x, precision=precision: jnp.matmul(x, x, precision=precision))
        found[name] = 2 * n**3 / seconds_of(lambda f=product, x=x: f(x))
    x, add = jnp.ones(words), jax.jit(lambda x: x + 1)
    return found | {"memory": 2 * 4 * words / seconds_of(lambda: add(x))}


def machine(given: argparse.Namespace) -> Iterator[Record]:
    """Says what the machine is, and how fast it is at its best."""
    import jax

    from seqkd_jax.parallel import describe_devices

    device = describe_devices(jax.devices(), jax.local_devices())
    yield {"what": "device", "is": device, "jax": jax.__version__}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit"]
    if shutil.which(query[0]):
        yield attempt("nvidia-smi", lambda: {"says": _output([*query, "--format=csv,noheader"])})
    for name, rate in rates(given.small).items():
        yield {
            "what": f"best rate, {name}",
            ("GB/s" if name == "memory" else "TFLOP/s"): rate / 1e9,
        }


def traffic(row: Any) -> float:
    """Returns the bytes of a step if every product reads its factors and writes its result.

    Adam's reads and writes are added. A cache that holds the weights saves some of them, so a share
    of the memory's rate can exceed 1.
    """
    import jax

    from seqkd_jax.bench import MODELS, products
    from seqkd_jax.models.attention_lstm import attention_lstm

    config = MODELS[row.model]
    size = 2 if config.dtype == "bfloat16" else 4
    moved = sum(
        times * batch * (rows * inner + inner * out + rows * out)
        for times, batch, rows, inner, out in products(row)
    )
    if row.beam:
        return float(size * moved)
    params = jax.eval_shape(attention_lstm(config).init, jax.random.key(0))
    return float(size * moved + 7 * 4 * sum(x.size for x in jax.tree.leaves(params)))


def shares(given: argparse.Namespace) -> Iterator[Record]:
    """Compares training and search with the best rates, at growing B."""
    from seqkd_jax import bench

    best = rates(given.small)
    bench.MODELS["teacher-bfloat16"] = replace(bench.MODELS["teacher"], dtype="bfloat16")
    rows = [
        bench.Row(work, model, batch, beam)
        for batch in ((2, 4) if given.small else (64, 512, 4096))
        for work, model, beam in (
            *(() if given.small else (("train", "teacher", 0), ("decode", "teacher", 5))),
            ("train", "student", 0),
            ("decode", "student", 1),
        )
    ]
    if not given.small:
        rows.append(bench.Row("train", "teacher-bfloat16", 4096))
        rows.append(bench.Row("decode", "teacher-bfloat16", 4096, 5))
    for row in rows:
        yield attempt(str(row), lambda row=row: _share(row, best))


def _share(row: Any, best: dict[str, float]) -> Record:
    import jax

    from seqkd_jax import bench

    step = bench.step_of(row)
    facts, _ = bench._first_calls(step)
    seconds = seconds_of(step, 0.6)
    arithmetic = best["bfloat16" if row.model.endswith("bfloat16") else "float32"]
    stats = jax.local_devices()[0].memory_stats() or {}
    return {
        "ms": 1e3 * seconds,
        "per_s": row.amount / seconds,
        "unit": "sentences" if row.beam else "target tokens",
        "TFLOP/s": bench.flops(row) / seconds / 1e12,
        "of_arithmetic": bench.flops(row) / seconds / arithmetic,
        "of_memory": traffic(row) / seconds / best["memory"],
        "compile_s": facts["compile_s"],
        "temp_mb": facts["temp_mb"],
        "peak_gib": stats.get("peak_bytes_in_use", 0) / 2**30,
    }


def profile(given: argparse.Namespace) -> Iterator[Record]:
    """Shows the kernels of a step, the longest first, and how long the device was busy."""
    import kernels

    from seqkd_jax import bench

    rows = [bench.Row("train", "teacher", 64), bench.Row("decode", "teacher", 64, 5)]
    rows += [bench.Row("decode", "student", 64, 1)]
    for row in [bench.Row("train", "student", 4)] if given.small else rows:
        yield attempt(str(row), lambda row=row: _kernels(kernels, bench.step_of(row)))


def _kernels(kernels: Any, step: Callable[[], Any], steps: int = 5, shown: int = 12) -> Record:
    seconds = seconds_of(step)
    events = kernels.traced(step, steps)
    if not events:
        raise RuntimeError("the profiler saw no kernels")
    busy, reached = 0.0, 0.0
    for _, start, duration in sorted(events, key=lambda event: event[1]):
        busy += max(0.0, start + duration - max(start, reached))
        reached = max(reached, start + duration)
    spent, calls = kernels.summed(events, steps)
    longest = [
        f"{name}: {calls[name]:g} x {1e3 * ms / calls[name]:.1f} us = {ms:.3f} ms"
        for name, ms in spent.most_common(shown)
    ]
    return {
        "ms": 1e3 * seconds,
        "kernels_a_step": sum(calls.values()),
        "busy": busy / 1e9 / steps / seconds,  # of the time of a step that is not traced
        "longest": longest,
    }


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
    command = _child("first-calls", given)
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode:
        yield {"what": what, "failed": (done.stderr.strip() or "no message").split("\n")[-1]}
    for line in done.stdout.splitlines():
        yield json.loads(line) | {"what": what}


def first_calls(given: argparse.Namespace) -> Iterator[Record]:
    """Measures the first calls of two rows at several lengths, in a new process."""
    from seqkd_jax import bench
    from seqkd_jax.commands import prepare

    prepare()
    batch = 2 if given.small else 64
    for row in (
        bench.Row("train", "student", batch),
        bench.Row("train", "student", batch, length=24),
        bench.Row("decode", "student", batch, 1),
    ):
        facts, _ = bench._first_calls(bench.step_of(row))
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
        teacher=replace(plan.teacher, hidden=32, embed=32),
        teacher_training=short,
        student_training=short,
    )
    return recipes.experiment(corpus, folder, plan)


def against(given: argparse.Namespace) -> Iterator[Record]:
    """Takes turns with PyTorch, row by row, as long as there is time for another row."""
    if not given.torch:
        raise SystemExit("--torch does not name the python of an environment with PyTorch.")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # PyTorch needs memory, too
    from seqkd_jax import bench
    from seqkd_jax.commands import prepare
    from seqkd_jax.settings import Timing

    prepare()
    rows = [bench.Row("decode", "teacher", 64, 5), bench.Row("train", "teacher", 64)]
    rows += [bench.Row("train", "student", 64), bench.Row("kd", "student", 64)]
    rows += [bench.Row("decode", "student", 64, 1), bench.Row("train", "big", 64)]
    rows += [row for row in bench.FIXED if row not in rows]
    timing = Timing(repeats=5, seconds=0.6)
    if given.small:
        rows, timing = [bench.Row("decode", "student", 2, 1)], Timing(repeats=2, steps=2)
    started, longest = time.monotonic(), 0.0
    for row in rows:
        begun = time.monotonic()
        if begun - started + longest > given.seconds:
            yield {"what": str(row), "failed": "left out: no time"}
            continue
        script, work = "torch_ref.py", f"--mode {row.work} --model {row.model} --batch {row.batch}"
        if row.beam:
            work += f" --beam {row.beam}"
        if row.work == "kd":
            script, work = "torch_kd.py", ""
        device = "cpu" if given.small else "cuda"
        options = f"--turns --impl best --patience 60 --device {device} {work}"
        command = f"{given.torch} {HERE / 'peers' / script} {options}"
        yield attempt(str(row), lambda c=command: _beside(bench.measure_against(c, timing)[0]))
        longest = max(longest, time.monotonic() - begun)


def _beside(record: Record) -> Record:
    peer = record["peer_line"]
    names = ("ratio", "lower_quartile", "upper_quartile", "median", "peer_median", "unit")
    kept = {name: record[name] for name in names}
    return kept | {"best": peer["impl"], "tried": peer["tried"], "torch": peer["version"]}


def tests(given: argparse.Namespace) -> Iterator[Record]:
    """Runs tests that once assumed a CPU, with the settings that docs/speed.md names."""
    environment = {} if given.small else {"JAX_PLATFORMS": "cuda,cpu"}
    environment |= {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "--tb=short"]
    done = subprocess.run(
        [*command, *(str(HERE.parent / "tests" / name) for name in DEVICE_TESTS)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        cwd=HERE.parent,
    )
    lines = (done.stdout + done.stderr).strip().split("\n")
    yield {"what": "pytest", "ended": lines[-1]} | (
        {"failed": "\n".join(lines[-40:])} if done.returncode else {}
    )


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Record]]] = {
    "machine": machine,
    "shares": shares,
    "profile": profile,
    "compile": compiling,
    "multi30k": multi30k,
    "against": against,
    "tests": tests,
    "first-calls": first_calls,
}


def _output(command: list[str]) -> str:
    return subprocess.check_output(command, text=True).strip()


def _child(part: str, given: argparse.Namespace, seconds: float = 0) -> list[str]:
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part]
    command += ["--seconds", str(seconds), "--torch", given.torch]
    return command + ["--small"] * given.small


def run_part(part: str, given: argparse.Namespace, seconds: float) -> Iterator[Record]:
    """Yields the records of a part, and one more if it failed or took too long."""
    late = threading.Event()
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            _child(part, given, seconds),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # so that its own children end with it
        )

        def end() -> None:
            late.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            for line in process.stdout or ():
                if line.startswith("{"):
                    yield json.loads(line)
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                end()
        errors.seek(0)
        said = errors.read().strip().split("\n")
    if late.is_set():
        yield {"what": "this part", "failed": f"not finished within {seconds:.0f} s"}
    elif status:
        print("\n".join(said[-30:]), file=sys.stderr)
        yield {"what": "this part", "failed": f"status {status}: {said[-1]}"}
    yield {"what": "this part", "seconds": time.monotonic() - started}


def shown(record: Record) -> str:
    """Renders a record as a line, and lists in it as lines of their own."""
    cells, lines = [], []
    for name, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], str):
            lines += [f"\n    {line}" for line in value]
        elif isinstance(value, dict):
            lines += [f"\n    {key}: {_short(one)}" for key, one in value.items()]
        elif name != "what":
            cells.append(f"{name} {_short(value)}")
    return f"  {record['what']}: {', '.join(cells)}{''.join(lines)}"


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def run_parts(given: argparse.Namespace) -> dict[str, list[Record]]:
    """Runs the parts one after the other, prints their records, and returns them."""
    end = time.monotonic() + 60 * given.minutes
    kept: dict[str, list[Record]] = {}
    for index, part in enumerate(given.parts):
        left = end - time.monotonic()
        share = SHARES[part] / sum(SHARES[later] for later in given.parts[index:])
        print(f"{part}: at most {left * share:.0f} s", flush=True)
        kept[part] = []
        for record in run_part(part, given, left * share):
            kept[part].append(record)
            atomic_write(given.out, (json.dumps(kept, indent=1) + "\n").encode())
            print(shown(record), flush=True)
    return kept


def main() -> None:
    """Runs what is asked for, and says what could not be done."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of all records")
    options.add_argument("--torch", default="", help="python of an environment with PyTorch")
    options.add_argument("--minutes", type=float, default=12.0, help="for all parts together")
    options.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    options.add_argument("--small", action="store_true", help="small sizes, on any device")
    options.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.part:
        for record in PARTS[given.part](given):
            print(json.dumps(record), flush=True)
        return
    with tempfile.TemporaryDirectory() as cache:  # so that a row is compiled once for all parts
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        kept = run_parts(given)
    failed = {part: [r for r in records if "failed" in r] for part, records in kept.items()}
    print("\nNot done:" if any(failed.values()) else "\nAll was done.")
    for part, records in failed.items():
        for record in records:
            print(f"  {part}, {record['what']}: {record['failed'].splitlines()[0]}")


if __name__ == "__main__":
    main()
