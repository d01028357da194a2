"""Plans of experiments as files, and plans with some settings changed. Floor 0."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .addresses import PathLike
from .errors import UsageError
from .sealed import read_record, write_record
from .settings import Plan

FORMAT = "seqkd-plan-1"


def with_settings(plan: Plan, settings: Mapping[str, Any]) -> Plan:
    """Returns a plan with other values of some settings, named ``part.setting``.

    Raises UsageError for a setting that there is not, and for a value out of range.
    """
    for name, value in settings.items():
        plan = _with(plan, name.replace("-", "_").split("."), value, name)
    return plan


def _with(settings: Any, path: list[str], value: Any, name: str) -> Any:
    first, *rest = path
    if first not in {field.name for field in dataclasses.fields(settings)}:
        raise UsageError(f"There is no setting {name!r}: see seqkd run --help.")
    part = getattr(settings, first)
    if not rest:
        return dataclasses.replace(settings, **{first: value})
    if not dataclasses.is_dataclass(part):
        raise UsageError(f"There is no setting {name!r}: see seqkd run --help.")
    return dataclasses.replace(settings, **{first: _with(part, rest, value, name)})


def write_plan(path: PathLike, plan: Plan) -> None:
    """Writes a plan as a record, for ``seqkd run --settings``."""
    write_record(path, FORMAT, {"plan": dataclasses.asdict(plan)})


def read_plan(path: PathLike) -> Plan:
    """Reads a file of ``write_plan``.

    Raises UsageError if the file is damaged, was edited, or has settings that there are not.
    """
    record = read_record(path, FORMAT)
    try:
        return _plan(Plan(), record["plan"])
    except (TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path}: settings of another version of seqkd_jax ({error}); tune them again."
        ) from None


def _plan(like: Any, record: Mapping[str, Any]) -> Any:
    """Returns settings of the kind of ``like`` with the values of a record."""
    values = {}
    for name, value in record.items():
        part = getattr(like, name)
        if dataclasses.is_dataclass(part):
            value = _plan(part, value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(like, **values)
