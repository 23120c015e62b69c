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

from ablate.reading import at, check_file, json_object, lines
from ablate.recipe.schema import Audit
from ablate.records import UserError

ANSWERS = ("a_under_instruction", "b_under_instruction", "a_under_complement", "b_under_complement")
"""The questions of a judgment; the last two are about the swap."""
KINDS = ("judge", "human", "gold")
"""Who judges, the kind whose word counts more behind the others."""
ADJUDICATED = "adjudicated"
"""Rater whose judgment settles what people said differently."""


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
    check_file(path)
    said: dict[str, dict[int, dict[str, bool]]] = {}
    for number, text in lines(path):
        row_id, rank, rater, is_right = _judgment(json_object(text, at(path, number)), at(path, number))
        raters = said.setdefault(row_id, {}).setdefault(rank, {})
        if rater in raters:
            raise UserError(f"{at(path, number)}: {rater!r} judged item {row_id!r} before; keep one of the two")
        raters[rater] = is_right
    if not said:
        raise UserError(f"audit.judgments={audit.judgments!r} holds no judgment; name a file that has some")
    verdicts = {row_id: fmean(by_rank[max(by_rank)].values()) > 0.5 for row_id, by_rank in said.items()}
    return Audited(verdicts, hashlib.sha256(path.read_bytes()).hexdigest())


def _judgment(values: Mapping[str, object], where: str) -> tuple[str, int, str, bool]:
    """Return the item, how much the rater's word counts, the rater, and whether the pair is right."""
    names = ("item_id", "rater", "kind", *ANSWERS)
    for name in names:
        if name not in values:
            raise UserError(f"{where}: {name} is missing; a judgment has {', '.join(names)}")
    item_id, rater, kind = values["item_id"], values["rater"], values["kind"]
    if not isinstance(item_id, str) or not isinstance(rater, str) or not item_id or not rater:
        raise UserError(f"{where}: item_id={item_id!r:.40} and rater={rater!r:.40} must be texts that are not empty")
    if kind not in KINDS:
        raise UserError(f"{where}: kind={kind!r:.40} is not known; allowed: {', '.join(KINDS)}")
    for name in ANSWERS:
        if not (values[name] is None or isinstance(values[name], bool)):
            raise UserError(f"{where}: {name}={values[name]!r:.40} is no answer; allowed: true, false, null")
    rank = 2 * KINDS.index(str(kind)) + (kind == "human" and rater == ADJUDICATED)
    return item_id, rank, rater, values["a_under_complement"] is False and values["b_under_complement"] is True
