"""What made a number beside its recipe: code, packages, machine, time."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from ablate.plugins import plugin_versions
from ablate.project import ROOT
from ablate.store.integrity import sha256_of

PACKAGES = (
    "torch",
    "lightning",
    "transformers",
    "tokenizers",
    "peft",
    "faiss-cpu",
    "bm25s",
    "numpy",
    "scipy",
    "hydra-core",
)
"""Whose versions are recorded: they can change a number."""


def now() -> str:
    """Return the present time in UTC, to the second, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


CODE = ("ablate", "hydra_plugins/ablate_*")
"""What makes the numbers, as patterns of folders beside each other; values (conf/, sweeps/) are in the recipes."""


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 over the files of CODE, by path and content, as they were when it was first asked for.

    It is the same of a checkout and of a wheel that was built from it, whose copy of the values is passed over.
    """
    hashed = hashlib.sha256()
    for folder in (folder for pattern in CODE for folder in sorted(ROOT.glob(pattern))):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and not path.is_relative_to(ROOT / "ablate/shipped"):
                hashed.update(f"{path.relative_to(ROOT).as_posix()}\0{sha256_of(path)}\n".encode())
    return hashed.hexdigest()


def git_state() -> dict[str, Any]:
    """Return what is known of the code that runs: commit and dirty flag of its repository, digest, changed files.

    `dirty` looks at the whole working tree; `code` is `code_digest`; `changed` names the files of CODE that differ from
    the commit, new ones too. Outside a repository that tracks the code, commit None and nothing of `dirty` and
    `changed`, and `release`, the version of the distribution that it was installed from: an environment may lie inside
    somebody else's repository, whose commit says nothing about it.
    """

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=ROOT / "ablate", capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if not git("ls-files", "--", "__init__.py"):
        return {"commit": None, "dirty": None, "code": code_digest(), "changed": None, "release": release()}
    status = git("status", "--porcelain")
    folders = dict.fromkeys(str(ROOT / pattern.split("/")[0]) for pattern in CODE)
    listed = git("status", "--porcelain", "-z", "--no-renames", "-uall", "--", *folders)
    changed = None if listed is None else sorted(entry.lstrip()[2:].lstrip() for entry in listed.split("\0") if entry)
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "code": code_digest(),
        "changed": changed,
    }


def release() -> str | None:
    """Return the version of the distribution that this code was installed from, or None when it was not installed."""
    for distribution in importlib.metadata.distributions(name="ablate", path=[str(ROOT)]):
        return distribution.version
    return None


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a number, those that bring plugins too."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions | plugin_versions()


def machine() -> dict[str, Any]:
    """Return what this machine is: system, processor, cores."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    return {"system": platform.system(), "processor": processor, "cores": os.cpu_count()}
