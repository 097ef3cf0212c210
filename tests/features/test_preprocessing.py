"""What a network sees of an image: the defaults, and what bundles store of it."""

from ffdi.features.backbone import Backbone
from ffdi.features.preprocessing import Preprocessing

IMAGENET = Preprocessing(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def net(**fields: object) -> Backbone:
    return Backbone("b", "timm:test_resnet", "random", "layer4", **fields)  # type: ignore[arg-type]


def test_a_backbone_is_asked_for_what_its_network_sees() -> None:
    assert net().pixels == IMAGENET
    assert net(image_size=64, std=(1.0, 1.0, 1.0)).pixels == Preprocessing(64, IMAGENET.mean, (1.0, 1.0, 1.0))


def test_a_bundle_stores_the_defaults_as_ever() -> None:
    stored = net().to_dict()
    assert list(stored) == [
        *("name", "network", "weights", "cut", "image_size", "mean", "std", "view_count", "view_policy", "view_seed"),
        *("dtype", "runtime", "precision", "compile", "decoder"),
    ]
    assert (stored["image_size"], stored["mean"], stored["std"]) == (IMAGENET.size, IMAGENET.mean, IMAGENET.std)
    assert Backbone.from_dict(stored).pixels == IMAGENET
