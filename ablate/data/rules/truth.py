"""What is true under rules: an instruction is found among the wordings of its query, and put to the measured value."""

from __future__ import annotations

from ablate.data.rules import Case, RuleSource
from ablate.data.rules.values import is_worded, satisfied
from ablate.data.truth import UNKNOWN


class RuleTruth:
    """Relevance of the documents of a folder by its rules; see `ablate.data.truth.Truth`."""

    def __init__(self, source: RuleSource) -> None:
        self._source = source
        self._cases: dict[str, list[Case]] = {}
        for case in source.train_cases:
            self._cases.setdefault(case.query.query_id, []).append(case)

    def _asked(self, query_id: str, query: str, instruction: str) -> list[tuple[Case, bool]]:
        """Return the rules that word an instruction of a query so, each with the side that is asked for."""
        return [
            (case, satisfying)
            for case in self._cases.get(query_id, ())
            if case.query.text == query
            for satisfying in (True, False)
            if any(
                is_worded(instruction, wording.satisfying if satisfying else wording.violating, case.constraint)
                for wording in case.rule.wordings
            )
        ]

    def is_relevant(self, query_id: str, query: str, instruction: str, doc_id: str) -> bool | None:
        """Return whether a document is relevant to the query and on the side that is asked for; None: not known."""
        answers = {self._answer(case, side, doc_id) for case, side in self._asked(query_id, query, instruction)}
        return answers.pop() if len(answers) == 1 else None

    def _answer(self, case: Case, satisfying: bool, doc_id: str) -> bool | None:
        value = self._source.value_of(case.rule, doc_id)
        if value is None:
            return None
        is_relevant = doc_id in case.satisfying or doc_id in case.violating
        return is_relevant and satisfied(case.constraint, value) == satisfying

    def constraint_type(self, query_id: str, query: str, instruction: str, complement: str, doc_id: str) -> str:
        """Return the name of the rule whose two sides these are."""
        sides = [
            {(case.rule.name, side == flip) for case, side in self._asked(query_id, query, text)}
            for text, flip in ((instruction, True), (complement, False))
        ]
        names = {name for name, _ in sides[0] & sides[1]}
        return names.pop() if len(names) == 1 else UNKNOWN
