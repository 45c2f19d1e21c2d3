"""The cells of every map lie where upsampling with align_corners=False takes them to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from reinforce.models import SegmentationModel, create_model, upsample
from reinforce.models.alignment import centre_cells, halvings

PX = 192


class Toy(nn.Module):
    """Convolutions with the given kernels at stride 2, every weight 1: a cell's gradient is its receptive field."""

    def __init__(self, *kernels: int, same: bool = False) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(Conv2dSame(3, 3, k, 2, bias=False) if same else nn.Conv2d(3, 3, k, 2, k // 2, bias=False)
              for k in kernels)
        )  # fmt: skip
        for weight in self.parameters():
            nn.init.ones_(weight)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.stages(images)
        return features


def sensitivity(encoder: Any, cell: tuple[int, int], side: int = 64) -> Tensor:
    """Squared gradient of one cell by the pixels of an even grey image, (P, P)."""
    image = torch.ones(1, 3, side, side, requires_grad=True)
    features = encoder.forward_features(image) if isinstance(encoder, Toy) else encoder.features(image)
    weights = torch.randn(features.shape[1], generator=torch.Generator().manual_seed(3))
    (features[0, :, cell[0], cell[1]] * weights).sum().backward()
    assert image.grad is not None
    return image.grad[0].square().sum(0)


def centre(map_PP: Tensor) -> tuple[float, float]:
    places = torch.arange(len(map_PP), dtype=torch.float64)
    rows, columns = map_PP.double().sum(1), map_PP.double().sum(0)
    return float(rows @ places / rows.sum()), float(columns @ places / columns.sum())


def mirror(model: nn.Module) -> None:
    """Kernels that equal their mirror images, and no dead units: what a cell sees is symmetric about its centre."""
    generator = torch.Generator().manual_seed(4)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            w = module.weight.data
            module.weight.data = (w + w.flip(2) + w.flip(3) + w.flip(2, 3)) / 4
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.uniform_(0.1, 1, generator=generator)


@pytest.mark.parametrize("stride", [8, 16])
def test_upsampling_takes_cell_i_for_the_pixels_around_its_centre(stride: int) -> None:
    """A map that holds the centres of its cells becomes an image that holds the places of its pixels."""
    centres = stride * torch.arange(8, dtype=torch.float64) + (stride - 1) / 2
    places = upsample(centres.expand(1, 1, 8, 8), 8 * stride)[0, 0, 0]
    inside = slice(stride // 2, -stride // 2)
    torch.testing.assert_close(places[inside], torch.arange(8.0 * stride, dtype=torch.float64)[inside])


@pytest.mark.parametrize(
    ("name", "options", "within_px"),
    [
        pytest.param("fastvit_t8", {}, 0.6, id="FastViT"),
        pytest.param("fastvit_t8", {"output_stride": 16}, 1, id="FastViT at 16"),
        pytest.param("mobilevitv2_050", {}, 0.6, id="MobileViTv2"),
        pytest.param("mobilevitv2_050", {"output_stride": 16}, 1, id="MobileViTv2 at 16"),
        pytest.param("mobilevitv2_050", {"dilated": True}, 0.6, id="MobileViTv2 dilated"),
        pytest.param("regnety_002", {}, 0.6, id="RegNet"),
        pytest.param("regnety_002", {"dilated": True}, 0.6, id="RegNet dilated"),
        pytest.param("repvgg_a0", {}, 0.6, id="RepVGG"),
        pytest.param("vit_tiny_patch16_224", {}, 0.01, id="ViT"),
        pytest.param("vit_small_patch14_dinov2", {}, 0.01, id="DINOv2"),
    ],
)
def test_cells_of_an_encoder_are_centred(name: str, options: dict[str, Any], within_px: float) -> None:
    """Half a pixel is what an odd kernel cannot do without; cells left as they are would miss by 3.5 px at stride 8."""
    model, info = create_model(name, image_size=PX, task="segmentation", **options)
    assert isinstance(model, SegmentationModel)
    mirror(model)
    middle, stride = info.map_size // 2, info.output_stride
    assert stride is not None
    for cell in ((middle, middle - 1), (middle + 1, middle)):
        seen = sensitivity(model, cell, PX)
        for place, index in zip(centre(near(seen, cell, stride)), cell, strict=True):
            assert place == pytest.approx(stride * index + (stride - 1) / 2, abs=within_px)


def near(map_PP: Tensor, cell: tuple[int, int], stride: int) -> Tensor:
    """Only the pixels within 40 px of the centre: what lies at the border of the image is not symmetric."""
    inside = torch.zeros_like(map_PP)
    rows, columns = (slice(stride * i + stride // 2 - 40, stride * i + stride // 2 + 40) for i in cell)
    inside[rows, columns] = map_PP[rows, columns]
    return inside


@pytest.mark.parametrize(
    ("name", "patch_px"),
    [("vit_small_patch14_dinov2", 14), ("vit_tiny_patch16_224", 16), ("vit_small_patch32_224", 32)],
)
def test_a_token_sees_its_patch_around_the_cell(name: str, patch_px: int) -> None:
    model, _ = create_model(name, image_size=PX, task="segmentation")
    embed: Any = model.encoder.patch_embed
    image = torch.ones(1, 3, PX, PX, requires_grad=True)
    embed(image)[0, 12, 9].square().sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    low = [8 * i + 4 - patch_px // 2 for i in (12, 9)]
    assert seen.amin(0).tolist() == low
    assert seen.amax(0).tolist() == [place + patch_px - 1 for place in low]


class TestToys:
    @pytest.mark.parametrize(
        ("kernels", "same", "stride", "before", "after"),
        [
            pytest.param((3, 3, 3), False, 8, 0, 4, id="equal padding"),
            pytest.param((7, 3, 5), False, 8, 0, 4, id="wide kernels"),
            pytest.param((3, 1, 3), False, 8, 0, 4, id="a kernel of one"),
            pytest.param((3, 3, 3, 3), False, 16, 0, 8, id="stride 16"),
            pytest.param((3, 3, 3), True, 8, 7, 3, id="TensorFlow's padding"),
        ],
    )
    def test_cells_move_by_half_a_cell(
        self, kernels: tuple[int, ...], same: bool, stride: int, before: int, after: int
    ) -> None:
        toy = Toy(*kernels, same=same)
        assert centre(sensitivity(toy, (6, 5), 192)) == pytest.approx((6 * stride + before, 5 * stride + before))
        centre_cells(toy, stride)
        assert centre(sensitivity(toy, (6, 5), 192)) == pytest.approx((6 * stride + after, 5 * stride + after))
        assert toy.forward_features(torch.ones(1, 3, 96, 96)).shape == (1, 3, 96 // stride, 96 // stride)

    def test_inside_it_is_the_network_as_it_was_on_a_moved_image(self) -> None:
        toy, moved = Toy(3, 3, 3), Toy(3, 3, 3)
        centre_cells(moved, 8)
        image = torch.randn(1, 3, 128, 128)
        expected = toy.forward_features(image[..., 4:, 4:])
        assert torch.equal(moved.forward_features(image)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])

    def test_no_pixel_is_lost(self) -> None:
        toy = Toy(3, 3, 3)
        centre_cells(toy, 8)
        image = torch.ones(1, 3, 64, 64, requires_grad=True)
        toy.forward_features(image).sum().backward()
        assert image.grad is not None
        assert bool((image.grad > 0).all())

    def test_even_kernels_are_refused(self) -> None:
        with pytest.raises(ValueError, match="even kernels"):
            centre_cells(Toy(3, 4, 3), 8)

    def test_names_and_weights_stay(self) -> None:
        toy = Toy(3, 3, 3)
        before = dict(toy.state_dict())
        centre_cells(toy, 8)
        assert toy.state_dict().keys() == before.keys()


def test_halvings_are_the_innermost_modules_side_by_side() -> None:
    model, _ = create_model("resnet18")
    names = {module: name for name, module in model.named_modules()}
    found = {stride: [names[module] for module in modules] for stride, modules in halvings(model).items()}
    assert found == {
        1: ["conv1"],
        2: ["maxpool"],
        **{4 * 2**i: [f"layer{i + 2}.0.conv1", f"layer{i + 2}.0.downsample.0"] for i in range(3)},
    }


def test_branches_that_are_fused_later_count_as_one() -> None:
    model, _ = create_model("fastvit_t8")
    names = {module: name for name, module in model.named_modules()}
    found = {stride: [names[module] for module in modules] for stride, modules in halvings(model).items()}
    assert found == {
        1: ["stem.0"], 2: ["stem.1"], **{4 * 2**i: [f"stages.{i + 1}.downsample.proj.0"] for i in range(3)},
    }  # fmt: skip


def test_looking_for_halvings_leaves_the_network_as_it_was() -> None:
    model, _ = create_model("resnet18")
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    halvings(model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
