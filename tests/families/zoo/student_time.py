"""Recurrent networks, transformers by hand, and mixtures, as students write them."""

from __future__ import annotations

import torch
from torch import nn

from zoo.specimen import Group, Shapes, attention, cbr, conv, mlp, module

GROUP = Group()

GROUP.add(
    "rnn",
    lstm_classifier=lambda: module(lstm=nn.LSTM(28, 64, 2, batch_first=True), fc=nn.Linear(64, 10)),
    bare_gru=lambda: nn.GRU(8, 16, 2, bidirectional=True),
    plain_rnn=lambda: module(rnn=nn.RNN(1, 32), linear=nn.Linear(32, 1)),
    projected_lstm=lambda: module(lstm=nn.LSTM(16, 32, proj_size=8), fc=nn.Linear(8, 4)),
    tagger=lambda: module(word_embeddings=nn.Embedding(9000, 50), lstm=nn.LSTM(50, 64, bidirectional=True), hidden2tag=nn.Linear(128, 9)),
    tagger_with_crf=lambda: module(
        transitions=torch.empty(5, 5), word_embeds=nn.Embedding(900, 5), lstm=nn.LSTM(5, 2, bidirectional=True), hidden2tag=nn.Linear(4, 5)
    ),
    characters_by_cell=lambda: module(embed=nn.Embedding(65, 16), cell=nn.GRUCell(16, 64), out=nn.Linear(64, 65)),
    two_cells=lambda: module(lstm1=nn.LSTMCell(1, 51), lstm2=nn.LSTMCell(51, 51), linear=nn.Linear(51, 1)),
    rnn_cell=lambda: module(cell=nn.RNNCell(28, 64), fc=nn.Linear(64, 10)),
    tutorial_by_hand=lambda: module(i2h=nn.Linear(185, 128), i2o=nn.Linear(185, 18), o2o=nn.Linear(146, 18)),
    elman_by_hand=lambda: module(W_xh=nn.Linear(28, 64), W_hh=nn.Linear(64, 64), W_hy=nn.Linear(64, 10)),
    hidden_to_hidden=lambda: module(
        input_to_hidden=nn.Linear(28, 64), hidden_to_hidden=nn.Linear(64, 64), hidden_to_output=nn.Linear(64, 10)
    ),
    gates_by_hand=lambda: module(
        **{f"{gate}_gate": nn.Linear(92, 64) for gate in ("forget", "input", "output", "cell")}, fc=nn.Linear(64, 10)
    ),
    fused_gates_by_hand=lambda: module(cell=module(x2h=nn.Linear(28, 256), h2h=nn.Linear(64, 256)), fc=nn.Linear(64, 10)),
    language_model=lambda: module(encoder=nn.Embedding(1000, 64), rnn=nn.LSTM(64, 64, 2), decoder=nn.Linear(64, 1000)),
    translation=lambda: module(
        encoder=module(embedding=nn.Embedding(500, 32), gru=nn.GRU(32, 32)),
        decoder=module(embedding=nn.Embedding(400, 32), gru=nn.GRU(32, 32), out=nn.Linear(32, 400)),
    ),
    bahdanau=lambda: module(
        encoder=module(embedding=nn.Embedding(500, 32), gru=nn.GRU(32, 32)),
        decoder=module(
            embedding=nn.Embedding(400, 32),
            attention=module(Wa=nn.Linear(32, 32), Ua=nn.Linear(32, 32), Va=nn.Linear(32, 1)),
            gru=nn.GRU(64, 32),
            out=nn.Linear(32, 400),
        ),
    ),
    luong=lambda: module(
        encoder=module(gru=nn.GRU(32, 32, 2, bidirectional=True)),
        decoder=module(gru=nn.GRU(32, 32, 2), concat=nn.Linear(64, 32), out=nn.Linear(32, 400), attn=module(attn=nn.Linear(32, 32))),
    ),
    autoencoder=lambda: module(encoder=nn.LSTM(4, 16), decoder=nn.LSTM(16, 16), out=nn.Linear(16, 4)),
    bfloat16=lambda: module(lstm=nn.LSTM(8, 16), fc=nn.Linear(16, 2)).to(torch.bfloat16),
    siamese=lambda: module(embedding=nn.Embedding(300, 32), lstm=nn.LSTM(32, 48), fc=mlp(192, 64, 1)),
)
GROUP.add(
    "rnn|unknown",
    bare_parameters=lambda: {"Wxh": (64, 28), "Whh": (64, 64), "Why": (10, 64), "bh": (64,), "by": (10,)},
    lstm_of_bare_parameters=lambda: {
        f"cell.{kind}_{gate}": (16, 8) if kind == "W" else (16, 16) if kind == "U" else (16,) for gate in "ifco" for kind in "WUb"
    },
)


@GROUP("rnn")
def dropped_weights_of_an_lstm() -> Shapes:
    cells: dict[str, tuple[int, ...]] = {"encoder.weight": (1000, 40), "encoder_dp.emb.weight": (1000, 40)}
    for at, (a, b) in enumerate(((40, 64), (64, 40))):
        cells |= {f"rnns.{at}.weight_hh_l0_raw": (4 * b, b), f"rnns.{at}.module.weight_ih_l0": (4 * b, a)}
        cells |= {f"rnns.{at}.module.{bias}_l0": (4 * b,) for bias in ("bias_ih", "bias_hh")}
    return cells


GROUP.add(
    "transformer",
    encoder_classifier=lambda: module(embed=nn.Linear(8, 32), pos=torch.empty(1, 8, 32), encoder=_encoder(32, 2), fc=nn.Linear(32, 10)),
    tokens=lambda: module(embedding=nn.Embedding(5000, 32), encoder=_encoder(32, 3), decoder=nn.Linear(32, 2)),
    whole=lambda: module(
        transformer=nn.Transformer(32, 4, 2, 2, 64), src=nn.Embedding(100, 32), tgt=nn.Embedding(100, 32), out=nn.Linear(32, 100)
    ),
    decoder_only=lambda: module(
        emb=nn.Embedding(100, 32), dec=nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 64), 2), out=nn.Linear(32, 100)
    ),
    one_attention=lambda: module(attn=nn.MultiheadAttention(32, 4), fc=nn.Linear(32, 10)),
    other_key_widths=lambda: module(attn=nn.MultiheadAttention(32, 4, kdim=16, vdim=8), fc=nn.Linear(32, 10)),
    single_head_by_hand=lambda: module(attn=attention(32, "W_q", "W_k", "W_v"), fc=nn.Linear(32, 10)),
    to_keys=lambda: module(
        tokens=nn.Embedding(50, 32),
        blocks=[module(attention=attention(32, "tokeys", "toqueries", "tovalues", "unifyheads", bias=False), ff=mlp(32, 128, 32))],
        out=nn.Linear(32, 2),
    ),
    annotated=lambda: module(
        encoder=module(
            layers=[
                module(
                    self_attn=module(linears=[nn.Linear(32, 32) for _ in range(4)]),
                    feed_forward=module(w_1=nn.Linear(32, 64), w_2=nn.Linear(64, 32)),
                )
                for _ in range(2)
            ]
        ),
        src_embed=nn.Sequential(module(lut=nn.Embedding(100, 32))),
        generator=module(proj=nn.Linear(32, 100)),
    ),
    heads_by_lecture=lambda: module(
        token_embedding_table=nn.Embedding(65, 32),
        blocks=[
            module(
                sa=module(heads=[attention(32, bias=False, key=8, query=8, value=8) for _ in range(4)], proj=nn.Linear(32, 32)),
                ffwd=module(net=mlp(32, 128, 32)),
            )
        ],
        lm_head=nn.Linear(32, 65),
    ),
    camel_case=lambda: module(mha=attention(32, "queryLinear", "keyLinear", "valueLinear"), classifier=mlp(32, 16, 2)),
    vision_by_hand=lambda: module(
        patch=conv(1, 32, 4),
        cls=torch.empty(1, 1, 32),
        pos=torch.empty(1, 50, 32),
        blocks=[module(attn=attention(32, "q", "k", "v", "o"), mlp=mlp(32, 64, 32))] * 2,
        head=nn.Linear(32, 10),
    ),
    set_transformer=lambda: module(
        enc=nn.Sequential(*(module(mab=attention(32, "fc_q", "fc_k", "fc_v", "fc_o")) for _ in range(2))), dec=nn.Linear(32, 1)
    ),
    time_series_patches=lambda: module(
        W_P=nn.Linear(16, 32),
        W_pos=torch.empty(42, 32),
        layers=[module(self_attn=attention(32, "W_Q", "W_K", "W_V", "to_out"), ff=mlp(32, 64, 32))] * 2,
        head=nn.Linear(1344, 96),
    ),
)


def _encoder(width: int, layers: int) -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True), layers)


GROUP.add(
    "cnn+rnn",
    crnn=lambda: module(
        cnn=nn.Sequential(cbr(1, 16), cbr(16, 32), cbr(32, 64)), rnn=nn.Sequential(nn.LSTM(64, 32, bidirectional=True), nn.Linear(64, 37))
    ),
    video=lambda: module(cnn=nn.Sequential(cbr(3, 32), cbr(32, 64)), lstm=nn.LSTM(64, 48), fc=nn.Linear(48, 5)),
    speech=lambda: module(conv=nn.Sequential(cbr(1, 32), cbr(32, 32)), rnns=nn.GRU(320, 128, 2), fc=nn.Linear(128, 29)),
    electrocardiogram=lambda: module(conv1=nn.Conv1d(12, 64, 7), conv2=nn.Conv1d(64, 64, 5), lstm=nn.LSTM(64, 32), out=nn.Linear(32, 5)),
    tacotron=lambda: module(
        embedding=nn.Embedding(148, 32),
        encoder=module(
            convolutions=[nn.Sequential(nn.Conv1d(32, 32, 5), nn.BatchNorm1d(32))] * 3, lstm=nn.LSTM(32, 16, bidirectional=True)
        ),
        decoder=module(attention_rnn=nn.LSTMCell(48, 64), decoder_rnn=nn.LSTMCell(96, 64), linear_projection=nn.Linear(96, 80)),
        postnet=module(convolutions=[nn.Conv1d(80, 64, 5), nn.Conv1d(64, 80, 5)]),
    ),
    caption=lambda: module(
        encoder=nn.Sequential(cbr(3, 16), cbr(16, 64)), embed=nn.Embedding(100, 32), lstm=nn.LSTM(96, 64), out=nn.Linear(64, 100)
    ),
)
GROUP.add(
    "rnn+transformer",
    lstm_with_attention=lambda: module(
        embedding=nn.Embedding(500, 32), lstm=nn.LSTM(32, 32), attn=nn.MultiheadAttention(32, 4), fc=nn.Linear(32, 2)
    ),
    fusion=lambda: module(
        encoder=nn.LSTM(16, 16),
        decoder=nn.LSTM(16, 16),
        grn=mlp(16, 16, 16),
        attn=attention(16, "q_layer", "k_layer", "v_layer"),
        out=nn.Linear(16, 3),
    ),
    slots=lambda: module(
        slots_mu=torch.empty(1, 1, 32),
        to_q=nn.Linear(32, 32),
        to_k=nn.Linear(32, 32),
        to_v=nn.Linear(32, 32),
        gru=nn.GRUCell(32, 32),
        mlp=mlp(32, 64, 32),
    ),
)


@GROUP("unknown|cnn+rnn|rnn+cnn")
def convolutional_lstm() -> nn.Module:
    return module(cell_list=[module(conv=conv(1 + 16, 64)), module(conv=conv(16 + 16, 64))], out=conv(16, 1, 1))


@GROUP("unknown|rnn")
def simple_recurrent_unit() -> Shapes:
    return {
        f"sru.rnn_lst.{at}.{name}": shape
        for at in range(2)
        for name, shape in (("weight", (64, 192)), ("weight_c", (128,)), ("bias", (128,)))
    } | {"fc.weight": (5, 64), "fc.bias": (5,)}


@GROUP("unknown|rnn")
def quasi_recurrent() -> nn.Module:
    return module(qrnn=module(layers=[module(linear=nn.Linear(32, 192)), module(linear=nn.Linear(64, 192))]), fc=nn.Linear(64, 2))


@GROUP("unknown|rnn|rnn+mlp")
def echo_state() -> Shapes:
    return {"W_in": (200, 3), "W": (200, 200), "readout.weight": (3, 200), "readout.bias": (3,)}
