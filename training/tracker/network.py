"""A network with the inputs and outputs of OpenCV's VitTrack.

Its inside is our own and much smaller: convolutions for both pictures, each place of the search region compared with each
place of the template, and convolutions that read where the object is from these likenesses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.onnx_file import write_onnx

TEMPLATE_SIDE, SEARCH_SIDE = 128, 256  # pixels
STRIDE = 16  # pixels of a cell of the outputs
CELLS = SEARCH_SIDE // STRIDE
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHANNELS = (24, 48, 64)  # at a quarter, an eighth and a sixteenth of the resolution
_TRUNK = 48


def make_network(seed: int = 0) -> Any:
    """A network with random weights.

    Args:
        seed: Of the weights.

    Returns:
        A torch module in training mode: (template (B, 3, 128, 128), search (B, 3, 256, 256)) to (score (B, 1, 16, 16), 0 to
        1; size (B, 2, 16, 16), width and height in parts of the search region; offset (B, 2, 16, 16), of the object's centre
        from the corner of the cell, in cells).
    """
    import torch
    from torch import nn

    torch.manual_seed(seed)

    def layer(inside: int, outside: int, stride: int = 1, size: int = 3) -> nn.Sequential:
        convolution = nn.Conv2d(inside, outside, size, stride, size // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU())

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.inner = nn.Sequential(layer(channels, channels), layer(channels, channels))

        def forward(self, maps: Any) -> Any:
            return maps + self.inner(maps)

    class Tracker(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            first, second, third = _CHANNELS
            self.features = nn.Sequential(
                layer(3, first, stride=4, size=7),
                layer(first, second, stride=2),
                Residual(second),
                layer(second, third, stride=2),
                Residual(third),
            )
            self.likeness_norm = nn.BatchNorm2d((TEMPLATE_SIDE // STRIDE) ** 2)
            self.mix = layer((TEMPLATE_SIDE // STRIDE) ** 2 + _CHANNELS[-1], _TRUNK, size=1)
            self.trunk = nn.Sequential(Residual(_TRUNK), Residual(_TRUNK))
            self.score = nn.Conv2d(_TRUNK, 1, 3, padding=1)
            self.box = nn.Conv2d(_TRUNK, 4, 3, padding=1)
            nn.init.constant_(self.score.bias, -3.0)  # most cells hold no object's centre

        def forward(self, template: Any, search: Any) -> tuple[Any, Any, Any]:
            known, seen = self.features(template), self.features(search)
            # (B, places of the template, places of the search region)
            likeness = known.flatten(2).transpose(1, 2) @ seen.flatten(2) / _CHANNELS[-1] ** 0.5
            likeness = self.likeness_norm(likeness.reshape(-1, likeness.shape[1], CELLS, CELLS))
            maps = self.trunk(self.mix(torch.cat((likeness, seen), dim=1)))
            size, offset = self.box(maps).split(2, dim=1)
            return self.score(maps).sigmoid(), size.sigmoid(), offset + 0.5

    return Tracker().train()


def export(network: Any, path: Path) -> None:
    """Writes a network as OpenCV's TrackerVit reads it.

    Args:
        network: What `make_network` makes, in inference mode.
        path: The ONNX file.
    """
    inputs = {"template": (1, 3, TEMPLATE_SIDE, TEMPLATE_SIDE), "search": (1, 3, SEARCH_SIDE, SEARCH_SIDE)}
    write_onnx(network, path, inputs, ("output1", "output2", "output3"))
