"""What is easily taken for something else, and names that say less than they seem to."""

from __future__ import annotations

import torch
from torch import nn

from zoo.specimen import Group, Shapes, attention, cbr, conv, linears, mlp, module

GROUP = Group()

GROUP.add(
    "mlp|unknown",
    square_heads=lambda: module(mean=linears(8, 8), log_std=linears(8, 8), value=linears(8, 16)),
    layers_called_q_k_v=lambda: module(q=nn.Linear(784, 128), k=nn.Linear(128, 64), v=nn.Linear(64, 10)),
    layers_called_conv=lambda: module(conv1=nn.Linear(784, 128), conv2=nn.Linear(128, 10)),
    layers_called_attention=lambda: module(attention1=nn.Linear(30, 40), attention2=nn.Linear(40, 2)),
    tab_net=lambda: module(shared=[nn.Linear(20, 32, bias=False)] * 2, steps=[nn.Linear(16, 32, bias=False)] * 4, final=nn.Linear(8, 2)),
    basis_expansion=lambda: module(blocks=[module(fc=mlp(10, 64, 64), theta=nn.Linear(64, 8), back=nn.Linear(8, 10)) for _ in range(2)]),
)
GROUP.add(
    "logistic|unknown",
    linear_probe_behind_batch_norm=lambda: nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 10)),
    temperature_scaling=lambda: module(temperature=torch.empty(1), linear=nn.Linear(64, 10)),
)
GROUP.add("unknown", layer_norm_and_linear=lambda: nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 10)))


def _informer_layer(width: int) -> nn.Module:
    attn = attention(width, "query_projection", "key_projection", "value_projection", "out_projection")
    return module(attention=attn, conv1=nn.Conv1d(width, 4 * width, 1), conv2=nn.Conv1d(4 * width, width, 1), norm1=nn.LayerNorm(width))


def _fast_speech_layer() -> nn.Module:
    attn = attention(32, "w_qs", "w_ks", "w_vs", "fc")
    return module(slf_attn=attn, pos_ffn=module(w_1=nn.Conv1d(32, 128, 9), w_2=nn.Conv1d(128, 32, 1), layer_norm=nn.LayerNorm(32)))


GROUP.add(
    "transformer|transformer+cnn",
    informer=lambda: module(token=nn.Conv1d(7, 32, 3), layers=[_informer_layer(32) for _ in range(3)], projection=nn.Linear(32, 7)),
    heads_in_lists=lambda: module(
        linear_mapper=nn.Linear(16, 32),
        blocks=[module(mhsa=module(**{f"{x}_mappings": [nn.Linear(8, 8) for _ in range(4)] for x in "qkv"}), mlp=mlp(32, 128, 32))] * 2,
    ),
    diffusion_transformer=lambda: module(
        x_embedder=module(proj=conv(4, 32, 2)),
        blocks=[module(attn=module(qkv=nn.Linear(32, 96), proj=nn.Linear(32, 32)), mlp=mlp(32, 64, 32), adaLN=nn.Linear(32, 192))] * 2,
    ),
    control=lambda: module(
        w=nn.Embedding(90, 32), h=[module(multi_head_attention=attention(32, "Wq", "Wk", "Wv", "dense"), ffn=mlp(32, 64, 32))] * 2
    ),
    tables=lambda: module(
        tokenizer=module(weight=torch.empty(9, 32), bias=torch.empty(9, 32)),
        layers=[module(attention=attention(32, "W_q", "W_k", "W_v", "W_out"), linear0=nn.Linear(32, 80), linear1=nn.Linear(40, 32))] * 2,
    ),
    graph_transformer=lambda: module(conv1=attention(32, "lin_key", "lin_query", "lin_value", "lin_skip"), fc=nn.Linear(32, 2)),
    minimal_gpt=lambda: module(
        blocks=[module(attn=attention(32, "key", "query", "value", "proj"), mlp=mlp(32, 128, 32))] * 2, head=nn.Linear(32, 60)
    ),
)
GROUP.add(
    "transformer+cnn",
    fast_speech=lambda: module(src_word_emb=nn.Embedding(100, 32), layers=[_fast_speech_layer() for _ in range(4)], mel=nn.Linear(32, 80)),
    restoration=lambda: module(
        patch=conv(3, 16),
        blocks=[module(attn=module(qkv=conv(16, 48, 1), qkv_dwconv=conv(48, 48, 3, groups=48), project_out=conv(16, 16, 1)))] * 3,
        output=conv(16, 3),
    ),
    mobile_vit=lambda: module(
        stem=cbr(3, 16),
        mv2=[cbr(16, 64, 1), cbr(64, 64, 3, groups=64), cbr(64, 24, 1)],
        mvit=module(
            conv1=conv(24, 24), transformer=[module(fn=module(to_qkv=nn.Linear(32, 96), to_out=nn.Linear(32, 32)))] * 2, conv4=conv(48, 24)
        ),
        fc=nn.Linear(24, 10),
    ),
)
GROUP.add(
    "cnn|unknown",
    edge_convolutions=lambda: module(conv1=cbr(6, 64, 1), conv2=cbr(128, 64, 1), linear=mlp(64, 32, 10)),
    style_gan=lambda: module(
        mapping=mlp(32, 32, 32), conv1=module(weight=torch.empty(1, 16, 16, 3, 3)), to_rgb=module(weight=torch.empty(1, 3, 16, 1, 1))
    ),
    glow=lambda: module(
        flows=[
            module(
                actnorm=module(loc=torch.empty(1, 12, 1, 1)),
                invconv=module(weight=torch.empty(12, 12, 1, 1)),
                net=nn.Sequential(conv(6, 32), conv(32, 32, 1), conv(32, 12)),
            )
        ]
        * 3
    ),
    architecture_search=lambda: module(
        stem=cbr(3, 16), cells=[module(preprocess0=cbr(16, 16, 1), _ops=[cbr(16, 16), cbr(16, 16, 5)])] * 3, classifier=nn.Linear(16, 10)
    ),
)
GROUP.add(
    "rnn|unknown",
    cell_of_one_linear_layer=lambda: module(lstm_cell=module(gates=nn.Linear(92, 256)), fc=nn.Linear(64, 10)),
    neural_turing_machine=lambda: module(
        controller=nn.LSTMCell(20, 64), heads=[module(k_layer=nn.Linear(64, 20), beta=nn.Linear(64, 1), g=nn.Linear(64, 1))] * 2
    ),
    attention_pooling=lambda: module(
        emb=nn.Embedding(99, 16), gru=nn.GRU(16, 32, bidirectional=True), attention=nn.Linear(64, 1), fc=nn.Linear(64, 2)
    ),
)
GROUP.add(
    "cnn+rnn",
    wave_rnn=lambda: module(
        up=nn.Sequential(nn.Conv1d(80, 64, 5), nn.ConvTranspose1d(64, 64, 16)),
        I=nn.Linear(113, 64),
        rnn1=nn.GRU(64, 64),
        fc=nn.Linear(64, 256),
    ),
    world_agent=lambda: module(
        conv=nn.Sequential(conv(3, 16, 4), conv(16, 32, 4)), lstm=nn.LSTM(128, 32), actor=nn.Linear(32, 6), critic=nn.Linear(32, 1)
    ),
)


def _flat(*named: tuple[str, tuple[int, ...]]) -> Shapes:
    return dict(named)


GROUP.add(
    "unknown",
    names_without_dots=lambda: _flat(("conv1_weight", (16, 3, 3, 3)), ("conv1_bias", (16,)), ("fc_weight", (10, 64)), ("fc_bias", (10,))),
    from_flax=lambda: _flat(("params/Dense_0/kernel", (784, 128)), ("params/Dense_0/bias", (128,)), ("params/Dense_1/kernel", (128, 10))),
    list_of_parameters=lambda: _flat(*((f"params.{at}", shape) for at, shape in enumerate(((8, 4), (8,), (2, 8), (2,))))),
    masked_autoregressive_flow=lambda: _flat(
        *(
            (f"net.{at}.{name}", shape)
            for at, s in ((0, (32, 4)), (2, (8, 32)))
            for name, shape in (("weight", s), ("bias", s[:1]), ("mask", s))
        )
    ),
    equivariant_graph=lambda: module(
        gcl_0=module(edge_mlp=mlp(33, 16, 16), node_mlp=mlp(32, 16, 16), coord_mlp=mlp(16, 16, 1)), embedding=nn.Linear(5, 16)
    ),
    continuous_filters=lambda: module(
        interactions=[module(mlp=mlp(50, 16, 16), conv=module(lin1=nn.Linear(16, 16, bias=False), lin2=nn.Linear(16, 16)))] * 2
    ),
)
