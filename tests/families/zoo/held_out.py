"""Networks written down after the rules were finished, and run once: what the rules make of what they were not made for.

The figures of that first run are in docs/families.md. Since then these are specimens like the others.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from zoo.specimen import Group, Shapes, attention, cbr, conv, linears, mlp, module

GROUP = Group()


@GROUP("cnn")
def efficientnet_v2() -> nn.Module:
    fused = module(
        conv_exp=conv(16, 64, 3, bias=False), bn1=nn.BatchNorm2d(64), conv_pwl=conv(64, 16, 1, bias=False), bn2=nn.BatchNorm2d(16)
    )
    se = module(conv_reduce=conv(64, 4, 1), conv_expand=conv(4, 64, 1))
    deep = module(conv_pw=conv(16, 64, 1), bn1=nn.BatchNorm2d(64), conv_dw=conv(64, 64, 3, groups=64), se=se, conv_pwl=conv(64, 16, 1))
    return module(
        conv_stem=conv(3, 16),
        blocks=[nn.Sequential(fused, fused), nn.Sequential(deep, deep)],
        conv_head=conv(16, 128, 1),
        classifier=nn.Linear(128, 10),
    )


@GROUP("cnn")
def high_resolution_net() -> nn.Module:
    branch = [nn.Sequential(cbr(16, 16), cbr(16, 16)), nn.Sequential(cbr(32, 32), cbr(32, 32))]
    fuse = [nn.ModuleList([nn.Identity(), cbr(32, 16, 1)]), nn.ModuleList([cbr(16, 32), nn.Identity()])]
    return module(
        conv1=conv(3, 16), stage2=[module(branches=branch, fuse_layers=fuse)], last_layer=nn.Sequential(cbr(48, 48, 1), conv(48, 19, 1))
    )


@GROUP("cnn")
def xception() -> nn.Module:
    def separable(a: int, b: int) -> nn.Module:
        return module(conv1=conv(a, a, 3, groups=a, bias=False), pointwise=conv(a, b, 1, bias=False))

    block = module(skip=conv(16, 32, 1), rep=nn.Sequential(separable(16, 32), nn.BatchNorm2d(32), separable(32, 32), nn.BatchNorm2d(32)))
    return module(conv1=conv(3, 8), conv2=conv(8, 16), block1=block, conv4=separable(32, 64), fc=nn.Linear(64, 10))


@GROUP("transformer")
def beit() -> nn.Module:
    own = module(
        q_bias=torch.empty(32),
        v_bias=torch.empty(32),
        relative_position_bias_table=torch.empty(732, 4),
        qkv=nn.Linear(32, 96, bias=False),
        proj=nn.Linear(32, 32),
    )
    block = module(
        gamma_1=torch.empty(32),
        gamma_2=torch.empty(32),
        norm1=nn.LayerNorm(32),
        attn=own,
        norm2=nn.LayerNorm(32),
        mlp=module(fc1=nn.Linear(32, 128), fc2=nn.Linear(128, 32)),
    )
    return module(
        cls_token=torch.empty(1, 1, 32),
        patch_embed=module(proj=conv(3, 32, 16)),
        blocks=[block, block],
        fc_norm=nn.LayerNorm(32),
        head=nn.Linear(32, 10),
    )


@GROUP("transformer")
def dino_v2() -> nn.Module:
    block = module(
        norm1=nn.LayerNorm(32),
        attn=module(qkv=nn.Linear(32, 96), proj=nn.Linear(32, 32)),
        ls1=module(gamma=torch.empty(32)),
        mlp=module(w12=nn.Linear(32, 170), w3=nn.Linear(85, 32)),
    )
    front = {"cls_token": torch.empty(1, 1, 32), "pos_embed": torch.empty(1, 1370, 32), "mask_token": torch.empty(1, 32)}
    return module(**front, patch_embed=module(proj=conv(3, 32, 14)), blocks=[block, block, block], norm=nn.LayerNorm(32))


@GROUP("transformer")
def falcon() -> nn.Module:
    block = module(
        input_layernorm=nn.LayerNorm(32),
        self_attention=module(query_key_value=nn.Linear(32, 48, bias=False), dense=nn.Linear(32, 32, bias=False)),
        mlp=module(dense_h_to_4h=nn.Linear(32, 128, bias=False), dense_4h_to_h=nn.Linear(128, 32, bias=False)),
    )
    return module(
        transformer=module(word_embeddings=nn.Embedding(300, 32), h=[block, block], ln_f=nn.LayerNorm(32)),
        lm_head=nn.Linear(32, 300, bias=False),
    )


@GROUP("transformer")
def qwen2() -> nn.Module:
    attn = module(
        q_proj=nn.Linear(32, 32),
        k_proj=nn.Linear(32, 8),
        v_proj=nn.Linear(32, 8),
        o_proj=nn.Linear(32, 32, bias=False),
        q_norm=nn.RMSNorm(8),
        k_norm=nn.RMSNorm(8),
    )
    wide = module(gate_proj=nn.Linear(32, 80, bias=False), up_proj=nn.Linear(32, 80, bias=False), down_proj=nn.Linear(80, 32, bias=False))
    return module(
        model=module(embed_tokens=nn.Embedding(300, 32), layers=[module(self_attn=attn, mlp=wide, input_layernorm=nn.RMSNorm(32))] * 2)
    )


@GROUP("cnn")
def conv_tasnet() -> nn.Module:
    net = nn.Sequential(
        nn.Conv1d(32, 64, 1),
        nn.PReLU(),
        module(gamma=torch.empty(1, 64, 1), beta=torch.empty(1, 64, 1)),
        nn.Conv1d(64, 64, 3, groups=64),
        nn.Conv1d(64, 32, 1),
    )
    separator = module(bottleneck=nn.Conv1d(64, 32, 1), blocks=[module(net=net) for _ in range(4)], mask=nn.Conv1d(32, 128, 1))
    return module(
        encoder=module(conv1d_U=nn.Conv1d(1, 64, 20, bias=False)),
        separator=separator,
        decoder=module(basis_signals=nn.Linear(64, 20, bias=False)),
    )


@GROUP("cnn+rnn")
def demucs() -> nn.Module:
    def down(a: int, b: int) -> nn.Module:
        return nn.Sequential(nn.Conv1d(a, b, 8), nn.ReLU(), nn.Conv1d(b, 2 * b, 1), nn.GLU(1))

    def up(a: int, b: int) -> nn.Module:
        return nn.Sequential(nn.Conv1d(a, 2 * a, 3), nn.GLU(1), nn.ConvTranspose1d(a, b, 8))

    return module(
        encoder=[down(2, 16), down(16, 32)],
        decoder=[up(32, 16), up(16, 8)],
        lstm=module(lstm=nn.LSTM(32, 32, 2, bidirectional=True), linear=nn.Linear(64, 32)),
    )


@GROUP("cnn+rnn|cnn")
def neural_codec() -> nn.Module:
    norm = torch.nn.utils.parametrizations.weight_norm

    def seanet(*widths: int) -> nn.Module:
        convs = [module(conv=module(conv=norm(nn.Conv1d(a, b, 7)))) for a, b in pairwise(widths)]
        return module(
            model=nn.Sequential(
                *convs, module(lstm=nn.LSTM(widths[-1], widths[-1], 2)), module(conv=module(conv=norm(nn.Conv1d(widths[-1], 32, 7))))
            )
        )

    return module(
        encoder=seanet(1, 16, 32, 64), quantizer=module(layers=[module(codebook=torch.empty(64, 32))] * 2), decoder=seanet(32, 64, 32)
    )


@GROUP("rnn+cnn|rnn")
def tagger_with_character_convolutions() -> nn.Module:
    parts = {"word_embed": nn.Embedding(900, 50), "char_embed": nn.Embedding(60, 15), "char_conv": nn.Conv1d(15, 15, 3)}
    return module(**parts, rnn=nn.LSTM(65, 64, bidirectional=True), dense=nn.Linear(128, 9), crf=module(trans_matrix=torch.empty(9, 9)))


GROUP.add(
    "rnn",
    knowledge_tracing=lambda: module(interaction_emb=nn.Embedding(220, 32), lstm_layer=nn.LSTM(32, 32), out_layer=nn.Linear(32, 110)),
    session_recommender=lambda: module(item_embed=nn.Embedding(999, 32), gru=nn.GRU(32, 48), out=nn.Linear(48, 999, bias=False)),
    probabilistic_forecast=lambda: module(
        embedding=nn.Embedding(370, 20), lstm=nn.LSTM(25, 40, 3), distribution_mu=nn.Linear(120, 1), distribution_presigma=nn.Linear(120, 1)
    ),
)


@GROUP("transformer|transformer+cnn")
def sequential_recommender() -> nn.Module:
    forward = [module(conv1=nn.Conv1d(32, 32, 1), conv2=nn.Conv1d(32, 32, 1)) for _ in range(2)]
    norms = {name: [nn.LayerNorm(32) for _ in range(2)] for name in ("attention_layernorms", "forward_layernorms")}
    return module(
        item_emb=nn.Embedding(999, 32),
        pos_emb=nn.Embedding(50, 32),
        **norms,
        attention_layers=[nn.MultiheadAttention(32, 1)] * 2,
        forward_layers=forward,
    )


@GROUP("cnn")
def attention_unet() -> nn.Module:
    gate = module(
        W_g=nn.Sequential(conv(16, 8, 1), nn.BatchNorm2d(8)),
        W_x=nn.Sequential(conv(16, 8, 1), nn.BatchNorm2d(8)),
        psi=nn.Sequential(conv(8, 1, 1), nn.BatchNorm2d(1)),
    )
    return module(
        Conv1=cbr(3, 16),
        Conv2=cbr(16, 32),
        Up2=module(up=nn.Sequential(nn.Upsample(2), conv(32, 16))),
        Att2=gate,
        Up_conv2=cbr(32, 16),
        Conv_1x1=conv(16, 1, 1),
    )


GROUP.add(
    "mlp|unknown",
    stable_baselines_ppo=lambda: module(
        log_std=torch.empty(2),
        mlp_extractor=module(policy_net=mlp(8, 64, 64), value_net=mlp(8, 64, 64)),
        action_net=nn.Linear(64, 2),
        value_net=nn.Linear(64, 1),
    ),
    soft_actor=lambda: module(latent_pi=mlp(17, 256, 256), mu=nn.Linear(256, 6), log_std=nn.Linear(256, 6)),
    chess=lambda: module(ft=nn.Linear(4096, 64), l1=nn.Linear(128, 32), l2=nn.Linear(32, 32), output=nn.Linear(32, 1)),
)
GROUP.add(
    "mlp",
    student_with_blocks=lambda: module(
        hidden=nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.Dropout()) for a, b in ((30, 64), (64, 64), (64, 32))),
        output=nn.Linear(32, 1),
    ),
    student_in_another_language=lambda: module(
        capa_entrada=nn.Linear(784, 100), capa_oculta=nn.Linear(100, 50), capa_salida=nn.Linear(50, 10)
    ),
)
GROUP.add("unknown|logistic", scikit_learn=lambda: {"coef_": (10, 64), "intercept_": (10,)})


@GROUP("cnn")
def eeg_net() -> nn.Module:
    block1 = nn.Sequential(
        conv(1, 8, (1, 64), bias=False), nn.BatchNorm2d(8), conv(8, 16, (22, 1), groups=8, bias=False), nn.BatchNorm2d(16)
    )
    block2 = nn.Sequential(conv(16, 16, (1, 16), groups=16, bias=False), conv(16, 16, 1, bias=False), nn.BatchNorm2d(16))
    return module(block1=block1, block2=block2, classifier=nn.Linear(256, 4))


def _chebyshev(path: str, a: int, b: int) -> Shapes:
    return {f"{path}.bias": (b,), f"{path}.lins.0.weight": (b, a), f"{path}.lins.1.weight": (b, a)}


GROUP.add("unknown", chebyshev_graph=lambda: {**_chebyshev("conv0", 16, 32), **_chebyshev("conv1", 32, 4)})
GROUP.add("unknown", light_gcn=lambda: module(embedding_user=nn.Embedding(943, 64), embedding_item=nn.Embedding(1682, 64)))


@GROUP("cnn")
def speaker_vectors() -> nn.Module:
    tdnn = [module(kernel=nn.Conv1d(a, b, k), bn=nn.BatchNorm1d(b)) for a, b, k in ((24, 64, 5), (64, 64, 3), (64, 64, 3), (64, 150, 1))]
    return module(frames=tdnn, segment6=nn.Linear(300, 64), segment7=nn.Linear(64, 64), output=nn.Linear(64, 100))


@GROUP("cnn+transformer|cnn")
def vector_quantised_gan() -> nn.Module:
    def res(width: int) -> nn.Module:
        return module(norm1=nn.GroupNorm(4, width), conv1=conv(width, width), norm2=nn.GroupNorm(4, width), conv2=conv(width, width))

    attn = module(norm=nn.GroupNorm(4, 32), **{name: conv(32, 32, 1) for name in ("q", "k", "v", "proj_out")})
    mid = module(block_1=res(32), attn_1=attn)
    encoder = module(conv_in=conv(3, 32), down=[module(block=[res(32), res(32)])], mid=mid, conv_out=conv(32, 16))
    decoder = module(conv_in=conv(16, 32), mid=mid, up=[module(block=[res(32)])], conv_out=conv(32, 3))
    return module(encoder=encoder, decoder=decoder, quantize=module(embedding=nn.Embedding(64, 16)))


@GROUP("transformer+cnn")
def question_answering_net() -> nn.Module:
    def block() -> nn.Module:
        convs = [module(depthwise=nn.Conv1d(32, 32, 7, groups=32), pointwise=nn.Conv1d(32, 32, 1)) for _ in range(4)]
        return module(convs=convs, self_att=attention(32, "q_linear", "k_linear", "v_linear", "fc"), norms=[nn.LayerNorm(32)] * 4)

    return module(embedding=nn.Embedding(300, 32), emb_enc=block(), model_enc=[block(), block()], cq=nn.Linear(96, 1), out=nn.Linear(64, 1))


@GROUP("unknown|rnn")
def minimal_gated_unit() -> nn.Module:
    return module(
        layers=[
            module(linear_z=nn.Linear(28, 64), linear_h=nn.Linear(28, 64)),
            module(linear_z=nn.Linear(64, 64), linear_h=nn.Linear(64, 64)),
        ],
        fc=nn.Linear(64, 10),
    )


@GROUP("transformer")
def students_language_model() -> nn.Module:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 128, batch_first=True, norm_first=True), 2)
    made = module(
        tok=nn.Embedding(65, 32), pos=nn.Embedding(64, 32), decoder=encoder, ln=nn.LayerNorm(32), out=module(proj=linears(32, 65)[0])
    )
    made.register_buffer("causal_mask", torch.empty(64, 64, dtype=torch.bool))
    return made
