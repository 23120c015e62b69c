"""Audits of mixes: the census against swaps that are known, what has none, the files that other commands take."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import override
from mixes import WORLD, make_mix
from synthetic_study import make_quick
from test_rules import document, folder, rule

from ablate.data.truth import UNKNOWN, Truth, truth_of
from ablate.data.world import World
from ablate.data.world.truth import WorldTruth
from ablate.records import SourceRow
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore
from ablate.synthesis.items import read_gold
from ablate.synthesis.items import read_items as items_of_synthesis
from analysis.audit import twins as twins_module
from analysis.audit.items import read_items
from analysis.audit.twins import Truths, read_twins
from analysis.inversion_audit import main
from analysis.page.labels import arm_labels
from analysis.sample_for_audit import main as sample_main
from analysis.study.evidence import Evidence
from analysis.study.runs import ArmRun


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=0, documents=600, skew=0.9, shortcut=0.9)


def audited(tmp_path: Path, mix: str, *more: str) -> dict[str, Any]:
    path = tmp_path / "audit.json"
    assert main([mix, "--results", str(tmp_path), "--json", str(path), *more]) == 0
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_the_tables_know_every_label_of_a_row_without_its_row(world: World) -> None:
    truth = truth_of(world)
    assert truth is not None
    for row in world.rows():
        a, b = row.positives[0], row.instruction_negatives[0]
        for instruction, wanted in ((row.instruction, a), (row.paraphrase, a), (row.reversed_instruction, b)):
            assert [truth.is_relevant(row.query_id, row.query, instruction, doc_id) for doc_id in (a, b)] == [
                wanted == a,
                wanted == b,
            ]
        for doc_id in (*row.hard_negatives, *row.instruction_negatives):
            assert truth.is_relevant(row.query_id, row.query, row.instruction, doc_id) is False
        assert all(
            truth.is_relevant(row.query_id, row.query, row.reversed_instruction, doc_id) is False
            for doc_id in row.still_negative
        )
        assert truth.constraint_type(row.query_id, row.query, row.instruction, row.reversed_instruction, a) != UNKNOWN
        assert truth.constraint_type(row.query_id, row.query, row.instruction, row.instruction, a) == UNKNOWN


def test_what_the_world_does_not_say_is_not_known(world: World) -> None:
    truth, row = truth_of(world), next(world.rows())
    assert truth is not None
    assert truth.is_relevant(row.query_id, "who won", row.instruction, row.positives[0]) is None
    assert truth.is_relevant(row.query_id, row.query, "Only a good one.", row.positives[0]) is None


def test_the_census_is_the_share_of_twins_that_the_factor_left_right(tmp_path: Path) -> None:
    mixes = {
        arm: make_mix(tmp_path, arm, *WORLD, *more)
        for arm, *more in (
            ("dual_view",),
            ("reversal_restyled",),
            ("label_noise", "factors.label_noise=0.2"),
            ("random_polarity",),
            ("dead_polarity",),
        )
    }
    found = {arm: audited(tmp_path, mix.id) for arm, mix in mixes.items()}
    for arm in ("dual_view", "reversal_restyled"):
        swap = found[arm]["swap_accuracy"]
        assert (swap["estimate"], swap["verdict"], swap["census"], swap["ci"]) == (1.0, "ABOVE", True, [1.0, 1.0])
        assert found[arm]["mix"]["originals_right"] == 1.0
    for arm in ("label_noise", "random_polarity", "dead_polarity"):
        values = found[arm]
        swapped = 1 - values["mix"]["same_label_in_both_views"] / values["items"]
        if arm == "dead_polarity":  # one coin for both views: each pair has one of them wrong
            assert values["swap_accuracy"]["estimate"] + values["mix"]["originals_right"] == pytest.approx(1)
            assert swapped == 0
        else:
            assert values["swap_accuracy"]["estimate"] == pytest.approx(swapped)
            assert values["mix"]["originals_right"] == 1.0
        assert values["classes"]["back"]["estimate"] == pytest.approx(1 - values["swap_accuracy"]["estimate"])
        assert values["verdicts"]["swap accuracy"] == "BELOW"
    assert found["label_noise"]["swap_accuracy"]["estimate"] == pytest.approx(0.8, abs=0.15)
    assert found["random_polarity"]["swap_accuracy"]["estimate"] == pytest.approx(0.5, abs=0.2)


class _Earlier(World):
    """A world as an earlier version made it."""

    revision = "0-earlier"


class _Lying(World):
    """A world whose rows claim that the partner is what the instruction asks for, in one row of four."""

    def rows(self) -> Iterator[SourceRow]:
        for place, row in enumerate(super().rows()):
            if place % 4 == 0:
                partner, *others = row.instruction_negatives
                row = dataclasses.replace(
                    row, positives=(partner,), instruction_negatives=(*row.positives, *others), restyled=()
                )
            yield row


def test_the_census_is_not_the_label_said_again(tmp_path: Path) -> None:
    """Rows with wrong labels are called wrong, although their groups are what the rows say."""
    mix = make_mix(tmp_path, "dual_view", source=_Lying(seed=0, documents=600, skew=0.9, shortcut=0.9))
    found = audited(tmp_path, mix.id)
    assert 0.55 < found["swap_accuracy"]["estimate"] < 0.95
    assert found["mix"]["originals_right"] == pytest.approx(found["swap_accuracy"]["estimate"])
    assert found["mix"]["same_label_in_both_views"] == 0


def test_a_census_says_that_all_was_read_and_gives_no_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mix = make_mix(tmp_path, "dual_view")
    assert main([str(tmp_path / "mixes" / mix.id)]) == 0  # by its folder
    shown = capsys.readouterr().out
    assert "all read" in shown and "there is no sampling interval" in shown
    assert main(["twins/dual_view:0", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == shown


def test_items_and_gold_are_what_other_commands_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mix = make_mix(tmp_path, "label_noise")
    items, gold = tmp_path / "items.jsonl", tmp_path / "gold.jsonl"
    whole = audited(tmp_path, mix.id, "--items-to", str(items), "--gold-to", str(gold))
    assert len(read_items(items)) == len(list(items_of_synthesis(items))) == len(read_gold(gold)) == whole["items"]
    assert sample_main(["--items", str(items), "--size", "10", "--to", str(tmp_path / "sample")]) == 0
    again = tmp_path / "again.json"
    assert main(["--items", str(items), "--judgments", str(gold), "--json", str(again)]) == 0
    known = json.loads(again.read_text())
    assert known == {name: value for name, value in whole.items() if name != "mix"}


def test_judges_are_matched_to_the_items_of_a_mix(tmp_path: Path) -> None:
    mix = make_mix(tmp_path, "dual_view")
    gold, judged = tmp_path / "gold.jsonl", tmp_path / "judge.jsonl"
    audited(tmp_path, mix.id, "--gold-to", str(gold))
    lines = [{**json.loads(line), "kind": "judge", "rater": "llm"} for line in gold.read_text().splitlines()]
    judged.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = audited(tmp_path, mix.id, "--judgments", str(judged))
    assert found["judged"]["judge"] == found["judged"]["gold"] == found["items"]


def test_a_source_without_exact_labels_has_no_census_and_its_judges_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mix = make_mix(tmp_path, "dual_view", source=_Earlier(seed=0, documents=600, skew=0.9, shortcut=0.9))
    items = tmp_path / "items.jsonl"
    assert main([mix.id, "--results", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "is not as it was when the mix was made" in said and "give --judgments F of its items" in said
    assert main([mix.id, "--results", str(tmp_path), "--items-to", str(items)]) == 0
    answers = {"a_under_instruction": True, "b_under_instruction": False, "a_under_complement": False}
    said = [
        {"item_id": item.id, "rater": "ann", "kind": "human", **answers, "b_under_complement": place % 2 == 0}
        for place, item in enumerate(read_items(items))
    ]
    human = tmp_path / "human.jsonl"
    human.write_text("".join(json.dumps(line) + "\n" for line in said[:40]))
    found = audited(tmp_path, mix.id, "--judgments", str(human))
    assert found["swap_accuracy"]["census"] is False and found["mix"]["originals_right"] is None
    assert "is not as it was" in found["mix"]["no_census"]
    low, high = found["swap_accuracy"]["ci"]
    assert low < 0.5 < high


def test_twins_of_rules_are_put_to_the_metadata(tmp_path: Path) -> None:
    corpus = [document(number, year=1990 + number) for number in range(8)]
    place = folder(tmp_path / "films", corpus)
    words = (
        "source=movies_rules",
        "+miner=none",
        override("source.path", place),
        "source.minimum=1",
        "budget.negatives_per_group=1",
    )
    mix = make_mix(tmp_path / "r", "label_noise", *words, "factors.label_noise=0.5", limit=4, rules=(rule(),))
    found = audited(tmp_path / "r", mix.id, "--source", str(place))
    swapped = found["items"] - found["mix"]["same_label_in_both_views"]
    assert found["swap_accuracy"]["estimate"] == swapped / found["items"]
    assert list(found["by_constraint_type"]) == ["recent"] and found["mix"]["originals_right"] == 1.0
    path = place / "corpus.jsonl"
    path.write_text(path.read_text().replace("1991", "1889"))
    assert main([mix.id, "--results", str(tmp_path / "r"), "--source", str(place)]) == 2


def test_queries_of_one_text_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    """Both queries are posed in the same words, about other documents and other years."""
    corpus = [document(number, year=1990 + number) for number in range(8)]
    train = "".join(f"q{1 + number // 4}\td{number}\t1\n" for number in range(8))
    place = folder(tmp_path / "films", corpus, train=train)
    path = place / "queries.jsonl"
    path.write_text(path.read_text().replace("text of q2", "text of q1"))
    words = ("source=movies_rules", "+miner=none", override("source.path", place), "source.minimum=1")
    mix = make_mix(tmp_path / "r", "dual_view", *words, "budget.negatives_per_group=1", limit=4, rules=(rule(),))
    found = audited(tmp_path / "r", mix.id, "--source", str(place))
    swap = found["swap_accuracy"]
    assert (swap["estimate"], swap["verdict"], swap["census"], swap["items"]) == (1.0, "ABOVE", True, 2)
    assert found["mix"]["originals_right"] == 1.0 and found["mix"]["not_known"] == 0
    assert {item.query_id for item in read_twins(ResultStore(tmp_path / "r"), mix, _Found(place)).items} == {"q1", "q2"}


class _Found(Truths):
    """Truths of a folder that no training found."""

    def __init__(self, place: Path) -> None:
        super().__init__(ResultStore(place))
        self._place = place

    def of(self, mix: Manifest, path: str | None = None) -> Truth | str:
        return super().of(mix, str(self._place))


class _Forgetful(WorldTruth):
    """The tables of a world that do not know one query in so many."""

    one_in = 2

    def is_relevant(self, query_id: str, query: str, instruction: str, doc_id: str) -> bool | None:
        if zlib.crc32(query_id.encode()) % self.one_in == 0:
            return None
        return super().is_relevant(query_id, query, instruction, doc_id)


@pytest.mark.parametrize(
    ("arm", "one_in", "verdict"),
    [
        ("dual_view", 2, "UNDECIDED"),
        ("dual_view", 40, "ABOVE"),
        ("label_noise", 8, "BELOW"),
        ("dual_view", 1, ""),
    ],
)
def test_what_the_tables_do_not_know_is_not_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arm: str,
    one_in: int,
    verdict: str,
) -> None:
    """There is a verdict only where it is the same whether all unknown pairs are wrong or right."""
    monkeypatch.setattr(_Forgetful, "one_in", one_in)
    monkeypatch.setattr(twins_module, "truth_of", _Forgetful)
    mix = make_mix(tmp_path, arm, *WORLD, *(["factors.label_noise=0.5"] if arm == "label_noise" else []))
    evidence = Evidence(tmp_path, "twins")
    evaluation: Any = None
    runs = [ArmRun(arm, mix.seed, evaluation, None, mix)]
    monkeypatch.setattr(Evidence, "runs", runs)
    (labels,) = arm_labels(evidence, ())
    if not verdict:
        assert main([mix.id, "--results", str(tmp_path)]) == 2
        assert "not known for 64 of 64 pairs" in capsys.readouterr().err
        assert labels.estimate is None and "not known for 64 of 64 pairs" in labels.evidence
        return
    values = audited(tmp_path, mix.id)
    swap, unknown, total = values["swap_accuracy"], values["mix"]["not_known"], values["items"]
    assert 0 < unknown == total - swap["n"] and swap["census"] is False and swap["verdict"] == verdict
    right = swap["estimate"] * swap["n"]
    assert swap["ci"] == pytest.approx([right / total, (right + unknown) / total])
    assert (right == swap["n"]) == (arm == "dual_view") and values["mix"]["originals_right"] == 1.0
    shown = capsys.readouterr().out
    assert f"not known for {unknown} of {total} pairs" in shown and "(bounds)" in shown
    assert labels.verdict == verdict and labels.ends == pytest.approx(tuple(swap["ci"]))
    assert labels.estimate == pytest.approx(swap["estimate"])
    assert labels.evidence == f"census, not known for {unknown} of {total} pairs"
