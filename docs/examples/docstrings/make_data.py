"""The data of this example: sentences of the standard library's docstrings, and the package that each is from. Run it with Python 3.11."""

from __future__ import annotations

import ast
import re
import sysconfig
import zlib
from pathlib import Path

import numpy as np

PACKAGES = ("asyncio", "email", "tkinter", "unittest", "xml")
WORDS = 2000  # a word's number is a hash of its letters: no list of words is needed to read a sentence
LENGTH = 24
HERE = Path(__file__).parent


def sentences(package: str) -> list[str]:
    """Every sentence of at least five words in the package's docstrings, once."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib"), package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").split())
                found.update(dict.fromkeys(part for part in re.split(r"(?<=[.!?]) ", text) if len(part.split()) >= 5))
    return list(found)


def tokens(sentence: str) -> list[int]:
    """Numbers from 1 to WORDS of the first LENGTH words; 0 fills up."""
    words = re.findall(r"[a-z]+", sentence.lower())[:LENGTH]
    return [zlib.crc32(word.encode()) % WORDS + 1 for word in words] + [0] * (LENGTH - len(words))


def main() -> None:
    rows = [(tokens(sentence), label) for label, package in enumerate(PACKAGES) for sentence in sentences(package)]
    order = np.random.default_rng(0).permutation(len(rows))
    x = np.array([rows[i][0] for i in order], np.int64)
    y = np.array([rows[i][1] for i in order], np.int64)
    cut = len(rows) * 2 // 3
    path = HERE / "data" / "docstrings.npz"
    np.savez_compressed(path, x_train=x[:cut], y_train=y[:cut], x_test=x[cut:], y_test=y[cut:])
    print(f"{len(rows)} sentences", dict(zip(PACKAGES, np.bincount(y).tolist(), strict=True)))


if __name__ == "__main__":
    main()
