"""Who computes a store's units: the options that `build` and `embed` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reinforce.command import OutputOptions
from reinforce.errors import UsageError
from reinforce.job import Share


@dataclass(frozen=True, kw_only=True)
class EngineOptions(OutputOptions):
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; several, such as cuda:0,cuda:1, have a teacher process each; cuda:all is every GPU
    that is visible."""
    shard: str | None = None
    """Compute only part i of n, as i/n; the parts join one store and may run anywhere, at any time."""
    engine: Literal["local", "ray"] = "local"
    """Who computes the units: this machine, or actors of a Ray cluster, one for each GPU (without GPUs: for each
    teacher's threads and decoding processes)."""
    ray_address: str | None = None
    """The cluster of --engine ray: auto (the one that this machine belongs to; the default), HOST:PORT of its head, or
    local (one that lives as long as the command)."""
    mixed_environment: bool = False
    """Let another environment continue a store: its bytes then depend on who computed what."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Share.parse(self.shard)
        if self.ray_address is not None and self.engine != "ray":
            raise UsageError("--ray-address is of --engine ray: type that, too, or leave it out")
        if self.engine == "ray" and ("," in self.device or self.device.partition(":")[2]):
            raise UsageError("--engine ray places the teachers by itself: type --device auto, cpu or cuda")
        if self.ray_address is not None and self.ray_address.startswith("ray://"):
            raise UsageError("--ray-address ray://... is of Ray's client, which is on no machine of the cluster: run "
                             "this on one of them and type auto or HOST:PORT")  # fmt: skip
