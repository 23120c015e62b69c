"""What an audit says of the pairs of rows: right, or flagged, from the judgments of `ablate.synthesize` or people.

    judgments.jsonl -> one verdict for each row that somebody judged -> the rows that `audit.take` lets take part

The item of a judgment is the row: `item_id` is `row_id`. A pair is right where, under the complement, passage a is not
relevant and b is; what cannot be judged is not right, as in the estimates of `analysis.inversion_audit`. Of several
judgments of a row gold counts alone, then what was adjudicated, then people, then judges; among equals it is right
where more than half say so. Docs: docs/audit.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ablate.data.judgments import Judgment, judgments_in
from ablate.recipe.schema import Audit
from ablate.records import UserError


class Audited(NamedTuple):
    """The verdicts of a file of judgments."""

    is_right: Mapping[str, bool]
    """row_id -> whether its pair is right; a row that nobody judged is not there."""
    revision: str
    """SHA-256 of the file: what ids hold for it."""


def read_audit(audit: Audit) -> Audited | None:
    """Return the verdicts that an audit names, None where it names no file and all rows take part.

    Raises UserError with file and line for what is no judgment, and where rows are chosen and no file is named.
    """
    if audit.judgments is None:
        if audit.take == "all":
            return None
        raise UserError(
            f"audit.take={audit.take} chooses rows by their judgments, and audit.judgments is null; name the file: "
            f"audit.judgments=judgments.jsonl (python -m ablate.synthesize judge writes one)"
        )
    path = Path(audit.judgments)
    said: dict[str, dict[int, list[bool]]] = {}
    for _, judgment in judgments_in([path]):
        by_rank = said.setdefault(judgment.item_id, {})
        by_rank.setdefault(_rank(judgment), []).append(judgment.swap_class == "right")
    if not said:
        raise UserError(f"audit.judgments={audit.judgments!r} holds no judgment; name a file that has some")
    verdicts = {row_id: fmean(by_rank[max(by_rank)]) > 0.5 for row_id, by_rank in said.items()}
    return Audited(verdicts, hashlib.sha256(path.read_bytes()).hexdigest())


def _rank(judgment: Judgment) -> int:
    """Return how much a judgment counts: of those of a row only the highest do."""
    return 2 if judgment.is_adjudicated else {"judge": 0, "human": 1, "gold": 3}[judgment.kind]
