"""Is a training passage relevant under an instruction? Answered from a source's own tables, where it has exact ones.

The answer is worked out from the words of the query and of the instruction and from what is recorded of the passage. It
never looks at the rows of the source, so that it can be held against their labels and those of any mix.
"""

from __future__ import annotations

from typing import Protocol

from ablate.data.sources import RowSource


class Truth(Protocol):
    """What is true of the training passages of a source."""

    def is_relevant(self, query_id: str, query: str, instruction: str, doc_id: str) -> bool | None:
        """Return whether a passage answers the query and satisfies the instruction; None where that is not known.

        Not known are a query and an instruction that the source does not write, and a passage without the attribute.
        Two queries of a source may have one text, so a query is named by its id too.
        """

    def constraint_type(self, query_id: str, query: str, instruction: str, complement: str, doc_id: str) -> str:
        """Return the kind of the constraint that tells the two apart, about a passage of the pair; UNKNOWN for none."""


UNKNOWN = "not known"
"""Type of constraint of two texts that are not each other's complement."""


def truth_of(source: RowSource) -> Truth | None:
    """Return what is true of a source's passages; None where its labels are not exact, as those of people's folders."""
    from ablate.data.rules import RuleSource
    from ablate.data.world import World

    if isinstance(source, World):
        from ablate.data.world.truth import WorldTruth

        return WorldTruth(source)
    if isinstance(source, RuleSource):
        from ablate.data.rules.truth import RuleTruth

        return RuleTruth(source)
    return None
