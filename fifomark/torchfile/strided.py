"""The elements of a view that do not lie one after another: gathered in bounded memory, in row-major order or in that of the storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from fifomark.torchfile.views import CHUNK, Source, View

if TYPE_CHECKING:
    import numpy.typing as npt

BLOCK = 64 << 20  # bytes gathered at once
_CALL = 16 << 10  # what a read or a write costs beside its bytes, in bytes: a gap of fewer is read along
Shape = tuple[int, ...]
Place = tuple[slice, ...]


def chunks(view: View, source: Source) -> Iterator[bytes | memoryview]:
    """The elements of `view` in row-major order, as bytes in pieces of whole elements, at most CHUNK each.

    The view must lie in its storage. Memory stays bounded whatever its size.
    """
    if view.contiguous:
        start, end = view.offset * view.dtype.itemsize, view.offset * view.dtype.itemsize + view.nbytes
        for at in range(start, end, CHUNK):
            yield source.read(at, min(CHUNK, end - at))
        return
    if view.nbytes <= CHUNK and _part(view) == view.shape:
        yield _read(view, source).tobytes()  # the small ones, of which there may be many
        return
    buffer = np.empty(min(view.nbytes, BLOCK), np.uint8)
    for _, band in _cut(view, _band(view)):
        data = _gathered(band, source, buffer)
        for at in range(0, len(data), CHUNK):
            yield bytes(data[at : at + CHUNK])  # a copy, since the buffer is filled anew


def scattered(view: View, source: Source) -> Iterator[tuple[int, memoryview]]:
    """The elements of `view` as bytes, each piece with its place among all of them in row-major order. It is gone with the next one.

    They come about in the order of the storage, each part of which is read about once.
    """
    buffer = np.empty(min(view.nbytes, BLOCK), np.uint8)
    for place, tile in _cut(view, _tile(view)):
        data, at = _gathered(tile, source, buffer), 0
        for start, size in _runs(view, place):
            yield start, data[at : at + size]
            at += size


def crosswise(view: View) -> bool:
    """Whether `chunks` would go through the same part of the storage many times."""
    return view.nbytes > BLOCK and cost(view) > 3 * view.nbytes


def cost(view: View) -> int:
    """What `chunks` costs, in bytes read: each band is a way through what lies between its elements, or many reads."""
    if view.contiguous:
        return view.nbytes
    band = _reshaped(view, _band(view))
    part = _reshaped(band, _part(band))
    return _count(view.shape, band.shape) * _count(band.shape, part.shape) * (_CALL + part.extent * view.dtype.itemsize)


def _band(view: View) -> Shape:
    """The shape of parts of at most BLOCK bytes, cut along the outermost dimensions."""
    shape, nbytes = list(view.shape), view.nbytes
    for dim, n in enumerate(view.shape):
        if nbytes <= BLOCK:
            break
        nbytes //= n
        shape[dim] = max(1, BLOCK // nbytes)
        nbytes *= shape[dim]
    return tuple(shape)


def _tile(view: View) -> Shape:
    """The shape of parts of at most BLOCK bytes whose elements lie in long runs both in the storage and in row-major order."""
    orders = range(len(view.shape)), sorted(range(len(view.shape)), key=lambda dim: -view.stride[dim])

    def calls(shape: Shape) -> float:
        """By the element: of the writes, and of the reads."""
        return sum(1 / _run(shape, view.shape, order) for order in orders)

    shape = view.shape
    while prod(shape) * view.dtype.itemsize > BLOCK:
        shape = min((_halved(shape, order) for order in orders), key=calls)
    return shape


def _halved(shape: Shape, order: Sequence[int]) -> Shape:
    """Cut along the first dimension in that order that can be."""
    first = next(dim for dim in order if shape[dim] > 1)
    return tuple((n + 1) // 2 if dim == first else n for dim, n in enumerate(shape))


def _run(shape: Shape, of: Shape, order: Sequence[int]) -> int:
    """Elements in a row of a part of that shape, in a tensor whose dimensions are laid out in that order, the outermost first."""
    run = 1
    for dim in reversed(order):
        run *= shape[dim]
        if shape[dim] != of[dim]:
            break
    return run


def _part(view: View) -> Shape:
    """The shape of parts that are read at once, cut along the widest strides until no gap is worth a read of its own."""
    item = view.dtype.itemsize
    shape, reach = list(view.shape), view.extent * item
    for dim in sorted((dim for dim, n in enumerate(view.shape) if n > 1), key=lambda dim: -view.stride[dim]):
        step = view.stride[dim] * item
        if reach <= CHUNK and step <= _CALL:
            break
        reach -= (view.shape[dim] - 1) * step
        shape[dim] = min(view.shape[dim], 1 + max(0, CHUNK - reach) // step) if step - reach <= _CALL else 1
        reach += (shape[dim] - 1) * step
    return tuple(shape)


def _group(view: View) -> Shape:
    """The shape of parts, or of several of them that come to CHUNK: written together, elements that come to lie together are."""
    shape = list(_part(view))
    for dim in sorted(range(len(shape)), key=lambda dim: view.stride[dim]):
        shape[dim] = min(view.shape[dim], shape[dim] * max(1, CHUNK // (prod(shape) * view.dtype.itemsize)))
    return tuple(shape)


def _cut(view: View, shape: Shape) -> Iterator[tuple[Place, View]]:
    """`view` in parts of that shape, smaller at its ends, in row-major order; each with its place in it."""
    ends = [range(0, n, step) for n, step in zip(view.shape, shape, strict=True)]
    for starts in product(*ends):
        place = tuple(slice(at, min(at + step, n)) for at, step, n in zip(starts, shape, view.shape, strict=True))
        offset = view.offset + sum(at * d for at, d in zip(starts, view.stride, strict=True))
        yield place, view._replace(shape=tuple(part.stop - part.start for part in place), offset=offset)


def _runs(view: View, place: Place) -> Iterator[tuple[int, int]]:
    """Where the elements at `place` lie in all of the view's, and how many in a row, in bytes; in row-major order."""
    inner = len(place) - 1
    while inner and place[inner] == slice(0, view.shape[inner]):
        inner -= 1
    steps = [prod(view.shape[dim + 1 :]) * view.dtype.itemsize for dim in range(len(place))]
    size = (place[inner].stop - place[inner].start) * steps[inner]
    for starts in product(*(range(part.start, part.stop) for part in place[:inner])):
        yield sum(at * step for at, step in zip((*starts, place[inner].start), steps, strict=False)), size


def _gathered(view: View, source: Source, buffer: npt.NDArray[np.uint8]) -> memoryview:
    """The bytes of the elements of `view` in row-major order, in `buffer`."""
    out = buffer[: view.nbytes].view(_element(view)).reshape(view.shape)
    for place, group in _cut(view, _group(view)):
        out[place] = _read(group, source)
    return buffer[: view.nbytes].data


def _read(view: View, source: Source) -> npt.NDArray[np.void]:
    """The elements of `view`, one read for each part, laid out as in the storage."""
    item, element, part = view.dtype.itemsize, _element(view), _part(view)
    strides = [d * item if n > 1 else 0 for n, d in zip(view.shape, view.stride, strict=True)]
    if part == view.shape:
        return np.ndarray(view.shape, element, source.read(view.offset * item, view.extent * item), strides=strides)
    widest_first = sorted(range(len(part)), key=lambda dim: -view.stride[dim])
    out = np.empty([view.shape[dim] for dim in widest_first], element).transpose(np.argsort(widest_first))
    for place, one in _cut(view, part):
        out[place] = np.ndarray(one.shape, element, source.read(one.offset * item, one.extent * item), strides=strides)
    return out


def _element(view: View) -> np.dtype[np.void]:
    return np.dtype((np.void, view.dtype.itemsize))


def _reshaped(view: View, shape: Shape) -> View:
    return view._replace(shape=shape)


def _count(shape: Shape, part: Shape) -> int:
    return prod(-(-n // step) for n, step in zip(shape, part, strict=True))
