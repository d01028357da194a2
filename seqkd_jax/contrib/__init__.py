"""Other systems and extensions, one module each; the core imports none of them. Floor 5.

characters         words read character by character (Kim et al. 2016)
factors            source words with features (Sennrich and Haddow 2016)
deep_att           Deep-Att and Deep-ED (Zhou et al. 2016)
sutskever          no attention, reversed sources, and the SGD schedule (Sutskever et al. 2014)
low_rank           matrices as products of two factors (Denil et al. 2013)
obd                saliencies for pruning by Optimal Brain Damage (LeCun et al. 1990)
hint               a teacher's hidden states as targets (Romero et al. 2015)
guided_alignment   attention trained towards word alignments (Chen et al. 2016)
nbest_lists        n-best lists as a teacher
"""

from .characters import Spelling as Spelling
from .characters import character_cnn as character_cnn
from .characters import character_vocabulary as character_vocabulary
from .characters import spelling_table as spelling_table
from .characters import spelt as spelt
from .deep_att import at_input as at_input
from .deep_att import fast_forward as fast_forward
from .deep_att import fixed_context as fixed_context
from .deep_att import from_zero as from_zero
from .deep_att import interleaved as interleaved
from .deep_att import peephole as peephole
from .factors import FactoredVocabulary as FactoredVocabulary
from .factors import build_factored as build_factored
from .factors import factored as factored
from .guided_alignment import alignment_ce as alignment_ce
from .guided_alignment import alignment_mse as alignment_mse
from .guided_alignment import read_alignments as read_alignments
from .guided_alignment import with_alignments as with_alignments
from .guided_alignment import with_attention_output as with_attention_output
from .hint import OutputsWithHidden as OutputsWithHidden
from .hint import hinted as hinted
from .hint import on_hidden as on_hidden
from .hint import on_logits as on_logits
from .hint import with_hidden_output as with_hidden_output
from .low_rank import factorize as factorize
from .low_rank import multiply_factors as multiply_factors
from .low_rank import predict_from_rows as predict_from_rows
from .low_rank import svd as svd
from .low_rank import with_fixed_left as with_fixed_left
from .nbest_lists import nbest_teacher as nbest_teacher
from .obd import fisher_diagonal as fisher_diagonal
from .obd import saliencies as saliencies
from .sutskever import REVERSED as REVERSED
from .sutskever import half_epoch_sgd as half_epoch_sgd
from .sutskever import without_attention as without_attention
