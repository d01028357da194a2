"""What each ``seqkd`` command does: calls of the library, in the order a reader would make them."""

from .learn import compress as compress
from .learn import demo as demo
from .learn import prune as prune
from .learn import run as run
from .learn import table3 as table3
from .learn import train as train
from .measure import bench as bench
from .measure import evaluate as evaluate
from .process import prepare as prepare
from .teach import cache as cache
from .teach import distill as distill
from .use import extract as extract
from .use import score as score
from .use import translate as translate
