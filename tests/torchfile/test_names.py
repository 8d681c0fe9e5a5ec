"""Names of tensors and of records that do not mean the same to everybody."""

from __future__ import annotations

import struct

import builders as b
import pytest
from describing import codes, described, tensors

HALF = b"X" + struct.pack("<I", 4) + b"a\xed\xa0\x80"  # "a" and the first half of a pair of surrogates


def one(name: bytes) -> bytes:
    return b.archive(b.pickled(b.dict_of((name, b.tensor("0", (4,))))), {"0": bytes(16)})


def test_half_a_character_in_a_tensors_name_is_refused_and_not_made_another_name() -> None:
    assert codes(described(one(HALF))) == ["FM304"]
    assert list(tensors(described(one(b.text("\ue000"))))) == ["\ue000"]


def test_half_a_character_in_the_key_that_leads_to_the_weights_is_refused() -> None:
    inner = b.dict_of((b.text("w"), b.tensor("0", (4,))))
    assert codes(described(b.archive(b.pickled(b.dict_of((HALF, inner))), {"0": bytes(16)}))) == ["FM304"]


def test_half_a_character_beside_the_weights_does_not_matter() -> None:
    pairs = (b.text("w"), b.tensor("0", (4,))), (b.text("epoch"), HALF), (HALF, b.integer(1))
    description = described(b.archive(b.pickled(b.dict_of(*pairs)), {"0": bytes(16)}))
    assert (codes(description), list(tensors(description))) == ([], ["w"])


@pytest.mark.parametrize("key", ["", "0/"])
def test_a_storage_under_the_name_of_a_folder_is_ambiguous(key: str) -> None:
    """torch's zip reader finds no bytes in a folder, and gives the tensor whatever was in memory."""
    pickle = b.pickled(b.dict_of((b.text("w"), b.tensor(key, (4,)))))
    assert codes(described(b.archive(pickle, {key: bytes(16)}))) == ["FM109"]


def test_metadata_of_torchs_own_that_is_long_is_listed_with_its_size() -> None:
    extra = {"archive/.data/serialization_id": b"0" * 40, "archive/.format_version": b"MZ" * 5000}
    description = described(b.archive(b.pickled(b.dict_of()), {}, extra=extra))
    assert [(member.name, member.nbytes) for member in description.members] == [("archive/.format_version", 10_000)]


@pytest.mark.parametrize("name", ["archive/data.p\u212al", "archive/DATA.PKL", "archive/\u017f/../data.pkl", "Archive/data.pkl"])
def test_a_second_model_by_any_folding_of_its_name_is_ambiguous(name: str) -> None:
    pickle = b.pickled(b.dict_of((b.text("w"), b.tensor("0", (4,)))))
    assert codes(described(b.archive(pickle, {"0": bytes(16)}, extra={name: pickle}))) == ["FM109"]


@pytest.mark.parametrize("name", ["archive/\u017ferialization", "archive/ver\u017fion"])
def test_letters_that_only_some_readers_fold_are_ambiguous_where_they_make_a_known_name(name: str) -> None:
    pickle = b.pickled(b.dict_of((b.text("w"), b.tensor("0", (4,)))))
    description = described(b.archive(pickle, {"0": bytes(16)}, extra={name: b"3"}))
    assert codes(description) == (["FM109"] if name.endswith("ver\u017fion") else [])


@pytest.mark.parametrize("again", [b.integer(-1), b.integer(1), b"\x88", b"G\x3f\xf0" + bytes(6)], ids=["-1", "1", "True", "1.0"])
def test_what_a_number_named_first_is_gone_once_something_else_has_the_number(again: bytes) -> None:
    first = b.integer(-1) if again == b.integer(-1) else b.integer(1)
    pairs = (first, b.tensor("0", (4,))), (b.text("w"), b.tensor("0", (4,))), (again, b.text("no tensor"))
    for made in (b.ordered_dict(*pairs), b.dict_of(*pairs)):
        assert list(tensors(described(b.archive(b.pickled(made), {"0": bytes(16)})))) == ["w"]


def test_what_is_told_of_a_set_does_not_depend_on_the_order_it_happens_to_have() -> None:
    few, many = (b"\x8f(" + b"".join(b.text(f"{i}") for i in range(count)) + b"\x90" for count in (8, 9))
    for items, told in ((few, "{'0', '1', '2', '3', '4', '5', '6', '7'}"), (many, "<set of 9>")):
        description = described(b.archive(b"\x80\x04" + b.call("posix.system", items) + b".", {}))
        assert [call.text for call in description.calls] == [f"posix.system({told})"]
