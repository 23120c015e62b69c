"""The ledger keeps every number; W&B mirrors it, stays in its folder, and cannot stop or delay a run."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import resource
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ablate.records import UserError
from ablate.secrets import scrub
from ablate.tracking import Ledger, ledger_steps, open_tracker, read_ledger
from ablate.tracking.process import PATIENCE_S, Mirror, MirroredLedger
from ablate.tracking.wandb import wandb_service

ROOT = Path(__file__).resolve().parents[1]
START: dict[str, Any] = {"group": "study", "job_type": "train", "tags": ["a=1"], "name": "arm/s0", "run_id": "r1"}
DUMMY_KEY = "0123456789" * 4


def ledger_with(path: Path, *steps: int) -> Ledger:
    ledger = Ledger(path)
    ledger.start({"lr": 0.1}, **START)
    for step in steps:
        ledger.log(step, {"loss": float(step)})
    return ledger


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_ledger_holds_each_record_as_one_line(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path / "ledger.jsonl", 1)
    ledger.summary({"best": 0.5})
    ledger.table("scores", ["condition", "value"], [("plain", 0.25)])
    ledger.artifact(tmp_path / "model", "arm", "model")
    ledger.finish("finished")
    ledger.finish("failed")  # in a `finally`: says nothing new
    records = read_ledger(ledger.path)
    assert [record["kind"] for record in records] == ["start", "metrics", "summary", "table", "artifact", "finish"]
    assert records[0]["recipe"] == {"lr": 0.1} and records[0]["group"] == "study" and records[0]["tags"] == ["a=1"]
    assert records[1]["step"] == 1 and records[1]["values"] == {"loss": 1.0}
    assert records[3]["columns"] == ["condition", "value"] and records[3]["rows"] == [["plain", 0.25]]
    assert records[4]["path"] == str(tmp_path / "model") and records[4]["artifact_kind"] == "model"
    assert records[5]["status"] == "finished"
    assert all(abs(record["time"] - time.time()) < 60 for record in records)


def test_not_finite_numbers_are_texts_in_strict_json(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path / "ledger.jsonl")
    ledger.log(3, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5})
    ledger.finish("finished")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    line = ledger.path.read_text("utf-8").splitlines()[1]
    assert json.loads(line, parse_constant=refuse)["values"] == {"a": "nan", "b": "inf", "c": "-inf", "d": 1.5}
    values = ledger_steps(ledger.path)[3]
    assert math.isnan(values["a"]) and values["b"] == math.inf and values["c"] == -math.inf


def test_numbers_of_other_libraries_are_plain_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    ledger = ledger_with(tmp_path / "ledger.jsonl")
    ledger.log(1, {"a": numpy.float32(0.5), "b": numpy.int64(3)})
    ledger.summary({"c": numpy.float64(0.25), "d": numpy.int64(4)})
    ledger.finish("finished")
    assert ledger_steps(ledger.path) == {1: {"a": 0.5, "b": 3.0}}
    assert read_ledger(ledger.path)[2]["values"] == {"c": 0.25, "d": 4.0}


def test_a_torn_last_line_is_ignored_by_readers_and_repaired_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger_with(path, 1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"time": 1.0, "kind": "metr')
    assert [record["kind"] for record in read_ledger(path)] == ["start", "metrics", "metrics"]
    ledger = Ledger(path)
    assert ledger.attempt == 1
    ledger.finish("failed")
    assert path.read_bytes().startswith(whole)
    records = read_ledger(path)
    assert [record["kind"] for record in records[3:]] == ["resumed", "finish"]
    assert records[3]["dropped_bytes"] == 27


def test_a_long_torn_line_is_cut_off_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger_with(path, 1)
    length = path.stat().st_size
    with open(path, "ab") as file:
        file.write(b"x" * 200_000)
    Ledger(path).finish("failed")
    assert read_ledger(path)[2]["dropped_bytes"] == 200_000 and path.read_bytes()[length:].count(b"x") == 0


def test_a_corrupt_line_elsewhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger_with(path, 1, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0\0\0\n" + lines[2])
    with pytest.raises(UserError, match=r"ledger\.jsonl:2: not a record of a ledger .*delete this line"):
        read_ledger(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"ledger\.jsonl:2"):
        Ledger(path)
    assert path.read_bytes() == before
    path.write_bytes(lines[0] + b"[1]\n")
    with pytest.raises(UserError, match=r"ledger\.jsonl:2: not a record of a ledger \(no kind\)"):
        read_ledger(path)
    with pytest.raises(UserError, match=r"cannot read the ledger .*absent\.jsonl: No such file"):
        read_ledger(tmp_path / "absent.jsonl")


def test_going_on_supersedes_from_the_first_step_logged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger_with(path, 1, 2, 3, 4)
    ledger = Ledger(path)
    ledger.start({}, **START)
    assert ledger.attempt == 2
    assert sorted(ledger_steps(path)) == [1, 2, 3, 4]  # nothing is known of where it goes on
    ledger.log(3, {"loss": 30.0})
    assert ledger_steps(path) == {1: {"loss": 1.0}, 2: {"loss": 2.0}, 3: {"loss": 30.0}}
    ledger.log(3, {"accuracy": 0.5, "loss": 31.0})  # a second call for a step adds up
    assert ledger_steps(path)[3] == {"loss": 31.0, "accuracy": 0.5}
    ledger.finish("finished")
    ledger = Ledger(path)
    ledger.log(2, {"other": 1.0})
    assert ledger_steps(path) == {1: {"loss": 1.0}, 2: {"other": 1.0}}
    ledger.finish("finished")


def test_a_full_disk_is_a_user_error_and_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_with(tmp_path / "ledger.jsonl", 1)
    before = ledger.path.read_bytes()
    write = os.write

    def half(file: int, data: memoryview) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(UserError, match=r"cannot write the ledger .*ledger\.jsonl: No space left.*make room"):
            ledger.log(2, {"loss": 2.0})
    assert ledger.path.read_bytes() == before
    ledger.log(3, {"loss": 3.0})  # there is room again
    ledger.finish("finished")
    assert list(ledger_steps(ledger.path)) == [1, 3]


def test_a_real_limit_on_the_file_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    code = """
    import resource, sys
    from pathlib import Path
    from ablate.records import UserError
    from ablate.tracking.ledger import Ledger
    ledger = Ledger(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        for step in range(100):
            ledger.log(step, {"loss": 1.0})
    except UserError as error:
        print(error)
    """
    done = run_python(code, str(path))
    assert "cannot write the ledger" in done.stdout and "File too large" in done.stdout
    steps = list(ledger_steps(path))
    assert steps == list(range(len(steps))) and 5 < len(steps) < 100 and path.read_bytes().endswith(b"\n")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_ledger_that_cannot_be_opened_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the ledger .*Not a directory.*runtime\.results"):
        Ledger(tmp_path / "file" / "folder" / "ledger.jsonl")


def test_kill_9_loses_nothing_that_was_logged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    code = """
    import sys
    from pathlib import Path
    from ablate.tracking.ledger import Ledger
    ledger = Ledger(Path(sys.argv[1]))
    ledger.start({}, group="g", job_type="train", tags=[], name="n", run_id="r")
    step = 0
    while True:
        ledger.log(step, {"loss": 1.0})
        print(step, flush=True)
        step += 1
    """
    child = start_python(code, str(path), stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(200):
        child.stdout.readline()
    child.kill()
    last = [199, *(int(line) for line in child.stdout.read().splitlines()[:-1])][-1]
    child.wait()
    child.stdout.close()
    steps = list(ledger_steps(path))
    assert steps == list(range(len(steps))) and len(steps) >= last + 1
    ledger = Ledger(path)
    ledger.finish("interrupted")
    assert read_ledger(path)[-1]["status"] == "interrupted"


def test_secrets_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "tell-nobody-this")
    removed = "[removed: looks like a secret]"
    given = {
        "api_key": "a",
        "wandbApiKey": "b",
        "db": {"password": 1234, "user": "u"},
        "hf_token": "t",
        "client_secret": "s",
        "storage": "postgresql://me:pw@host/db",
        "note": "key tell-nobody-this here",
        "private_key": "k",
        "pad_token": "[PAD]",
        "max_tokens": 5,
        "tokens": "all",
        "primary_key": "id",
        "keys": ["a"],
        "monkey": "m",
        "token": None,
        "unit": "tokens",
    }
    kept = scrub(given)
    for name in ("api_key", "wandbApiKey", "hf_token", "client_secret", "private_key"):
        assert kept[name] == removed, name
    assert kept["db"] == {"password": removed, "user": "u"}
    assert kept["storage"] == f"postgresql://me:{removed}@host/db" and kept["note"] == f"key {removed} here"
    for name in ("pad_token", "max_tokens", "tokens", "primary_key", "keys", "monkey", "token", "unit"):
        assert kept[name] == given[name], name


def test_none_is_the_ledger_alone(tmp_path: Path) -> None:
    tracker = open_tracker(
        "none", ledger_path=tmp_path / "l.jsonl", folder=tmp_path / "wandb", project="p", entity=None
    )
    tracker.start({}, **START)
    tracker.log(1, {"loss": 1.0})
    tracker.finish("finished")
    assert ledger_steps(tmp_path / "l.jsonl") == {1: {"loss": 1.0}} and not (tmp_path / "wandb").exists()


# --- W&B --------------------------------------------------------------------------------------------------------------


def start_python(code: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *arguments], env=environment, **options)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)


def read_wandb(path: Path) -> dict[str, Any]:
    """Read a `.wandb` file: a 7-byte header, then LevelDB log blocks of protobuf records; stops at a torn tail."""
    from wandb.proto import wandb_internal_pb2

    data, place, parts = path.read_bytes(), 7, b""
    found: dict[str, Any] = {"config": {}, "history": {}, "summary": {}, "exit": None, "run": None, "files": []}
    while place + 7 <= len(data):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind not in (1, 4):
            continue
        record, parts = wandb_internal_pb2.Record.FromString(parts), b""
        match record.WhichOneof("record_type"):
            case "run":
                found["run"] = record.run
                found["config"].update({item.key: json.loads(item.value_json) for item in record.run.config.update})
            case "config":
                found["config"].update({item.key: json.loads(item.value_json) for item in record.config.update})
            case "history":
                items = record.history.item
                values = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}
                found["history"].setdefault(record.history.step.num, {}).update(values)
            case "summary":
                items = record.summary.update
                found["summary"].update({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items})
            case "exit":
                found["exit"] = record.exit.exit_code
            case "artifact":
                found["files"] += [(record.artifact.name, entry.path) for entry in record.artifact.manifest.contents]
    return found


def offline_file(folder: Path) -> Path:
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return path


def children_alive(marker: Path) -> list[tuple[int, str]]:
    """Return process ids and command lines of the mirrors and W&B services of a folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            variables = (folder / "environ").read_bytes().decode(errors="replace")
            if "wandb-core" in command and f"WANDB_DIR={marker}" in variables or str(marker) in command:
                found.append((int(folder.name), command))
    return found


def assert_gone(marker: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := children_alive(marker)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty home and no W&B settings; returns the home, and checks that nothing is left in it."""
    import wandb  # noqa: F401  it makes temporary folders of its own when the tests read its files

    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("WANDB_") or name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("tempfile.tempdir", str(home / "tmp"))
    yield home
    assert [path.relative_to(home) for path in home.rglob("*")] == [Path("tmp")]


def test_offline_content_stays_in_its_folder_and_two_runs_do_not_mix(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", DUMMY_KEY)
    monkeypatch.setenv("WANDB_RUN_ID", "of-somebody-else")
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights of the model")
    before = dict(os.environ)
    for name in ("one", "two"):
        folder = tmp_path / name
        tracker = open_tracker("wandb_offline", ledger_path=folder / "l.jsonl", folder=folder, project="p", entity=None)
        start = START | {"name": name, "run_id": f"id/{name}", "tags": ["factor=1", "long" * 30]}
        tracker.start({"train": {"lr": 0.5}, "api_key": "hush", "note": DUMMY_KEY}, **start)
        for step in (1, 2, 300):
            tracker.log(step, {f"loss_{name}": float(step)})
        tracker.log(300, {"bad": math.nan})
        tracker.table("scores", ["condition", "value"], [["plain", 0.25], ["changed", 0.5]])
        tracker.summary({"best": 0.75})
        if name == "one":
            tracker.artifact(model, "arm", "model")
        tracker.finish("finished" if name == "one" else "failed")
    said = capsys.readouterr()
    lines = [
        f"W&B: offline; send it with: wandb sync {offline_file(tmp_path / name).parent}" for name in ("one", "two")
    ]
    assert said.err == "" and said.out.splitlines() == lines and dict(os.environ) == before
    one, two = read_wandb(offline_file(tmp_path / "one")), read_wandb(offline_file(tmp_path / "two"))
    assert one["run"].run_group == "study" and one["run"].job_type == "train" and one["run"].display_name == "one"
    assert one["run"].run_id == "id-one" and list(one["run"].tags) == ["arm=train", "factor=1", ("long" * 30)[:64]]
    assert one["config"]["train"] == {"lr": 0.5} and one["config"]["api_key"].startswith("[removed")
    history = {step: {k: v for k, v in row.items() if k[0] != "_"} for step, row in one["history"].items()}
    assert history[1] == {"loss_one": 1.0} and history[2] == {"loss_one": 2.0} and sorted(history) == [1, 2, 300]
    assert history[300]["loss_one"] == 300.0 and math.isnan(history[300]["bad"])
    assert history[300]["scores.nrows"] == 2 and history[300]["scores.ncols"] == 2
    assert one["summary"]["best"] == 0.75 and one["exit"] == 0
    table_file = ("run-id-one-scores", "scores.table.json")
    assert sorted(one["files"]) == [("arm", "model.bin"), table_file]
    (table,) = (tmp_path / "one").glob("wandb/offline-run-*/files/media/table/*.json")
    assert json.loads(table.read_text())["data"] == [["plain", 0.25], ["changed", 0.5]]
    staged = [path for path in (tmp_path / "one" / "data").rglob("*") if path.is_file()]
    assert b"weights of the model" in [path.read_bytes() for path in staged]
    assert sorted(two["history"]) == [1, 2, 300] and "loss_one" not in two["history"][1]
    assert two["exit"] == 1 and [name for name, _ in two["files"]] == ["run-id-two-scores"]
    for path in [*(tmp_path / "one").rglob("*"), *(tmp_path / "two").rglob("*")]:
        assert path.is_dir() or DUMMY_KEY.encode() not in path.read_bytes(), f"the key is in {path}"
    assert_gone(tmp_path, 2.0)


class Answering(BaseHTTPRequestHandler):
    """Answers everything with one status and body."""

    status, body = 500, b"garbage"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_PUT = do_POST

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def silence(listening: bool = True) -> Iterator[str]:
    """A port that accepts connections and never answers, or one where nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class Garbage(Answering):
    status, body = 200, b"<html>not JSON</html>"


SERVERS = {
    "closed port": lambda: silence(listening=False),
    "500": lambda: serving(Answering),
    "garbage": lambda: serving(Garbage),
    "no key": lambda: serving(Answering),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_online_without_a_working_server_becomes_offline(
    kind: str, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind != "no key":
        monkeypatch.setenv("WANDB_API_KEY", DUMMY_KEY)
    folder = tmp_path / "wandb"
    with SERVERS[kind]() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        mirror = Mirror(wandb_service(folder, "p", None, online=True, init_timeout_s=1.0))
        tracker = MirroredLedger(Ledger(tmp_path / "l.jsonl"), mirror)
        begun = time.monotonic()
        tracker.start({"lr": 0.5}, **START)
        for step in range(50):
            tracker.log(step, {"loss": float(step)})
        assert time.monotonic() - begun < 1.0
        tracker.finish("finished")
        assert time.monotonic() - begun < 10.0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("W&B: no online run (") and f"every number is in {tmp_path / 'l.jsonl'}" in line
    assert shlex.join(["wandb", "sync", str(offline_file(folder).parent)]) in line and DUMMY_KEY not in line
    found = read_wandb(offline_file(folder))
    assert sorted(found["history"]) == list(range(50)) and found["exit"] == 0 and found["config"]["lr"] == 0.5
    assert sorted(ledger_steps(tmp_path / "l.jsonl")) == list(range(50))


RUN = """
import sys, time
from pathlib import Path
from ablate.tracking import open_tracker
folder, kind, behaviour = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
tracker = open_tracker(kind, ledger_path=folder / "l.jsonl", folder=folder / "wandb", project="p", entity=None)
status = "failed"
try:
    tracker.start({"lr": 0.5}, group="g", job_type="train", tags=["t"], name="n", run_id="r")
    for step in range(20):
        tracker.log(step, {"loss": float(step)})
    if behaviour == "raise":
        raise RuntimeError("training broke")
    if behaviour == "end":
        time.sleep(1.5)
    if behaviour == "wait":
        print("logged", flush=True)
        time.sleep(60)
    if behaviour == "forget":
        sys.exit(0)
    status = "finished"
finally:
    if behaviour != "forget":
        begun = time.monotonic()
        tracker.finish(status)
        print("waited", time.monotonic() - begun)
"""


def test_processes_with_a_silent_server_end_in_time_and_leave_no_child(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", DUMMY_KEY)
    monkeypatch.setenv("TMPDIR", str(clean / "tmp"))
    end, forget = tmp_path / "end", tmp_path / "forget"
    with silence() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        begun = time.monotonic()
        patient = start_python(RUN, str(end), "wandb", "end", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        run_python(RUN, str(forget), "wandb", "forget")
        assert time.monotonic() - begun < 3.0  # without `finish` nobody waits
        stdout, stderr = patient.communicate(timeout=30)
        assert patient.returncode == 0 and float(stdout.split()[1]) < PATIENCE_S + 1
        assert_gone(end / "wandb", 1.0)
        assert_gone(forget / "wandb", 20.0)
    assert stderr.count(b"\n") == 1 and stderr.startswith(b"W&B: no online run (")
    for folder, exit_code in ((end, 0), (forget, 1)):
        found = read_wandb(offline_file(folder / "wandb"))
        assert sorted(found["history"]) == list(range(20)) and found["exit"] == exit_code


def test_finish_in_finally_records_the_failure(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_python(RUN, str(tmp_path), "wandb_offline", "raise")
    assert caught.value.stderr.rstrip().endswith("RuntimeError: training broke")
    assert read_ledger(tmp_path / "l.jsonl")[-1]["status"] == "failed"
    assert read_wandb(offline_file(tmp_path / "wandb"))["exit"] == 1


def test_kill_9_of_a_run_and_a_second_attempt(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(clean / "tmp"))
    child = start_python(RUN, str(tmp_path), "wandb_offline", "wait", stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"logged\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert_gone(tmp_path / "wandb", 15.0)
    found = read_wandb(offline_file(tmp_path / "wandb"))
    assert sorted(found["history"]) == list(range(20)) and found["exit"] == 1  # the mirror finished for it
    assert sorted(ledger_steps(tmp_path / "l.jsonl")) == list(range(20))

    tracker = open_tracker(
        "wandb_offline", ledger_path=tmp_path / "l.jsonl", folder=tmp_path / "again", project="p", entity=None
    )
    tracker.start({"lr": 0.5}, **START)
    tracker.log(10, {"loss": -1.0})
    tracker.finish("finished")
    found = read_wandb(offline_file(tmp_path / "again"))
    losses = {step: row["loss"] for step, row in found["history"].items()}
    assert losses == {step: float(step) for step in range(10)} | {10: -1.0}
    assert found["run"].run_id == "r1-2" and capsys.readouterr().err == ""


class AcceptsRunsThenSilent(Answering):
    """As much of W&B's interface as makes an online run start; whatever follows is never answered."""

    def do_POST(self) -> None:
        question = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        bucket = {
            "id": "QnVja2V0",
            "name": "r1",
            "displayName": "n",
            "description": "",
            "config": "{}",
            "sweepName": None,
            "project": {"id": "UHJvag==", "name": "p", "entity": {"id": "RW50", "name": "e"}},
            "historyLineCount": 0,
        }
        if not self.path.startswith("/graphql"):
            self.take(question)
        elif "upsertBucket" in question:
            self.answer({"upsertBucket": {"bucket": bucket, "inserted": True}})
        elif "viewer" in question:
            self.answer({"viewer": {"id": "1", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []}}})
        elif "createRunFiles" in question:
            files = [{"name": name, "uploadUrl": "/upload"} for name in json.loads(question)["variables"]["files"]]
            self.answer({"createRunFiles": {"runID": "QnVja2V0", "uploadHeaders": [], "files": files}})
        else:
            self.answer({"serverInfo": {"features": []}})

    do_GET = do_PUT = do_POST

    def take(self, body: str) -> None:
        time.sleep(30)

    def answer(self, data: dict[str, Any]) -> None:
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class AcceptsRuns(AcceptsRunsThenSilent):
    """Takes everything; keeps the rows of the history."""

    steps: ClassVar[list[int]] = []

    def take(self, body: str) -> None:
        if self.path.endswith("/file_stream"):
            files = json.loads(body).get("files") or {}
            lines = files.get("wandb-history.jsonl", {}).get("content", [])
            self.steps.extend(json.loads(line)["_step"] for line in lines)
        self.answer({})


def test_an_online_run_reaches_its_server_without_a_word(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", DUMMY_KEY)
    with serving(AcceptsRuns) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        tracker = open_tracker(
            "wandb", ledger_path=tmp_path / "l.jsonl", folder=tmp_path / "wandb", project="p", entity=None
        )
        tracker.start({"lr": 0.5}, **START)
        for step in range(20):
            tracker.log(step, {"loss": float(step)})
        tracker.finish("finished")
    assert capsys.readouterr().err == "" and AcceptsRuns.steps == list(range(20))
    assert_gone(tmp_path / "wandb", 2.0)


def test_a_server_that_goes_silent_after_the_start_does_not_hold_the_run(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", DUMMY_KEY)
    folder = tmp_path / "wandb"
    with serving(AcceptsRunsThenSilent) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        tracker = open_tracker("wandb", ledger_path=tmp_path / "l.jsonl", folder=folder, project="p", entity=None)
        tracker.start({"lr": 0.5}, **START)
        for step in range(20):
            tracker.log(step, {"loss": float(step)})
        begun = time.monotonic()
        tracker.finish("finished")
        assert time.monotonic() - begun < PATIENCE_S + 1
    (path,) = folder.glob("wandb/run-*/run-*.wandb")  # an online run
    (line,) = capsys.readouterr().err.splitlines()
    assert shlex.join(["wandb", "sync", str(path.parent)]) in line
    assert sorted(read_wandb(path)["history"]) == list(range(20))
    assert_gone(folder, 2.0)


def test_a_crash_of_the_service_is_one_line_and_the_remedy_is_the_ledger(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "wandb"
    tracker = open_tracker("wandb_offline", ledger_path=tmp_path / "l.jsonl", folder=folder, project="p", entity=None)
    tracker.start({"lr": 0.5}, **START)
    end = time.monotonic() + 15.0
    while not list(folder.glob("wandb/offline-run-*/run-*.wandb")) and time.monotonic() < end:
        time.sleep(0.05)
    services = [pid for pid, command in children_alive(folder) if "wandb-core" in command]
    assert len(services) == 1
    os.kill(services[0], signal.SIGKILL)
    begun = time.monotonic()
    for step in range(20):
        tracker.log(step, {"loss": float(step)})
    tracker.finish("finished")
    assert time.monotonic() - begun < PATIENCE_S + 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("W&B: ") and "python -m ablate.tracking.mirror" in line
    assert sorted(ledger_steps(tmp_path / "l.jsonl")) == list(range(20))
    assert_gone(folder, 2.0)
    for left in Path("/tmp").glob(f"wandb-*-{services[0]}-*"):  # the socket of the service that was killed
        shutil.rmtree(left)


def test_a_mirror_that_cannot_work_is_one_line(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for name, folder, patience in (("a", tmp_path / "file" / "wandb", 9.0), ("b", tmp_path / "wandb", 0.0)):
        mirror = Mirror(wandb_service(folder, "p", None, online=False), patience_s=patience)
        tracker = MirroredLedger(Ledger(tmp_path / f"{name}.jsonl"), mirror)
        tracker.start({}, **START)
        tracker.log(1, {"loss": 1.0})
        tracker.finish("finished")
        (line,) = capsys.readouterr().err.splitlines()
        reason = "its process cannot start" if name == "a" else "it did not keep up within 0 s"
        assert line.startswith(f"W&B: {reason}") and "python -m ablate.tracking.mirror " in line
        assert ledger_steps(tmp_path / f"{name}.jsonl") == {1: {"loss": 1.0}}
    assert_gone(tmp_path / "wandb", 2.0)
    command = shlex.split(line.partition("with: python ")[2])  # the remedy works, for a path with blanks too
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("W&B: offline; send it with: wandb sync ")
    assert sorted(read_wandb(offline_file(tmp_path / "wandb"))["history"]) == [1]
    shutil.rmtree(clean / "tmp")
    (clean / "tmp").mkdir()
