"""Convolutional networks as students write them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from zoo.specimen import Group, Shapes, cbr, conv, linears, mlp, module

GROUP = Group()


def _time(*widths: int, kernel: int = 3, **options: int) -> list[nn.Conv1d]:
    return [nn.Conv1d(a, b, kernel, **options) for a, b in pairwise(widths)]


GROUP.add(
    "cnn",
    lenet=lambda: module(conv1=conv(1, 6, 5), conv2=conv(6, 16, 5), fc1=nn.Linear(256, 120), fc2=nn.Linear(120, 84), fc3=nn.Linear(84, 10)),
    sequential=lambda: nn.Sequential(conv(1, 8), nn.ReLU(), nn.MaxPool2d(2), conv(8, 16), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10)),
    odd_names=lambda: module(schicht_a=conv(3, 8), schicht_b=conv(8, 8), kopf=nn.Linear(128, 10)),
    all_convolutional=lambda: nn.Sequential(conv(3, 96), nn.ReLU(), conv(96, 96), nn.ReLU(), conv(96, 10, 1)),
    one_layer=lambda: module(conv=conv(1, 4, 3)),
    over_time=lambda: module(
        conv1=nn.Conv1d(1, 32, 80), bn1=nn.BatchNorm1d(32), conv2=nn.Conv1d(32, 64, 3), bn2=nn.BatchNorm1d(64), fc1=nn.Linear(64, 10)
    ),
    in_three_dimensions=lambda: nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Conv3d(8, 16, 3), nn.Flatten(), nn.Linear(432, 2)),
    depthwise_separable=lambda: module(
        dw=conv(3, 3, 3, groups=3), pw=conv(3, 32, 1), dw2=conv(32, 32, 3, groups=32), pw2=conv(32, 64, 1), fc=nn.Linear(64, 10)
    ),
    large_head=lambda: module(conv1=conv(1, 4), fc1=nn.Linear(2704, 1024), fc2=nn.Linear(1024, 512), fc3=nn.Linear(512, 10)),
    text=lambda: module(embedding=nn.Embedding(20000, 100), convs=[conv(1, 64, (k, 100)) for k in (3, 4, 5)], fc=nn.Linear(192, 2)),
    text_over_time=lambda: module(emb=nn.Embedding(20000, 64), convs=[nn.Conv1d(64, 32, k) for k in (2, 3, 4)], fc=nn.Linear(96, 5)),
    characters=lambda: module(conv=nn.Sequential(*_time(70, 64, 64, 64, kernel=7)), fc=mlp(2176, 128, 128, 4)),
    dcgan_generator=lambda: module(
        main=nn.Sequential(
            *(step for a, b in ((100, 64), (64, 32), (32, 16)) for step in (nn.ConvTranspose2d(a, b, 4, bias=False), nn.BatchNorm2d(b))),
            nn.ConvTranspose2d(16, 1, 4),
        )
    ),
    dcgan_discriminator=lambda: module(
        main=nn.Sequential(conv(3, 16, 4, bias=False), cbr(16, 32, 4), cbr(32, 64, 4), conv(64, 1, 4, bias=False))
    ),
    generator_with_a_linear_front=lambda: module(
        l1=nn.Linear(100, 2048), blocks=nn.Sequential(nn.BatchNorm2d(128), conv(128, 128), nn.BatchNorm2d(128), conv(128, 3))
    ),
    super_resolution=lambda: module(conv1=conv(1, 64, 5), conv2=conv(64, 64), conv3=conv(64, 32), conv4=conv(32, 9)),
    nature_dqn=lambda: module(
        network=nn.Sequential(
            conv(4, 32, 8),
            nn.ReLU(),
            conv(32, 64, 4),
            nn.ReLU(),
            conv(64, 64),
            nn.Flatten(),
            nn.Linear(3136, 512),
            nn.ReLU(),
            nn.Linear(512, 6),
        )
    ),
    dueling_dqn=lambda: module(
        conv1=conv(4, 32, 8), conv2=conv(32, 64, 4), conv3=conv(64, 64), value=mlp(64, 32, 1), advantage=mlp(64, 32, 4)
    ),
    actor_and_critic=lambda: module(conv=nn.Sequential(conv(4, 32, 8), conv(32, 64, 4)), actor=nn.Linear(512, 6), critic=nn.Linear(512, 1)),
    siamese=lambda: module(cnn1=nn.Sequential(conv(1, 96, 11), conv(96, 256, 5)), fc1=mlp(256, 64, 2)),
    with_layer_and_group_norm=lambda: nn.Sequential(
        conv(3, 16), nn.GroupNorm(4, 16), nn.ReLU(), conv(16, 16), nn.LayerNorm([16, 4, 4]), nn.Flatten(), nn.Linear(256, 2)
    ),
    style_transfer=lambda: module(
        conv1=module(conv2d=conv(3, 16, 9)),
        in1=nn.InstanceNorm2d(16, affine=True),
        res=module(conv1=conv(16, 16), in1=nn.InstanceNorm2d(16, affine=True)),
        deconv=conv(16, 3, 9),
    ),
    spectrogram=lambda: module(features=nn.Sequential(cbr(1, 16), cbr(16, 32)), linear=nn.Linear(2048, 50)),
    half_precision=lambda: nn.Sequential(conv(1, 8), nn.ReLU(), nn.Flatten(), nn.Linear(5408, 10)).half(),
)


def _unet(up: bool) -> nn.Module:
    def twice(a: int, b: int) -> nn.Module:
        return module(double_conv=nn.Sequential(cbr(a, b), cbr(b, b)))

    def rise(a: int, b: int) -> nn.Module:
        return module(**({"up": nn.ConvTranspose2d(a, b, 2)} if up else {}), conv=twice(a if up else a + b, b))

    return module(
        inc=twice(3, 8), down1=twice(8, 16), down2=twice(16, 32), up1=rise(32, 16), up2=rise(16, 8), outc=module(conv=conv(8, 2, 1))
    )


GROUP.add("cnn", unet=lambda: _unet(True), unet_bilinear=lambda: _unet(False))


@GROUP("cnn")
def temporal_convolutions_with_weight_norm() -> nn.Module:
    norm = torch.nn.utils.parametrizations.weight_norm
    blocks = [
        module(conv1=norm(nn.Conv1d(a, b, 2)), conv2=norm(nn.Conv1d(b, b, 2)), downsample=nn.Conv1d(a, b, 1))
        for a, b in ((1, 16), (16, 32))
    ]
    return module(tcn=module(network=nn.Sequential(*blocks)), linear=nn.Linear(32, 10))


@GROUP("cnn")
def wavenet() -> nn.Module:
    layer = module(filter=nn.Conv1d(16, 16, 2), gate=nn.Conv1d(16, 16, 2), residual=nn.Conv1d(16, 16, 1), skip=nn.Conv1d(16, 32, 1))
    return module(causal=nn.Conv1d(256, 16, 2), layers=[layer] * 4, end1=nn.Conv1d(32, 32, 1), end2=nn.Conv1d(32, 256, 1))


@GROUP("cnn|unknown")
def cycle_gan_generator() -> nn.Module:
    res = [module(block=nn.Sequential(conv(32, 32), nn.InstanceNorm2d(32), conv(32, 32))) for _ in range(3)]
    steps = [conv(3, 16, 7), conv(16, 32), *res, nn.ConvTranspose2d(32, 16, 3), conv(16, 3, 7)]
    return module(model=nn.Sequential(*steps))


GROUP.add(
    "cnn|unknown",
    convolutional_autoencoder=lambda: module(
        encoder=nn.Sequential(conv(1, 16), conv(16, 4)), decoder=nn.Sequential(nn.ConvTranspose2d(4, 16, 2), nn.ConvTranspose2d(16, 1, 2))
    ),
    convolutional_vae=lambda: module(
        enc=nn.Sequential(conv(3, 32), conv(32, 64)),
        mu=nn.Linear(256, 16),
        var=nn.Linear(256, 16),
        back=nn.Linear(16, 256),
        dec=nn.Sequential(nn.ConvTranspose2d(64, 32, 3), nn.ConvTranspose2d(32, 3, 3)),
    ),
    point_net=lambda: module(
        conv1=nn.Conv1d(3, 64, 1), conv2=nn.Conv1d(64, 128, 1), bn1=nn.BatchNorm1d(64), bn2=nn.BatchNorm1d(128), fc=mlp(128, 64, 10)
    ),
    pixel_cnn=lambda: module(net=nn.Sequential(_masked(1, 64, 7), nn.BatchNorm2d(64), _masked(64, 64, 7), conv(64, 256, 1))),
)


def _masked(inputs: int, outputs: int, kernel: int) -> nn.Module:
    made = conv(inputs, outputs, kernel)
    made.register_buffer("mask", torch.empty(outputs, inputs, kernel, kernel))
    return made


@GROUP("unknown|cnn")
def capsules() -> nn.Module:
    capsules = [conv(64, 8, 9) for _ in range(4)]
    return module(
        conv1=conv(1, 64, 9), primary=module(capsules=capsules), digits=module(W=torch.empty(1, 288, 10, 16, 8)), decoder=mlp(160, 512, 784)
    )


@GROUP("unknown")
def fourier_neural_operator() -> nn.Module:
    spectral = {
        f"conv{at}": module(
            weights1=torch.empty(20, 20, 12, 12, dtype=torch.cfloat), weights2=torch.empty(20, 20, 12, 12, dtype=torch.cfloat)
        )
        for at in range(4)
    }
    pointwise = {f"w{at}": conv(20, 20, 1) for at in range(4)}
    return module(fc0=nn.Linear(12, 20), **spectral, **pointwise, fc1=nn.Linear(20, 128), fc2=nn.Linear(128, 1))


@GROUP("unknown|cnn+mlp|cnn")
def both_halves_of_a_gan() -> nn.Module:
    return module(
        generator=nn.Sequential(nn.ConvTranspose2d(100, 64, 4), nn.ConvTranspose2d(64, 3, 4)),
        discriminator=nn.Sequential(conv(3, 64, 4), conv(64, 1, 4)),
    )


@GROUP("cnn|unknown")
def multiple_instance_learning() -> nn.Module:
    features = {"feature_extractor_part1": nn.Sequential(conv(1, 20, 5), conv(20, 50, 5)), "feature_extractor_part2": mlp(800, 500)}
    return module(
        **features, attention_V=mlp(500, 128), attention_U=mlp(500, 128), attention_weights=nn.Linear(128, 1), classifier=mlp(500, 1)
    )


@GROUP("cnn")
def grouped_and_dilated() -> Shapes:
    return {
        "a.weight": (32, 3, 3, 3),
        "b.weight": (32, 8, 3, 3),
        "b.bias": (32,),
        "c.weight": (64, 32, 3, 3),
        "head.weight": (10, 64),
        "head.bias": (10,),
    }


@GROUP("cnn")
def grouped_transposed() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, groups=4), nn.ReLU(), nn.ConvTranspose2d(32, 8, 4, groups=2), nn.ReLU(), conv(8, 1, 3)
    )


@GROUP("cnn|unknown")
def vector_quantised_autoencoder() -> nn.Module:
    codes = module(embedding=nn.Embedding(512, 64))
    encoder, decoder = nn.Sequential(conv(3, 64, 4), conv(64, 64, 4)), nn.Sequential(conv(64, 64), nn.ConvTranspose2d(64, 3, 4))
    return module(encoder=encoder, vq=codes, decoder=decoder)


@GROUP("cnn")
def stacked_linear_heads_for_landmarks() -> nn.Module:
    return module(
        stem=cbr(3, 16),
        layers=[cbr(16, 16) for _ in range(3)],
        heads=[nn.Linear(256, 2) for _ in range(3)],
        names=nn.Sequential(*linears(256, 32, 5)),
    )
