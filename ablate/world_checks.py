"""Whether the generated world asks for more than shared words: what needs no encoder, measured against targets.

    python -m ablate.world_checks source.seed=7

The world is looked at without its two defects (source.skew=0.5 source.shortcut=0), for they are meant to be learned.
Exit code 0: every target is met; 1: one is missed; 2: a mistake in the command.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ablate.cli.command import command, finish
from ablate.cli.explain import check_command_line
from ablate.compose import load, strict
from ablate.data.world import World
from ablate.data.world.tables import Domain, domains
from ablate.evaluation.measures import SATISFYING_OVER_VIOLATING
from ablate.evaluation.rankers import Lexical, Ranked, Ranker
from ablate.evaluation.scoring import rank_and_score
from ablate.evaluation.summary import NDCG
from ablate.randomness import stream
from ablate.recipe.schema import WorldSource
from ablate.records import EvaluationSet, SourceRow, UserError
from ablate.retrieval.rankings import DocumentOrder
from ablate.tables import Column, Table, to_text

MOST_BY_WORDS = 0.56
"""Most that a method without an understanding of words may reach where .5 is chance."""
MOST_SHARED = 0.05
MOST_PLAIN = 0.97
LEAST_QUERIES = 24
DEPTH = 1000
EPOCHS, RATE = 3, 0.02
"""Of the linear models."""

FloatArray = npt.NDArray[np.float64]


class Measured(NamedTuple):
    """One figure of a world and what it must be."""

    what: str
    value: float
    target: str
    met: bool


def at_most(what: str, value: float, target: float) -> Measured:
    """Return a figure that must not be above its target; nan misses every target."""
    return Measured(what, value, f"<= {target:g}", value <= target)


def at_least(what: str, value: float, target: float) -> Measured:
    """Return a figure that must not be below its target; nan misses every target."""
    return Measured(what, value, f">= {target:g}", value >= target)


def words_of(text: str) -> list[str]:
    """Return the distinct words and numbers of a text in lower case, sorted."""
    return sorted(set(re.findall(r"[a-z0-9]+", text.lower())))


class WordPairs:
    """A linear model over pairs (word of the instruction, word of the document): what no unseen word can teach.

    The score of a document is the sum of the weights of its pairs; the weights are learned by logistic regression on
    pairs of passages, one row after the other, with the step sizes of AdaGrad (Duchi et al. 2011,
    https://jmlr.org/papers/v12/duchi11a.html). A word that training has not seen has no weight. Memory: 16 bytes per
    word of instructions and word of passages.
    """

    def __init__(self, rows: Sequence[SourceRow], texts: Mapping[str, str], *, instructed: bool = True) -> None:
        """Train on all rows and both of their instructions; not `instructed`: on the words of passages alone."""
        self._instructed = instructed
        asked = (row.instruction for row in rows), (row.reversed_instruction for row in rows)
        self._asked = _numbered(text for part in asked for text in part) if instructed else {"": 0}
        self._said = _numbered(texts[i] for row in rows for i in (*row.positives, *row.instruction_negatives))
        self._read: dict[str, list[str]] = {}
        self._weights: FloatArray = np.zeros((len(self._asked), len(self._said)))
        self._squares: FloatArray = np.full_like(self._weights, 1e-8)
        for epoch in range(EPOCHS):
            for place in stream(0, "word pairs", epoch).permutation(len(rows)):
                row = rows[place]
                better, worse = texts[row.positives[0]], texts[row.instruction_negatives[0]]
                self._learn(row.instruction, better, worse)
                if instructed:
                    self._learn(row.reversed_instruction, worse, better)

    def __call__(self, bed: EvaluationSet, depth: int) -> Ranked:
        """Return the rankings of a set."""
        order = DocumentOrder([passage.doc_id for passage in bed.documents])
        said = np.zeros((len(bed.documents), len(self._said)))
        for document, passage in enumerate(bed.documents):
            said[document, self._places(self._said, passage.text)] = 1
        rankings = []
        for query in bed.queries:
            weights = self._weights[self._asked_by(query.instruction)].sum(axis=0)
            rankings.append(order.rank(query.query_id, (said @ weights).astype(np.float32), depth=depth))
        return Ranked(rankings)

    def margin(self, instruction: str, better: str, worse: str) -> float:
        """Return by how much the first passage scores above the second."""
        pairs, signs = self._pairs(instruction, better, worse)
        return float((self._weights[pairs] * signs).sum())

    def _learn(self, instruction: str, better: str, worse: str) -> None:
        pairs, signs = self._pairs(instruction, better, worse)
        slope = 1 / (1 + math.exp(min(float((self._weights[pairs] * signs).sum()), 500)))
        self._squares[pairs] += slope**2
        self._weights[pairs] += RATE * slope * signs / np.sqrt(self._squares[pairs])

    def _pairs(self, instruction: str, better: str, worse: str) -> tuple[tuple[npt.NDArray[np.intp], ...], FloatArray]:
        """Return the places of all pairs (words asked, words in one passage alone) and a sign (1, words) for each."""
        first, second = (set(self._places(self._said, text)) for text in (better, worse))
        alone = sorted(first ^ second)
        signs = np.array([[1.0 if place in first else -1.0 for place in alone]])
        return np.ix_(np.array(self._asked_by(instruction), dtype=np.intp), np.array(alone, dtype=np.intp)), signs

    def _asked_by(self, instruction: str) -> list[int]:
        return self._places(self._asked, instruction) if self._instructed else [0]

    def _places(self, known: Mapping[str, int], text: str) -> list[int]:
        words = self._read.get(text)
        if words is None:
            words = self._read[text] = words_of(text)
        return [known[word] for word in words if word in known]


def _numbered(texts: Iterable[str]) -> dict[str, int]:
    return {word: place for place, word in enumerate(sorted({word for text in texts for word in words_of(text)}))}


def obeyed(ranker: Ranker, bed: EvaluationSet) -> dict[str, float]:
    """Return `satisfying over violating` of a ranker: over all base queries (""), by kind and by form."""
    values: dict[str, list[float]] = defaultdict(list)
    for score in rank_and_score(ranker, [bed], depth=DEPTH).scores:
        if score.measure == SATISFYING_OVER_VIOLATING and score.direction == "both":
            for part in ("", *score.unit_id.split("-")[-2:]):
                values[part].append(score.value)
    return {part: statistics.mean(found) for part, found in sorted(values.items())}


def plain_ndcg(bed: EvaluationSet) -> float:
    """Return nDCG@10 of BM25 for the bare query."""
    scores = rank_and_score(Lexical(with_instruction=False), [bed], depth=DEPTH).scores
    return statistics.mean(score.value for score in scores if score.measure == NDCG and score.condition == "plain")


def passage_only(rows: Sequence[SourceRow], texts: Mapping[str, str]) -> float:
    """Return how often the words of the passages alone tell the positive of a row from its instruction negative.

    Learned on the rows of every other topic, measured on those of the topics between them.
    """
    topics = sorted({row.query_id.rsplit("-", 1)[0] for row in rows})
    learned = set(topics[::2])
    parts: tuple[list[SourceRow], list[SourceRow]] = ([], [])
    for row in rows:
        parts[row.query_id.rsplit("-", 1)[0] not in learned].append(row)
    model = WordPairs(parts[0], texts, instructed=False)
    margins = [model.margin("", texts[row.positives[0]], texts[row.instruction_negatives[0]]) for row in parts[1]]
    return statistics.mean(0.5 if margin == 0 else float(margin > 0) for margin in margins)


def verbatim(texts: Iterable[str], bed: EvaluationSet) -> float:
    """Return the share of the sentences of a set's documents that stand word for word in a training passage."""
    known = {sentence for text in texts for sentence in _sentences(text)}
    posed = [sentence for passage in bed.documents for sentence in _sentences(passage.text)]
    return statistics.mean(sentence in known for sentence in posed)


def _sentences(text: str) -> list[str]:
    return text.lower().removesuffix(".").split(". ")


_NO_KEYS = frozenset("a an and the or of in is it to for with has have from at by on as one its no not".split())


def stem(word: str) -> str:
    """Return the first five letters of a word: enough to see that `beginner` and `beginning` are kin."""
    return word.removesuffix("s")[:5] if len(word) > 3 else word


def stem_overlap(tables: Sequence[Domain]) -> tuple[float, list[str]]:
    """Return the share of clauses with a stem that tells the sides of a constraint of their attribute apart; and them.

    Such a stem stands in an instruction phrase of one side and in none of the other. Numbers do not count.
    """
    shared: list[str] = []
    num_clauses = 0
    for domain in tables:
        for place, asks in enumerate(domain.asks):
            keys: set[str] = set()
            for constraint in asks:
                first, second = (
                    {stem(word) for texts in side.values() for text in texts for word in words_of(text)}
                    for side in (constraint.usual, constraint.complement)
                )
                keys |= {found for found in first ^ second if not found.isdigit()} - _NO_KEYS
            clauses = [
                clause for by_style in domain.clauses.values() for level in by_style[1][place] for clause in level
            ]
            num_clauses += len(clauses)
            shared += [
                f"{domain.name}: {clause}" for clause in clauses if keys & {stem(word) for word in words_of(clause)}
            ]
    return len(shared) / num_clauses, shared


def measure(world: World, names: Sequence[str]) -> list[Measured]:
    """Return every figure of a world, for each of these evaluation sets."""
    rows = list(world.rows())
    beds = [world.evaluation_set(name) for name in names]
    evaluated = {passage.doc_id for bed in beds for passage in bed.documents}
    wanted = dict.fromkeys(doc_id for row in rows for doc_id in (*row.answers, *row.hard_negatives))
    texts = {passage.doc_id: passage.text for passage in world.passages(wanted)}
    assert not evaluated & texts.keys()
    figures = [
        at_most("words of instructions in what documents say", stem_overlap(domains())[0], MOST_SHARED),
        at_most("positives told by the words of passages alone", passage_only(rows, texts), MOST_BY_WORDS),
    ]
    lexical, pairs = Lexical(with_instruction=True), WordPairs(rows, texts)
    for bed in beds:
        kinds, forms = (Counter(base.split("-")[-3 + place] for base, _ in bed.opposites) for place in (0, 1))
        figures += [
            at_least(f"{bed.name}: queries of the rarest kind, {min(kinds)}", min(kinds.values()), LEAST_QUERIES),
            at_most(
                f"{bed.name}: queries of a form, most less fewest",
                max(forms.values()) - min(forms.values()),
                len(kinds),
            ),
            at_most(f"{bed.name}: sentences of training passages", verbatim(texts.values(), bed), MOST_SHARED),
            at_most(f"{bed.name}: plain nDCG@10 of BM25", plain_ndcg(bed), MOST_PLAIN),
        ]
        for name, ranker in (("BM25 with instruction", lexical), ("word pairs", pairs)):
            by_part = obeyed(ranker, bed)
            figures.append(at_most(f"{bed.name}: {name}", by_part.pop(""), MOST_BY_WORDS))
            figures += [Measured(f"{bed.name}: {name}, {part}", value, "", True) for part, value in by_part.items()]
    return figures


def report(figures: Sequence[Measured]) -> str:
    """Return the figures as an aligned table; what is measured without a target is by kind and by form."""
    columns = (Column("measured"), Column("value", "r"), Column("target", "r"), Column(""))
    rows = tuple(
        (
            figure.what,
            f"{figure.value:.3f}" if isinstance(figure.value, float) else str(figure.value),
            figure.target,
            "" if figure.met else "MISSED",
        )
        for figure in figures
    )
    return to_text(Table("", columns, rows))


def _run(options: argparse.Namespace) -> int:
    check_command_line(options.words)
    config = strict(load(options.words))
    source = config.recipe.source
    if not isinstance(source, WorldSource):
        raise UserError(f"source.kind={source.kind}: only the generated world is checked here; say source=world")
    world = World(seed=source.seed, documents=source.documents, skew=0.5, shortcut=0.0)
    figures = measure(world, config.recipe.evaluation.sets)
    print(report(figures))
    missed = sum(not figure.met for figure in figures)
    targets = sum(bool(figure.target) for figure in figures)
    print(f"\n{targets - missed} of {targets} targets are met")
    return 1 if missed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a world, print, and return the exit code."""
    made = command(
        "ablate.world_checks",
        "Measure whether shared words solve the generated world, against targets. Exit code 0: every target is met; 1: "
        "one is missed; 2: a mistake in the command.",
        "source.seed=7 'evaluation.sets=[dev]'",
    )
    made.add_argument("words", nargs="*", metavar="KEY=VALUE", help="overrides as for ablate.run")
    return finish(_run, made, arguments, intermixed=True)


if __name__ == "__main__":
    sys.exit(main())
