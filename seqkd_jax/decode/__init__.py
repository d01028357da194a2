"""Decoding corpora: translation, n-best files, shards, shortlists, unknown words. Floor 4."""

from .attention import attention_weights as attention_weights
from .corpus import translate_corpus as translate_corpus
from .nbest import NBest as NBest
from .nbest import read_nbest as read_nbest
from .shortlist import Shortlist as Shortlist
from .shortlist import fit_shortlist as fit_shortlist
from .translation import SourceCut as SourceCut
from .translation import compile_search as compile_search
from .translation import trace_search as trace_search
from .translation import translate as translate
from .translation import translate_stream as translate_stream
from .translation import translate_texts as translate_texts
from .unknown import read_dictionary as read_dictionary
from .unknown import replace_unknown as replace_unknown
from .unknown import without_unknown as without_unknown
