"""What a model's forward pass raised, in words that its submitter can do something with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from fifomark.core.text import shown


class Mishap(NamedTuple):
    """`advice` is None where the catalogue's own says as much."""

    message: str
    advice: str | None = None


def explained(error: Exception, model: nn.Module, inputs: Sequence[Tensor]) -> Mishap:
    """Of what `model` raised on a batch of `inputs`. What torch says of embeddings names neither the layer nor the number."""
    tables = list(_tables(model))
    said = str(error)
    if tables and "'indices'" in said and all(tensor.is_floating_point() for tensor in inputs):
        kind = str(inputs[0].dtype).removeprefix("torch.")
        return Mishap(
            f"the model looks its inputs up in an embedding ({tables[0][0]}), which takes whole numbers; the task gives {kind}",
            'If the task is about tokens, ask whoever runs the marking for dtype = "int64" in its [input].',
        )
    if isinstance(error, IndexError) and "out of range" in said:
        whole = [int(tensor.max()) for tensor in inputs if tensor.numel() and not tensor.is_floating_point()]
        largest = max(whole, default=-1)
        for name, rows in tables:
            if rows <= largest:
                return Mishap(
                    f"the data has {largest} in it, and the model's embedding {name} has {rows} rows, for 0 to {rows - 1}",
                    f"Train it with the vocabulary of the task, which has {largest + 1} tokens at least.",
                )
        length = max((tensor.shape[1] for tensor in inputs if tensor.ndim > 1), default=0)
        for name, rows in tables:
            if rows < length:
                return Mishap(
                    f"the examples are {length} long, and the model's embedding {name} has {rows} rows",
                    f"Train it for sequences of {length} tokens, or ask whoever runs the marking how long they are.",
                )
    return Mishap(f"the forward pass raised {type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [""])[0], 300)


def _tables(model: nn.Module) -> Iterator[tuple[str, int]]:
    """The embeddings by their names, and how many rows they have."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            yield shown(name or type(module).__name__, 80), module.num_embeddings
