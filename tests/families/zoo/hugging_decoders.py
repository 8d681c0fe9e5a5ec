"""Language models that read from left to right, adapters, and those that do without attention, as their public code names the parts."""

from __future__ import annotations

import torch
from torch import nn

from zoo.specimen import Group, Shapes, attention, conv, module

GROUP = Group()
D, WIDE, WORDS = 32, 86, 500


def _rms() -> nn.Module:
    return nn.RMSNorm(D)


@GROUP("transformer")
def gpt2() -> Shapes:
    named: dict[str, tuple[int, ...]] = {"wte.weight": (WORDS, D), "wpe.weight": (64, D)}
    for at in range(2):
        for part, shape in {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D)}.items():
            named |= {f"h.{at}.{part}.weight": shape, f"h.{at}.{part}.bias": shape[1:]}
        named |= {f"h.{at}.ln_{n}.{local}": (D,) for n in (1, 2) for local in ("weight", "bias")}
        named[f"h.{at}.attn.bias"] = (1, 1, 64, 64)
    return named | {"ln_f.weight": (D,), "ln_f.bias": (D,)}


@GROUP("transformer")
def nano_gpt() -> nn.Module:
    attn = module(c_attn=nn.Linear(D, 3 * D), c_proj=nn.Linear(D, D))
    layer = module(ln_1=nn.LayerNorm(D), attn=attn, ln_2=nn.LayerNorm(D), mlp=module(c_fc=nn.Linear(D, 4 * D), c_proj=nn.Linear(4 * D, D)))
    tables = {"wte": nn.Embedding(WORDS, D), "wpe": nn.Embedding(64, D)}
    return module(transformer=module(**tables, h=[layer, layer], ln_f=nn.LayerNorm(D)), lm_head=nn.Linear(D, WORDS, bias=False))


@GROUP("transformer")
def gpt_neox() -> nn.Module:
    attn = module(query_key_value=nn.Linear(D, 3 * D), dense=nn.Linear(D, D))
    layer = module(
        input_layernorm=nn.LayerNorm(D), attention=attn, mlp=module(dense_h_to_4h=nn.Linear(D, WIDE), dense_4h_to_h=nn.Linear(WIDE, D))
    )
    return module(gpt_neox=module(embed_in=nn.Embedding(WORDS, D), layers=[layer, layer]), embed_out=nn.Linear(D, WORDS, bias=False))


def _decoder(attn: nn.Module, mlp: nn.Module | None = None) -> nn.Module:
    gated = module(**{name: nn.Linear(D, WIDE, bias=False) for name in ("gate_proj", "up_proj")}, down_proj=nn.Linear(WIDE, D, bias=False))
    layer = module(self_attn=attn, mlp=mlp or gated, input_layernorm=_rms(), post_attention_layernorm=_rms())
    body = module(embed_tokens=nn.Embedding(WORDS, D), layers=[layer, layer, layer], norm=_rms())
    return module(model=body, lm_head=nn.Linear(D, WORDS, bias=False))


def _few(keys: int) -> nn.Module:
    return attention(D, "q_proj", bias=False, k_proj=keys, v_proj=keys, o_proj=D)


GROUP.add(
    "transformer",
    llama=lambda: _decoder(_few(D)),
    mistral_with_fewer_keys=lambda: _decoder(_few(8)),
    phi3_fused=lambda: _decoder(module(qkv_proj=nn.Linear(D, 48, bias=False), o_proj=nn.Linear(D, D, bias=False))),
    baichuan=lambda: _decoder(module(W_pack=nn.Linear(D, 3 * D, bias=False), o_proj=nn.Linear(D, D, bias=False))),
    bfloat16_llama=lambda: _decoder(_few(D)).to(torch.bfloat16),
)


@GROUP("transformer")
def mixtral() -> nn.Module:
    experts = [
        module(w1=nn.Linear(D, WIDE, bias=False), w2=nn.Linear(WIDE, D, bias=False), w3=nn.Linear(D, WIDE, bias=False)) for _ in range(4)
    ]
    return _decoder(_few(8), module(gate=nn.Linear(D, 4, bias=False), experts=experts))


@GROUP("transformer")
def deepseek_with_latent_attention() -> nn.Module:
    down = {"q_a_proj": nn.Linear(D, 12, bias=False), "q_a_layernorm": nn.RMSNorm(12), "q_b_proj": nn.Linear(12, 48, bias=False)}
    keys = {
        "kv_a_proj_with_mqa": nn.Linear(D, 16, bias=False),
        "kv_a_layernorm": nn.RMSNorm(12),
        "kv_b_proj": nn.Linear(12, 64, bias=False),
    }
    return _decoder(module(**down, **keys, o_proj=nn.Linear(D, D, bias=False)))


@GROUP("transformer")
def mosaic_gpt() -> nn.Module:
    attn = module(Wqkv=nn.Linear(D, 3 * D, bias=False), out_proj=nn.Linear(D, D, bias=False))
    block = module(norm_1=nn.LayerNorm(D), attn=attn, ffn=module(up_proj=nn.Linear(D, WIDE), down_proj=nn.Linear(WIDE, D)))
    return module(transformer=module(wte=nn.Embedding(WORDS, D), blocks=[block, block]))


@GROUP("transformer")
def opt() -> nn.Module:
    layer = module(self_attn=attention(D, "k_proj", "v_proj", "q_proj", "out_proj"), fc1=nn.Linear(D, WIDE), fc2=nn.Linear(WIDE, D))
    return module(decoder=module(embed_tokens=nn.Embedding(WORDS, D), embed_positions=nn.Embedding(66, D), layers=[layer, layer]))


@GROUP("transformer|unknown")
def llama_quantised_by_gptq() -> Shapes:
    named: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (WORDS, D)}
    for at in range(2):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            path = f"model.layers.{at}.self_attn.{name}"
            named |= {f"{path}.qweight": (4, D), f"{path}.qzeros": (1, 4), f"{path}.scales": (1, D), f"{path}.g_idx": (D,)}
    return named | {"lm_head.weight": (WORDS, D)}


def _adapters(*names: str) -> Shapes:
    named: dict[str, tuple[int, ...]] = {}
    for at in range(2):
        for name in names:
            rows = WIDE if name == "up_proj" else D
            path = f"base_model.model.model.layers.{at}.{'mlp' if name == 'up_proj' else 'self_attn'}.{name}"
            named |= {f"{path}.lora_A.weight": (4, D), f"{path}.lora_B.weight": (rows, 4)}
    return named


GROUP.add(
    "unknown|transformer",
    lora_of_attention=lambda: _adapters("q_proj", "v_proj"),
    lora_of_three=lambda: _adapters("q_proj", "k_proj", "v_proj"),
)
GROUP.add("unknown", lora_of_one_layer=lambda: dict(list(_adapters("up_proj").items())[:2]))


@GROUP("unknown")
def mamba() -> nn.Module:
    def layer() -> nn.Module:
        parts = {"A_log": torch.empty(64, 16), "D": torch.empty(64), "in_proj": nn.Linear(D, 128, bias=False)}
        parts |= {"conv1d": nn.Conv1d(64, 64, 4, groups=64), "x_proj": nn.Linear(64, 34, bias=False), "dt_proj": nn.Linear(2, 64)}
        return module(mixer=module(**parts, out_proj=nn.Linear(64, D, bias=False)), norm=_rms())

    return module(backbone=module(embedding=nn.Embedding(WORDS, D), layers=[layer(), layer()], norm_f=_rms()), lm_head=nn.Linear(D, WORDS))


@GROUP("unknown")
def mamba2_of_one_layer() -> nn.Module:
    parts = {"dt_bias": torch.empty(2), "A_log": torch.empty(2), "D": torch.empty(2), "in_proj": nn.Linear(D, 162, bias=False)}
    mixer = module(**parts, conv1d=nn.Conv1d(96, 96, 4, groups=96), norm=nn.RMSNorm(64), out_proj=nn.Linear(64, D, bias=False))
    return module(embedding=nn.Embedding(50, D), layers=[module(mixer=mixer, norm=_rms())], lm_head=nn.Linear(D, 50, bias=False))


@GROUP("unknown")
def rwkv() -> nn.Module:
    mixes = {f"time_mix_{name}": torch.empty(1, 1, D) for name in ("key", "value", "receptance")}
    names = ("key", "value", "receptance", "output")
    time = module(time_decay=torch.empty(D), time_first=torch.empty(D), **mixes, **{n: nn.Linear(D, D, bias=False) for n in names})
    wide = module(key=nn.Linear(D, WIDE, bias=False), receptance=nn.Linear(D, D, bias=False), value=nn.Linear(WIDE, D, bias=False))
    layer = module(ln1=nn.LayerNorm(D), ln2=nn.LayerNorm(D), attention=time, feed_forward=wide)
    return module(
        rwkv=module(embeddings=nn.Embedding(WORDS, D), blocks=[layer, layer], ln_out=nn.LayerNorm(D)), head=nn.Linear(D, WORDS, bias=False)
    )


@GROUP("unknown")
def retnet_gate_and_state_space_s4() -> nn.Module:
    kernel = module(
        C=torch.empty(1, D, 8, 2), log_dt=torch.empty(D), B=torch.empty(1, 8, 2), P=torch.empty(1, 8, 2), A_real=torch.empty(1, 8)
    )
    layer = module(D=torch.empty(1, D), kernel=kernel, output_linear=nn.Sequential(nn.Conv1d(D, 2 * D, 1), nn.GLU()))
    return module(encoder=nn.Linear(1, D), s4_layers=[layer, layer], norms=[nn.LayerNorm(D)] * 2, decoder=nn.Linear(D, 10))


@GROUP("unknown")
def hyena() -> nn.Module:
    filt = module(bias=torch.empty(D), implicit_filter=nn.Sequential(nn.Linear(5, 16), nn.Identity(), nn.Linear(16, D, bias=False)))
    mixer = module(in_proj=nn.Linear(D, 3 * D), out_proj=nn.Linear(D, D), short_filter=nn.Conv1d(96, 96, 3, groups=96), filter_fn=filt)
    layer = module(mixer=mixer, norm1=nn.LayerNorm(D), mlp=module(fc1=nn.Linear(D, WIDE), fc2=nn.Linear(WIDE, D)))
    return module(embeddings=nn.Embedding(WORDS, D), layers=[layer, layer], ln_f=nn.LayerNorm(D))


@GROUP("unknown")
def fnet() -> nn.Module:
    layer = module(
        fourier=module(LayerNorm=nn.LayerNorm(D)), intermediate=module(dense=nn.Linear(D, WIDE)), output=module(dense=nn.Linear(WIDE, D))
    )
    tables = module(word_embeddings=nn.Embedding(WORDS, D), position_embeddings=nn.Embedding(64, D), projection=nn.Linear(D, D))
    return module(fnet=module(embeddings=tables, encoder=module(layer=[layer, layer])), classifier=nn.Linear(D, 2))


@GROUP("transformer+cnn")
def clip_with_a_resnet() -> nn.Module:
    pool = module(positional_embedding=torch.empty(50, 64), **{f"{n}_proj": nn.Linear(64, 64) for n in "kqvc"})
    visual = module(conv1=conv(3, 32), conv2=conv(32, 64), conv3=conv(64, 64), attnpool=pool)
    layer = module(attn=nn.MultiheadAttention(D, 4), ln_1=nn.LayerNorm(D), mlp=module(c_fc=nn.Linear(D, WIDE), c_proj=nn.Linear(WIDE, D)))
    return module(visual=visual, transformer=module(resblocks=[layer, layer]), token_embedding=nn.Embedding(WORDS, D))
