"""Contrasts as people write them: `B - A`, `AB - A - B + none`, `0.5*A + 0.5*B - C`."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence

from ablate.recipe.build import meant
from ablate.records import UserError
from analysis.stats.crossed import check_weights, trend_weights

_COEFFICIENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*\*\s*")


def parse_contrast(text: str, arms: Collection[str]) -> dict[str, float]:
    """Return the weights of a contrast written as a sum of arms, each with an optional factor `2*`.

    The longest known name is taken at each place, so names may hold blanks, `-` and `+`; a bare `0` is an arm of that
    name. Raises UserError for what is not such a sum, unknown arms and weights that do not sum to 0.
    """
    weights: dict[str, float] = {}
    place, first = _skip(text, 0), True
    while place < len(text):
        sign = {"+": 1.0, "-": -1.0, "−": -1.0}.get(text[place])
        if sign is not None:
            place = _skip(text, place + 1)
        elif not first:
            raise UserError(f"contrast {text!r}: a + or - is missing before {text[place:]!r}; write it like 'B - A'")
        coefficient = _COEFFICIENT.match(text, place)
        place = coefficient.end() if coefficient else place
        arm = _arm_at(text, place, arms)
        weights[arm] = weights.get(arm, 0.0) + (sign or 1.0) * (float(coefficient[1]) if coefficient else 1.0)
        place, first = _skip(text, place + len(arm)), False
    check_weights(weights, arms)
    return {arm: weight for arm, weight in weights.items() if weight != 0}


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _arm_at(text: str, place: int, arms: Collection[str]) -> str:
    """Return the longest arm name at a place that ends where a blank, a sign or the text does."""
    ends = [arm for arm in arms if text.startswith(arm, place) and text[place + len(arm) :][:1] in ("", *" \t+-−")]
    if not ends:
        word = re.match(r"\S*", text[place:])
        name = (word[0] if word else "") or "(nothing)"
        raise UserError(f"contrast {text!r}: arm {name!r} is unknown; arms are {', '.join(arms)}{meant(name, arms)}")
    return max(ends, key=len)


def parse_trend(text: str, arms: Collection[str]) -> dict[str, float]:
    """Return the weights of the slope over doses written as `arm=0, other=.05, third=.1`.

    Raises UserError for an entry without a number, unknown arms and fewer than two different doses.
    """
    doses: dict[str, float] = {}
    for entry in text.split(","):
        arm, _, dose = (part.strip() for part in entry.rpartition("="))
        try:
            value = float(dose)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UserError(f"trend {text!r}: {entry.strip()!r} is not arm=dose, such as 'n10=0.1'")
        if arm not in arms:
            raise UserError(f"trend {text!r}: arm {arm!r} is unknown; arms are {', '.join(arms)}{meant(arm, arms)}")
        if arm in doses:
            raise UserError(f"trend {text!r} names arm {arm!r} twice; an arm has one dose")
        doses[arm] = value
    weights = trend_weights(doses)
    check_weights(weights, arms)
    return weights


def all_contrasts(
    arms: Sequence[str], baselines: Sequence[str], contrasts: Sequence[str], trends: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return label -> weights of everything that is asked for, each once.

    A baseline stands for its contrast with every other arm. Raises UserError when nothing is asked for.
    """
    by_label: dict[str, dict[str, float]] = {}
    for baseline in baselines:
        if baseline not in arms:
            raise UserError(f"the baseline {baseline!r} is not an arm; arms are {', '.join(arms)}")
        by_label |= {f"{arm} - {baseline}": {arm: 1.0, baseline: -1.0} for arm in arms if arm != baseline}
    for text in contrasts:
        weights = parse_contrast(text, arms)
        if weights not in by_label.values():
            by_label[text.strip()] = weights
    for text in trends:
        by_label[f"trend over {text.strip()}"] = parse_trend(text, arms)
    if not by_label:
        raise UserError("no contrast is asked for; give --baseline A, or --contrast 'B - A' (several are allowed)")
    return by_label
