"""Recurrent networks that reach back far enough."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim import SGD, Adam, AdamW

from benchmarks.faults.case import healthy
from benchmarks.faults.data import adding, drawn, sequences, text
from benchmarks.faults.losses import cross_entropy, of_letters, squared
from benchmarks.faults.models import Cell, Recurrent
from benchmarks.faults.training import Training, clipped

FAMILY = "healthy recurrent"
STEPS = 100


@healthy(FAMILY, steps=STEPS)
def lstm_classifier() -> Training:
    model = Recurrent(nn.LSTM(8, 32, batch_first=True), 4)
    return Training(model, Adam(model.parameters(), 3e-3), drawn(sequences()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def gru_classifier() -> Training:
    model = Recurrent(nn.GRU(8, 32, batch_first=True), 4)
    return Training(model, AdamW(model.parameters(), 3e-3), drawn(sequences()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def bidirectional_two_layer_lstm() -> Training:
    model = Recurrent(nn.LSTM(8, 24, 2, batch_first=True, bidirectional=True), 4)
    return Training(model, Adam(model.parameters(), 3e-3), drawn(sequences()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def plain_rnn_over_16_steps() -> Training:
    model = Recurrent(nn.RNN(8, 32, batch_first=True), 4)
    return Training(model, Adam(model.parameters(), 2e-3), drawn(sequences()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def letters_by_gru() -> Training:
    model = Recurrent(nn.GRU(16, 32, batch_first=True), 20, 20, everywhere=True)
    return Training(model, Adam(model.parameters(), 3e-3), drawn(text(), 16), of_letters)


@healthy(FAMILY, steps=STEPS)
def letters_by_lstm_with_a_clip_as_a_net() -> Training:
    model = Recurrent(nn.LSTM(16, 32, batch_first=True), 20, 20, everywhere=True)
    optimizer = SGD(model.parameters(), 2.0)
    return Training(model, optimizer, drawn(text(), 16), of_letters, loop=clipped(2.0))


@healthy(FAMILY, steps=STEPS)
def letters_by_plain_rnn() -> Training:
    model = Recurrent(nn.RNN(16, 32, batch_first=True), 20, 20, everywhere=True)
    return Training(model, Adam(model.parameters(), 3e-3), drawn(text(), 16), of_letters)


@healthy(FAMILY, steps=60)
def orthogonal_recurrence_by_hand() -> Training:
    model = Cell(1.0, torch.tanh)
    return Training(model, SGD(model.parameters(), 0.01, momentum=0.9), drawn(adding(30)), squared)


@healthy(FAMILY, steps=60)
def lstm_over_sixty_steps() -> Training:
    model = Recurrent(nn.LSTM(2, 24, batch_first=True), 1)
    for name, param in model.core.named_parameters():
        if name.startswith("bias_ih"):
            param.data[24:48].fill_(1.0)
    return Training(model, Adam(model.parameters(), 3e-3), drawn(adding(60)), squared)


class _Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core, self.head = nn.GRU(8, 24, batch_first=True), nn.Linear(24, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.core(packed)[1][-1])


@healthy(FAMILY, steps=STEPS)
def packed_sequences() -> Training:
    model = _Packed()

    def batches(step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        x, y = drawn(sequences())(step)
        return (x, 6 + torch.arange(len(x)) % 11), y

    return Training(model, Adam(model.parameters(), 3e-3), batches, cross_entropy)


class _Looped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(8, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 24), x.new_zeros(len(x), 24)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state[0])


@healthy(FAMILY, steps=60)
def cell_in_a_loop() -> Training:
    model = _Looped()
    return Training(model, Adam(model.parameters(), 3e-3), drawn(sequences()), cross_entropy)
