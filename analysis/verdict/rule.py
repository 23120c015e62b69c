"""What may be said of a declared claim: one verdict with its reason.

The test is the crossed test of `analysis.stats.crossed` at the claim's alpha divided by the number of declared looks
(Bonferroni; only those at five seeds or more, because at fewer nothing is confirmed), its p adjusted by Holm over all
declared claims:

    greater, less   two-sided; REFUTED when the opposite is significant, or when two one-sided tests place the
                    difference within the declared margin (a difference that counts as none)
    equivalent      two one-sided tests; REFUTED when the difference is significantly beyond the margin
    not_worse       one-sided non-inferiority; REFUTED when significantly worse by more than the margin

Where all scores agree exactly, arms are equivalent by definition, and the reason says that no error was estimated.
A refutation by the other side of a claim is a second test of it, so its p is multiplied by the size of the family.
Beside the verdict on a trend stands whether its arms are on a line at all (`analysis.stats.trend`), at the alpha of a
look; a bend changes no verdict, because the claim is of the slope.

When several verdicts apply, the first of this order is given:

1. UNDECIDED     there is nothing to test: an arm or a place has no scores
2. EXPLORATORY   the claim was not declared before its runs were trained and measured, their models were measured before
                 under another declaration, its alpha is above .05, the seeds are fewer than 5 or at no declared look,
                 or it is over new clusters of which there are fewer than 10
3. UNMATCHED     the arms' budgets are unequal
4. CONFOUNDED    the arms differ in more than one thing
5. COLLAPSED     p-MRR is up in an arm that collapses there (`ablate.evaluation.collapse`)
6. REFUTED, SUPPORTED, UNDECIDED   what the test says
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from scipy.special import chdtri, stdtr

from ablate.study.declaration import Claim
from ablate.tables import number, probability
from analysis.stats.contrast import ContrastRow, Guard, plural, tost_level
from analysis.stats.contrast_rows import CONFIRMATORY_SEEDS
from analysis.stats.crossed import Estimate
from analysis.stats.populations import plural_kind
from analysis.stats.power import MOST_SEEDS, MOST_UNITS, Parts, outlook, power

SUPPORTED, REFUTED, UNDECIDED, COLLAPSED = "SUPPORTED", "REFUTED", "UNDECIDED", "COLLAPSED"
EXPLORATORY, UNMATCHED, CONFOUNDED = "EXPLORATORY", "UNMATCHED", "CONFOUNDED"
POWER = 0.8


class Level(NamedTuple):
    """At what a claim is tested."""

    alpha: float
    """Of one look."""
    family: int
    """Number of declared claims."""


class Ruling(NamedTuple):
    """A verdict with its reason in a sentence."""

    verdict: str
    reason: str


def claim_p(claim: Claim, result: Estimate) -> float:
    """Return the p of the test that would support a claim in its direction, or of the two-sided test."""
    if claim.expects == "equivalent":
        assert claim.margin is not None
        return result.tost(claim.margin)
    if claim.expects == "not_worse":
        assert claim.margin is not None
        return result.noninferior(claim.margin)
    return result.p


def claim_interval(claim: Claim, row: ContrastRow) -> tuple[tuple[float, float], float]:
    """Return the interval that says what the test of a claim says, and its level.

    1 - 2 alpha for the one-sided tests of `equivalent` and `not_worse`, else 1 - alpha; alpha is that of one look.
    """
    if claim.expects in ("equivalent", "not_worse"):
        return row.tost_ci, tost_level(row.result)
    return row.result.ci, 1 - row.result.alpha


def rule(claim: Claim, row: ContrastRow, p_holm: float, level: Level) -> Ruling:
    """Return what the test says of a claim: SUPPORTED, REFUTED, UNDECIDED or COLLAPSED."""
    if _without_error(claim, row):
        amount = "agree exactly" if row.result.estimate == 0 else "differ by one constant amount"
        return Ruling(UNDECIDED, f"all seeds and {plural(row.unit)} {amount}, so no error could be estimated")
    against = _refutation(claim, row, p_holm, level)
    if against:
        return Ruling(REFUTED, against + _exactly(row))
    if not _in_favour(claim, row, p_holm, level):
        return Ruling(UNDECIDED, _undecided(claim, row, p_holm, level))
    if claim.measure == "p-MRR" and claim.expects == "greater":
        return _guarded(row, p_holm, level)
    return Ruling(SUPPORTED, _supported(claim, row, p_holm, level))


def outcome(claim: Claim, row: ContrastRow, p_holm: float, level: Level) -> str:
    """Return what `rule` says without its reason, before what stands beside a p-MRR: SUPPORTED, REFUTED, UNDECIDED."""
    if _without_error(claim, row):
        return UNDECIDED
    if _refutation(claim, row, p_holm, level):
        return REFUTED
    return SUPPORTED if _in_favour(claim, row, p_holm, level) else UNDECIDED


def _without_error(claim: Claim, row: ContrastRow) -> bool:
    """Return whether there is no error to test against; exact agreement is within any margin."""
    return row.result.degenerate and (row.result.estimate != 0 or claim.margin is None)


def _in_favour(claim: Claim, row: ContrastRow, p_holm: float, level: Level) -> bool:
    """Return whether the test is significant on the side of the claim."""
    is_margin = claim.expects in ("equivalent", "not_worse")
    return p_holm < level.alpha and (is_margin or (row.result.estimate > 0) == (claim.expects == "greater"))


def _refutation(claim: Claim, row: ContrastRow, p_holm: float, level: Level) -> str:
    """Return why a claim is refuted, or an empty text."""
    margin, bound, result = claim.margin, level.alpha / level.family, row.result
    if claim.expects in ("greater", "less"):
        opposite = result.estimate < 0 if claim.expects == "greater" else result.estimate > 0
        if opposite and p_holm < level.alpha:
            side = "less" if claim.expects == "greater" else "greater"
            return f"the opposite holds: it is {side} ({_estimate(result)}, Holm p {probability(p_holm)})"
        if margin is not None and result.tost(margin) < bound:
            return (
                f"the difference lies within ±{margin:g}, which was declared to count as none "
                f"({_estimate(result, row.tost_ci)} at {100 * tost_level(result):.4g} %, "
                f"equivalence p {probability(result.tost(margin))} × {level.family} claims)"
            )
        return ""
    assert margin is not None
    if result.df is None:
        return ""
    worse = float(stdtr(result.df, (result.estimate + margin) / result.se))
    better = result.upper_tail(margin)
    if claim.expects == "not_worse":
        if worse < bound:
            return f"it is worse by more than {margin:g} ({_claimed(claim, row)}, p {probability(worse)})"
        return ""
    beyond = 2 * min(worse, better)
    if beyond < bound:
        return f"the difference is beyond ±{margin:g} ({_estimate(result)}, p {probability(beyond)})"
    return ""


def _supported(claim: Claim, row: ContrastRow, p_holm: float, level: Level) -> str:
    said = {
        "greater": "it is greater",
        "less": "it is less",
        "equivalent": f"the difference lies within ±{claim.margin or 0:g}",
        "not_worse": f"it is not worse by {claim.margin or 0:g} or more",
    }[claim.expects]
    covers = f". {row.population.rstrip('.')}" if claim.expects in ("greater", "less") else ""
    evidence = f"{_claimed(claim, row)}, Holm p {probability(p_holm)} below {level.alpha:g}"
    return f"{said} ({evidence}){covers}{_exactly(row)}"


def _exactly(row: ContrastRow) -> str:
    """Return what must be said of a verdict without an error: everything agrees to the last digit."""
    if not row.result.degenerate:
        return ""
    return f"; all seeds and {plural(row.unit)} agree exactly, no error could be estimated: it covers these runs only"


def _guarded(row: ContrastRow, p_holm: float, level: Level) -> Ruling:
    """Return the verdict on a p-MRR that is up: a loss of documents raises it too, so what stands beside it decides.

    An arm that collapses decides first. Else nDCG must be kept, by the margins that were declared.
    """
    up = f"p-MRR is up ({_estimate(row.result)}, Holm p {probability(p_holm)})"
    for collapsed in sorted(row.collapses, key=lambda collapsed: collapsed.verdict != "collapse"):
        if collapsed.verdict == "collapse":
            return Ruling(
                COLLAPSED, f"{up}, and {collapsed.arm} collapses on {collapsed.cell.dataset}: {collapsed.why}"
            )
        return Ruling(UNDECIDED, f"{up}, but of {collapsed.arm} on {collapsed.cell.dataset} {collapsed.why}")
    open_ = "so a loss of documents cannot be excluded"
    if not row.guards:
        return Ruling(UNDECIDED, f"{up}, but there is no nDCG beside it, {open_}")
    changed = [guard for guard in row.guards if guard.cell.condition == row.cell.condition]
    for guard in changed:
        if _inferior(guard, level.alpha):
            return Ruling(UNDECIDED, f"{up}, but {_guard(guard)}: the model loses what it should keep")
    if not changed:
        return Ruling(UNDECIDED, f"{up}, but there is no nDCG under the changed instruction: a loss may hide")
    for guard in row.guards:
        if guard.p is None:
            why = f"no margin of {guard.cell.measure} was declared (study.margins), {open_}"
            return Ruling(UNDECIDED, f"{up}, but {why}")
        if guard.p >= level.alpha:
            return Ruling(UNDECIDED, f"{up}, but {_guard(guard)}, {open_}")
    kept = "; ".join(_guard(guard) for guard in row.guards)
    unseen = (
        f"; no collapse can be seen, {', '.join(row.without_gain)} has no instruction gain" if row.without_gain else ""
    )
    return Ruling(SUPPORTED, f"{up}, and {kept}{unseen}. {row.population.rstrip('.')}")


def _inferior(guard: Guard, alpha: float) -> bool:
    """Return whether nDCG is significantly lower and not within what was declared to be no loss."""
    kept = guard.p is not None and guard.p < alpha
    return guard.estimate.estimate < 0 and guard.estimate.p < alpha and not kept


def _guard(guard: Guard) -> str:
    return f"{guard.cell} is {_signed(guard.estimate.estimate)} ({guard.verdict})"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def _estimate(result: Estimate, ends: tuple[float, float] | None = None) -> str:
    low, high = ends or result.ci
    return f"{_signed(result.estimate)} [{number(low)}, {number(high)}]"


def _claimed(claim: Claim, row: ContrastRow) -> str:
    """Return the estimate of a claim with its own interval, at its level where that is not 1 - alpha."""
    ends, level = claim_interval(claim, row)
    at = f" at {100 * level:.4g} %" if claim.expects in ("equivalent", "not_worse") else ""
    return _estimate(row.result, ends) + at


def _undecided(claim: Claim, row: ContrastRow, p_holm: float, level: Level) -> str:
    shown = f"Holm p {probability(p_holm)} is not below {level.alpha:g} ({_claimed(claim, row)})"
    return f"{shown}; {_advice(claim, row, level)}"


def _advice(claim: Claim, row: ContrastRow, level: Level) -> str:
    """Return how large a new study must be: one that goes on until it is significant tests nothing."""
    distance = row.margin if row.margin is not None else abs(row.result.estimate)
    wanted = (1 + POWER) / 2 if claim.expects == "equivalent" else POWER  # both one-sided tests must find it
    one_sided = claim.expects in ("equivalent", "not_worse")
    alpha = level.alpha / level.family * (2 if one_sided else 1)
    low, high = needed(row, distance, alpha, wanted)
    sampled, names = _sampled(row)
    trained = bool(_trained(row))
    ways = []
    if low.seeds is not None:
        ways.append(f"{_span(low.seeds, high.seeds, MOST_SEEDS)} seeds per arm on {sampled:,} {names}")
    if low.units is not None:
        with_seeds = f" with {_seeds_kept(row)} seeds per arm" if trained else ""
        ways.append(f"{_span(low.units, high.units, MOST_UNITS)} {names}{with_seeds}")
    if one_sided:
        aim = f"would show it with power {POWER:g} if there is no difference"
    elif row.margin is not None:
        aim = f"would find a difference of {row.margin:g}, the margin, with power {POWER:g}"
    else:
        aim = (
            f"would find a difference as large as this estimate with power {POWER:g} (no margin says which matters, "
            f"and estimates are chance too)"
        )
    if not ways:
        return f"no new study of up to {MOST_SEEDS} seeds or {MOST_UNITS:,} {names} {aim}"
    spread = "by the spread seen here, 80 % range; more seeds in this study would be no test"
    return f"a new study of {' or '.join(ways)} {aim} ({spread})"


def _span(low: int, high: int | None, most: int) -> str:
    if high is None:
        return f"{low:,} to more than {most:,}"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _trained(row: ContrastRow) -> list[str]:
    """Return the arms that have training randomness; one seed is enough for the others."""
    return [arm for arm in row.weights if arm not in row.deterministic]


def _sampled(row: ContrastRow) -> tuple[int, str]:
    """Return how many units a test is over, and what they are: clusters where the population is new ones of these."""
    if row.clusters is None:
        return row.num_units, plural(row.unit)
    kinds = row.clusters.kinds
    name = min(kinds, key=lambda kind: kinds[kind].num_clusters)
    return row.clusters.num_clusters, f"{plural_kind(name)} with as many {plural(row.unit)} each"


class Size(NamedTuple):
    """What a new study needs of the one, where the other stays; None where no number up to the limits is enough."""

    seeds: int | None
    """Per arm, with as many units as here; None too where no arm is trained."""
    units: int | None
    """With as many seeds as here, and at least five; clusters where the population is new ones of these."""


def needed(row: ContrastRow, distance: float, alpha: float, wanted: float = POWER) -> tuple[Size, Size]:
    """Return the least and the largest size of a new study that finds a distance at a two-sided alpha.

    The variance parts are those of the row, times what the 80 % interval of its squared standard error leaves open
    (chi-square with its df).
    """
    sizes = []
    assert row.result.df is not None
    for level in (0.9, 0.1):
        factor = float(row.result.df / chdtri(row.result.df, 1 - level))
        sizes.append(_size(row, distance, alpha, wanted, factor))
    return sizes[0], sizes[1]


def _seeds_kept(row: ContrastRow) -> int:
    return max(CONFIRMATORY_SEEDS, min((row.num_seeds[arm] for arm in _trained(row)), default=CONFIRMATORY_SEEDS))


def _size(row: ContrastRow, distance: float, alpha: float, wanted: float, factor: float) -> Size:
    trained = _trained(row)
    here = max(2, min((row.num_seeds[arm] for arm in trained), default=2))
    sampled, _ = _sampled(row)
    parts = Parts.of_test(row.result, [row.weights[arm] for arm in trained], here, sampled).times(factor)

    def enough(seeds: int, units: int) -> bool:
        return distance > 0 and power(distance, outlook(parts, seeds, units, alpha)) >= wanted

    kept = _seeds_kept(row)
    seeds = _least(lambda seeds: enough(seeds, sampled), CONFIRMATORY_SEEDS, MOST_SEEDS) if trained else None
    return Size(seeds, _least(lambda units: enough(kept, units), 2, MOST_UNITS))


def _least(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the smallest number from low to high that is enough, None where none is; larger ones are enough too."""
    if not enough(high):
        return None
    low -= 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def first_of(ruling: Ruling, exploratory: str = "", against: Mapping[str, str] | None = None) -> tuple[Ruling, str]:
    """Return the verdict that comes first in the order above, and the one that would be given without EXPLORATORY.

    `exploratory` is why a claim is, empty when it is not; `against` has the reasons of UNMATCHED and CONFOUNDED.
    """
    marks = [mark for mark in (UNMATCHED, CONFOUNDED) if mark in (against or {})]
    first = ruling
    if marks:
        assert against is not None
        reasons = [against[marks[0]], *(f"and {mark}: {against[mark]}" for mark in marks[1:])]
        beside = f"taken as it is, it would be {ruling.verdict}: {ruling.reason}"
        first = Ruling(marks[0], "; ".join([*reasons, beside]))
    if exploratory:
        return Ruling(EXPLORATORY, f"{exploratory}; it would be {first.verdict}: {first.reason}"), first.verdict
    return first, first.verdict
