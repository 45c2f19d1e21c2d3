"""A model directory as the source of targets: uint8 views in, float32 targets out, the same bits every time.

    B = batch, S = view size, C = channels (classes, or dimensions of features), N = cells of a map, row by row

Every batch has the same size: bf16 matrix products give other bits at another batch size.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers.config import use_fused_attn
from torch.utils.flop_counter import FlopCounterMode

from reinforce import catalog
from reinforce.compiled import compiled, naming_missing_compilers
from reinforce.errors import UsageError
from reinforce.models import ModelInfo, Preprocess, change_image_size, load_model, short_name, weights_sha256
from reinforce.models.features import global_features, global_width, patch_features, patch_shape
from reinforce.models.info import comfortable_batch, comfortable_size
from reinforce.models.rounded import round_weights
from reinforce.store import (
    DENSE_LOGITS,
    FEATURES,
    GLOBAL_FEATURES,
    LOGITS,
    PATCH_FEATURES,
    UNKNOWN,
    MapShape,
    RowShape,
    TargetShape,
)
from reinforce.views import libraries

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Teacher:
    """Runs in one process per device; autotuning and TF32 are off and the number of threads is the plan's."""

    def __init__(self, name: str, *, device: str, dtype: str, threads: int, batch_size: int | None,
                 target: str | None = None, image_size: int | None = None,
                 compile: bool = False) -> None:  # fmt: skip
        """`name` is a catalog name or model directory; `target` what it is asked for (default: the logits of its task);
        `dtype` is auto, bfloat16 or float32; `image_size` is the input of an encoder without a head, in px (default:
        its own, or 224 where that is over 384): one with a head keeps that at which it was trained. `compile` takes a
        minute, now. Raises UsageError for a target that the model does not give, for sizes that its patches do not
        cover, and where nothing can be compiled."""
        fix_arithmetic(threads)
        self.module, self.info = load_model(name)
        self.target = _target(name, self.info, target)
        self.weights_sha256 = weights_sha256(self.module)  # of the weights as they lie there: resizing resamples some
        if self.info.head == "none":
            size_px = image_size or comfortable_size(self.info.image_size)
            self.module, self.info = change_image_size(self.module, self.info, size_px)
        self.name, self.batch_size = short_name(name), batch_size or comfortable_batch(self.info)
        said = self.info.provenance.get("license") or catalog.resolve_model(name).table.get("license")
        self.license = str(said or UNKNOWN)
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device, self.info)
        self.module = self.module.to(self.device).eval()
        if self.dtype == "bfloat16":
            round_weights(self.module)
        self.preprocess = Preprocess.from_info(self.info)
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = None
        if compile:
            self._compile()

    def target_shape(self, size_px: int) -> TargetShape:
        """Of its targets of views of `size_px`: a row, or a map (of logits: before upsampling)."""
        if self.target == DENSE_LOGITS:
            return MapShape(self.info.num_classes, self.info.map_size, self.info.map_size, size_px)
        if self.target == PATCH_FEATURES:
            with self._arithmetic():
                dim, height, width = patch_shape(self.module, self.info.image_size)
            return MapShape(dim, height, width, size_px, PATCH_FEATURES)
        if self.target == GLOBAL_FEATURES:
            return RowShape(global_width(self.module), GLOBAL_FEATURES)
        return RowShape(self.info.num_classes)

    @torch.inference_mode()
    def targets(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, C) or (B, N, C) float32, for any B up to the batch size (padded with zeros)."""
        is_pinned = self.device.type == "cuda"
        padded = torch.zeros((self.batch_size, *views.shape[1:]), dtype=torch.uint8, pin_memory=is_pinned)
        padded.numpy()[: len(views)] = views
        images = self.preprocess(padded, self.device)
        with self._arithmetic():
            targets = (self._compiled or self._forward)(images)[: len(views)]
        if targets.ndim == 4:
            targets = targets.permute(0, 2, 3, 1).flatten(1, 2)
        array: NDArray[np.float32] = targets.float().contiguous().cpu().numpy()
        return array

    def _compile(self) -> None:
        self._compiled = compiled(self._forward)
        size_px = self.info.image_size
        with naming_missing_compilers():
            self.targets(np.zeros((1, size_px, size_px, 3), np.uint8))

    def _arithmetic(self) -> contextlib.AbstractContextManager[object]:
        if self.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _forward(self, images_B3PP: torch.Tensor) -> torch.Tensor:
        """(B, C) or (B, C, h, w)."""
        if self.target == GLOBAL_FEATURES:
            return global_features(self.module, images_B3PP)
        if self.target == PATCH_FEATURES:
            return patch_features(self.module, images_B3PP)
        output: torch.Tensor = self.module(images_B3PP)
        return output

    @torch.no_grad()
    def flops_per_view(self) -> int:
        """Operations of matrix products and convolutions (a multiplication and an addition are two), on any device."""
        size_px = self.info.image_size
        with self._arithmetic(), FlopCounterMode(display=False) as counter:
            self._forward(torch.zeros(1, 3, size_px, size_px, device=self.device))
        return int(counter.get_total_flops())

    def describe(self) -> dict[str, Any]:
        """What binds a store to this teacher: weights, preprocessing, classes."""
        info = self.info
        return {
            "name": self.name,
            "architecture": info.architecture,
            "model_args": info.model_args,
            **_segmentation(info),
            "weights_sha256": self.weights_sha256,
            "preprocess": {
                "image_size": info.image_size,
                "mean": list(info.mean),
                "std": list(info.std),
                "interpolation": info.interpolation,
            },
            "license": self.license,
        }


def _target(name: str, info: ModelInfo, asked: str | None) -> str:
    """What is asked for, or by default the logits of the model's task. Raises UsageError where it cannot give it."""
    own = DENSE_LOGITS if info.task == "segmentation" else LOGITS
    target = asked or own
    if target != own and (target not in FEATURES or own == DENSE_LOGITS):
        raise UsageError(f"'{name}' is a {info.task} model, which gives {own}: type --target {own}")
    if target == own and not info.class_names:
        raise UsageError(
            f"'{name}' has no classes whose logits could be kept: teach it a task first, train adapt --model {name} "
            "--data DATA --out runs/NAME; or type --target global-features or patch-features"
        )
    return target


def _segmentation(info: ModelInfo) -> dict[str, Any]:
    if info.task != "segmentation":
        return {}
    return {"head": info.head, "output_stride": info.output_stride, "dilated": info.dilated}


def environment(device: torch.device, dtype: str, *, is_compiled: bool = False) -> dict[str, Any]:
    """All outside the inputs that decides the bits of targets and pixels. Equal environment, equal bytes."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        **{name: _version(name) for name in ("torch", "timm", "open_clip_torch", "zarr", "numcodecs")},
        **libraries(),
        **_device(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "amx": bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()),
        "attention": "fused" if use_fused_attn() else "plain",
        "dtype": dtype,
        **({"compiled": True} if is_compiled else {}),
    }


def _device(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"device": device.type}
    name, cudnn = torch.cuda.get_device_name(device), torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return {"device": name, "cuda": torch.version.cuda, "cudnn": cudnn}


def default_threads() -> int:
    """Threads of a teacher on this machine, before a plan fixes them."""
    return torch.get_num_threads()


def fix_arithmetic(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device '{name}': type --device auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device '{name}' is not supported: type --device auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available here: type --device cpu")
    return device


def choose_devices(names: str) -> list[str]:
    """ "cuda:0,cuda:1" -> its parts; "cuda:all" -> every GPU that is visible. Raises UsageError as `choose_device`, and
    for devices of several kinds, which compute other bits."""
    if names == "cuda:all":
        choose_device("cuda")
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    devices = [choose_device(name.strip()) for name in names.split(",")]
    if len({device.type for device in devices}) > 1:
        raise UsageError(f"--device {names} names devices of several kinds, which compute other bits: type one kind")
    return [str(device) for device in devices]


def choose_dtype(name: str, device: torch.device, info: ModelInfo) -> str:
    """bfloat16 on CUDA, and for vision transformers on processors with bf16 matrix units; else float32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16"
    has_bf16 = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return "bfloat16" if has_bf16 and info.feature == "cls" else "float32"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
