"""Ranges of settings: written once beside the type, checked in one place, shown by ``--help``.

    @dataclass(frozen=True)
    class Training(Checked):
        epochs: Count = 20
        rate: Positive = 2e-3

``Training(epochs=0)`` raises ``UsageError``. A field's values must lie in the range of its type;
those annotated ``Literal`` must be one of the listed. Floor 0.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from tyro.constructors import PrimitiveConstructorSpec

from .errors import UsageError


class Range(NamedTuple):
    """An interval of numbers of one kind; a bound that is ``open`` does not belong to it."""

    kind: type[int] | type[float]
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    infinity: bool = False  # whether inf is a value, and not only a bound

    def holds(self, value: Any) -> bool:
        """Whether a value is a number of this kind within the bounds; nan never is."""
        kind = numbers.Integral if self.kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
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
            bounds.append(f"{'above' if self.open_low else 'of at least'} {_shown(self.low)}")
        if self.high < math.inf:
            bounds.append(f"{'below' if self.open_high else 'at most'} {_shown(self.high)}")
        return " ".join([number, " and ".join(bounds)]).strip()

    @property
    def metavar(self) -> str:
        """How ``--help`` shows it: ``INT>=1``, ``0<=FLOAT<1``."""
        kind = "INT" if self.kind is int else "FLOAT"
        less = ("<" if self.open_low else "<=", "<" if self.open_high else "<=")
        if self.high < math.inf:
            return f"{_shown(self.low)}{less[0]}{kind}{less[1]}{_shown(self.high)}"
        more = {"<": ">", "<=": ">="}[less[0]]
        return f"{kind}{more}{_shown(self.low)}" if self.low > -math.inf else kind


def _shown(bound: float) -> str:
    return f"{bound:g}" if abs(bound) < 1e5 or bound % 1 else str(int(bound))


def argument(within: Range) -> PrimitiveConstructorSpec[Any]:
    """How the command line reads and shows numbers of a range."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=within.metavar,
        instance_from_str=lambda texts: within.kind(texts[0]),
        is_instance=lambda value: "~" if isinstance(value, int | float) else False,
        str_from_instance=lambda value: [str(value)],
    )


_COUNT = Range(int, 1)
_NATURAL = Range(int, 0)
_SEED = Range(int, 0, 2**32 - 1)
_WIDTH = Range(int, 1, 1 << 16)
_DEPTH = Range(int, 1, 256)
_ENTRIES = Range(int, 5, 1 << 24)
_BITS = Range(int, 1, 8)
_POSITIVE = Range(float, 0, open_low=True)
_LIMIT = Range(float, 0, open_low=True, infinity=True)
_NONNEGATIVE = Range(float, 0)
_SHARE = Range(float, 0, 1)
_FRACTION = Range(float, 0, 1, open_high=True)

Count = Annotated[int, _COUNT, argument(_COUNT)]  # 1, 2, 3, ...
Natural = Annotated[int, _NATURAL, argument(_NATURAL)]  # 0, 1, 2, ...
Seed = Annotated[int, _SEED, argument(_SEED)]
Width = Annotated[int, _WIDTH, argument(_WIDTH)]  # of vectors: a model fits into memory
Depth = Annotated[int, _DEPTH, argument(_DEPTH)]  # of stacks, which are compiled layer by layer
Entries = Annotated[int, _ENTRIES, argument(_ENTRIES)]  # of a vocabulary: four and a word
Bits = Annotated[int, _BITS, argument(_BITS)]  # of a code that fits into a byte
Positive = Annotated[float, _POSITIVE, argument(_POSITIVE)]  # x > 0
Limit = Annotated[float, _LIMIT, argument(_LIMIT)]  # x > 0; inf limits nothing
NonNegative = Annotated[float, _NONNEGATIVE, argument(_NONNEGATIVE)]  # x >= 0
Share = Annotated[float, _SHARE, argument(_SHARE)]  # 0 <= x <= 1
Fraction = Annotated[float, _FRACTION, argument(_FRACTION)]  # 0 <= x < 1


NONEMPTY = "at least one value"  # beside a tuple's type


Counts = Annotated[tuple[Count, ...], NONEMPTY]
Fractions = Annotated[tuple[Fraction, ...], NONEMPTY]
Names = Annotated[tuple[str, ...], NONEMPTY]


class Checked:
    """A dataclass whose fields are checked against their types when it is made."""

    def __post_init__(self) -> None:
        check(self)


def check(settings: Any) -> None:
    """Checks every field of a dataclass that has a range, a list of choices or a plain type.

    Raises:
      UsageError: a value is out of its range; the message names the field and the range.
    """
    for name, (holds, wanted) in _rules(type(settings)).items():
        value = getattr(settings, name)
        if not holds(value):
            raise UsageError(f"{name} is {value!r}: give {wanted}.")


Rule = tuple[Callable[[Any], bool], str]  # whether a value is allowed, and what is


@functools.cache
def _rules(settings: type) -> dict[str, Rule]:
    hints = typing.get_type_hints(settings, include_extras=True)
    found = {field.name: _rule(hints[field.name]) for field in dataclasses.fields(settings)}
    return {name: rule for name, rule in found.items() if rule is not None}


def _rule(hint: Any) -> Rule | None:
    """The rule of a type; None for types that are not checked here."""
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
    return None


def _nonempty(rule: Rule | None) -> Rule:
    holds, wanted = rule or ((lambda value: True), "")
    return (lambda value: bool(value) and holds(value)), f"{NONEMPTY}, {wanted}".strip(", ")


def _either(kinds: list[Any], optional: bool) -> Rule | None:
    rules = [_rule(kind) for kind in kinds]
    if not all(rules):
        return None
    wanted = " or ".join([text for _, text in filter(None, rules)] + ["None"] * optional)

    def holds(value: Any) -> bool:
        known = [rule for rule, _ in filter(None, rules)]
        return (optional and value is None) or any(rule(value) for rule in known)

    return holds, wanted


def _sequence(kinds: tuple[Any, ...]) -> Rule | None:
    if len(kinds) == 2 and kinds[1] is ...:
        rule = _rule(kinds[0])
        if rule is None:
            return None
        one, wanted = rule
        return (
            lambda value: isinstance(value, tuple) and all(map(one, value))
        ), f"for each {wanted}"
    rules = [_rule(kind) for kind in kinds]
    if not all(rules):
        return None
    known = list(filter(None, rules))

    def holds(value: Any) -> bool:
        fits = isinstance(value, tuple) and len(value) == len(known)
        return fits and all(rule(part) for (rule, _), part in zip(known, value, strict=True))

    return holds, ", ".join(wanted for _, wanted in known)
