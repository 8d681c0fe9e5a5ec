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
_UPLOAD = "Save or upload the file again; compare its size with the original."

RULES: Mapping[str, Rule] = {
    # FM1xx: the file and its container
    "FM101": Rule("wrong extension", Level.INVALID, "Give the file a name that ends in .pt; renaming another format does not make it one."),
    "FM102": Rule("not a regular file", Level.INVALID, "Submit the file itself: no folder, link, pipe, socket or device."),
    "FM103": Rule("hard link", Level.INVALID, "Copy the file instead of linking it: a second name could change it while it is read."),
    "FM104": Rule("cannot be read", Level.INVALID, "Make the file readable for the account that fifomark runs as, and submit it again."),
    "FM105": Rule("empty file", Level.INVALID, _UPLOAD),
    "FM106": Rule("not a PyTorch file", Level.INVALID, _RESAVE),
    "FM107": Rule("truncated file", Level.INVALID, _UPLOAD),
    "FM108": Rule("damaged archive", Level.INVALID, _UPLOAD),
    "FM109": Rule("ambiguous archive: two programs could read different things", Level.UNSAFE, _RESAVE),
    "FM110": Rule("too large", Level.INVALID, "Submit only the weights (no optimizer state, no data), in float32 or smaller."),
    "FM111": Rule("checksum does not match", Level.INVALID, _UPLOAD),
    "FM112": Rule("record that is no part of the model", Level.NOTE, "Nothing to do: it is left out of the clean file."),
    "FM113": Rule("changed while it was read", Level.INVALID, "Finish writing the file before you submit it (write beside, then move)."),
    "FM114": Rule("big-endian file", Level.INVALID, "Save it again on a little-endian machine."),
    # FM2xx: code
    "FM201": Rule("would run code", Level.UNSAFE, _RESAVE),
    "FM202": Rule("names something that is not allowed", Level.UNSAFE, _RESAVE),
    "FM203": Rule(
        "module of an unknown class",
        Level.WARNING,
        "Its weights were taken. Better: save model.state_dict().",
    ),
    "FM204": Rule("TorchScript code", Level.WARNING, "Its weights were taken. Better: save model.state_dict()."),
    "FM205": Rule("plain data beside the weights", Level.NOTE, "Nothing to do: it is left out of the clean file."),
    "FM206": Rule("objects that are not weights", Level.NOTE, "Nothing to do: they are left out of the clean file."),
    "FM207": Rule("malformed pickle", Level.INVALID, _RESAVE),
    "FM208": Rule("reading it takes too much time or memory", Level.UNSAFE, _RESAVE),
    "FM209": Rule("bytes after the end of a pickle", Level.UNSAFE, _RESAVE),
    "FM210": Rule("disarmed: what could run was dropped, the weights were kept", Level.WARNING, "Check where this file came from."),
    "FM211": Rule("a building block is used as it should not be", Level.UNSAFE, _RESAVE),
    # FM3xx: tensors
    "FM301": Rule("tensor reaches outside its storage", Level.UNSAFE, _RESAVE),
    "FM302": Rule("expanded or overlapping tensor", Level.INVALID, "Call .contiguous() or .clone() on it before saving."),
    "FM303": Rule("bytes that no tensor shows", Level.NOTE, "Nothing to do: they are left out of the clean file."),
    "FM304": Rule("kind of tensor that is not understood", Level.INVALID, "Save plain dense tensors (no sparse, quantized or meta ones)."),
    "FM305": Rule("no weights found", Level.INVALID, "Submit a state_dict, or a checkpoint with one under 'state_dict'."),
    "FM306": Rule("only an optimizer", Level.INVALID, "You saved optimizer.state_dict(); save model.state_dict()."),
    "FM307": Rule("several sets of weights, and nothing says which", Level.INVALID, "Save one, or put it under 'state_dict'."),
    # FM4xx: parameters
    "FM401": Rule("NaN in the weights", Level.INVALID, "Training diverged: lower the learning rate, or save an earlier epoch."),
    "FM402": Rule("Inf in the weights", Level.INVALID, "Training overflowed: lower the learning rate, or train in float32."),
    "FM403": Rule("layer of zeros", Level.WARNING, _TRAINED),
    "FM404": Rule("layer of one and the same value", Level.WARNING, _TRAINED),
    "FM405": Rule("extreme magnitude", Level.WARNING, "Look at this layer's weights: lower the learning rate or clip gradients."),
    "FM406": Rule("dead units", Level.NOTE, "Units whose weights are all zero answer nothing: train on, or remove them."),
    "FM407": Rule("variance that is negative", Level.INVALID, "Running variances cannot be negative: save the model again after training."),
    "FM408": Rule("variance of zero", Level.WARNING, "This channel gave the same value for every input: check that it was trained."),
    "FM409": Rule("negative counter", Level.WARNING, "num_batches_tracked counts batches: save the model again after training."),
    "FM410": Rule("subnormal values", Level.NOTE, "Set weights this close to zero to 0: on many processors they are slow."),
    "FM411": Rule("low bits that look like data", Level.WARNING, "Check where this file came from: training leaves such bits random."),
    # FM5xx: architecture
    "FM501": Rule("prefix stripped", Level.NOTE, "Nothing to do. To avoid it, save model.module.state_dict()."),
    "FM502": Rule(
        "keys do not fit the model",
        Level.INVALID,
        "Build the model as the task asks and load your file with strict=True.",
    ),
    "FM503": Rule("wrong kind of network", Level.INVALID, "Submit the kind of network that the task asks for."),
    "FM504": Rule("kind of network not recognised", Level.INVALID, "Use the usual torch.nn layers, or ask the operator."),
    "FM505": Rule("shape does not fit the task", Level.INVALID, "Check the input size and the number of classes that the task asks for."),
    "FM506": Rule("too many parameters", Level.INVALID, "Make the model smaller."),
    # FM6xx: marking
    "FM601": Rule("marking took too long", Level.INVALID, "Make the model smaller or faster, and try it on your machine first."),
    "FM602": Rule("marking took too much memory", Level.INVALID, "Make the model smaller, and try it on your machine first."),
    "FM603": Rule("the model fails on the data", Level.INVALID, "Run your model on one batch of the shape that the task gives."),
    "FM604": Rule("wrong output shape", Level.INVALID, "Return one row of outputs an example, as the task asks."),
    "FM605": Rule("NaN or Inf in the outputs", Level.INVALID, "Check its outputs with torch.isfinite on a batch of the data."),
    "FM606": Rule("the same output for every example", Level.WARNING, "The model ignores its input: check training and the saved epoch."),
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
