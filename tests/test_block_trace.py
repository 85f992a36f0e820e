"""Whether blocks may be permuted: what is followed is compared with what the model does with real numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from timm_encmixer.models.image_trace import trace_image

SIDE, BLOCKS, DIM = 16, 16, 8
ORDER = torch.randperm(BLOCKS, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """Blocks, a position embedding, and something that is done with both."""

    def __init__(self, finish):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, DIM, 4, stride=4)
        self.pos_embed = nn.Parameter(torch.randn(1, BLOCKS, DIM))
        self.token = nn.Parameter(torch.randn(1, 1, DIM))
        self.more = nn.Parameter(torch.randn(1, BLOCKS, DIM))
        self.mixing = nn.Linear(BLOCKS, BLOCKS)
        self.linear, self.norm = nn.Linear(DIM, DIM), nn.LayerNorm(DIM)
        self.conv = nn.Conv1d(DIM, DIM, 3, padding=1)
        self.finish = finish

    def forward(self, image):
        blocks = self.stem(image).flatten(2).transpose(1, 2)
        return self.finish(self, blocks + self.pos_embed)


def attention(model, x, bias=None):
    query, key, value = (model.linear(x).reshape(1, -1, 2, DIM // 2).transpose(1, 2) for _ in range(3))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


def written_out(model, x):
    scores = (model.linear(x) @ x.transpose(1, 2) / DIM**0.5).softmax(-1)
    return scores @ x


def packed(model, x):
    query, key, value = (
        torch.cat([x, model.linear(x), x * 2], dim=-1).reshape(1, -1, 3, 2, DIM // 2).permute(2, 0, 3, 1, 4).unbind(0)
    )
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(1, -1, DIM)


def with_token(model, x):
    return torch.cat([model.token, x], dim=1)


ALIKE = {
    "mean": lambda m, x: x.mean(1),
    "norm, linear and gelu": lambda m, x: functional.gelu(m.linear(m.norm(x))).amax(1),
    "rms norm": lambda m, x: functional.rms_norm(x, (DIM,)).sum(1),
    "attention": lambda m, x: attention(m, x).mean(1),
    "attention written out": lambda m, x: written_out(m, x).mean(1),
    "queries, keys and values in one": lambda m, x: packed(m, x).mean(1),
    "a token": lambda m, x: attention(m, with_token(m, x))[:, 0],
    "blocks behind a token": lambda m, x: attention(m, with_token(m, x))[:, 1:].mean(1),
    "a token taken off by splitting": lambda m, x: attention(m, with_token(m, x)).split([1, BLOCKS], dim=1)[1].mean(1),
    "a latent that attends": lambda m, x: functional.scaled_dot_product_attention(m.token, x, x)[:, 0],
    "two branches": lambda m, x: torch.stack([m.linear(x), x]).sum(0).mean(1),
    "gates": lambda m, x: (x * torch.sigmoid(m.linear(x)) + 1.0 / (1.0 + x.square())).mean(1),
}
BY_PLACE = {
    "one block": lambda m, x: x[:, 3],
    "some blocks": lambda m, x: x[:, :5].mean(1),
    "every other block": lambda m, x: x[:, ::2].mean(1),
    "a block among tokens": lambda m, x: with_token(m, x)[:, :4].mean(1),
    "neighbours": lambda m, x: m.conv(x.transpose(1, 2)).relu().mean(2),
    "a grid": lambda m, x: functional.avg_pool2d(x.transpose(1, 2).reshape(1, DIM, 4, 4), 2).relu().mean((2, 3)),
    "windows": lambda m, x: x.reshape(1, 4, 4, DIM).amax(2).mean(1),
    "mixed by weights": lambda m, x: m.mixing(x.transpose(1, 2)).relu().mean(2),
    "weighted by place": lambda m, x: (x * m.more).mean(1),
    "joined with others": lambda m, x: (x * x.flip(1)).mean(1),
    "rolled": lambda m, x: (x * x.roll(1, 1)).mean(1),
    "summed in order": lambda m, x: x.cumsum(1).relu().mean(1),
    "a mask": lambda m, x: attention(m, x, torch.ones_like(m.mixing.weight).tril().log()).mean(1),
    "a bias by place": lambda m, x: attention(m, x, m.mixing.weight).mean(1),
    "more of another embedding": lambda m, x: (x + m.more).relu().mean(1),
    "others joined at the same place": lambda m, x: m.linear(torch.cat([x, m.more], dim=2)[..., 4:12]).relu().mean(1),
    "normalised over blocks": lambda m, x: functional.layer_norm(x.transpose(1, 2), (BLOCKS,), m.more[0, :, 0]).relu().mean(2),
    "flattened": lambda m, x: x.flatten(1)[:, :DIM],
    "sorted": lambda m, x: x[:, x.mean((0, 2)).argsort()][:, 0] * 0 + x[:, 0],
}


@torch.no_grad()
def difference(finish):
    """How much the answer changes when the blocks and the rows of the embedding change places."""
    model = Model(finish).double()
    image = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    answer = model(image)
    blocks = image.reshape(1, 3, 4, 4, 4, 4).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, BLOCKS, 4, 4)[:, :, ORDER]
    moved = blocks.reshape(1, 3, 4, 4, 4, 4).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, SIDE, SIDE)
    model.pos_embed.copy_(model.pos_embed[:, ORDER])
    return float((model(moved) - answer).abs().max())


def finding(finish):
    model = Model(finish)
    return trace_image(model, model.stem, (3, SIDE, SIDE))


@pytest.mark.parametrize("finish", ALIKE.values(), ids=ALIKE)
def test_what_treats_blocks_alike_is_seen_to_and_does(finish):
    found = finding(finish)
    assert found.unscrambled_because == ""
    assert (
        found.position_embedding.tensor,
        found.position_embedding.dim,
        found.position_embedding.start,
        found.position_embedding.grid,
    ) == (
        "pos_embed",
        1,
        0,
        (4, 4),
    )
    assert difference(finish) < 1e-12


@pytest.mark.parametrize("finish", BY_PLACE.values(), ids=BY_PLACE)
def test_what_depends_on_places_is_seen_to_and_does(finish):
    found = finding(finish)
    assert found.position_embedding is None
    assert found.unscrambled_because
    assert difference(finish) > 1e-6


def test_an_embedding_that_serves_twice_is_refused_for_safety():
    assert "serve something else too" in finding(lambda m, x: x.mean(1) + m.pos_embed.mean(1)).unscrambled_because


def test_answers_block_by_block_are_refused():
    assert "answers block by block" in finding(lambda m, x: {"all": [x.mean(1), x]}).unscrambled_because


def test_one_block_has_no_order():
    model = Model(lambda m, x: x.mean(1))
    model.stem, model.pos_embed = nn.Conv2d(3, DIM, 16, stride=16), nn.Parameter(torch.zeros(1, 1, DIM))
    assert trace_image(model, model.stem, (3, SIDE, SIDE)).position_embedding is None
