"""Table 3 of Kim & Rush (2016): the Seq-KD student, pruned, trained again and compressed."""

from pathlib import Path

import jax
import numpy as np

from ..errors import UsageError
from ..files import atomic_write
from ..report.compressed import CompressedRow, compressed_table, write_compressed_rows
from ..train.model_folder import Trained, load_model
from .compression import compress, prune, share_values
from .rows import about_lab, evaluated, ready
from .stages import Lab
from .table1 import seq_kd, seq_kd_pairs, teacher


def table3(lab: Lab) -> list[CompressedRow]:
    """Prunes the Seq-KD student of a lab and writes ``table3.json`` and ``table3.txt``.

    Each ratio goes on from the one before, with training between, on the teacher's translations.
    Each student, pruned or not, is also written as a compressed model, its shared values trained,
    and evaluated as it is read back.

    Raises:
      UsageError: there is nothing to test on, its text cannot be scored, or the ratios do not rise.
    """
    ready(lab)
    ratios = lab.plan.prune_ratios
    if any(a >= b for a, b in zip(ratios, ratios[1:], strict=False)):
        raise UsageError(f"prune_ratios is {ratios}: they must rise from round to round.")
    student, pairs, plan = seq_kd(lab), seq_kd_pairs(lab), lab.plan
    obd = plan.prune_by == "obd"
    first = teacher(lab)
    rows = [_row(lab, "teacher", 0.0, first), _compressed(lab, "seq-kd", 0.0, student)]
    for ratio in ratios:
        name = f"pruned-{100 * ratio:g}"
        student = prune(lab, name, student, pairs, plan.pruning, ratios=(ratio,), obd=obd)
        rows.append(_compressed(lab, name, ratio, student))
    write_compressed_rows(lab.folder / "table3.json", about_lab(lab), rows)
    atomic_write(lab.folder / "table3.txt", (compressed_table(rows) + "\n").encode())
    return rows


def _compressed(lab: Lab, name: str, ratio: float, trained: Trained) -> CompressedRow:
    """A student's row: as it is, and as the compressed file gives it back."""
    plan, stage = lab.plan, f"{name}-{lab.plan.bits}bit"
    values = str(Path(stage) / "values")
    shared = share_values(lab, values, trained, seq_kd_pairs(lab), plan.fine_tuning, plan.bits)
    sizes = compress(lab.folder / stage, shared, plan.bits)
    read = load_model(lab.folder / stage)
    return _row(lab, name, ratio, trained, sizes.huffman, evaluated(lab, stage, read))


def _row(lab: Lab, name: str, ratio: float, trained: Trained, *file) -> CompressedRow:
    left = sum(int(np.count_nonzero(w)) for w in jax.tree.leaves(trained.params))
    return CompressedRow(name, ratio, left, evaluated(lab, name, trained), *file)
