"""AlexNet, features only: what LPIPS looks through unless its authors' VGG16 is asked for.

Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997. Keys are those of
torchvision (BSD-3-Clause) without the classifier: features.{0,3,6,8,10}.
"""

from torch import Tensor, nn

from upscale_cli.zoo.encoders.imagenet import Normalise


class AlexNet(nn.Module):
    """N x 3 x H x W in [0, 1] to the five activations behind its convolutions. H and W at least 31. Frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        )
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        seen: list[Tensor] = []
        features = self.normalise(image)
        for layer in self.features:
            features = layer(features)
            if isinstance(layer, nn.ReLU):
                seen.append(features)
        return seen
