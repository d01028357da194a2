"""What each ``seqkd`` command does, in calls of the library that a user could make. Floor 9."""

from .learn import compress as compress
from .learn import demo as demo
from .learn import prune as prune
from .learn import run as run
from .learn import table3 as table3
from .learn import train as train
from .learn import tune as tune
from .measure import bench as bench
from .measure import diagnose as diagnose
from .measure import evaluate as evaluate
from .measure import report as report
from .plan import plan as plan
from .process import prepare as prepare
from .teach import cache as cache
from .teach import distill as distill
from .use import export as export
from .use import extract as extract
from .use import score as score
from .use import translate as translate
