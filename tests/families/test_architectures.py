"""Forty networks by the names and shapes that their files have, and what they may honestly be called."""

from __future__ import annotations

import pytest

from fifomark.core.weights import TensorSpec
from fifomark.families import registry

Named = list[tuple[str, tuple[int, ...]]]


def specs(*named: tuple[str, tuple[int, ...]]) -> list[TensorSpec]:
    counter = ("num_batches_tracked",)
    return [TensorSpec(name=name, dtype="int64" if name.endswith(counter) else "float32", shape=shape) for name, shape in named]


def linear(path: str, outputs: int, inputs: int) -> Named:
    return [(f"{path}.weight", (outputs, inputs)), (f"{path}.bias", (outputs,))]


def norm(path: str, width: int) -> Named:
    return [(f"{path}.weight", (width,)), (f"{path}.bias", (width,))]


def batch_norm(path: str, width: int) -> Named:
    return [*norm(path, width), (f"{path}.running_mean", (width,)), (f"{path}.running_var", (width,)), (f"{path}.num_batches_tracked", ())]


def conv(path: str, outputs: int, inputs: int, kernel: int, bias: bool = False) -> Named:
    return [(f"{path}.weight", (outputs, inputs, kernel, kernel)), *([(f"{path}.bias", (outputs,))] if bias else [])]


def recurrent(path: str, gates: int, hidden: int, inputs: int, levels: int = 1, both: bool = False) -> Named:
    named: Named = []
    for level in range(levels):
        width = inputs if level == 0 else hidden * (2 if both else 1)
        for end in ("", "_reverse") if both else ("",):
            named += [
                (f"{path}.weight_ih_l{level}{end}", (gates * hidden, width)),
                (f"{path}.weight_hh_l{level}{end}", (gates * hidden, hidden)),
            ]
            named += [(f"{path}.bias_ih_l{level}{end}", (gates * hidden,)), (f"{path}.bias_hh_l{level}{end}", (gates * hidden,))]
    return named


def attention(path: str, width: int) -> Named:
    return [
        (f"{path}.in_proj_weight", (3 * width, width)),
        (f"{path}.in_proj_bias", (3 * width,)),
        *linear(f"{path}.out_proj", width, width),
    ]


def encoder_layer(path: str, width: int, wide: int) -> Named:
    ends = [*linear(f"{path}.linear1", wide, width), *linear(f"{path}.linear2", width, wide), *norm(f"{path}.norm1", width)]
    return [*attention(f"{path}.self_attn", width), *ends, *norm(f"{path}.norm2", width)]


def projections(path: str, names: tuple[str, ...], width: int) -> Named:
    return [pair for name in names for pair in linear(f"{path}.{name}", width, width)]


def resnet_block(path: str, width: int, inputs: int) -> Named:
    first = [*conv(f"{path}.conv1", width, inputs, 3), *batch_norm(f"{path}.bn1", width)]
    return [*first, *conv(f"{path}.conv2", width, width, 3), *batch_norm(f"{path}.bn2", width)]


LOGISTIC = {
    "nn.Linear itself": [("weight", (10, 784)), ("bias", (10,))],
    "class LogisticRegression": linear("linear", 10, 784),
    "one in a Sequential, after Flatten": linear("1", 3, 4),
    "without bias": [("fc.weight", (2, 30))],
}
MLP = {
    "three linear layers": [*linear("fc1", 128, 784), *linear("fc2", 64, 128), *linear("fc3", 10, 64)],
    "Sequential": [*linear("net.0", 32, 8), *linear("net.2", 1, 32)],
    "without biases": [("layers.0.weight", (64, 20)), ("layers.1.weight", (5, 64))],
    "with batch norm": [*linear("fc1", 64, 20), *batch_norm("bn1", 64), *linear("fc2", 5, 64)],
    "with layer norm, norms defined last": [
        *linear("a", 64, 20),
        *linear("b", 32, 64),
        *linear("c", 5, 32),
        *norm("n1", 64),
        *norm("n2", 32),
    ],
    "output layer defined first": [*linear("out", 10, 64), *linear("fc1", 128, 784), *linear("fc2", 64, 128)],
    "as wide as its input at the end": [*linear("fc1", 64, 10), *linear("fc2", 10, 64)],
}
CNN = {
    "LeNet": [
        *conv("conv1", 6, 1, 5, True),
        *conv("conv2", 16, 6, 5, True),
        *linear("fc1", 120, 400),
        *linear("fc2", 84, 120),
        *linear("fc3", 10, 84),
    ],
    "VGG: most parameters in its head": [
        *conv("features.0", 64, 3, 3, True),
        *conv("features.3", 512, 64, 3, True),
        *linear("classifier.0", 4096, 25088),
        *linear("classifier.3", 4096, 4096),
        *linear("classifier.6", 1000, 4096),
    ],
    "ResNet": [
        *conv("conv1", 64, 3, 7),
        *batch_norm("bn1", 64),
        *resnet_block("layer1.0", 64, 64),
        *resnet_block("layer2.0", 128, 64),
        *conv("layer2.0.downsample.0", 128, 64, 1),
        *batch_norm("layer2.0.downsample.1", 128),
        *linear("fc", 1000, 128),
    ],
    "MobileNet: depthwise": [
        *conv("features.0.0", 32, 3, 3),
        *batch_norm("features.0.1", 32),
        *conv("features.1.conv.0.0", 32, 1, 3),
        *batch_norm("features.1.conv.0.1", 32),
        *conv("features.1.conv.1", 16, 32, 1),
        *linear("classifier.1", 1000, 16),
    ],
    "DenseNet: norms before convolutions": [
        *conv("features.conv0", 64, 3, 7),
        *batch_norm("features.norm0", 64),
        *batch_norm("features.denseblock1.denselayer1.norm1", 64),
        *conv("features.denseblock1.denselayer1.conv1", 128, 64, 1),
        *batch_norm("features.denseblock1.denselayer1.norm2", 128),
        *conv("features.denseblock1.denselayer1.conv2", 32, 128, 3),
        *batch_norm("features.norm5", 96),
        *linear("classifier", 1000, 96),
    ],
    "SqueezeNet: head is a convolution": [
        *conv("features.0", 64, 3, 3, True),
        *conv("features.3.squeeze", 16, 64, 1, True),
        *conv("classifier.1", 1000, 16, 1, True),
    ],
    "ConvNeXt: most parameters in linear layers": [
        *conv("features.0.0", 96, 3, 4, True),
        *norm("features.0.1", 96),
        ("features.1.0.layer_scale", (96, 1, 1)),
        *conv("features.1.0.block.0", 96, 1, 7, True),
        *norm("features.1.0.block.2", 96),
        *linear("features.1.0.block.3", 384, 96),
        *linear("features.1.0.block.5", 96, 384),
        *linear("classifier.2", 1000, 96),
    ],
    "one-dimensional": [("conv1.weight", (16, 1, 5)), ("conv1.bias", (16,)), *linear("fc", 3, 160)],
    "generator of a DCGAN: transposed": [
        ("main.0.weight", (100, 512, 4, 4)),
        *batch_norm("main.1", 512),
        ("main.3.weight", (512, 3, 4, 4)),
    ],
}
RNN = {
    "LSTM classifier": [*recurrent("lstm", 4, 32, 8), *linear("fc", 10, 32)],
    "two-way GRU over embeddings": [("embedding.weight", (5000, 64)), *recurrent("gru", 3, 48, 64, 2, True), *linear("out", 4, 96)],
    "nn.RNN itself": [(name.removeprefix("x."), shape) for name, shape in recurrent("x", 1, 16, 4)],
    "cells": [
        ("cell.weight_ih", (64, 8)),
        ("cell.weight_hh", (64, 16)),
        ("cell.bias_ih", (64,)),
        ("cell.bias_hh", (64,)),
        *linear("fc", 2, 16),
    ],
    "language model, tied head": [
        ("encoder.weight", (1000, 64)),
        *recurrent("rnn", 4, 64, 64, 2),
        ("decoder.weight", (1000, 64)),
        ("decoder.bias", (1000,)),
    ],
    "encoder and decoder": [*recurrent("encoder.rnn", 3, 32, 16), *recurrent("decoder.rnn", 3, 32, 16), *linear("decoder.out", 50, 32)],
    "the tutorial's hand-written RNN": [*linear("i2h", 128, 185), *linear("h2o", 18, 128)],
    "speech: small convolutions, large GRU": [*conv("conv.0", 32, 1, 11, True), *recurrent("rnns.0", 3, 512, 672), *linear("fc", 29, 512)],
}
TRANSFORMER = {
    "encoder classifier": [("pos", (1, 8, 32)), *linear("embed", 32, 8), *encoder_layer("encoder.layers.0", 32, 64), *linear("fc", 10, 32)],
    "nn.TransformerEncoderLayer itself": [(name.removeprefix("x."), shape) for name, shape in encoder_layer("x", 32, 64)],
    "nn.Transformer": [
        *encoder_layer("encoder.layers.0", 64, 128),
        *norm("encoder.norm", 64),
        *encoder_layer("decoder.layers.0", 64, 128),
        *attention("decoder.layers.0.multihead_attn", 64),
        *norm("decoder.layers.0.norm3", 64),
        *norm("decoder.norm", 64),
    ],
    "torchvision's ViT": [
        ("class_token", (1, 1, 192)),
        *conv("conv_proj", 192, 3, 16, True),
        ("encoder.pos_embedding", (1, 197, 192)),
        *norm("encoder.layers.encoder_layer_0.ln_1", 192),
        *attention("encoder.layers.encoder_layer_0.self_attention", 192),
        *linear("encoder.layers.encoder_layer_0.mlp.0", 768, 192),
        *linear("encoder.layers.encoder_layer_0.mlp.3", 192, 768),
        *linear("heads.head", 1000, 192),
    ],
    "timm's ViT: fused": [
        *conv("patch_embed.proj", 192, 3, 16, True),
        *linear("blocks.0.attn.qkv", 576, 192),
        *linear("blocks.0.attn.proj", 192, 192),
    ],
    "BERT": [
        ("embeddings.word_embeddings.weight", (30522, 128)),
        ("embeddings.position_embeddings.weight", (512, 128)),
        *projections("encoder.layer.0.attention.self", ("query", "key", "value"), 128),
        *linear("encoder.layer.0.intermediate.dense", 512, 128),
    ],
    "GPT-2": [
        ("wte.weight", (50257, 96)),
        ("h.0.attn.c_attn.weight", (96, 288)),
        ("h.0.attn.c_attn.bias", (288,)),
        ("h.0.attn.c_proj.weight", (96, 96)),
        ("h.0.attn.c_proj.bias", (96,)),
        ("h.0.mlp.c_fc.weight", (96, 384)),
        ("h.0.mlp.c_fc.bias", (384,)),
    ],
    "Llama: fewer keys than queries": [
        ("model.embed_tokens.weight", (1000, 64)),
        ("model.layers.0.self_attn.q_proj.weight", (64, 64)),
        ("model.layers.0.self_attn.k_proj.weight", (16, 64)),
        ("model.layers.0.self_attn.v_proj.weight", (16, 64)),
        ("model.layers.0.input_layernorm.weight", (64,)),
        ("lm_head.weight", (1000, 64)),
    ],
    "T5": [(f"encoder.block.0.layer.0.SelfAttention.{name}.weight", (64, 64)) for name in "qkvo"],
    "Whisper: two convolutions before": [
        ("encoder.conv1.weight", (384, 80, 3)),
        ("encoder.conv2.weight", (384, 384, 3)),
        *(pair for at in range(12) for pair in projections(f"encoder.layers.{at}.self_attn", ("q_proj", "k_proj", "v_proj"), 384)),
    ],
    "Annotated Transformer, to_q": [
        ("layers.0.0.fn.to_q.weight", (128, 64)),
        ("layers.0.0.fn.to_kv.weight", (256, 64)),
        *linear("head", 5, 64),
    ],
    "single-head, by hand": [*projections("attn", ("W_q", "W_k", "W_v"), 32), *linear("fc", 10, 32)],
}
UNKNOWN = {
    "one embedding": [("embedding.weight", (10000, 64))],
    "a tall matrix without bias": [("table.weight", (10000, 64))],
    "bag of embeddings": [("embedding.weight", (95811, 64)), *linear("fc", 4, 64)],
    "CBOW": [("embeddings.weight", (49, 10)), *linear("linear1", 128, 20), *linear("linear2", 49, 128)],
    "matrix factorisation": [("users.weight", (943, 20)), ("items.weight", (1682, 20))],
    "autoencoder": [
        *linear("encoder.0", 128, 784),
        *linear("encoder.2", 32, 128),
        *linear("decoder.0", 128, 32),
        *linear("decoder.2", 784, 128),
    ],
    "variational autoencoder": [
        *linear("fc1", 400, 784),
        *linear("fc21", 20, 400),
        *linear("fc22", 20, 400),
        *linear("fc3", 400, 20),
        *linear("fc4", 784, 400),
    ],
    "convolutional autoencoder": [
        *conv("encoder.0", 16, 1, 3, True),
        *conv("encoder.2", 4, 16, 3, True),
        ("decoder.0.weight", (4, 16, 2, 2)),
        ("decoder.0.bias", (16,)),
        ("decoder.2.weight", (16, 1, 2, 2)),
        ("decoder.2.bias", (1,)),
    ],
    "both halves of a GAN": [
        *linear("generator.0", 128, 64),
        *linear("generator.2", 784, 128),
        *linear("discriminator.0", 128, 784),
        *linear("discriminator.2", 1, 128),
    ],
    "MLP-Mixer": [
        *conv("stem", 64, 3, 4, True),
        *(
            pair
            for at in range(2)
            for pair in (
                *linear(f"blocks.{at}.tokens.fc1", 32, 49),
                *linear(f"blocks.{at}.tokens.fc2", 49, 32),
                *linear(f"blocks.{at}.channels.fc1", 256, 64),
                *linear(f"blocks.{at}.channels.fc2", 64, 256),
            )
        ),
    ],
    "graph convolutions": [("conv1.bias", (16,)), ("conv1.lin.weight", (16, 1433)), ("conv2.bias", (7,)), ("conv2.lin.weight", (7, 16))],
    "Mamba": [
        pair
        for at in range(2)
        for pair in (
            (f"layers.{at}.mixer.A_log", (128, 16)),
            (f"layers.{at}.mixer.conv1d.weight", (128, 1, 4)),
            (f"layers.{at}.mixer.in_proj.weight", (256, 64)),
            (f"layers.{at}.mixer.x_proj.weight", (36, 128)),
            (f"layers.{at}.mixer.dt_proj.weight", (128, 4)),
            (f"layers.{at}.mixer.out_proj.weight", (64, 128)),
        )
    ],
    "as much convolution as recurrence": [
        *conv("cnn.0", 64, 3, 3, True),
        *conv("cnn.3", 128, 64, 3, True),
        *recurrent("rnn", 3, 96, 128),
        *linear("fc", 37, 96),
    ],
    "plain tensors": [("w1", (784, 128)), ("b1", (128,)), ("w2", (128, 10)), ("b2", (10,))],
    "statistics only": [("mean", (3,)), ("std", (3,))],
    "nothing": [],
}
TABLE = {"logistic": LOGISTIC, "mlp": MLP, "cnn": CNN, "rnn": RNN, "transformer": TRANSFORMER, "unknown": UNKNOWN}


@pytest.mark.parametrize(
    ("family", "named"),
    [pytest.param(family, named, id=f"{family}: {title}") for family, group in TABLE.items() for title, named in group.items()],
)
def test_a_network_is_called_what_it_is(family: str, named: Named) -> None:
    weights = specs(*named)
    seen = registry.recognise(weights)
    assert seen.name == family, seen
    found = registry.match(weights)
    assert (found.family if found else "unknown") == family
    if found:
        assert seen.evidence
        assert registry.family(family).invariants(found) == []


@pytest.mark.parametrize(
    ("title", "alternatives", "says"),
    [
        ("autoencoder", ("mlp",), "autoencoder"),
        ("bag of embeddings", ("mlp",), "embedding"),
        ("one embedding", ("logistic",), "embedding"),
        ("both halves of a GAN", ("mlp",), "two networks"),
        ("as much convolution as recurrence", ("cnn", "rnn"), "also"),
    ],
)
def test_what_is_not_named_says_what_it_may_be_and_why_not(title: str, alternatives: tuple[str, ...], says: str) -> None:
    seen = registry.recognise(specs(*UNKNOWN[title]))
    assert set(seen.alternatives) == set(alternatives)
    assert any(says in sentence for sentence in seen.contradictions), seen
    assert seen.evidence


def test_a_mixture_that_one_kind_carries_names_the_other() -> None:
    seen = registry.recognise(specs(*RNN["speech: small convolutions, large GRU"]))
    assert seen.name == "rnn"
    assert seen.alternatives == ("cnn",)
    assert any("convolutions" in sentence for sentence in seen.contradictions)


def test_evidence_names_tensors_and_what_their_shapes_say() -> None:
    seen = registry.recognise(specs(*recurrent("lstm", 4, 32, 8), *linear("fc", 10, 32)))
    assert seen.evidence[0] == "lstm.weight_hh_l0 (128, 32): 4 gates of 32: lstm of 32"
