"""The examples in docstrings show what they say."""

import doctest
import importlib

import pytest
from test_shape_of_the_house import NAMES

EXAMPLES = sorted(name for name, path in NAMES.items() if ">>> " in path.read_text())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_a_module_hold(name):
    module = importlib.import_module(f"seqkd_jax.{name}")
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert tried and not failed


def test_losses_search_and_selection_have_examples():
    assert {"losses.combine", "search.beam", "distill.select", "bleu"} <= set(EXAMPLES)
