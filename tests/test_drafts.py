"""What killed processes leave half-written is swept away; what a living one writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ablate.store.drafts import ENDS_AFTER_S, draft_of, sweep
from ablate.store.results import ResultStore

LEAVE = """
import os, sys
from pathlib import Path
from ablate.store.drafts import draft_of
for name in sys.argv[1:]:
    draft_of(Path(name)).write_text("half")
draft_of(Path(sys.argv[1]), ".npy").write_text("half")
draft_of(Path(sys.argv[1])).mkdir()
os.kill(os.getpid(), 9)
"""


def test_only_drafts_of_the_dead_are_swept_when_a_store_is_opened(tmp_path: Path) -> None:
    names = [
        "locks/run-1.json",
        "mixes/a/manifest.json",
        "runs/a/workload.json",
        "evals/a/notes.json",
        "evals/a/embeddings/shard-0",
        "studies/s/d.json",
        "failures/s/x.txt",
        "vectors/v.npy",
        "probe",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("whole")
        draft_of(tmp_path / name).write_text("being written")
    (tmp_path / "locks" / ".takeover").touch()
    (tmp_path / "runs" / "a" / ".hidden.by-a-person").touch()
    before = sorted(tmp_path.rglob("*"))
    subprocess.run([sys.executable, "-c", LEAVE, *(str(tmp_path / name) for name in names)], check=False)
    assert len(sorted(tmp_path.rglob("*"))) == len(before) + len(names) + 2
    ResultStore(tmp_path).open()
    assert sorted(tmp_path.rglob("*")) == before


def test_drafts_of_another_machine_or_version_go_after_a_day(tmp_path: Path) -> None:
    names = [
        f".manifest.json.{'0123456789abcdef' * 2}",
        f".clock-{'a' * 32}",
        f".probe-{'b' * 32}",
        f".x.{'f' * 32}.npy",
    ]
    for name in names:
        (tmp_path / name).touch()
    os.utime(tmp_path / names[0], (time.time() - ENDS_AFTER_S + 60,) * 2)
    assert sweep([tmp_path, tmp_path / "nowhere"]) == []
    for name in names:
        os.utime(tmp_path / name, (time.time() - ENDS_AFTER_S - 60,) * 2)
    assert sorted(path.name for path in sweep([tmp_path])) == sorted(names) and not list(tmp_path.iterdir())
