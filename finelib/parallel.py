"""One training over several processes (data parallel): each runs the model on its share of every batch.

What the shares' outputs are is gathered, and every process takes the losses of the whole batch from it. So the
negatives, the queue, the batch means and every other thing that a loss makes of a batch are those of one process.

Gradients. All R processes compute the same loss L of the same gathered outputs. For a parameter that is used after the
gather (critics, label encoders) each of them therefore has the whole gradient: the mean over processes is right. For
one used before it a process has only the part of its own rows: there the sum is right. So the gather multiplies the
gradient of a process's own rows by R when it goes back, and the mean over processes is right for both, also for a
parameter on both sides.

In one process all of this does nothing. Dropout differs between processes, so with dropout a run over several of them
is another draw of the same training; without it, the same training within float error.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from finelib.data.features import Batch


def start() -> None:
    """Join the processes that torchrun has started: NCCL and a GPU each where there is CUDA, else gloo."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")


def count() -> int:
    """R, the processes of this training; 1 when no group was started."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, 0 to R-1; the first alone writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def prepared(model: nn.Module) -> nn.Module:
    """The model with the first process's weights and buffers in every process.

    Raises:
        ValueError: the model has batch norm, whose means a process would take over its own share.
    """
    if count() > 1:
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                found = f"{type(model).__module__}: {name} is a batch norm"
                raise ValueError(f"{found}, whose statistics would be those of a share; train it in one process")
        for value in (*model.parameters(), *model.buffers()):
            dist.broadcast(value.detach(), 0)
    return model


def any_of(flag: bool) -> bool:
    """Whether it is true in any process."""
    if count() > 1:
        raised = torch.tensor(int(flag))
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return bool(raised)
    return flag


def of_all(value: Any) -> list[Any]:
    """The value that each process has, in the order of their ranks."""
    values = [value] * count()
    if count() > 1:
        dist.all_gather_object(values, value)
    return values


def from_first(value: Any) -> Any:
    """The first process's value."""
    values = [value]
    if count() > 1:
        dist.broadcast_object_list(values, 0)
    return values[0]


def share(index: Int[Tensor, "B"]) -> Int[Tensor, "b"]:
    """The utterances of a batch that this process computes: every R-th; one that another has too where there is none.

    So all processes have the same gradients to combine.
    """
    own = index[rank() :: count()]
    return own if len(own) else index[:1]


def whole(forward: Callable[[Batch], Any], batch: Batch, index: Int[Tensor, "B"]) -> tuple[Any, Batch]:
    """The output for the utterances ``index``, of which this process computes ``batch``, its ``share``; and the batch
    that the losses read: all labels; of several processes none has all frames, so there it is without any.

    Raises:
        ValueError: a tensor of the output does not begin with the batch.
    """
    if count() == 1:
        return forward(batch), batch
    own = len(index[rank() :: count()])
    found = forward(batch), dataclasses.replace(batch, features={}, mask={})
    tensors: dict[int, Tensor] = {}
    mapped(lambda x: tensors.setdefault(id(x), x), found)
    for x in tensors.values():
        if not x.ndim or len(x) != len(batch):
            raise ValueError(
                f"{type(found[0]).__module__}: an output of shape {tuple(x.shape)} does not begin with the batch of "
                f"{len(batch)}, so it cannot be gathered; train in one process"
            )
    joined = {}
    for kind in {(x.dtype, x.requires_grad): None for x in tensors.values()}:  # one exchange for each kind of tensor
        members = {key: x for key, x in tensors.items() if (x.dtype, x.requires_grad) == kind}
        rows = torch.cat([x[:own].reshape(own, x.shape[1:].numel()) for x in members.values()], 1)
        parts = _Gather.apply(rows, len(index)).split([x.shape[1:].numel() for x in members.values()], 1)
        for (key, x), part in zip(members.items(), parts, strict=True):
            joined[key] = part.contiguous().view(-1, *x.shape[1:])
    return mapped(lambda x: joined[id(x)], found)


class _Gather(torch.autograd.Function):
    """Rows (b, w) of every process -> all rows (B, w) in the order of the batch; b may differ by one."""

    @staticmethod
    def forward(ctx: Any, own: Shaped[Tensor, "b w"], size: int) -> Shaped[Tensor, "B w"]:
        padded = F.pad(own, (0, 0, 0, -(-size // count()) - len(own)))
        parts = [torch.empty_like(padded) for _ in range(count())]
        dist.all_gather(parts, padded)
        return torch.stack(parts, 1).flatten(0, 1)[:size]

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, "B w"]) -> tuple[Float[Tensor, "b w"], None]:
        return count() * grad[rank() :: count()], None


def mean_gradients(model: nn.Module) -> None:
    """Give every process the mean of all processes' gradients, which is the gradient of the whole batch."""
    if count() > 1:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in gradients])
        dist.all_reduce(flat)
        flat /= count()
        for grad, mean in zip(gradients, flat.split([grad.numel() for grad in gradients]), strict=True):
            grad.copy_(mean.view_as(grad))


def mapped(f: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """A structure of dataclasses, dicts, lists and tuples with ``f`` of each tensor in its place."""
    if isinstance(tree, Tensor):
        return f(tree)
    if isinstance(tree, dict):
        return {key: mapped(f, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(f, value) for value in tree)
    if dataclasses.is_dataclass(tree):
        return dataclasses.replace(
            tree, **{field.name: mapped(f, getattr(tree, field.name)) for field in dataclasses.fields(tree)}
        )
    return tree
