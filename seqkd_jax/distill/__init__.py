"""Sequence-level distillation: a map over the corpus. Floor 3."""

from .nbest import NBest as NBest
from .nbest import read_nbest as read_nbest
from .translate import translate as translate
from .translate import translate_corpus as translate_corpus
from .translate import translate_texts as translate_texts
