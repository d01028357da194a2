"""Ranges of settings: declared with the type, checked in one place, shown by ``--help``.

    @dataclass(frozen=True)
    class Size(Checked):
        layers: Count = 2
        init_scale: Positive = 0.1

``Size(layers=0)`` raises ``UsageError``. The value of a field must lie in the range of its
type, or be one of the values that its ``Literal`` lists. Floor 0.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from .addresses import as_path
from .errors import UsageError

MANY = 10**12  # the most that any number of things may be; help does not show this bound


class Range(NamedTuple):
    """An interval of integers or of floats; an ``open`` bound does not belong to it."""

    kind: type[int] | type[float]
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    infinity: bool = False  # whether inf is an allowed value, and not only a bound

    def holds(self, value: Any) -> bool:
        """Returns whether a value is a number of this kind within the bounds; nan never is."""
        number_type = numbers.Integral if self.kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, number_type):
            return False
        value = float(value)
        if math.isinf(value) and not self.infinity:
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        number = "a whole number" if self.kind is int else "a number"
        bounds = []
        if self.low > -math.inf:
            bounds.append(f"{'above' if self.open_low else 'of at least'} {_format(self.low)}")
        if self.high < MANY:
            bounds.append(f"{'below' if self.open_high else 'at most'} {_format(self.high)}")
        return " ".join([number, " and ".join(bounds)]).strip()

    @property
    def metavar(self) -> str:
        """The range as ``--help`` shows it: ``INT>=1``, ``0<=FLOAT<1``."""
        name = "INT" if self.kind is int else "FLOAT"
        less = ("<" if self.open_low else "<=", "<" if self.open_high else "<=")
        if self.high < MANY:
            return f"{_format(self.low)}{less[0]}{name}{less[1]}{_format(self.high)}"
        greater = {"<": ">", "<=": ">="}[less[0]]
        return f"{name}{greater}{_format(self.low)}" if self.low > -math.inf else name


def _format(bound: float) -> str:
    return f"{bound:g}" if abs(bound) < 1e5 or bound % 1 else str(int(bound))


def argument(allowed: Range) -> PrimitiveConstructorSpec[Any]:
    """Returns how the command line parses and shows numbers of a range."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=allowed.metavar,
        instance_from_str=lambda texts: allowed.kind(texts[0]),
        is_instance=lambda value: "~" if isinstance(value, int | float) else False,
        str_from_instance=lambda value: [str(value)],
    )


_COUNT = Range(int, 1, MANY)
_NATURAL = Range(int, 0, MANY)
_BEAM = Range(int, 1, 1024)
_SEED = Range(int, 0, 2**32 - 1)
_WIDTH = Range(int, 1, 1 << 16)
_DEPTH = Range(int, 1, 256)
_ENTRIES = Range(int, 5, 1 << 24)
_BITS = Range(int, 1, 8)
_POSITIVE = Range(float, 0, open_low=True)
_LIMIT = Range(float, 0, open_low=True, infinity=True)
_NONNEGATIVE = Range(float, 0)
_AT_LEAST_ONE = Range(float, 1)
_SHARE = Range(float, 0, 1)
_FRACTION = Range(float, 0, 1, open_high=True)

Count = Annotated[int, _COUNT, argument(_COUNT)]  # 1, 2, 3, ...
Natural = Annotated[int, _NATURAL, argument(_NATURAL)]  # 0, 1, 2, ...
Beam = Annotated[int, _BEAM, argument(_BEAM)]  # hypotheses: a search keeps all in memory
Seed = Annotated[int, _SEED, argument(_SEED)]
Width = Annotated[int, _WIDTH, argument(_WIDTH)]  # of vectors: the model must fit into memory
Depth = Annotated[int, _DEPTH, argument(_DEPTH)]  # of stacks: each layer is compiled
Entries = Annotated[int, _ENTRIES, argument(_ENTRIES)]  # of a vocabulary: 4 special and a word
Bits = Annotated[int, _BITS, argument(_BITS)]  # of a code that fits into a byte
Positive = Annotated[float, _POSITIVE, argument(_POSITIVE)]  # x > 0
Limit = Annotated[float, _LIMIT, argument(_LIMIT)]  # x > 0; inf: no limit
NonNegative = Annotated[float, _NONNEGATIVE, argument(_NONNEGATIVE)]  # x >= 0
AtLeastOne = Annotated[float, _AT_LEAST_ONE, argument(_AT_LEAST_ONE)]  # x >= 1
Share = Annotated[float, _SHARE, argument(_SHARE)]  # 0 <= x <= 1
Fraction = Annotated[float, _FRACTION, argument(_FRACTION)]  # 0 <= x < 1


NONEMPTY = "at least one value"  # annotation of a tuple that must not be empty


Beams = Annotated[tuple[Beam, ...], NONEMPTY]
Fractions = Annotated[tuple[Fraction, ...], NONEMPTY]
Names = Annotated[tuple[str, ...], NONEMPTY]


PATHS = ConstructorRegistry()  # how a command's paths are read: gs://bucket/x is one, too


@PATHS.primitive_rule
def _path(hint: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    if hint.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda given: as_path(given[0]),
        is_instance=lambda path: isinstance(path, Path) or hasattr(path, "fs"),
        str_from_instance=lambda path: [str(path)],
    )


def rising(ratios: Iterable[float], name: str = "ratios") -> list[float]:
    """Returns the ratios of some rounds; UsageError if there are none, or they do not rise."""
    ratios = list(ratios)
    if not ratios or any(a >= b for a, b in zip(ratios, ratios[1:], strict=False)):
        raise UsageError(f"{name} is {ratios}: the ratios must rise from round to round.")
    return ratios


class Checked:
    """A dataclass whose fields are checked against their types when it is created."""

    def __post_init__(self) -> None:
        check(self)


def check(settings: Any) -> None:
    """Checks every field of a dataclass that has a range, a list of choices or a plain type.

    Raises:
      UsageError: a value is out of range; the message names the field and the range.
    """
    for name, (holds, expected) in _rules(type(settings)).items():
        value = getattr(settings, name)
        if not holds(value):
            large = isinstance(value, int) and value > MANY
            raise UsageError(
                f"{name} is {value!r}{', which is too much' * large}: give {expected}."
            )


Rule = tuple[Callable[[Any], bool], str]  # whether a value is allowed; which values are, in words


@functools.cache
def _rules(settings: type) -> dict[str, Rule]:
    hints = typing.get_type_hints(settings, include_extras=True)
    rules = {field.name: _rule(hints[field.name]) for field in dataclasses.fields(settings)}
    return {name: rule for name, rule in rules.items() if rule is not None}


def _rule(hint: Any) -> Rule | None:
    """Returns the rule of a type; None for types that are not checked."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        ranges = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        rule = (ranges[0].holds, str(ranges[0])) if ranges else _rule(arguments[0])
        return _nonempty(rule) if NONEMPTY in arguments[1:] else rule
    if origin is Literal:
        return (lambda value: value in arguments), "one of " + ", ".join(map(str, arguments))
    if origin in (types.UnionType, typing.Union):
        return _either([a for a in arguments if a is not type(None)], type(None) in arguments)
    if origin is tuple:
        return _sequence(arguments)
    if hint is bool:
        return (lambda value: isinstance(value, bool)), "True or False"
    if hint is str:
        return (lambda value: isinstance(value, str)), "text"
    if isinstance(hint, type) and issubclass(hint, Checked):
        return (lambda value: isinstance(value, hint)), f"{hint.__name__}(...)"
    return None


def _nonempty(rule: Rule | None) -> Rule:
    holds, expected = rule or ((lambda value: True), "")
    return (lambda value: bool(value) and holds(value)), f"{NONEMPTY}, {expected}".strip(", ")


def _either(hints: list[Any], optional: bool) -> Rule | None:
    rules = [_rule(hint) for hint in hints]
    if not all(rules):
        return None
    expected = " or ".join([text for _, text in filter(None, rules)] + ["None"] * optional)

    def holds(value: Any) -> bool:
        alternatives = [rule for rule, _ in filter(None, rules)]
        return (optional and value is None) or any(rule(value) for rule in alternatives)

    return holds, expected


def _sequence(hints: tuple[Any, ...]) -> Rule | None:
    if len(hints) == 2 and hints[1] is ...:
        rule = _rule(hints[0])
        if rule is None:
            return None
        item_holds, expected = rule
        return (
            lambda value: isinstance(value, tuple) and all(map(item_holds, value))
        ), f"for each {expected}"
    rules = [_rule(hint) for hint in hints]
    if not all(rules):
        return None
    item_rules = list(filter(None, rules))

    def holds(value: Any) -> bool:
        fits = isinstance(value, tuple) and len(value) == len(item_rules)
        return fits and all(rule(item) for (rule, _), item in zip(item_rules, value, strict=True))

    return holds, ", ".join(expected for _, expected in item_rules)
