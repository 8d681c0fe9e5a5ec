"""The layers of a pickled module, as the file describes them. A description is a claim, and nothing in it is ever imported."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fifomark.core.record import Record

Plain = bool | int | float | str | None
Value = bool | int | float | str | list[Plain] | None


class Layer(Record):
    """A module of a pickled tree: its dotted name below the root ("" for the root), its class, its plain attributes.

    `altered`: it computes otherwise than its class does, by hooks or by a function that was put in the place of a method.
    """

    path: Annotated[str, Meta(max_length=4000)]
    cls: Annotated[str, Meta(max_length=400)]
    attributes: dict[str, Value] = {}
    altered: bool = False
