"""First layers of an encoder: from features at full rate to one frame in ``subsampling``.

In: features (B, D, T).  Out: (B, outputs, n).  ``context``: frames on each side of an output's centre frame.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from kdtool.student.encoders.base import BatchNorm2d, ConvBlock, Encoder, channels_last, conv_block, crop


class Front(nn.Module):
    """A front end; output j represents input frame context + j * subsampling."""

    context: int = 0


class Conv1dFront(Front):
    """Two convolutions over time: at full rate over ``kernel`` frames, then strided over ``stride_kernel`` of those outputs."""

    def __init__(
        self, input_dim: int, outputs: int, subsampling: int, dropout: float, *, channels: int = 128, kernel: int = 5,
        stride_kernel: int = 5,
    ) -> None:
        super().__init__()
        check_odd(kernel, stride_kernel)
        self.full = conv_block(input_dim, channels, kernel)
        self.strided = conv_block(channels, outputs, stride_kernel, stride=subsampling, dropout=dropout)
        self.context, self.subsampling = (kernel - 1) // 2 + (stride_kernel - 1) // 2, subsampling

    def forward(self, feats: Tensor, pad: Tensor | None = None) -> Tensor:
        hidden: Tensor = self.strided(self.full(feats, None if pad is None else pad * self.subsampling), pad)
        return hidden


class Conv2dFront(Front):
    """Convolutions over time and frequency, each halving the frequencies, and a projection of the rest.

    The first sees ``kernel`` frames and is strided in time (at full rate it would cost as much as the encoder), the others
    see three of its outputs.  Filters shared along the frequencies need less speech to learn what a formant is, wherever it
    lies (LeCun & Bengio 1995; Abdel-Hamid et al. 2014).
    """

    def __init__(
        self, input_dim: int, outputs: int, subsampling: int, dropout: float, *, channels: list[int] | None = None, kernel: int = 5
    ) -> None:
        super().__init__()
        check_odd(kernel)
        sizes = [32, 32, 64] if channels is None else channels
        bins, last, layers = input_dim, 1, []
        for i, size in enumerate(sizes):
            # Over 3 frequencies (stride 2, padded) and some frames (not padded).
            convolution = nn.Conv2d(last, size, (3, 3 if i else kernel), stride=(2, 1 if i else subsampling), padding=(1, 0))
            layers.append(ConvBlock(convolution, nn.ReLU(inplace=True), BatchNorm2d(size)))
            bins, last = (bins + 1) // 2, size
        self.layers = nn.ModuleList(layers)
        self.project = conv_block(last * bins, outputs, 1, dropout=dropout)
        self.context = (kernel - 1) // 2 + subsampling * (len(sizes) - 1)

    def forward(self, feats: Tensor, pad: Tensor | None = None) -> Tensor:
        hidden = channels_last(feats)
        for layer in self.layers:
            hidden = layer(hidden, pad)
        projected: Tensor = self.project(hidden, pad)
        return projected


FRONTS: dict[str, type] = {"conv1d": Conv1dFront, "conv2d": Conv2dFront}


def make_front(input_dim: int, outputs: int, subsampling: int, dropout: float, options: dict[str, Any] | None) -> Front:
    """The front end named by ``options['kind']`` (default: conv1d); ValueError when there is none of that name."""
    options = dict(options or {})
    kind = options.pop("kind", "conv1d")
    if kind not in FRONTS or subsampling < 1:
        raise ValueError(f"front end '{kind}' (known: {', '.join(sorted(FRONTS))}), subsampling {subsampling} (at least 1)")
    front: Front = FRONTS[kind](input_dim, outputs, subsampling, dropout, **options)
    return front


def check_odd(*kernels: int) -> None:
    """ValueError unless all are odd: an output must represent a centre frame."""
    if any(k % 2 == 0 or k < 1 for k in kernels):
        raise ValueError(f"kernels {kernels} must be odd, to have a centre frame")


class Layered(Encoder):
    """A front end (layer 0) and layers of ``width`` channels above it; ``contexts``: subsampled frames that each layer loses on each
    side, none by default. ``layers`` are made after the front end, and take (B, width, n) and the padding."""

    def __init__(self, input_dim: int, width: int, layers: Iterator[nn.Module], *, contexts: Sequence[int] = (), dropout: float,
                 front: dict[str, Any] | None, subsampling: int) -> None:  # fmt: skip
        super().__init__()
        self.subsampling, self.contexts = subsampling, contexts
        self.front = make_front(input_dim, width, subsampling, dropout, front)
        self.layers = nn.ModuleList(layers)
        self.left = self.right = self.front.context + subsampling * sum(contexts)
        self.dims = [width] * (len(self.layers) + 1)

    def forward(self, feats: Tensor, pad: Tensor | None = None) -> list[Tensor]:
        hidden = [self.front(feats, pad)]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], pad))
        ahead = [sum(self.contexts[i:]) for i in range(len(hidden))]
        return [crop(h, c, c) for h, c in zip(hidden, ahead, strict=True)]
