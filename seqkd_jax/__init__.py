"""Sequence-level knowledge distillation (Kim & Rush 2016, arXiv 1606.07947) in JAX.

Names are loaded when first used, so ``import seqkd_jax`` costs no more than JAX itself; the
list of public names is ``__init__.pyi``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
