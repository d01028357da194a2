"""Commands that turn a teacher into data."""

import sys
from collections.abc import Sequence

from .. import arguments
from ..data import encode_pairs, require_kept
from ..data.encode import EXAMPLES, lines_at
from ..data.text import read_pairs, read_sources, require_sentences, words_of, write_lines
from ..distill import select
from ..distill.nbest import NBest, read_nbest
from ..distill.similarity import choose
from ..distill.teacher_cache import cache_teacher
from ..distill.translate import lines_digest, translate_corpus
from ..errors import UsageError
from ..files import check_writable, make_folder
from ..train.model_folder import load_model
from .process import prepare


def distill(command: arguments.Distill) -> None:
    """Decodes a corpus with a teacher and writes the text that a student trains on."""
    prepare()
    if command.mbr and command.reference:
        raise UsageError(
            "Give --reference or --mbr, not both: the hypothesis that is taken is close to the "
            "reference, or to the other hypotheses."
        )
    compares = command.mbr or command.reference is not None
    if not compares and (command.similarity != "auto" or command.smoothing):
        raise UsageError(
            "--similarity and --smoothing have no effect without --reference (Seq-Inter) or "
            "--mbr: give one of these, or leave them out. Seq-KD takes the teacher's best and "
            "compares nothing."
        )
    if command.reference:
        pairs = read_pairs(command.source, command.reference)
    else:
        pairs = [(source, "") for source in read_sources(command.source)]
    sources = [source for source, _ in pairs]
    require_sentences(sources, command.source)
    named = command.similarity, command.smoothing
    choose(*named)  # what cannot be chosen is said before the work begins
    for side in "src", "tgt":
        check_writable(make_folder(command.out) / f"train.{side}")
    nbest, lower = _given_lists(command, sources) if command.nbest else _decoded(command, sources)
    best = chosen = select.seq_kd(pairs, nbest)
    if compares:
        references = [target for _, target in pairs] if command.reference else _said(nbest)
        name, similarity = choose(*named, texts=references)
        way = select.mbr if command.mbr else select.seq_inter
        chosen = way(pairs, nbest, similarity, lower=lower)
        share = 100 * select.share_differing(chosen, best)
        print(f"By {name}, {share:.1f} % of the targets differ from Seq-KD's.")
    write_lines(command.out / "train.src", [source for source, _ in chosen.pairs])
    write_lines(command.out / "train.tgt", [target for _, target in chosen.pairs])
    empty = [number for number, source in enumerate(sources, 1) if not words_of(source)]
    if empty:
        where = lines_at(empty[:EXAMPLES], len(empty))
        print(f"Empty sources, with empty targets: {len(empty):,} {where}.", file=sys.stderr)
    print(f"{command.out}: {len(chosen.pairs):,} pairs in train.src and train.tgt.")


def _said(nbest: Sequence[NBest]) -> list[str]:
    return [text for n in nbest for text in n.texts]


def _decoded(command: arguments.Distill, sources: Sequence[str]) -> tuple[list[NBest], bool]:
    """The teacher's lists, and whether it writes lower case alone."""
    if command.model is None:
        raise UsageError("Name the folder of the teacher, or give its n-best lists with --nbest.")
    if command.first_index:
        raise UsageError(
            "--first-index has no effect without --nbest: leave it out, or give n-best lists."
        )
    teacher = load_model(command.model)
    nbest = translate_corpus(
        command.out / "nbest",
        teacher.model,
        teacher.params,
        sources,
        teacher.src_vocab,
        teacher.tgt_vocab,
        command.search,
        teacher=teacher.digest,
    )
    return nbest, teacher.tgt_vocab.lower


def _given_lists(command: arguments.Distill, sources: Sequence[str]) -> tuple[list[NBest], bool]:
    """Lists that are there already, and whether they are in lower case alone."""
    assert command.nbest is not None
    if command.model is not None or command.search != arguments.Distill.search:
        raise UsageError(
            "--nbest brings the teacher's lists: leave out the teacher's folder and the "
            "options of a search (--beam-size, ...)."
        )
    header, nbest = read_nbest(command.nbest, command.first_index)
    if len(nbest) != len(sources):
        raise UsageError(
            f"{command.nbest} has lists of {len(nbest):,} sentences, but {command.source} has "
            f"{len(sources):,} lines: each line needs one list."
        )
    if header.get("source", lines_digest(sources)) != lines_digest(sources):
        raise UsageError(
            f"{command.nbest}: these lists were made from another text than {command.source}; "
            "give the text that they were made from."
        )
    return nbest, all(text == text.lower() for text in _said(nbest))


def cache(command: arguments.Cache) -> None:
    """Writes the distributions of a teacher over given pairs."""
    prepare()
    pairs = read_pairs(command.source, command.target)
    make_folder(command.out)
    teacher = load_model(command.model)
    encoded = encode_pairs(pairs, teacher.src_vocab, teacher.tgt_vocab)
    require_kept(encoded, str(command.source))
    made = cache_teacher(
        command.out,
        teacher.model,
        teacher.params,
        encoded,
        teacher=teacher.digest,
        k=command.k,
        temperature=command.temperature,
    )
    print(encoded.report, file=sys.stderr)
    print(f"{command.out}: {made}.")
