"""What needs the models themselves: attention weights, and the teacher's n-best lists.

Both are computed once and kept in the folder of the run.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ...data import Vocabulary
from ...data.lines import pairs_digest
from ...decode.attention import attention_weights
from ...decode.corpus import translate_corpus
from ...decode.nbest import NBest
from ...distill import select
from ...distill.similarity import choose
from ...errors import UsageError
from ...model_folder import load_model
from ...models.ensemble import ensemble
from ...progress import Bar
from ...sealed import read_record, write_record
from ...settings import Search
from ...trained import TrainedModel
from .kept import AGAIN, Kept, KeptRun
from .units import digits, unit_weights, units_of

ATTENTION, FORMAT = "attention.json", "seqkd-attention-1"
MOST_UNITS = 80  # of a side; the picture of a longer sentence could not be read

Pairs = Sequence[tuple[str, str]]


class Unavailable(Exception):
    """A model cannot be used, and why; the page is written without its part."""


class Lists(NamedTuple):
    """The teacher's lists of test sentences, and what students would have been taught."""

    nbest: Sequence[NBest]
    similarities: Sequence[Sequence[float]]  # of each hypothesis to the reference
    similarity: str  # the measure of similarity
    seq_kd: list[str]
    seq_inter: list[str] | None  # None if no row was trained with it


def attention_of(kept: Kept, pairs: Pairs, spaced: bool, name: str) -> list[str | None]:
    """Returns the attention weights of pairs between units, as digits (``units.digits``).

    They are read from ``attention.json`` beside the evaluation, or computed and written there. Long
    pairs and empty ones have none.

    Args:
      kept: the evaluation; its folder has the model.
      pairs: (source, output) lines.
      spaced: whether words are separated by spaces.
      name: of the model, for the progress bar.

    Raises:
      Unavailable: the model is not there any more, or has no attention.
      UsageError: it is not the one that was evaluated.
    """
    path = kept.folder / ATTENTION
    of = {"model": kept.model, "pairs": pairs_digest(pairs), "spaced": spaced}
    if path.exists():
        record = read_record(path, FORMAT)
        if record.get("of") == of:
            return record["weights"]
    trained = _evaluated(kept, _loaded(kept.folder))
    sides = [[units_of(side, spaced) for side in pair] for pair in pairs]
    short = [n for n, pair in enumerate(sides) if 0 < min(map(len, pair))]
    short = [n for n in short if max(map(len, sides[n])) <= MOST_UNITS]
    with Bar(total=len(short), desc=f"attention of {name}", unit="sentence", wait=2) as bar:
        try:
            found = attention_weights(trained, [pairs[n] for n in short], bar)
        except UsageError as error:
            raise Unavailable(str(error)) from error
    weights: list[str | None] = [None] * len(pairs)
    for n, attention in found.items():
        (source, target), (source_units, target_units) = pairs[short[n]], sides[short[n]]
        tokens = _tokens(trained.tgt_vocab, target), _tokens(trained.src_vocab, source)
        units = unit_weights(attention[:-1], tokens, (target_units, source_units))
        weights[short[n]] = None if units is None else digits(units)
    write_record(path, FORMAT, {"of": of, "weights": weights})
    return weights


def _tokens(vocab: Vocabulary, text: str) -> list[str]:
    return vocab.tokens(vocab.encode(text))


def _loaded(folder: Path) -> TrainedModel:
    try:
        return load_model(folder)
    except (UsageError, FileNotFoundError) as error:
        raise Unavailable(str(error)) from error


def _evaluated(kept: Kept, trained: TrainedModel) -> TrainedModel:
    if trained.digest != kept.model:
        raise UsageError(
            f"{kept.folder}: holds another model than {kept.folder / 'evaluation.json'} is about: "
            f"{AGAIN}."
        )
    return trained


def lists_of_test(run: KeptRun, sentences: int) -> Lists | None:
    """Returns the teacher's n-best lists of the first test sentences, decoded once.

    They have the beam that students were taught with; None if no student was taught by whole
    sentences, or the run has no teacher.

    Args:
      run: the run; its folder gets the lists.
      sentences: of the test set.

    Raises:
      Unavailable: the teacher is not there any more.
      UsageError: the teacher is not the one that was evaluated.
    """
    plan, names = run.plan, list(run.kept)
    by_beam, inter = (any(part in n for n in names) for part in ("seq-kd", "seq-inter"))
    if "teacher" not in run.kept or not (by_beam or inter):
        return None
    pairs = run.pairs[:sentences]
    beam = max(plan["kd_beam"] if by_beam else 1, plan["inter_beam"] if inter else 1)
    trained = _teacher(run)
    nbest = _decoded(run, trained, beam, pairs)
    best = nbest if plan["kd_beam"] == beam else _decoded(run, trained, plan["kd_beam"], pairs)
    about = run.results.about.get("seq_inter", {})
    similarity_name = about.get("similarity", plan["similarity"])
    texts = [target for _, target in pairs] if similarity_name == "auto" else ()
    name, similarity = choose(similarity_name, texts=texts)
    lower = trained.tgt_vocab.lower
    tables = select.similarities(pairs, nbest, similarity, lower=lower)
    chosen = None
    if inter:
        selection = select.closest_to_reference(similarity, lower)
        chosen = [t for (part,) in select.in_chunks(pairs, nbest, selection) for _, t in part.pairs]
    seq_kd = [target for _, target in select.seq_kd(pairs, best).pairs]
    return Lists(nbest, [table.tolist() for table in tables], name, seq_kd, chosen)


def _teacher(run: KeptRun) -> TrainedModel:
    """Returns the model that taught, which may be an ensemble."""
    kept = run.kept["teacher"][0]
    more = (f"teacher-{n}" for n in range(2, run.plan["teachers"] + 1))
    members = [_loaded(folder) for folder in (kept.folder, *map(run.folder.joinpath, more))]
    if len(members) == 1:
        return _evaluated(kept, members[0])
    together = ensemble([member.model for member in members])
    params: Any = [member.params for member in members]
    return _evaluated(kept, replace(members[0], model=together, params=params, net=None))


def _decoded(run: KeptRun, trained: TrainedModel, beam: int, pairs: Pairs) -> Sequence[NBest]:
    part = "" if len(pairs) == len(run.pairs) else f"-{len(pairs)}"
    folder: Path = run.folder / f"nbest-{beam}-test{part}"
    search = Search(beam_size=beam, n_best=beam, max_source=run.plan["max_source"])
    sources = [source for source, _ in pairs]
    return list(translate_corpus(folder, trained, sources, search, progress=folder.name))
