"""Measures how training scales, and counts what devices send each other.

    python docs/scaling.py                      # fills docs/results/scaling.json; resumes
    python docs/scaling.py --steps 5 --out FILE # a quick look
    python docs/scaling.py --table              # prints the tables of docs/scaling.md

One global batch is shared by D devices of the CPU, forced in one process, by P processes with one
device each, or by a mesh that splits the vocabularies. Every row runs in processes of its own.
"""

import argparse
import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "scaling.json"
ROWS = {  # name: processes, devices of each, size of the mesh's axis ``model`` (0: pmap)
    **{f"{n} devices": (1, n, 0) for n in (1, 2, 4, 8)},
    **{f"{n} processes": (n, 1, 0) for n in (2, 4, 8)},
    "4 processes x 2 devices": (4, 2, 0),
    "mesh 8 x 1": (1, 8, 1),
    "mesh 4 x 2": (1, 8, 2),
}
VOCABULARY, HIDDEN, ROWS_OF_BATCH, LENGTH = 4000, 128, 64, 16
SENT = r"all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "s8": 1, "u8": 1}

# A TPU v5e chip: https://cloud.google.com/tpu/docs/v5e and https://jax-ml.github.io/scaling-book
V5E_FLOPS, V5E_LINK = 197e12, 9e10  # bfloat16; bytes/s along one axis, both directions together
UTILISATION = 0.4  # share of the FLOPs that a good training step reaches
PAPER = {"teacher, 4 x 1000": (4, 1000), "student, 2 x 500": (2, 500), "student, 2 x 300": (2, 300)}
PAPER_VOCABULARY = 50_004


def collectives(hlo: str) -> dict[str, dict[str, int]]:
    """Returns the number and bytes of the collectives of a compiled program, by their name.

    Bytes are those of the results on one device. Those inside of a loop are counted once, under a
    name of their own: ``all-reduce in a loop``.
    """
    found: dict[str, dict[str, int]] = {}
    callers: dict[str, set[str]] = {}
    bodies, lines, name = set(), [], ""
    for line in hlo.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            name = head[1]
        for called in re.findall(r"(?:body|condition|to_apply|calls)=%?([\w.-]+)", line):
            callers.setdefault(called, set()).add(name)
        bodies |= set(re.findall(r"body=%?([\w.-]+)", line))
        if sent := re.search(rf"= (.*?) ({SENT})(?:-start)?\(", line):
            lines.append((name, sent[2], sent[1]))

    def in_loop(computation: str) -> bool:
        return computation in bodies or any(map(in_loop, callers.get(computation, ())))

    for computation, kind, shape in lines:
        counted = found.setdefault(
            f"{kind} in a loop" if in_loop(computation) else kind, {"number": 0, "bytes": 0}
        )
        counted["number"] += 1
        for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shape):
            elements = math.prod(int(n) for n in sizes.split(",") if n)
            counted["bytes"] += BYTES.get(dtype, 8) * elements
    return found


def measure(processes: int, devices: int, model: int, steps: int, hosts: list[str]) -> None:
    """Runs one row, in one of its processes; process 0 prints the result as JSON."""
    import jax
    import numpy as np

    jax.config.update("jax_num_cpu_devices", devices)
    from seqkd_jax import parallel, stopping
    from seqkd_jax.base import Example
    from seqkd_jax.models.attention_lstm import Config, attention_lstm
    from seqkd_jax.processes import start
    from seqkd_jax.train import clipped_adam, init_state, make_train_step
    from seqkd_jax.trained import params_digest

    if hosts:
        start(hosts[0], processes, int(hosts[1]))
    net = attention_lstm(Config(VOCABULARY, VOCABULARY, embed=HIDDEN, hidden=HIDDEN))
    step, key = make_train_step(net, clipped_adam()), jax.random.key(0)
    state = init_state(net, clipped_adam(), key)
    rng = np.random.default_rng(0)
    shape = (ROWS_OF_BATCH, LENGTH)
    src, tgt = (rng.integers(4, VOCABULARY, shape, dtype=np.int32) for _ in range(2))
    index = np.arange(ROWS_OF_BATCH, dtype=np.int32)
    batch = Example(src, tgt, np.ones(ROWS_OF_BATCH, np.float32), index)
    if model:
        mesh = parallel.device_mesh(model)
        state = parallel.place(state, mesh, (VOCABULARY,))
        batch, run = parallel.place_batch(batch, mesh), parallel.jit_step(step, mesh)
    else:
        rows = parallel.own_rows(ROWS_OF_BATCH)
        state = parallel.replicate(state)
        batch = parallel.shard(jax.tree.map(lambda x: x[rows.start : rows.stop], batch))
        run = parallel.pmap_step(step)
    began = time.perf_counter()
    state, metrics = run(state, batch, key)
    jax.block_until_ready(metrics)
    compiled, seconds = time.perf_counter() - began, []
    for _ in range(steps):
        began = time.perf_counter()
        state, metrics = run(state, batch, key)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - began)
    if jax.process_index() == 0:
        params = jax.device_get(state.params)
        result = {
            "seconds": statistics.median(seconds),
            "fastest": min(seconds),
            "tokens_per_second": ROWS_OF_BATCH * LENGTH / statistics.median(seconds),
            "compile_seconds": compiled,
            "loss": float(metrics["loss"]),
            "digest": params_digest(params)[:12],
            "parameters": sum(x.size for x in jax.tree.leaves(params)),
        }
        print("RESULT", json.dumps(result), flush=True)
    stopping.part(failed=False)  # otherwise the others are told that this process has died


def measured(name: str, steps: int) -> dict:
    """Starts the processes of a row and returns what process 0 has measured."""
    processes, devices, model = ROWS[name]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as dump:
        flags = f"--xla_dump_to={dump} --xla_dump_hlo_as_text"
        run = []
        for n in range(processes):
            hosts = ["--hosts", f"127.0.0.1:{port}", str(n)] if processes > 1 else []
            run.append(
                subprocess.Popen(
                    [sys.executable, __file__, "--row", name, "--steps", str(steps), *hosts],
                    stdout=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"JAX_PLATFORMS": "cpu"} | ({} if n else {"XLA_FLAGS": flags}),
                )
            )
        said = [process.communicate()[0] for process in run][0]
        lines = [line for line in said.splitlines() if line.startswith("RESULT ")]
        programs = list(Path(dump).glob("*jit__fun.cpu_after_optimizations.txt"))  # of pmap
        programs += Path(dump).glob("*jit_run.cpu_after_optimizations.txt")  # of jit_step
        if not lines or not programs or any(process.returncode for process in run):
            sys.exit(f"{name}: failed with {[process.returncode for process in run]}.")
        # The step is the largest program in which devices send each other anything.
        counted = [(path.stat().st_size, collectives(path.read_text())) for path in programs]
        sent = max((c for c in counted if c[1]), key=lambda c: c[0], default=(0, {}))[1]
    return json.loads(lines[0].removeprefix("RESULT ")) | {"collectives": sent}


def table(results: dict) -> str:
    """Returns the measured rows as a table in Markdown, and what made them."""
    from seqkd_jax.provenance import origin_lines

    lines = [
        "| | tokens/s | of one device | step, ms | sent by each device | same bits |",
        "|---|--:|--:|--:|---|---|",
    ]
    first, by_devices = results["rows"]["1 devices"], {}
    for name, row in results["rows"].items():
        processes, devices, model = ROWS[name]
        digests = by_devices.setdefault((processes * devices, model), row["digest"])
        sent = ", ".join(
            f"{kind} {c['bytes'] / 1e6:.2f} MB ({c['number']})"
            for kind, c in sorted(row["collectives"].items(), key=lambda item: -item[1]["bytes"])
        )
        rate = row["tokens_per_second"]
        lines.append(
            f"| {name} | {rate:,.0f} | {rate / first['tokens_per_second']:.2f} | "
            f"{1e3 * row['seconds']:.0f} | {sent or 'nothing'} | "
            f"{'yes' if digests == row['digest'] else 'no'} |"
        )
    made = origin_lines(row["made"] for row in results["rows"].values())
    return "\n".join([*lines, "", *made])


def on_paper() -> str:
    """Returns the share of a step that the sum of gradients takes on 8 chips of a TPU v5e."""
    import jax

    from seqkd_jax.models.attention_lstm import Config, attention_lstm

    lines = [
        "| | parameters | gradients, MB | sum, ms | B x T a chip | products, ms | share |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, (layers, hidden) in PAPER.items():
        v = PAPER_VOCABULARY
        net = attention_lstm(Config(v, v, embed=hidden, hidden=hidden, layers=layers))
        shapes = jax.eval_shape(net.init, jax.random.key(0))
        sizes = [x.size for x in jax.tree.leaves(shapes)]
        embeddings = 2 * v * hidden  # read by row, and not multiplied
        send = 2 * 7 / 8 * 4 * sum(sizes) / V5E_LINK
        for tokens in 1024, 4096, 16384:
            compute = 6 * (sum(sizes) - embeddings) * tokens / (V5E_FLOPS * UTILISATION)
            lines.append(
                f"| {name} | {sum(sizes) / 1e6:.1f} M | {4 * sum(sizes) / 1e6:.0f} | "
                f"{1e3 * send:.1f} | {tokens:,} | {1e3 * compute:.1f} | "
                f"{send / (send + compute):.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measures the rows that are missing, or prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--table", action="store_true", help="print the tables and measure nothing")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--hosts", nargs=2, default=[], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        measure(*ROWS[given.row], given.steps, given.hosts)
        return
    from seqkd_jax.provenance import origin

    results = json.loads(given.out.read_text()) if given.out.exists() else {"rows": {}}
    if given.table:
        print(f"{table(results)}\n\n{on_paper()}")
        return
    for name in ROWS:
        if name not in results["rows"]:
            made = {"steps": given.steps, "load": os.getloadavg()[0], "made": origin()}
            results["rows"][name] = measured(name, given.steps) | made
            given.out.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{name}: {results['rows'][name]['tokens_per_second']:,.0f} tokens/s", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
