"""When does Seq-KD pay? A grid on the corpus grammar, where the truth is known.

    python docs/pays.py --folder runs/pays --seeds 1 2 3 4 5
    python docs/pays.py --tables                 # what has been measured, as a table
    python docs/pays.py --pictures docs/pictures # ... and as two pictures

Each point is a corpus, a teacher, and two students for each seed: one trained on the corpus, one on
the teacher's translations of it. Most points differ from the first one in one setting. Students
wider than that of the corpus's plan train at a rate that falls with their width. The same command
resumes; points are added to ``--out``. Several processes may share the work by ``--points``, if no
two of them train the same teacher.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from matplotlib.figure import Figure
from tabulate import tabulate

from seqkd_jax import recipes
from seqkd_jax.commands import prepare
from seqkd_jax.data import grammar, load_corpus
from seqkd_jax.diagnosis import against_truth, complexity, faithfulness, word_tables
from seqkd_jax.model_folder import load_model
from seqkd_jax.provenance import origin_lines
from seqkd_jax.report.pictures.style import BLACK, BLUE, GREY, point_style
from seqkd_jax.sealed import read_record, write_record
from seqkd_jax.settings import PLANS, Plan

FORMAT = "seqkd-pays-1"
RESULTS = Path(__file__).parent / "results" / "pays.json"


LABELS = {
    "hidden": "units of the student",
    "updates": "updates of the student",
    "pairs": "pairs of the corpus",
    "teacher_updates": "updates of the teacher",
    "errors": "share of wrong words",
}


class Point(NamedTuple):
    """One point of the grid."""

    hidden: int = 32  # of the student
    updates: int = 4000  # of the student
    pairs: int = 30_000  # of the corpus
    teacher_updates: int = 2400
    errors: float = 0.0  # share of the words of references


BASE = Point()
POINTS = [
    BASE,
    *(BASE._replace(hidden=hidden) for hidden in (12, 20, 64, 128)),
    *(BASE._replace(updates=updates) for updates in (500, 1000, 2000, 8000)),
    *(BASE._replace(pairs=pairs) for pairs in (2_000, 5_000, 10_000)),
    *(BASE._replace(teacher_updates=updates) for updates in (300, 600, 1200)),
    *(BASE._replace(errors=errors) for errors in (0.05, 0.15, 0.3)),
    BASE._replace(hidden=128, updates=8000),
    BASE._replace(hidden=64, errors=0.15),
    BASE._replace(pairs=5_000, errors=0.15),
]


def measured(point: Point, folder: Path, seeds: list[int]) -> dict[str, Any]:
    """Trains a point's models and returns its record.

    Points of the same corpus and teacher share the teacher and its n-best lists.
    """
    corpus = load_corpus("grammar")
    corpus = replace(corpus, train=grammar.with_errors(corpus.train[: point.pairs], point.errors))
    plan = _plan(point)
    taught_by = f"teacher-{point.pairs}-{point.teacher_updates}-{point.errors:g}"
    teaching = recipes.experiment(corpus, folder / taught_by, plan)
    found = {"teacher": recipes.run(teaching, ["teacher"])}
    students = [
        recipes.Experiment(
            teaching.folder / f"{point.hidden}-{point.updates}" / f"seed-{seed}",
            corpus,
            replace(plan, seed=seed),
            base=teaching,
        )
        for seed in seeds
    ]
    for name in ("baseline", "seq-kd"):
        rows = [recipes.run(exp, [name], anyway=True) for exp in students]
        found[name] = [row for of_seed in rows for row in of_seed if row.name == name]
    distilled = recipes.seq_kd_pairs(teaching)
    original, taught = word_tables([corpus.train, distilled])
    sources = [source for source, _ in corpus.test[:300]]
    folders = {"teacher": teaching.folder / "teacher"}
    folders |= {name: students[0].folder / name for name in ("baseline", "seq-kd")}
    return {
        "point": point._asdict(),
        "seeds": seeds,
        "bleu": {
            name: {k: [row.evaluation.decodings[k].bleu for row in rows] for k in (1, 5)}
            for name, rows in found.items()
        },
        "truth": {
            name: against_truth(load_model(path), sources, grammar.targets)
            for name, path in folders.items()
        },
        "complexity": {"original": complexity(original), "distilled": complexity(taught)},
        "faithfulness": faithfulness(original, taught),
        "made": [dict(row.evaluation.made) for rows in found.values() for row in rows],
    }


def _plan(point: Point) -> Plan:
    plan = PLANS["grammar"]
    rate = plan.student_training.rate * min(1, plan.student_size.hidden / point.hidden)
    teacher = replace(plan.teacher_training, epochs=None, updates=point.teacher_updates)
    student = replace(plan.student_training, epochs=None, updates=point.updates, rate=rate)
    shape = replace(plan.student_size, embed=point.hidden, hidden=point.hidden)
    training = {"teacher_training": teacher, "student_training": student}
    return replace(plan, student_size=shape, **training)


def keep(path: Path, record: dict[str, Any], lock: FileLock) -> None:
    """Adds a point to the file of results, which keeps the order of ``POINTS``."""
    with lock:
        kept = read_record(path, FORMAT)["points"] if path.exists() else []
        points = {Point(**p["point"]): p for p in [*kept, record]}
        ordered = [points[point] for point in POINTS if point in points]
        write_record(path, FORMAT, {"points": ordered})


def gains(record: dict[str, Any]) -> list[float]:
    """Returns what Seq-KD gains in greedy BLEU, with each seed."""
    before, after = (record["bleu"][row]["1"] for row in ("baseline", "seq-kd"))
    return [b - a for a, b in zip(before, after, strict=True)]


def tables(path: Path) -> str:
    """Returns the table of points."""
    kept = read_record(path, FORMAT)
    lines = []
    for record in kept["points"]:
        gain = gains(record)
        spread = f" ±{statistics.stdev(gain):.2f}" if len(gain) > 1 else ""
        signs = "".join("+" if g > 0 else "-" for g in gain)
        lines.append(
            [
                *(f"{value:,g}" for value in record["point"].values()),
                f"{record['bleu']['teacher']['5'][0]:.1f}",
                f"{statistics.fmean(record['bleu']['baseline']['1']):.1f}",
                f"{statistics.fmean(gain):+.2f}{spread} {signs}",
                f"{_lead(record):+.1f}",
                f"{record['truth']['teacher']['kl']:.2f}",
                f"{record['truth']['baseline']['kl']:.2f}",
                f"{record['complexity']['original']:.2f} > {record['complexity']['distilled']:.2f}",
                f"{record['faithfulness']:.2f}",
            ]
        )
    head = ["units", "updates", "pairs", "T updates", "errors", "T, K=5", "B, K=1", "Seq-KD gains"]
    head += ["lead", "KL T", "KL B", "complexity", "faithful"]
    text = tabulate(lines, head, disable_numparse=True, stralign="right")
    return "\n".join([text, "", *origin_lines(made for p in kept["points"] for made in p["made"])])


def settings_picture(points: list[dict[str, Any]]) -> Figure:
    """Draws what Seq-KD gains against each setting, all others being those of the first point."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    base = BASE._asdict()
    for ax, (name, label) in zip(figure.subplots(1, 5, sharey=True), LABELS.items(), strict=True):
        others = {k: v for k, v in base.items() if k != name}
        line = [p for p in points if others.items() <= p["point"].items()]
        line.sort(key=lambda p: p["point"][name])
        where = range(len(line))
        for n, record in zip(where, line, strict=True):
            gain = gains(record)
            ax.plot([n] * len(gain), gain, ".", color=GREY)
        ax.plot(where, [statistics.fmean(gains(p)) for p in line], "o-", color=BLUE)
        ax.set_xticks(where, [f"{p['point'][name]:,g}" for p in line])
        ax.axhline(0, color=BLACK, linewidth=0.8)
        ax.set_xlabel(label)
    figure.axes[0].set_ylabel("BLEU that Seq-KD gains")
    return figure


def prediction_picture(points: list[dict[str, Any]]) -> Figure:
    """Draws what Seq-KD gains against how much better the teacher is than the baseline."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    ax = figure.subplots()
    for clean, label, style in (True, "clean references", 0), (False, "references with errors", 1):
        shown = [p for p in points if (p["point"]["errors"] == 0) == clean]
        gain = [gains(p) for p in shown]
        ax.errorbar(
            [_lead(p) for p in shown],
            [statistics.fmean(g) for g in gain],
            yerr=[statistics.stdev(g) if len(g) > 1 else 0 for g in gain],
            linestyle="none",
            capsize=2,
            label=label,
            **point_style(style),
        )
    ax.axhline(0, color=BLACK, linewidth=0.8)
    ax.set_xlabel("BLEU of the teacher's beam less that of the baseline's greedy search")
    ax.set_ylabel("BLEU that Seq-KD gains")
    ax.legend()
    return figure


def _lead(record: dict[str, Any]) -> float:
    """Returns by how much the teacher's beam is better than the baseline's greedy search."""
    baseline = statistics.fmean(record["bleu"]["baseline"]["1"])
    return record["bleu"]["teacher"]["5"][0] - baseline


def main() -> None:
    """Measures the points that are missing, or prints the table."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--folder", type=Path, default=Path("runs/pays"))
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    options.add_argument("--points", type=int, nargs="+", help="numbers of points, from 0")
    options.add_argument("--out", type=Path, default=RESULTS)
    options.add_argument("--tables", action="store_true", help="only print what is in --out")
    options.add_argument("--pictures", type=Path, help="folder for pictures of what is in --out")
    given = options.parse_args()
    if given.pictures:
        points = read_record(given.out, FORMAT)["points"]
        settings_picture(points).savefig(given.pictures / "pays-settings.png", dpi=120)
        prediction_picture(points).savefig(given.pictures / "pays-prediction.png", dpi=120)
    elif not given.tables:
        prepare()
        given.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(given.folder / "results.lock")
        for number in given.points or range(len(POINTS)):
            keep(given.out, measured(POINTS[number], given.folder, given.seeds), lock)
    print(tables(given.out))


if __name__ == "__main__":
    main()
