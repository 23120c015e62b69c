"""Weights that are split over the processes of one training, for a model that one device holds but cannot train.

PyTorch's `fully_shard` (FSDP2; Zhao et al. 2023, arXiv 2304.11277): each process keeps its part of every weight, of its
gradient and of the optimiser's moments, and a layer is put together while it computes. What a step computes is that of
whole weights up to the order of sums: each process encodes its share of the texts, vectors are gathered
(`ablate.model.distributed`), and gradients are summed, not averaged, since each process has the loss of the whole
batch. Every process must make the same number of forward passes in a step, because all take part in each.
"""

from __future__ import annotations

import copy

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from ablate.model.device import Precision
from ablate.model.distributed import World
from ablate.model.encoder import BiEncoder
from ablate.records import UserError


def split_up(encoder: BiEncoder, world: World, device: str, precision: Precision) -> BiEncoder:
    """Return an encoder whose weights are split over the processes, on their devices: one group for each layer.

    The leader's is a copy, so that its own can take the trained weights; that of the others is split itself, since
    nobody needs it afterwards. In bf16 the parts are fp32 and what is put together of them is bf16, as `HalfCopy`
    does it with whole weights. Raises UserError for a backbone whose layers are not in one list.
    """
    if world.leads:
        encoder = copy.deepcopy(encoder)
    mesh = init_device_mesh(device, (world.size,))
    bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = bf16 if precision == "bf16" else MixedPrecisionPolicy()
    for layer in _layers(encoder):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(encoder, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(encoder, "embed")
    for module in encoder.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # a factor of 1 is a sum, which every backend has
    return encoder


def _layers(encoder: BiEncoder) -> torch.nn.ModuleList:
    number = encoder.network.config.num_hidden_layers
    for module in encoder.network.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == number:
            return module
    raise UserError(
        f"runtime.shard_weights=true splits a backbone by its layers, and {type(encoder.network).__name__} has no list "
        f"of its {number}; set it to false"
    )


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor put together from the parts of all processes, which must all ask; one that is whole as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_as(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor that every process has, split as a parameter is; all of it where none is.

    Nothing is sent.
    """
    if not isinstance(parameter, DTensor):
        return tensor
    on_device = tensor.to(parameter.device)
    return distribute_tensor(on_device, parameter.device_mesh, parameter.placements, src_data_rank=None)


def put_together(split: BiEncoder, encoder: BiEncoder, world: World) -> None:
    """Copy the weights of a split encoder into the leader's whole one; every process must take part."""
    with torch.no_grad():
        for (_, part), (_, own) in zip(split.named_parameters(), encoder.named_parameters(), strict=True):
            value = whole(part)
            if world.leads:
                own.copy_(value)
