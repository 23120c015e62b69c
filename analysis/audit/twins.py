"""The reversed twins of a finished mix as items, and where its source has exact labels their gold: a census.

    groups of the mix -> (original, twin) of each row -> an item: passage_b is what the twin labels relevant, passage_a
        what it labels not -> the four questions put to the tables of the source (`ablate.data.truth`)

An item is made from what was trained on alone. The gold is not the label: it is worked out from the words of query and
instruction and what the source records of a passage. A twin whose labels were left as the original's, by a factor or by
mistake, has its passages in the item the other way round than a right one, and so is answered `back`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ablate.data.judgments import Judgment
from ablate.data.mix import Mix, read_mix
from ablate.data.sources import open_source
from ablate.data.truth import Truth, truth_of
from ablate.recipe.build import build
from ablate.recipe.schema import RulesSource, Source, WorldSource
from ablate.records import TrainingGroup, UserError
from ablate.store.files import CONFIG_FILE, FOLDERS
from ablate.store.integrity import read_json
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore
from analysis.audit.items import Item

RATER = "tables"
"""Who gives the gold: the tables of the source."""
ALL = "all"
"""Type of constraint where the source does not tell any."""


class NoPairs(UserError):
    """A mix without an original beside its reversed twin."""


class Pair(NamedTuple):
    """A row in both of its views, as they were trained on."""

    original: TrainingGroup
    twin: TrainingGroup

    @property
    def is_unswapped(self) -> bool:
        """Return whether both views label the same passage relevant."""
        return self.original.positives[0] == self.twin.positives[0]


@dataclass(frozen=True)
class Twins:
    """The twins of a mix as an audit takes them."""

    mix_id: str
    labels: tuple[str, ...]
    """Names of the mix, `study/arm`."""
    seed: int
    items: tuple[Item, ...]
    gold: tuple[Judgment, ...]
    """Of every pair that the tables know; none where the source has no exact labels."""
    originals_right: float | None
    """Share of those pairs whose original is labelled rightly, by the same tables; None without gold."""
    num_unswapped: int
    """Pairs of which both views label the same passage relevant: one of the two is wrong, whatever the texts say."""
    num_alone: int
    """Reversed groups whose original is not in the mix; they are no items."""
    no_gold: str
    """Why there is no census; empty where there is one."""

    @property
    def num_unknown(self) -> int:
        """Return the pairs that have no gold."""
        return len(self.items) - len(self.gold)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what must be known of the evidence, in words."""
        total = len(self.items)
        said = [f"no census: {self.no_gold}"] if self.no_gold else []
        if not self.no_gold and self.num_unknown:
            said.append(
                f"census: not known for {self.num_unknown} of {total} pairs, on which the tables of the source do not "
                f"tell; they count neither as right nor as wrong: the ends are those with all of them wrong and right"
            )
        elif self.gold:
            said.append(
                f"census: all {total} pairs of the mix were read against the tables of its source, so there is no "
                f"sampling interval"
            )
        if self.gold:
            said.append(f"of the originals beside the twins {self.originals_right:.3f} are labelled rightly")
        if self.num_unswapped:
            said.append(
                f"{self.num_unswapped} of {total} pairs label the same passage relevant in both views, which needs no "
                f"judge to be wrong in one of them"
            )
        if self.num_alone:
            said.append(f"{self.num_alone} reversed groups stand without their original and are no items")
        return tuple(said)


class Truths:
    """What is true of the sources of mixes; each source is opened once."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._known: dict[str, Truth | str] = {}

    def of(self, mix: Manifest, path: str | None = None) -> Truth | str:
        """Return what is true of the source of a mix, or why that is not known; `path`: where its folder lies."""
        key = repr((mix.recipe.get("source"), path))
        if key not in self._known:
            try:
                self._known[key] = _opened(self._store, mix, path)
            except UserError as error:
                self._known[key] = str(error)
        return self._known[key]


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    source: Source


def _opened(store: ResultStore, mix: Manifest, path: str | None) -> Truth:
    """Open the source that a mix was made from, if it is exact and still as it was; raises UserError else."""
    recorded = dict(mix.recipe["source"])
    kind, revision = recorded.get("kind"), recorded.pop("revision", None)
    if kind not in ("world", "rules"):
        raise UserError(f"a source of kind {kind} has no exact labels")
    if kind == "rules":
        recorded["path"] = path or _path_of(store, mix)
    source = build(_Recorded, {"source": recorded}).source
    assert isinstance(source, WorldSource | RulesSource)
    opened = open_source(source, ())
    if opened.revision != revision:
        raise UserError(
            f"the source ({kind}) is not as it was when the mix was made (revision {opened.revision[:16]}, recorded is "
            f"{str(revision)[:16]}); make the mix again"
        )
    truth = truth_of(opened)
    assert truth is not None
    return truth


def _path_of(store: ResultStore, mix: Manifest) -> str:
    """Return where a training on this mix found the folder of its source."""
    for train in store.manifests("train"):
        if mix.id in train.parents and CONFIG_FILE in train.content_sha256:
            values = read_json(store.checked(train, CONFIG_FILE), store.remedy(train))
            path = values.get("recipe", {}).get("source", {}).get("path") if isinstance(values, dict) else None
            if isinstance(path, str):
                return path
    raise UserError(
        f"no training on {mix.id} recorded where its source lies; analysis.inversion_audit takes --source DIR"
    )


def find_mix(results: str, text: str) -> tuple[ResultStore, Manifest]:
    """Return the finished mix that a person means, with its store.

    `text`: its folder, its id or the beginning of one, or study/arm:seed. Raises UserError for anything else.
    """
    path = Path(text)
    if path.is_dir() and path.absolute().parent.name == FOLDERS["mix"]:
        store = ResultStore(path.absolute().parent.parent)
        return store, store.resolve("mix", path.absolute().name)
    store = ResultStore(results)
    return store, store.resolve("mix", text)


def pairs_of(groups: Sequence[TrainingGroup]) -> tuple[list[Pair], int]:
    """Return the rows of a mix that are there in both views, and how many reversed groups stand alone.

    A row under a broad instruction has no instruction negatives and claims no reversal: it is neither.
    """
    views: dict[str, dict[str, TrainingGroup]] = {}
    for group in groups:
        row, _, view = group.group_id.rpartition("/")
        views.setdefault(row, {})[view] = group
    both = [
        Pair(known["original"], known["reversed"])
        for known in views.values()
        if {"original", "reversed"} <= set(known)
        and known["original"].instruction_negatives
        and known["reversed"].instruction_negatives
    ]
    num_reversed = sum(group.view == "reversed" and bool(group.instruction_negatives) for group in groups)
    return both, num_reversed - len(both)


def read_twins(store: ResultStore, manifest: Manifest, truths: Truths, path: str | None = None) -> Twins:
    """Return the twins of a finished mix; `path`: where the folder of its source lies, if no training says so.

    Raises NoPairs for a mix without a pair, and UserError for damaged files.
    """
    mix = read_mix(store.whole(manifest), manifest.counts)
    pairs, num_alone = pairs_of(mix.groups)
    if not pairs:
        why = f"its {num_alone} reversed groups stand without their originals" if num_alone else "it has none"
        raise NoPairs(
            f"mix {manifest.id} ({', '.join(manifest.labels)}) has no pair of an original and its reversed twin: "
            f"{why}; name the mix of an arm with factors.reversed_views, such as dual_view"
        )
    truth = truths.of(manifest, path)
    known = None if isinstance(truth, str) else truth
    no_gold = truth if isinstance(truth, str) else ""
    judged = [] if known is None else [(pair, gold) for pair in pairs if (gold := _gold(pair, known)) is not None]
    if not (judged or no_gold):
        no_gold = f"not known for {len(pairs)} of {len(pairs)} pairs: the tables of the source tell of none of them"
    return Twins(
        mix_id=manifest.id,
        labels=manifest.labels,
        seed=manifest.seed,
        items=tuple(_item(pair, mix, known) for pair in pairs),
        gold=tuple(gold for _, gold in judged),
        originals_right=None if known is None or not judged else fmean(_original_is_right(p, known) for p, _ in judged),
        num_unswapped=sum(pair.is_unswapped for pair in pairs),
        num_alone=num_alone,
        no_gold=no_gold,
    )


def _item(pair: Pair, mix: Mix, truth: Truth | None) -> Item:
    original, twin = pair
    a, b = twin.instruction_negatives[0], twin.positives[0]
    kind = ALL
    if truth is not None:
        kind = truth.constraint_type(twin.query_id, twin.query, original.instruction, twin.instruction, b)
    return Item(
        id=twin.group_id.rpartition("/")[0],
        query_id=twin.query_id,
        query=twin.query,
        passage_a=_text(mix, a),
        passage_b=_text(mix, b),
        instruction=original.instruction,
        complement=twin.instruction,
        constraint_type=kind,
        stratum=kind,
        known_bad=False,
    )


def _text(mix: Mix, doc_id: str) -> str:
    passage = mix.passages[doc_id]
    return " ".join(part for part in (passage.title, passage.text) if part)


def _gold(pair: Pair, truth: Truth) -> Judgment | None:
    """Return the four answers of the tables; None where they do not know one of them."""
    _, twin = pair
    a, b = twin.instruction_negatives[0], twin.positives[0]
    said = [
        truth.is_relevant(twin.query_id, twin.query, group.instruction, doc_id) for group in pair for doc_id in (a, b)
    ]
    return None if None in said else Judgment(twin.group_id.rpartition("/")[0], RATER, "gold", *said)


def _original_is_right(pair: Pair, truth: Truth) -> bool:
    group = pair.original
    positive, negative = group.positives[0], group.instruction_negatives[0]
    asked = group.query_id, group.query, group.instruction
    return truth.is_relevant(*asked, positive) is True and truth.is_relevant(*asked, negative) is False


def has_twins(mix: Manifest) -> bool:
    """Return whether a mix has reversed groups, by its card, or by its factors where that does not say."""
    views = mix.counts.get("views")
    if isinstance(views, dict):
        return bool(views.get("reversed"))
    return bool((mix.recipe.get("factors") or {}).get("reversed_views"))
