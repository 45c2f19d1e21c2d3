"""Where the cells of a convolutional network lie on its input, and how to move them under the upsampling.

Bilinear upsampling with align_corners=False takes cell i of a stride-s map for the s pixels around s * i + (s - 1) / 2
(3.5 px for the first cell at stride 8). A convolution with an odd kernel, stride 2 and equal padding centres output i
on input 2 * i, so the cells of a usual network lie at s * i: (s - 1) / 2 px too far left and up. Padding the last such
convolution by one more on the right than on the left moves them to s * i + s / 2, half a pixel from the exact place.

Shapes: n side of a map, P side of the input, in px.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn.functional import pad

PROBE_PX = 64
"""Side of the image that shows where a network halves its map: five halvings give 2 x 2."""


def halvings(encoder: nn.Module) -> dict[int, list[nn.Module]]:
    """Strides at which a map is halved next -> the innermost modules that do it, side by side.

    {1: [stem convolution], 2: [...], 4: [...]}; modules with branches that are fused later count as one. Runs the
    encoder once in eval mode; whatever it raises for a small square image comes through.
    """
    sides = _observed_sides(encoder)
    halving = {module for module, (before, after) in sides.items() if before == 2 * after}
    found: dict[int, list[nn.Module]] = {}
    for module in _innermost(encoder, halving):
        found.setdefault(PROBE_PX // sides[module][0], []).append(module)
    return found


def centre_cells(encoder: nn.Module, output_stride: int) -> None:
    """Move the cells of the stride-`output_stride` map to within half a pixel of where upsampling takes them to be.

    Works by padding and cropping around the last halving, so that no weight and no name changes. Raises ValueError for
    networks with even kernels (ConvNeXt, ResNet-D), which at stride 1 would move the map by half a cell.
    """
    if any(side > 1 and side % 2 == 0 for side in _kernel_sides(encoder)):
        raise ValueError(f"{type(encoder).__name__} has even kernels")
    for module in halvings(encoder).get(output_stride // 2, []):
        module.register_forward_pre_hook(_pad_by_one)
        pads_behind = any(isinstance(part, Conv2dSame) for part in module.modules())
        module.register_forward_hook(_without_last if pads_behind else _without_first)


def _kernel_sides(encoder: nn.Module) -> Iterator[int]:
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.AvgPool2d | nn.MaxPool2d):
            sides = module.kernel_size
            yield from (sides,) if isinstance(sides, int) else sides


def _pad_by_one(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (pad(inputs[0], (1, 1, 1, 1)), *inputs[1:])


def _without_first(module: nn.Module, inputs: tuple[Any, ...], map_BDnn: Tensor) -> Tensor:
    """What equal padding gave too much after `_pad_by_one`."""
    return map_BDnn[..., 1:, 1:]


def _without_last(module: nn.Module, inputs: tuple[Any, ...], map_BDnn: Tensor) -> Tensor:
    """The same for TensorFlow's padding, which centres output i on input 2 * i + 1 and so ends up at s * i + 3."""
    return map_BDnn[..., :-1, :-1]


def _observed_sides(encoder: nn.Module) -> dict[nn.Module, tuple[int, int]]:
    """Sides of the map that each module took and gave."""
    sides: dict[nn.Module, tuple[int, int]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and _is_map(inputs[0]) and _is_map(output):
            sides[module] = (inputs[0].shape[-1], output.shape[-1])

    _watch(encoder, note)
    return sides


def called_modules(encoder: nn.Module) -> set[nn.Module]:
    """Modules that `forward_features` runs."""
    called: set[nn.Module] = set()
    _watch(encoder, lambda module, inputs, output: called.add(module))
    return called


def _watch(encoder: nn.Module, note: Callable[[nn.Module, tuple[Any, ...], Any], None]) -> None:
    """Run the probe and note what each module took and gave."""
    handles = [module.register_forward_hook(note) for module in encoder.modules()]
    try:
        run_probe(encoder, PROBE_PX)
    finally:
        for handle in handles:
            handle.remove()


def run_probe(encoder: Any, image_size: int) -> Any:
    """`forward_features` of one grey image, in eval mode and without gradients."""
    was_training = encoder.training
    parameter = next(encoder.parameters())
    grey = torch.zeros(1, 3, image_size, image_size, device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.no_grad():
            return encoder.eval().forward_features(grey)
    finally:
        encoder.train(was_training)


def _innermost(module: nn.Module, halving: set[nn.Module]) -> Iterator[nn.Module]:
    inner = [found for child in module.children() for found in _innermost(child, halving)]
    if module in halving and (not inner or hasattr(module, "reparameterize")):
        yield module
    else:
        yield from inner


def _is_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4
