"""Plain mutation of files: what is changed in them, for how long, and what must hold.

    FUZZ_SECONDS=600 FUZZ_SEED=7 pytest -n 0 tests/fuzz

gives each target ten minutes instead of the one second of the quick suite, from another seed.
"""

import os
import random
import resource
import time

import pytest

from dmlcsr_jax.errors import UserError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
# No input of a few kilobytes may take longer, or more memory, whatever it says of itself.
MOST_SECONDS = 20.0
MOST_KILOBYTES = 2_000_000

_INTERESTING = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
_WORDS = (
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"null", b"[]", b"{}", b'"', b"\\", b"\n", b"\0"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b",", b"/", b"../", b"%s", b"{SPLIT}", b"999999999999999999"),
)


def _change(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    place = rng.randrange(len(data) + 1)
    length = min(len(data) - place, rng.choice((1, 2, 4, 8, 64)))
    kind = rng.randrange(8)
    if kind == 0 and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[place : place + length] = rng.randbytes(length)
    elif kind == 2:
        del data[place : place + length]
    elif kind == 3:
        data[place:place] = rng.randbytes(rng.choice((1, 2, 4, 64)))
    elif kind == 4:
        size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
        number = rng.choice(_INTERESTING) % 256**size
        data[place : place + size] = number.to_bytes(size, order)
    elif kind == 5:
        data[place : place + rng.choice((0, length))] = rng.choice(_WORDS)
    elif kind == 6:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        data[place : place + length] = other[start : start + rng.choice((8, 64, 512))]
    elif rng.random() < 0.2:
        del data[place:]
    else:
        data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))


def mutants(seeds: list[bytes], *, keeps_length: bool = False):
    """Yields the seeds themselves, then changed ones until the time is up."""
    rng = random.Random(SEED)
    yield from seeds
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            if keeps_length:
                data[rng.randrange(len(data))] = rng.randrange(256)
            else:
                _change(data, rng, seeds)
        yield bytes(data)


def holds(seeds, read, check=lambda result: None, *, tmp_path, keeps_length=False) -> int:
    """Reads mutants: each gives a `UserError` or what `check` accepts.

    Returns how many were accepted. A mutant that ends the process is in `tmp_path/last`.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted = 0
    for data in mutants(seeds, keeps_length=keeps_length):
        (tmp_path / "last").write_bytes(data)
        started = time.monotonic()
        try:
            check(read(data))
            accepted += 1
        except UserError:
            pass
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}; the mutant is {tmp_path / 'last'}")
        seconds = time.monotonic() - started
        assert seconds < MOST_SECONDS, f"{seconds:.0f} s; the mutant is {tmp_path / 'last'}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_KILOBYTES, f"memory has grown by {grown:,} kB"
    assert accepted >= len(seeds), "a seed itself was refused"
    return accepted
