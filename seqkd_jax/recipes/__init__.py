"""Recipes: whole experiments, each a few calls to copy into a notebook.

    lab = recipes.lab("grammar", "runs/grammar")
    student = recipes.seq_kd(lab)                       # a trained model
    results = recipes.run(lab, ["baseline", "seq-kd"])  # evaluated rows, and a table

A row asks for the stages that it needs; each is done once (see ``stages``).
"""

from .compression import compress as compress
from .compression import prune as prune
from .compression import share_values as share_values
from .on_policy import on_policy as on_policy
from .rows import ROWS as ROWS
from .rows import evaluated as evaluated
from .rows import grammar_truth as grammar_truth
from .rows import ready as ready
from .rows import run as run
from .rows import with_baselines as with_baselines
from .stages import Lab as Lab
from .stages import lab as lab
from .stages import nbest as nbest
from .stages import train as train
from .table1 import TABLE1 as TABLE1
from .table1 import baseline as baseline
from .table1 import baseline_seq_inter as baseline_seq_inter
from .table1 import fine_tune as fine_tune
from .table1 import seq_inter_pairs as seq_inter_pairs
from .table1 import seq_kd as seq_kd
from .table1 import seq_kd_pairs as seq_kd_pairs
from .table1 import seq_kd_seq_inter as seq_kd_seq_inter
from .table1 import seq_kd_seq_inter_word_kd as seq_kd_seq_inter_word_kd
from .table1 import seq_kd_word_kd as seq_kd_word_kd
from .table1 import teacher as teacher
from .table1 import teacher_seq_inter as teacher_seq_inter
from .table1 import word_kd_row as word_kd_row
from .table1 import word_kd_seq_inter as word_kd_seq_inter
from .table3 import table3 as table3
