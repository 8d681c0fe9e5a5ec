"""Image networks with attention, and mixtures of it with convolutions."""

from __future__ import annotations

import torch
from torch import nn

from zoo.specimen import Group, attention, cbr, conv, linears, mlp, module
from zoo.vision_classic import block, bottleneck

GROUP = Group()


def _fused_block(width: int, **more: nn.Module) -> nn.Module:
    """timm's Block."""
    attn = module(qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width))
    wide = module(fc1=nn.Linear(width, 4 * width), fc2=nn.Linear(4 * width, width))
    return module(norm1=nn.LayerNorm(width), attn=attn, norm2=nn.LayerNorm(width), mlp=wide, **more)


@GROUP("transformer")
def torchvision_vit() -> nn.Module:
    def layer() -> nn.Module:
        wide = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Dropout(), nn.Linear(64, 32))
        return module(ln_1=nn.LayerNorm(32), self_attention=nn.MultiheadAttention(32, 4), ln_2=nn.LayerNorm(32), mlp=wide)

    layers = module(**{f"encoder_layer_{at}": layer() for at in range(3)})
    encoder = module(pos_embedding=torch.empty(1, 50, 32), layers=layers, ln=nn.LayerNorm(32))
    return module(class_token=torch.empty(1, 1, 32), conv_proj=conv(3, 32, 16), encoder=encoder, heads=module(head=nn.Linear(32, 10)))


@GROUP("transformer")
def timm_vit() -> nn.Module:
    front = {"cls_token": torch.empty(1, 1, 32), "pos_embed": torch.empty(1, 50, 32), "patch_embed": module(proj=conv(3, 32, 16))}
    return module(**front, blocks=[_fused_block(32) for _ in range(4)], norm=nn.LayerNorm(32), head=nn.Linear(32, 1000))


@GROUP("transformer")
def swin() -> nn.Module:
    def layer(width: int) -> nn.Module:
        attn = module(relative_position_bias_table=torch.empty(169, 4), qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width))
        attn.register_buffer("relative_position_index", torch.empty(2401))
        wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(), nn.Linear(4 * width, width))
        return module(norm1=nn.LayerNorm(width), attn=attn, norm2=nn.LayerNorm(width), mlp=wide)

    merge = module(reduction=nn.Linear(128, 64, bias=False), norm=nn.LayerNorm(128))
    stem = nn.Sequential(conv(3, 32, 4), nn.Identity(), nn.LayerNorm(32))
    features = nn.Sequential(stem, nn.Sequential(layer(32), layer(32)), merge, nn.Sequential(layer(64), layer(64)))
    return module(features=features, norm=nn.LayerNorm(64), head=nn.Linear(64, 10))


@GROUP("transformer|transformer+cnn")
def maxvit() -> nn.Module:
    mb = module(layers=nn.Sequential(cbr(16, 32, 1), cbr(32, 32, 3, groups=32), conv(32, 16, 1)))
    attn = module(
        attn_layer=nn.Sequential(nn.LayerNorm(16), module(to_qkv=nn.Linear(16, 48), merge=nn.Linear(16, 16))), mlp_layer=mlp(16, 64, 16)
    )
    return module(
        stem=cbr(3, 16),
        blocks=[module(MBconv=mb, window_attention=attn, grid_attention=attn) for _ in range(2)],
        classifier=mlp(16, 16, 10),
    )


@GROUP("transformer")
def lucidrains_vit() -> nn.Module:
    def layer() -> nn.ModuleList:
        attn = module(norm=nn.LayerNorm(32), to_qkv=nn.Linear(32, 192, bias=False), to_out=nn.Sequential(nn.Linear(64, 32), nn.Dropout()))
        wide = module(net=nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Dropout(), nn.Linear(64, 32)))
        return nn.ModuleList([attn, wide])

    patches = nn.Sequential(nn.Identity(), nn.LayerNorm(48), nn.Linear(48, 32), nn.LayerNorm(32))
    front = {"pos_embedding": torch.empty(1, 65, 32), "cls_token": torch.empty(1, 1, 32), "to_patch_embedding": patches}
    return module(**front, transformer=module(layers=[layer(), layer()], norm=nn.LayerNorm(32)), mlp_head=nn.Linear(32, 10))


@GROUP("transformer")
def cait_and_perceiver() -> nn.Module:
    cross = module(to_q=nn.Linear(32, 64, bias=False), to_kv=nn.Linear(13, 128, bias=False), to_out=nn.Linear(64, 32))
    latent = module(to_q=nn.Linear(32, 64, bias=False), to_kv=nn.Linear(32, 128, bias=False), to_out=nn.Linear(64, 32))
    return module(
        latents=torch.empty(16, 32), layers=[nn.ModuleList([cross, mlp(32, 64, 32), latent, mlp(32, 64, 32)])], to_logits=mlp(32, 10)
    )


@GROUP("transformer|transformer+cnn")
def pyramid_vision_transformer() -> nn.Module:
    def stage(width: int) -> nn.Module:
        attn = module(q=nn.Linear(width, width), kv=nn.Linear(width, 2 * width), proj=nn.Linear(width, width), norm=nn.LayerNorm(width))
        return module(
            norm1=nn.LayerNorm(width), attn=attn, norm2=nn.LayerNorm(width), mlp=module(fc1=nn.Linear(width, 64), fc2=nn.Linear(64, width))
        )

    embeds = {f"patch_embed{at}": module(proj=conv(a, b, 2), norm=nn.LayerNorm(b)) for at, a, b in ((1, 3, 32), (2, 32, 48))}
    return module(**embeds, block1=[stage(32), stage(32)], block2=[stage(48), stage(48)], head=nn.Linear(48, 10))


@GROUP("transformer+cnn")
def coatnet() -> nn.Module:
    mb = [module(conv=nn.Sequential(conv(16, 64, 1), nn.BatchNorm2d(64), conv(64, 64, 3, groups=64), conv(64, 16, 1))) for _ in range(2)]
    tf = [module(attn=module(to_qkv=nn.Linear(32, 96, bias=False), to_out=nn.Linear(32, 32)), ff=mlp(32, 64, 32)) for _ in range(2)]
    return module(s0=cbr(3, 16), s1=mb, down=conv(16, 32), s3=tf, fc=nn.Linear(32, 10, bias=False))


@GROUP("transformer+cnn")
def detr() -> nn.Module:
    backbone = module(conv1=conv(3, 8, 7), layer1=nn.Sequential(bottleneck(8, 16, 64), bottleneck(64, 16, 64)))
    heads = {"class_embed": nn.Linear(32, 92), "bbox_embed": module(layers=linears(32, 32, 32, 4)), "query_embed": nn.Embedding(20, 32)}
    return module(transformer=nn.Transformer(32, 4, 2, 2, 64), **heads, input_proj=conv(64, 32, 1), backbone=module(body=backbone))


@GROUP("transformer+cnn")
def hybrid_vit_on_resnet() -> nn.Module:
    stem = nn.Sequential(conv(3, 16, 7), block(16, 32), block(32, 32), block(32, 64))
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return module(backbone=stem, pos=torch.empty(1, 49, 64), encoder=nn.TransformerEncoder(layer, 2), fc=nn.Linear(64, 10))


@GROUP("cnn+transformer|cnn")
def self_attention_gan_generator() -> nn.Module:
    up = [nn.Sequential(nn.ConvTranspose2d(a, b, 4), nn.BatchNorm2d(b), nn.ReLU()) for a, b in ((100, 64), (64, 32), (32, 16))]
    attn = module(gamma=torch.empty(1), query_conv=conv(16, 2, 1), key_conv=conv(16, 2, 1), value_conv=conv(16, 16, 1))
    return module(l1=up[0], l2=up[1], l3=up[2], attn1=attn, last=nn.Sequential(nn.ConvTranspose2d(16, 3, 4), nn.Tanh()))


@GROUP("cnn+transformer")
def diffusion_unet() -> nn.Module:
    def res(a: int, b: int) -> nn.Module:
        parts = {
            "in_layers": nn.Sequential(nn.GroupNorm(4, a), nn.SiLU(), conv(a, b)),
            "emb_layers": nn.Sequential(nn.SiLU(), nn.Linear(32, b)),
        }
        return module(**parts, out_layers=nn.Sequential(nn.GroupNorm(4, b), nn.SiLU(), nn.Dropout(), conv(b, b)))

    attn = module(norm=nn.GroupNorm(4, 16), qkv=nn.Conv1d(16, 48, 1), proj_out=nn.Conv1d(16, 16, 1))
    down = [nn.Sequential(conv(3, 8)), nn.Sequential(res(8, 8)), nn.Sequential(res(8, 16), attn)]
    out = nn.Sequential(nn.GroupNorm(4, 8), nn.SiLU(), conv(8, 3))
    return module(
        time_embed=mlp(8, 32, 32), input_blocks=down, middle_block=nn.Sequential(res(16, 16)), output_blocks=[res(24, 8)], out=out
    )


@GROUP("cnn+transformer")
def stable_diffusion_unet() -> nn.Module:
    cross = module(
        attn1=attention(16, "to_q", "to_k", "to_v"), attn2=module(to_q=nn.Linear(16, 16), to_k=nn.Linear(24, 16), to_v=nn.Linear(24, 16))
    )
    res = module(
        norm1=nn.GroupNorm(4, 16), conv1=conv(16, 16), time_emb_proj=nn.Linear(32, 16), norm2=nn.GroupNorm(4, 16), conv2=conv(16, 16)
    )
    block = module(attentions=[module(proj_in=conv(16, 16, 1), transformer_blocks=[cross])], resnets=[res, res])
    return module(
        conv_in=conv(4, 16),
        time_embedding=module(linear_1=nn.Linear(16, 32), linear_2=nn.Linear(32, 32)),
        down_blocks=[block],
        conv_out=conv(16, 4),
    )


@GROUP("unknown")
def mlp_mixer() -> nn.Module:
    def layer() -> nn.Module:
        tokens, channels = (module(fc1=nn.Linear(a, b), fc2=nn.Linear(b, a)) for a, b in ((49, 24), (32, 128)))
        return module(norm1=nn.LayerNorm(32), mlp_tokens=tokens, norm2=nn.LayerNorm(32), mlp_channels=channels)

    return module(stem=module(proj=conv(3, 32, 16)), blocks=[layer(), layer(), layer()], norm=nn.LayerNorm(32), head=nn.Linear(32, 10))


@GROUP("unknown")
def mlp_mixer_with_pointwise_convolutions() -> nn.Module:
    def mix(layer: type, width: int, wide: int) -> nn.Module:
        axes = (1,) if layer is nn.Conv1d else ()
        fn = nn.Sequential(layer(width, wide, *axes), nn.GELU(), nn.Dropout(), layer(wide, width, *axes))
        return module(fn=fn, norm=nn.LayerNorm(32))

    blocks = [nn.Sequential(mix(nn.Conv1d, 49, 196), mix(nn.Linear, 32, 16)) for _ in range(2)]
    return nn.Sequential(nn.Identity(), nn.Linear(48, 32), *blocks, nn.LayerNorm(32), nn.Identity(), nn.Linear(32, 10))


@GROUP("unknown")
def gmlp() -> nn.Module:
    def layer() -> nn.Module:
        gate = module(norm=nn.LayerNorm(64), proj=nn.Conv1d(49, 49, 1))
        return module(norm=nn.LayerNorm(32), proj_in=nn.Sequential(nn.Linear(32, 128), nn.GELU()), sgu=gate, proj_out=nn.Linear(64, 32))

    return module(to_embed=nn.Linear(48, 32), layers=[layer(), layer()], to_logits=nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 10)))


@GROUP("cnn")
def convmixer() -> nn.Module:
    def layer() -> nn.Module:
        fn = nn.Sequential(conv(32, 32, 9, groups=32), nn.GELU(), nn.BatchNorm2d(32))
        return nn.Sequential(module(fn=fn), conv(32, 32, 1), nn.GELU(), nn.BatchNorm2d(32))

    return nn.Sequential(
        conv(3, 32, 7), nn.GELU(), nn.BatchNorm2d(32), layer(), layer(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )


@GROUP("transformer|transformer+cnn")
def segformer() -> nn.Module:
    def layer(width: int) -> nn.Module:
        own = module(query=nn.Linear(width, width), key=nn.Linear(width, width), value=nn.Linear(width, width), sr=conv(width, width, 2))
        wide = module(dense1=nn.Linear(width, 64), dwconv=module(dwconv=conv(64, 64, 3, groups=64)), dense2=nn.Linear(64, width))
        return module(layer_norm_1=nn.LayerNorm(width), attention=module(self=own, output=module(dense=nn.Linear(width, width))), mlp=wide)

    embeds = [module(proj=conv(3, 32, 7), layer_norm=nn.LayerNorm(32)), module(proj=conv(32, 64, 3), layer_norm=nn.LayerNorm(64))]
    encoder = module(patch_embeddings=embeds, block=[nn.ModuleList([layer(32), layer(32)]), nn.ModuleList([layer(64), layer(64)])])
    return module(
        segformer=module(encoder=encoder), decode_head=module(linear_fuse=conv(64, 32, 1, bias=False), classifier=conv(32, 19, 1))
    )


@GROUP("transformer")
def swin_of_hugging_face() -> nn.Module:
    own = module(relative_position_bias_table=torch.empty(169, 4), query=nn.Linear(32, 32), key=nn.Linear(32, 32), value=nn.Linear(32, 32))
    layer = module(
        layernorm_before=nn.LayerNorm(32),
        attention=module(self=own, output=module(dense=nn.Linear(32, 32))),
        output=module(dense=nn.Linear(128, 32)),
    )
    patches = module(patch_embeddings=module(projection=conv(3, 32, 4)), norm=nn.LayerNorm(32))
    return module(swin=module(embeddings=patches, encoder=module(layers=[module(blocks=[layer, layer])])), classifier=nn.Linear(32, 10))
