"""Whatever the bytes are, there is a description of them, and nothing that they call is run."""

from __future__ import annotations

import re
from random import Random

import builders as b
import pytest
from describing import calls, codes, described
from fuzzing import bytewise, picklewise
from fuzzing.mutants import mutant
from fuzzing.seeds import seeds
from hypothesis import given, settings
from hypothesis import strategies as st

STARTS = (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x05\x95", b"\x89HDF", b"{", b"\x08\x03", b.pickled(b.integer(b.LEGACY_MAGIC)))
NUMBERS = st.integers(0, 1 << 32)


@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=600))
@settings(max_examples=400)
def test_any_bytes_are_described(start: bytes, rest: bytes) -> None:
    seen = described(start + rest)
    assert seen.container is None or seen.problems or seen.groups


@given(number=NUMBERS)
@settings(max_examples=400)
def test_opcodes_in_any_order_are_described_and_break_nothing_of_ours(number: int) -> None:
    pickle = picklewise.at_random(Random(number))
    for body in (pickle, b.archive(pickle, {"0": bytes(16)}), b.legacy(pickle, {})):
        messages = " ".join(problem.message for problem in described(body).problems)
        assert "it cannot be understood" not in messages


@given(number=NUMBERS)
@settings(max_examples=300)
def test_a_call_that_is_put_anywhere_into_a_pickle_is_seen(number: int) -> None:
    """Where reading comes past it, that is: what breaks off before is refused anyway."""
    rng = Random(number)
    honest = picklewise.ops_of(b.pickled(b.ordered_dict(*((b.text(n), b.tensor(n, (2,))) for n in "01"))))
    ops = picklewise.with_payload(honest, b.touch(marker := "/tmp/no/such/folder/marker"), rng)  # type: ignore[arg-type]
    seen = described(b.archive(b"".join(ops), {"0": bytes(8), "1": bytes(8)}))
    assert any(re.search(rf"posix\.system\('touch {marker}'\)", text) for text in calls(seen))


@given(number=NUMBERS)
@settings(max_examples=300)
def test_what_is_changed_and_read_without_a_word_is_still_whole(number: int) -> None:
    """Every byte of a zip's records is under a checksum or said twice."""
    rng = Random(number)
    seed = rng.choice([seed for seed in seeds() if seed.body.startswith(b"PK")])
    seen, honest = described(bytewise.changed(seed.body, rng)), described(seed.body)
    if not codes(seen) and seen.container is not None:
        assert (seen.groups, seen.tensors, seen.globals) == (honest.groups, honest.tensors, honest.globals)


@pytest.mark.parametrize("number", range(3))
def test_a_mutant_can_be_made_again(number: int) -> None:
    assert mutant("again", number, "/marker") == mutant("again", number, "/marker")
    assert mutant("again", number, "/marker") != mutant("other", number, "/marker")
