"""What distillation changed: a teacher and its students, compared beyond BLEU. Floor 7.

corpora   how hard a corpus is to learn: complexity and faithfulness
tokens    confidence, calibration and loss at each position
outputs   translations: search errors, repeated phrases, the oracle of n-best lists
truth     the distance to a truth that is known
buckets   scores by the length of sentences and by the frequency of words
models    all of it for a teacher and its students, as one record
"""

from .buckets import Bucket as Bucket
from .buckets import accuracy_by_frequency as accuracy_by_frequency
from .buckets import bleu_by_length as bleu_by_length
from .corpora import complexity as complexity
from .corpora import faithfulness as faithfulness
from .corpora import word_tables as word_tables
from .models import diagnose as diagnose
from .outputs import oracle as oracle
from .outputs import repeats as repeats
from .outputs import search_errors as search_errors
from .tokens import calibration as calibration
from .tokens import calibration_error as calibration_error
from .tokens import loss_by_position as loss_by_position
from .tokens import next_tokens as next_tokens
from .tokens import predictions as predictions
from .truth import against_truth as against_truth
from .truth import next_words as next_words
