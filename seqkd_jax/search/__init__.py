"""Beam search and sampling over any step function, for one sentence. Floor 2.

The functions are independent of models and devices; ``vmap`` adds sentences and ``jit`` compiles.

    memory, state = model.encode(params, src)
    step = step_fn(model, params, memory)                     of ``base``
    beam_search(step, state, beam_size=5, max_len=64, length_penalty=gnmt(0.6))
    sample(step, state, key, max_len=64, warp=chain(temperature(0.7), nucleus(0.95)))

Values that ``step`` closes over (the encoder's output) are stored once; only ``state`` is stored K
times. For many sentences whose searches differ in length, ``search_many`` needs fewer steps.
"""

from .beam import BeamLoop as BeamLoop
from .beam import BeamStep as BeamStep
from .beam import LengthRule as LengthRule
from .beam import beam_loop as beam_loop
from .beam import beam_search as beam_search
from .beam import gnmt as gnmt
from .beam import mean_per_token as mean_per_token
from .beam import no_penalty as no_penalty
from .beam import search_many as search_many
from .beam import trace as trace
from .candidates import TokenMask as TokenMask
from .candidates import for_search as for_search
from .candidates import top_candidates as top_candidates
from .sampling import Warp as Warp
from .sampling import chain as chain
from .sampling import nucleus as nucleus
from .sampling import sample as sample
from .sampling import temperature as temperature
from .sampling import top_k as top_k
