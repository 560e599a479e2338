"""Recurrent networks: what the chain rule multiplies from time step to time step."""

from __future__ import annotations

from steadygrad.catalog.entry import GUARD_CODE, Entry
from steadygrad.records import Remedy

_REFERENCE = "Pascanu et al., On the difficulty of training recurrent neural networks, 2013, arXiv:1211.5063, section 2"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        kind="exploding_in_time",
        title="Gradient exploding through time",
        meaning="Each time step back multiplies the gradient by more than 1, over the whole sequence.",
        causes=(
            "The recurrent weights have a spectral radius above 1.",
            "ReLU or no activation in the recurrence: nothing bounds the state.",
            "The sequence is long: even 1.05 a step is 130 over 100 steps.",
        ),
        remedies=(
            Remedy("Make the recurrent weights orthogonal", "torch.nn.init.orthogonal_(rnn.weight_hh_l0)"),
            Remedy("Bound the steps", GUARD_CODE),
            Remedy("Cut the sequence", "state = state.detach()"),
            Remedy("Use a gated cell", "nn.LSTM(input_size, hidden_size)"),
        ),
        verify="steadygrad.check(model, batch, loss_fn).time_gain is near 1 for the named module.",
        reference=_REFERENCE,
    ),
    Entry(
        kind="vanishing_in_time",
        title="Gradient vanishing through time",
        meaning="Each time step back multiplies the gradient by less than 1: the beginning of a sequence "
        "teaches nothing, however healthy the gradient of the weights looks.",
        causes=(
            "The recurrent weights have a spectral radius below 1.",
            "Saturated tanh or sigmoid units, or forget gates that are nearly closed.",
            "The sequence is longer than the network's memory.",
        ),
        remedies=(
            Remedy("Make the recurrent weights orthogonal", "torch.nn.init.orthogonal_(rnn.weight_hh_l0)"),
            Remedy("Use a gated cell", "nn.LSTM(input_size, hidden_size)"),
            Remedy(
                "Open the forget gate at the start", "lstm.bias_ih_l0.data[hidden : 2 * hidden].fill_(1.0)"
            ),
            Remedy("Read out along the sequence, not only at its end", "loss = loss_fn(outputs, targets)"),
        ),
        verify="steadygrad.check(model, batch, loss_fn).time_gain is near 1, and the horizon reaches "
        "to the first step.",
        reference=_REFERENCE + "; Jozefowicz et al., ICML 2015 (forget gate bias)",
    ),
)
