"""Encoders, encoder-decoders and models of speech, as Hugging Face's transformers names their parts (narrower)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo.specimen import Group, attention, conv, module

GROUP = Group()
D, WIDE, WORDS = 32, 64, 500


def _embeddings(**more: Any) -> nn.Module:
    tables = {"word_embeddings": nn.Embedding(WORDS, D), "position_embeddings": nn.Embedding(128, D)}
    made = module(**tables, **more, LayerNorm=nn.LayerNorm(D))
    made.register_buffer("position_ids", torch.empty(1, 128))
    return made


def _bert_layer() -> nn.Module:
    own = attention(D, "query", "key", "value")
    out = module(dense=nn.Linear(D, D), LayerNorm=nn.LayerNorm(D))
    end = module(dense=nn.Linear(WIDE, D), LayerNorm=nn.LayerNorm(D))
    return module(attention=module(self=own, output=out), intermediate=module(dense=nn.Linear(D, WIDE)), output=end)


def _bert(*layers: nn.Module, **more: nn.Module) -> nn.Module:
    return module(embeddings=_embeddings(token_type_embeddings=nn.Embedding(2, D)), encoder=module(layer=list(layers)), **more)


@GROUP("transformer")
def bert_for_masked_words() -> nn.Module:
    transform = module(dense=nn.Linear(D, D), LayerNorm=nn.LayerNorm(D))
    predictions = module(bias=torch.empty(WORDS), transform=transform, decoder=nn.Linear(D, WORDS))
    return module(bert=_bert(_bert_layer(), _bert_layer()), cls=module(predictions=predictions))


@GROUP("transformer")
def roberta_for_classes() -> nn.Module:
    head = module(dense=nn.Linear(D, D), out_proj=nn.Linear(D, 3))
    return module(roberta=_bert(_bert_layer(), _bert_layer()), classifier=head)


@GROUP("transformer")
def camembert_base_model() -> nn.Module:
    return _bert(_bert_layer(), pooler=module(dense=nn.Linear(D, D)))


@GROUP("transformer")
def electra_with_a_narrow_embedding() -> nn.Module:
    electra = module(embeddings=_embeddings(), embeddings_project=nn.Linear(16, D), encoder=module(layer=[_bert_layer(), _bert_layer()]))
    return module(electra=electra, discriminator_predictions=module(dense=nn.Linear(D, D), dense_prediction=nn.Linear(D, 1)))


@GROUP("transformer")
def distilbert() -> nn.Module:
    layer = module(
        attention=attention(D, "q_lin", "k_lin", "v_lin", "out_lin"),
        sa_layer_norm=nn.LayerNorm(D),
        ffn=module(lin1=nn.Linear(D, WIDE), lin2=nn.Linear(WIDE, D)),
        output_layer_norm=nn.LayerNorm(D),
    )
    body = module(embeddings=_embeddings(), transformer=module(layer=[layer, layer]))
    return module(distilbert=body, pre_classifier=nn.Linear(D, D), classifier=nn.Linear(D, 2))


@GROUP("transformer")
def albert() -> nn.Module:
    attn = module(**dict(attention(D, "query", "key", "value", "dense").named_children()), LayerNorm=nn.LayerNorm(D))
    shared = module(full_layer_layer_norm=nn.LayerNorm(D), attention=attn, ffn=nn.Linear(D, WIDE), ffn_output=nn.Linear(WIDE, D))
    encoder = module(embedding_hidden_mapping_in=nn.Linear(16, D), albert_layer_groups=[module(albert_layers=[shared])])
    return module(albert=module(embeddings=module(word_embeddings=nn.Embedding(WORDS, 16)), encoder=encoder, pooler=nn.Linear(D, D)))


@GROUP("transformer")
def deberta_v1_with_fused_in_proj() -> nn.Module:
    own = module(
        q_bias=torch.empty(D), v_bias=torch.empty(D), in_proj=nn.Linear(D, 3 * D, bias=False), pos_proj=nn.Linear(D, D, bias=False)
    )
    layer = module(
        attention=module(self=own, output=module(dense=nn.Linear(D, D))), intermediate=nn.Linear(D, WIDE), output=nn.Linear(WIDE, D)
    )
    return module(deberta=module(embeddings=_embeddings(), encoder=module(layer=[layer, layer], rel_embeddings=nn.Embedding(64, D))))


@GROUP("transformer")
def deberta_v3() -> nn.Module:
    own = attention(D, "query_proj", "key_proj", "value_proj")
    layer = module(
        attention=module(self=own, output=module(dense=nn.Linear(D, D))), intermediate=nn.Linear(D, WIDE), output=nn.Linear(WIDE, D)
    )
    return module(deberta=module(embeddings=_embeddings(), encoder=module(layer=[layer, layer])), classifier=nn.Linear(D, 3))


@GROUP("transformer")
def xlnet() -> nn.Module:
    rel = module(
        **{name: torch.empty(D, 4, 8) for name in ("q", "k", "v", "o", "r")}, r_w_bias=torch.empty(4, 8), layer_norm=nn.LayerNorm(D)
    )
    layer = module(rel_attn=rel, ff=module(layer_norm=nn.LayerNorm(D), layer_1=nn.Linear(D, WIDE), layer_2=nn.Linear(WIDE, D)))
    return module(transformer=module(mask_emb=torch.empty(1, 1, D), word_embedding=nn.Embedding(WORDS, D), layer=[layer, layer]))


@GROUP("transformer")
def longformer() -> nn.Module:
    own = attention(D, "query", "key", "value", "query_global", "key_global", "value_global")
    layer = module(
        attention=module(self=own, output=module(dense=nn.Linear(D, D))), intermediate=nn.Linear(D, WIDE), output=nn.Linear(WIDE, D)
    )
    return module(longformer=module(embeddings=_embeddings(), encoder=module(layer=[layer])), lm_head=nn.Linear(D, WORDS))


@GROUP("transformer")
def funnel() -> nn.Module:
    attn = module(
        **dict(attention(D, "q_head", "k_head", "v_head", "post_proj").named_children()),
        **{name: torch.empty(4, 8) for name in ("r_w_bias", "r_r_bias", "seg_embed")},
    )
    layer = module(attention=attn, ffn=module(linear_1=nn.Linear(D, WIDE), linear_2=nn.Linear(WIDE, D)))
    return module(funnel=module(embeddings=module(word_embeddings=nn.Embedding(WORDS, D)), blocks=[[layer], [layer]][0]))


@GROUP("transformer")
def transformer_xl() -> nn.Module:
    attn = module(qkv_net=nn.Linear(D, 3 * D, bias=False), o_net=nn.Linear(D, D, bias=False), r_net=nn.Linear(D, D, bias=False))
    layer = module(dec_attn=attn, pos_ff=module(CoreNet=nn.Sequential(nn.Linear(D, WIDE), nn.ReLU(), nn.Dropout(), nn.Linear(WIDE, D))))
    return module(word_emb=nn.Embedding(WORDS, D), layers=[layer, layer], crit=nn.Linear(D, WORDS))


@GROUP("transformer|unknown")
def reformer() -> nn.Module:
    attn = module(self_attention=attention(D, "query_key", "value", bias=False), output=module(dense=nn.Linear(D, D, bias=False)))
    wide = module(layer_norm=nn.LayerNorm(D), dense=module(dense=nn.Linear(D, WIDE)), output=module(dense=nn.Linear(WIDE, D)))
    return module(reformer=module(embeddings=nn.Embedding(WORDS, D), encoder=module(layers=[module(attention=attn, feed_forward=wide)])))


def _t5(decoder: bool) -> nn.Module:
    norm = nn.LayerNorm(D, bias=False)
    own = module(SelfAttention=attention(D, "q", "k", "v", "o", bias=False), layer_norm=norm)
    cross = module(EncDecAttention=attention(D, "q", "k", "v", "o", bias=False), layer_norm=norm)
    wide = module(DenseReluDense=module(wi=nn.Linear(D, WIDE, bias=False), wo=nn.Linear(WIDE, D, bias=False)), layer_norm=norm)
    return module(block=[module(layer=[own, *([cross] if decoder else []), wide]) for _ in range(2)], final_layer_norm=norm)


@GROUP("transformer")
def t5() -> nn.Module:
    return module(shared=nn.Embedding(WORDS, D), encoder=_t5(False), decoder=_t5(True), lm_head=nn.Linear(D, WORDS, bias=False))


def _bart_layer(*attentions: str) -> nn.Module:
    parts: dict[str, nn.Module] = {}
    for name in attentions:
        parts |= {name: attention(D, "k_proj", "v_proj", "q_proj", "out_proj"), f"{name}_layer_norm": nn.LayerNorm(D)}
    return module(**parts, fc1=nn.Linear(D, WIDE), fc2=nn.Linear(WIDE, D), final_layer_norm=nn.LayerNorm(D))


@GROUP("transformer")
def bart() -> nn.Module:
    ends = {"embed_tokens": nn.Embedding(WORDS, D), "embed_positions": nn.Embedding(66, D)}
    encoder = module(**ends, layers=[_bart_layer("self_attn") for _ in range(2)], layernorm_embedding=nn.LayerNorm(D))
    decoder = module(**ends, layers=[_bart_layer("self_attn", "encoder_attn") for _ in range(2)], layernorm_embedding=nn.LayerNorm(D))
    return module(model=module(shared=nn.Embedding(WORDS, D), encoder=encoder, decoder=decoder), final_logits_bias=torch.empty(1, WORDS))


@GROUP("transformer")
def whisper() -> nn.Module:
    layers = [_bart_layer("self_attn") for _ in range(6)]
    encoder = module(conv1=nn.Conv1d(16, D, 3), conv2=nn.Conv1d(D, D, 3), embed_positions=nn.Embedding(150, D), layers=layers)
    decoder = module(embed_tokens=nn.Embedding(WORDS, D), layers=[_bart_layer("self_attn", "encoder_attn") for _ in range(6)])
    return module(model=module(encoder=encoder, decoder=decoder))


@GROUP("transformer+cnn")
def wav2vec2() -> nn.Module:
    convs = [module(conv=nn.Conv1d(1 if at == 0 else 32, 32, 10 if at == 0 else 3, bias=False)) for at in range(5)]
    position = module(conv=torch.nn.utils.parametrizations.weight_norm(nn.Conv1d(D, D, 16, groups=4), dim=2))
    layer = _bart_layer("attention")
    encoder = module(pos_conv_embed=position, layer_norm=nn.LayerNorm(D), layers=[layer, layer])
    features = module(layer_norm=nn.LayerNorm(32), projection=nn.Linear(32, D))
    return module(
        masked_spec_embed=torch.empty(D), feature_extractor=module(conv_layers=convs), feature_projection=features, encoder=encoder
    )


@GROUP("transformer")
def clip() -> nn.Module:
    text = module(embeddings=module(token_embedding=nn.Embedding(WORDS, 24), position_embedding=nn.Embedding(77, 24)))
    text.add_module("encoder", module(layers=[module(self_attn=attention(24, "k_proj", "v_proj", "q_proj", "out_proj"))] * 3))
    eyes = module(class_embedding=torch.empty(D), patch_embedding=conv(3, D, 4, bias=False), position_embedding=nn.Embedding(50, D))
    vision = module(embeddings=eyes, pre_layrnorm=nn.LayerNorm(D), encoder=module(layers=[_bart_layer("self_attn") for _ in range(3)]))
    ends = {"visual_projection": nn.Linear(D, 16, bias=False), "text_projection": nn.Linear(24, 16, bias=False)}
    return module(logit_scale=torch.empty(()), text_model=text, vision_model=vision, **ends)


@GROUP("transformer")
def deit_distilled() -> nn.Module:
    tokens = {"cls_token": torch.empty(1, 1, D), "distillation_token": torch.empty(1, 1, D), "position_embeddings": torch.empty(1, 198, D)}
    eyes = module(**tokens, patch_embeddings=module(projection=conv(3, D, 16)))
    layer = module(**dict(_bert_layer().named_children()), layernorm_before=nn.LayerNorm(D), layernorm_after=nn.LayerNorm(D))
    inner = module(attention=module(attention=attention(D, "query", "key", "value"), output=module(dense=nn.Linear(D, D))))
    return module(deit=module(embeddings=eyes, encoder=module(layer=[layer, inner, inner])), cls_classifier=nn.Linear(D, 10))


@GROUP("transformer+cnn")
def conformer() -> nn.Module:
    def layer() -> nn.Module:
        attn = attention(D, "linear_q", "linear_k", "linear_v", "linear_out", "linear_pos")
        parts = {"pointwise_conv1": nn.Conv1d(D, 2 * D, 1), "depthwise_conv": nn.Conv1d(D, D, 15, groups=D), "norm": nn.BatchNorm1d(D)}
        wide = module(w_1=nn.Linear(D, WIDE), w_2=nn.Linear(WIDE, D))
        return module(
            self_attn=attn, conv_module=module(**parts, pointwise_conv2=nn.Conv1d(D, D, 1)), feed_forward=wide, norm_ff=nn.LayerNorm(D)
        )

    embed = module(conv=nn.Sequential(conv(1, D), nn.ReLU(), conv(D, D)), out=nn.Linear(19 * D, D))
    return module(encoder=module(embed=embed, encoders=[layer(), layer()]), ctc=nn.Linear(D, 50))


@GROUP("transformer")
def sentence_encoder_with_mean_pooling() -> nn.Module:
    return nn.Sequential(module(auto_model=_bert(_bert_layer(), _bert_layer())), nn.Identity(), module(linear=nn.Linear(D, 16)))
