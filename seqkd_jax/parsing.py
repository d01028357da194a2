"""From the words of a command line to the dataclasses of ``arguments``. Floor 8."""

import difflib
import functools
import inspect
import sys
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
from .errors import UsageError, quoted
from .plans import read_plan
from .ranges import PATHS
from .settings import PLANS
from .settings import Plan as ExperimentPlan

# The commands, by what one wants to do.
GROUPS: dict[str, tuple[type, ...]] = {
    "see what distillation does": (Demo, Run, Tune, Table3),
    "train a model": (Train, Prune, Compress),
    "turn a teacher into training data": (Distill, Cache),
    "use a model": (Translate, Score, Extract, Export),
    "measure": (Evaluate, Diagnose, Report, Bench, Plan),
}
EXAMPLES = """\
  seqkd demo
  seqkd run --data multi30k --rows teacher baseline seq-kd --out runs/mine
  seqkd translate runs/mine/seq-kd < test.en > test.out
"""

CLI = functools.partial(tyro.cli, config=(tyro.conf.OmitSubcommandPrefixes,), registry=PATHS)


def _commands(data: str | None, settings: str | None = None) -> dict[str, Any]:
    """Returns all commands.

    The defaults of experiments are those of a file of settings, or of the named corpus.
    """
    plan = read_plan(settings) if settings else PLANS.get(data or "", ExperimentPlan())
    # A setting that train and the experiments share has one name and one default.
    shared = {f.name: getattr(plan, f.name) for f in fields(Train) if hasattr(plan, f.name)}
    defaults = {
        Run: Run(TestedCorpus(), tyro.MISSING, plan),
        Table3: Table3(TestedCorpus(), tyro.MISSING, plan),
        Tune: Tune(Corpus(), tyro.MISSING, plan),
        Train: Train(Corpus(), tyro.MISSING, **shared),
    }
    commands: dict[str, Any] = {}
    for command in (command for group in GROUPS.values() for command in group):
        given = {"default": defaults[command]} if command in defaults else {}
        commands[_name(command)] = Annotated[command, tyro.conf.subcommand(_name(command), **given)]
    return commands


def parse(arguments: list[str]) -> Any:
    """Returns the command that the arguments name, one of the classes of ``arguments``.

    Exits if its options are wrong, or after ``--help`` and ``--version``. Errors and help cover
    that command alone. Raises UsageError if there is no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview(), file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from .provenance import called, library  # it loads JAX, which help should not wait for

        print(called(library()))
        sys.exit(0)
    commands = _commands(_value_of("--data", arguments), _value_of("--settings", arguments))
    name = arguments[0]
    if name not in commands:
        raise UsageError(_no_command(name, list(commands)))
    command = CLI(commands[name], prog=f"seqkd {name}", args=arguments[1:])
    given = {"given": _options(arguments)} if isinstance(command, Learning) else {}
    return replace(command, **given)


def _no_command(name: str, commands: list[str]) -> str:
    if name.startswith("-"):
        return f"{name}: options follow a command, as in seqkd run {name}; see seqkd --help."
    near = difflib.get_close_matches(name, commands, n=1, cutoff=0.75)
    return f"There is no command {quoted(name)}" + (
        f"; did you mean seqkd {near[0]}?"
        if near
        else f"; the commands are: {', '.join(commands)}."
    )


def overview() -> str:
    """Returns what ``seqkd --help`` prints: every command in a line, and three examples."""
    lines = ["usage: seqkd COMMAND [OPTIONS]      seqkd COMMAND --help: its options", ""]
    for aim, commands in GROUPS.items():
        lines.append(f"{aim}:")
        for command in commands:
            summary = (inspect.getdoc(command) or "").split("\n")[0].rstrip(".")
            lines.append(f"  {_name(command):<11}{summary}")
    return "\n".join([*lines, "", "examples:", EXAMPLES.rstrip()])


def _name(command: type) -> str:
    return command.__name__.lower()


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
