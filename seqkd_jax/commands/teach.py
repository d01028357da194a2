"""Commands that turn a teacher into data."""

from .. import __main__ as arguments
from ..bleu import gleu
from ..data import encode_pairs, require_kept
from ..data.text import read_pairs, read_sources, require_sentences, write_lines
from ..distill import select
from ..distill.chrf import chrf
from ..distill.teacher_cache import cache_teacher
from ..distill.translate import translate_corpus
from ..errors import UsageError
from ..train.model_folder import load_model
from .process import prepare

SIMILARITIES: dict[str, select.Similarity] = {
    "bleu": select.bleu_of_kim_and_rush,
    "gleu": gleu,
    "chrf": chrf,
}


def distill(command: arguments.Distill) -> None:
    """Decodes a corpus with a teacher and writes the text that a student trains on."""
    prepare()
    if command.mbr and command.reference:
        raise UsageError("Give --reference or --mbr: a hypothesis is close to one of them.")
    if command.reference:
        pairs = read_pairs(command.source, command.reference)
    else:
        pairs = [(source, "") for source in read_sources(command.source)]
    sources = [source for source, _ in pairs]
    require_sentences(sources, command.source)
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
    similarity = SIMILARITIES[command.similarity]
    if command.reference:
        chosen = select.seq_inter(pairs, nbest, similarity)
    elif command.mbr:
        chosen = select.mbr(pairs, nbest, similarity)
    else:
        chosen = select.seq_kd(pairs, nbest)
    write_lines(command.out / "train.src", [source for source, _ in chosen.pairs])
    write_lines(command.out / "train.tgt", [target for _, target in chosen.pairs])
    print(f"{command.out}: {len(chosen.pairs):,} pairs in train.src and train.tgt.")


def cache(command: arguments.Cache) -> None:
    """Writes the distributions of a teacher over given pairs."""
    prepare()
    pairs = read_pairs(command.source, command.target)
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
    print(f"{command.out}: {made}.")
