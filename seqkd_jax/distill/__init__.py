"""Distillation as data: corpora from n-best lists, and caches of a teacher's outputs. Floor 5."""

from .filters import filter_chunks as filter_chunks
from .filters import filter_pairs as filter_pairs
from .filters import length_ratio as length_ratio
from .filters import max_repeats as max_repeats
from .filters import mean_log_prob as mean_log_prob
from .filters import min_similarity as min_similarity
from .select import Selected as Selected
from .select import closest_to_list as closest_to_list
from .select import closest_to_reference as closest_to_reference
from .select import in_chunks as in_chunks
from .select import mbr as mbr
from .select import seq_inter as seq_inter
from .select import seq_kd as seq_kd
from .select import share_differing as share_differing
from .select import weighted_seq_kd as weighted_seq_kd
from .similarity import choose as choose
from .similarity import chrf as chrf
from .teacher_cache import TeacherCache as TeacherCache
from .teacher_cache import cache_teacher as cache_teacher
from .teacher_cache import open_teacher_cache as open_teacher_cache
