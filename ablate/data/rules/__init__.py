"""Constraints on the metadata of any BEIR folder: instructions with complements and exact labels.

    plain query and its relevant documents -> for each rule: bound chosen, documents that satisfy / violate it
        -> base rows (train split): disjoint pairs of a satisfying and a violating document
        -> evaluation sets: plain, broad, rule (`decade`), complement (`not-decade`)

A document answers an instruction when it is relevant for the plain query and the program says that it satisfies the
constraint. Only the plain queries and their labels are read; instructions that the folder has are not used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.data.beir_files import BROAD, PLAIN, OwnDocument, Query, bases_of, read_folder
from ablate.data.rules.values import Value, read_values, satisfied, settle, worded
from ablate.randomness import choose, key, uniform
from ablate.recipe.rules import Constraint, Rule, Wording, check_rules
from ablate.records import Condition, EvaluationQuery, EvaluationSet, Passage, SourceRow, UserError

__all__ = ["Case", "RuleSource"]

MAX_INSTRUCTION_NEGATIVES = 4
"""The partner and up to three more documents of the other side."""

_VERSION = 1
"""Raised whenever the same folder and rules would give other rows or labels."""


@dataclass(frozen=True, slots=True)
class Case:
    """One query under one rule, with the bound that was chosen for it."""

    query: Query
    rule: Rule
    constraint: Constraint
    """With every bound filled in."""
    satisfying: tuple[str, ...]
    violating: tuple[str, ...]

    @property
    def base_id(self) -> str:
        """The unit of evaluation: a query under a rule has exactly one pair of opposite instructions."""
        return f"{self.query.query_id}:{self.rule.name}"

    def word(self, wording: Wording, satisfying: bool) -> str:
        """Return the instruction of one side in a wording."""
        return worded(wording.satisfying if satisfying else wording.violating, self.constraint)


class RuleSource:
    """Rows and evaluation sets that rules make from a BEIR folder; reads and checks everything at once.

    Raises UserError for whatever is missing or broken in the folder, for rules that contradict themselves, for fields
    that a rule cannot take, and where no query of a named split can be used.
    """

    def __init__(
        self,
        *,
        path: str,
        rules: Sequence[Rule],
        train_split: str,
        evaluation_splits: tuple[str, ...],
        skew: float,
        seed: int,
        minimum: int,
        own_document: OwnDocument | None = None,
    ) -> None:
        """Read the folder; `minimum` documents on each side make a query usable under a rule."""
        self._rules = tuple(rules)
        check_rules(self._rules)
        if minimum < 1:
            raise UserError(f"source.minimum={minimum} must be at least 1, so that both sides have a document")
        self._folder = Path(path)
        if not self._folder.is_dir():
            raise UserError(
                f"source.path={path!r} is not a folder; give a folder with corpus.jsonl, queries.jsonl, qrels/"
            )
        files = read_folder(self._folder, own_document)
        self._own, self._remarks = files.own, files.remarks
        self._documents, self._by_base, self._grades = files.documents, files.by_base, files.labels.grades
        self._train_split, self._skew, self._seed, self._minimum = train_split, skew, seed, minimum
        self.revision: str = hashlib.sha256(f"rules {_VERSION}\0{files.revision}".encode()).hexdigest()
        """SHA-256 over the revision of the folder and the version of this module; rules are in the recipe."""
        self.evaluation_names: tuple[str, ...] = tuple(self._grades)
        named = [("train_split", train_split), *(("evaluation_splits", split) for split in evaluation_splits)]
        for name, split in named:
            self._check_split(split, f"source.{name}")
        wanted = {
            doc_id
            for split in self._grades
            for query in self._queries(split)
            for doc_id in self._relevant(query, split)
        }
        self._values: list[dict[str, Value]] = read_values(
            self._folder / "corpus.jsonl", self._documents, self._rules, wanted
        )
        self.left_out: dict[str, dict[str, int]] = {}
        """split -> rule -> how many queries have fewer than `minimum` documents on one side."""
        self._cases: dict[str, tuple[Case, ...]] = {split: tuple(self._find_cases(split)) for split in self._grades}
        for _, split in named:
            self._check_usable(split)

    # --- passages -----------------------------------------------------------------------------------------------------

    def generated(self, doc_id: str) -> bool | None:
        """Return False: documents of a folder are taken for real."""
        return False

    def style_of(self, doc_id: str) -> str | None:
        """Return None: a folder does not say."""
        return None

    def documents(self) -> Iterator[Passage]:
        """Yield the whole corpus, in the order of its file."""
        yield from self._documents.values()

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the documents of these ids, in the order asked; raises UserError for an unknown id."""
        for doc_id in doc_ids:
            if doc_id not in self._documents:
                raise UserError(f"document {doc_id!r} is not in {self._folder / 'corpus.jsonl'}; give an id that is")
            yield self._documents[doc_id]

    # --- rows ---------------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[SourceRow]:
        """Yield the base rows of the train split, by query in the order of queries.jsonl and then by rule.

        A query under a rule gives as many rows as the smaller of its two sides, each with its own two documents; the
        original instruction is the rule itself with probability `skew`, else its complement.
        """
        for case in self._cases[self._train_split]:
            yield from self._case_rows(case)

    def _case_rows(self, case: Case) -> Iterator[SourceRow]:
        yes, no = self._shuffled(case, case.satisfying), self._shuffled(case, case.violating)
        answers = self._relevant(case.query, self._train_split)
        if case.query.query_id in self._own:
            answers += (self._own[case.query.query_id],)
        wordings = case.rule.wordings
        for number in range(min(len(yes), len(no))):
            row_id = f"{case.base_id}:{number}"
            usual = uniform(self._seed, "rules skew", row_id) < self._skew
            own, opposite = (yes, no) if usual else (no, yes)
            wording = choose(range(len(wordings)), self._seed, "rules wording", row_id)
            others = [index for index in range(len(wordings)) if index != wording]
            paraphrase = choose(others, self._seed, "rules paraphrase", row_id) if others else None
            yield SourceRow(
                row_id=row_id,
                query_id=case.query.query_id,
                query=case.query.text,
                instruction=case.word(wordings[wording], usual),
                reversed_instruction=case.word(wordings[wording], not usual),
                paraphrase="" if paraphrase is None else case.word(wordings[paraphrase], usual),
                positives=(own[number],),
                hard_negatives=(),
                instruction_negatives=tuple((opposite[number:] + opposite[:number])[:MAX_INSTRUCTION_NEGATIVES]),
                answers=answers,
                asks_usual=usual,
            )

    def _shuffled(self, case: Case, doc_ids: tuple[str, ...]) -> list[str]:
        return sorted(doc_ids, key=lambda doc_id: (key(self._seed, "rules pair", case.base_id, doc_id), doc_id))

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return the whole corpus with the queries of a split, plain and under every rule that can be used on them.

        Its dataset is `<folder>-rules/<split>`. Base query: a query under a rule. Direction: `decade` for the rule
        itself (changed), `not-decade` for its complement (reversed). Raises UserError for a split without labels.
        """
        self._check_split(name, "evaluation set")
        queries: list[EvaluationQuery] = []
        qrels: dict[str, dict[str, int]] = {}
        for query in self._queries(name):
            queries.append(EvaluationQuery(query.query_id, query.query_id, query.text, "", "plain", PLAIN))
            if query.query_id in self._grades[name]:
                qrels[query.query_id] = dict(self._grades[name][query.query_id])
        changed_documents: dict[str, tuple[str, ...]] = {}
        opposites: list[tuple[str, str]] = []
        for case in self._cases[name]:
            rule, base_id = case.rule, case.base_id
            grades = self._grades[name][case.query.query_id]
            wording = choose(rule.evaluation_wordings or rule.wordings, self._seed, "rules evaluation wording", base_id)
            posed: list[tuple[str, Condition, str, str, dict[str, int]]] = [
                (f"{base_id}:{BROAD}", "original", BROAD, worded(rule.broad, case.constraint), dict(grades))
            ]
            for usual, own, lost in ((True, case.satisfying, case.violating), (False, case.violating, case.satisfying)):
                direction = rule.name if usual else f"not-{rule.name}"
                query_id = f"{base_id}:{'yes' if usual else 'no'}"
                condition: Condition = "changed" if usual else "reversed"
                kept = {doc_id: grades[doc_id] for doc_id in own}
                posed.append((query_id, condition, direction, case.word(wording, usual), kept))
                changed_documents[query_id] = lost
            opposites.append((f"{base_id}:yes", f"{base_id}:no"))
            for query_id, condition, direction, instruction, kept in posed:
                queries.append(EvaluationQuery(query_id, base_id, case.query.text, instruction, condition, direction))
                qrels[query_id] = kept
        asked_by = {case.base_id: case.query.query_id for case in self._cases[name]}
        plain_ids = {query.query_id: asked_by.get(query.base_id, query.query_id) for query in queries}
        return EvaluationSet(
            name=f"{self._folder.resolve().name}-rules/{name}",
            documents=tuple(self._documents.values()),
            queries=tuple(queries),
            qrels=qrels,
            changed_documents=changed_documents,
            opposites=tuple(opposites),
            own_documents={posed: self._own[plain] for posed, plain in plain_ids.items() if plain in self._own},
            remarks=self._remarks,
        )

    # --- labels -------------------------------------------------------------------------------------------------------

    def cases(self, split: str) -> tuple[Case, ...]:
        """Return every query of a split under every rule that can be used on it; raises UserError for another split."""
        self._check_split(split, "split")
        return self._cases[split]

    def _find_cases(self, split: str) -> Iterator[Case]:
        left_out = self.left_out.setdefault(split, {rule.name: 0 for rule in self._rules})
        for query in self._queries(split):
            relevant = self._relevant(query, split)
            for rule, values in zip(self._rules, self._values, strict=True):
                known = [doc_id for doc_id in relevant if doc_id in values]
                constraint = settle(rule.constraint, [values[doc_id] for doc_id in known], self._minimum)
                if constraint is not None:
                    yes = tuple(doc_id for doc_id in known if satisfied(constraint, values[doc_id]))
                    no = tuple(doc_id for doc_id in known if not satisfied(constraint, values[doc_id]))
                    if min(len(yes), len(no)) >= self._minimum:
                        yield Case(query, rule, constraint, yes, no)
                        continue
                left_out[rule.name] += 1

    def _queries(self, split: str) -> Iterator[Query]:
        for base_id in bases_of(self._by_base, split, self._grades):
            if PLAIN in self._by_base[base_id]:
                yield self._by_base[base_id][PLAIN]

    def _relevant(self, query: Query, split: str) -> tuple[str, ...]:
        grades = self._grades[split].get(query.query_id, {})
        return tuple(doc_id for doc_id, grade in grades.items() if grade > 0)

    def _check_usable(self, split: str) -> None:
        if not self._cases[split]:
            num_queries = sum(1 for _ in self._queries(split))
            tried = ", ".join(self.left_out[split])
            raise UserError(
                f"{self._folder}: none of the {num_queries} plain queries of split {split!r} has {self._minimum} "
                f"relevant documents on each side of a rule (tried: {tried}); lower source.minimum or change "
                "source.rules"
            )

    def _check_split(self, split: str, what: str) -> None:
        if split not in self._grades:
            known = ", ".join(self._grades) or "none"
            raise UserError(f"{what}={split!r} has no labels in {self._folder / 'qrels'}; splits with labels: {known}")
