"""Linear maps and perceptrons as students write them, and what is made of linear layers and is no perceptron."""

from __future__ import annotations

import torch
from torch import nn

from zoo.specimen import Group, Shapes, linears, mlp, module

GROUP = Group()

GROUP.add(
    "logistic",
    bare_linear=lambda: nn.Linear(784, 10),
    linear_regression=lambda: module(linear=nn.Linear(13, 1)),
    softmax_regression_by_words=lambda: module(fc=nn.Linear(20000, 2)),
    no_bias=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)),
    oddly_named=lambda: module(my_super_model=module(schicht_1=nn.Linear(30, 2))),
    half_precision=lambda: nn.Linear(784, 10).half(),
    perceptron_with_one_output=lambda: module(perceptron=nn.Linear(2, 1)),
)
GROUP.add(
    "mlp",
    two_layers=lambda: mlp(784, 128, 10),
    named_fc=lambda: module(fc1=nn.Linear(784, 256), fc2=nn.Linear(256, 64), fc3=nn.Linear(64, 10)),
    odd_names=lambda: module(eingang=nn.Linear(20, 30), mitte=nn.Linear(30, 30), ausgang=nn.Linear(30, 3)),
    names_with_spaces=lambda: module(**{"hidden layer 1": nn.Linear(20, 30), "out put": nn.Linear(30, 3)}),
    list_of_layers=lambda: module(layers=linears(8, 64, 64, 64, 1)),
    no_biases=lambda: module(layers=linears(20, 64, 5, bias=False)),
    with_batch_norm=lambda: nn.Sequential(
        nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 2)
    ),
    with_layer_norm=lambda: nn.Sequential(nn.LayerNorm(20), nn.Linear(20, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 3)),
    with_prelu=lambda: nn.Sequential(nn.Linear(20, 64), nn.PReLU(), nn.Linear(64, 32), nn.PReLU(), nn.Linear(32, 3)),
    dqn=lambda: module(layer1=nn.Linear(4, 128), layer2=nn.Linear(128, 128), layer3=nn.Linear(128, 2)),
    bfloat16=lambda: mlp(784, 128, 10).to(torch.bfloat16),
    double=lambda: mlp(10, 10, 10, 10).double(),
    siren=lambda: module(net=nn.Sequential(*(module(linear=nn.Linear(a, b)) for a, b in ((2, 64), (64, 64))), nn.Linear(64, 3))),
    neural_ode=lambda: module(ode=module(net=mlp(2, 50, 2))),
    discriminator_of_a_gan=lambda: module(model=mlp(784, 512, 256, 1, act=nn.LeakyReLU)),
    generator_of_a_gan=lambda: module(model=mlp(100, 256, 512, 784)),
    deep_and_square=lambda: mlp(*[32] * 20),
    input_statistics_as_buffers=lambda: _normalised(),
    blocks_of_a_perceptron=lambda: module(blocks=[mlp(20, 40, 30), mlp(30, 20, 10)], out=nn.Linear(10, 2)),
)
GROUP.add(
    "mlp|unknown",
    residual=lambda: module(inp=nn.Linear(20, 64), blocks=[module(fc=nn.Linear(64, 64)) for _ in range(4)], out=nn.Linear(64, 2)),
    actor_and_critic=lambda: module(actor=mlp(4, 64, 64, 2), critic=mlp(4, 64, 64, 1)),
    two_heads=lambda: module(shared=mlp(20, 64, 32), head_a=nn.Linear(32, 3), head_b=nn.Linear(32, 1)),
    dueling=lambda: module(feature=nn.Linear(8, 128), value=mlp(128, 64, 1), advantage=mlp(128, 64, 4)),
    nerf=lambda: module(pts_linears=[nn.Linear(63, 64), nn.Linear(64, 64), nn.Linear(127, 64)], rgb=nn.Linear(64, 3)),
    autoencoder=lambda: module(encoder=mlp(784, 128, 32), decoder=mlp(32, 128, 784)),
    variational_autoencoder=lambda: module(fc1=nn.Linear(784, 400), mu=nn.Linear(400, 20), var=nn.Linear(400, 20), dec=mlp(20, 400, 784)),
    deep_sets=lambda: module(phi=mlp(3, 64, 64), rho=mlp(64, 32, 10)),
    tabular_with_embeddings=lambda: module(embeds=[nn.Embedding(7, 4), nn.Embedding(12, 6)], layers=mlp(16, 200, 100, 2)),
    siamese=lambda: module(embedding_net=mlp(784, 256, 64)),
    wide_and_deep=lambda: module(wide=nn.Linear(100, 1), deep=mlp(64, 32, 1)),
    neural_collaborative_filtering=lambda: module(user_emb=nn.Embedding(943, 8), item_emb=nn.Embedding(1682, 8), mlp=mlp(16, 32, 8, 1)),
    deep_operator_network=lambda: module(branch=mlp(100, 40, 40), trunk=mlp(1, 40, 40)),
)


def _normalised() -> nn.Module:
    made = module(fc1=nn.Linear(8, 64), fc2=nn.Linear(64, 64), fc3=nn.Linear(64, 1))
    made.register_buffer("mean", torch.empty(8))
    made.register_buffer("std", torch.empty(8))
    return made


@GROUP("unknown|logistic")
def logistic_regression_of_bare_parameters() -> Shapes:
    return {"w": (784, 10), "b": (10,)}


@GROUP("unknown|mlp")
def perceptron_of_bare_parameters() -> Shapes:
    return {"W1": (784, 128), "b1": (128,), "W2": (128, 10), "b2": (10,)}


@GROUP("unknown")
def restricted_boltzmann_machine() -> Shapes:
    return {"W": (500, 784), "v_bias": (784,), "h_bias": (500,)}


@GROUP("unknown")
def kipfs_graph_convolutions() -> Shapes:
    return {"gc1.weight": (1433, 16), "gc1.bias": (16,), "gc2.weight": (16, 7), "gc2.bias": (7,)}


GROUP.add(
    "unknown",
    graph_convolutions_of_pyg=lambda: {
        "conv1.bias": (16,),
        "conv1.lin.weight": (16, 1433),
        "conv2.bias": (7,),
        "conv2.lin.weight": (7, 16),
    },
    graph_convolutions_without_bias=lambda: {"gc1.weight": (1433, 16), "gc2.weight": (16, 7)},
    graph_sage=lambda: module(convs=[module(lin_l=nn.Linear(16, 32), lin_r=nn.Linear(16, 32, bias=False)) for _ in range(2)]),
    graph_isomorphism=lambda: module(
        convs=[module(nn=mlp(16, 32, 32)), module(nn=mlp(32, 32, 32))], lin1=nn.Linear(32, 32), lin2=nn.Linear(32, 2)
    ),
    graph_attention=lambda: {
        "conv1.att_src": (1, 8, 8),
        "conv1.att_dst": (1, 8, 8),
        "conv1.bias": (64,),
        "conv1.lin.weight": (64, 1433),
        "conv2.att_src": (1, 1, 7),
        "conv2.att_dst": (1, 1, 7),
        "conv2.bias": (7,),
        "conv2.lin.weight": (7, 64),
    },
    relational_graph=lambda: {
        "conv1.weight": (30, 16, 4),
        "conv1.root": (16, 4),
        "conv1.bias": (4,),
        "conv2.weight": (30, 4, 2),
        "conv2.bias": (2,),
    },
    real_nvp=lambda: module(s=[mlp(2, 64, 2) for _ in range(4)], t=[mlp(2, 64, 2) for _ in range(4)]),
    kan=lambda: module(
        layers=[
            module(
                base_weight=torch.empty(b, a), spline_weight=torch.empty(b, a, 8), spline_scaler=torch.empty(b, a), grid=torch.empty(a, 12)
            )
            for a, b in ((784, 64), (64, 10))
        ]
    ),
    noisy_linear=lambda: {
        f"fc{at}.{what}_{part}": (b, a) if what == "weight" else (b,)
        for at, (a, b) in enumerate(((8, 64), (64, 4)))
        for what in ("weight", "bias")
        for part in ("mu", "sigma", "epsilon")
    },
    bayesian=lambda: {
        f"l{at}.{name}": shape
        for at, s in enumerate(((9, 4), (3, 9)))
        for name, shape in (("weight_mu", s), ("weight_rho", s), ("bias_mu", s[:1]))
    },
    radial_basis=lambda: {"centers": (40, 2), "log_sigmas": (40,), "linear.weight": (1, 40), "linear.bias": (1,)},
    mixture_of_experts=lambda: module(experts=[mlp(16, 32, 16) for _ in range(4)], gate=nn.Linear(16, 4)),
    highway=lambda: module(nonlinear=linears(32, 32, 32), gate=linears(32, 32, 32), out=nn.Linear(32, 2)),
    matrix_factorisation=lambda: module(
        users=nn.Embedding(943, 20), items=nn.Embedding(1682, 20), ub=nn.Embedding(943, 1), ib=nn.Embedding(1682, 1)
    ),
    embedding_bag_classifier=lambda: module(embedding=nn.EmbeddingBag(5000, 64), fc=nn.Linear(64, 4)),
    fast_text=lambda: module(embedding=nn.Embedding(5000, 10), fc1=nn.Linear(10, 32), fc2=nn.Linear(32, 2)),
    skip_gram=lambda: module(in_embed=nn.Embedding(5000, 100), out_embed=nn.Embedding(5000, 100)),
    cbow=lambda: module(embeddings=nn.Embedding(5000, 100), linear=nn.Linear(100, 5000)),
    bengios_language_model=lambda: module(C=nn.Embedding(500, 20), H=nn.Linear(60, 50), U=nn.Linear(50, 500)),
    bilinear=lambda: module(bilinear=nn.Bilinear(20, 30, 40)),
    bilinear_and_linear=lambda: module(
        drug=nn.Linear(64, 20), target=nn.Linear(50, 30), bilinear=nn.Bilinear(20, 30, 40), out=nn.Linear(40, 1)
    ),
    linear_forecast=lambda: module(Linear_Seasonal=nn.Linear(96, 24), Linear_Trend=nn.Linear(96, 24)),
    statistics=lambda: {"mean": (3,), "std": (3,)},
    adam_state=lambda: {f"{at}.{name}": (8, 8) for at in range(2) for name in ("exp_avg", "exp_avg_sq")},
)
