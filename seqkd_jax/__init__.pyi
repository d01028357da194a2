from .base import BOS as BOS
from .base import EOS as EOS
from .base import PAD as PAD
from .base import UNK as UNK
from .base import Example as Example
from .base import Hypotheses as Hypotheses
from .base import Seq2Seq as Seq2Seq
from .base import Total as Total
