"""The one place for the data mix: the factors, the pure function of each, and their order.

A factor is a field of `Factors` (its default is the no-op, for ever), a stage function, and one line in `STAGES`.
Command-line key, strict schema, ids, data card, tags, tables and the parametrised tests iterate over the fields; what
is coherent, what a row must have and what counts as a difference between two arms are read from the lines of `STAGES`.

A stage maps drafts to drafts. A draft is a training group in the making beside the source row it came from. Every
choice in a stage is a keyed draw on the row's id, so switching one factor on changes no draw of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import cycle, groupby, islice
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple

from ablate.randomness import choose, uniform
from ablate.recipe.wordings import GENERIC_INSTRUCTIONS
from ablate.records import SourceRow, TrainingGroup, UserError


class Range(NamedTuple):
    """Closed interval of allowed values, attached to a type with `Annotated` and checked by `recipe.build`."""

    low: float
    high: float


Share = Annotated[float, Range(0.0, 1.0)]
"""A share of rows, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The data mix as levels; all defaults together are the arm `query_only`."""

    instructed: Share = 0.0
    """Share of base rows that carry their own instruction. Off: bare queries. On (1): each query is posed with the
    instruction that its passages were labelled under (Promptriever, arXiv 2409.11136, "w/Instructions")."""

    instruction_text: Literal["own", "repeat_query", "generic", "swapped"] = "own"
    """What stands in the place of the instruction. Off (own): the row's instruction. On: the query repeated to the
    length of the instruction (length control), one of a list of task descriptions (control for having any), or the
    instruction of another query (vocabulary control): the three controls of Promptriever, table 6."""

    instruction_negatives: Annotated[int, Range(0, 64)] = 0
    """Number of hard negatives of an instructed group that are replaced by passages which answer the query and break
    the instruction. Off: hard negatives only. On: the group keeps its size (Promptriever, section 3.1)."""

    instruction_negative_share: Share = 1.0
    """Share of instructed rows that get instruction negatives. Off (1): all of them. On: the others keep their hard
    negatives and get no reversed twin."""

    reversed_views: Share = 0.0
    """Share of instructed base rows that are followed by their polarity-reversed twin: the complementary instruction,
    the same two passages, labels swapped. Off: no twins. On (1): under an equal budget in groups, half of the rows
    make room for the twins of the other half (Dual-View, arXiv 2604.18845, "Ins-DV")."""

    twin_polarity: Literal["right", "right_restyled", "restyled", "paraphrase", "random", "dead"] = "right"
    """What a reversed twin is, and how it is labelled. Off (right): the complement, the same two passages, labels
    swapped. On: levels that take one thing at a time from it, the objections to Dual-View that its tables leave open.

    right_restyled: as right, with all passages of both sides in their other style, so that a cue of style still points
    at the positive: a reversal that balances sides alone. restyled: the original's instruction and labels, the same
    passages in their other style: balances styles alone, no reversal. paraphrase: a paraphrase of the instruction,
    passages and labels of the original: a second wording, no reversal. random: as right, labels swapped by a coin:
    originals keep their right labels, so three labels in four are right, which dampens the signal and does not end it.
    dead: one coin a row says which of the two passages is the positive of both views: half of the labels are right,
    so that they say nothing about the instruction."""

    label_noise: Share = 0.0
    """Share of reversed twins whose labels are wrong (not swapped). Off: none. On: the dose in a dose-response study;
    at .5 a twin says nothing about polarity."""

    plain_twins: Share = 0.0
    """Share of instructed base rows that are followed by their plain counterpart: bare query, hard negatives. Off:
    none. On (1): Promptriever's "Joint", Dual-View's "All-orig"."""

    twins: Literal["substitute", "add", "instead"] = "substitute"
    """How twins stand to their originals and to the budget. Off (substitute): beside them and counted like any row, so
    they displace base queries. On: not counted, so they come on top (add: what unmatched volume buys), or in the place
    of their originals, one group a row by a keyed draw (instead: groups with the balance of twins, and no twins)."""

    broad: Share = 0.0
    """Share of instructed base rows that, with their twins, are posed under the broad instruction, which every answer
    of the query satisfies: hard negatives take the place of instruction negatives. Off: none. On: rows that teach what
    an instruction means that narrows nothing; as many in each arm, whatever its twins. These hard negatives are the
    row's as they are, beside restyled passages too: no arm restyles hard negatives, so that they are the same in all.
    Not beside levels at which a twin may have the positive of its original, because one instruction then makes the two
    the same group."""


class Draft(NamedTuple):
    """A training group in the making, beside the source row that it comes from."""

    row: SourceRow
    group: TrainingGroup
    is_twin: bool = False
    """Whether a factor made this group beside another one of the same row."""
    is_counted: bool = True
    """Whether the budget counts it."""


Stage = Callable[[Iterable[Draft], Factors, int], Iterator[Draft]]


class Demands(NamedTuple):
    """What a factor asks for when it is on, or at one of its levels."""

    needs: tuple[tuple[str, ...], ...] = ()
    """Of each of these alternatives one factor must be on."""
    excludes: Mapping[str, str] = MappingProxyType({})
    """Factors that must be off -> what both would decide."""
    reads: tuple[str, ...] = ()
    """Fields of the source row that must not be empty."""


class StageSpec(NamedTuple):
    """One factor's place in the order: its stage, and how it stands to other factors, to rows and to the budget."""

    factor: str
    apply: Stage
    demands: Demands = Demands()
    """At every level at which the factor is on."""
    at: Mapping[object, Demands] = MappingProxyType({})
    """Level -> what it asks for beyond that."""
    modifies: tuple[str, ...] = ()
    """Factors of which this one only says how they act; one of them must be on. Between two arms that differ in one of
    them, a difference in this one is no change of its own."""
    takes_negatives: bool = False
    """Whether the level is a number of a group's negatives, of which there are `budget.negatives_per_group`."""
    uncounted_at: tuple[object, ...] = ()
    """Levels at which there may be drafts that the budget does not count, so some behind the last one that it does."""

    def asks(self, level: object) -> tuple[Demands, ...]:
        """Return all that the factor asks for at a level at which it is on."""
        made_by = Demands(needs=(self.modifies,) if self.modifies else ())
        return made_by, self.demands, self.at.get(level, Demands())


def first_draft(row: SourceRow, negatives_per_group: int) -> Draft:
    """Return the plain group of a row, with at most `negatives_per_group` hard negatives."""
    group = TrainingGroup(
        group_id=f"{row.row_id}/plain",
        query_id=row.query_id,
        query=row.query,
        instruction="",
        view="plain",
        positives=row.positives[:1],
        hard_negatives=row.hard_negatives[:negatives_per_group],
        instruction_negatives=(),
        answers=row.answers,
    )
    return Draft(row, group)


def with_instruction(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Give a share of the rows their own instruction."""
    for draft in drafts:
        row = draft.row
        if uniform(seed, "instructed", row.row_id) < factors.instructed:
            group = replace(
                draft.group, group_id=f"{row.row_id}/original", instruction=row.instruction, view="original"
            )
            draft = draft._replace(group=group)
        yield draft


def with_instruction_text(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Put another text in the place of the instructions."""
    if factors.instruction_text == "swapped":
        yield from _swapped(drafts)
        return
    for draft in drafts:
        if draft.group.view == "original":
            if factors.instruction_text == "generic":
                text = choose(GENERIC_INSTRUCTIONS, seed, "instruction_text", draft.row.row_id)
            else:
                text = " ".join(islice(cycle(draft.row.query.split()), len(draft.row.instruction.split())))
            draft = draft._replace(group=replace(draft.group, instruction=text))
        yield draft


def _swapped(drafts: Iterable[Draft]) -> Iterator[Draft]:
    """Give instructed rows the instructions of the rows of another query that stand behind them.

    Rows of one query that stand side by side are a block; each block takes from the next one, and the last from the
    first block of another query than its own. Raises UserError when there is only one query, because no other
    instruction is there to give.
    """
    blocks = (list(block) for _, block in groupby(drafts, key=lambda draft: draft.row.query_id))
    first, second = next(blocks, []), next(blocks, [])
    if not second:
        if any(draft.group.view == "original" for draft in first):
            raise UserError("factors.instruction_text=swapped needs rows of at least two queries; the source has one")
        yield from first
        return
    yield from _with_instructions_of(second, first)
    here = second
    for following in blocks:
        yield from _with_instructions_of(following, here)
        here = following
    same_query = here[0].row.query_id == first[0].row.query_id
    yield from _with_instructions_of(second if same_query else first, here)


def _with_instructions_of(givers: list[Draft], takers: list[Draft]) -> Iterator[Draft]:
    texts = cycle([draft.row.instruction for draft in givers])
    for draft in takers:
        if draft.group.view == "original":
            draft = draft._replace(group=replace(draft.group, instruction=next(texts)))
        yield draft


def with_instruction_negatives(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Replace hard negatives of instructed groups by instruction negatives; the group keeps its size."""
    for draft in drafts:
        group = draft.group
        if group.view == "original":
            chosen = draft.row.instruction_negatives[: factors.instruction_negatives]
            size = max(len(group.hard_negatives), len(chosen))
            group = replace(
                group, instruction_negatives=chosen, hard_negatives=group.hard_negatives[: size - len(chosen)]
            )
        yield draft._replace(group=group)


def without_some_instruction_negatives(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Give the rows beyond the share their hard negatives back."""
    for draft in drafts:
        group = draft.group
        drawn = uniform(seed, "instruction_negative_share", draft.row.row_id)
        if group.instruction_negatives and drawn >= factors.instruction_negative_share:
            hard = draft.row.hard_negatives[: len(group.negatives)]
            group = replace(group, instruction_negatives=(), hard_negatives=hard)
        yield draft._replace(group=group)


def with_reversed_views(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Follow a share of the instructed rows by their polarity-reversed twin."""
    for draft in drafts:
        yield draft
        if _has_reversed_twin(draft, factors, seed):
            yield Draft(draft.row, reversed_twin(draft.row, draft.group), is_twin=True)


def _has_reversed_twin(draft: Draft, factors: Factors, seed: int) -> bool:
    """Return whether a reversed twin follows a draft of a base row."""
    drawn = uniform(seed, "reversed_views", draft.row.row_id)
    return draft.group.view == "original" and bool(draft.group.instruction_negatives) and drawn < factors.reversed_views


def reversed_twin(row: SourceRow, group: TrainingGroup) -> TrainingGroup:
    """Return the group under the complementary instruction: positive and first instruction negative swap labels.

    Further instruction negatives stay only where the source says that they break the complement too; the places of
    the others are taken by hard negatives of the row.
    """
    positive, partner = group.positives[0], group.instruction_negatives[0]
    kept = tuple(doc_id for doc_id in group.instruction_negatives[1:] if doc_id in row.still_negative)
    freed = len(group.instruction_negatives) - 1 - len(kept)
    hard = row.hard_negatives[: len(group.hard_negatives) + freed]
    return replace(
        group,
        group_id=f"{row.row_id}/reversed",
        instruction=row.reversed_instruction,
        view="reversed",
        positives=(partner,),
        instruction_negatives=(positive, *kept),
        hard_negatives=hard,
    )


def with_twin_polarity(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Make reversed twins what the level says; `dead` gives originals that have one the label of its coin too."""
    original = None
    for draft in drafts:
        as_original = uniform(seed, "twin_polarity", draft.row.row_id) < 0.5
        if draft.group.view == "reversed":
            assert original is not None and original.row is draft.row, "a twin stands behind its original"
            draft = draft._replace(group=_twin_at(factors.twin_polarity, draft, original.group, as_original))
        else:
            original = draft
            has_twin = _has_reversed_twin(draft, factors, seed)
            if factors.twin_polarity == "dead" and has_twin and not as_original:
                draft = draft._replace(group=_labels_swapped(draft.group))
        yield draft


def _twin_at(level: str, twin: Draft, original: TrainingGroup, as_original: bool) -> TrainingGroup:
    """Return what a reversed twin is at a level of `twin_polarity`; `original` is the group of its row as labelled."""
    row = twin.row
    if level == "paraphrase":
        return replace(original, group_id=f"{row.row_id}/paraphrase", instruction=row.paraphrase)
    if level == "restyled":
        return _restyled(row, replace(original, group_id=f"{row.row_id}/restyled"))
    if level == "right_restyled":
        return _restyled(row, twin.group)
    return _labels_as_original(twin) if as_original else twin.group


def _restyled(row: SourceRow, group: TrainingGroup) -> TrainingGroup:
    """Return a group with the passages of both sides of its row in their other style; hard negatives stay."""
    return replace(
        group,
        positives=row.in_other_style(group.positives),
        instruction_negatives=row.in_other_style(group.instruction_negatives),
    )


def _labels_swapped(group: TrainingGroup) -> TrainingGroup:
    """Return a group with the labels of its positive and its first instruction negative swapped."""
    partner, *others = group.instruction_negatives
    return replace(group, positives=(partner,), instruction_negatives=(*group.positives, *others))


def with_label_noise(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Leave the labels of a share of the reversed twins unswapped."""
    for draft in drafts:
        if draft.group.view == "reversed" and uniform(seed, "label_noise", draft.row.row_id) < factors.label_noise:
            draft = draft._replace(group=_labels_as_original(draft))
        yield draft


def _labels_as_original(twin: Draft) -> TrainingGroup:
    """Return a twin's group with the labels that its two passages have in the original row."""
    group, row = twin.group, twin.row
    partner = row.instruction_negatives[0]
    return replace(
        group, positives=row.positives[:1], instruction_negatives=(partner, *group.instruction_negatives[1:])
    )


def with_plain_twins(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Follow a share of the instructed base rows by their plain counterpart, of the same size."""
    for draft in drafts:
        yield draft
        row, group = draft.row, draft.group
        drawn = uniform(seed, "plain_twins", row.row_id)
        if group.view == "original" and not draft.is_twin and drawn < factors.plain_twins:
            yield Draft(row, first_draft(row, len(group.negatives)).group, is_twin=True)


def with_twins_placed(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Let the budget pass over all twins, or keep one group of each row, drawn with equal chances."""
    if factors.twins == "add":
        for draft in drafts:
            yield draft._replace(is_counted=not draft.is_twin)
        return
    for row_id, views in groupby(drafts, key=lambda draft: draft.row.row_id):
        yield choose(list(views), seed, "twins", row_id)._replace(is_twin=False)


def with_broad(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Pose a share of the instructed rows, and their twins, under the broad instruction."""
    for draft in drafts:
        row, group = draft.row, draft.group
        if group.view != "plain" and uniform(seed, "broad", row.row_id) < factors.broad:
            hard = row.hard_negatives[: len(group.negatives)]
            group = replace(group, instruction=row.broad, instruction_negatives=(), hard_negatives=hard)
        yield draft._replace(group=group)


NEGATIVES = ("instruction", "instruction_negatives")
COPIES = "the twins of broad rows, which would be right whatever their labels, and copies of the rows"

STAGES: tuple[StageSpec, ...] = (
    StageSpec("instructed", with_instruction, Demands(reads=("instruction",))),
    StageSpec("instruction_text", with_instruction_text, modifies=("instructed",)),
    StageSpec(
        "instruction_negatives",
        with_instruction_negatives,
        Demands(needs=(("instructed",),), reads=NEGATIVES),
        takes_negatives=True,
    ),
    StageSpec("instruction_negative_share", without_some_instruction_negatives, modifies=("instruction_negatives",)),
    StageSpec(
        "reversed_views",
        with_reversed_views,
        Demands(
            needs=(("instructed",), ("instruction_negatives",)),
            reads=(*NEGATIVES, "reversed_instruction"),
        ),
    ),
    StageSpec(
        "twin_polarity",
        with_twin_polarity,
        at={
            "paraphrase": Demands(reads=("paraphrase",), excludes={"broad": COPIES}),
            "restyled": Demands(reads=("restyled",)),
            "right_restyled": Demands(reads=("restyled",)),
            "random": Demands(excludes={"broad": COPIES}),
            "dead": Demands(excludes={"broad": COPIES}),
        },
        modifies=("reversed_views",),
    ),
    StageSpec(
        "label_noise",
        with_label_noise,
        Demands(excludes={"twin_polarity": "the labels of twins", "broad": COPIES}),
        modifies=("reversed_views",),
    ),
    StageSpec("plain_twins", with_plain_twins, Demands(needs=(("instructed",),))),
    StageSpec("twins", with_twins_placed, modifies=("reversed_views", "plain_twins"), uncounted_at=("add",)),
    StageSpec(
        "broad",
        with_broad,
        Demands(needs=(("instructed",),), excludes={"instruction_text": "the texts of instructions"}, reads=("broad",)),
    ),
)
"""Factors in the order in which they are applied."""

FACTOR_NAMES = tuple(field.name for field in fields(Factors))
OFF = Factors()

assert tuple(stage.factor for stage in STAGES) == FACTOR_NAMES, (
    f"STAGES has one line for each field of Factors, in their order; without a line: "
    f"{[name for name in FACTOR_NAMES if name not in {stage.factor for stage in STAGES}]}, without a field: "
    f"{[stage.factor for stage in STAGES if stage.factor not in FACTOR_NAMES]}"
)


def active(factors: Factors) -> dict[str, object]:
    """Return the factors that are not at their no-op, by name: what enters the identity of a mix."""
    return {name: getattr(factors, name) for name in FACTOR_NAMES if getattr(factors, name) != getattr(OFF, name)}


def check_coherent(factors: Factors) -> None:
    """Raise UserError when a factor is on without what it acts upon, or twice for the same thing."""
    on = active(factors)
    asked = [(stage.factor, demands) for stage, level in _stages_on(factors) for demands in stage.asks(level)]
    for name, demands in asked:
        for needed in demands.needs:
            if not set(needed) & set(on):
                names = " or ".join(f"factors.{other}" for other in needed)
                raise UserError(
                    f"factors.{name}={on[name]} acts on rows that {names} makes, and that is off; set "
                    f"{names} or leave factors.{name} at {getattr(OFF, name)}"
                )
    for name, demands in asked:
        for other, decided in demands.excludes.items():
            if other in on:
                raise UserError(
                    f"factors.{name}={on[name]} and factors.{other}={on[other]} both decide {decided}; leave one at "
                    f"its default"
                )


def check_room(factors: Factors, negatives_per_group: int) -> None:
    """Raise UserError when a factor asks for more negatives than a group of the budget has."""
    for name, number in negatives_taken(factors).items():
        if number > negatives_per_group:
            raise UserError(
                f"factors.{name}={number} does not fit into budget.negatives_per_group={negatives_per_group}; raise "
                f"the budget's or lower the factor's"
            )


def negatives_taken(factors: Factors) -> dict[str, int]:
    """Return how many of a group's negatives each factor that chooses some chooses, by its name; 0 when it is off."""
    return {stage.factor: getattr(factors, stage.factor) for stage in STAGES if stage.takes_negatives}


def all_counted(factors: Factors) -> bool:
    """Return whether the budget counts every draft that the active factors make."""
    return not any(level in stage.uncounted_at for stage, level in _stages_on(factors))


def apply_stages(drafts: Iterable[Draft], factors: Factors, seed: int) -> Iterator[Draft]:
    """Run the drafts through the stages of all active factors, in the order of `STAGES`."""
    for stage, _ in _stages_on(factors):
        drafts = stage.apply(drafts, factors, seed)
    return iter(drafts)


def fields_read(factors: Factors) -> tuple[str, ...]:
    """Return the fields of a source row that the active factors need to be non-empty, in a fixed order."""
    asked = (demands for stage, level in _stages_on(factors) for demands in stage.asks(level))
    return tuple(dict.fromkeys(field for demands in asked for field in demands.reads))


def _stages_on(factors: Factors) -> list[tuple[StageSpec, object]]:
    """Return the stages of all active factors, in the order of `STAGES`, with their levels."""
    on = active(factors)
    return [(stage, on[stage.factor]) for stage in STAGES if stage.factor in on]
