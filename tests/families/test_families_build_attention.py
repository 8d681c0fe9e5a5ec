"""Encoders written by hand, as timm, BERT, torchvision, minGPT and students name their parts: built, and equal in every output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from rebuilding import DIGITS, rebuilt, same, specs
from torch import Tensor, nn
from torch.nn import functional as F

from fifomark.core.errors import CannotBuild
from fifomark.families import registry

WIDTH, WIDE = 16, 24


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


def holder(**parts: nn.Module | Tensor) -> nn.Module:
    made = nn.Module()
    for name, part in parts.items():
        made.register_buffer(name, part) if isinstance(part, Tensor) else made.add_module(name, part)
    return made


def feed_forward() -> list[nn.Module]:
    return [nn.Linear(WIDTH, WIDE), nn.Linear(WIDE, WIDTH)]


def norm() -> nn.LayerNorm:
    made = nn.LayerNorm(WIDTH, eps=1e-6)
    nn.init.normal_(made.weight, 1.0)
    return made


class Parts:
    """A block under names of its own: what to save, and which module plays which part."""

    def __init__(self, module: nn.Module, project: Callable[[Tensor], Sequence[Tensor]], out: nn.Module | None) -> None:
        self.module, self.project, self.out = module, project, out
        self.norms = [each for each in module.modules() if isinstance(each, nn.LayerNorm)]
        self.ends = [each for each in module.modules() if isinstance(each, nn.Linear) and WIDE in each.weight.shape]

    def __call__(self, x: Tensor, norm_first: bool, causal: bool, heads: int = 4) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in self.project(x))
            scores = q @ k.transpose(-1, -2) / (WIDTH // heads) ** 0.5
            if causal:
                scores = scores.masked_fill(torch.ones(x.shape[1], x.shape[1]).triu(1).bool(), float("-inf"))
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
            return self.out(mixed) if self.out else mixed

        def feed(x: Tensor) -> Tensor:
            return self.ends[1](F.relu(self.ends[0](x)))

        for part, each in zip((attend, feed), self.norms, strict=True):
            x = x + part(each(x)) if norm_first else each(x + part(x))
        return x


def timm() -> Parts:
    attn = holder(qkv=nn.Linear(WIDTH, 3 * WIDTH), proj=nn.Linear(WIDTH, WIDTH))
    fc1, fc2 = feed_forward()
    block = holder(norm1=norm(), attn=attn, norm2=norm(), mlp=holder(fc1=fc1, fc2=fc2))
    return Parts(block, lambda x: attn.qkv(x).chunk(3, -1), attn.proj)


def bert() -> Parts:
    own = holder(**{name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")})
    after = holder(dense=nn.Linear(WIDTH, WIDTH), LayerNorm=norm())
    wide, narrow = feed_forward()
    block = holder(attention=holder(self=own, output=after), intermediate=holder(dense=wide), output=holder(dense=narrow, LayerNorm=norm()))
    return Parts(block, lambda x: (own.query(x), own.key(x), own.value(x)), after.dense)


def lucidrains() -> Parts:
    attn = holder(norm=norm(), to_qkv=nn.Linear(WIDTH, 3 * WIDTH, bias=False), to_out=nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout()))
    net = holder(net=nn.Sequential(norm(), *feed_forward()))
    return Parts(nn.ModuleList([attn, net]), lambda x: attn.to_qkv(x).chunk(3, -1), attn.to_out[0])


def mini_gpt() -> Parts:
    names = {name: nn.Linear(WIDTH, WIDTH) for name in ("key", "query", "value", "proj")}
    attn = holder(**names, mask=torch.ones(1, 1, 8, 8))
    block = holder(ln1=norm(), ln2=norm(), attn=attn, mlp=nn.Sequential(*feed_forward()))
    return Parts(block, lambda x: (attn.query(x), attn.key(x), attn.value(x)), attn.proj)


def student() -> Parts:
    attn = holder(**{name: nn.Linear(WIDTH, WIDTH, bias=False) for name in ("W_Q", "W_K", "W_V", "W_O")})
    ff1, ff2 = feed_forward()
    block = holder(attention=attn, ff1=ff1, ff2=ff2, norm_a=norm(), norm_b=norm())
    return Parts(block, lambda x: (attn.W_Q(x), attn.W_K(x), attn.W_V(x)), attn.W_O)


def annotated() -> Parts:
    attn = holder(linears=nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4)))
    w_1, w_2 = feed_forward()
    block = holder(self_attn=attn, feed_forward=holder(w_1=w_1, w_2=w_2), sublayer=nn.ModuleList([norm(), norm()]))
    return Parts(block, lambda x: [attn.linears[at](x) for at in range(3)], attn.linears[3])


def no_output_projection() -> Parts:
    attn = holder(**{name: nn.Linear(WIDTH, WIDTH) for name in ("q_proj", "k_proj", "v_proj")})
    block = holder(attn=attn, norm1=norm(), norm2=norm(), ff=nn.Sequential(*feed_forward()))
    return Parts(block, lambda x: (attn.q_proj(x), attn.k_proj(x), attn.v_proj(x)), None)


def torchvision() -> Parts:
    attn = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
    nn.init.normal_(attn.in_proj_bias)
    block = holder(ln_1=norm(), self_attention=attn, ln_2=norm(), mlp=nn.Sequential(*feed_forward()))
    return Parts(block, lambda x: F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, -1), attn.out_proj)


MAKERS = (timm, bert, lucidrains, mini_gpt, student, annotated, no_output_projection, torchvision)


class Net(nn.Module):
    def __init__(self, parts: Sequence[Parts], norm_first: bool, causal: bool = False, name: str = "blocks") -> None:
        super().__init__()
        self.embed, self.pos = nn.Linear(8, WIDTH), nn.Parameter(torch.randn(1, 8, WIDTH))
        if name:
            self.add_module(name, nn.ModuleList(each.module for each in parts))
        else:
            for below, part in parts[0].module.named_children():
                self.add_module(below, part)
        self.head = nn.Linear(WIDTH, 3)
        self.parts, self.norm_first, self.causal = tuple(parts), norm_first, causal

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.pos
        for part in self.parts:
            x = part(x, self.norm_first, self.causal)
        return self.head(x.mean(1))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_blocks_under_the_usual_names(make: Callable[[], Parts], norm_first: bool) -> None:
    causal = make is mini_gpt
    model = Net([make(), make()], norm_first, causal)
    built = same(model, torch.randn(*DIGITS), {"nhead": 4, "norm_first": norm_first, "norm_eps": 1e-6})
    assert any("goes with the attention" in sentence for sentence in built.assumed)  # type: ignore[union-attr]
    assert any("holds a mask" in sentence for sentence in built.assumed) is causal  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [timm, student, torchvision], ids=lambda make: make.__name__)
def test_one_block_that_is_the_model_itself(make: Callable[[], Parts]) -> None:
    same(Net([make()], True, name=""), torch.randn(*DIGITS), {"nhead": 4, "norm_first": True, "norm_eps": 1e-6})


def test_a_fused_matrix_by_heads() -> None:
    def neox() -> Parts:
        attn = holder(query_key_value=nn.Linear(WIDTH, 3 * WIDTH), dense=nn.Linear(WIDTH, WIDTH))
        up, down = feed_forward()
        block = holder(input_layernorm=norm(), post_attention_layernorm=norm(), attention=attn, mlp=holder(up=up, down=down))

        def project(x: Tensor) -> Sequence[Tensor]:
            heads = attn.query_key_value(x).unflatten(-1, (4, 3, -1))
            return [heads[..., at, :].flatten(-2) for at in range(3)]

        return Parts(block, project, attn.dense)

    declared = {"nhead": 4, "norm_first": True, "norm_eps": 1e-6, "fused_order": "per_head"}
    same(Net([neox(), neox()], True), torch.randn(*DIGITS), declared)


@pytest.mark.parametrize("stock", [True, False])
def test_no_token_looks_at_later_ones_where_that_is_declared(stock: bool) -> None:
    if not stock:
        same(Net([bert()], False, causal=True), torch.randn(*DIGITS), {"nhead": 4, "norm_eps": 1e-6, "causal": True})
        return

    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.layer, self.fc = nn.Linear(8, 16), nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            later = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.fc(self.layer(self.embed(x), src_mask=later, is_causal=True)[:, -1])

    same(Causal(), torch.randn(*DIGITS), {"nhead": 4, "pooling": "last", "causal": True})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blocks.0.norm1": None}, "two norms of 16 are expected beside it, there are 1: blocks.0.norm2.weight (16,)"),
        ({"blocks.0.mlp.fc2": None}, "two layers from 16 to some width and back are expected beside it"),
        ({"blocks.0.gamma": (16, 1)}, "nothing says what blocks.0.gamma (16, 1) is for"),
        ({"blocks.0.attn.proj": None}, "two norms"),
    ],
)
def test_a_block_that_lacks_a_part_says_what_was_seen_and_what_was_expected(change: dict[str, Any], says: str) -> None:
    state: dict[str, Any] = dict(Net([timm()], True).state_dict())
    for name, shape in change.items():
        state = {key: tensor for key, tensor in state.items() if not key.startswith(name)} | ({name: torch.zeros(shape)} if shape else {})
    if "proj" in next(iter(change)):
        state = {key: tensor for key, tensor in state.items() if "norm" not in key}
    with pytest.raises(CannotBuild) as e:
        rebuilt(state, (8, 8), {"nhead": 4})
    assert says in str(e.value)
    assert "factory" in e.value.advice


def test_heads_that_do_not_divide_the_width_are_the_weights_fault() -> None:
    with pytest.raises(CannotBuild, match="16 is no multiple of nhead = 3"):
        rebuilt(Net([bert()], True).state_dict(), (8, 8), {"nhead": 3})


def test_what_no_file_tells_of_hand_written_blocks_is_asked_for() -> None:
    family = registry.family("transformer")
    for make, facts in ((timm, {"fused_order", "norm_eps"}), (bert, {"norm_eps"}), (torchvision, {"norm_eps"})):
        found = registry.match(specs(Net([make()], True).state_dict()))
        assert found
        assert {name for name in ("fused_order", "norm_eps") if family.facts[name].matters(found)} == facts
