"""Human judgments: what is saved and when, what the page's server refuses, spreadsheets, and what is settled."""

from __future__ import annotations

import contextlib
import csv
import errno
import http.client
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_sample import make_sample, started_page, true_answers
from conftest import ROOT

from ablate.records import UserError
from analysis.annotate import main
from analysis.audit.annotation import server
from analysis.audit.annotation.answers import AnswerFile, answer_file, disputed
from analysis.audit.annotation.server import HEADER, PageServer, Task
from analysis.audit.annotation.spreadsheet import COLUMNS
from analysis.audit.assess import PRIMARY, assess
from analysis.audit.items import read_items, read_judgments
from analysis.audit.sample_folder import SampleFolder, open_sample
from analysis.audit.sampling import QUESTION_COLUMNS, answers_of, judgment_of, sheet

MIXED = (True, False, None, True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_sample(tmp_path)


@contextlib.contextmanager
def served(folder: Path, rater: str = "ann", **options: Any) -> Iterator[PageServer]:
    """Serve the page of a rater from a thread."""
    sample = open_sample(folder)
    with (
        answer_file(sample, rater) as answers,
        PageServer(Task(answers, list(sample.sheets), {}), 0, **options) as page,
    ):
        thread = threading.Thread(target=page.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield page
        finally:
            page.shutdown()
            thread.join()


def request(page: PageServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Return status, headers and body of what the page's server answers; a None header is left out."""
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"Host": f"127.0.0.1:{page.server_port}", "Content-Length": str(len(content)), HEADER: "1", **headers}
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(content)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read().decode()


def task_of(page: PageServer) -> Any:
    return json.loads(request(page, "GET", "/task")[2])


def save(page: PageServer, sheet: str, answers: Any) -> int:
    return request(page, "POST", "/save", {"sheet": sheet, "answers": answers})[0]


def test_the_page_writes_what_the_audit_reads(folder: Path) -> None:
    with served(folder) as page:
        for shown in task_of(page)["sheets"]:
            assert save(page, shown["id"], true_answers(shown["passages"], shown["instructions"])) == 200
    items = read_items(folder / "items.jsonl")
    judgments = read_judgments([folder / "answers" / "ann.jsonl"], items)
    assert {(judgment.kind, judgment.rater) for judgment in judgments} == {("human", "ann")}
    audit = assess(items, judgments)
    assert audit.shares[PRIMARY].share == 1.0 and audit.shares[PRIMARY].num_labels == 10
    assert audit.rater_error.shown == 2 and audit.rater_error.waved_through == 0


def test_a_page_tells_nothing_of_the_design_and_of_other_raters(folder: Path) -> None:
    sample = open_sample(folder)
    with served(folder, "ann") as first, served(folder, "bob") as second:
        name = list(sample.sheets)[0]
        assert save(first, name, MIXED) == 200
        own, other = task_of(first), task_of(second)
        assert own["sheets"][0]["answers"] == list(MIXED) and own["order"] == [name]
        assert other["order"] == [] and all(shown["answers"] is None for shown in other["sheets"])
        assert set(other["sheets"][0]) == {"id", "query", "instructions", "passages", "answers", "said"}
        assert all(shown["said"] == [] for shown in other["sheets"])
        content = json.dumps(other)
        assert not [item.id for item in sample.items if f'"{item.id}"' in content]
        assert not [word for word in ("known_bad", "date", "stratum", "ann") if word in content]
    sides = {shown["passages"][0].split()[0] for shown in own["sheets"]}
    assert sides == {"old", "new"}  # which passage is first is drawn
    assert [shown["id"] for shown in own["sheets"]] == list(sample.sheets)


def test_an_answer_is_synced_before_it_is_called_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "answers" / "ann.jsonl"
    synced: list[str] = []
    real = os.fsync
    with served(folder) as page:
        names = [shown["id"] for shown in task_of(page)["sheets"]]

        def fsync(handle: int) -> None:
            synced.append(path.read_text())
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        for number, name in enumerate(names[:3], start=1):
            assert save(page, name, MIXED) == 200
            assert len(synced) == number and synced[-1] == path.read_text() and synced[-1].count("\n") == number
        assert save(page, names[0], MIXED) == 200 and len(synced) == 3  # the same again is there already

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        status, _, body = request(page, "POST", "/save", {"sheet": names[3], "answers": MIXED})
        assert status == 500 and "the disk is full" in body
        monkeypatch.setattr(os, "fsync", real)
        assert path.read_text() == synced[-1] and task_of(page)["order"] == names[:3]
        assert save(page, names[3], MIXED) == 200 and path.read_text().count("\n") == 4


def test_answers_are_changed_and_taken_back(folder: Path) -> None:
    path = folder / "answers" / "ann.jsonl"
    with served(folder) as page:
        first, second = [shown["id"] for shown in task_of(page)["sheets"]][:2]
        for name in (first, second):
            assert save(page, name, MIXED) == 200
        assert save(page, first, [None] * 4) == 200
        assert [json.loads(line)["a_under_complement"] for line in path.read_text().splitlines()][0] is None
        assert request(page, "POST", "/take_back", {"sheet": second})[2] == '{"done": 1}'
        assert request(page, "POST", "/take_back", {"sheet": second})[2] == '{"done": 1}'
        assert task_of(page)["order"] == [first]
    with served(folder) as page:
        assert task_of(page)["sheets"][0]["answers"] == [None] * 4 and task_of(page)["order"] == [first]


@pytest.mark.parametrize("answers", [MIXED, (False, True, True, None), (True, True, False, False)])
def test_judgments_and_sheets_say_the_same(folder: Path, answers: tuple[bool | None, ...]) -> None:
    sample = open_sample(folder)
    judged = [judgment_of(answers, item, sample.seed, "ann") for item in sample.sheets.values()]
    assert {answers_of(j, item, sample.seed) for j, item in zip(judged, sample.sheets.values(), strict=True)} == {
        answers
    }
    assert len({(j.a_under_instruction, j.b_under_complement) for j in judged}) > 1  # by the sides that were drawn


def test_a_last_line_that_was_cut_off_is_left_out_and_one_without_an_end_is_kept(folder: Path) -> None:
    sample = open_sample(folder)
    first, second, third = list(sample.sheets)[:3]
    with answer_file(sample, "ann") as file:
        file.save(first, MIXED)
        file.save(second, MIXED)
    path = sample.answers_path("ann")
    whole = path.read_bytes()
    for cut in (1, 20, len(whole) // 2 - 2):
        path.write_bytes(whole[:-cut])
        with answer_file(sample, "ann") as file:
            assert file.was_torn == (cut > 1)
            assert list(file.answers) == ([first] if file.was_torn else [first, second])
            file.save(third, MIXED)
        assert len(read_judgments([path], sample.items)) == (2 if cut > 1 else 3)


def test_a_rater_has_one_page_at_a_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(folder), served(folder, "bob"):
        assert main([str(folder), "--rater", "ann"]) == 2
        assert "ann.jsonl is in use by a page that is open; end that one with Ctrl-C first" in capsys.readouterr().err
        assert main([str(folder), "--adjudicate", "ann", "bob"]) == 2
    with answer_file(open_sample(folder), "ann"):
        pass


REFUSED: dict[str, tuple[int, str, tuple[Any, ...], dict[str, Any]]] = {
    "a foreign name": (403, "the page is at", ("GET", "/task"), {"Host": "example.org"}),
    "no name": (403, "the page is at", ("GET", "/"), {"Host": None}),
    "another port": (403, "the page is at", ("GET", "/"), {"Host": "127.0.0.1:1"}),
    "a change by a foreign name": (403, "the page is at", ("POST", "/save", {}), {"Host": "example.org:80"}),
    "a change without the header": (403, "not sent by the page", ("POST", "/save", {}), {HEADER: None}),
    "a change from elsewhere": (403, "not sent by the page", ("POST", "/save", {}), {"Origin": "http://example.org"}),
    "a change from a file": (403, "not sent by the page", ("POST", "/save", {}), {"Origin": "null"}),
    "a file of the sample": (404, "nothing at this address", ("GET", "/design.json"), {}),
    "a path upwards": (404, "nothing at this address", ("GET", "/../design.json"), {}),
    "a query": (404, "nothing at this address", ("GET", "/?x=1"), {}),
    "another change": (404, "nothing at this address", ("POST", "/", {}), {}),
    "a large change": (413, "at most 4096 bytes", ("POST", "/save", b" " * 5000), {}),
    "a change without a length": (413, "at most 4096 bytes", ("POST", "/save", {}), {"Content-Length": None}),
    "a length below 0": (413, "at most 4096 bytes", ("POST", "/save", {}), {"Content-Length": "-1"}),
    "no JSON": (400, "no JSON object", ("POST", "/save", b"{"), {}),
    "deep JSON": (400, "no JSON object", ("POST", "/save", b"[" * 4000), {}),
    "a list": (400, "no JSON object", ("POST", "/save", []), {}),
    "an unknown sheet": (400, "no sheet of the sample", ("POST", "/save", {"sheet": "i1", "answers": MIXED}), {}),
    "a sheet that is a list": (400, "no sheet of the sample", ("POST", "/save", {"sheet": []}), {}),
    "three answers": (400, "a sheet has 4 answers", ("POST", "/save", {"sheet": "S", "answers": [True] * 3}), {}),
    "no answers": (400, "a sheet has 4 answers", ("POST", "/save", {"sheet": "S"}), {}),
    "numbers": (400, "true, false or null", ("POST", "/save", {"sheet": "S", "answers": [1, 0, 1, 0]}), {}),
    "words": (400, "true, false or null", ("POST", "/save", {"sheet": "S", "answers": ["yes"] * 4}), {}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_page_would_not_ask_for_is_refused(name: str, folder: Path) -> None:
    status, words, (method, path, *body), headers = REFUSED[name]
    with served(folder) as page:
        first = task_of(page)["sheets"][0]["id"]
        content = [
            {**values, "sheet": first} if isinstance(values, dict) and values.get("sheet") == "S" else values
            for values in body
        ]
        found, _, said = request(page, method, path, *content, **headers)
        assert (found, words in said) == (status, True), said
        assert task_of(page)["order"] == []
    assert (folder / "answers" / "ann.jsonl").read_text() == ""


def test_only_this_machine_is_served(folder: Path) -> None:
    with served(folder) as page:
        assert page.server_address[0] == "127.0.0.1"
        assert request(page, "GET", "/", Host=f"localhost:{page.server_port}")[0] == 200
        assert request(page, "OPTIONS", "/save", Origin="http://example.org")[0] == 501  # no other page gets leave


def test_the_page_runs_only_what_carries_its_nonce(folder: Path) -> None:
    with served(folder) as page:
        nonces = set()
        for _ in range(2):
            status, headers, text = request(page, "GET", "/")
            policy = headers["Content-Security-Policy"]
            nonce = re.search(r"script-src 'nonce-([\w-]{20,})';", policy)
            assert status == 200 and nonce is not None and text.count(f'nonce="{nonce[1]}"') == 2
            assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
            assert not re.search(r"<script(?![^>]*nonce)|<style|\son\w+=|style=|http", text) and "NONCE" not in text
            nonces.add(nonce[1])
        assert len(nonces) == 2
        script = request(page, "GET", "/page.js")[2]
        assert "textContent" in script
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|DOMParser|Function\(", script)
        for path, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/task", "application/json")):
            status, headers, _ = request(page, "GET", path)
            assert status == 200 and headers["Content-Type"].startswith(kind)
            assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"


def test_it_ends_after_the_last_answer_unless_that_is_taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_S", 0.3)
    sample = open_sample(folder)
    with answer_file(sample, "ann") as answers:
        with PageServer(Task(answers, list(sample.sheets)[:2], {}), 0, stop_when_done=True) as page:
            thread = threading.Thread(target=page.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            first, second = page.task.sheets
            assert save(page, first, MIXED) == 200 and save(page, second, MIXED) == 200
            assert request(page, "POST", "/take_back", {"sheet": second})[0] == 200
            thread.join(0.6)
            assert thread.is_alive()
            assert save(page, second, MIXED) == 200
            thread.join(10)
            assert not thread.is_alive()


def test_a_sample_that_is_done_needs_no_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answer_file(open_sample(folder), "ann") as answers:
        answers.save_all({name: MIXED for name in answers.sample.sheets})
    assert main([str(folder), "--rater", "ann", "--stop-when-done"]) == 0
    assert capsys.readouterr().out == f"12 of 12 items are answered: {folder / 'answers' / 'ann.jsonl'}\n"


def test_a_kill_loses_nothing_and_ctrl_c_ends_in_order(folder: Path) -> None:
    with started_page(str(folder), "--rater", "ann") as (process, address):
        host, names = address.split("/")[2], list(open_sample(folder).sheets)
        connection = http.client.HTTPConnection(host, timeout=10)
        for name in names[:3]:
            content = json.dumps({"sheet": name, "answers": MIXED})
            connection.request("POST", "/save", content, {HEADER: "1"})
            assert connection.getresponse().read()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        connection.close()
    with started_page(str(folder), "--rater", "ann") as (process, _):
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and errors == ""
    assert "3 of 12 items are answered: " in said and "the same command goes on from here" in said


def test_no_page_outlives_a_test_that_fails(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), started_page(str(folder), "--rater", "ann") as (process, _):
        raise ZeroDivisionError
    assert process.returncode == -signal.SIGKILL


def test_a_port_that_is_taken_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main([str(folder), "--rater", "ann", "--port", str(port)]) == 2
    assert f"--port {port} is in use; name another, or leave it out for a free one" in capsys.readouterr().err


def fill(sample: SampleFolder, rater: str, changes: dict[int, Any]) -> None:
    with answer_file(sample, rater) as file:
        file.save_all({name: changes.get(n, MIXED) for n, name in enumerate(sample.sheets) if n < 8})


def test_what_raters_differ_on_is_settled_in_place_of_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = open_sample(folder)
    by_sheet = {}
    for name, item in sample.sheets.items():
        shown = sheet(item, sample.seed)
        passages, instructions = (
            (shown.first_passage, shown.second_passage),
            (shown.first_instruction, shown.second_instruction),
        )
        by_sheet[name] = tuple(true_answers(passages, instructions))
    wrong = [name for name, item in sample.sheets.items() if not item.known_bad][:2]
    for rater in ("ann", "bob", "cem"):
        with answer_file(sample, rater) as file:
            file.save_all({**by_sheet, **({name: (None,) * 4 for name in wrong} if rater == "bob" else {})})
    said = disputed(sample, ["ann", "bob"])
    assert list(said) == [name for name in sample.sheets if name in wrong]
    assert all(
        sorted(map(str, answers)) == sorted(map(str, (by_sheet[name], (None,) * 4))) for name, answers in said.items()
    )
    assert main([str(folder), "--adjudicate", "ann", "cem"]) == 0
    assert "the raters agree on every item" in capsys.readouterr().out
    before = assess(sample.items, read_judgments([sample.answers_path(name) for name in ("ann", "bob")], sample.items))
    with answer_file(sample, "adjudicated") as file:
        for name in said:
            file.save(name, by_sheet[name])
    paths = [sample.answers_path(name) for name in ("ann", "bob", "adjudicated")]
    after = assess(sample.items, read_judgments(paths, sample.items))
    assert before.shares[PRIMARY].share == pytest.approx(0.9) and after.shares[PRIMARY].share == 1.0
    assert after.agreement == before.agreement and after.raters["human"] == ("ann", "bob")
    assert any(note.startswith("2 items are adjudicated") for note in after.notes)


def test_whose_answer_is_first_is_drawn_where_it_is_settled(tmp_path: Path) -> None:
    sample = open_sample(make_sample(tmp_path, size=30))
    for rater, answers in (("ann", (True,) * 4), ("bob", (False,) * 4)):
        with answer_file(sample, rater) as file:
            file.save_all(dict.fromkeys(sample.sheets, answers))
    said = disputed(sample, ["ann", "bob"])
    assert len(said) == 32 and {answers[0][0] for answers in said.values()} == {True, False}


def test_spreadsheets_are_blind_and_read_back_to_what_was_meant(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "ann.csv"
    assert main([str(folder), "--to-csv", str(out)]) == 0
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")
    with open(out, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 12
    words = {True: ("yes", " YES ", "TRUE"), False: ("no", "No", "false")}
    for number, row in enumerate(rows[:-1]):
        passages, instructions = (
            [row[f"{place}_{kind}"] for place in ("first", "second")] for kind in ("passage", "instruction")
        )
        for column, answer in zip(QUESTION_COLUMNS, true_answers(passages, instructions), strict=True):
            row[column] = words[answer][number % 3]
    write_rows(out, rows)
    assert main([str(folder), "--rater", "ann", "--from-csv", str(out)]) == 0
    assert "11 of 12 sheets are answered" in capsys.readouterr().out
    sample = open_sample(folder)
    audit = assess(sample.items, read_judgments([sample.answers_path("ann")], sample.items))
    assert audit.shares[PRIMARY].share == 1.0 and audit.rater_error.waved_through == 0
    again = tmp_path / "again.csv"
    assert main([str(folder), "--rater", "ann", "--to-csv", str(again)]) == 0
    with open(again, newline="", encoding="utf-8-sig") as file:
        answered = list(csv.DictReader(file))
    assert {row[column] for row in answered[:-1] for column in QUESTION_COLUMNS} == {"yes", "no"}
    assert {answered[-1][column] for column in QUESTION_COLUMNS} == {""}
    before = sample.answers_path("ann").read_bytes()
    answered[-1] |= dict.fromkeys(QUESTION_COLUMNS, "unknown")
    answered[0] |= dict.fromkeys(QUESTION_COLUMNS, "cannot tell")
    write_rows(again, answered)
    assert main([str(folder), "--rater", "ann", "--from-csv", str(again)]) == 2
    assert f"sheet {answered[0]['item_id']} is answered otherwise in " in capsys.readouterr().err
    assert sample.answers_path("ann").read_bytes() == before


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_no_text_of_an_item_is_a_formula(tmp_path: Path) -> None:
    folder = make_sample(tmp_path, passage_a="=HYPERLINK(A1)", query="+1", complement="@x", instruction="-y")
    out = tmp_path / "a.csv"
    assert main([str(folder), "--to-csv", str(out)]) == 0
    with open(out, newline="", encoding="utf-8-sig") as file:
        cells = [cell for row in csv.DictReader(file) for cell in row.values()]
    assert "'=HYPERLINK(A1)" in cells and not [cell for cell in cells if re.match(r"[=@\-\t\r]|\+(?!1$)", cell)]


FAULTS = {
    "twice": (lambda lines: [*lines, lines[1]], "line 14: sheet "),
    "of no sample": (lambda lines: [lines[0], "x" + lines[1]], "line 2: 'xs"),
    "not answered": (lambda lines: lines, "none of 12 sheets is answered; write yes, no or cannot tell"),
    "in part": (lambda lines: [lines[0], lines[1][:-3] + "yes,,,"], "is ''; allowed: yes, no, cannot tell, true"),
    "in other words": (
        lambda lines: [lines[0], lines[1][:-3] + "maybe,no,no,no"],
        "_instruction is 'maybe'; allowed: ",
    ),
    "by semicolons": (
        lambda lines: [line.replace(",", ";") for line in lines],
        "separated by semicolons: save it with",
    ),
    "without a header": (lambda lines: lines[1:], "the column item_id is missing"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_spreadsheet_with_a_fault_is_refused_as_a_whole(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = FAULTS[name]
    out = tmp_path / "a.csv"
    assert main([str(folder), "--to-csv", str(out)]) == 0
    out.write_text("\n".join(change(out.read_text(encoding="utf-8-sig").splitlines())) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert main([str(folder), "--rater", "ann", "--from-csv", str(out)]) == 2
    assert words in capsys.readouterr().err and not (folder / "answers").exists()


def test_answers_of_somebody_else_are_no_answers_of_a_rater(folder: Path) -> None:
    sample = open_sample(folder)
    fill(sample, "ann", {})
    sample.answers_path("ann").rename(sample.answers_path("bob"))
    with pytest.raises(
        UserError, match="the human 'ann' on item 'i.*' is no answer of 'bob' on a sheet of this sample"
    ):
        AnswerFile(sample, "bob")
    with pytest.raises(UserError, match="ann.jsonl is missing; --adjudicate names raters who have answered"):
        disputed(sample, ["ann", "bob"])


def words_of(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_the_guide_of_the_page_is_that_of_the_documents() -> None:
    """Raters with a spreadsheet are told the same as raters at the page."""
    page = (ROOT / "analysis" / "audit" / "annotation" / "page" / "page.html").read_text(encoding="utf-8")
    document = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    guide = document.split("### The guide for raters")[1].split("\n## ")[0].partition("\n\n")[2].partition("\n\n")[2]
    paragraphs = " ".join(line for line in guide.splitlines() if not line.startswith(("|", "- ", "Query: ")))
    texts = [cell for line in guide.splitlines() if line.startswith("|") for cell in line.split("|")]
    texts += [line for line in guide.splitlines() if line.startswith("- ")]
    texts += re.findall(r"\*([^*\n]+)\*", guide) + re.split(r"[.?:] ", paragraphs)
    assert len(texts) > 40
    shown = words_of(re.sub(r"<[^>]+>", " ", page))
    assert [text for text in texts if words_of(text) not in shown] == []
