"""The command that compiles for TPUs that are not there."""

from dataclasses import replace
from pathlib import Path

from .. import arguments
from .. import plan as planning
from ..base import Seq2Seq
from ..build import build, config_of
from ..contrib.factors import FactoredVocabulary
from ..errors import UsageError
from ..files import make_folder
from ..model_folder import open_model
from ..models.attention_lstm import Config, model_of
from ..progress import Bar
from ..report.programs import Record, keep_plans, kept_plans, plan_table
from ..settings import Size
from .process import prepare

BRINGS_SHAPE = (
    "--{option} brings the shape of the model: leave out the options that set the shape "
    "(--{prefix}hidden, ...)."
)


def plan(command: arguments.Plan) -> None:
    """Compiles programs, prints a table and writes JSON."""
    prepare(compile_only=True)
    makers, dtype = _makers(command)
    where = planning.open_slice(command.topology)
    if command.out:  # refuses a wrong file before anything is compiled
        kept_plans(command.out)
        make_folder(command.out.parent)
    records = []
    with Bar(desc="compiling programs", unit="program", total=len(command.programs)) as bar:
        for program in command.programs:
            make, of = makers[program]
            beam = command.beam_size if program == "search" else 0
            work = planning.Work(command.batch, command.length, beam)
            row = f"{program} {of}"
            record: Record = {"topology": command.topology, "row": row, "dtype": dtype}
            record |= {"batch": work.batch, "length": work.length}
            record |= {"beam": beam} if beam else {}

            def on_compile(what: str, row: str = row) -> None:
                bar.doing = f"{row}, {what}"

            record |= planning.plan(
                make, work, where, largest=command.largest, on_compile=on_compile
            )
            records.append(record)
            bar.update()
            if command.out:
                keep_plans(command.out, [record])
    print(plan_table(records, command.layout))


def _makers(command: arguments.Plan) -> tuple[dict[str, tuple[planning.Maker, str]], str]:
    """Returns the makers of the programs with the names of their models, and the model's type."""
    model, config, name = _model(command, command.model, command.size, "model")
    makers = {
        "train": (planning.training(model), name),
        "search": (planning.search(model), name),
    }
    if "word-kd" in command.programs:
        size = replace(command.teacher_size, dtype=config.dtype)
        if command.teacher and command.teacher_size != arguments.Plan().teacher_size:
            raise UsageError(BRINGS_SHAPE.format(option="teacher", prefix="teacher-size."))
        teacher, teachers, of = _model(command, command.teacher, size, "teacher")
        if (teachers.src_vocab, teachers.tgt_vocab) != (config.src_vocab, config.tgt_vocab):
            raise UsageError(
                f"The teacher has vocabularies of {teachers.src_vocab:,} and "
                f"{teachers.tgt_vocab:,} entries, the student of {config.src_vocab:,} and "
                f"{config.tgt_vocab:,}; Word-KD needs the same ones."
            )
        makers["word-kd"] = (planning.word_kd_training(model, teacher), f"{name} from {of}")
    return makers, config.dtype


def _model(
    command: arguments.Plan, folder: Path | None, size: Size, option: str
) -> tuple[Seq2Seq, Config, str]:
    """Returns a model from a folder, or else of a size; its sizes, and its name."""
    if folder is None:
        if size.parts.target_characters:
            raise UsageError(
                f"Target characters need a vocabulary: give the folder of a model (--{option})."
            )
        vocabulary = command.vocabulary_size
        config = config_of(size, vocabulary, vocabulary)
        net = build(config, size.parts, (None, None))  # type: ignore[arg-type]
        return model_of(net), config, f"{config.layers}x{config.hidden}"
    if option == "model" and size != arguments.Plan().size:
        raise UsageError(BRINGS_SHAPE.format(option="model", prefix=""))
    opened = open_model(folder)
    if isinstance(opened.src_vocab, FactoredVocabulary):
        raise UsageError(
            f"{folder}: its source tokens have features or characters, which cannot be planned."
        )
    return opened.model, opened.config, folder.name
