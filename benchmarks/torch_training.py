"""A straightforward PyTorch training step of Monodepth2 on three frames, to compare with.

The networks' parts are those of `torch_monodepth2.py`, of any width and with a pose network.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch_monodepth2 import Decoder, ResNet18

Pictures = dict[str, torch.Tensor]
VIEWS = ("previous", "following")


class Pose(nn.Module):
    """Two frames to axis-angle and translation."""

    def __init__(self, encoder_widths: Sequence[int], width: int):
        super().__init__()
        self.encoder = ResNet18(encoder_widths, 6)
        self.squeeze = nn.Conv2d(encoder_widths[-1], width, 1)
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.pose = nn.Conv2d(width, 12, 1)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Map two times (B, 3, H, W) to (B, 6)."""
        x = self.encoder(torch.cat([first, second], 1))[-1]
        for layer in (self.squeeze, self.conv1, self.conv2):
            x = F.relu(layer(x))
        return 0.01 * self.pose(x).mean((2, 3))[:, :6]


class Networks(nn.Module):
    """All that is trained."""

    def __init__(
        self,
        encoder_widths: Sequence[int],
        decoder_widths: Sequence[int],
        pose_encoder_widths: Sequence[int],
        pose_width: int,
    ):
        super().__init__()
        self.encoder = ResNet18(encoder_widths)
        self.depth = Decoder(encoder_widths, decoder_widths)
        self.pose = Pose(pose_encoder_widths, pose_width)

    def forward(self, pictures: Pictures) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        """Disparities, and motions (B, 4, 4) from the target's camera to those of the views."""
        disparities = self.depth(self.encoder(pictures["image"]))
        earlier = torch.cat([pictures["previous"], pictures["image"]])
        later = torch.cat([pictures["image"], pictures["following"]])
        before, after = motion_matrix(self.pose(earlier, later)).chunk(2)
        return disparities, {"previous": torch.linalg.inv(before), "following": after}


def motion_matrix(pose: torch.Tensor) -> torch.Tensor:
    """Axis-angle and translation (B, 6) to rigid motions (B, 4, 4): Rodrigues' formula."""
    angle = pose[:, :3].norm(dim=1)[:, None, None]
    x, y, z = (pose[:, :3] / (angle[:, :, 0] + 1e-7)).unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    rotation = torch.eye(3, device=pose.device) + torch.sin(angle) * cross
    rotation = rotation + (1 - torch.cos(angle)) * (cross @ cross)
    top = torch.cat([rotation, pose[:, 3:, None]], 2)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], device=pose.device).expand(len(pose), 1, 4)
    return torch.cat([top, bottom], 1)


def warp(
    source: torch.Tensor, depth: torch.Tensor, intrinsics: torch.Tensor, motion: torch.Tensor
) -> torch.Tensor:
    """The target's view from the source's picture (B, 3, H, W) and the target's depth."""
    size, _, height, width = depth.shape
    y, x = torch.meshgrid(
        torch.arange(height, dtype=depth.dtype, device=depth.device),
        torch.arange(width, dtype=depth.dtype, device=depth.device),
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)]).view(3, -1)
    points = depth.flatten(2) * (torch.linalg.inv(intrinsics) @ pixels)
    x, y, z = (intrinsics @ (motion[:, :3, :3] @ points + motion[:, :3, 3:])).unbind(1)
    z = z.clamp(min=1e-3)
    grid = torch.stack([2 * (x / z) / (width - 1) - 1, 2 * (y / z) / (height - 1) - 1], 2)
    grid = grid.view(size, height, width, 2)
    return F.grid_sample(source, grid, padding_mode="border", align_corners=True)


def photometric_error(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """0.85 of SSIM's distance and 0.15 of the absolute difference: (B, 1, H, W)."""
    a, b = (F.pad(x, (1, 1, 1, 1), mode="reflect") for x in (first, second))
    mean_a, mean_b = F.avg_pool2d(a, 3, 1), F.avg_pool2d(b, 3, 1)
    variance_a = F.avg_pool2d(a**2, 3, 1) - mean_a**2
    variance_b = F.avg_pool2d(b**2, 3, 1) - mean_b**2
    covariance = F.avg_pool2d(a * b, 3, 1) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    limit = (mean_a**2 + mean_b**2 + 1e-4) * (variance_a + variance_b + 9e-4)
    distance = ((1 - likeness / limit) / 2).clamp(0, 1).mean(1, keepdim=True)
    return 0.85 * distance + 0.15 * (first - second).abs().mean(1, keepdim=True)


def smoothness(disparity: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """How much disparity changes where the image does not."""
    d = disparity / (disparity.mean((2, 3), keepdim=True) + 1e-7)
    weights = [torch.exp(-images.diff(dim=n).abs().mean(1, keepdim=True)) for n in (2, 3)]
    changes = [d.diff(dim=n).abs() for n in (2, 3)]
    return sum(((c * w).mean() for c, w in zip(changes, weights, strict=True)), torch.zeros(()))


def training_loss(
    disparities: list[torch.Tensor],
    motions: dict[str, torch.Tensor],
    pictures: Pictures,
    intrinsics: torch.Tensor,
) -> torch.Tensor:
    """Photometric error with auto-masking and smoothness, mean over the scales."""
    target = pictures["image"]
    still = torch.cat([photometric_error(pictures[v], target) for v in VIEWS], 1)
    still = still + 1e-5 * torch.randn_like(still)
    losses = []
    for scale, disparity in enumerate(disparities):
        full = F.interpolate(disparity, target.shape[2:], mode="bilinear", align_corners=False)
        depth = 1 / (0.01 + 9.99 * full)
        warped = [warp(pictures[v], depth, intrinsics, motions[v]) for v in VIEWS]
        errors = torch.cat([*(photometric_error(w, target) for w in warped), still], 1)
        small = F.interpolate(target, disparity.shape[2:], mode="area")
        weight = 1e-3 / 2**scale
        losses.append(errors.min(1).values.mean() + weight * smoothness(disparity, small))
    return torch.stack(losses).mean()


class Training:
    """Networks and Adam, and the step."""

    def __init__(self, networks: Networks, rate: float, clip: float | None):
        self.networks = networks.train()
        self.clip = float("inf") if clip is None else clip
        self.optimiser = torch.optim.Adam(networks.parameters(), rate)

    def step(self, pictures: Pictures, intrinsics: torch.Tensor) -> tuple[float, float]:
        """Take a step with pictures (B, 3, H, W) uint8; return loss and norm of the gradients."""
        pictures = {name: picture.float() / 255 for name, picture in pictures.items()}
        self.optimiser.zero_grad()
        disparities, motions = self.networks(pictures)
        loss = training_loss(disparities, motions, pictures, intrinsics)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.networks.parameters(), self.clip)
        self.optimiser.step()
        return loss.item(), norm.item()
