"""torch's own layers as a pickled module describes them: which attributes tell how one computes, and what each may be.

A table, known without torch: the sanitizer keeps these attributes of a file's layers and no others, and the marking calls constructors with
them. One line a class: its constructor's arguments as `name:kind`, attributes that have one value only as `name=value`, and `+bias` where
the constructor is to be told whether there is a bias, which no attribute says but the names of the weights do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from fifomark.core.layers import Value

# What the attribute `activation` of an encoder layer may name.
ACTIVATIONS: Final = {"torch.nn.functional.relu": "relu", "torch._C._nn.gelu": "gelu", "torch.nn.functional.gelu": "gelu"}
MAX_SIZE: Final = 1 << 24  # features of a layer: the weights must be as large
MAX_WINDOW: Final = 4096  # of a kernel, a padding, an output: nothing in a file is as large as what these can make
MAX_SCALE: Final = 64


class Rule(NamedTuple):
    """`takes`: the constructor's arguments, each with the check of its value; `fixed`: attributes that must be so, where they are there."""

    takes: Mapping[str, Callable[[Value], bool]]
    fixed: Mapping[str, Value]
    bias: bool

    @property
    def attributes(self) -> frozenset[str]:
        return frozenset((*self.takes, *self.fixed))


def _whole(value: Value, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _each(value: Value, low: int, high: int, empty: bool = False) -> bool:
    """A whole number, or up to eight of them; `empty`: None in the place of any."""
    each = value if isinstance(value, list) else [value]
    return 0 < len(each) <= 8 and all((empty and one is None) or _whole(one, low, high) for one in each)


def _real(value: Value, most: float = 1e30) -> bool:
    return type(value) in (int, float) and isinstance(value, (int, float)) and abs(value) <= most


def _reals(value: Value) -> bool:
    each = value if isinstance(value, list) else [value]
    return 0 < len(each) <= 8 and all(_real(one, MAX_SCALE) and one is not None and not isinstance(one, str) and one > 0 for one in each)


_KINDS: Final[Mapping[str, Callable[[Value], bool]]] = {
    "size": lambda value: _whole(value, 1, MAX_SIZE),
    "sizes": lambda value: _each(value, 1, MAX_SIZE),
    "window": lambda value: _each(value, 1, MAX_WINDOW),
    "window?": lambda value: value is None or _each(value, 1, MAX_WINDOW),
    "output": lambda value: _each(value, 1, MAX_WINDOW, empty=True),
    "pad": lambda value: value in ("same", "valid") or _each(value, 0, MAX_WINDOW),
    "pads": lambda value: _each(value, -MAX_WINDOW, MAX_WINDOW),
    "split": lambda value: _each(value, -1, MAX_SIZE),
    "axis": lambda value: _whole(value, -8, 8),
    "axis?": lambda value: value is None or _whole(value, -8, 8),
    "scale": lambda value: _whole(value, 1, MAX_SCALE),
    "scales?": lambda value: value is None or _reals(value),
    "index?": lambda value: value is None or _whole(value, -MAX_SIZE, MAX_SIZE),
    "count?": lambda value: value is None or _whole(value, 1, MAX_SIZE),
    "real": _real,
    "real?": lambda value: value is None or _real(value),
    "flag": lambda value: type(value) is bool,
    "flag?": lambda value: value is None or type(value) is bool,
    "border": lambda value: value in ("zeros", "reflect", "replicate", "circular"),
    "gelu": lambda value: value in ("none", "tanh"),
    "bag": lambda value: value in ("sum", "mean", "max"),
    "tanh|relu": lambda value: value in ("tanh", "relu"),
    "resampling": lambda value: value in ("nearest", "linear", "bilinear", "bicubic", "trilinear", "nearest-exact"),
    "activation": lambda value: value in ACTIVATIONS,
}

_CONV = (
    "in_channels:size out_channels:size kernel_size:window stride:window padding:pad dilation:window groups:size padding_mode:border +bias"
)
_TURNED = f"{_CONV} output_padding:pads"
_BATCH = "num_features:size eps:real momentum:real? affine:flag track_running_stats:flag"
_MAX = "kernel_size:window stride:window? padding:pad dilation:window ceil_mode:flag return_indices=false"
_AVERAGE = "kernel_size:window stride:window? padding:pad ceil_mode:flag count_include_pad:flag"
_DROPOUTS = ("AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout")
_WINDOWS = "kernel_size:window dilation:window padding:pad stride:window"

_TABLE: Final[Mapping[str, str]] = {
    "activation": """
        CELU alpha:real inplace:flag
        ELU alpha:real inplace:flag
        GELU approximate:gelu
        GLU dim:axis
        Hardshrink lambd:real
        Hardsigmoid inplace:flag
        Hardswish inplace:flag
        Hardtanh min_val:real max_val:real inplace:flag
        LeakyReLU negative_slope:real inplace:flag
        LogSigmoid
        LogSoftmax dim:axis?
        Mish inplace:flag
        PReLU num_parameters:size
        RReLU lower:real upper:real inplace:flag
        ReLU inplace:flag
        ReLU6 inplace:flag min_val=0 max_val=6
        SELU inplace:flag
        SiLU inplace:flag
        Sigmoid
        Softmax dim:axis?
        Softmax2d
        Softmin dim:axis?
        Softplus beta:real threshold:real
        Softshrink lambd:real
        Softsign
        Tanh
        Tanhshrink
        Threshold threshold:real value:real inplace:flag""",
    "batchnorm": f"""
        BatchNorm1d {_BATCH}
        BatchNorm2d {_BATCH}
        BatchNorm3d {_BATCH}
        SyncBatchNorm {_BATCH}""",
    "channelshuffle": "ChannelShuffle groups:size",
    "conv": f"""
        Conv1d {_CONV} transposed=false
        Conv2d {_CONV} transposed=false
        Conv3d {_CONV} transposed=false
        ConvTranspose1d {_TURNED} transposed=true
        ConvTranspose2d {_TURNED} transposed=true
        ConvTranspose3d {_TURNED} transposed=true""",
    "dropout": "\n".join(f"{name} p:real inplace:flag" for name in _DROPOUTS),
    "flatten": """
        Flatten start_dim:axis end_dim:axis
        Unflatten dim:axis unflattened_size:split""",
    "fold": f"""
        Fold output_size:window {_WINDOWS}
        Unfold {_WINDOWS}""",
    "instancenorm": "\n".join(f"InstanceNorm{n}d {_BATCH}" for n in (1, 2, 3)),
    "linear": """
        Identity
        Linear in_features:size out_features:size +bias""",
    "normalization": """
        CrossMapLRN2d size:window alpha:real beta:real k:real
        GroupNorm num_groups:size num_channels:size eps:real affine:flag
        LayerNorm normalized_shape:sizes eps:real elementwise_affine:flag +bias
        LocalResponseNorm size:window alpha:real beta:real k:real
        RMSNorm normalized_shape:sizes eps:real? elementwise_affine:flag""",
    "padding": "\n".join(
        [f"{kind}Pad{n}d padding:pads" for kind in ("Circular", "Reflection", "Replication") for n in (1, 2, 3)]
        + [f"ConstantPad{n}d padding:pads value:real" for n in (1, 2, 3)]
        + [f"ZeroPad{n}d padding:pads value=0" for n in (1, 2, 3)]
    ),
    "pixelshuffle": """
        PixelShuffle upscale_factor:scale
        PixelUnshuffle downscale_factor:scale""",
    "pooling": "\n".join(
        [f"AdaptiveAvgPool{n}d output_size:output" for n in (1, 2, 3)]
        + [f"AdaptiveMaxPool{n}d output_size:output return_indices=false" for n in (1, 2, 3)]
        + [f"MaxPool{n}d {_MAX}" for n in (1, 2, 3)]
        + [f"AvgPool1d {_AVERAGE}"]
        + [f"AvgPool{n}d {_AVERAGE} divisor_override:count?" for n in (2, 3)]
        + [f"LPPool{n}d norm_type:real kernel_size:window stride:window? ceil_mode:flag" for n in (1, 2, 3)]
    ),
    "rnn": """
        GRUCell input_size:size hidden_size:size bias:flag
        RNNCell input_size:size hidden_size:size bias:flag nonlinearity:tanh|relu""",
    "sparse": """
        Embedding num_embeddings:size embedding_dim:size padding_idx:index? max_norm=none
        EmbeddingBag num_embeddings:size embedding_dim:size mode:bag padding_idx:index? max_norm=none include_last_offset=false""",
    "upsampling": """
        Upsample size:window? scale_factor:scales? mode:resampling align_corners:flag? recompute_scale_factor:flag?
        UpsamplingBilinear2d size:window? scale_factor:scales? mode=bilinear align_corners=true
        UpsamplingNearest2d size:window? scale_factor:scales? mode=nearest""",
}
_CONSTANTS: Final[Mapping[str, Value]] = {"true": True, "false": False, "none": None}


def _rule(line: str) -> Rule:
    words = line.split()
    takes = dict(word.split(":") for word in words if ":" in word)
    fixed = dict(word.split("=") for word in words if "=" in word)
    values = {name: _CONSTANTS[text] if text in _CONSTANTS else int(text) if text.isdecimal() else text for name, text in fixed.items()}
    return Rule({name: _KINDS[kind] for name, kind in takes.items()}, values, "+bias" in words)


def _read() -> Mapping[str, Rule]:
    rows = [(file, *line.strip().partition(" ")) for file, lines in _TABLE.items() for line in lines.splitlines() if line.strip()]
    return {f"torch.nn.modules.{file}.{name}": _rule(rest) for file, name, _, rest in rows}


LEAVES: Final[Mapping[str, Rule]] = _read()

SEQUENTIAL: Final = "torch.nn.modules.container.Sequential"
MODULE_LIST: Final = "torch.nn.modules.container.ModuleList"
ENCODER: Final = "torch.nn.modules.transformer.TransformerEncoder"
ENCODER_LAYER: Final = "torch.nn.modules.transformer.TransformerEncoderLayer"
ATTENTION: Final = "torch.nn.modules.activation.MultiheadAttention"
# Layers that are put together from others. Their parts say the rest.
COMPOSED: Final[Mapping[str, Rule]] = {
    SEQUENTIAL: _rule(""),
    MODULE_LIST: _rule(""),
    ENCODER: _rule("enable_nested_tensor:flag mask_check:flag"),
    ENCODER_LAYER: _rule("norm_first:flag activation:activation"),
    ATTENTION: _rule("embed_dim:size num_heads:size kdim:size vdim:size batch_first:flag add_zero_attn=false bias_k=none bias_v=none"),
}
# The linear layer inside an attention, under the names that it has had.
PROJECTIONS: Final = tuple(f"torch.nn.modules.linear.{name}" for name in ("NonDynamicallyQuantizableLinear", "_LinearWithBias", "Linear"))

_TWO = "it gives its outputs and its state, and a Sequential hands both on, which no layer takes"
_RUN_BY_CODE = "it holds layers, and the code that runs them is not in the file"
UNFIT: Final[Mapping[str, str]] = {
    **{f"torch.nn.modules.rnn.{name}": _TWO for name in ("GRU", "LSTM", "RNN", "LSTMCell")},
    **{f"torch.nn.modules.container.{name}": _RUN_BY_CODE for name in ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")},
    "torch.nn.modules.module.Module": _RUN_BY_CODE,
    ATTENTION: "it takes query, key and value, and a Sequential hands on one tensor",
    "torch.nn.modules.linear.Bilinear": "it takes two tensors, and a Sequential hands on one",
}


def attributes_of(cls: str) -> frozenset[str]:
    """The attributes of a class that say how it computes; none of a class that is not known here."""
    rule = LEAVES.get(cls) or COMPOSED.get(cls)
    if rule is not None:
        return rule.attributes
    return LEAVES["torch.nn.modules.linear.Linear"].attributes if cls in PROJECTIONS else frozenset()
