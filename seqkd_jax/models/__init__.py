"""Models of one sentence pair, as tuples of pure functions. Floor 2.

The paper's model is in ``network`` (encoder, decoder step, the loop over a known target),
``layers`` (word vectors, cell, layer, stack, projection) and ``attention``. ``blocks`` defines the
types of its parts and ``attention_lstm`` composes them. Alternative parts are in ``attentions``,
``connections``, ``lower_attention``, ``reading_order`` and ``contrib``.

``inference`` builds a faster model for parameters that do not change. ``ensemble`` and
``renumber`` transform models into a model, ``from_linen`` and ``from_nnx`` adapt Flax modules.
"""

from . import attention as attention
from . import attentions as attentions
from . import blocks as blocks
from . import connections as connections
from . import inspection as inspection
from . import layers as layers
from . import lower_attention as lower_attention
from . import network as network
from . import params as params
from . import reading_order as reading_order
from . import renumber as renumber
