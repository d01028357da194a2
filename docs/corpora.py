"""What a large corpus costs: time to the first batch and memory, at the first and the second start.

    python docs/corpora.py --pairs 300000 5000000      the table of docs/corpora.md
    python docs/corpora.py --pairs 300000 --formats    also the same pairs in array_record and grain
    python docs/corpora.py --pairs --order 5000000     the memory of buckets and order alone

For each number of pairs the script makes synthetic text in a temporary folder, and then starts this
library twice, in a new process each time: the text is opened and checked, encoded or found encoded,
buckets are planned, and batches are made. Times are of the clock; "CPU" is the seconds that the
process and those it starts compute until the first batch, whatever else the machine is doing.
Memory is what the process has more than after its imports: *anonymous* memory is its own, *mapped*
pages are those of files, which the system takes back when it needs memory. 5,000,000 pairs need
2.5 GB of disk and some minutes.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np

WORDS, MEAN_WORDS = 30_000, 22
COLUMNS = ("opened", "encoded", "first batch", "CPU", "batches/s", "anonymous", "mapped")
READS, ROWS = 300, 64


def main() -> None:
    """Prints a table for each number of pairs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, nargs="*", default=[300_000])
    parser.add_argument("--order", type=int)
    parser.add_argument("--formats", action="store_true")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(start(Path(arguments.start))))
        return
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    for pairs in arguments.pairs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_text(folder, pairs)
            size = sum(path.stat().st_size for path in folder.iterdir())
            print(f"\n{pairs:,} pairs, {size / 1e6:,.0f} MB of text", flush=True)
            print(f"{'':12}" + "".join(f"{column:>13}" for column in COLUMNS))
            for label in "first", "second":
                row = started(folder)
                print(f"{label:12}" + "".join(f"{row[c]:>13}" for c in COLUMNS), flush=True)
            if arguments.formats:
                formats(folder)
    if arguments.order:
        order(arguments.order)


def write_text(folder: Path, pairs: int) -> None:
    """Writes words with the frequencies of Zipf's law, in sentences of about ``MEAN_WORDS``."""
    rng = np.random.default_rng(0)
    names = np.array([f"word{n}" for n in range(WORDS)])
    chances = 1 / np.arange(1, WORDS + 1)
    cumulated = np.cumsum(chances / chances.sum())
    for side in "src", "tgt":
        with open(folder / f"train.{side}", "w") as file:
            for first in range(0, pairs, 10_000):
                sizes = 1 + rng.poisson(MEAN_WORDS - 1, min(10_000, pairs - first))
                words = names[np.searchsorted(cumulated, rng.random(sizes.sum()))]
                for line in np.split(words, np.cumsum(sizes)[:-1]):
                    file.write(" ".join(line) + "\n")


def started(folder: Path) -> dict[str, str]:
    """Starts the library in a new process."""
    command = [sys.executable, __file__, "--start", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def memory() -> tuple[int, int]:
    """Returns the anonymous and the mapped bytes of this process."""
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    anonymous, mapped = (int(status[n].split()[0]) * 1024 for n in ("RssAnon", "RssFile"))
    return anonymous, mapped


class Peak(threading.Thread):
    """Watches the memory of this process from now on."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before, self.most = memory(), [0, 0]
        self.start()

    def run(self) -> None:
        """Looks every 10 ms."""
        while True:
            for kind, now in enumerate(memory()):
                self.most[kind] = max(self.most[kind], now - self.before[kind])
            time.sleep(0.01)


def start(folder: Path) -> dict[str, str]:
    """Returns the times and the memory of a start with the text of a folder."""
    from seqkd_jax.data import batches, build_words, encode_pairs, plan_buckets, read_pairs

    vocab = build_words(f"word{n}" for n in range(WORDS))
    peak, began = Peak(), time.perf_counter()
    times = []

    def passed() -> None:
        times.append(f"{time.perf_counter() - began:.1f} s")

    computed = sum(os.times()[:4])
    pairs = read_pairs(folder / "train.src", folder / "train.tgt")
    passed()
    encoded = encode_pairs(pairs, vocab, vocab, max_len=60, folder=folder / "encoded")
    passed()
    buckets = plan_buckets(encoded, tokens_per_batch=4096)
    found = batches(encoded, buckets, seed=1, epoch=0)
    next(found)
    passed()
    times.append(f"{sum(os.times()[:4]) - computed:.1f} s")
    before = time.perf_counter()
    made = sum(1 for _ in itertools.islice(found, 2_000))
    rate = made / (time.perf_counter() - before)
    memory_row = [f"{most / 1e6:,.0f} MB" for most in peak.most]
    return dict(zip(COLUMNS, [*times, f"{rate:,.0f}", *memory_row], strict=True))


def order(pairs: int) -> None:
    """Prints the bytes of numpy for each pair, from ids in memory, which are not counted."""
    from seqkd_jax.data import Encoded, Report, batches, plan_buckets
    from seqkd_jax.data.sentences import Sentences

    rng = np.random.default_rng(0)
    offsets = (np.cumsum(np.append(0, 2 + rng.poisson(MEAN_WORDS, pairs))) for _ in range(2))
    src, tgt = (Sentences(np.zeros(one[-1], np.uint16), one) for one in offsets)
    tracemalloc.start()
    encoded = Encoded(src, tgt, np.arange(pairs, dtype=np.int32), Report(pairs, 0, 0, None, (), ()))
    began = time.process_time()

    def said(what: str) -> None:
        now, peak = (size / pairs for size in tracemalloc.get_traced_memory())
        seconds = time.process_time() - began
        print(f"{what:8}{now:6.1f} bytes a pair, {peak:.1f} at most, {seconds:.1f} s of CPU so far")
        tracemalloc.reset_peak()

    buckets = plan_buckets(encoded, tokens_per_batch=4096)
    said("buckets")
    found = batches(encoded, buckets, seed=1, epoch=0)
    said("order")
    next(found)
    said("batch")


def formats(folder: Path) -> None:
    """Prints what reading ``ROWS`` random pairs costs in each format, and its size on disk."""
    from array_record.python import array_record_module
    from grain.sources import ArrayRecordDataSource

    from seqkd_jax.data import build_words, encode_pairs, read_pairs

    vocab = build_words(f"word{n}" for n in range(WORDS))
    pairs = read_pairs(folder / "train.src", folder / "train.tgt")
    encoded = encode_pairs(pairs, vocab, vocab, folder=folder / "encoded")
    path = folder / "pairs.array_record"
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    began = time.perf_counter()
    for src, tgt in zip(encoded.src, encoded.tgt, strict=True):
        writer.write(np.concatenate([[len(src)], src, tgt]).astype(np.uint16).tobytes())
    writer.close()
    wrote = time.perf_counter() - began
    rng = np.random.default_rng(1)
    chosen = [rng.integers(0, len(pairs), ROWS) for _ in range(READS)]
    mapped = sum(p.stat().st_size for p in (folder / "encoded").rglob("*") if p.is_file())

    def read_mapped(rows: np.ndarray) -> None:
        encoded.src.padded(rows, 64), encoded.tgt.padded(rows, 64)

    def padded(records: list[bytes]) -> None:
        src, tgt = (np.zeros((ROWS, 64), np.int32) for _ in range(2))
        for row, record in enumerate(records):
            ids = np.frombuffer(record, np.uint16)
            size = int(ids[0])
            src[row, :size] = ids[1 : size + 1]
            tgt[row, : len(ids) - size - 1] = ids[size + 1 :]

    reader = array_record_module.ArrayRecordReader(str(path), options="readahead_buffer_size:0")
    source = ArrayRecordDataSource([str(path)])
    ways = {
        "mapped arrays": (mapped, read_mapped),
        "array_record": (path.stat().st_size, lambda rows: padded(reader.read(rows.tolist()))),
        "grain": (path.stat().st_size, lambda rows: padded(source.__getitems__(rows.tolist()))),
    }
    print(f"array_record was written in {wrote:.1f} s, by one process from encoded pairs")
    for name, (size, read) in ways.items():
        seconds = []
        for rows in chosen:
            before = time.perf_counter()
            read(rows)
            seconds.append(time.perf_counter() - before)
        print(f"{name:16}{size / 1e6:9,.0f} MB{1e3 * np.median(seconds):9.2f} ms a batch")


if __name__ == "__main__":
    main()
