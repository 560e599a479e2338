"""Healthy trainings of many kinds: a checkup must have nothing to say about them.

Shape legend: N rows, T time steps, D features, C classes or channels.
"""

from __future__ import annotations

import copy
from collections import namedtuple
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from benchmarks.remedies.data import blobs, curve, pictures, prototypes, rings, tokens, waves
from benchmarks.remedies.training import Builder, Training

HEALTHY: dict[str, Builder] = {}


def healthy(build: Builder) -> Builder:
    """Add it to the zoo."""
    HEALTHY[build.__name__] = build
    return build


def adam(model: nn.Module, lr: float = 1e-3, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr, **more)


def sgd(model: nn.Module, lr: float = 0.05, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr, **more)


def mlp(*widths: int, act: Any = nn.ReLU, last: nn.Module | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1], *([last] if last is not None else []))


@healthy
def mlp_relu_adam():
    model = mlp(64, 64, 64, 10)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


@healthy
def mlp_tanh_sgd():
    model = mlp(2, 32, 32, 2, act=nn.Tanh)
    return Training(model, *rings(), functional.cross_entropy, sgd(model, 0.1))


@healthy
def mlp_blobs_small_batch():
    model = mlp(2, 16, 3)
    return Training(model, *blobs(), functional.cross_entropy, adam(model, 1e-2), rows=8)


@healthy
def mlp_gelu_dropout_adamw():
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Dropout(0.3), nn.Linear(128, 10))
    return Training(
        model, *prototypes(), functional.cross_entropy, torch.optim.AdamW(model.parameters(), 1e-3)
    )


@healthy
def mlp_without_optimizer():
    model = mlp(64, 64, 10)
    return Training(model, *prototypes(), functional.cross_entropy)


@healthy
def logistic_regression():
    model = nn.Linear(64, 10)
    return Training(model, *prototypes(), functional.cross_entropy, sgd(model, 0.5))


@healthy
def binary_with_logits():
    model = mlp(2, 32, 1)
    inputs, labels = rings()
    return Training(
        model,
        inputs,
        labels,
        lambda out, y: functional.binary_cross_entropy_with_logits(out[:, 0], y.float()),
        adam(model),
    )


@healthy
def binary_sigmoid_bce():
    model = mlp(2, 32, 1, last=nn.Sigmoid())
    inputs, labels = rings()
    return Training(
        model,
        inputs,
        labels,
        lambda out, y: functional.binary_cross_entropy(out[:, 0], y.float()),
        adam(model),
    )


@healthy
def log_softmax_nll():
    model = mlp(64, 64, 10, last=nn.LogSoftmax(1))
    return Training(model, *prototypes(), functional.nll_loss, adam(model))


@healthy
def softmax_then_log_in_loss():
    model = mlp(64, 64, 10, last=nn.Softmax(1))
    return Training(
        model, *prototypes(), lambda out, y: functional.nll_loss(out.clamp_min(1e-9).log(), y), adam(model)
    )


@healthy
def multi_label():
    model = mlp(64, 64, 5)
    inputs, labels = prototypes()
    targets = torch.stack([labels % k == 0 for k in (2, 3, 4, 5, 7)], 1).float()
    return Training(model, inputs, targets, functional.binary_cross_entropy_with_logits, adam(model))


@healthy
def label_smoothing_weights():
    model = mlp(64, 64, 10)
    loss = nn.CrossEntropyLoss(weight=torch.linspace(0.5, 2, 10), label_smoothing=0.1)
    return Training(model, *prototypes(), loss, adam(model))


@healthy
def regression_mse():
    model = mlp(8, 64, 64, 1)
    return Training(model, *curve(), functional.mse_loss, adam(model))


@healthy
def regression_huber_sgd_momentum():
    model = mlp(8, 64, 1, act=nn.Tanh)
    return Training(model, *curve(), functional.huber_loss, sgd(model, 0.02, momentum=0.9))


@healthy
def regression_offset_targets():
    model = mlp(8, 64, 1)
    inputs, targets = curve()
    return Training(model, inputs, 5 * targets + 20, functional.mse_loss, adam(model, 3e-3))


@healthy
def regression_positive_softplus():
    model = mlp(8, 64, 1, last=nn.Softplus())
    inputs, targets = curve()
    return Training(model, inputs, targets.abs(), functional.mse_loss, adam(model))


@healthy
def regression_l1_rmsprop():
    model = mlp(8, 64, 1)
    return Training(model, *curve(), functional.l1_loss, torch.optim.RMSprop(model.parameters(), 1e-3))


@healthy
def raw_features_with_batchnorm_first():
    model = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    inputs, labels = prototypes()
    return Training(model, inputs * 255, labels, functional.cross_entropy, adam(model))


class ScalesItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(64, 64, 10)

    def forward(self, pixels):
        return self.body(pixels / 255 - 0.5)


@healthy
def pixels_scaled_in_the_model():
    model = ScalesItself()
    inputs, labels = prototypes()
    return Training(model, inputs * 255, labels, functional.cross_entropy, adam(model))


def convolutions(*channels: int, norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(after)] if norm else []
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


@healthy
def cnn_batchnorm_sgd():
    model = nn.Sequential(
        convolutions(3, 16, 32), nn.MaxPool2d(2), convolutions(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip
    return Training(
        model, *pictures(), functional.cross_entropy, sgd(model, 0.05, momentum=0.9, weight_decay=5e-4)
    )


@healthy
def cnn_plain_adam():
    model = nn.Sequential(
        convolutions(3, 16, 16, norm=False), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(256, 10)
    )
    return Training(model, *pictures(), functional.cross_entropy, adam(model))


class Residual(nn.Module):
    def __init__(self, channels, *, zero):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip
        if zero:
            nn.init.zeros_(self.body[-1].weight)

    def forward(self, x):
        return functional.relu(x + self.body(x))


def resnet(blocks, *, zero=False):
    return nn.Sequential(
        convolutions(3, 16), *(Residual(16, zero=zero) for _ in range(blocks)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip


@healthy
def resnet_deep():
    model = resnet(8)
    return Training(model, *pictures(), functional.cross_entropy, sgd(model, 0.05, momentum=0.9), rows=32)


@healthy
def resnet_zero_init_residual():
    model = resnet(4, zero=True)
    return Training(model, *pictures(), functional.cross_entropy, adam(model), rows=32)


@healthy
def cnn_groupnorm_he():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 144, 10),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return Training(model, *pictures(), functional.cross_entropy, adam(model), rows=32)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.middle = convolutions(3, 16), convolutions(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.out = nn.Sequential(convolutions(32, 16), nn.Conv2d(16, 2, 1))

    def forward(self, x):
        fine = self.down(x)
        coarse = self.up(self.middle(functional.max_pool2d(fine, 2)))
        return self.out(torch.cat([fine, coarse], 1))


@healthy
def unet_segmentation():
    model = UNet()
    inputs, _ = pictures()
    return Training(
        model, inputs, (inputs.mean(1) > 0.5).long(), functional.cross_entropy, adam(model), rows=16
    )


@healthy
def unet_dice():
    model = nn.Sequential(UNet(), nn.Conv2d(2, 1, 1), nn.Sigmoid())
    inputs, _ = pictures()

    def dice(out, y):
        return 1 - 2 * (out * y).sum() / (out.sum() + y.sum() + 1)

    return Training(model, inputs, (inputs.mean(1, keepdim=True) > 0.5).float(), dice, adam(model), rows=16)


@healthy
def autoencoder_sigmoid():
    model = nn.Sequential(mlp(64, 32, 8), nn.ReLU(), mlp(8, 32, 64, last=nn.Sigmoid()))
    inputs, _ = prototypes()
    return Training(model, inputs, inputs, functional.mse_loss, adam(model))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(64, 64, 16), mlp(8, 64, 64)

    def forward(self, x):
        mean, log_var = self.encoder(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        divergence = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1).mean()
        return functional.mse_loss(self.decoder(code), x) * 64 + divergence


@healthy
def vae_returns_its_loss():
    model = VAE()
    return Training(model, prototypes()[0], None, None, adam(model))


class Attention(nn.Module):
    def __init__(self, pre, layers=4, width=32):
        super().__init__()
        self.enter = nn.Linear(4, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, 0.1, batch_first=True, norm_first=pre)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.leave = nn.Linear(width, 1)

    def forward(self, x):
        return self.leave(self.body(self.enter(x)).mean(1))


@healthy
def transformer_pre_norm():
    model = Attention(pre=True)
    return Training(
        model, *waves(), functional.mse_loss, torch.optim.AdamW(model.parameters(), 1e-3), rows=32
    )


@healthy
def transformer_post_norm():
    model = Attention(pre=False)
    return Training(model, *waves(), functional.mse_loss, adam(model, 3e-4), rows=32)


class TinyGPT(nn.Module):
    def __init__(self, vocabulary=20, width=32):
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, width), nn.Embedding(16, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, 0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        steps = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(steps)
        hidden = self.embed(ids) * 0.1 + self.place(torch.arange(steps))
        return {"logits": self.head(self.body(hidden, mask=mask, is_causal=True))}


@healthy
def language_model_tied_dict_output():
    model = TinyGPT()
    ids, _ = tokens()

    def loss(out, y):
        return functional.cross_entropy(out["logits"][:, :-1].flatten(0, 1), y[:, 1:].flatten())

    return Training(model, ids, ids, loss, torch.optim.AdamW(model.parameters(), 1e-3), rows=32)


@healthy
def embedding_bag_classifier():
    model = nn.Sequential(nn.EmbeddingBag(20, 16), nn.Linear(16, 2))
    return Training(model, *tokens(), functional.cross_entropy, torch.optim.Adagrad(model.parameters(), 0.05))


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = mlp(64, 32, 16)

    def forward(self, a, b):
        one, other = functional.normalize(self.tower(a), dim=1), functional.normalize(self.tower(b), dim=1)
        return one @ other.T / 0.1


@healthy
def contrastive_shared_tower():
    model = TwoTowers()
    inputs, _ = prototypes()
    pair = (inputs, (inputs + 0.1 * torch.randn_like(inputs)))
    return Training(model, pair, torch.arange(600), functional.cross_entropy, adam(model))


class Matrix(nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(50, 8), nn.Embedding(40, 8)

    def forward(self, user, item):
        return (self.users(user) * self.items(item)).sum(1)


@healthy
def matrix_factorisation_sparse_rows():
    model = Matrix()
    users, items = torch.randint(0, 50, (320,)), torch.randint(0, 40, (320,))
    return Training(model, (users, items), torch.randn(320), functional.mse_loss, adam(model, 1e-2))


class Recurrent(nn.Module):
    def __init__(self, kind, out=1, **more):
        super().__init__()
        self.rnn = kind(4, 32, batch_first=True, **more)
        self.out = nn.Linear(64 if more.get("bidirectional") else 32, out)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


@healthy
def lstm_last_step():
    model = Recurrent(nn.LSTM)
    return Training(model, *waves(), functional.mse_loss, adam(model))


@healthy
def lstm_long():
    model = Recurrent(nn.LSTM)
    return Training(model, *waves(steps=100), functional.mse_loss, adam(model), rows=32)


@healthy
def gru_two_layers():
    model = Recurrent(nn.GRU, num_layers=2, dropout=0.1)
    return Training(model, *waves(), functional.mse_loss, adam(model))


@healthy
def lstm_both_ways():
    model = Recurrent(nn.LSTM, bidirectional=True)
    return Training(model, *waves(), functional.mse_loss, adam(model))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = (
            nn.Embedding(20, 16),
            nn.RNN(16, 32, batch_first=True),
            nn.Linear(32, 2),
        )

    def forward(self, ids):
        return self.out(self.rnn(self.embed(ids))[0])


@healthy
def rnn_tagger_every_step():
    model = Tagger()
    ids, _ = tokens()
    return Training(
        model,
        ids,
        ids % 2,
        lambda out, y: functional.cross_entropy(out.flatten(0, 1), y.flatten()),
        adam(model),
    )


class LoopOfCells(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.LSTMCell(4, 32), nn.Linear(32, 1)

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.out(state[0])


@healthy
def lstm_cell_in_a_loop():
    model = LoopOfCells()
    return Training(model, *waves(), functional.mse_loss, adam(model))


@healthy
def gan_discriminator():
    model = mlp(64, 64, 1, act=lambda: nn.LeakyReLU(0.2))
    inputs, _ = prototypes()
    fake = torch.rand(32, 64)

    def loss(out, _):
        return functional.softplus(-out).mean() + functional.softplus(model(fake)).mean()

    return Training(model, inputs, inputs, loss, adam(model, 2e-4, betas=(0.5, 0.999)))


@healthy
def gan_generator():
    judge = mlp(64, 64, 1)
    model = mlp(16, 64, 64, last=nn.Sigmoid())
    return Training(
        model,
        torch.randn(320, 16),
        None,
        lambda out, _: functional.softplus(-judge(out)).mean(),
        adam(model, 2e-4),
    )


@healthy
def wasserstein_critic_negative_loss():
    model = mlp(64, 64, 1)
    inputs, labels = prototypes()
    signs = (2.0 * (labels % 2) - 1)[:, None]
    return Training(
        model, inputs, signs, lambda out, y: -(out * y).mean(), torch.optim.RMSprop(model.parameters(), 5e-5)
    )


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = convolutions(3, 16, 32)
        self.box, self.score = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 1, 1)

    def forward(self, x):
        features = [self.body(x), self.body(functional.avg_pool2d(x, 2))]
        return [(self.box(one).sigmoid(), self.score(one)) for one in features]


@healthy
def detection_like_heads_on_two_levels():
    model = Detector()

    def loss(out, y):
        total = 0
        for box, score in out:
            target = functional.adaptive_avg_pool2d(y, score.shape[-1])
            total = (
                total + functional.binary_cross_entropy_with_logits(score, target) + (box - 0.5).abs().mean()
            )
        return total

    inputs, _ = pictures()
    return Training(model, inputs, inputs.mean(1, keepdim=True), loss, adam(model), rows=16)


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.extra = mlp(64, 64, 32), nn.Linear(32, 10), nn.Linear(32, 3)

    def forward(self, x):
        hidden = self.body(x).relu()
        self.kept = self.extra(hidden)
        return self.head(hidden)


@healthy
def auxiliary_head_unused():
    model = Auxiliary()
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


@healthy
def frozen_backbone():
    body = mlp(64, 64, 32)
    training = Training(nn.Sequential(body, nn.Linear(32, 10)), *prototypes(), functional.cross_entropy)
    optimizer = adam(training.model)
    for _ in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(training.model(training.inputs), training.targets).backward()
        optimizer.step()
    for param in body.parameters():
        param.requires_grad_(False)
    training.model = nn.Sequential(copy.deepcopy(body), nn.ReLU(), nn.Linear(32, 10))
    training.optimizer = adam(training.model)
    return training


@healthy
def new_head_at_zero():
    model = nn.Sequential(mlp(64, 64, 32), nn.ReLU(), nn.Linear(32, 10))
    nn.init.zeros_(model[2].weight)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


class LowRank(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.a, self.b = nn.Linear(64, 4, bias=False), nn.Linear(4, 10, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.inner(x) + self.b(self.a(x))


@healthy
def low_rank_adapter():
    model = LowRank(nn.Linear(64, 10))
    return Training(model, *prototypes(), functional.cross_entropy, adam(model, 1e-2))


@healthy
def warm_up_from_zero():
    model = mlp(64, 64, 10)
    optimizer = adam(model, 1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    return Training(model, *prototypes(), functional.cross_entropy, optimizer)


@healthy
def autocast_bfloat16():
    inner = mlp(64, 64, 10)

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.inner(x)

    model = Mixed()
    return Training(
        model, *prototypes(), lambda out, y: functional.cross_entropy(out.float(), y), adam(model)
    )


@healthy
def checkpointed():
    class Recomputed(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts, self.head = nn.ModuleList([mlp(64, 64, 64) for _ in range(3)]), nn.Linear(64, 10)

        def forward(self, x):
            for part in self.parts:
                x = checkpoint(part, x, use_reentrant=False)
            return self.head(x)

    model = Recomputed()
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


@dataclass
class Answer:
    logits: Tensor
    loss: Tensor


@healthy
def dataclass_output_with_loss():
    class Answers(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(64, 64, 10)

        def forward(self, x, y):
            logits = self.body(x)
            return Answer(logits, functional.cross_entropy(logits, y))

    model = Answers()
    return Training(model, prototypes(), None, None, adam(model))


@healthy
def keyword_batch():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(64, 64, 10)

        def forward(self, *, inputs, labels):
            return {"loss": functional.cross_entropy(self.body(inputs), labels)}

    model = Named()
    inputs, labels = prototypes()
    return Training(model, {"inputs": inputs, "labels": labels}, None, None, adam(model))


@healthy
def policy_gradient():
    model = mlp(8, 32, 4, act=nn.Tanh, last=nn.LogSoftmax(1))
    inputs, _ = curve()
    actions, advantage = torch.randint(0, 4, (320,)), torch.randn(320)
    targets = torch.stack([actions.float(), advantage], 1)

    def loss(out, y):
        return -(out.gather(1, y[:, :1].long())[:, 0] * y[:, 1]).mean()

    return Training(model, inputs, targets, loss, adam(model))


@healthy
def value_network_noisy_targets():
    model = mlp(8, 64, 64, 1, act=nn.Tanh)
    inputs, _ = curve()
    return Training(model, inputs, 10 * torch.randn(320, 1), functional.mse_loss, adam(model, 3e-4))


@healthy
def one_hot_input_wide():
    class OneHot(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(20 * 12, 64, 2)

        def forward(self, ids):
            return self.body(functional.one_hot(ids, 20).float().flatten(1))

    model = OneHot()
    return Training(model, *tokens(), functional.cross_entropy, adam(model))


@healthy
def plain_relu_twelve_layers_he():
    model = mlp(64, *[64] * 11, 10)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model, 3e-4))


@healthy
def lbfgs():
    model = mlp(8, 16, 1, act=nn.Tanh)
    return Training(model, *curve(), functional.mse_loss, torch.optim.LBFGS(model.parameters(), 0.5))


@healthy
def mixture_of_experts():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(64, 4)
            self.experts = nn.ModuleList([mlp(64, 32, 10) for _ in range(4)])

        def forward(self, x):
            weights = self.gate(x).softmax(1)
            return sum(weights[:, i : i + 1] * one(x) for i, one in enumerate(self.experts))

    model = Experts()
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


Pair = namedtuple("Pair", ["mean", "spread"])


@healthy
def gaussian_likelihood_namedtuple():
    class Gaussian(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(8, 64, 2)

        def forward(self, x):
            mean, raw = self.body(x).chunk(2, 1)
            return Pair(mean, functional.softplus(raw) + 1e-3)

    model = Gaussian()
    return Training(
        model, *curve(), lambda out, y: functional.gaussian_nll_loss(out.mean, y, out.spread**2), adam(model)
    )


@healthy
def ctc_speech():
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 6), nn.LogSoftmax(2))
    inputs, _ = waves()
    targets = torch.randint(1, 6, (320, 5))

    def loss(out, y):
        rows, steps = out.shape[:2]
        return functional.ctc_loss(
            out.transpose(0, 1), y, torch.full((rows,), steps), torch.full((rows,), 5), zero_infinity=True
        )

    return Training(model, inputs, targets, loss, adam(model), rows=32)
