"""Advice on single operations."""

from __future__ import annotations

import pytest
import torch

from steadygrad.catalog.operations import ADVICE, advice


def node_of(make):
    return type(make(torch.ones(2, 2, requires_grad=True)).grad_fn).__name__


@pytest.mark.parametrize(
    ("operation", "like"),
    [
        ("aten.log", "log"),
        ("aten.log.default", "log"),
        ("aten._softmax", "softmax"),
        ("aten._log_softmax", "log_softmax"),
        ("aten._to_copy", "to_copy"),
        ("aten.std.correction", "std"),
        ("aten._scaled_dot_product_flash_attention_for_cpu", "scaled_dot_product"),
        ("aten.linalg_vector_norm", "norm"),
        ("aten.native_layer_norm", "layer_norm"),
        (node_of(torch.log), "log"),
        (node_of(torch.sqrt), "sqrt"),
        (node_of(lambda x: torch.atan2(x, x)), "atan2"),
        (node_of(lambda x: x / x), "div"),
        (node_of(lambda x: x.norm()), "norm"),
        (node_of(lambda x: x**0.5), "pow"),
        (node_of(torch.acos), "acos"),
        (node_of(lambda x: x.std()), "std"),
        (node_of(lambda x: x.softmax(-1)), "softmax"),
    ],
)
def test_an_operation_and_its_backward_node_get_the_same_advice(operation, like):
    assert advice(operation) is ADVICE[like]


@pytest.mark.parametrize("operation", ["aten.relu", "parameter", "", "ReluBackward0", "aten.blog"])
def test_what_is_not_known_gets_no_advice(operation):
    assert advice(operation) is None


@pytest.mark.parametrize("code", sorted({one.remedy.code for one in ADVICE.values()}))
def test_the_code_to_paste_is_python(code):
    compile(code, "<remedy>", "exec")
