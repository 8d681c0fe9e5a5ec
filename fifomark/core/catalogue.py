"""Every code that a finding may carry, with its usual level and the next step for the submitter. Codes are stable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fifomark.core.findings import MAX_TEXT, Finding, Level
from fifomark.core.text import shown


class Rule(NamedTuple):
    title: str
    level: Level
    advice: str


_RESAVE = "Save again with torch.save(model.state_dict(), 'model.pt') and submit that file."
_TRAINED = "Check that this layer was trained and that the right epoch was saved."
_OWN_WORK = "Nothing is refused or taken off for it: whoever runs the marking looks at both. Be ready to say how you trained this model."
_UPLOAD = "Save or upload the file again; compare its size with the original."

RULES: Mapping[str, Rule] = {
    # FM1xx: the file and its container
    "FM101": Rule(
        "wrong extension",
        Level.INVALID,
        "Give the file a name that ends in .pt. That helps only a file that torch.save wrote: a renamed .h5 or .onnx is still refused.",
    ),
    "FM102": Rule("not a regular file", Level.INVALID, "Submit the file itself: no folder, link, pipe, socket or device."),
    "FM103": Rule(
        "hard link",
        Level.INVALID,
        "Submit a copy of its own (cp, not ln): through its other name the file could be changed while it is read.",
    ),
    "FM104": Rule("cannot be read", Level.INVALID, "Make the file readable for the account that fifomark runs as, and submit it again."),
    "FM105": Rule("empty file", Level.INVALID, _UPLOAD),
    "FM106": Rule("not a PyTorch file", Level.INVALID, _RESAVE),
    "FM107": Rule("truncated file", Level.INVALID, _UPLOAD),
    "FM108": Rule("damaged archive", Level.INVALID, _UPLOAD),
    "FM109": Rule("ambiguous archive: two programs could read different things", Level.UNSAFE, _RESAVE),
    "FM110": Rule("too large", Level.INVALID, "Submit only the weights (no optimizer state, no data), in float32 or smaller."),
    "FM111": Rule("checksum does not match", Level.INVALID, _UPLOAD),
    "FM112": Rule("record that is no part of the model", Level.NOTE, "Nothing to do: it is left out of the clean file."),
    "FM113": Rule(
        "changed while it was read", Level.INVALID, "Submit the file when it is whole: write it under another name first, then rename it."
    ),
    "FM114": Rule(
        "big-endian file",
        Level.INVALID,
        "Load the model on an ordinary PC (x86 or ARM) and save it there again: this file has its numbers in another order of bytes.",
    ),
    # FM2xx: code
    "FM201": Rule("would run code", Level.UNSAFE, _RESAVE),
    "FM202": Rule("names something that is not allowed", Level.UNSAFE, _RESAVE),
    "FM203": Rule(
        "module of an unknown class",
        Level.WARNING,
        "Its weights were taken. Next time save model.state_dict() instead of the whole model.",
    ),
    "FM204": Rule(
        "TorchScript code",
        Level.WARNING,
        "Its weights were taken. Next time save model.state_dict() of the model as it was before torch.jit.script or torch.jit.trace.",
    ),
    "FM205": Rule(
        "plain data beside the weights",
        Level.WARNING,
        "It is left out of the clean file. Next time save the weights alone: model.state_dict().",
    ),
    "FM206": Rule("objects that are not weights", Level.NOTE, "Nothing to do: they are left out of the clean file."),
    "FM207": Rule("malformed pickle", Level.INVALID, _RESAVE),
    "FM208": Rule("reading it takes too much time or memory", Level.UNSAFE, _RESAVE),
    "FM209": Rule("bytes after the end of a pickle", Level.UNSAFE, _RESAVE),
    "FM210": Rule(
        "disarmed: what could run was dropped, the weights were kept",
        Level.WARNING,
        "Ask whoever made this file what that was for, and use the clean file only: it holds nothing that could run.",
    ),
    "FM211": Rule("a building block is used as it should not be", Level.UNSAFE, _RESAVE),
    # FM3xx: tensors
    "FM301": Rule("tensor reaches outside its storage", Level.UNSAFE, _RESAVE),
    "FM302": Rule(
        "expanded or overlapping tensor",
        Level.INVALID,
        "Save the tensor as it was before .expand(), or a copy of what you need: tensor[...].clone().",
    ),
    "FM303": Rule("bytes that no tensor shows", Level.NOTE, "Nothing to do: they are left out of the clean file."),
    "FM304": Rule(
        "kind of tensor that is not understood",
        Level.INVALID,
        "Save ordinary tensors: call .to_dense() on sparse and .dequantize() on quantized ones, and save no model from the device 'meta'.",
    ),
    "FM305": Rule("no weights found", Level.INVALID, "Save model.state_dict() itself, or a dict that holds it under the key 'state_dict'."),
    "FM306": Rule("only an optimizer", Level.INVALID, "You saved optimizer.state_dict(): save model.state_dict() instead."),
    "FM307": Rule(
        "several sets of weights, and nothing says which",
        Level.INVALID,
        "Save the one that is to be marked, alone or under the key 'state_dict'.",
    ),
    # FM4xx: parameters
    "FM401": Rule("NaN in the weights", Level.INVALID, "Training diverged: lower the learning rate, or save an earlier epoch."),
    "FM402": Rule("Inf in the weights", Level.INVALID, "Training overflowed: lower the learning rate, or train in float32."),
    "FM403": Rule("layer of zeros", Level.WARNING, _TRAINED),
    "FM404": Rule("layer of one and the same value", Level.WARNING, _TRAINED),
    "FM405": Rule(
        "extreme magnitude",
        Level.WARNING,
        "Look at the largest values of this tensor. If training made them, lower the learning rate or clip the gradients.",
    ),
    "FM406": Rule(
        "dead units",
        Level.NOTE,
        "These units give every input the same answer: train longer, or make the layer smaller. "
        "An embedding's padding row is meant to be so.",
    ),
    "FM407": Rule(
        "variance that is negative",
        Level.INVALID,
        "A variance cannot be negative: save the model again, with the statistics of its BatchNorm layers as training left them.",
    ),
    "FM408": Rule(
        "variance of zero",
        Level.WARNING,
        "This channel had the same value for every input: check that the layers before it were trained.",
    ),
    "FM409": Rule("negative counter", Level.WARNING, "num_batches_tracked counts batches: save the model again as training left it."),
    "FM410": Rule(
        "subnormal values",
        Level.NOTE,
        "Set such weights to 0 before saving, w[w.abs() < torch.finfo(w.dtype).tiny] = 0: they hardly change an answer, and are slow.",
    ),
    "FM411": Rule(
        "low bits that look like data",
        Level.WARNING,
        "Ask whoever made this file where its weights come from: training leaves the last bits of a weight random.",
    ),
    # FM5xx: architecture
    "FM501": Rule(
        "prefix stripped", Level.NOTE, "Nothing to do. To avoid it, save the model inside its wrapper: model.module.state_dict()."
    ),
    "FM502": Rule(
        "keys do not fit the model",
        Level.INVALID,
        "Build the model as the task asks and load your file with strict=True.",
    ),
    "FM503": Rule("wrong kind of network", Level.INVALID, "Submit the kind of network that the task asks for."),
    "FM504": Rule(
        "kind of network not recognised",
        Level.INVALID,
        "Build the network from the usual torch.nn layers; if it is, ask whoever runs the marking.",
    ),
    "FM505": Rule("shape does not fit the task", Level.INVALID, "Check the input size and the number of classes that the task asks for."),
    "FM506": Rule("too many parameters", Level.INVALID, "Make the model smaller: fewer layers, or fewer units in each."),
    "FM507": Rule("form not accepted", Level.INVALID, "Save the model in a form that the task takes; most take model.state_dict()."),
    "FM508": Rule("too much computing", Level.INVALID, "Make the model smaller: fewer layers, or fewer units in each."),
    # FM6xx: marking
    "FM601": Rule("marking took too long", Level.INVALID, "Make the model smaller or faster, and try it on your machine first."),
    "FM602": Rule("marking took too much memory", Level.INVALID, "Make the model smaller, and try it on your machine first."),
    "FM603": Rule("the model fails on the data", Level.INVALID, "Run your model on one batch of the shape that the task gives."),
    "FM604": Rule("wrong output shape", Level.INVALID, "Return numbers of the shape that the message names, one row for each example."),
    "FM605": Rule(
        "NaN or Inf in the outputs",
        Level.INVALID,
        "Run the model on a batch of the data: torch.isfinite(outputs).all() must be True. Train with a lower learning rate.",
    ),
    "FM606": Rule("the same output for every example", Level.WARNING, "The model ignores its input: check training and the saved epoch."),
    "FM607": Rule(
        "outputs do not repeat",
        Level.WARNING,
        "Something random runs in the model: use nn.Dropout, which eval() switches off, not functional.dropout with its default; "
        "call eval() before torch.jit.trace, which keeps what it sees.",
    ),
    "FM608": Rule(
        "outputs depend on the batch",
        Level.WARNING,
        "An example must be judged by itself: check batch_first, the dimension of softmax, and normalisation over the batch, "
        "which needs its running statistics and eval().",
    ),
    "FM609": Rule(
        "outputs depend on the order of the examples",
        Level.WARNING,
        "An example must be judged by itself: check batch_first, and that no state is kept from one call to the next.",
    ),
    "FM610": Rule(
        "TorchScript that reaches for what is not its own",
        Level.UNSAFE,
        "Take what opens files, connects or starts programs out of the model: forward may compute only. Save it with torch.jit.save again.",
    ),
    # FM7xx: the contest. Whose the other submission is stands in the evidence, for the operator's eyes.
    "FM701": Rule("another owner's weights, exactly", Level.WARNING, _OWN_WORK),
    "FM702": Rule("another owner's weights, rearranged", Level.WARNING, _OWN_WORK),
    "FM703": Rule("another owner's weights, slightly changed", Level.WARNING, _OWN_WORK),
}


def find(
    code: str, where: str, message: str, *, evidence: str | None = None, level: Level | None = None, advice: str | None = None
) -> Finding:
    """A finding of the catalogue; `level` and `advice` replace the usual ones. Texts are made printable and bounded."""
    rule = RULES[code]
    return Finding(
        code=code,
        level=level or rule.level,
        where=shown(where),
        message=shown(message, MAX_TEXT),
        evidence=None if evidence is None else shown(evidence, MAX_TEXT),
        advice=advice or rule.advice,
    )
