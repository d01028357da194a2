"""What becomes of a finished run that is damaged, and of commands that are killed.

    python docs/harm.py --mutations 1000 --kills 40

The script makes a small experiment with every kind of file that the library writes. Then

* it damages one file at a time (bits flipped, cut off, emptied, deleted, bytes added, exchanged or
  zeroed, a number in its text changed) and starts the command that reads the file again;
* it kills `run`, `distill`, `cache`, `prune` and `compress` with SIGKILL at random moments and
  starts them again until they are done.

Its tables count the outcomes:

    named       refused, with status 2 and one message that names what is damaged
    repaired    written again or taken from an older copy, with the same result as without harm
    silent      accepted, with another result                             (must not happen)
    traceback   ended with an exception that is not the user's mistake    (must not happen)
    hang        not done after two minutes, or, if that is more, ten times
                as long as without harm                                   (must not happen)

The exit status is 1 if anything happened that must not happen.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

OUTCOMES = ("named", "repaired", "silent", "traceback", "hang")
BAD = OUTCOMES[2:]
PATIENCE = 120  # seconds
# Text for people and for other programs: the library never reads these files back.
NOT_READ = re.compile(
    r"metrics\.jsonl|table3?\.txt|test\.beam.*\.txt|train\.(src|tgt)|\.lock|.*\.lock"
)

TINY = [
    *("--student-size.embed", "8", "--student-size.hidden", "8", "--student-size.dropout", "0"),
    *("--teacher-size.embed", "8", "--teacher-size.hidden", "12", "--teacher-size.dropout", "0"),
    *("--teacher-training.epochs", "3", "--student-training.epochs", "2", "--beams", "1", "2"),
    *("--fine-tuning.epochs", "1"),
    *("--vocabulary", "words", "--kd-beam", "2", "--inter-beam", "2"),
]
TRAINING = ["--epochs", "1", "--tokens-per-batch", "128"]


class Experiment:
    """The commands that make a small experiment in a folder, and the commands that read it."""

    def __init__(self, text: Path, folder: Path):
        self.folder = folder
        corpus = ["--train", f"{text}/train.src", f"{text}/train.tgt"]
        corpus += ["--valid", f"{text}/valid.src", f"{text}/valid.tgt"]
        pairs = ["--source", f"{text}/train.src"]
        teacher = f"{folder}/run/teacher"
        self.commands = {
            "run": [
                "run",
                *corpus,
                *TINY,
                "--rows",
                "teacher",
                "baseline",
                "seq-kd+seq-inter",
                "--anyway",
            ]
            + ["--out", f"{folder}/run"],
            "distill": ["distill", teacher, *pairs, "--out", f"{folder}/distilled"],
            "cache": ["cache", teacher, *pairs, "--target", f"{text}/train.tgt", "--k", "3"]
            + ["--out", f"{folder}/cache"],
            "prune": ["prune", teacher, *corpus, *TRAINING, "--out", f"{folder}/pruned"],
            "compress": ["compress", f"{folder}/pruned", *corpus, *TRAINING]
            + ["--out", f"{folder}/compressed"],
        }
        models = [f"{folder}/compressed", f"{folder}/pruned", teacher]
        self.translate = [
            ["translate", model, "--source", f"{text}/valid.src", "--beam-size", "2"]
            for model in models
        ]

    def reader_of(self, path: Path) -> list[list[str]]:
        """Returns the commands that read a file of the experiment."""
        part = path.relative_to(self.folder).parts[0]
        made_by = {"run": "run", "distilled": "distill", "cache": "cache", "pruned": "prune"}
        again = [self.commands[made_by.get(part, "compress")]]
        return again + [c for c in self.translate if Path(c[1]) in path.parents]

    def files(self) -> list[Path]:
        """Returns all files that the library reads back."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [path for path in found if not NOT_READ.fullmatch(path.name)]

    def result(self) -> str:
        """Returns a digest of the experiment's results: models, lists, tables without speeds."""
        from seqkd_jax.decode.nbest import read_nbest
        from seqkd_jax.distill.teacher_cache import open_teacher_cache
        from seqkd_jax.model_folder import load_model
        from seqkd_jax.report.results import read_results

        found = []
        for path in sorted(self.folder.rglob("config.json")):
            if path.parent.name == "values":  # the shared values of a compressed model
                continue
            found.append((str(path.relative_to(self.folder)), load_model(path.parent).digest))
        for folder in sorted({path.parent for path in self.folder.rglob("shard-*.jsonl.gz")}):
            found.append((folder.name, [n.texts for n in read_nbest(folder)[1]]))
        with contextlib.suppress(FileNotFoundError):
            cache = open_teacher_cache(self.folder / "cache")
            found.append(("cache", cache.mean_kl, [s.ids.tolist() for s in cache.shards]))
        with contextlib.suppress(FileNotFoundError):
            rows = read_results(self.folder / "run" / "results.json").rows
            found.append(("rows", [_scores(row.evaluation) for row in rows]))
        for path in sorted(self.folder.glob("distilled/train.*")):
            found.append((path.name, path.read_text()))
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _scores(evaluation) -> list[object]:
    decodings = evaluation.decodings.items()
    return [evaluation.perplexity, *((k, d.bleu, d.chrf) for k, d in decodings)]


# Damage.


def mutate(path: Path, dice: random.Random) -> str:
    """Damages a file in a random way; returns the kind of damage."""
    data = bytearray(path.read_bytes())
    at = dice.randrange(max(1, len(data)))
    kinds = ["deleted", "bytes added"]
    if data:
        kinds += ["bit flipped"] * 3 + ["cut off", "emptied", "bytes exchanged", "zeroed"]
    numbers = list(re.finditer(rb"\d+", bytes(data))) if path.suffix == ".json" else []
    kinds += ["number changed"] * (6 if numbers else 0)
    kind = dice.choice(kinds)
    if kind == "deleted":
        path.unlink()
        return kind
    before = bytes(data)
    while bytes(data) == before:
        if kind == "bytes added":
            data += dice.randbytes(dice.randint(1, 40))
        elif kind == "bit flipped":
            data[at] ^= 1 << dice.randrange(8)
        elif kind == "cut off":
            del data[at:]
        elif kind == "emptied":
            data.clear()
        elif kind == "bytes exchanged":
            data[at] = dice.randrange(256)
        elif kind == "zeroed":
            data[at : at + 64] = bytes(len(data[at : at + 64]))
            at = dice.randrange(len(data))
        else:
            number = dice.choice(numbers)
            other = str(int(number[0][:15]) + dice.choice([1, -1, 7]) * dice.randint(1, 9))
            data[number.start() : number.end()] = other.encode()
    path.write_bytes(data)
    return kind


class Hang(BaseException):
    """Raised if a command is not done in time; no ``except Exception`` can catch it."""


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raises ``Hang`` in the block after this many seconds."""

    def end(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_here(command: list[str]) -> tuple[str, str]:
    """Runs a command in this process; returns its outcome and what it wrote to standard error."""
    from seqkd_jax.__main__ import main

    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with limited(PATIENCE), warnings.catch_warnings():
                warnings.simplefilter("always")
                status = main(command)
        except Hang:
            return "hang", err.getvalue()
        except BaseException:
            traceback.print_exc()
            return "traceback", err.getvalue()
    said = err.getvalue()
    return {0: "done", 2: "named"}.get(status, "traceback"), said


def harmed(pristine: Path, work: Path, text: Path, want: str, dice: random.Random) -> list[str]:
    """Damages a file of a copied experiment; returns file, damage, outcome and messages."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(pristine, work)
    experiment = Experiment(text, work)
    victim = dice.choice(experiment.files())
    name = str(victim.relative_to(work))
    kind = mutate(victim, dice)
    said = ""
    for command in experiment.reader_of(victim):
        outcome, more = run_here(command)
        said += more
        if outcome == "named":
            # The message must name the file, or the folder or checkpoint that the file is part of.
            last = more.strip().split("\n")[-1]
            paths = [victim, *victim.parents][: len(victim.relative_to(work).parts)]
            known = any(str(path) in last for path in paths)
            return [name, kind, "named" if known else "traceback", said]
        if outcome != "done":
            return [name, kind, outcome, said]
    try:
        same = experiment.result() == want
    except Exception as error:  # the command accepted a file that is refused only now
        return [name, kind, "silent", said + repr(error)]
    return [name, kind, "repaired" if same else "silent", said]


# Kills.


def start(command: list[str], folder: Path) -> subprocess.Popen:
    """Starts a command in a process of its own; all processes share compiled programs."""
    environment = dict(os.environ, JAX_COMPILATION_CACHE_DIR=str(folder / "compiled"))
    return subprocess.Popen(
        [sys.executable, "-m", "seqkd_jax", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def killed(
    name: str,
    pristine: Path,
    work: Path,
    text: Path,
    want: str,
    seconds: float,
    dice: random.Random,
) -> tuple[str, int, str]:
    """Kills a command up to three times, then lets it finish; returns outcome, kills, output."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(pristine, work)
    experiment = Experiment(text, work)
    command, kills = experiment.commands[name], 0
    shutil.rmtree(command[-1])
    for _ in range(dice.randint(1, 3)):
        process = start(command, work.parent)
        try:
            process.communicate(timeout=dice.uniform(0, seconds))
            break  # the command was faster than the kill
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
    process = start(command, work.parent)
    try:
        said = process.communicate(timeout=max(PATIENCE, 10 * seconds))[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return "hang", kills, process.communicate()[0]
    if process.returncode:
        return "named" if process.returncode == 2 else "traceback", kills, said
    return "repaired" if experiment.result() == want else "silent", kills, said


# Everything together.


def write_text(folder: Path) -> None:
    """Writes a few hundred sentence pairs of the grammar."""
    from seqkd_jax.data import write_lines
    from seqkd_jax.data.grammar import splits

    folder.mkdir()
    parts = splits(1, 300, 20, 20)
    for part in ("train", "valid"):
        for side, lines in zip(("src", "tgt"), zip(*parts[part], strict=True), strict=True):
            write_lines(folder / f"{part}.{side}", lines)


def table(title: str, counts: dict[str, Counter]) -> str:
    """Returns a table of the outcomes of each kind of harm, and of all together."""
    from tabulate import tabulate

    counts = dict(sorted(counts.items())) | {"all": sum(counts.values(), Counter())}
    lines = [[name, sum(c.values()), *(c[o] for o in OUTCOMES)] for name, c in counts.items()]
    return tabulate(lines, [title, "tried", *OUTCOMES])


def kind_of(name: str) -> str:
    """Returns the kind of a file, for the table."""
    if "checkpoints" in name:
        return "manifest" if name.endswith(".sha256") else "checkpoint"
    return re.sub(r"\d{5}", "N", Path(name).name)


def main() -> int:
    """Makes the experiment, harms it, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="print every harm and its outcome")
    given = parser.parse_args()
    dice = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="seqkd-harm-") as folder:
        root = Path(folder)
        text, pristine, work = root / "text", root / "pristine", root / "work"
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        write_text(text)
        # Made in the folder where the copies will be read, so that all paths are the same.
        seconds: dict[str, float] = {}
        for name, command in Experiment(text, work).commands.items():
            for _ in range(2):  # the second run, with all programs compiled, is timed
                shutil.rmtree(command[-1], ignore_errors=True)
                begun = time.monotonic()
                process = start(command, root)
                said = process.communicate()[0]
                seconds[name] = time.monotonic() - begun
                if process.returncode:
                    sys.exit(f"{name} failed without any harm:\n{said}")
        shutil.copytree(work, pristine)
        want = Experiment(text, work).result()
        report: Callable[..., None] = print if given.verbose else lambda *_: None

        counts: dict[str, Counter] = {}
        for _ in range(given.mutations):
            name, kind, outcome, said = harmed(pristine, work, text, want, dice)
            counts.setdefault(kind_of(name), Counter())[outcome] += 1
            report(f"{outcome}: {name}, {kind}: {said.strip()[-300:]}")
            if outcome in BAD:
                print(f"{outcome}: {name}, {kind}\n{said}", file=sys.stderr)
        print(table("damaged", counts), end="\n\n", flush=True)

        after: dict[str, Counter] = {}
        kills = 0
        for number in range(10**6):
            if kills >= given.kills:
                break
            name = list(seconds)[number % len(seconds)]
            outcome, more, said = killed(name, pristine, work, text, want, seconds[name], dice)
            kills += more
            after.setdefault(name, Counter())[outcome] += 1
            if outcome != "repaired":
                print(f"{outcome}: {name}\n{said}", file=sys.stderr)
        print(table("killed", after), f"\n\n{kills} kills", flush=True)
    bad = sum(count[o] for count in (*counts.values(), *after.values()) for o in BAD)
    return 1 if bad or any(count["named"] for count in after.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
