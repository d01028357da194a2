"""Pictures of trainings, models, searches and results. Needs matplotlib.

Each function draws on the axes ``ax`` that it is given, or on new ones, and returns them:

    ax = pictures.training_curves(["runs/teacher", "runs/seq-kd"])
    ax.figure.savefig("curves.pdf")

training       curves of trainings, in a notebook also while they go on
attention      where a model attends, with words of any script
beam           a beam search and an n-best list as trees, with scores
distributions  what models hold probable: sentences, the next word, their own output
pareto         BLEU against speed and size
buckets        differences by the length of sentences and by the frequency of words
diagnosis      what ``diagnosis.diagnose`` measured

They can be read in print and by the colour-blind (``style``).
"""

from .attention import attention_map as attention_map
from .attention import attention_matrix as attention_matrix
from .beam import beam_tree as beam_tree
from .beam import nbest_tree as nbest_tree
from .buckets import differences_by_frequency as differences_by_frequency
from .buckets import differences_by_length as differences_by_length
from .diagnosis import corpus_complexity as corpus_complexity
from .diagnosis import draw_diagnosis as draw_diagnosis
from .diagnosis import oracle_curve as oracle_curve
from .diagnosis import output_shares as output_shares
from .diagnosis import position_losses as position_losses
from .diagnosis import reliability as reliability
from .diagnosis import truth_shares as truth_shares
from .distributions import distributions as distributions
from .distributions import mode_mass as mode_mass
from .distributions import next_word as next_word
from .pareto import bleu_by_size as bleu_by_size
from .pareto import bleu_by_speed as bleu_by_speed
from .pareto import pareto_front as pareto_front
from .style import check_pictures as check_pictures
from .training import live_curves as live_curves
from .training import read_curve as read_curve
from .training import training_curves as training_curves
