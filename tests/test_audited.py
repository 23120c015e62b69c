"""Rows chosen by what was judged of their pairs: which take part, how many, and under which ids."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import HandMadeSource, override, run_config

from ablate import synthesize
from ablate.data.audited import Audited, read_audit
from ablate.data.judgments import ADJUDICATED
from ablate.data.mix import Mix, build_mix
from ablate.data.sources import open_source
from ablate.engine.prepare import prepare
from ablate.recipe.identity import Revisions, identify
from ablate.recipe.schema import Audit, Recipe
from ablate.records import UserError

RIGHT, BACK, BOTH = (False, True), (True, False), (True, True)
"""Answers about the swap: is a relevant under the complement, is b."""


def judgment(
    row_id: str, swap: tuple[bool | None, bool | None], rater: str = "m", kind: str = "judge"
) -> dict[str, Any]:
    first = {"item_id": row_id, "rater": rater, "kind": kind, "a_under_instruction": True, "b_under_instruction": False}
    return {**first, "a_under_complement": swap[0], "b_under_complement": swap[1]}


def written(path: Path, judgments: Iterable[dict[str, Any]]) -> Audit:
    path.write_text("".join(f"{json.dumps(given)}\n" for given in judgments))
    return Audit(take="clean", judgments=str(path))  # type: ignore[arg-type]


def recipe(take: str, **budget: object) -> Recipe:
    base = run_config("+experiment=instructions").recipe
    limits = {"limit": None, "negatives_per_group": 2, **budget}
    return dataclasses.replace(
        base,
        audit=Audit(take=take),  # type: ignore[arg-type]
        budget=dataclasses.replace(base.budget, **limits),  # type: ignore[arg-type]
    )


EVERY = [f"q{query}r{row}" for query in range(8) for row in range(2)]
VERDICTS = Audited({row: place % 4 != 0 for place, row in enumerate(EVERY) if row not in ("q7r0", "q7r1")}, "a")
"""Of 16 rows 14 are judged; the first of every other query is flagged."""


def rows_of(mix: Mix) -> list[str]:
    return [group.group_id.partition("/")[0] for group in mix.groups]


def taken(take: str, seed: int = 0, audited: Audited | None = VERDICTS, **budget: object) -> list[str]:
    return rows_of(build_mix(HandMadeSource(), recipe(take, **budget), seed, audited=audited))


def test_clean_and_flagged_rows_part_the_judged_ones_and_the_control_has_as_many_as_clean() -> None:
    clean, matched, flagged = taken("clean"), taken("matched"), taken("flagged")
    assert {row for row in clean} == {row for row, is_right in VERDICTS.is_right.items() if is_right}
    assert {row for row in flagged} == {row for row, is_right in VERDICTS.is_right.items() if not is_right}
    assert len(clean) == len(matched) == 10 and len(flagged) == 4
    assert 0 < len({*matched} & {*flagged}) < 4, "the control is taken whatever was judged"
    assert not {*matched} & {"q7r0", "q7r1"}, "the control is of judged rows, too"
    assert {*taken("matched", seed=1)} != {*matched}, "the run's seed chooses"


def test_the_control_takes_what_the_budget_takes_of_all_judged_rows() -> None:
    order = taken("matched")
    assert taken("matched", limit=6) == order[:6]
    everything = [row for row in taken("all", limit=None) if row in VERDICTS.is_right]
    assert order == everything[:10]


@pytest.mark.parametrize("take", ["clean", "matched", "flagged"])
def test_a_budget_is_met_exactly_or_refused_with_the_counts(take: str) -> None:
    assert len(taken(take, limit=4)) == 4
    with pytest.raises(UserError, match=r"budget\.limit=11 .* 10 right, 4 flagged, 2 not judged\); lower budget"):
        taken(take, limit=11)
    repeated = taken(take, limit=11, fill="repeat")
    assert len(repeated) == 11 and len({row.partition("~")[0] for row in repeated}) == (4 if take == "flagged" else 10)


def test_the_card_counts_what_was_judged_only_where_rows_are_chosen_by_it() -> None:
    card = build_mix(HandMadeSource(), recipe("clean"), 0, audited=VERDICTS).card
    assert card["audit"] == {"right": 10, "flagged": 4, "not judged": 2} and card["rows_eligible"] == 10
    left = build_mix(HandMadeSource(), recipe("all"), 0, audited=VERDICTS)
    assert left == build_mix(HandMadeSource(), recipe("all"), 0) and "audit" not in left.card


def test_judgments_of_other_rows_are_an_empty_mix_that_says_so() -> None:
    with pytest.raises(UserError, match=r"takes none of the 16 rows .* 16 not judged; the item_id of a judgm"):
        taken("clean", audited=Audited({"elsewhere": True}, "a"))


@pytest.mark.parametrize(
    ("said", "is_right"),
    [
        ([(RIGHT, "m", "judge")], True),
        ([(BACK, "m", "judge")], False),
        ([(BOTH, "m", "judge")], False),
        ([((None, True), "m", "judge")], False),
        ([(RIGHT, "m", "judge"), (RIGHT, "n", "judge"), (BACK, "o", "judge")], True),
        ([(RIGHT, "m", "judge"), (BACK, "n", "judge")], False),
        ([(RIGHT, "m", "judge"), (BACK, "ann", "human")], False),
        ([(BACK, "ann", "human"), (BACK, "bob", "human"), (RIGHT, ADJUDICATED, "human")], True),
        ([(RIGHT, ADJUDICATED, "human"), (BACK, "rule", "gold")], False),
        ([(RIGHT, ADJUDICATED, "judge"), (BACK, "ann", "human")], False),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_whose_word_counts(tmp_path: Path, said: list[Any], is_right: bool, reverse: bool) -> None:
    judgments = [judgment("r", *given) for given in said]
    audit = written(tmp_path / "j.jsonl", judgments[::-1] if reverse else judgments)
    read = read_audit(audit)
    assert read is not None and read.is_right == {"r": is_right}


def test_ids_hold_the_content_of_the_judgments_and_nothing_where_no_row_is_chosen_by_them(tmp_path: Path) -> None:
    def mix_of(name: str, *judgments: dict[str, Any], take: str = "clean") -> dict[str, Any]:
        audit = dataclasses.replace(written(tmp_path / name, judgments), take=take)  # type: ignore[arg-type]
        read = read_audit(audit)
        assert read is not None
        named = dataclasses.replace(run_config("+experiment=dual_view").recipe, audit=audit)
        identity = identify(named, 0, Revisions("s", "m", audit=read.revision))
        assert identity.arm.get("audit") == identity.mix.get("audit")
        return identity.mix

    first = mix_of("a.jsonl", judgment("r", RIGHT))
    assert first == mix_of("b.jsonl", judgment("r", RIGHT))
    assert first != mix_of("a.jsonl", judgment("r", BACK))
    assert first != mix_of("a.jsonl", judgment("r", RIGHT), take="matched")
    assert str(tmp_path) not in json.dumps(first)
    plain = identify(run_config("+experiment=dual_view").recipe, 0, Revisions("s", "m"))
    assert mix_of("a.jsonl", judgment("r", RIGHT), take="all") == plain.mix


def test_from_a_simulated_writer_and_judge_to_the_mixes_of_the_arms(tmp_path: Path) -> None:
    simulated = ("--engine", "simulated", "--results", str(tmp_path), "--model")
    step = ["reverse", *simulated, "careless", "--replace", "--limit", "300", "--out", str(tmp_path / "w")]
    assert synthesize.main(step) == 0
    items, gold = (str(tmp_path / "w" / name) for name in ("items.jsonl", "gold.jsonl"))
    step = ["judge", *simulated, "good", "--items", items, "--gold", gold, "--out", str(tmp_path / "j")]
    assert synthesize.main(step) == 0
    truth = {}
    for line in (tmp_path / "w" / "gold.jsonl").read_text().splitlines():
        said = json.loads(line)
        truth[said["item_id"]] = not said["a_under_complement"] and said["b_under_complement"]
    shares, queries = {}, {}
    for arm in ("audited_clean", "audited_matched", "audited_flagged"):
        config = run_config(
            f"+experiment={arm}", "source=synthesized", override("source.path", tmp_path / "w" / "rows.jsonl"),
            override("audit.judgments", tmp_path / "j" / "judgments.jsonl"), "+evaluation_source=world",
            "evaluation.sets=[test]", "model=tiny", "budget.limit=96", override("runtime.results", tmp_path),
        )  # fmt: skip
        run = prepare(config)
        assert run.audited == read_audit(config.recipe.audit)
        mix = build_mix(open_source(config.recipe.source, ()), config.recipe, 0, audited=run.audited)
        assert len(mix.groups) == 96 and run.identity.mix["audit"]["take"] == arm.removeprefix("audited_")
        rows = {*rows_of(mix)}
        assert len(rows) == 48
        shares[arm] = sum(truth[row] for row in rows) / len(rows)
        queries[arm] = mix.card["unique_queries"]
    assert shares["audited_clean"] > 0.85 > 0.75 > shares["audited_matched"] > 0.5 > shares["audited_flagged"]
    assert set(queries.values()) == {48}
