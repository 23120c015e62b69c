"""The frame that all files of people are read in: what passes unchanged, what is refused, and that it is bounded."""

from __future__ import annotations

import csv
import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate import reading
from ablate.records import UserError


def test_lines_by_hand(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfone\r\n \t\n\xe2\x80\xa8two \xc2\xa0\r\r\n\xef\xbb\xbfthree"
    for name, stored in (("a", content), ("a.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(stored)
        # a byte order mark counts at the beginning only; a line separator is a character like others
        assert list(reading.lines(tmp_path / name)) == [(1, "one"), (3, "\u2028two \u00a0"), (4, "\ufeffthree")]
    hashed = hashlib.sha256()
    list(reading.lines(tmp_path / "a", hashed))
    assert hashed.digest() == hashlib.sha256(b"a\x00%d\x00" % len(content) + content).digest()


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.booleans())
def test_whatever_the_bytes_are_they_are_lines_or_one_error_with_the_file(content: bytes, packed: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("any.gz" if packed else "any")
        path.write_bytes(content)
        for parse in (lambda text, place: text, reading.parse_json):
            try:
                for number, line in reading.lines(path):
                    parse(line, reading.at(path, number))
            except UserError as error:
                assert str(error).startswith(str(path)) and "\n" not in str(error)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec=None), max_size=6))
def test_an_id_that_is_allowed_survives_every_file(text: str) -> None:
    if reading.bad_id(text):
        assert not text or any(
            ord(one) <= 0x20 or 0x7F <= ord(one) <= 0x9F or 0xD800 <= ord(one) < 0xE000 for one in text
        )
    else:
        assert reading.columns(f" q\t{text}  1\r") == ["q", text, "1"]
        assert reading.tabbed(f"q\t{text}\t1\r") == ["q", text, "1"]
        assert text.encode().decode() == text


def test_a_bomb_is_given_up_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ALWAYS_UNPACKED", 1000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"word\n" * 100_000))
    read = []
    with pytest.raises(UserError, match=r"bomb.gz, line \d+: unpacks to more than 100 times its \d+ bytes"):
        read.extend(reading.lines(tmp_path / "bomb.gz"))
    text = b"".join(b"%d words\n" % (number * number) for number in range(5000))
    (tmp_path / "text.gz").write_bytes(gzip.compress(text))
    assert len(list(reading.lines(tmp_path / "text.gz"))) == 5000


def test_a_long_line_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 10)
    (tmp_path / "a").write_bytes(b"123456789\n1234567890a\n")
    with pytest.raises(UserError, match="a, line 2: longer than 10 bytes"):
        list(reading.lines(tmp_path / "a"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (csv.Error("field larger than field limit (131072)"), "field larger than field limit"),
        (OverflowError("too\nlarge"), "too large"),
        (NotImplementedError("a list"), "a list"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
def test_faults_of_parsers_are_one_line(error: Exception, told: str) -> None:
    with pytest.raises(UserError, match=rf"^a.csv: not a table \({told}.*\); write it again$"):
        with reading.faults("a.csv: not a table", "write it again"):
            raise error
    with pytest.raises(UserError, match="^as it is$"), reading.faults("a", "b"):
        raise UserError("as it is")
    with pytest.raises(AssertionError), reading.faults("a", "b"):
        raise AssertionError("our own mistake")


def test_errors_of_arrow_are_caught_where_it_is_loaded() -> None:
    import pyarrow

    for kind in (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, pyarrow.ArrowCapacityError):
        with pytest.raises(UserError, match="a: broken"), reading.faults("a: broken", "mend it"):
            raise kind("x")


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert reading.json_object(r'{"a": "\ud83d\ude00"}', "here") == {"a": "\U0001f600"}
    with pytest.raises(UserError, match=r"^here: .ude00 is half of a surrogate pair"):
        reading.json_object(r'{"a": ["\ude00\ud83d"]}', "here")
