"""The examples in docstrings show what they say."""

import doctest
import importlib
import inspect

import pytest
from test_shape_of_the_house import NAMES

import seqkd_jax

EXAMPLES = sorted(name for name, path in NAMES.items() if ">>> " in path.read_text())
LONG = {"data.corpora", "decode.corpus", "evaluation", "export", "exported", "parallel"}
SLOW = pytest.mark.slow
# Their examples are modules of flax, which tests/test_from_flax.py runs.
OF_FLAX = {"from_linen", "from_nnx"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[SLOW] if name in LONG else []) for name in EXAMPLES]
)
def test_the_examples_of_a_module_hold(name):
    module = importlib.import_module(f"seqkd_jax.{name}")
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert tried and not failed


def test_losses_search_and_selection_have_examples():
    assert {"losses.combine", "search.beam", "distill.select", "bleu"} <= set(EXAMPLES)


def test_each_public_name_is_described_and_has_an_example():
    for name in seqkd_jax.__all__:
        value = getattr(seqkd_jax, name)
        assert isinstance(value, int) or value.__doc__, name
        if name in OF_FLAX:
            assert "Example:" in value.__doc__, name
        elif not inspect.ismodule(value) and not isinstance(value, int):
            assert ">>> " in value.__doc__, name


@pytest.mark.parametrize("room", seqkd_jax.__all__)
def test_each_name_of_a_room_is_described(room):
    module = getattr(seqkd_jax, room)
    if inspect.ismodule(module):
        for name, value in vars(module).items():
            if inspect.isfunction(value) or inspect.isclass(value):
                assert value.__doc__, f"{room}.{name}"
