"""What is kept of a study beside its stages: its declarations, its cells as they were resolved, and its failures.

<root>/studies/<study>/<digest>.json   <root>/studies/<study>/cells/<digest>.json
<root>/failures/<study>/<label>-s<seed>.txt
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.recipe.values import digest, plain
from ablate.records import UserError, check_name
from ablate.secrets import scrub_text, scrub_texts
from ablate.store.files import CELLS, FAILURES, STUDIES, file_name, write_atomically
from ablate.store.integrity import read_json, reading
from ablate.store.provenance import now
from ablate.store.results import ResultStore
from ablate.study.declaration import DeclaredCell, Study, build_cells, declaration


class StudyRecords:
    """The records of one study in a store; raises UserError for a name that would leave their folder."""

    def __init__(self, store: ResultStore, study_name: str) -> None:
        check_name("study", study_name)
        self.store, self.name = store, study_name
        place = file_name(scrub_text(study_name))
        self._declarations = store.root / STUDIES / place
        self._failures = store.root / FAILURES / place

    def declare(self, study: Study, cells: Sequence[DeclaredCell]) -> str:
        """Keep a declaration under its digest, with the time at which it was first seen, and return the digest.

        One that is there already stays as it is; its cells are those of the last command, because what is no part of
        the declaration (arms, defaults, fixed overrides) may change them.
        """
        path = self._declarations / f"{study.digest}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.store.lock(f"declare-{study.digest}"):
                if not path.is_file():
                    content = {"declared_at": now(), "study": scrub_texts(declaration(study))}
                    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False))
        record = {"declaration": study.digest, "cells": scrub_texts(plain(cells))}
        text = json.dumps({**record, "digest": digest(record)}, indent=1)
        path = self._cells_file(study.digest)
        if not (path.is_file() and path.stat().st_size == len(text) and path.read_bytes() == text.encode()):
            with self.store.tolerating_no_space(f"the cells of {self.name} are not recorded in {path}"):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, text)
        return study.digest

    def declarations(self) -> dict[str, dict[str, Any]]:
        """Return digest -> {"declared_at", "study"} of all declarations of the study, the earliest first.

        Raises UserError for one that cannot be read.
        """
        contents: dict[str, dict[str, Any]] = {}
        for path in self._declarations.glob("*.json"):
            content = read_json(path, "move it away")
            if not isinstance(content, dict) or set(content) != {"declared_at", "study"}:
                raise UserError(f"{path} is not a readable declaration of a study; move it away")
            contents[path.stem] = content
        return dict(sorted(contents.items(), key=lambda item: (str(item[1]["declared_at"]), item[0])))

    def cells(self, declared: str) -> tuple[DeclaredCell, ...] | None:
        """Return the cells of the declaration with this digest, as they were resolved; None where none are recorded.

        Raises UserError for a record that cannot be read, was changed, or is that of another declaration.
        """
        path = self._cells_file(declared)
        if not os.path.lexists(path):
            return None
        remedy = "issue the study's command again, which records its cells anew"
        values = read_json(path, remedy)
        with reading(path, remedy):  # the digest is taken of what may be anything
            record = {"declaration": declared, "cells": values["cells"]}
            if values != {**record, "digest": digest(record)}:
                raise UserError(f"{path} was changed, or belongs to another declaration than {declared}; {remedy}")
            try:
                return build_cells(record["cells"])
            except UserError as error:
                raise UserError(f"{path} is no record of the cells of a study ({error}); {remedy}") from None

    def _cells_file(self, declared: str) -> Path:
        return self._declarations / CELLS / f"{declared}.json"

    def files(self) -> list[Path]:
        """Return the files of the declarations of the study and of their cells, in order of their names."""
        return sorted([*self._declarations.glob("*.json"), *self._declarations.glob(f"{CELLS}/*.json")])

    def failure_file(self, label: str, seed: int) -> Path:
        """Return where the failure of a run is described, whether it failed or not."""
        return self._failures / f"{file_name(scrub_text(label))}-s{seed}.txt"

    def failures(self) -> list[Path]:
        """Return the files of the runs that failed and did not succeed since."""
        return sorted(self._failures.glob("*.txt"))

    def keep_failure(self, label: str, seed: int, text: str) -> Path:
        """Write what went wrong in a run and return the file; it stays until the run succeeds."""
        path = self.failure_file(label, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, scrub_text(text))
        return path
