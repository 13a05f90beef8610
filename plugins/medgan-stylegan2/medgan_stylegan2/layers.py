"""Layers with an equalised learning rate, convolutions modulated by a style, and resampling without aliases."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EqualConv", "EqualLinear", "ModulatedConv", "Resample", "activate", "pixel_norm"]

_FILTER = (1.0, 3.0, 3.0, 1.0)  # low-pass filter of every change of resolution, along each axis


def activate(hidden: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times √2, which keeps the variance of what passes."""
    return F.leaky_relu(hidden, 0.2) * math.sqrt(2)


def pixel_norm(vectors: Tensor) -> Tensor:
    """Divide vectors by the root mean square of their entries.

    Args:
        vectors: Shape ``(N, C)``.

    References:
        Karras et al., 2018, arXiv:1710.10196.
    """
    return vectors * (vectors.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate.

    Weights are drawn from N(0, 1) and divided by the root of the number of inputs when they are used, not when they are
    drawn. Adam moves each of them by the same amount, so that all layers learn equally fast.

    Args:
        inputs: Length of the input.
        outputs: Length of the output.
        bias: What the bias starts at.
        rate: Factor of the learning rate of this layer; what it computes at the start does not depend on it.

    References:
        Karras et al., 2018, arXiv:1710.10196; Karras et al., 2019, arXiv:1812.04948 (factor of the learning rate).
    """

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        """Draw the weights."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.gain = rate / math.sqrt(inputs)
        self.rate = rate

    def forward(self, vectors: Tensor) -> Tensor:
        """Return ``(N, outputs)`` for ``(N, inputs)``."""
        return F.linear(vectors, self.weight * self.gain, self.bias * self.rate)


class EqualConv(nn.Module):
    """Convolution with an equalised learning rate, see `EqualLinear`; at full or at half the resolution.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        kernel: Length of the kernel, 1 or 3.
        bias: Whether there is one; it starts at 0.
        down: Whether to halve the resolution, filtered before.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, bias: bool = True, down: bool = False
    ) -> None:
        """Draw the weights."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None
        self.gain = 1 / math.sqrt(channels_in * kernel**2)
        # Padded so that a convolution of stride 2 without padding leaves half of the length.
        self.filter = Resample(padding=(kernel + 1) // 2) if down else None

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(N, channels_out, *size)``, or half of that size, for ``(N, channels_in, *size)``."""
        weight = self.weight * self.gain
        if self.filter is None:
            return F.conv2d(images, weight, self.bias, padding=weight.shape[2] // 2)
        return F.conv2d(self.filter(images), weight, self.bias, stride=2)


class ModulatedConv(nn.Module):
    """Convolution whose weights are scaled, for each image, by its style, and normalised again.

    With the style's scales s of the input channels i, for the weights w of the output channels j at the positions k::

        w' = s_i · w_ijk        (modulation)
        w'' = w' / √(Σ_ik w'² + ε)        (demodulation)

    If the inputs have a variance of one, so have the outputs, whatever the style. It is computed as a plain
    convolution of scaled inputs, whose outputs are scaled: the same numbers, but one convolution for all images.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        style_dim: Length of a style vector.
        kernel: Length of the kernel, 1 or 3.
        up: Whether to double the resolution, filtered after.
        demodulate: Whether to normalise.

    References:
        Karras et al., 2020, arXiv:1912.04958, equations 1 and 3.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        style_dim: int,
        *,
        kernel: int = 3,
        up: bool = False,
        demodulate: bool = True,
    ) -> None:
        """Draw the weights; at the start every scale is near one."""
        super().__init__()
        self.affine = EqualLinear(style_dim, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.gain = 1 / math.sqrt(channels_in * kernel**2)
        self.demodulate = demodulate
        # Every second pixel of what is filtered is a zero, along both axes: hence the gain of 4.
        self.filter = Resample(padding=1, gain=4.0) if up else None

    def forward(self, images: Tensor, styles: Tensor) -> Tensor:
        """Convolve.

        Args:
            images: Shape ``(N, channels_in, *size)``.
            styles: Shape ``(N, style_dim)``.

        Returns:
            Shape ``(N, channels_out, *size)``, or twice that size.
        """
        scales: Tensor = self.affine(styles)
        weight = self.weight * self.gain
        hidden = images * scales[:, :, None, None]
        if self.filter is None:
            hidden = F.conv2d(hidden, weight, padding=weight.shape[2] // 2)
        else:
            hidden = self.filter(F.conv_transpose2d(hidden, weight.transpose(0, 1), stride=2))
        if self.demodulate:
            hidden = hidden * self._demodulation(scales, weight).to(hidden.dtype)[:, :, None, None]
        return hidden

    def _demodulation(self, scales: Tensor, weight: Tensor) -> Tensor:
        """Return what the outputs are multiplied by, ``(N, channels_out)``; in the precision of the weights."""
        with torch.autocast(scales.device.type, enabled=False):
            squares = F.linear(scales.to(weight.dtype).square(), weight.square().sum(dim=(2, 3)))
        return (squares + 1e-8).rsqrt()


class Resample(nn.Module):
    """Low-pass filter [1, 3, 3, 1] along both axes, and a change of resolution; plain convolutions of each channel.

    Args:
        padding: Zeros at each border.
        gain: Factor of the result.
        up: Whether to put zeros between the pixels first, which doubles the resolution.
        down: Whether to keep every second pixel, which halves it.

    References:
        Karras et al., 2020, arXiv:1912.04958; Zhang, 2019, arXiv:1904.11486.
    """

    filter: Tensor

    def __init__(self, *, padding: int = 1, gain: float = 1.0, up: bool = False, down: bool = False) -> None:
        """Compute the filter; it belongs to no state."""
        super().__init__()
        line = torch.tensor(_FILTER) / sum(_FILTER)
        self.register_buffer("filter", gain * torch.outer(line, line), persistent=False)
        self.padding = padding
        self.up = up
        self.stride = 2 if up or down else 1

    def forward(self, images: Tensor) -> Tensor:
        """Filter images ``(N, C, *size)``."""
        channels = images.shape[1]
        weight = self.filter.to(images.dtype).expand(channels, 1, -1, -1).contiguous()
        convolve = F.conv_transpose2d if self.up else F.conv2d
        return convolve(images, weight, stride=self.stride, padding=self.padding, groups=channels)
