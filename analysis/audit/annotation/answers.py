"""The answers of one rater in a file of judgments: each is on the disk before anyone is told that it is saved.

A new answer is appended; one that is changed or taken back means a new file in place of the old. A last line that a
kill cut off was never told to be saved: it is left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ablate.data.judgments import judgment_line
from ablate.randomness import key
from ablate.records import UserError
from ablate.store.files import write_atomically
from analysis.audit.items import read_judgments
from analysis.audit.sample_folder import SampleFolder
from analysis.audit.sampling import Answer, answers_of, judgment_of


class AnswerFile:
    """What a rater said, by sheet, in the order in which it was said."""

    def __init__(self, sample: SampleFolder, rater: str) -> None:
        self.sample, self.rater = sample, rater
        self.path = sample.answers_path(rater)
        self.was_torn = _mend(self.path)
        self._answers: dict[str, tuple[Answer, ...]] = {}
        sheet_of = {item.id: name for name, item in sample.sheets.items()}
        for judgment in read_judgments([self.path], sample.items):
            if judgment.rater != rater or judgment.kind != "human" or judgment.item_id not in sheet_of:
                raise UserError(
                    f"{self.path}: the {judgment.kind} {judgment.rater!r} on item {judgment.item_id!r} is no answer of "
                    f"{rater!r} on a sheet of this sample; move the file away"
                )
            name = sheet_of[judgment.item_id]
            self._answers[name] = answers_of(judgment, sample.sheets[name], sample.seed)

    @property
    def answers(self) -> Mapping[str, tuple[Answer, ...]]:
        """Return sheet -> its four answers, in the order in which they were given."""
        return MappingProxyType(self._answers)

    def save(self, sheet: str, answers: Sequence[Answer]) -> None:
        """Write the four answers of a sheet; they are on the disk when this returns."""
        if self._answers.get(sheet) == tuple(answers):
            return
        if sheet in self._answers:
            self._replace({**self._answers, sheet: tuple(answers)})
            return
        with open(self.path, "ab") as file:
            start = file.tell()
            try:
                file.write(self._line(sheet, answers).encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:  # a full disk may have taken half of the line
                with contextlib.suppress(OSError):
                    os.truncate(self.path, start)
                raise
        self._answers[sheet] = tuple(answers)

    def save_all(self, answers: Mapping[str, Sequence[Answer]]) -> None:
        """Write the answers of several sheets, all of them or none."""
        self._replace({**self._answers, **{sheet: tuple(given) for sheet, given in answers.items()}})

    def take_back(self, sheet: str) -> None:
        """Remove the answers of a sheet, if there are any; they are off the disk when this returns."""
        if sheet in self._answers:
            self._replace({name: given for name, given in self._answers.items() if name != sheet})

    def _replace(self, answers: dict[str, tuple[Answer, ...]]) -> None:
        write_atomically(self.path, "".join(self._line(sheet, given) for sheet, given in answers.items()))
        _sync_folder(self.path.parent)
        self._answers = answers

    def _line(self, sheet: str, answers: Sequence[Answer]) -> str:
        return judgment_line(judgment_of(answers, self.sample.sheets[sheet], self.sample.seed, self.rater))


@contextlib.contextmanager
def answer_file(sample: SampleFolder, rater: str) -> Iterator[AnswerFile]:
    """Open the answers of a rater for this process alone; raises UserError while another process has them."""
    path = sample.answers_path(rater)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path} is in use by a page that is open; end that one with Ctrl-C first") from None
        yield AnswerFile(sample, rater)


def disputed(sample: SampleFolder, raters: Sequence[str]) -> dict[str, list[tuple[Answer, ...]]]:
    """Return sheet -> what each rater who judged it said, for the sheets on which they differ, in the order of sheets.

    Who is first is drawn for every sheet.

    Raises UserError for a rater without any answer, or whose page is open.
    """
    said: dict[str, list[tuple[Answer, ...]]] = {}
    for rater in raters:
        if not sample.answers_path(rater).is_file():
            raise UserError(f"{sample.answers_path(rater)} is missing; --adjudicate names raters who have answered")
        with answer_file(sample, rater) as file:
            if not file.answers:
                raise UserError(f"{file.path} holds no answer; --adjudicate names raters who have answered")
            for sheet, answers in file.answers.items():
                said.setdefault(sheet, []).append(answers)
    differing = [sheet for sheet in sample.sheets if len(set(said.get(sheet, ()))) > 1]
    return {sheet: _turned(said[sheet], key(sample.seed, "said", sheet)) for sheet in differing}


def _turned(answers: list[tuple[Answer, ...]], number: int) -> list[tuple[Answer, ...]]:
    """Return the answers from another one on, so that their order does not tell whose they are."""
    start = number % len(answers)
    return [*answers[start:], *answers[:start]]


def _mend(path: Path) -> bool:
    """Make the file if it is not there, and cut off a last line that is not whole; return whether there was one."""
    with open(path, "a+b") as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if is_torn := whole < len(content):
            with contextlib.suppress(ValueError):
                json.loads(content[whole:])  # written by hand, without a line feed at the end
                file.write(b"\n")
                is_torn = False
        if is_torn:
            file.truncate(whole)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)
    return is_torn


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: without that a crash of the machine may lose a file that is new."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
