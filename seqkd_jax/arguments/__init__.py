"""The arguments of the ``seqkd`` commands, one dataclass each. Floor 8.

What the commands do is in ``commands``. This package imports nothing heavy, so that ``seqkd
--help`` answers at once.
"""

from .given import Corpus as Corpus
from .given import Files as Files
from .given import Flat as Flat
from .given import Learning as Learning
from .given import TestedCorpus as TestedCorpus
from .given import Validation as Validation
from .given import Vocabularies as Vocabularies
from .learn import Compress as Compress
from .learn import Demo as Demo
from .learn import Prune as Prune
from .learn import Run as Run
from .learn import Table3 as Table3
from .learn import Train as Train
from .learn import Tune as Tune
from .measure import Bench as Bench
from .measure import Diagnose as Diagnose
from .measure import Evaluate as Evaluate
from .measure import Plan as Plan
from .measure import Report as Report
from .teach import Cache as Cache
from .teach import Distill as Distill
from .use import Export as Export
from .use import Extract as Extract
from .use import Score as Score
from .use import Translate as Translate

RESUMED = (Learning, Distill, Cache, Demo)  # the next start finds the work that is done
