"""Image networks before attention, as torchvision names their parts (narrower)."""

from __future__ import annotations

import torch
from torch import nn

from zoo.specimen import Group, cbr, conv, linears, mlp, module

GROUP = Group()


@GROUP("cnn")
def alexnet() -> nn.Module:
    features = nn.Sequential(
        conv(3, 16, 11), nn.ReLU(), nn.MaxPool2d(3), conv(16, 32, 5), nn.ReLU(), nn.MaxPool2d(3), conv(32, 48), nn.ReLU(), conv(48, 32)
    )
    classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(32 * 36, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 100)
    )
    return module(features=features, classifier=classifier)


def _vgg(norm: bool) -> nn.Module:
    steps: list[nn.Module] = []
    width = 3
    for outputs in (8, 16, 32, 32, 64, 64):
        steps += [conv(width, outputs, padding=1), *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU()]
        width = outputs
    return module(features=nn.Sequential(*steps), classifier=mlp(64 * 49, 512, 512, 10))


GROUP.add("cnn", vgg=lambda: _vgg(False), vgg_bn=lambda: _vgg(True))


def block(inputs: int, outputs: int, axes: int = 2) -> nn.Module:
    """torchvision's BasicBlock."""
    convolve, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[axes - 1]
    parts = {"conv1": convolve(inputs, outputs, 3, bias=False), "bn1": norm(outputs)}
    parts |= {"conv2": convolve(outputs, outputs, 3, bias=False), "bn2": norm(outputs)}
    if inputs != outputs:
        parts["downsample"] = nn.Sequential(convolve(inputs, outputs, 1, bias=False), norm(outputs))
    return module(**parts)


def bottleneck(inputs: int, width: int, outputs: int, groups: int = 1) -> nn.Module:
    parts = {"conv1": conv(inputs, width, 1, bias=False), "bn1": nn.BatchNorm2d(width)}
    parts |= {"conv2": conv(width, width, 3, groups=groups, bias=False), "bn2": nn.BatchNorm2d(width)}
    parts |= {"conv3": conv(width, outputs, 1, bias=False), "bn3": nn.BatchNorm2d(outputs)}
    if inputs != outputs:
        parts["downsample"] = nn.Sequential(conv(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    return module(**parts)


@GROUP("cnn")
def resnet18() -> nn.Module:
    stages = {f"layer{at + 1}": nn.Sequential(block(a, b), block(b, b)) for at, (a, b) in enumerate(((8, 8), (8, 16), (16, 32)))}
    return module(conv1=conv(3, 8, 7, bias=False), bn1=nn.BatchNorm2d(8), **stages, fc=nn.Linear(32, 10))


def _bottlenecks(groups: int) -> nn.Module:
    stages = {"layer1": nn.Sequential(bottleneck(8, 16, 32, groups), bottleneck(32, 16, 32, groups))}
    return module(conv1=conv(3, 8, 7, bias=False), bn1=nn.BatchNorm2d(8), **stages, fc=nn.Linear(32, 1000))


GROUP.add("cnn", resnet50=lambda: _bottlenecks(1), resnext=lambda: _bottlenecks(4))


@GROUP("cnn")
def densenet() -> nn.Module:
    def layer(width: int) -> nn.Module:
        first = {"norm1": nn.BatchNorm2d(width), "conv1": conv(width, 16, 1, bias=False)}
        return module(**first, norm2=nn.BatchNorm2d(16), conv2=conv(16, 4, bias=False))

    stem = {"conv0": conv(3, 8, 7, bias=False), "norm0": nn.BatchNorm2d(8)}
    dense = module(**{f"denselayer{at + 1}": layer(8 + 4 * at) for at in range(4)})
    turn = module(norm=nn.BatchNorm2d(24), conv=conv(24, 12, 1, bias=False))
    return module(features=module(**stem, denseblock1=dense, transition1=turn, norm5=nn.BatchNorm2d(12)), classifier=nn.Linear(12, 10))


@GROUP("cnn")
def squeezenet() -> nn.Module:
    fire = [module(squeeze=conv(32, 8, 1), expand1x1=conv(8, 16, 1), expand3x3=conv(8, 16)) for _ in range(3)]
    return module(features=nn.Sequential(conv(3, 32), *fire), classifier=nn.Sequential(nn.Dropout(), conv(32, 1000, 1)))


@GROUP("cnn")
def inception_v3() -> nn.Module:
    def basic(inputs: int, outputs: int, kernel: int) -> nn.Module:
        return module(conv=conv(inputs, outputs, kernel, bias=False), bn=nn.BatchNorm2d(outputs))

    mixed = module(branch1x1=basic(16, 8, 1), branch5x5_1=basic(16, 6, 1), branch5x5_2=basic(6, 8, 5), branch_pool=basic(16, 4, 1))
    aux = module(conv0=basic(20, 8, 1), conv1=basic(8, 16, 5), fc=nn.Linear(16, 100))
    return module(Conv2d_1a_3x3=basic(3, 16, 3), Mixed_5b=mixed, AuxLogits=aux, fc=nn.Linear(20, 100))


@GROUP("cnn")
def googlenet_with_auxiliary_heads() -> nn.Module:
    aux = [module(conv=cbr(16, 8, 1), fc1=nn.Linear(128, 64), fc2=nn.Linear(64, 10)) for _ in range(2)]
    return module(conv1=cbr(3, 16, 7), conv2=cbr(16, 16, 1), conv3=cbr(16, 16), aux1=aux[0], aux2=aux[1], fc=nn.Linear(16, 10))


@GROUP("cnn")
def mobilenet_v2() -> nn.Module:
    def inverted(inputs: int, outputs: int) -> nn.Module:
        wide = 6 * inputs
        steps = [cbr(inputs, wide, 1), cbr(wide, wide, 3, groups=wide), conv(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        return module(conv=nn.Sequential(*steps))

    features = nn.Sequential(cbr(3, 8), inverted(8, 8), inverted(8, 16), inverted(16, 16), cbr(16, 64, 1))
    return module(features=features, classifier=nn.Sequential(nn.Dropout(), nn.Linear(64, 10)))


def _excited(width: int, squeeze: int) -> nn.Module:
    return module(fc1=conv(width, squeeze, 1), fc2=conv(squeeze, width, 1))


@GROUP("cnn")
def mobilenet_v3() -> nn.Module:
    blocks = [module(block=nn.Sequential(cbr(8, 24, 1), cbr(24, 24, 5, groups=24), _excited(24, 8), cbr(24, 8, 1))) for _ in range(3)]
    head = nn.Sequential(nn.Linear(48, 64), nn.Hardswish(), nn.Dropout(), nn.Linear(64, 10))
    return module(features=nn.Sequential(cbr(3, 8), *blocks, cbr(8, 48, 1)), classifier=head)


@GROUP("cnn")
def efficientnet() -> nn.Module:
    def mb(width: int) -> nn.Module:
        return module(block=nn.Sequential(cbr(width, 4 * width, 1), cbr(4 * width, 4 * width, 3, groups=4 * width), _excited(4 * width, 2)))

    features = nn.Sequential(cbr(3, 8), nn.Sequential(mb(8), cbr(32, 8, 1)), nn.Sequential(mb(8), cbr(32, 16, 1)), cbr(16, 64, 1))
    return module(features=features, classifier=nn.Sequential(nn.Dropout(), nn.Linear(64, 10)))


@GROUP("cnn")
def senet_with_linear_excitation() -> nn.Module:
    stages = [module(**dict(block(8, 8).named_children()), se=module(fc=nn.Sequential(*linears(8, 2, 8, bias=False)))) for _ in range(4)]
    return module(conv1=conv(3, 8, 7), bn1=nn.BatchNorm2d(8), layer1=nn.Sequential(*stages), fc=nn.Linear(8, 10))


@GROUP("cnn")
def shufflenet_v2() -> nn.Module:
    def unit() -> nn.Module:
        branch = [conv(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8)]
        return module(branch1=nn.Sequential(), branch2=nn.Sequential(*branch, conv(8, 8, 1, bias=False), nn.BatchNorm2d(8)))

    return module(conv1=cbr(3, 16), stage2=nn.Sequential(unit(), unit()), conv5=cbr(16, 64, 1), fc=nn.Linear(64, 10))


@GROUP("cnn")
def mnasnet() -> nn.Module:
    separable = [conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 4, 1)]
    return module(layers=nn.Sequential(*separable), classifier=nn.Sequential(nn.Dropout(), nn.Linear(4, 10)))


@GROUP("cnn")
def regnet() -> nn.Module:
    def stage(inputs: int, outputs: int) -> nn.Module:
        inner = module(
            a=cbr(outputs, outputs, 1), b=cbr(outputs, outputs, 3, groups=2), se=_excited(outputs, 2), c=cbr(outputs, outputs, 1)
        )
        return module(proj=cbr(inputs, outputs, 1), f=inner)

    return module(stem=cbr(3, 8), trunk_output=module(block1=stage(8, 16), block2=stage(16, 32)), fc=nn.Linear(32, 10))


@GROUP("cnn")
def convnext() -> nn.Module:
    def cn(width: int) -> nn.Module:
        steps = [conv(width, width, 7, groups=width), nn.Identity(), nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU()]
        return module(layer_scale=torch.empty(width, 1, 1), block=nn.Sequential(*steps, nn.Linear(4 * width, width)))

    def norm(width: int) -> nn.Module:
        return nn.LayerNorm(width)

    down = nn.Sequential(norm(16), conv(16, 32, 2))
    features = nn.Sequential(nn.Sequential(conv(3, 16, 4), norm(16)), nn.Sequential(cn(16), cn(16)), down, nn.Sequential(cn(32)))
    return module(features=features, classifier=nn.Sequential(norm(32), nn.Flatten(), nn.Linear(32, 10)))


@GROUP("cnn")
def deeplab_v3() -> nn.Module:
    backbone = module(conv1=conv(3, 8, 7), bn1=nn.BatchNorm2d(8), layer1=nn.Sequential(bottleneck(8, 8, 32), bottleneck(32, 8, 32)))
    pyramid = module(
        convs=[cbr(32, 16, 1), cbr(32, 16), cbr(32, 16), nn.Sequential(nn.Identity(), conv(32, 16, 1))], project=cbr(64, 16, 1)
    )
    return module(backbone=backbone, classifier=nn.Sequential(pyramid, conv(16, 16), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 21, 1)))


@GROUP("cnn")
def faster_rcnn() -> nn.Module:
    body = module(conv1=conv(3, 8, 7), layer1=nn.Sequential(bottleneck(8, 8, 32)))
    fpn = module(inner_blocks=[conv(32, 16, 1)], layer_blocks=[conv(16, 16)])
    rpn = module(head=module(conv=conv(16, 16), cls_logits=conv(16, 3, 1), bbox_pred=conv(16, 12, 1)))
    box = module(
        box_head=module(fc6=nn.Linear(784, 64), fc7=nn.Linear(64, 64)),
        box_predictor=module(cls_score=nn.Linear(64, 9), bbox_pred=nn.Linear(64, 36)),
    )
    return module(backbone=module(body=body, fpn=fpn), rpn=rpn, roi_heads=box)


@GROUP("cnn")
def yolo() -> nn.Module:
    def cv(a: int, b: int, k: int = 3) -> nn.Module:
        return module(conv=conv(a, b, k, bias=False), bn=nn.BatchNorm2d(b))

    c3 = module(cv1=cv(16, 8, 1), cv2=cv(16, 8, 1), cv3=cv(16, 16, 1), m=[module(cv1=cv(8, 8, 1), cv2=cv(8, 8))])
    detect = module(m=[conv(16, 255, 1)])
    detect.register_buffer("anchors", torch.empty(3, 3, 2))
    return module(model=nn.Sequential(cv(3, 8), cv(8, 16), c3, cv(16, 16), detect))


@GROUP("cnn")
def video_r3d() -> nn.Module:
    stem = nn.Sequential(nn.Conv3d(3, 8, (3, 7, 7), bias=False), nn.BatchNorm3d(8), nn.ReLU())
    return module(stem=stem, layer1=nn.Sequential(block(8, 8, 3), block(8, 16, 3)), fc=nn.Linear(16, 400))


@GROUP("cnn")
def video_r2plus1d() -> nn.Module:
    def split(a: int, b: int) -> nn.Module:
        return nn.Sequential(nn.Conv3d(a, b, (1, 3, 3), bias=False), nn.BatchNorm3d(b), nn.ReLU(), nn.Conv3d(b, b, (3, 1, 1), bias=False))

    return module(stem=split(3, 8), layer1=nn.Sequential(split(8, 8), split(8, 16)), fc=nn.Linear(16, 400))


@GROUP("cnn")
def non_local_resnet() -> nn.Module:
    local = module(theta=conv(16, 8, 1), phi=conv(16, 8, 1), g=conv(16, 8, 1), W=nn.Sequential(conv(8, 16, 1), nn.BatchNorm2d(16)))
    return module(conv1=conv(3, 8, 7), layer1=nn.Sequential(block(8, 16), block(16, 16)), nl=local, fc=nn.Linear(16, 10))
