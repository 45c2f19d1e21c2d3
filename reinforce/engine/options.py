"""Who computes the units of a job: the options that `build` and `embed` share, and those of any verb on a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from reinforce.command import OutputOptions
from reinforce.errors import UsageError
from reinforce.job import Share


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(OutputOptions):
    engine: Literal["local", "ray"] = "local"
    """Who computes: this machine, or actors of a Ray cluster, one for each GPU (without GPUs: for some of a machine's
    processors)."""
    ray_address: str | None = None
    """The cluster of --engine ray: auto (the one that this machine belongs to; the default), HOST:PORT of its head, or
    local (one that lives as long as the command)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ray_address is not None and self.engine != "ray":
            raise UsageError("--ray-address is of --engine ray: type that, too, or leave it out")
        if self.engine == "ray" and ("," in self.device or self.device.partition(":")[2]):
            raise UsageError("--engine ray places its actors by itself: type --device auto, cpu or cuda")
        if self.ray_address is not None and self.ray_address.startswith("ray://"):
            raise UsageError("--ray-address ray://... is of Ray's client, which is on no machine of the cluster: run "
                             "this on one of them and type auto or HOST:PORT")  # fmt: skip

    def connected(self) -> AbstractContextManager[None]:
        """To the cluster, where one is asked for: before anything costs time. Raises as `ray_cluster.connected`."""
        if self.engine != "ray":
            return nullcontext()
        from reinforce.engine.ray_cluster import connected

        return connected(self.ray_address or "auto")


@dataclass(frozen=True, kw_only=True)
class EngineOptions(ClusterOptions):
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; several, such as cuda:0,cuda:1, have a teacher process each; cuda:all is every GPU
    that is visible."""
    shard: str | None = None
    """Compute only part i of n, as i/n; the parts join one store and may run anywhere, at any time."""
    mixed_environment: bool = False
    """Let another environment continue a store: its bytes then depend on who computed what."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Share.parse(self.shard)
