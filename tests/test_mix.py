"""Budgets, order, card and files of a mix."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from conftest import HandMadeSource, run_config

from ablate.data.mix import Mix, build_mix, content_digest, most_rows, read_mix, write_mix
from ablate.recipe.factors import Factors
from ablate.recipe.schema import BeirSource, Budget, Recipe
from ablate.records import Passage, SourceRow, TrainingGroup, UserError

DUAL = Factors(instructed=1.0, instruction_negatives=1, reversed_views=1.0)
PLAIN = Factors()


def recipe(factors: Factors, rows: str = "complete", **budget: object) -> Recipe:
    values = {"unit": "groups", "limit": 8, "fill": "fewer_queries", "negatives_per_group": 1, **budget}
    base = run_config().recipe
    source = dataclasses.replace(base.source, rows=rows)
    return dataclasses.replace(base, source=source, factors=factors, budget=Budget(**values))  # type: ignore[arg-type]


def mix(factors: Factors, seed: int = 0, source: HandMadeSource | None = None, **budget: object) -> Mix:
    return build_mix(source or HandMadeSource(), recipe(factors, **budget), seed)


@pytest.mark.parametrize("factors", [PLAIN, DUAL])
@pytest.mark.parametrize("limit", [1, 7, 8])
def test_groups_and_pairs_are_exact(factors: Factors, limit: int) -> None:
    assert mix(factors, limit=limit).card["groups"] == limit
    assert mix(factors, unit="pairs", limit=2 * limit).card["pairs"] == 2 * limit


def test_a_budget_in_queries_takes_all_rows_of_each_query() -> None:
    for factors, groups in ((PLAIN, 6), (DUAL, 12)):
        card = mix(factors, unit="queries", limit=3).card
        assert (card["unique_queries"], card["groups"]) == (3, groups)


def test_twins_displace_queries_at_equal_groups() -> None:
    assert mix(PLAIN, limit=8).card["unique_queries"] == 8
    card = mix(DUAL, limit=8).card
    assert card["unique_queries"] == 4 and card["views"] == {"plain": 0, "original": 4, "reversed": 4}
    assert card["unique_passages"] == 8  # the twin has the same two passages
    assert card["generated_share"] == 0.5  # in this source the instruction negatives are


@pytest.mark.parametrize("budget", [{"limit": 7}, {"unit": "queries", "limit": 3}, {"limit": None}])
def test_rows_that_are_read_again_are_those_that_were_held(
    budget: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted(HandMadeSource):
        """Counts how often its rows are read."""

        readings = 0

        def rows(self) -> Iterator[SourceRow]:
            self.readings += 1
            return super().rows()

    source = Counted()
    held = mix(PLAIN, source=source, **budget)
    assert source.readings == 1
    monkeypatch.setattr("ablate.data.mix.MOST_HELD", 3)
    assert mix(PLAIN, source=source, **budget) == held
    assert source.readings == 3


def rows_of(built: Mix) -> list[str]:
    return list(dict.fromkeys(group.group_id.split("/")[0] for group in built.groups))


def test_rows_are_taken_query_by_query_in_rounds() -> None:
    class Uneven(HandMadeSource):
        """Of queries q0 to q3, with one to four rows."""

        def rows(self) -> Iterator[SourceRow]:
            for row in super().rows():
                number = int(row.query_id[1])
                for turn in range(number + 1) if row.row_id.endswith("r0") else ():
                    yield dataclasses.replace(row, row_id=f"{row.query_id}r{turn}")

    taken = rows_of(mix(PLAIN, source=Uneven(num_queries=4), limit=10))
    queries = [row[:2] for row in taken]
    order = queries[:4]
    assert {*order} == {"q0", "q1", "q2", "q3"} and order != sorted(order)
    assert queries[4:] == [q for turn in (1, 2, 3) for q in order if int(q[1]) >= turn]
    assert len({*taken}) == 10
    assert [row for row in taken if row[:2] == "q3"] != ["q3r0", "q3r1", "q3r2", "q3r3"]  # drawn within the query too


def test_a_budget_holds_what_a_smaller_one_holds_whatever_its_unit() -> None:
    for factors in (PLAIN, DUAL, dataclasses.replace(DUAL, twins="instead")):
        for unit, scale in (("groups", 1), ("pairs", 2)):
            small, large = (mix(factors, unit=unit, limit=scale * limit).groups for limit in (6, 14))
            assert large[:6] == small
        few, many = (mix(factors, unit="queries", limit=limit) for limit in (3, 5))
        assert {group.group_id for group in few.groups} < {group.group_id for group in many.groups}
        assert few.card["base_rows"] == 6 and few.card["unique_queries"] == 3
    assert rows_of(mix(PLAIN, limit=16))[:6] == rows_of(mix(DUAL, limit=12))  # nested across arms too


def test_a_budget_in_queries_takes_the_first_queries_of_the_order() -> None:
    first = [group.query_id for group in mix(PLAIN, limit=3).groups]
    taken = [group.query_id for group in mix(PLAIN, unit="queries", limit=3).groups]
    assert taken == [*first, *first]
    assert len(mix(PLAIN, unit="queries", limit=8).groups) == 16


def test_the_seed_chooses_the_queries() -> None:
    first = {group.query_id for group in mix(PLAIN, limit=4).groups}
    assert any({group.query_id for group in mix(PLAIN, seed=seed, limit=4).groups} != first for seed in (1, 2, 3))
    assert content_digest(mix(PLAIN, seed=0).groups) == content_digest(mix(PLAIN, seed=0).groups)


def test_a_level_that_reads_what_no_row_has_is_refused_and_another_choice_of_rows_is_no_remedy() -> None:
    for level in ("restyled", "right_restyled"):
        with pytest.raises(UserError, match="8 of the 8 rows .* have no restyled .*; choose an arm without them, or a"):
            mix(dataclasses.replace(DUAL, twin_polarity=level), source=HandMadeSource(restyled=()))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="have no reversed_instruction .*; set source.rows=complete, or choose an arm"):
        mix(DUAL, source=HandMadeSource(reversed_instruction=""), rows="all")


def test_the_passages_of_restyled_twins_are_in_the_mix() -> None:
    built = mix(dataclasses.replace(DUAL, twin_polarity="restyled"), limit=2)
    assert len(built.passages) == 4 and sum(doc_id.endswith("*") for doc_id in built.passages) == 2


def test_a_budget_beyond_the_source_is_refused_or_repeated_as_declared() -> None:
    with pytest.raises(UserError, match=r"limit=40 groups is more than the source gives to this arm \(16.*=repeat$"):
        mix(PLAIN, limit=40)
    repeated = mix(PLAIN, limit=40, fill="repeat")
    assert repeated.card["groups"] == 40 and repeated.card["unique_queries"] == 8
    assert repeated.card["base_rows"] == 16
    assert len({group.group_id for group in repeated.groups}) == 40
    assert repeated.groups[:16] == mix(PLAIN, limit=16).groups  # the first round is the mix without repeating
    assert [group.group_id.split("/")[0][4:] for group in repeated.groups[15::8]] == ["", "~1", "~1", "~2"]
    with pytest.raises(UserError, match=r"budget\.limit=9 queries is more .* enlarge the source$"):
        mix(PLAIN, unit="queries", limit=9, fill="repeat")


def test_no_limit_takes_everything() -> None:
    assert mix(PLAIN, limit=None).card["groups"] == 16
    assert mix(DUAL, limit=None).card["groups"] == 32
    assert mix(PLAIN, limit=None, fill="repeat").card["groups"] == 16
    counted = build_mix(HandMadeSource(), recipe(PLAIN, unit="tokens", limit=None), 0, words).card
    assert (counted["groups"], counted["tokens"]) == (16, 128)
    assert "tokens" not in build_mix(HandMadeSource(), recipe(PLAIN), 0, words).card


@pytest.mark.parametrize(
    ("budget", "rows"),
    [
        ({"unit": "groups", "limit": 7}, 7),
        ({"unit": "pairs", "limit": 12, "negatives_per_group": 2}, 4 + 1),  # four groups of three passages, and one
        ({"unit": "tokens", "limit": 13, "negatives_per_group": 3}, 3 + 1),  # a passage has a token at least
        ({"unit": "queries", "limit": 7}, None),
        ({"unit": "groups", "limit": None}, None),
    ],
)
def test_no_more_rows_are_held_than_a_budget_can_take(budget: dict[str, object], rows: int | None) -> None:
    assert most_rows(recipe(PLAIN, **budget).budget) == rows


def test_pairs_must_be_whole_groups() -> None:
    with pytest.raises(UserError, match=r"budget\.limit=7 pairs is not a whole number of groups of 2 .* use 6 or 8"):
        mix(PLAIN, unit="pairs", limit=7)


def words(groups: Sequence[TrainingGroup], passages: Mapping[str, Passage]) -> list[int]:
    """Count words in the place of tokens: 2 of a query, 2 of an instruction, 3 of a passage."""
    return [
        len(f"{group.query} {group.instruction}".split())
        + sum(len(passages[doc_id].text.split()) for doc_id in (*group.positives, *group.negatives))
        for group in groups
    ]


def test_a_budget_in_tokens_is_met_to_half_a_percent() -> None:
    source = HandMadeSource(num_queries=200)
    for factors in (PLAIN, DUAL, dataclasses.replace(DUAL, twins="add")):
        built = build_mix(source, recipe(factors, unit="tokens", limit=2000), 0, words)
        counted = [group for group in built.groups if factors.twins == "substitute" or group.view != "reversed"]
        assert abs(sum(words(counted, built.passages)) - 2000) <= 10
    assert built.groups[-1].view == "reversed"  # the last row keeps its twin
    assert build_mix(source, recipe(PLAIN, unit="tokens", limit=2000), 0, words).card["groups"] == 250  # 8 words each


def test_a_budget_in_tokens_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(UserError, match=r"limit=13 tokens cannot be met to within 0\.5% .*closest: 16 in 2 groups"):
        build_mix(HandMadeSource(), recipe(PLAIN, unit="tokens", limit=13), 0, words)
    with pytest.raises(UserError, match=r"budget\.limit=1000 tokens is more than the source gives to this arm \(128"):
        build_mix(HandMadeSource(), recipe(PLAIN, unit="tokens", limit=1000), 0, words)
    for source, limit, closest in ((HandMadeSource(), 28, "24 in 3"), (HandMadeSource(num_queries=1), 13, "16 in 2")):
        with pytest.raises(UserError, match=rf"cannot be met .*closest: {closest} groups\)"):
            build_mix(source, recipe(PLAIN, unit="tokens", limit=limit), 0, words)
    assert build_mix(HandMadeSource(), recipe(PLAIN, unit="tokens", limit=128), 0, words).card["groups"] == 16  # all
    repeated = build_mix(HandMadeSource(), recipe(PLAIN, unit="tokens", limit=1000, fill="repeat"), 0, words)
    assert repeated.card["groups"] == 125


def test_a_miss_of_exactly_half_a_percent_is_met() -> None:
    def build(size: int) -> Mix:
        asked = recipe(PLAIN, unit="tokens", limit=200)
        return build_mix(HandMadeSource(), asked, 0, lambda groups, passages: [size] * len(groups))

    assert (build(199).card["groups"], build(201).card["groups"]) == (1, 1)
    with pytest.raises(UserError, match=r"cannot be met to within 0\.5% by whole groups \(closest: 198 in 1 groups"):
        build(198)


def test_the_last_row_keeps_all_twins_that_a_budget_in_tokens_does_not_count() -> None:
    factors = dataclasses.replace(DUAL, plain_twins=1.0, twins="add")
    for num_rows in (5, 22, 43):  # of three groups each; the one that is counted has ten words
        asked = recipe(factors, unit="tokens", limit=10 * num_rows)
        built = build_mix(HandMadeSource(num_queries=40), asked, 0, words)
        assert built.card["views"] == dict.fromkeys(("plain", "original", "reversed"), num_rows)


def test_twins_on_top_leave_the_base_rows_as_they_are() -> None:
    base = mix(dataclasses.replace(DUAL, reversed_views=0.0), limit=8)
    added = mix(dataclasses.replace(DUAL, twins="add"), limit=8)
    assert [group for group in added.groups if group.view == "original"] == list(base.groups)
    assert added.card["groups"] == 16


def test_rows_that_lack_something_are_left_out_and_counted_or_refused() -> None:
    source = HandMadeSource(reversed_instruction="")
    with pytest.raises(UserError, match=r"the mix is empty: none of the 16 rows .*\(16 without reversed_instruction\)"):
        mix(DUAL, source=source)
    with pytest.raises(UserError, match="16 of the 16 rows that the budget may take have no reversed_instruction"):
        mix(DUAL, source=source, rows="all", limit=None)
    assert mix(PLAIN, source=source, rows="all").card["groups"] == 8
    with pytest.raises(UserError, match=r"none of the 0 rows of the source has .* \(there is no row\)"):
        mix(PLAIN, source=HandMadeSource(num_queries=0))


def test_an_empty_mix_names_four_files_that_are_not_read_and_counts_the_others(tmp_path: Path) -> None:
    folder = str(tmp_path)
    beir = BeirSource(kind="beir", path=folder, seed=0, train_split="train", skew=1.0, reversals=None, rows="all")
    asked = dataclasses.replace(recipe(PLAIN), source=beir)
    for letter, said in (
        ("", ""),
        ("a", "; not read: a.txt"),
        ("bcd", "; not read: a.txt, b.txt, c.txt, d.txt"),
        ("e", "; not read: a.txt, b.txt, c.txt, d.txt and 1 more"),
    ):
        for name in letter:
            (tmp_path / f"{name}.txt").touch()
        with pytest.raises(UserError) as refused:
            build_mix(HandMadeSource(positives=()), asked, 0)
        assert f"has all of positives (16 without positives{said}); set source.rows=all" in str(refused.value)


def test_a_single_row_that_has_everything_is_a_mix() -> None:
    class Single(HandMadeSource):
        def rows(self) -> Iterator[SourceRow]:
            yield next(super().rows())

    card = mix(PLAIN, source=Single(), limit=1).card
    assert (card["groups"], card["rows_in_source"], card["rows_eligible"], card["base_rows"]) == (1, 1, 1, 1)
    assert build_mix(Single(), recipe(PLAIN, unit="tokens", limit=8), 0, words).card["tokens"] == 8


def test_rows_beyond_the_budget_are_not_looked_at() -> None:
    class Lacking(HandMadeSource):
        def rows(self) -> Iterator[SourceRow]:
            for row in super().rows():
                yield dataclasses.replace(row, reversed_instruction="") if row.row_id == lacking else row

    lacking = ""
    order = [group.group_id for group in mix(DUAL, rows="all", limit=16).groups]
    lacking = order[8].split("/")[0]  # the fifth row, when four are taken
    assert mix(DUAL, source=Lacking(), rows="all", limit=8).card["groups"] == 8
    words = f"1 of the 9 rows that the budget may take have no reversed_instruction .first: {lacking}"
    with pytest.raises(UserError, match=words):
        mix(DUAL, source=Lacking(), rows="all", limit=9)


def test_a_damaged_mix_is_refused(tmp_path: Path) -> None:
    built = mix(DUAL)
    write_mix(tmp_path, built)
    (tmp_path / "groups.jsonl.gz").write_bytes(b"")
    with pytest.raises(UserError, match="holds 0 groups and 8 passages, and its manifest says 8 and 8"):
        read_mix(tmp_path, built.card)
    (tmp_path / "groups.jsonl.gz").write_bytes((tmp_path / "passages.jsonl.gz").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"groups\.jsonl\.gz cannot be read .EOFError: .*; delete "):
        read_mix(tmp_path, built.card)


def test_too_few_negatives_are_refused_with_the_count() -> None:
    with pytest.raises(UserError, match="16 of 16 rows of the source have fewer than 6 hard negatives"):
        mix(PLAIN, negatives_per_group=6, limit=None)
    with pytest.raises(UserError, match="16 of 16 rows of the source have fewer than 5 hard negatives"):
        mix(dataclasses.replace(DUAL, reversed_views=0.0), negatives_per_group=6, limit=None)  # and one that is none

    class Uneven(HandMadeSource):
        def rows(self) -> Iterator[SourceRow]:
            for number, row in enumerate(super().rows()):
                yield dataclasses.replace(row, hard_negatives=row.hard_negatives[: 3 if number == 0 else 4])

    with pytest.raises(UserError, match="group q0r0/plain has 3 negatives .* 1 of 16 rows of the source have fewer"):
        mix(PLAIN, source=Uneven(), negatives_per_group=4, limit=None)


def test_a_mix_is_read_back_as_it_was_and_has_the_same_bytes_twice(tmp_path: Path) -> None:
    built = mix(DUAL)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = write_mix(tmp_path / "a", built)
    write_mix(tmp_path / "b", mix(DUAL))
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = read_mix(tmp_path / "a", built.card)
    assert again == built
    assert list(again.passages) == list(built.passages)


def test_files_of_a_mix_are_text_and_their_heads_name_neither_a_time_nor_a_file(tmp_path: Path) -> None:
    built = mix(PLAIN, source=HandMadeSource(query="Bäume"))
    for name in write_mix(tmp_path, built):
        content = (tmp_path / name).read_bytes()
        assert content[3:8] == bytes(5)  # of gzip: no flag, so no name, and the time 0 (RFC 1952)
    lines = gzip.decompress((tmp_path / "groups.jsonl.gz").read_bytes()).decode().splitlines()
    assert len(lines) == 8 and '"query": "Bäume"' in lines[0]


def test_the_digest_of_the_content_is_that_of_its_groups_as_json() -> None:
    group = TrainingGroup("r/plain", "q", "trees", "", "plain", ("a",), ("b",), (), ("a",))
    text = (
        '{"answers": ["a"], "group_id": "r/plain", "hard_negatives": ["b"], "instruction": "", '
        '"instruction_negatives": [], "positives": ["a"], "query": "trees", "query_id": "q", "view": "plain"}'
    )
    assert content_digest([group]) == hashlib.sha256(text.encode()).hexdigest()
    assert content_digest([group, group]) == hashlib.sha256(2 * text.encode()).hexdigest()
