"""An entropy coder: symbols with given probabilities become about -log2 p bits each, and come back without loss.

rANS, range asymmetric numeral systems [Duda 2013, "Asymmetric numeral systems: entropy coding combining speed of
Huffman coding with compression rate of arithmetic coding"]. All that was coded is one whole number x. A symbol s
that owns f_s of the 2^24 places of a table, from c_s on, is pushed and popped by

    push    x' = 2^24 (x // f_s) + c_s + x mod f_s
    pop     c_s <= x mod 2^24 < c_s + f_s finds s;   x' = f_s (x // 2^24) + x mod 2^24 - c_s

Each undoes the other, and x grows by log2(2^24 / f_s) bits: the symbol's information. It is a stack: the last symbol
is popped first, so that the symbols are pushed in reverse. So that x stays a number of a machine, its lowest 32 bits
go to the stream before it would grow past 2^64, and come back when it falls below 2^32.

All is exact in whole numbers: that the coder is without loss does not depend on rounding. What does is the table,
made of floating-point probabilities: both sides must compute the same bits of them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from minivae.errors import InputError

BITS = 24  # of a table: the finest probability is 2^-24
TOTAL = 1 << BITS
LOW = 1 << 32  # the state x lies in [2^32, 2^64)
MOST = TOTAL >> 4  # symbols of a table
WORD = 0xFFFFFFFF


def table(probabilities: Any) -> Any:
    """Probabilities (..., K) -> the bounds of each symbol's places, (..., K + 1) int64, from 0 to 2^24.

    No symbol has none: a code that the model holds to be impossible still comes back. What rounding leaves over
    goes to the likeliest symbol.
    """
    p = np.asarray(probabilities, np.float64)
    k = p.shape[-1]
    total = p.sum(-1, keepdims=True)
    if not 1 <= k <= MOST or (p < 0).any() or not (np.isfinite(total) & (total > 0)).all():
        raise ValueError(f"table: {k} probabilities must be from 1 to {MOST:,} numbers of at least 0, and not all 0.")
    f = 1 + np.floor(p / total * (TOTAL - k)).astype(np.int64)
    left = TOTAL - f.sum(-1, keepdims=True)
    np.put_along_axis(f, p.argmax(-1)[..., None], np.take_along_axis(f, p.argmax(-1)[..., None], -1) + left, -1)
    return np.concatenate([np.zeros_like(left), f.cumsum(-1)], axis=-1)


def information(bounds: Any, symbols: Any) -> float:
    """The bits that symbols (...) cost under tables (..., K + 1): the sum of log2(2^24 / f)."""
    low, high = (np.take_along_axis(bounds, np.asarray(symbols, np.int64)[..., None] + i, -1) for i in (0, 1))
    return float((BITS - np.log2(high - low)).sum())


class Encoder:
    """Takes the places of symbols in the order in which they are to be read, and writes them at the end."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int]] = []  # (c_s, f_s)

    def add(self, bounds: Any, symbols: Any) -> None:
        """Symbols (N,), each with its table, bounds (N, K + 1)."""
        low, high = (np.take_along_axis(bounds, np.asarray(symbols, np.int64)[:, None] + i, 1)[:, 0] for i in (0, 1))
        self._places += zip(low.tolist(), (high - low).tolist(), strict=True)

    def finish(self) -> bytes:
        """The stream: the state, 8 bytes, then the words in the order in which they are read, 4 bytes each."""
        x, words = LOW, []
        for start, f in reversed(self._places):
            if x >= f << (64 - BITS):
                words.append(x & WORD)
                x >>= 32
            x = (x // f << BITS) + start + x % f
        return x.to_bytes(8, "big") + b"".join(word.to_bytes(4, "big") for word in reversed(words))


class Decoder:
    """Reads a stream. Raises InputError where it ends too soon, or has more than was asked for."""

    def __init__(self, stream: bytes):
        self._state = int.from_bytes(stream[:8], "big")
        self._words = iter([int.from_bytes(stream[i : i + 4], "big") for i in range(8, len(stream), 4)])
        if len(stream) < 8 or len(stream) % 4:
            raise InputError(f"a stream of {len(stream)} bytes is truncated: take the whole file.")

    def take(self, bounds: Any) -> Any:
        """The next symbols (N,), of tables (N, K + 1)."""
        symbols = np.empty(len(bounds), np.int64)
        for i, row in enumerate(np.asarray(bounds).tolist()):
            place = self._state & (TOTAL - 1)
            s = bisect_right(row, place) - 1
            self._state = (row[s + 1] - row[s]) * (self._state >> BITS) + place - row[s]
            if self._state < LOW:
                word = next(self._words, None)
                if word is None:
                    raise InputError("the stream ends before its last symbol: take the whole file.")
                self._state = self._state << 32 | word
            symbols[i] = s
        return symbols

    def finish(self) -> None:
        """Raise InputError unless all was read, back to where the encoder began."""
        if self._state != LOW or next(self._words, None) is not None:
            raise InputError("the stream does not end with its last symbol: it was altered, or the model is another.")
