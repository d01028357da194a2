"""From the words of a command line to the dataclasses of ``arguments``. Floor 8."""

import functools
import operator
from dataclasses import fields, replace
from typing import Annotated, Any

import tyro

from .arguments import (
    Bench,
    Cache,
    Compress,
    Corpus,
    Demo,
    Diagnose,
    Distill,
    Evaluate,
    Export,
    Extract,
    Learning,
    Plan,
    Prune,
    Report,
    Run,
    Score,
    Table3,
    TestedCorpus,
    Train,
    Translate,
    Tune,
)
from .plans import read_plan
from .ranges import PATHS
from .settings import PLANS
from .settings import Plan as ExperimentPlan

CLI = functools.partial(tyro.cli, config=(tyro.conf.OmitSubcommandPrefixes,), registry=PATHS)


def _commands(data: str | None, settings: str | None = None) -> dict[str, Any]:
    """Returns all commands.

    The defaults of experiments are those of a file of settings, or of the named corpus.
    """
    plan = read_plan(settings) if settings else PLANS.get(data or "", ExperimentPlan())
    # A setting that train and the experiments share has one name and one default.
    shared = {f.name: getattr(plan, f.name) for f in fields(Train) if hasattr(plan, f.name)}
    shared = {name: value for name, value in shared.items() if name != "teacher"}
    defaults = {
        Run: Run(TestedCorpus(), tyro.MISSING, plan),
        Table3: Table3(TestedCorpus(), tyro.MISSING, plan),
        Tune: Tune(Corpus(), tyro.MISSING, plan),
        Train: Train(Corpus(), tyro.MISSING, **shared),
    }
    others = (
        Translate,
        Distill,
        Cache,
        Score,
        Extract,
        Evaluate,
        Diagnose,
        Report,
        Prune,
        Compress,
        Export,
        Demo,
        Bench,
        Plan,
    )
    commands: dict[str, Any] = {}
    for command in (Run, Table3, Tune, Train, *others):
        name = command.__name__.lower()
        given = {"default": defaults[command]} if command in defaults else {}
        commands[name] = Annotated[command, tyro.conf.subcommand(name, **given)]
    return commands


def parse(arguments: list[str]) -> Any:
    """Returns the command that the arguments name, one of the classes of ``arguments``.

    Exits if the arguments are wrong. Errors and help cover that command alone.
    """
    commands = _commands(_value_of("--data", arguments), _value_of("--settings", arguments))
    name = arguments[0] if arguments else ""
    if name in commands:
        command = CLI(commands[name], prog=f"seqkd {name}", args=arguments[1:])
        given = {"given": _options(arguments)} if isinstance(command, Learning) else {}
        return replace(command, **given)
    return CLI(
        functools.reduce(operator.or_, commands.values()),
        prog="seqkd",
        description="Sequence-level knowledge distillation for attention LSTM translators.",
        args=arguments,
    )


def _options(arguments: list[str]) -> tuple[str, ...]:
    """Returns the names of the options that were given, without their leading dashes."""
    named = [a.partition("=")[0][2:].replace("_", "-") for a in arguments if a.startswith("--")]
    return tuple(dict.fromkeys(named))


def _value_of(flag: str, arguments: list[str]) -> str | None:
    for n, argument in enumerate(arguments):
        if argument == flag and n + 1 < len(arguments):
            return arguments[n + 1]
        if argument.startswith(flag + "="):
            return argument.removeprefix(flag + "=")
    return None
