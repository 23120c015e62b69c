"""Synthesis over HTTP: right answers, every wrong one, limits, kills, and what is paid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, extra, override, run_config
from language_server import Action, LanguageServer, Request, error, says, serving
from synthesis_rows import rows_file

from ablate import synthesize
from ablate.run import execute
from ablate.store.results import ResultStore
from ablate.synthesis import asking
from analysis.audit.items import read_items, read_judgments

pytestmark = pytest.mark.extras
extra("openai", "3")

KEY = "sk-not-a-key-of-anybody-1234567890"


def right(request: Request, before: int) -> Action:
    query = request.asked.split("<query>")[1].split("</query>")[0]
    return says(json.dumps({"paraphrase": f"Something {query} and nothing besides"}))


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_WAIT_S", 0.01)
    for name, value in {"OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)


def words(folder: Path, server: LanguageServer, *more: str) -> list[str]:
    given = [
        "source=synthesized",
        override("source.path", folder / "rows.jsonl"),
        "--model",
        "m",
        "--results",
        str(folder),
    ]
    return ["paraphrase", *given, "--endpoint", server.address, "--out", str(folder / "out"), *more]


def run(folder: Path, server: LanguageServer, *more: str) -> tuple[int, dict[str, Any]]:
    code = synthesize.main(words(folder, server, *more))
    summary = folder / "out" / "summary.json"
    return code, json.loads(summary.read_text()) if summary.exists() else {}


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "rows.jsonl").read_text().splitlines()]


def test_what_was_answered_is_written_and_never_asked_again(tmp_path: Path) -> None:
    rows_file(tmp_path, 20)
    with serving(right) as server:
        code, summary = run(tmp_path, server, "--price-in", "2", "--price-out", "10")
        assert code == 0 and summary["answers"]["usable"] == 20 and summary["requests"] == {"answered": 20}
        assert (summary["tokens_in"], summary["tokens_out"]) == (2000, 400)
        assert summary["cost"] == pytest.approx(20 * (100 * 2 + 20 * 10) / 1e6)
        first = (tmp_path / "out" / "rows.jsonl").read_bytes()
        assert run(tmp_path, server)[0] == 0 and len(server.requests) == 20
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == first
    row = written(tmp_path)[3]
    assert row["paraphrase"] == "Something query 3 and nothing besides"
    said = row["provenance"]["paraphrase"]
    assert said["model"] == "m" and said["prompt"] == summary["prompt"] and len(said["request"]) == 16 and said["time"]
    sent = server.requests[0].body
    assert sent["response_format"]["json_schema"]["strict"] is True and sent["max_tokens"] == 1200
    schema = sent["response_format"]["json_schema"]["schema"]
    assert schema["additionalProperties"] is False and schema["required"] == ["paraphrase"]


HTML = Action(body="<html>Bad gateway</html>", headers={"Content-Type": "text/html"})
GOOD = says('{"paraphrase": "Other words for it"}')


@pytest.mark.parametrize(
    ("answers", "outcome", "num_requests", "state"),
    [
        ([HTML, GOOD], "usable", 2, {"answered": 2}),
        ([HTML, HTML], "malformed", 2, {"answered": 2}),
        ([Action(body="{}"), GOOD], "usable", 2, {"answered": 2}),
        ([Action(body='{"choices": []}'), Action(body='{"choi')], "malformed", 2, {"answered": 2}),
        ([Action(body=""), GOOD], "usable", 2, {"answered": 2}),
        ([says('{"paraphrase": "Other wo'), GOOD], "usable", 2, {"answered": 2}),
        ([says('{"paraphrase": 3}'), says('{"paraphrase": "a b", "more": 1}')], "malformed", 2, {"answered": 2}),
        ([says(GOOD.body, finish="length"), GOOD], "usable", 2, {"answered": 2}),
        ([says("Only what is it 0")] * 2, "malformed", 2, {"answered": 2}),
        ([says('{"paraphrase": "Only it 0."}')] * 2, "rejected", 2, {"answered": 2}),
        ([says(None, refusal="I will not")], "refusal", 1, {"answered": 1}),
        ([says(None, finish="content_filter")], "refusal", 1, {"answered": 1}),
        ([says('{"paraphrase": null}')], "none", 1, {"answered": 1}),
        ([says('```json\n{"paraphrase": "Other words for it"}\n```')], "usable", 1, {"answered": 1}),
        ([error(500), error(503), GOOD], "usable", 3, {"answered": 1, "refused": 2}),
        ([error(429), GOOD], "usable", 2, {"answered": 1, "refused": 1}),
        ([error(400, "too long")], None, 1, {"refused": 1}),
        ([Action(body=GOOD.body, cut=True), GOOD], "usable", 2, {"answered": 1, "perhaps_paid": 1}),
        ([Action(body=GOOD.body, delay_s=1.0), GOOD], "usable", 2, {"answered": 1, "perhaps_paid": 1}),
    ],
)
def test_every_kind_of_answer_is_kept_and_counted(
    answers: list[Action], outcome: str | None, num_requests: int, state: dict[str, int], tmp_path: Path
) -> None:
    rows_file(tmp_path, 1)
    with serving(lambda request, before: answers[min(before, len(answers) - 1)]) as server:
        code, summary = run(tmp_path, server, "--timeout", "0.5")
        assert run(tmp_path, server, "--timeout", "0.5")[0] == 0 or outcome is None
    assert code == 0 and summary["requests"] == state
    assert {name: count for name, count in summary["answers"].items() if count} == ({outcome: 1} if outcome else {})
    assert summary["not_answered"] == (outcome is None)
    assert len(server.requests) == num_requests + (outcome is None)  # what was refused is asked again by a new command
    assert len(summary["perhaps_paid"]) == state.get("perhaps_paid", 0)
    kept = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert [(line["raw"]) for line in kept if line["state"] == "answered"] == [
        action.body for action in answers if action.status == 200 and not action.cut and not action.delay_s
    ]
    assert bool(written(tmp_path)[0]["paraphrase"]) == (outcome == "usable") if outcome else not written(tmp_path)


def test_retry_after_holds_every_request(tmp_path: Path) -> None:
    rows_file(tmp_path, 6)
    limited: list[float] = []

    def answer(request: Request, before: int) -> Action:
        if not limited:
            limited.append(time.monotonic())
            return error(429, retry_after="0.6")
        return right(request, before)

    with serving(answer) as server:
        assert run(tmp_path, server, "--concurrency", "1")[0] == 0
    later = [request.at for request in server.requests if request.at > limited[0]]
    assert len(later) == 6 and min(later) - limited[0] >= 0.59
    with serving(lambda request, before: error(429, retry_after="9000")) as server:
        code, _ = run(tmp_path, server)
        assert code == 2 and len(server.requests) <= 8


def test_an_exhausted_quota_ends_it_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows_file(tmp_path, 30)

    def answer(request: Request, before: int) -> Action:
        return right(request, before) if len(server.requests) <= 10 else error(429, code="insufficient_quota")

    with serving(answer) as server:
        code, summary = run(tmp_path, server, "--concurrency", "2")
        num_answered = sum(server.counts().values())
        assert code == 1 and len(server.requests) <= 12 and "quota" in summary["stopped"]
        assert len(written(tmp_path)) == summary["answers"]["usable"] == num_answered
        assert summary["not_answered"] == 30 - num_answered
        server.answer = right
        code, summary = run(tmp_path, server)
        assert code == 0 and summary["answers"]["usable"] == 30 and set(server.counts().values()) == {1}


def test_no_key_is_printed_or_stored_even_if_the_server_repeats_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows_file(tmp_path, 3)

    def answer(request: Request, before: int) -> Action:
        if before == 0:
            return error(500, f"you said {request.authorization}")
        return says(json.dumps({"paraphrase": f"Other words {KEY}"}))

    with serving(answer) as server:
        assert run(tmp_path, server)[0] == 0
        assert server.requests[0].authorization == f"Bearer {KEY}"
    with serving(lambda request, before: error(401, f"wrong key {KEY}")) as server:
        assert run(tmp_path, server)[0] == 2
        assert len(server.requests) <= 8
    said = capsys.readouterr()
    assert KEY not in said.out + said.err and "status 401" in said.err and "check address, key" in said.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("limit", ["--max-cost", "--max-tokens"])
def test_the_budget_is_never_overshot_and_can_be_raised(limit: str, tmp_path: Path) -> None:
    rows_file(tmp_path, 40)
    prices = ("--price-in", "1", "--price-out", "1")
    amount = {"--max-cost": ("0.0045", "1"), "--max-tokens": ("4500", "1000000")}[limit]

    def answer(request: Request, before: int) -> Action:
        action = right(request, before)
        action.delay_s = 0.02
        return action

    with serving(answer) as server:
        code, summary = run(tmp_path, server, *prices, limit, amount[0])
        num_answered = sum(server.counts().values())
        assert code == 1 and "budget" in summary["stopped"] and 5 <= num_answered < 40
        assert 120 * num_answered <= 4500 and summary["tokens_in"] + summary["tokens_out"] == 120 * num_answered
        assert run(tmp_path, server, *prices, limit, amount[0])[0] == 1  # the same command gets no fresh budget
        assert sum(server.counts().values()) == num_answered
        assert run(tmp_path, server, *prices, limit, amount[1])[0] == 0
        assert set(server.counts().values()) == {1} and len(server.counts()) == 40


def test_what_is_perhaps_paid_counts_with_its_worst(tmp_path: Path) -> None:
    rows_file(tmp_path, 5)
    with serving(lambda request, before: Action(body=GOOD.body, cut=True)) as server:
        code, summary = run(tmp_path, server, "--tries", "1", "--max-tokens", "7000", "--concurrency", "1")
    assert code == 1 and summary["requests"] == {"perhaps_paid": len(server.requests)}
    assert summary["tokens_in"] + summary["tokens_out"] > 2000 * len(server.requests) and len(server.requests) < 5


def test_no_more_at_once_and_no_faster_than_asked(tmp_path: Path) -> None:
    rows_file(tmp_path, 8)

    def answer(request: Request, before: int) -> Action:
        action = right(request, before)
        action.delay_s = 0.05
        return action

    with serving(answer) as server:
        run(tmp_path, server, "--concurrency", "3")
    assert 1 < server.most_at_once <= 3
    with serving(answer) as server:
        run(tmp_path, server, "--concurrency", "3", "--per-minute", "240")
    assert server.requests[-1].at - server.requests[0].at >= 7 * 0.25 - 0.5  # some 0.2 s without a pace


def test_a_server_that_dies_half_way(tmp_path: Path) -> None:
    rows_file(tmp_path, 20)
    server = LanguageServer(lambda request, before: right(request, before))
    server.start()
    dying = server.answer

    def answer(request: Request, before: int) -> Action:
        if len(server.requests) > 8:
            server._server.socket.close()
            return Action(body=GOOD.body, cut=True)
        return dying(request, before)

    server.answer = answer
    code, summary = run(tmp_path, server, "--tries", "2", "--concurrency", "2")
    num_answered = sum(server.counts().values())
    server.stop()
    assert code == 0 and num_answered <= 8 and summary["answers"]["usable"] == num_answered
    assert summary["not_answered"] == 20 - num_answered == sum(summary["given_up"].values())
    assert summary["requests"]["not_reached"] > 0 and len(summary["perhaps_paid"]) <= 4
    assert [line["paraphrase"] for line in written(tmp_path) if not line["paraphrase"]] == []


def subprocess_of(folder: Path, server: LanguageServer) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ablate.synthesize", *words(folder, server, "--concurrency", "4")]
    path = os.pathsep.join(place for place in sys.path if place)
    surroundings = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        command, cwd=ROOT, env=surroundings, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def slow(request: Request, before: int) -> Action:
    action = right(request, before)
    action.delay_s = 0.15
    return action


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)


def test_sigterm_loses_nothing_and_pays_nothing_twice(tmp_path: Path) -> None:
    rows_file(tmp_path, 24)
    with serving(slow) as server:
        for enough in (5, 12):
            process = subprocess_of(tmp_path, server)
            wait_for(lambda: len(server.requests) >= enough, process)  # noqa: B023
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
            assert process.returncode == 143, said
            assert "the same command goes on" in said and "Traceback" not in said
            assert all(request.answered for request in server.requests) and len(server.requests) < 24
        process = subprocess_of(tmp_path, server)
        assert process.communicate(timeout=60) and process.returncode == 0
    assert len(server.requests) == 24 and set(server.counts().values()) == {1}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["answers"]["usable"] == 24 and summary["perhaps_paid"] == []


def test_sigkill_repeats_at_most_what_was_in_flight_and_lists_it(tmp_path: Path) -> None:
    rows_file(tmp_path, 24)
    with serving(slow) as server:
        for enough in (6, 14):
            process = subprocess_of(tmp_path, server)
            wait_for(lambda: len(server.requests) >= enough, process)  # noqa: B023
            process.kill()
            process.communicate(timeout=30)
            assert not (tmp_path / "out" / "rows.jsonl").exists()
            time.sleep(0.3)  # the server ends what it was at
        process = subprocess_of(tmp_path, server)
        assert process.communicate(timeout=60) and process.returncode == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["answers"]["usable"] == 24 and summary["requests"]["answered"] == 24
    repeated = {asked for asked in server.counts() if sum(request.asked == asked for request in server.requests) > 1}
    attempts = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    listed = [attempt["task"] for attempt in attempts if attempt["state"] == "perhaps_paid"]
    assert len(listed) == len(summary["perhaps_paid"]) <= 8 and len(server.requests) - 24 <= len(listed)
    assert repeated and {f"r{asked.split('query ')[1].split('<')[0]}" for asked in repeated} <= {*listed}


def test_the_twins_of_a_mix_are_judged(tmp_path: Path) -> None:
    given = ("source.documents=600", "model=tiny", "budget.limit=16", "tracker=none", "runtime.until=mix")
    execute(run_config("+experiment=dual_view", *given, override("runtime.results", str(tmp_path))))
    (manifest,) = ResultStore(tmp_path).manifests("mix")

    def answer(request: Request, before: int) -> Action:
        return says(json.dumps({"reason": "so it is", "relevant": before == 0}))

    with serving(answer) as server:
        words = [
            "judge",
            "--mix",
            manifest.id,
            "--model",
            "m",
            "--endpoint",
            server.address,
            "--results",
            str(tmp_path),
        ]
        assert synthesize.main([*words, "--out", str(tmp_path / "out")]) == 0
    items = read_items(tmp_path / "out" / "items.jsonl")
    judgments = read_judgments([tmp_path / "out" / "judgments.jsonl"], items)
    assert len(items) == len(judgments) == manifest.counts["views"]["reversed"] > 0
    assert len(server.requests) == 4 * len(items) and {judgment.swap_class for judgment in judgments} == {"both"}


def test_one_process_at_a_time_uses_a_file_of_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows_file(tmp_path, 8)
    released = threading.Event()

    def answer(request: Request, before: int) -> Action:
        released.wait(60)
        return right(request, before)

    with serving(answer) as server:
        process = subprocess_of(tmp_path, server)
        wait_for(lambda: len(server.requests) >= 1, process)
        assert run(tmp_path, server)[0] == 2
        assert "another process uses it" in capsys.readouterr().err
        released.set()
        assert process.communicate(timeout=60) and process.returncode == 0
    assert len(server.requests) == 8
