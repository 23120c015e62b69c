"""What runs and their values are called with services, and the commands that hand them on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

NOTE_FILE = "ablate.json"
"""In the folder of a W&B run: its study, arm, id, project and ledger, and whether all of it is there."""
_LONGEST_TAG, _LONGEST_ID = 64, 128


def metric_name(name: str) -> str:
    """Return the flat key of a value in W&B: `d/pairs/both/one-sided rate` is `d/pairs/both/one-sided_rate`.

    W&B reads a dot as a level of nesting, and blanks or brackets end a name in its expressions; so anything but
    letters, digits, `_`, `-`, `/` and `@` becomes `_`.
    """
    return re.sub(r"[^A-Za-z0-9_/@-]+", "_", name).strip("_")


def run_name(run_id: str, attempt: int) -> str:
    """Return the id of an attempt in W&B: that of the run, with the number of the attempt from the second on."""
    whole = run_id if attempt <= 1 else f"{run_id}-{attempt}"
    return "".join("-" if sign in "/\\#?%: " else sign for sign in whole)[:_LONGEST_ID]


def tag_names(arm: str, tags: Sequence[str]) -> list[str]:
    """Return the tags of a run in W&B, the arm first: each once, cut to what W&B takes."""
    return list(dict.fromkeys(tag[:_LONGEST_TAG] for tag in (f"arm={arm}", *tags) if tag))


def sync_command(folder: object) -> str:
    """Return the line that sends the W&B run in a folder, as a shell reads it."""
    return shlex.join(["wandb", "sync", str(folder)])


def replay_command(ledger: object, folder: object, project: str, *options: str) -> str:
    """Return the line that puts a ledger into a service, as a shell reads it; `options` are those of its mirror."""
    return f"python -m ablate.tracking.mirror {shlex.join([str(ledger), str(folder), project, *options])}"
