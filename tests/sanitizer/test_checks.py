"""Claims of ranges and shapes, compared with a file of a given size."""

from __future__ import annotations

import pytest
from claims import description, entries, storage, tensor

from fifomark.core.findings import Level
from fifomark.core.policy import Limits
from fifomark.sanitizer.checks import Checked, check
from fifomark.torchfile.description import Description, Entry, Member, Tensor


def checked(seen: Description, size: int = 400, limits: Limits = Limits()) -> Checked:  # noqa: B008
    return check(seen, entries(*(f"w{i}" for i in range(len(seen.tensors)))), size, limits)


def one(claim: Tensor, nbytes: int = 400) -> Checked:
    return checked(description(storages=(storage(nbytes),), tensors=(claim,)), nbytes)


def codes(result: Checked) -> list[tuple[str, Level]]:
    return [(finding.code, finding.level) for finding in result.findings]


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((100,), (1,), 0),
        ((10, 10), (1, 10), 0),
        ((), (), 99),
        ((0, 1 << 20), (1 << 20, 1), 0),
        ((0,), (1,), 1 << 40),
        ((1, 1), (1 << 61, 1 << 61), 99),
    ],
)
def test_a_view_inside_its_storage_is_taken(shape: tuple[int, ...], stride: tuple[int, ...], offset: int) -> None:
    result = one(tensor(shape, stride, offset))
    assert [name for name, _ in result.views] == ["w0"]
    assert not any(level.rank > Level.NOTE.rank for _, level in codes(result))


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((101,), (1,), 0),
        ((100,), (1,), 1),
        ((), (), 100),
        ((2, 2), (99, 1), 0),
        ((1 << 61, 1 << 61), (0, 0), 0),
        ((1 << 61, 1 << 61, 0), (0, 0, 0), 0),
        ((1 << 40,), (1 << 40,), 0),
        ((2,), (1, 1), 0),
    ],
)
def test_a_view_outside_its_storage_or_of_an_impossible_shape_is_unsafe(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    result = one(tensor(shape, stride, offset))
    assert (result.views, codes(result)) == ([], [("FM301", Level.UNSAFE)])


def test_the_last_partial_element_of_a_storage_is_outside() -> None:
    assert codes(one(tensor((2,)), nbytes=7)) == [("FM301", Level.UNSAFE)]


def test_indices_that_do_not_exist_are_unsafe() -> None:
    assert codes(one(tensor(storage=1))) == [("FM301", Level.UNSAFE)]
    nobody = check(description(), (Entry(name="w", tensor=5),), 400, Limits())
    assert codes(nobody) == [("FM301", Level.UNSAFE)]


@pytest.mark.parametrize("dtype", ["qint8", "int3", "bits8", "float99"])
def test_a_dtype_without_a_twin_is_refused_by_name(dtype: str) -> None:
    result = one(tensor((4,), dtype=dtype))
    assert codes(result) == [("FM304", Level.INVALID)]
    assert dtype in result.findings[0].message


def test_a_storage_outside_the_file_is_unsafe() -> None:
    assert codes(checked(description(storages=(storage(400, start=1),), tensors=(tensor(),)))) == [("FM301", Level.UNSAFE)]


def test_a_stored_storage_of_two_sizes_is_unsafe() -> None:
    assert codes(checked(description(storages=(storage(400, stored=40),), tensors=(tensor(),)))) == [("FM301", Level.UNSAFE)]


def test_storages_that_share_bytes_of_the_file_are_ambiguous() -> None:
    both = description(storages=(storage(400), storage(400, start=396)), tensors=(tensor(),))
    assert codes(checked(both, 1000)) == [("FM109", Level.UNSAFE)]


def test_storages_without_bytes_may_lie_anywhere() -> None:
    both = description(storages=(storage(400), storage(0, start=200), storage(0, start=400)), tensors=(tensor(),))
    assert codes(checked(both)) == []


def test_what_inflates_beyond_the_budget_is_too_large() -> None:
    large = description(storages=(storage(600, stored=10, method=8), storage(600, start=10, stored=10, method=8)), tensors=(tensor(),))
    assert codes(checked(large, limits=Limits(inflated_bytes=1000))) == [("FM110", Level.INVALID)]


def test_a_small_expanded_view_is_written_out_with_a_note() -> None:
    result = one(tensor((10, 100), (0, 1)))
    assert codes(result) == [("FM302", Level.NOTE)]
    assert result.views


def test_an_expanded_view_beyond_the_budget_is_refused() -> None:
    result = one(tensor((100_000, 100_000), (0, 0)))
    assert (result.views, codes(result)) == ([], [("FM302", Level.INVALID)])


def test_many_views_of_one_storage_count_against_the_budget_together() -> None:
    seen = description(storages=(storage(),), tensors=tuple(tensor((90,), offset=i) for i in range(11)))
    assert codes(checked(seen)) == []
    assert codes(checked(seen, limits=Limits(expanded_bytes=3000))) == [("FM302", Level.INVALID)]


def test_ties_count_once() -> None:
    seen = description(storages=(storage(),), tensors=(tensor(),) * 50)
    assert len(checked(seen, limits=Limits(expanded_bytes=1)).views) == 50


def test_too_many_bytes_and_too_many_tensors_are_refused() -> None:
    seen = description(storages=(storage(),), tensors=(tensor((50,)), tensor((50,), offset=50)))
    assert codes(checked(seen, limits=Limits(clean_bytes=399))) == [("FM110", Level.INVALID)]
    assert codes(checked(seen, limits=Limits(tensors=1))) == [("FM110", Level.INVALID)]


@pytest.mark.parametrize(
    ("nbytes", "tensors"),
    [
        (99 * 3 * 16_400 + 1, [tensor((100,) * 3, (16_400,) * 3, dtype="int8")]),
        (512 << 20, [tensor((31_900,), (4200,), i) for i in range(9)]),
        (64 << 20, [tensor((4000,), (4096,), i) for i in range(1000)]),
    ],
    ids=["all far", "far columns", "many"],
)
def test_views_that_cost_more_reading_than_a_file_of_that_size_is_worth_are_refused(nbytes: int, tensors: list[Tensor]) -> None:
    """Five kilobytes of deflated zeros were read byte by byte for minutes."""
    packed = storage(nbytes, stored=5000, method=8)
    assert codes(checked(description(storages=(packed,), tensors=tuple(tensors)), 6000))[0] == ("FM302", Level.INVALID)


@pytest.mark.parametrize(
    ("nbytes", "tensors"),
    [
        (8 << 30, [tensor((1024, 2 << 20), (1, 1024))]),
        (8 << 30, [tensor((2 << 20, 1024), (1, 2 << 20))]),
        (8 << 30, [tensor((46_340, 46_340), (1, 46_340))]),
        (1 << 30, [tensor((16_384, 16_384), (1, 16_384))]),
        (2 << 30, [tensor((50_000,), (8192,), 5)]),
        (2 << 30, [tensor((50_000, 10), (8192, 1), 5)]),
        (2 << 30, [tensor((512, 512, 3, 3), (4608 * 100, 100, 153_600, 51_200))]),
        (4_000_000, [tensor((1000,), (1000,), i) for i in range(1000)]),
        (400 << 20, [tensor((100_000, 128), (1024, 1), 128 * i) for i in range(8)]),
    ],
)
def test_honest_views_that_lie_far_apart_are_taken_however_large_they_are(nbytes: int, tensors: list[Tensor]) -> None:
    seen = description(storages=(storage(nbytes),), tensors=tuple(tensors))
    assert {level for _, level in codes(checked(seen, nbytes + 1000, Limits(file_bytes=9 << 30)))} <= {Level.NOTE}


def test_a_deflated_storage_that_must_be_held_in_memory_has_a_bound() -> None:
    packed = storage(600 << 20, stored=500 << 20, method=8)
    whole, transposed = tensor((150 << 20,)), tensor((150 << 10, 1024), (1, 150 << 10))
    for tensors, expected in (((whole,), []), ((transposed,), [("FM110", Level.INVALID)]), ((whole, whole), [])):
        assert codes(checked(description(storages=(packed,), tensors=tensors), 501 << 20)) == expected
    small = storage(500 << 20, stored=400 << 20, method=8)
    assert codes(checked(description(storages=(small,), tensors=(tensor((125 << 10, 1024), (1, 125 << 10)),)), 501 << 20)) == []


@pytest.mark.parametrize(("stored", "expected"), [(2 << 20, [("FM110", Level.INVALID)]), (100 << 20, [])])
def test_what_inflates_more_than_any_weights_do_is_refused(stored: int, expected: list[tuple[str, Level]]) -> None:
    packed = storage(2 << 30, stored=stored, method=8)
    assert codes(checked(description(storages=(packed,), tensors=(tensor((1 << 29,)),)), stored + 1000)) == expected


def test_bytes_that_no_tensor_shows_are_a_note_with_their_number() -> None:
    result = one(tensor((10,), offset=5))
    assert codes(result) == [("FM303", Level.NOTE)]
    assert "360 bytes" in result.findings[0].message


def test_bytes_between_the_elements_of_a_view_are_hidden_too() -> None:
    assert "200 bytes" in one(tensor((50,), (2,))).findings[0].message


def test_tensors_that_were_not_chosen_hide_nothing() -> None:
    seen = description(storages=(storage(),), tensors=(tensor((50,)), tensor((50,), offset=50)))
    assert codes(check(seen, entries("w"), 400, Limits())) == []


def test_records_that_are_no_part_of_the_model_are_a_note() -> None:
    result = checked(description(storages=(storage(),), tensors=(tensor(),), members=(Member(name="archive/run.exe", nbytes=5),)))
    assert codes(result) == [("FM112", Level.NOTE)]
    assert "run.exe" in (result.findings[0].evidence or "")
