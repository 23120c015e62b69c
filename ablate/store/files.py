"""How results lie on the disk: the names of folders and files, and how a file is written."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from ablate.recipe.values import digest
from ablate.store.drafts import draft_of

FOLDERS: dict[str, str] = {"mix": "mixes", "train": "runs", "evaluation": "evals"}
"""Kind of a stage -> the folder of all stages of that kind."""
LOCKS, VECTORS, CACHE, WANDB, TRACKIO = "locks", "vectors", "cache", "wandb", "trackio"
"""Locks by name; vectors of corpora kept between searches; caches of other packages; what W&B has not sent; trackio's
projects."""
TOKENS = "tokens"
"""In the folder of caches: token ids of texts, see `ablate.model.tokens`."""
STUDIES, CELLS, FAILURES, TUNING = "studies", "cells", "failures", "tuning"
"""Declarations by study, and in there their cells; failures by study; searches for hyper-parameters by study."""
SUBMISSIONS = "submissions"
"""Which cells are queued as which job array of SLURM, while jobs of it may be in the queue."""

REPORTS, WANDB_REPORT_FILE = "reports", "wandb_report.json"
"""Reports by study, and in there what a report in W&B says: made from results, free to be deleted."""

MANIFEST_FILE = "manifest.json"
GROUPS_FILE, PASSAGES_FILE = "groups.jsonl.gz", "passages.jsonl.gz"
"""Of a mix."""
WORKLOAD_FILE, LEDGER_FILE, CONFIG_FILE = "workload.json", "ledger.jsonl", "config.json"
"""Of a training: its totals, counted before it starts; what was logged; recipe and seed."""
MODEL_FOLDER, CHECKPOINTS_FOLDER = "model", "checkpoints"
"""Of a training: the trained model, and what a killed training goes on from."""
SCORES_FILE, NOTES_FILE, JUDGMENTS_FILE = "scores.parquet", "notes.json", "judgments.json.gz"
CLUSTERS_FILE = "clusters.json.gz"
RANKINGS_FOLDER, EMBEDDINGS_FOLDER = "rankings", "embeddings"
"""Of an evaluation; the clusters of units are there where a set names some; the embeddings are shards of document
vectors, while they are needed."""
PROFILES, PROFILE_FILE, TRACE_FILE = "profiles", "profile.csv", "trace.json"
"""By the id of an evaluation, where the time of its last profiled run went; free to be deleted."""
TUNING_FILE = "tuning.json"
"""In the folder of a search for hyper-parameters: what came out."""

WRITTEN_INTO = (
    LOCKS,
    VECTORS,
    f"{CACHE}/{TOKENS}/*",
    *(f"{name}/*" for name in FOLDERS.values()),
    f"{FOLDERS['evaluation']}/*/{EMBEDDINGS_FOLDER}",
    f"{STUDIES}/*",
    f"{STUDIES}/*/{CELLS}",
    f"{FAILURES}/*",
    f"{TUNING}/*",
    f"{REPORTS}/*",
    f"{REPORTS}/*/*",
    f"{PROFILES}/*",
    SUBMISSIONS,
)
"""Folders of a store in which drafts may be left over."""


def write_atomically(path: Path, text: str) -> None:
    """Write a text file by a temporary file, fsync and rename: readers see the old file or the whole new one."""
    draft = draft_of(path)
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def safe_name(text: str) -> str:
    """Return a text as a file name: anything but letters, digits, dot, dash and underscore is replaced."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".") or "_"


def file_name(text: str) -> str:
    """Return a text as a file name of its own: what `safe_name` changes gets a digest, so that no two texts meet."""
    safe = safe_name(text)
    return safe if safe == text else f"{safe}-{digest(text)[:8]}"


def disk_trouble(error: OSError) -> str | None:
    """Return a one-line message for an error of a full or read-only disk, or None when it is something else."""
    words = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the disk is read-only",
        errno.EFBIG: "the file size limit is reached",
    }
    if error.errno not in words:
        return None
    where = f" at {error.filename}" if error.filename else ""
    return (
        f"{words[error.errno]}{where}; finished stages are kept: make room (or point runtime.results elsewhere) and "
        f"issue the same command again"
    )
