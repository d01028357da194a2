"""What an exported student takes: bytes, seconds to start, sentences a second (docs/serving.md).

    python docs/serving.py MODEL SOURCE [--beam 1] [--lines 500]

MODEL is a model's folder and SOURCE a file of sentences. Each form of the weights is exported for
CPUs. Starts are fresh processes that translate one line: first with an empty compile cache, then
with the one that the first start has left. Speed is measured in turns, in one process, when
everything is compiled: the medians of three turns. The ONNX graph takes part if the search is
greedy; it needs ``pip install '.[onnx]'``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from seqkd_jax.commands.process import prepare
from seqkd_jax.data import read_lines
from seqkd_jax.decode.translation import translate_texts
from seqkd_jax.export import export_model
from seqkd_jax.exported import load_exported
from seqkd_jax.model_folder import load_model
from seqkd_jax.onnx_export import export_onnx
from seqkd_jax.onnx_student import load_onnx
from seqkd_jax.search import for_search
from seqkd_jax.settings import Search

FORMS = ("float32", "bfloat16", "int8", "codes")
TURNS = 3
READ = "import sys; from seqkd_jax.exported import load_exported; "
READ += "print(load_exported(sys.argv[1]).translate([sys.argv[2]])[0])"


def seconds_of(run):
    """Returns how long a call takes, and what it returns."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def starts(folder, command, line=None):
    """Seconds of two fresh processes: with an empty compile cache, and with what it left there."""
    caches = {"JAX_COMPILATION_CACHE_DIR": str(folder), "XDG_CACHE_HOME": str(folder)}
    minimum = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, **caches, **minimum}

    def start():
        done = subprocess.run(
            command, input=line, env=environment, text=True, capture_output=True, check=True
        )
        return done.stdout

    (cold, first), (warm, second) = seconds_of(start), seconds_of(start)
    assert first == second, (first, second)
    return cold, warm


def in_turns(runs):
    """Median seconds of each function; each has run once before, to compile."""
    for run in runs.values():
        run()
    times = {name: [] for name in runs}
    for _ in range(TURNS):
        for name, run in runs.items():
            times[name].append(seconds_of(run)[0])
    return {name: statistics.median(of) for name, of in times.items()}


def measure(arguments, folder):
    """Prints the tables."""
    trained = load_model(arguments.model)
    search = Search(beam_size=arguments.beam, max_source=64)
    lines = [line for line in read_lines(arguments.source) if line.strip()][: arguments.lines]
    files, rows = {}, []
    for form in FORMS:
        files[form] = folder / f"{form}.seqkdx"
        sizes = export_model(files[form], trained, search, weights=form, platforms=["cpu"])
        rows.append([form, f"{sizes.file:,}", f"{sizes.weights:,}", f"{sizes.programs:,}"])
    everywhere = export_model(folder / "all.seqkdx", trained, search)
    rows.append(["float32, all platforms", f"{everywhere.file:,}", f"{everywhere.weights:,}"])
    rows[-1].append(f"{everywhere.programs:,}")
    print(tabulate(rows, ["weights", "file, bytes", "weights", "programs"], disable_numparse=True))

    model, params = for_search(trained.model, trained.params)
    searched = trained.with_params(params, model)
    theirs = [n.texts[0] for n in translate_texts(searched, lines, search)]
    loaded = {form: load_exported(path) for form, path in files.items()}
    rows = []
    for form, exported in loaded.items():
        same = sum(a == b for a, b in zip(exported.translate(lines), theirs, strict=True))
        rows.append([form, f"{same} of {len(lines)}"])
    print("\n" + tabulate(rows, ["weights", "translations as the model's"], disable_numparse=True))

    exported = loaded["float32"]
    runs = {
        "seqkd translate": lambda: translate_texts(searched, lines, search),
        "exported": lambda: exported.translate(lines),
        "seqkd translate, line by line": lambda: [
            translate_texts(searched, [line], search) for line in lines
        ],
        "exported, line by line": lambda: [exported.translate([line]) for line in lines],
    }
    if arguments.beam == 1:  # all that an ONNX graph does
        size = export_onnx(folder / "student.onnx", trained, search)
        graph = load_onnx(folder / "student.onnx")
        same = sum(a == b for a, b in zip(graph.translate(lines), theirs, strict=True))
        print(f"\nONNX Runtime: {same} of {len(lines)} as the model's; {size:,} bytes")
        runs["ONNX Runtime"] = lambda: graph.translate(lines)
        runs["ONNX Runtime, line by line"] = lambda: [graph.translate([line]) for line in lines]
    seconds = in_turns(runs)
    rows = [[name, f"{len(lines) / of:.1f}"] for name, of in seconds.items()]
    print("\n" + tabulate(rows, ["", "sentences/s"], disable_numparse=True))

    options = ["--beam-size", str(arguments.beam), "--max-source", "64"]
    command = [sys.executable, "-m", "seqkd_jax", "translate", str(arguments.model), *options]
    reader = [sys.executable, "-c", READ, str(files["float32"]), lines[0]]
    rows = []
    for name, run, line in (
        ("seqkd translate", command, lines[0] + "\n"),
        ("exported", reader, None),
    ):
        with tempfile.TemporaryDirectory() as cache:
            rows.append([name, *(f"{of:.1f}" for of in starts(cache, run, line))])
    print("\n" + tabulate(rows, ["one line in a fresh process", "cold, s", "warm, s"]))


def main():
    """Reads the arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--lines", type=int, default=500)
    arguments = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


if __name__ == "__main__":
    main()
