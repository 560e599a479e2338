"""Healthy trainings on sequences, sets and tables of embeddings.

Shape legend: N rows, T time steps, D features, C classes or channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.remedies.data import prototypes, tokens, waves
from benchmarks.remedies.healthy.zoo import adam, healthy, mlp
from benchmarks.remedies.training import Training


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
