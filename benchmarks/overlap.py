"""Time, memory and recall of looking for documents that are near a training passage.

    python -m benchmarks.overlap --documents 100000 --passages 100000

Texts are draws of words with Zipf's frequencies, 40 to 160 of them. A tenth of the documents are copies of a passage in
which a share of the words was exchanged at random places. Seconds and the highest resident size are of one process
that makes the texts anew whenever they are asked for, with the seconds of making them beside it. Recall and others:
against the definition, shingles as sets of words, on the first documents and the passages that they were copied from.
Times of a busy machine mean little: the load is printed.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from ablate.data.overlap import MOST_SHINGLES, NEAR, SHINGLE_WORDS, near, words_of

VOCABULARY, COPIED, CHECKED = 100_000, 10, 2_000
"""Different words; every which document is a copy; documents that are compared by the definition."""


def passage(number: int, salt: int = 0) -> list[str]:
    """Return the words of a made text: the same number is the same text."""
    generator = np.random.Generator(np.random.PCG64([salt, number]))
    drawn = generator.random(int(generator.integers(40, 161)))
    return [f"w{word}" for word in np.exp(drawn * np.log(VOCABULARY)).astype(int)]


def passages(number: int) -> Iterator[str]:
    """Yield training passages."""
    return (" ".join(passage(place)) for place in range(number))


def documents(number: int, num_passages: int) -> Iterator[str]:
    """Yield documents, some of them copies of passages with up to a fifth of their words exchanged."""
    for place in range(number):
        if place % COPIED:
            yield " ".join(passage(place, 1))
            continue
        words = passage(place % num_passages)
        generator = np.random.Generator(np.random.PCG64([2, place]))
        for at in np.flatnonzero(generator.random(len(words)) < 0.2 * generator.random()):
            words[at] = "exchanged"
        yield " ".join(words)


def shingles(text: str) -> set[tuple[str, ...]]:
    """Return the shingles of a text by their definition."""
    words = words_of(text)
    return {tuple(words[at : at + SHINGLE_WORDS]) for at in range(max(1, len(words) - SHINGLE_WORDS + 1))}


def measure(num_documents: int, num_passages: int, most_shingles: int) -> dict[str, float]:
    """Return seconds, memory, and how the first documents compare with the definition."""
    began = time.perf_counter()
    made = sum(len(text) for text in (*passages(num_passages), *documents(num_documents, num_passages)))
    making = time.perf_counter() - began
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    found = set[tuple[int, int]]()
    parts = 0

    def read() -> Iterator[str]:
        nonlocal parts
        parts += 1
        return documents(num_documents, num_passages)

    for matches in near(passages(num_passages), read, NEAR, most_shingles):
        found.update(zip(matches.documents.tolist(), matches.passages.tolist(), strict=True))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wanted = set[tuple[int, int]]()
    for place, text in zip(
        range(min(CHECKED * COPIED, num_documents)), documents(num_documents, num_passages), strict=False
    ):
        if place % COPIED == 0:
            own, copied = shingles(text), shingles(" ".join(passage(place % num_passages)))
            if len(own & copied) >= NEAR * len(own):
                wanted.add((place, place % num_passages))
    checked = {pair for pair in found if pair[0] < CHECKED * COPIED}
    return {
        "documents": num_documents,
        "passages": num_passages,
        "characters": made,
        "passes": parts,
        "seconds": seconds,
        "of them making texts": making * (1 + (parts - 1) * num_documents / (num_documents + num_passages)),
        "MiB before": before,
        "MiB at most": peak,
        "near": len(found),
        "of those looked at": len(wanted),
        "recall": len(wanted & checked) / len(wanted),
        "others": len(checked - wanted),
        "load": os.getloadavg()[0],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--documents", type=int, default=100_000)
    made.add_argument("--passages", type=int, default=100_000)
    made.add_argument("--most-shingles", type=int, default=MOST_SHINGLES)
    args = made.parse_args(argv)
    record = measure(args.documents, args.passages, args.most_shingles)
    for name, value in record.items():
        print(f"{name:<22}{value:,.3f}" if isinstance(value, float) else f"{name:<22}{value:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
