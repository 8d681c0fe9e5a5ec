"""A second set that was held out and run once: odd ones, as the first turned out too easy (the rules before knew all of it as well)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from zoo.specimen import Group, Shapes, attention, cbr, conv, linears, mlp, module

GROUP = Group()

GROUP.add(
    "transformer",
    open_nmt=lambda: module(
        layers=[module(self_attn=attention(32, "linear_keys", "linear_values", "linear_query", "final_linear"), w_1=nn.Linear(32, 64))] * 2
    ),
    transforms=lambda: module(
        tok=nn.Embedding(99, 32), blocks=[module(mha=attention(32, "q_transform", "k_transform", "v_transform"))] * 2
    ),
    music=lambda: module(
        emb=nn.Embedding(99, 32),
        enc=[module(rga=module(Wq=nn.Linear(32, 32), Wk=nn.Linear(32, 32), Wv=nn.Linear(32, 32), E=torch.empty(64, 8)))] * 2,
    ),
    decisions=lambda: module(
        embed_state=nn.Linear(17, 32),
        embed_action=nn.Linear(6, 32),
        h=[module(attn=module(c_attn=nn.Linear(32, 96), c_proj=nn.Linear(32, 32)), mlp=module(c_fc=nn.Linear(32, 64)))] * 2,
        predict_action=mlp(32, 6),
    ),
)
GROUP.add(
    "rnn|unknown",
    gru_of_six_layers=lambda: module(**{f"W_{a}{b}": nn.Linear(32, 32) for a in "ih" for b in "rzn"}, out=nn.Linear(32, 4)),
    lstm_of_four_layers=lambda: module(**{f"W{gate}": nn.Linear(92, 64) for gate in "fico"}, fc=nn.Linear(64, 10)),
    tree_lstm=lambda: module(
        embedding=nn.Embedding(99, 30),
        cell=module(W_iou=nn.Linear(30, 192, bias=False), U_iou=nn.Linear(64, 192, bias=False), U_f=nn.Linear(64, 64)),
    ),
)
GROUP.add(
    "rnn",
    recurrent_text_classifier=lambda: module(
        embed=nn.Embedding(99, 32), bilstm=nn.LSTM(32, 32, bidirectional=True), W2=nn.Linear(96, 32), label=nn.Linear(32, 4)
    ),
    hierarchical_attention=lambda: module(
        lookup=nn.Embedding(99, 32),
        word_gru=nn.GRU(32, 32, bidirectional=True),
        word_proj=nn.Linear(64, 64),
        context=torch.empty(64, 1),
        sent_gru=nn.GRU(64, 32, bidirectional=True),
        final=nn.Linear(64, 5),
    ),
    sentence_inference=lambda: module(
        emb=nn.Embedding(99, 32), lstm1=nn.LSTM(32, 32, bidirectional=True), lstm2=nn.LSTM(256, 32, bidirectional=True), fc=mlp(256, 32, 3)
    ),
)
GROUP.add(
    "mlp|unknown",
    squeezed_tables=lambda: module(fc1=nn.Linear(20, 64), se1=nn.Linear(64, 4), se2=nn.Linear(4, 64), fc2=nn.Linear(64, 2)),
    residual_bottlenecks=lambda: module(first=nn.Linear(20, 64), blocks=[mlp(64, 16, 64) for _ in range(3)], last=nn.Linear(64, 1)),
)
GROUP.add("unknown|logistic", simple_graph=lambda: module(conv1=module(lin=nn.Linear(1433, 7))))
GROUP.add(
    "cnn|unknown",
    autoencoder_that_upsamples=lambda: module(
        enc=nn.Sequential(conv(1, 16), conv(16, 8)),
        squeeze=nn.Linear(392, 16),
        grow=nn.Linear(16, 392),
        dec=nn.Sequential(conv(8, 16), conv(16, 1)),
    ),
    point_net_2=lambda: module(
        sa1=module(mlp_convs=[conv(6, 64, 1), conv(64, 64, 1)], mlp_bns=[nn.BatchNorm2d(64)] * 2),
        fc1=nn.Linear(64, 32),
        fc2=nn.Linear(32, 40),
    ),
    own_layers=lambda: {"conv1.w": (16, 1, 3, 3), "conv1.b": (16,), "fc.w": (10, 64), "fc.b": (10,)},
)
GROUP.add(
    "cnn",
    unet_in_three_dimensions=lambda: module(
        encoders=[module(basic=module(conv=nn.Conv3d(a, b, 3, bias=False), groupnorm=nn.GroupNorm(1, b))) for a, b in ((1, 8), (8, 16))],
        decoders=[module(upsampling=nn.ConvTranspose3d(16, 8, 3), basic=module(conv=nn.Conv3d(16, 8, 3)))],
        final_conv=nn.Conv3d(8, 3, 1),
    ),
    deep_pyramid_of_text=lambda: module(
        embedding=nn.Embedding(99, 50), region=conv(1, 32, (3, 50)), conv=conv(32, 32, (3, 1)), fc=nn.Linear(32, 5)
    ),
    sparse_convolutions=lambda: (
        {f"conv{at}.0.weight": (b, 3, 3, 3, a) for at, (a, b) in enumerate(((4, 16), (16, 32)))}
        | {"head.weight": (2, 32), "head.bias": (2,)}
    ),
)
GROUP.add(
    "cnn+rnn",
    long_and_short_terms=lambda: module(
        conv1=conv(1, 50, (6, 8)), GRU1=nn.GRU(50, 40), GRUskip=nn.GRU(50, 5), linear1=nn.Linear(160, 8), highway=nn.Linear(24, 1)
    ),
)
GROUP.add(
    "transformer+cnn|transformer",
    convolutions_in_the_feed_forward_part=lambda: module(
        input_proj=conv(3, 32),
        blocks=[
            module(
                attn=attention(32, "to_q", "to_k", "to_v", "proj"),
                mlp=module(linear1=nn.Linear(32, 64), dwconv=conv(64, 64, 3, groups=64), linear2=nn.Linear(64, 32)),
            )
        ]
        * 3,
    ),
    bert_with_convolutions=lambda: module(
        layer=[
            module(
                self=module(
                    query=nn.Linear(32, 16),
                    key=nn.Linear(32, 16),
                    value=nn.Linear(32, 16),
                    key_conv_attn_layer=nn.Conv1d(32, 32, 9, groups=32),
                    conv_kernel_layer=nn.Linear(16, 18),
                )
            )
        ]
        * 2
    ),
)
GROUP.add(
    "transformer+cnn",
    action_chunks=lambda: module(
        backbone=nn.Sequential(cbr(3, 32), cbr(32, 64), cbr(64, 64)),
        input_proj=conv(64, 32, 1),
        transformer=nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 4),
    ),
)


def _dgl(*widths: int) -> Shapes:
    pairs = enumerate(pairwise(widths))
    return {f"layers.{at}.{name}": shape for at, (a, b) in pairs for name, shape in (("weight", (a, b)), ("bias", (b,)))}


GROUP.add(
    "unknown",
    graph_convolutions_of_dgl=lambda: _dgl(1433, 64, 64, 7),
    graph_attention_of_dgl=lambda: {
        "gat_layers.0.attn_l": (1, 8, 8),
        "gat_layers.0.attn_r": (1, 8, 8),
        "gat_layers.0.bias": (64,),
        "gat_layers.0.fc.weight": (64, 30),
    },
    planar_flow=lambda: {f"flows.{at}.{name}": shape for at in range(4) for name, shape in (("u", (1, 2)), ("w", (1, 2)), ("b", (1,)))},
    factorisation_machine=lambda: module(linear=nn.Linear(100, 1), v=torch.empty(100, 8)),
    from_tensorflow=lambda: {"model/dense/kernel:0": (784, 128), "model/dense/bias:0": (128,), "model/dense_1/kernel:0": (128, 10)},
    pooled_by_attention=lambda: module(attention=mlp(128, 64, 1), classifier=nn.Linear(128, 2)),
    messages_between_atoms=lambda: module(
        lin0=nn.Linear(11, 32),
        conv=module(nn=mlp(5, 64, 1024), bias=torch.empty(32)),
        gru=nn.GRU(32, 32),
        set2set=module(lstm=nn.LSTM(64, 32)),
        lin1=linears(64, 32)[0],
    ),
)
