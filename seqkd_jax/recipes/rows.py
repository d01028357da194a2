"""Rows trained, evaluated and put in a table."""

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

import jax

from ..data import grammar
from ..distill.translate import lines_digest
from ..errors import UsageError
from ..evaluate import Evaluation, corpus_bleu, evaluate
from ..files import atomic_write
from ..plan import GREEDY
from ..report.compressed import read_evaluation
from ..report.results import write_results
from ..report.table import Row, Truth, compared, table
from ..train.model_folder import Trained, training_seconds
from .on_policy import on_policy
from .stages import Lab, Pairs
from .systems import SYSTEMS
from .table1 import TABLE1

ROWS: dict[str, Callable[[Lab], Trained]] = {**TABLE1, "on-policy": on_policy, **SYSTEMS}


def run(lab: Lab, rows: Iterable[str] = tuple(TABLE1), truth: Truth | None = None) -> list[Row]:
    """Trains and evaluates rows, and writes ``results.json`` and ``table.txt``.

    The differences of students are to ``baseline``, that of ``teacher+seq-inter`` to
    ``teacher``; both are evaluated with them. Done stages are not done again.

    Raises:
      UsageError: a row's name is not one of ``ROWS``.
    """
    wanted = list(dict.fromkeys(rows))
    for name in wanted:
        if name not in ROWS:
            raise UsageError(f"There is no row {name!r}; the rows are: {', '.join(ROWS)}.")
    for name in tuple(wanted):
        baseline_of = "teacher" if name.startswith("teacher") else "baseline"
        if baseline_of not in wanted:
            wanted.insert(0, baseline_of)
    done = []
    for name in wanted:
        trained = ROWS[name](lab)
        done.append(
            Row(name, evaluated(lab, name, trained), {}, training_seconds(lab.folder / name))
        )
    result = compared(done, [target for _, target in lab.corpus.test], lab.plan.tokenize)
    about = {
        "corpus": str(lab.corpus),
        "plan": asdict(lab.plan),
        "jax": jax.__version__,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
    }
    write_results(lab.folder / "results.json", about, result, truth)
    atomic_write(lab.folder / "table.txt", (table(result, truth) + "\n").encode())
    return result


def evaluated(lab: Lab, name: str, trained: Trained) -> Evaluation:
    """Evaluates a stage on the test set, once; outputs are kept as text files beside it."""
    plan, path = lab.plan, lab.folder / name / "evaluation.json"
    stamp = {
        "model": trained.digest,
        "test": lines_digest([side for pair in lab.corpus.test for side in pair]),
        "beams": list(plan.beams),
        "tokenize": plan.tokenize,
        "max_source": plan.max_source,
    }
    if path.exists():
        kept = json.loads(path.read_bytes())
        if kept.pop("of") == stamp:
            return read_evaluation(kept)
    evaluation = evaluate(
        trained.model,
        trained.params,
        trained.src_vocab,
        trained.tgt_vocab,
        lab.corpus.test,
        beams=plan.beams,
        search=replace(GREEDY, max_source=plan.max_source),
        tokenize=plan.tokenize,
    )
    for beam, decoding in evaluation.decodings.items():
        lines = "".join(line + "\n" for line in decoding.outputs)
        atomic_write(lab.folder / name / f"test.beam{beam}.txt", lines.encode())
    atomic_write(path, json.dumps({"of": stamp, **asdict(evaluation)}, indent=1).encode())
    return evaluation


def grammar_truth(pairs: Pairs) -> Truth:
    """Computes the grammar's own values on sentence pairs that it generated."""
    modes, nats, tokens, mass = [], 0.0, 0, 0.0
    for source, target in pairs:
        targets = grammar.targets(source)
        mode = max(targets, key=lambda t: targets[t])
        modes.append(mode)
        nats -= math.log(targets[target])
        tokens += len(target.split()) + 1
        mass += targets[mode]
    references = [target for _, target in pairs]
    return Truth(
        bleu=corpus_bleu(modes, references, "none"),
        perplexity=math.exp(nats / tokens),
        mode_mass=mass / len(pairs),
    )
