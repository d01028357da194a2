"""Is bfloat16 as good as float32? Loss curves and BLEU of students that differ in nothing else.

    python docs/bfloat16.py --folder runs/bfloat16 --corpora grammar --seeds 1 2 3

Trains the student of each corpus's plan on the data alone, once in each type and for each seed.
Each is then searched in both types: a model's parameters are float32 whatever it computes in. The
same command resumes; results are added to ``--out``, and this prints their tables again:

    python docs/bfloat16.py --tables
"""

import argparse
import json
import statistics
from dataclasses import replace
from itertools import product
from pathlib import Path

from seqkd_jax import recipes
from seqkd_jax.commands import prepare
from seqkd_jax.evaluation import evaluate
from seqkd_jax.model_folder import training_began, training_seconds
from seqkd_jax.provenance import origin_lines
from seqkd_jax.report.speed import speed_table
from seqkd_jax.scoring import scorer_of
from seqkd_jax.sealed import read_record, write_record
from seqkd_jax.settings import PLANS

FORMAT = "seqkd-bfloat16-2"
RESULTS = Path(__file__).parent / "results" / "bfloat16.json"
TYPES = ("float32", "bfloat16")
SHORT = {"float32": "f32", "bfloat16": "bf16"}  # in the heads of tables


def student(corpus: str, folder: Path, seed: int, dtype: str, given: argparse.Namespace) -> dict:
    """Trains and evaluates one student; returns its record."""
    plan = PLANS[corpus]
    training = plan.student_training
    training = replace(
        training, epochs=given.epochs or training.epochs, rate=given.rate or training.rate
    )
    plan = replace(plan, seed=seed, student_size=replace(plan.student_size, dtype=dtype))
    exp = recipes.experiment(corpus, folder / corpus, plan)
    name = f"{dtype}-seed{seed}"
    trained = recipes.train(
        exp, name, recipes.new(exp, plan.student_size), exp.corpus.train, training
    )
    scorer = scorer_of(exp.corpus, plan.tokenize, trained.tgt_vocab.lower)
    searched = {}
    for search_dtype in TYPES:
        model = recipes.new(exp, replace(plan.student_size, dtype=search_dtype)).model
        result = evaluate(
            trained.with_params(trained.params, model), exp.corpus.test, scorer=scorer
        )
        bleu = {str(k): d.bleu for k, d in result.decodings.items()}
        searched[search_dtype] = {"perplexity": result.perplexity, "bleu": bleu}
    lines = (exp.folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    return {
        "corpus": corpus,
        "seed": seed,
        "dtype": dtype,
        "epochs": training.epochs,
        "seconds": training_seconds(exp.folder / name),
        "steps": [m["step"] for m in metrics if "train" in m],
        "loss": [m["train"]["loss"] for m in metrics if "train" in m],
        "validation": [m["valid"]["perplexity"] for m in metrics if "valid" in m],
        "searched": searched,
        "made": training_began(exp.folder / name),
    }


def keep(path: Path, record: dict) -> None:
    """Adds a record to the file of results."""
    kept = read_record(path, FORMAT) if path.exists() else {"runs": []}
    same = ("corpus", "seed", "dtype")
    others = [r for r in kept["runs"] if any(r[name] != record[name] for name in same)]
    write_record(path, FORMAT, kept | {"runs": [*others, record]})


def tables(path: Path) -> str:
    """Returns the tables: the loss curves, then BLEU by the type of training and of search."""
    kept = read_record(path, FORMAT)
    runs = {(r["corpus"], r["seed"], r["dtype"]): r for r in kept["runs"]}
    curves, scores = [], []
    for corpus, seed in dict.fromkeys((corpus, seed) for corpus, seed, _ in runs):
        if (corpus, seed, TYPES[0]) not in runs or (corpus, seed, TYPES[1]) not in runs:
            continue
        both = [runs[corpus, seed, dtype] for dtype in TYPES]
        gaps = [b - a for a, b in zip(both[0]["loss"], both[1]["loss"], strict=True)]
        row = {"row": f"{corpus}, seed {seed}", "updates": str(both[0]["steps"][-1])}
        curves.append(
            row
            | {f"loss, {SHORT[r['dtype']]}": f"{r['loss'][-1]:.4f}" for r in both}
            | {"mean difference": f"{statistics.mean(gaps):+.4f}"}
            | {"largest": f"{max(gaps, key=abs):+.4f}"}
            | {f"PPL, {SHORT[r['dtype']]}": f"{min(r['validation']):.4f}" for r in both}
        )
    for corpus, beam in product(dict.fromkeys(c for c, _, _ in runs), ("1", "5")):
        row = {"row": f"{corpus}, K = {beam}"}
        for trained_in, searched_in in product(TYPES, TYPES):
            found = [
                r["searched"][searched_in]["bleu"][beam]
                for (c, _, dtype), r in runs.items()
                if (c, dtype) == (corpus, trained_in)
            ]
            spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
            if found:
                row[f"{SHORT[trained_in]}, search in {SHORT[searched_in]}"] = (
                    f"{statistics.mean(found):.2f}{spread}"
                )
        scores.append(row)
    made = origin_lines(run["made"] for run in kept["runs"])
    return "\n\n".join([speed_table(curves), speed_table(scores), *made])


def main() -> None:
    """Trains what is missing, or prints the tables."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--folder", type=Path, default=Path("runs/bfloat16"))
    options.add_argument("--corpora", nargs="+", default=["grammar"], choices=list(PLANS))
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--epochs", type=int, help="instead of the plan's")
    options.add_argument("--rate", type=float, help="instead of the plan's")
    options.add_argument("--out", type=Path, default=RESULTS)
    options.add_argument("--tables", action="store_true", help="only print what is in --out")
    given = options.parse_args()
    if not given.tables:
        prepare()
        for corpus, seed, dtype in product(given.corpora, given.seeds, TYPES):
            keep(given.out, student(corpus, given.folder, seed, dtype, given))
    print(tables(given.out))


if __name__ == "__main__":
    main()
