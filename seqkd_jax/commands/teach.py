"""Commands that turn a teacher into training data."""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from .. import arguments, console
from ..addresses import PathLike, as_local, as_path
from ..data import encode_pairs, require_kept
from ..data.encode import EXAMPLES, folder_for, lines_at
from ..data.lines import ParallelLines, lines_digest, read_pairs, read_sources, require_sentences
from ..data.text import words_of, write_pairs
from ..decode.cluster import connected, ray_map
from ..decode.corpus import translate_corpus
from ..decode.nbest import NBest, open_nbest
from ..distill import select
from ..distill.similarity import choose
from ..distill.teacher_cache import cache_teacher
from ..errors import UsageError, counted
from ..files import atomic_write, check_folder, make_folder, read_file, sha256
from ..model_folder import SETTINGS, load_model, require_settings, validations
from ..recipes.weak import weakness
from ..sealed import check_output_file, read_record
from ..trained import TrainedModel
from .process import prepare

TEXTS = ("train.src", "train.tgt")  # what distill writes
DIGESTS, RECORD = "train.sha256", "distill.json"  # of these files, and of how they were made


def distill(command: arguments.Distill) -> None:
    """Decodes a corpus with a teacher and writes the text that a student trains on."""
    prepare()
    if command.mbr and command.reference:
        raise UsageError(
            "Give --reference or --mbr, not both: the chosen hypothesis is the one closest to "
            "the reference, or the one closest to the other hypotheses."
        )
    compares = command.mbr or command.reference is not None
    if not compares and (command.similarity != "auto" or command.smoothing):
        raise UsageError(
            "--similarity and --smoothing have no effect without --reference (Seq-Inter) or "
            "--mbr: give one of these, or leave them out. Seq-KD takes the teacher's best "
            "hypothesis and compares nothing."
        )
    if command.reference:
        pairs = read_pairs(command.source, command.reference)
        sources = pairs.sources
    else:
        sources = read_sources(command.source)
        pairs = ParallelLines(sources, [""] * len(sources))
    require_sentences(sources, command.source)
    named = command.similarity, command.smoothing
    choose(*named)  # refuses a wrong choice before the work begins
    _check_out(command.out)
    made_of = {
        "text": lines_digest(sources),
        "reference": lines_digest(pairs.targets) if command.reference else None,
        "mbr": command.mbr,
        "similarity": command.similarity,
        "smoothing": command.smoothing,
    }
    if command.out.is_dir():  # a new folder is made when the model has been read and suits
        _check_files(command)
    read = _given_lists if command.nbest else _decoded
    nbest, lower = read(command, sources, made_of)
    selections: list[select.Selection] = [select.seq_kd]
    name = ""
    if compares:
        texts = pairs.targets if command.reference else _said(nbest)
        name, similarity = choose(*named, texts=texts)
        closest = select.closest_to_list if command.mbr else select.closest_to_reference
        selections.append(closest(similarity, lower))
    differing = number = 0
    without: list[int] = []  # lines of sources for which there is no hypothesis

    def chosen() -> Iterator[tuple[str, str]]:
        nonlocal differing, number
        for best, *others in select.in_chunks(pairs, nbest, *selections):
            chunk = others[0] if others else best
            differing += select.differing(chunk, best)
            for (source, _), rank in zip(chunk.pairs, chunk.ranks, strict=True):
                number += 1
                if rank < 0 and words_of(source):
                    without.append(number)
            yield from chunk.pairs

    source, target = _texts(command)
    write_pairs(source, target, chosen())
    atomic_write(command.out / DIGESTS, _text_digests(command.out).encode())
    if compares:
        share = 100 * differing / max(1, len(pairs))
        print(f"By {name}, {share:.1f} % of the targets differ from Seq-KD's.")
    if without:
        where = lines_at(without[:EXAMPLES], len(without))
        have = "the reference" if command.reference else "an empty line"
        console.warn(
            f"{command.nbest or command.out}: no hypotheses for {counted(len(without), 'source')} "
            f"{where}; what is written as target is {have}."
        )
    empty = [number for number, source in enumerate(sources, 1) if not words_of(source)]
    if empty:
        where = lines_at(empty[:EXAMPLES], len(empty))
        console.note(f"Empty sources, with empty targets: {len(empty):,} {where}.")
    print(f"{command.out}: {counted(len(pairs), 'pair')} in train.src and train.tgt.")


def _check_out(folder: PathLike) -> None:
    """Refuses a folder that cannot be one, or that holds a model."""
    check_folder(folder)
    if (as_path(folder) / "config.json").exists():
        raise UsageError(f"{folder}: holds a model; give another --out folder.")


def _check_files(command: arguments.Distill) -> None:
    """Checks that the text can be written, before work is done."""
    make_folder(command.out)
    for path in _texts(command):
        check_output_file(path)


def _texts(command: arguments.Distill) -> list[Path]:
    return [command.out / name for name in TEXTS]


def _text_digests(folder: Path) -> str:
    """Returns the line of ``train.sha256``: the digests of the two files, "" if one is missing."""
    there = [sha256(path) if (path := folder / name).exists() else "" for name in TEXTS]
    return " ".join(there) + "\n"


def how_distilled(train: arguments.Files) -> dict[str, Any] | None:
    """Returns how ``distill`` made the files to train on; None if others did, or changed them."""
    source, *_ = map(as_path, train)
    folder = source.parent
    record = folder / RECORD
    if [as_path(path) for path in train] != [folder / name for name in TEXTS]:
        return None
    if not record.exists() or not (folder / DIGESTS).exists():
        return None
    if read_file(folder / DIGESTS).decode(errors="replace") != _text_digests(folder):
        return None
    made_of = read_record(record, SETTINGS)
    lists, choice = made_of["lists"], "best"
    if made_of["mbr"] or made_of["reference"]:
        choice = "mbr" if made_of["mbr"] else "reference"
    return {
        "choice": choice,
        "beam": lists.get("search", {}).get("beam_size"),
        "teacher_digest": lists.get("teacher_digest"),
    }


def _claim(command: arguments.Distill, lists: dict[str, Any], made_of: dict[str, Any]) -> None:
    """Makes the folder, or checks that its text was chosen in the same way from the same lists."""
    record, digest = command.out / RECORD, command.out / DIGESTS
    for path in _texts(command):
        if path.exists() and not record.exists():
            raise UsageError(
                f"{path}: would be replaced, and {record}, which says how it was made, is not "
                "there. Choose another --out folder."
            )
    there = any(path.exists() for path in _texts(command))
    if (
        there
        and digest.exists()
        and read_file(digest).decode(errors="replace") != _text_digests(command.out)
    ):
        raise UsageError(
            f"{command.out}: train.src or train.tgt has been changed since it was written, and "
            "would be replaced. Choose another --out folder, or delete both."
        )
    try:
        require_settings(record, made_of | {"lists": lists})
    except UsageError as error:
        if command.nbest or read_record(record, SETTINGS).get("lists") != lists:
            raise
        raise UsageError(
            f"{error} To choose from the same lists, give --nbest {command.out} there in place of "
            "the teacher and the options of a search."
        ) from None
    _check_files(command)


def _lists_digest(nbest: Iterable[NBest]) -> str:
    """Returns the sha256 of lists: of their texts, their log-probabilities, and where each ends."""
    return lines_digest(json.dumps([n.index, n.texts, n.log_probs]) for n in nbest)


def _said(nbest: Iterable[NBest]) -> Iterator[str]:
    return (text for n in nbest for text in n.texts)


def _decoded(
    command: arguments.Distill, sources: Sequence[str], made_of: dict[str, Any]
) -> tuple[Sequence[NBest], bool]:
    """Returns the teacher's lists, and whether the teacher writes lower case only."""
    if command.model is None:
        raise UsageError("Name the folder of the teacher, or give its n-best lists with --nbest.")
    if command.first_index:
        raise UsageError(
            "--first-index has no effect without --nbest: leave it out, or give n-best lists."
        )
    folder = command.out / "nbest"
    if command.engine is None:
        if command.workers is not None:
            raise UsageError("--workers has no effect without --engine ray: leave it out.")
        teacher = load_model(command.model)
        _claim(command, _searched(teacher, command), made_of)
        _say_if_weak(command.model)
        nbest = translate_corpus(folder, teacher, sources, command.search)
        return nbest, teacher.tgt_vocab.lower
    with connected():
        jax.config.update("jax_platforms", "cpu")  # accelerators are for the workers
        teacher = load_model(command.model)
        _claim(command, _searched(teacher, command), made_of)
        _say_if_weak(command.model)
        there = functools.partial(_load_there, command.model.absolute())
        engine = functools.partial(ray_map, workers=command.workers)
        return translate_corpus(
            folder, there, sources, command.search, map=engine
        ), teacher.tgt_vocab.lower


def _searched(teacher: TrainedModel, command: arguments.Distill) -> dict[str, Any]:
    return {"teacher_digest": teacher.digest, "search": asdict(command.search)}


def _say_if_weak(folder: PathLike) -> None:
    reason = weakness(validations(folder))
    if reason:
        console.warn(f"{folder}: {reason}")


def _load_there(folder: PathLike) -> TrainedModel:
    """Loads a teacher in a worker of a cluster."""
    prepare()
    return load_model(folder)


def _given_lists(
    command: arguments.Distill, sources: Sequence[str], made_of: dict[str, Any]
) -> tuple[Sequence[NBest], bool]:
    """Returns existing lists, and whether they are in lower case only."""
    assert command.nbest is not None
    searched = command.search != arguments.Distill.search or command.engine or command.workers
    if command.model is not None or searched:
        raise UsageError(
            "--nbest brings the teacher's lists: leave out the teacher's folder and the "
            "options of a search (--beam-size, --engine, ...)."
        )
    inside = command.nbest / "nbest"  # where distill writes its lists
    nbest = open_nbest(inside if inside.is_dir() else command.nbest, command.first_index)
    if len(nbest) != len(sources):
        raise UsageError(
            f"{command.nbest} has lists of {len(nbest):,} sentences, but {command.source} has "
            f"{len(sources):,} lines: each line needs one list."
        )
    if nbest.header.get("source", digest := lines_digest(sources)) != digest:
        raise UsageError(
            f"{command.nbest}: these lists were made from another text than {command.source}; "
            "give the text that they were made from."
        )
    if command.mbr:
        for n in nbest:
            select.probabilities(n)  # refuses lists without any
    lists = {name: nbest.header.get(name) for name in ("teacher_digest", "search")}
    _claim(command, lists if all(lists.values()) else {"digest": _lists_digest(nbest)}, made_of)
    return nbest, all(text == text.lower() for text in _said(nbest))


def cache(command: arguments.Cache) -> None:
    """Writes a teacher's distributions at each position of given pairs."""
    prepare()
    pairs = read_pairs(command.source, command.target)
    _check_out(as_local(command.out))
    teacher = load_model(command.model)
    vocabularies = teacher.src_vocab, teacher.tgt_vocab
    encoded = encode_pairs(pairs, *vocabularies, folder=folder_for(pairs, command.out / "encoded"))
    require_kept(encoded, str(command.source))
    made = cache_teacher(
        command.out, teacher, encoded, k=command.k, temperature=command.temperature
    )
    console.note(str(encoded.report))
    if repeated := len(encoded.src) - len(made.keys):
        console.note(f"{counted(repeated, 'repeated pair')}: stored once.")
    print(f"{command.out}: {made}.")
