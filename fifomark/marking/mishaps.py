"""What a model's forward pass raised, in words that its submitter can do something with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from fifomark.core.text import shown


class Mishap(NamedTuple):
    """`advice` is None where the catalogue's own says as much."""

    message: str
    advice: str | None = None


def explained(error: Exception, model: nn.Module, inputs: Sequence[Tensor]) -> Mishap:
    """Of what `model` raised on a batch of `inputs`. What torch says of embeddings names neither the layer nor the number."""
    said = str(error)
    if "'indices'" in said and (names := [name for name, _ in _tables(model)]) and all(tensor.is_floating_point() for tensor in inputs):
        kind = str(inputs[0].dtype).removeprefix("torch.")
        return Mishap(
            f"the model looks its inputs up in an embedding ({names[0]}), which takes whole numbers; the task gives {kind}",
            'If the task is about tokens, ask whoever runs the marking for dtype = "int64" in its [input].',
        )
    if isinstance(error, IndexError) and "out of range" in said and (asked := _overstepped(model, inputs)) is not None:
        name, rows, row = asked
        if any(row == int(tensor.max()) for tensor in inputs if tensor.numel() and not tensor.is_floating_point()):
            return Mishap(
                f"the data has {row} in it, and the model's embedding {name} has {rows} rows, for 0 to {rows - 1}",
                f"Train it with the vocabulary of the task, which has {row + 1} tokens at least.",
            )
        if any(tensor.ndim > 1 and tensor.shape[1] == row + 1 for tensor in inputs):
            return Mishap(
                f"the examples are {row + 1} long, and the model's embedding {name} has {rows} rows",
                f"Train it for sequences of {row + 1} tokens, or ask whoever runs the marking how long they are.",
            )
        return Mishap(f"the model asks its embedding {name} for row {row}, and it has {rows}")
    return Mishap(f"the forward pass raised {type(error).__name__}: {_first_line(error)}")


def _overstepped(model: nn.Module, inputs: Sequence[Tensor]) -> tuple[str, int, int] | None:
    """(name, rows, row) of the embedding that is asked for a row that it has not, found by running the model once more."""
    found: list[tuple[str, int, int]] = []

    def watch(name: str, rows: int, given: tuple[Any, ...]) -> None:
        ids = given[0] if given else None
        if isinstance(ids, Tensor) and ids.numel() and not ids.is_floating_point():
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= rows:
                found.append((name, rows, high if high >= rows else low))

    hooks = [
        module.register_forward_pre_hook(lambda module, given, name=name: watch(name, module.num_embeddings, given))
        for name, module in _tables(model)
    ]
    if not hooks:
        return None
    try:
        model(*inputs)
    except Exception:  # noqa: S110 (it did before)
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [""])[0], 300)


def _tables(model: nn.Module) -> Iterator[tuple[str, nn.Embedding | nn.EmbeddingBag]]:
    """The embeddings, by their names."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            yield shown(name or type(module).__name__, 80), module
