"""Models of one sentence pair, as tuples of pure functions. Floor 2.

The paper's own reads from embedding to logits in ``network`` (encoder, decoder step, the loop over
a known target), ``layers`` (cell, layer, stack) and ``attention``; ``blocks`` says what each part
is, ``attention_lstm`` puts them together, ``build`` makes them of settings. Other parts:
``attentions``, ``connections``, ``deep_att``, ``lower_attention``, ``reading_order``.

``inference`` makes a faster model of one whose parameters will not change. ``ensemble``,
``renumber`` and ``hint`` are functions from models to a model, ``from_linen`` and ``from_nnx``
from modules of Flax.
"""
