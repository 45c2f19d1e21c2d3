"""Where a process stands: its device, and its rank among those that torchrun started (read here, nowhere else)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import torch
from reinforce.cores import usable_cores
from reinforce.counting import counted
from reinforce.decoding_workers import local_ranks
from reinforce.errors import ReinforceError, UsageError
from torch import distributed, nn

T = TypeVar("T")


class LostProcessError(ReinforceError):
    """Another process of torchrun's has ended."""

    def __init__(self) -> None:
        super().__init__("another process that torchrun started has ended, and this one with it: if that did not say "
                         "why, it was killed, perhaps for want of memory; type the same command again, with --resume "
                         "where it trains")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class World:
    device: torch.device
    rank: int = 0
    size: int = 1
    launcher: int = dataclasses.field(default_factory=os.getppid)
    """The process that started this one, torchrun where there are several."""

    @property
    def is_main(self) -> bool:
        """Only this process writes files and prints."""
        return self.rank == 0

    def seed(self, seed: int) -> None:
        """Seed what dropout and stochastic depth draw from on this device.

        Not `torch.manual_seed`: on machines without a GPU each call of it queues one for a GPU to come, for ever.
        """
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def barrier(self) -> None:
        if self.size > 1:
            distributed.barrier()

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Of each flag whether it is true on any rank; every rank must ask at the same step."""
        if self.size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.float32, device=self.device)
        distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)
        return tuple(vote > 0 for vote in votes.tolist())

    def is_forsaken(self) -> bool:
        """Whether torchrun is gone, so that nobody knows of its processes any more."""
        return self.size > 1 and os.getppid() != self.launcher

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in their order, each small enough for every rank; all of them must ask."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model itself, or its DistributedDataParallel wrapper (with SyncBatchNorm on GPUs)."""
        if self.size == 1:
            return model
        if self.device.type == "cuda":
            return nn.parallel.DistributedDataParallel(self.synchronised(model), device_ids=[self.device.index])
        return nn.parallel.DistributedDataParallel(model)

    def synchronised(self, model: nn.Module) -> nn.Module:
        """The model with batch statistics of all ranks, where that is possible (GPUs) and not so already."""
        if (
            self.size == 1
            or self.device.type != "cuda"
            or any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
        ):
            return model
        return with_shared_statistics(model)


def with_shared_statistics(model: nn.Module) -> nn.Module:
    """SyncBatchNorm for BatchNorm: by timm, since torch's own conversion loses the activation of BatchNormAct2d."""
    from timm import layers

    return cast(nn.Module, cast(Any, layers).convert_sync_batchnorm(model))


@contextlib.contextmanager
def entered_world(device: str) -> Iterator[World]:
    """Resolve `--device`; join the process group for as long, when torchrun started this process (WORLD_SIZE > 1).

    Raises UsageError for a device that is not there, LostProcessError where another process has ended meanwhile.
    """
    rank, size = torchrun_rank(), int(os.environ.get("WORLD_SIZE", "1"))
    resolved = resolve_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if size > 1 and not distributed.is_initialized():
        if resolved.type == "cuda":
            torch.cuda.set_device(resolved)
        distributed.init_process_group("nccl" if resolved.type == "cuda" else "gloo")
    try:
        yield World(resolved, rank, size)
    except RuntimeError as error:
        if size > 1 and _tells_of_a_loss(error):
            raise LostProcessError from error
        raise
    finally:
        if size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()


def _tells_of_a_loss(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


def torchrun_rank() -> int:
    """This process's rank among all that torchrun started; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Only the main process prints, registers and writes."""
    return torchrun_rank() == 0


def resolve_device(device: str, local_rank: int = 0) -> torch.device:
    """auto, cpu, cuda (= the local rank's GPU) or cuda:N as a torch device."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if device not in ("auto", "cuda") and not device.startswith("cuda:"):
        raise UsageError(f"--device is {device}: type auto, cpu, cuda or cuda:N")
    index = device.removeprefix("cuda:") if ":" in device else str(local_rank)
    if not index.isdigit() or int(index) >= torch.cuda.device_count():
        here = counted(torch.cuda.device_count(), "GPU")
        raise UsageError(f"--device {device} is not here ({here}): type --device auto")
    return torch.device("cuda", int(index))


def loader_workers(requested: int, device: torch.device) -> int:
    """Decoding processes of a rank: as asked, or none on a CPU (training needs its cores) and up to 8 beside a GPU, of
    the cores that are its share."""
    if requested >= 0:
        return requested
    share = usable_cores() // local_ranks()
    return min(8, max(1, share - 1)) if device.type == "cuda" else 0
