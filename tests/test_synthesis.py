"""Synthesis without a network: answers, checks, budget, files, every step, and a simulation held against the audit."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import override, run_config
from synthesis_rows import row, rows_file

from ablate import synthesize
from ablate.data.judgments import Judgment
from ablate.data.mix import RowOrder
from ablate.data.published import open_published
from ablate.records import SourceRow, TrainingGroup
from ablate.synthesis.answers import ParaphraseReply, ReverseReply, envelope, tokens_of, understand
from ablate.synthesis.budget import Budget, OverBudget, Prices
from ablate.synthesis.cache import Cache, Charge
from ablate.synthesis.checks import fault_of_instruction, fault_of_passage
from ablate.synthesis.endpoint import retry_after
from ablate.synthesis.prompts import prompt_file, read_prompt
from ablate.synthesis.rows import MixRows
from ablate.synthesis.simulated import ERRORS, TRUTH, Character, Judge, Writer, read_character
from ablate.synthesis.steps import STEPS
from analysis.audit.assess import assess
from analysis.audit.items import read_items, read_judgments
from analysis.audit.sampling import draw


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def simulate(folder: Path, step: str, model: str, out: str, *more: str) -> Path:
    given = ["--engine", "simulated", "--model", model, "--out", str(folder / out), "--results", str(folder)]
    assert synthesize.main([step, *given, *more]) == 0
    return folder / out


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Complements of 400 rows by a writer that errs often."""
    return simulate(tmp_path_factory.mktemp("w"), "reverse", "careless", "out", "--replace", "--limit", "400")


@pytest.mark.parametrize(
    ("raw", "outcome", "reason"),
    [
        (envelope('{"paraphrase": "a"}', (1, 1)), "usable", ""),
        (envelope('<think>{"x": 1}</think>\n{"paraphrase": "a"}', (1, 1)), "usable", ""),
        (envelope('{"paraphrase": "bad"}', (1, 1)), "rejected", "it is bad"),
        (envelope('{"paraphrase": null}', (1, 1)), "none", ""),
        (envelope(None, (1, 1), refusal="no"), "refusal", "no"),
        (envelope('{"paraphrase": "a"}', (1, 1), cut=True), "malformed", "cut at the limit of tokens"),
        (envelope(" ", (1, 1)), "malformed", "no content"),
        (envelope('{"paraphrase": 1}', (1, 1)), "malformed", "paraphrase: Input should be a valid string"),
        (envelope("{}", (1, 1)), "malformed", "paraphrase: Field required"),
        (envelope('{"paraphrase": "a", "b": 1}', (1, 1)), "malformed", "b: Extra inputs are not permitted"),
        (envelope("[" * 100_000, (1, 1)), "malformed", "Invalid JSON"),
        ("[" * 100_000, "malformed", "the body is no JSON"),
        ("<!doctype html>", "malformed", "the body is HTML"),
        ("", "malformed", "the body is empty"),
        ("3", "malformed", "the body has no choices"),
        ('{"choices": [1]}', "malformed", "the body has no choices"),
        ('{"choices": [{"message": null}]}', "malformed", "the first choice has no message"),
    ],
)
def test_a_raw_answer_is_understood_whatever_it_is(raw: str, outcome: str, reason: str) -> None:
    def is_none(values: ParaphraseReply) -> bool:
        return values.paraphrase is None

    answer = understand(raw, ParaphraseReply, is_none, lambda values: "it is bad" if values.paraphrase == "bad" else "")
    assert answer.outcome == outcome and answer.reason.startswith(reason)
    assert (answer.values is not None) == (outcome in ("usable", "rejected", "none"))


def test_tokens_are_counted_only_where_they_are_said() -> None:
    assert tokens_of(envelope("x", (3, 4))) == (3, 4)
    for raw in ("<html>", "[]", "{}", '{"usage": {"prompt_tokens": -1, "completion_tokens": 2}}', '{"usage": null}'):
        assert tokens_of(raw) is None
    assert tokens_of('{"usage": {"prompt_tokens": true, "completion_tokens": 2}}') is None


PASSAGE = "The keeper of the old lighthouse wrote that the storm of that winter took both boats"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Only texts about winter storms at sea", ""),
        ("Options with a P.E. teacher, documents a lay reader understands", ""),
        ("...", "it has no word"),
        ("word " * 31, "it has 31 words, at most 30 are allowed"),
        ("The one wanted is passage B, which is newer", "it speaks of the task ('passage B')"),
        ("Only documents I can read, texts 3 pages long", ""),
        ("Document 2 is what I want", "it speaks of the task ('Document 2')"),
        ("Unlike the first instruction, only old ones", "it speaks of the task ('first instruction')"),
        ("only BOATS.", "it is the instruction that was there"),
        ("Look for: the old lighthouse wrote that the storm of that winter", "it has 8 words in a row from a passage"),
        ("Look for the old lighthouse wrote that the storm", ""),
    ],
)
def test_what_stands_against_an_instruction(text: str, fault: str) -> None:
    assert fault_of_instruction(text, [PASSAGE], ["Only boats"], 30) == fault


def test_what_stands_against_a_passage() -> None:
    assert fault_of_passage("A b.", ["c"], 2) == ""
    assert fault_of_passage("a b c", [], 2) == "a passage has 3 words, at most 2 are allowed"
    assert fault_of_passage("A b!", ["a  b"], 9) == "two passages are the same"
    assert fault_of_passage("!", [], 9) == "a passage has no word"


def test_the_wait_that_a_server_asks_for() -> None:
    assert retry_after({"retry-after": "7"}) == 7 and retry_after({"retry-after-ms": "250"}) == 0.25
    assert retry_after({}) is None and retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "nan"}) is None and retry_after({"retry-after": "-3"}) == 0
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    late = retry_after({"retry-after": "Fri, 21 Oct 2095 07:28:00 GMT"})
    assert late is not None and late > 1e9


def test_a_budget_waits_for_what_is_in_flight_before_it_refuses() -> None:
    worst, real = Charge(60, 0, 0.0), Charge(10, 0, 0.0)

    async def story() -> list[str]:
        budget, told = Budget(Charge(0, 0, 0.0), 100, None), []
        await budget.reserve(worst)

        async def second() -> None:
            await budget.reserve(worst)
            told.append("second")

        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.01)
        told.append("first is settled")
        budget.settle(worst, real)
        await waiting
        budget.settle(worst, worst)
        with pytest.raises(OverBudget):
            await budget.reserve(worst)
        return told

    assert asyncio.run(story()) == ["first is settled", "second"]
    assert Prices(2.0, 10.0).charge(1000, 100) == Charge(1000, 100, pytest.approx(0.003))


def test_what_was_sent_before_a_kill_is_perhaps_paid(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.sqlite")
    assert cache.sent("k", "c", "m", "p", Charge(50, 5, 0.5)) == 0
    assert cache.states("c") == {"sent": 1} and cache.charged("c") == Charge(50, 5, 0.5)
    cache.close()
    cache = Cache(tmp_path / "c.sqlite")
    assert [key for key, _ in cache.perhaps_paid("c")] == ["k"] and cache.answered("k") is None
    number = cache.sent("k", "c", "m", "p", Charge(50, 5, 0.5))
    cache.settle("k", number, "answered", "raw", Charge(3, 2, 0.1), 200)
    attempt = cache.answered("k")
    assert attempt is not None and (attempt.number, attempt.raw, attempt.charge.tokens) == (1, "raw", 5)
    assert cache.charged("c").tokens == 60 and cache.charged("d").tokens == 0
    cache.close()


def test_the_prompts_are_filled_from_rows() -> None:
    for name, step in STEPS.items():
        prompt = read_prompt(prompt_file(name), step.needed)
        assert len(prompt.digest) == 16 and prompt.most_tokens >= 400
    prompt = read_prompt(prompt_file("reverse"), STEPS["reverse"].needed)
    given = {"query": "{{ q }}", "instruction": "i", "positive": "<b>&", "partner": "n", "others": ["o1", "o2"]}
    system, user = (message["content"] for message in prompt.messages(given))
    assert "- exclusion: " in system and "80 words" in system  # the prompt's own values
    assert "<query>{{ q }}</query>" in user and "<P><b>&</P>" in user and user.count("<further>") == 2


# The simulation ------------------------------------------------------------------------------------------------------


def test_the_writer_errs_as_often_as_it_says(careless: Path) -> None:
    items, gold = lines(careless / "items.jsonl"), lines(careless / "gold.jsonl")
    assert [item["id"] for item in items] == [judgment["item_id"] for judgment in gold]
    assert 390 <= len(items) <= 400  # of 400 rows; what leaks or quotes again and again is left out
    writer = Writer(read_character(prompt_file("simulated"), "writers", "careless"))
    classes = Counter(writer.class_of(f"r{number}", "time", 0) for number in range(20_000))
    expected = {"back": 0.15, "both": 0.05, "neither": 0.1, "off_topic": 0.03, "leak": 0.02, "quoted": 0.02}
    assert set(classes) == {"right", *expected}
    for name, rate in expected.items():
        assert classes[name] / 20_000 == pytest.approx(rate, abs=4 * (rate / 20_000) ** 0.5)
    excluded = Counter(writer.class_of(f"r{number}", "exclusion", 0) for number in range(5000))
    assert excluded["back"] / 5000 == pytest.approx(0.4, abs=0.03)


def test_leaks_and_quotes_never_pass_and_are_kept(careless: Path) -> None:
    answers = lines(careless / "answers.jsonl")
    wrong = [answer for answer in answers if answer["outcome"] == "rejected" and "at most" not in answer["reason"]]
    assert {answer["reason"].split("(")[0].strip() for answer in wrong} == {
        "it speaks of the task",
        "it has 8 words in a row from a passage",
    }
    assert all(answer["raw"] and answer["content"] in json.loads(answer["raw"])["choices"][0]["message"].values()
               for answer in wrong)  # fmt: skip
    for item in lines(careless / "items.jsonl"):
        assert "passage B" not in item["complement"] and "It says:" not in item["complement"]


def test_gold_is_what_is_true_in_the_world(careless: Path) -> None:
    rows = {given["row_id"]: given for given in lines(careless / "rows.jsonl")}
    truth: Counter[tuple[bool, bool]] = Counter()
    for item, judgment in zip(lines(careless / "items.jsonl"), lines(careless / "gold.jsonl"), strict=True):
        said = (judgment["a_under_complement"], judgment["b_under_complement"])
        truth[said] += 1
        text, paraphrase = item["complement"], rows[item["id"]]["paraphrase"]
        assert (text == paraphrase) == (said == (True, False))
        assert text.startswith("Either of two things") == (said == (True, True))
        assert text.startswith(("Both of two things", "Only what is about")) == (said == (False, False))
        assert rows[item["id"]]["reversed_instruction"] == text
    assert len(truth) == 4 and {*TRUTH.values()} == set(truth) and set(TRUTH) - {"right"} < set(ERRORS)


@pytest.mark.parametrize("judge", ["good", "uneven", "drifting", "worse_than_chance", "adversarial"])
def test_the_audit_covers_the_known_truth_whatever_the_judge(judge: str, careless: Path, tmp_path: Path) -> None:
    given = ("--items", str(careless / "items.jsonl"), "--gold", str(careless / "gold.jsonl"))
    judged = simulate(tmp_path, "judge", judge, "judged", *given)
    items = read_items(careless / "items.jsonl")
    gold = read_judgments([careless / "gold.jsonl"], items)
    said = read_judgments([judged / "judgments.jsonl"], items)
    assert len(said) == len(items) and {judgment.kind for judgment in said} == {"judge"}
    truth = sum(judgment.swap_class == "right" for judgment in gold) / len(gold)
    by_id = {judgment.item_id: judgment for judgment in gold}
    humans = [
        Judgment(**{**vars(by_id[item.id]), "rater": "ann", "kind": "human"})
        for item in draw(items, said, 120, 0, 1).items
    ]
    audit = assess(items, [*humans, *said], threshold=0.9)
    assert audit.overall is not None and audit.overall.low <= truth <= audit.overall.high
    assert audit.overall.call == "BELOW" and 0 < audit.overall.high - audit.overall.low < 0.3
    (confusion,) = (row for row in audit.confusion if row.constraint_type == "all")
    assert confusion.informedness is not None
    assert (confusion.informedness > 0.3) == (judge in ("good", "uneven")) or judge == "drifting"
    assert (confusion.informedness < 0) == (judge in ("worse_than_chance", "adversarial"))


def test_judges_are_what_they_are_said_to_be() -> None:
    values = {"sensitivity": 0.9, "specificity": 0.8, "levers": {"time": {"specificity": 0.4}}}
    uneven = Judge(Character("x", 0, values))
    assert uneven.rate("specificity", "time", 0.7) == 0.4 and uneven.rate("sensitivity", "time", 0.7) == 0.9
    drifting = Judge(Character("x", 0, {"sensitivity": 0.9, "specificity": 0.8, "end": {"specificity": 0.4}}))
    assert [drifting.rate("specificity", "a", place) for place in (0.0, 0.5, 1.0)] == pytest.approx([0.8, 0.6, 0.4])
    body = {"known": {"gold": {"q": True}, "question": "q", "constraint": "a", "place": 0.0}, "task": ""}
    said = []
    for number in range(4000):
        body["task"] = str(number)
        raw = asyncio.run(_send(drifting, body))
        said.append(json.loads(json.loads(raw)["choices"][0]["message"]["content"])["relevant"])
    assert sum(said) / 4000 == pytest.approx(0.9, abs=0.02)


async def _send(judge: Judge, body: dict[str, Any]) -> str:
    return (await judge.send(body, 0)).raw


# The steps -----------------------------------------------------------------------------------------------------------


def test_every_step_gives_rows_that_a_source_reads(tmp_path: Path) -> None:
    """From queries alone to a complete row, step by step, with where each text is from."""
    outs = ["--replace", "--limit", "40"]
    first = simulate(tmp_path, "instructions", "usual", "1", *outs)
    rows = lines(first / "rows.jsonl")
    fields = Counter((given["provenance"]["instruction"]["length"]) for given in rows if given["instruction"])
    assert set(fields) == {"short", "medium", "long", "very_long"}
    assert all(not given["instruction_negatives"] and not given["paraphrase"] for given in rows)
    unanswered = [given for given in rows if not given["instruction"]]
    assert all("instruction" not in given["provenance"] for given in unanswered)
    for step in ("instruction_negatives", "reverse", "paraphrase"):
        out = simulate(tmp_path, step, "usual", step, *outs)
        path = str(out / "rows.jsonl")
        read = list(open_published(format="synthesized", path=path).rows())
        assert len(read) == 40 and {given.row_id for given in read} == {given["row_id"] for given in rows}
        filled = {"instruction_negatives": "instruction_negatives", "reverse": "reversed_instruction"}.get(step, step)
        summary = json.loads((out / "summary.json").read_text())
        assert sum(bool(getattr(given, filled)) for given in read) == summary["written"] > 30
        assert sum(summary["answers"].values()) == 40
    negatives = lines(tmp_path / "instruction_negatives" / "rows.jsonl")
    for given in negatives:
        said = given["provenance"].get("instruction_negatives", {"failures": {}})["failures"]
        assert set(said) == set(given["instruction_negatives"]) <= {item["docid"] for item in given["passages"]}
        assert {*said.values()} <= {"other_reading", "leaves_out", "states_excluded"}
        assert not said or (given["positives"][1].startswith("written-") and not given["reversed_instruction"])
    source = open_published(format="synthesized", path=str(tmp_path / "instruction_negatives" / "rows.jsonl"))
    assert source.generated("written-1") is True and source.generated("d_1") is None


def test_synthesized_rows_are_trained_on_like_any_other(tmp_path: Path) -> None:
    out = simulate(tmp_path, "reverse", "careful", "out", "--replace", "--limit", "60")
    config = run_config(
        "source=synthesized", override("source.path", out / "rows.jsonl"), "source.rows=complete",
        "+evaluation_source=world", "evaluation.sets=[test]", "+experiment=dual_view", "model=tiny",
    )  # fmt: skip
    source = open_published(format="synthesized", path=str(out / "rows.jsonl"))
    required = ("instruction", "reversed_instruction", "instruction_negatives", "positives")
    order = RowOrder(source, required, config.seed, most=None)
    assert order.num_rows == 60 and 50 < order.num_eligible < 60  # some complements could not be written


def test_what_a_row_has_is_left_alone_and_earlier_provenance_stays(tmp_path: Path) -> None:
    content = [row(0, paraphrase="There already"), row(1, instruction="", instruction_negatives=[])]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(given)}\n" for given in content))
    given = ("source=synthesized", override("source.path", tmp_path / "rows.jsonl"))
    out = simulate(tmp_path, "paraphrase", "usual", "out", *given)
    kept = lines(out / "rows.jsonl")
    assert [given["paraphrase"] for given in kept] == ["There already", ""]
    assert kept[0]["provenance"] == {"instruction": {"model": "earlier"}}
    passed = json.loads((out / "summary.json").read_text())["passed_over"]
    assert passed == {"has a paraphrase": 1, "has no instruction": 1}


def test_the_groups_of_a_mix_are_rows_again() -> None:
    def group(view: Any, instruction: str, positive: str, negative: str) -> TrainingGroup:
        return TrainingGroup(f"r/{view}", "q", "query", instruction, view, (positive,), ("h",), (negative,))

    groups = [group("original", "only old", "a", "b"), group("reversed", "only new", "b", "a")]
    (given,) = MixRows(groups, {}).rows()
    assert isinstance(given, SourceRow) and given.row_id == "r"
    assert (given.instruction, given.reversed_instruction) == ("only old", "only new")
    assert (given.positives, given.instruction_negatives) == (("a",), ("b",))
    assert [given.instruction for given in MixRows(groups[1:], {}).rows()] == []


def test_a_share_of_the_rows_is_nested_and_about_as_large(tmp_path: Path) -> None:
    names = []
    for share in ("0.02", "0.1"):
        out = simulate(tmp_path, "paraphrase", "usual", share, "--replace", "--share", share)
        names.append({given["row_id"] for given in lines(out / "rows.jsonl")})
    assert names[0] < names[1] and 2 < len(names[1]) / len(names[0]) < 12


@pytest.mark.parametrize("chat", [False, True])
def test_a_local_model_is_asked_greedily_and_what_it_says_is_kept(chat: bool, tmp_path: Path) -> None:
    """A model without knowledge: its answers are malformed, and kept as they are."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<unk>": 0, "</s>": 1, **{word: place + 2 for place, word in enumerate(("query", "Only", "it", "text"))}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "model"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
    if chat:
        fast.chat_template = "{% for message in messages %}text {{ message.content }} {% endfor %}"
    fast.save_pretrained(folder)
    config = LlamaConfig(vocab_size=6, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                         max_position_embeddings=2048, bos_token_id=None, eos_token_id=1)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    prompt = tmp_path / "prompt.yaml"
    prompt.write_text("system: say it\nuser: '{{ query }} {{ instruction }}'\nparameters: {max_tokens: 5}\n")
    rows_file(tmp_path, 2)
    given = ["paraphrase", "source=synthesized", override("source.path", tmp_path / "rows.jsonl"), "--engine",
             "transformers", "--model", str(folder), "--prompt", str(prompt), "--results", str(tmp_path)]  # fmt: skip
    assert synthesize.main([*given, "--out", str(tmp_path / "a")]) == 0
    assert synthesize.main([*given, "--out", str(tmp_path / "b")]) == 0
    first, second = (lines(tmp_path / name / "answers.jsonl") for name in "ab")
    assert first == second and len(first) == 4 and {answer["outcome"] for answer in first} == {"malformed"}
    assert first[0]["raw"] == first[1]["raw"] and first[0]["tokens_out"] <= 5 and first[0]["model"] == "model"
    assert first[0]["tokens_in"] == 7 + 2 * chat  # two of `say it` and five of the row; with a template, two more


def test_the_schema_of_a_reply_is_strict() -> None:
    schema = ReverseReply.model_json_schema()
    assert schema["additionalProperties"] is False and set(schema["required"]) == {"lever", "instruction"}
