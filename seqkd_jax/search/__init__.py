"""Beam search and sampling over any step function, for one sentence. Floor 2.

Nothing here knows of models or devices: ``vmap`` adds the sentences and ``jit`` compiles.

    def step(state, token):
        hidden, state = model.step(params, memory, state, token)
        return model.project(params, hidden), state

    beam_search(step, state, beam_size=5, max_len=64, length_penalty=gnmt(0.6))
    sample(step, state, key, max_len=64, warp=chain(temperature(0.7), nucleus(0.95)))

What ``step`` closes over (the encoder's output) exists once; only ``state`` is held K times. Of
many sentences whose searches differ in length, ``search_all`` does the work with fewer steps.
"""

from .beam import BeamSteps as BeamSteps
from .beam import LengthRule as LengthRule
from .beam import beam_search as beam_search
from .beam import beam_steps as beam_steps
from .beam import gnmt as gnmt
from .beam import mean_per_token as mean_per_token
from .beam import no_penalty as no_penalty
from .beam import search_all as search_all
from .candidates import Allowed as Allowed
from .candidates import for_search as for_search
from .candidates import top_candidates as top_candidates
from .sampling import Warp as Warp
from .sampling import chain as chain
from .sampling import nucleus as nucleus
from .sampling import sample as sample
from .sampling import temperature as temperature
from .sampling import top_k as top_k
