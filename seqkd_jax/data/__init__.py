"""Text and ids: files, vocabularies, pairs, length buckets, named corpora. Floor 2."""

from .batches import SOURCE_LENGTHS as SOURCE_LENGTHS
from .batches import Bucket as Bucket
from .batches import batches as batches
from .batches import describe as describe
from .batches import number_of_batches as number_of_batches
from .batches import plan_buckets as plan_buckets
from .batches import source_batches as source_batches
from .corpora import Corpus as Corpus
from .corpora import corpus_from_files as corpus_from_files
from .corpora import load_corpus as load_corpus
from .encode import Encoded as Encoded
from .encode import Report as Report
from .encode import encode_pairs as encode_pairs
from .inputs import load_vocabulary as load_vocabulary
from .text import read_lines as read_lines
from .text import read_pairs as read_pairs
from .text import write_lines as write_lines
from .vocab import PieceVocabulary as PieceVocabulary
from .vocab import Vocabulary as Vocabulary
from .vocab import WordVocabulary as WordVocabulary
from .vocab import build_words as build_words
from .vocab import check_same as check_same
from .vocab import renumbering as renumbering
from .vocab import train_pieces as train_pieces
