"""Tensors in, one Measurement a step out: norms, names, parameter norms and update sizes."""

from steadygrad.measure.device_norms import device_norms, sum_dtype
from steadygrad.measure.host_norms import HostNorms
from steadygrad.measure.hyper import GroupHyper, group_hyper, group_kind, heavy_ball, step_bound
from steadygrad.measure.kinds import dense_values, is_sharded
from steadygrad.measure.late import LateReads
from steadygrad.measure.layout import Layout, holds_long
from steadygrad.measure.measurement import PARAM_NORM_EVERY, HostMeasurement, Measurement
from steadygrad.measure.measurer import Measurer
from steadygrad.measure.out_of_range import LEAST_SURE, host_total
from steadygrad.measure.parts import own_part, settle_, unit_norms
from steadygrad.measure.probe import Budget, UpdateProbe
from steadygrad.measure.spending import Spending
from steadygrad.measure.table import ParamTable, parameter_names

__all__ = [
    "LEAST_SURE",
    "PARAM_NORM_EVERY",
    "Budget",
    "GroupHyper",
    "HostMeasurement",
    "HostNorms",
    "LateReads",
    "Layout",
    "Measurement",
    "Measurer",
    "ParamTable",
    "Spending",
    "UpdateProbe",
    "dense_values",
    "device_norms",
    "group_hyper",
    "group_kind",
    "heavy_ball",
    "holds_long",
    "host_total",
    "is_sharded",
    "own_part",
    "parameter_names",
    "settle_",
    "step_bound",
    "sum_dtype",
    "unit_norms",
]
