"""Table 3 of Kim & Rush (2016): the Seq-KD student, pruned, trained further and compressed."""

from pathlib import Path

import jax
import numpy as np

from ..files import atomic_write
from ..model_folder import load_model
from ..report.compressed import CompressedRow, compressed_table, write_compressed_rows
from ..trained import TrainedModel
from .compression import compress, prune, share_values
from .experiment import Experiment
from .rows import about_experiment, evaluated, ready
from .table1 import seq_kd, seq_kd_pairs, teacher


def table3(exp: Experiment) -> list[CompressedRow]:
    """Prunes the Seq-KD student of an experiment and writes ``table3.json`` and ``table3.txt``.

    Each round prunes the student of the round before and trains it on the teacher's translations.
    Each student, pruned or not, is also written as a compressed model whose shared values have been
    trained, read back, and evaluated.

    Raises:
      UsageError: there are no pairs to test on, their text cannot be scored, or the ratios do not
        rise.
    """
    ratios = exp.plan.prune_ratios
    ready(exp)
    student, pairs, plan = seq_kd(exp), seq_kd_pairs(exp), exp.plan
    obd = plan.prune_by == "obd"
    first = teacher(exp)
    rows = [
        _row(exp, "teacher", 0.0, first),
        _compressed(exp, "seq-kd", 0.0, student),
    ]
    for ratio in ratios:
        name = f"pruned-{100 * ratio:g}"
        student = prune(exp, name, student, pairs, plan.pruning, ratios=(ratio,), obd=obd)
        rows.append(_compressed(exp, name, ratio, student))
    write_compressed_rows(exp.folder / "table3.json", about_experiment(exp), rows)
    atomic_write(exp.folder / "table3.txt", (compressed_table(rows) + "\n").encode())
    return rows


def _compressed(exp: Experiment, name: str, ratio: float, trained: TrainedModel) -> CompressedRow:
    """Returns a student's row: the student itself, and what its compressed file gives back."""
    plan, stage = exp.plan, f"{name}-{exp.plan.bits}bit"
    values = str(Path(stage) / "values")
    shared = share_values(exp, values, trained, seq_kd_pairs(exp), plan.fine_tuning, plan.bits)
    sizes = compress(exp.folder / stage, shared, plan.bits)
    read = load_model(exp.folder / stage)
    return _row(exp, name, ratio, trained, sizes.huffman, evaluated(exp, stage, read))


def _row(exp: Experiment, name: str, ratio: float, trained: TrainedModel, *file) -> CompressedRow:
    left = sum(int(np.count_nonzero(w)) for w in jax.tree.leaves(trained.params))
    return CompressedRow(name, ratio, left, evaluated(exp, name, trained), *file)
