"""Every number that a person can set has a range, and the range is held and shown."""

import dataclasses
import inspect
import math
import subprocess
import sys
import types
import typing
from typing import Annotated

import pytest

from seqkd_jax import arguments
from seqkd_jax import settings as plan
from seqkd_jax.__main__ import main
from seqkd_jax.errors import UsageError
from seqkd_jax.models import config
from seqkd_jax.ranges import Checked, Count, Fraction, Limit, Range, check
from seqkd_jax.settings import Search


def settings():
    """All dataclasses of settings: the library's, and the commands' arguments."""
    for module in (plan, config, arguments):
        for _, found in inspect.getmembers(module, dataclasses.is_dataclass):
            if inspect.isclass(found) and found.__module__.startswith(module.__name__):
                yield found


def ranges(hint):
    """The ranges of all numbers in a type; None for a number without one."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        found = [extra for extra in inside[1:] if isinstance(extra, Range)]
        return found or ranges(inside[0])
    if origin in (types.UnionType, typing.Union, tuple):
        return [r for one in inside for r in ranges(one)]
    return [None] if hint in (int, float) else []


FIELDS = [
    pytest.param(owner, field.name, hint, id=f"{owner.__name__}.{field.name}")
    for owner in settings()
    for field in dataclasses.fields(owner)
    if ranges(hint := typing.get_type_hints(owner, include_extras=True)[field.name])
]


def example(owner):
    """An instance, with values for the fields that have no default."""
    types = typing.get_type_hints(owner)
    without = [f.name for f in dataclasses.fields(owner) if f.default is dataclasses.MISSING]
    needed = {"src_vocab": 9, "tgt_vocab": 9}
    needed |= {n: types[n]() for n in without if dataclasses.is_dataclass(types[n])}
    return owner(**{name: needed.get(name, ("x",)) for name in without})


def beyond(within: Range):
    """Values that no range of this kind holds, and the nearest outside of its bounds."""
    yield from (math.nan, -math.inf, "3", True)
    if within.kind is int:
        yield 1.5
    if not within.infinity:
        yield math.inf
    step = 1 if within.kind is int else 1e-9
    if within.low > -math.inf:
        yield within.kind(within.low - (0 if within.open_low else step))
    if within.high < math.inf:
        yield within.kind(within.high + (0 if within.open_high else step))


def test_settings_are_found():
    names = {owner.__name__ for owner in settings()}
    assert {"Search", "Training", "Plan", "Config", "Train", "Cache", "Prune"} <= names


@pytest.mark.parametrize("owner, name, hint", FIELDS)
def test_every_number_has_a_range_that_holds(owner, name, hint):
    assert issubclass(owner, Checked)
    assert None not in ranges(hint), "give it a type of ranges.py"
    given = example(owner)
    value = getattr(given, name)
    for within in ranges(hint):
        for wrong in beyond(within):
            put = (wrong,) if isinstance(value, tuple) else wrong
            with pytest.raises(UsageError, match=f"^{name} is "):
                dataclasses.replace(given, **{name: put})


@dataclasses.dataclass(frozen=True)
class Example(Checked):
    count: Count = 1
    share: Fraction | None = None
    limit: Limit = 1.0
    widths: tuple[tuple[Count, Fraction], ...] = ()
    kind: typing.Literal["a", "b"] = "a"
    flag: bool = False


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"count": 0}, "count is 0: give a whole number of at least 1."),
        ({"share": 1.0}, "share is 1.0: give a number of at least 0 and below 1 or None."),
        ({"limit": 0.0}, "limit is 0.0: give a number above 0."),
        ({"widths": ((1, 2.0),)}, "widths is ((1, 2.0),): give for each"),
        ({"widths": [(1, 0.5)]}, "widths is [(1, 0.5)]"),
        ({"kind": "c"}, "kind is 'c': give one of a, b."),
        ({"flag": 1}, "flag is 1: give True or False."),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(wrong, said):
    with pytest.raises(UsageError) as caught:
        Example(**wrong)
    assert str(caught.value).startswith(said)


def test_values_at_the_bounds_are_taken():
    import numpy as np

    for right in (
        Example(count=np.int64(3)),
        Example(share=0),
        Example(limit=math.inf),
        Example(widths=((1, 0.0), (2, 0.999))),
    ):
        check(right)


def test_settings_within_settings_and_settings_that_depend_on_each_other_are_checked():
    for wrong in {"student_size": None}, {"student_size": {"hidden": 3}}, {"filters": 1}:
        with pytest.raises(UsageError, match=r"give (Size|Filters)\(\.\.\.\)"):
            plan.Plan(**wrong)
    with pytest.raises(UsageError, match="must rise"):
        plan.Plan(prune_ratios=(0.5, 0.4))
    with pytest.raises(UsageError, match="no effect without length_rule gnmt"):
        Search(length_alpha=0.9)
    assert Search(length_rule="gnmt", length_alpha=0.9)


def test_no_settings_of_a_search_overflow():
    assert Search(max_ratio=1e308, max_extra=10**11).limit(source_tokens=50) == Search().max_len
    assert Search(max_ratio=1.5, max_extra=2).limit(source_tokens=7) == 12


def test_help_shows_ranges():
    """In a process of its own, as wide as a page."""
    code = "from seqkd_jax.__main__ import main; main(['train', '--help'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    for text in ("--epochs {None}|INT>=1", "--clip FLOAT>0", "--dropout 0<=FLOAT<1", "--kd-weight"):
        assert text in shown


# A mistake of the user's is one line; everything else keeps its traceback.


def test_a_bug_keeps_its_traceback_and_asks_for_a_report(monkeypatch, tmp_path, capsys):
    from seqkd_jax import commands

    def broken(command):
        return list(zip([1], [], strict=True))

    monkeypatch.setattr(commands, "score", broken)
    given = ["score", str(tmp_path), "--source", "a", "--target", "b"]
    with pytest.raises(ValueError, match="zip") as caught:
        main(given)
    assert "Please report it" in caught.value.__notes__[0]

    def refused(command):
        raise UsageError("a mistake")

    monkeypatch.setattr(commands, "score", refused)
    assert main(given) == 2
    assert capsys.readouterr().err == "seqkd: a mistake\n"


def test_the_package_raises_no_bare_value_error():
    """Whoever raises on purpose says whose mistake it is."""
    from pathlib import Path

    inside = {"sealed.py"}  # raised and caught within the file
    for path in Path(arguments.__file__).parent.rglob("*.py"):
        if path.name not in inside:
            assert "raise ValueError" not in path.read_text(), path
