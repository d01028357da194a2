"""Recipes: whole experiments, each a few calls to copy into a notebook. Floor 8.

    exp = recipes.experiment("grammar", "runs/grammar")
    student = recipes.seq_kd(exp)                       # a trained model
    results = recipes.run(exp, ["baseline", "seq-kd"])  # evaluated rows, and a table

A row calls the stages that it needs; each stage is run once and then read from its folder (see
``experiment`` and ``stages``).
"""

from .compression import compress as compress
from .compression import prune as prune
from .compression import share_values as share_values
from .experiment import Experiment as Experiment
from .experiment import experiment as experiment
from .objectives import LIKELIHOOD as LIKELIHOOD
from .objectives import Objective as Objective
from .objectives import Trainable as Trainable
from .objectives import on_policy_from as on_policy_from
from .objectives import word_kd_from as word_kd_from
from .on_policy import on_policy as on_policy
from .rows import NEEDS_TEACHER as NEEDS_TEACHER
from .rows import ROWS as ROWS
from .rows import evaluated as evaluated
from .rows import grammar_truth as grammar_truth
from .rows import ready as ready
from .rows import run as run
from .rows import table_of as table_of
from .rows import with_baselines as with_baselines
from .stages import nbest as nbest
from .stages import new as new
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
from .tune import tune as tune
from .variants import seq_kd_all as seq_kd_all
from .variants import seq_kd_filtered as seq_kd_filtered
from .variants import seq_kd_weighted as seq_kd_weighted
from .weak import weakness as weakness
