"""The files of `fifomark demo`: models that are really trained, saved in the ways that people save them, and some that go wrong."""

from __future__ import annotations

from collections.abc import Mapping

TRAINED: Mapping[str, str] = {
    "ada__logistic.pt": "logistic regression: a plain state_dict, as it should be",
    "blaise__mlp.pt": "MLP: the whole model pickled with torch.save(model)",
    "charles__cnn.pt": "CNN: a checkpoint with optimizer state and epoch",
    "dorothy__gru.pt": "GRU: trained in DataParallel, so that every name begins with 'module.'",
    "emmy__transformer.pt": "Transformer encoder: saved in the format of before torch 1.6",
    "frances__cnn_script.pt": "the same CNN again, as TorchScript",
}
BROKEN: Mapping[str, str] = {
    "grace__diverged.pt": "training diverged: NaN in the weights",
    "henri__other_task.pt": "an MLP for pictures of 28×28 pixels",
    "iris__renamed.pt": "a text file with the wrong extension",
    "john__truncated.pt": "the download stopped half way",
    "mallory__surprise.pt": "a pickle that would run a command when it is loaded",
    "niels__upload.pt.part": "an upload that is not finished: it stays where it is",
}
FILES: Mapping[str, str] = {**TRAINED, **BROKEN}
"""What each file is, in one sentence."""
