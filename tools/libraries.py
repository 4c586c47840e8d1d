"""captum, zennit and pytorch-grad-cam for the benchmarks, on the network that a Keras model is in PyTorch.

pip install torch==2.13.0 tqdm click
pip install --no-deps captum==0.9.0 zennit==0.5.1 grad-cam==1.5.7 ttach==0.0.3
"""

import importlib
import importlib.util
import sys
import types
import warnings

import keras
import numpy as np

# what zennit and pytorch-grad-cam import of torchvision; nothing of it is used here
NAMES_OF_TORCHVISION = {
    "torchvision": (),
    "torchvision.models": (),
    "torchvision.models.resnet": ("Bottleneck", "BasicBlock"),
    "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
    "torchvision.transforms.functional": ("resize",),
}


def installed(*modules):
    """The imported modules of other libraries; None, and a word about it, for one that is not there."""
    warnings.filterwarnings("ignore", module="torch|captum|zennit|pytorch_grad_cam")
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        for module, names in NAMES_OF_TORCHVISION.items():
            sys.modules[module] = types.ModuleType(module)
            vars(sys.modules[module]).update(dict.fromkeys(names, type))
    found = []
    for module in modules:
        try:
            found.append(importlib.import_module(module))
        except ImportError as error:
            print(f"{module} takes no part: {error}")
            found.append(None)
    return found


def in_torch(model, x):
    """A chain of convolutions, pooling and dense layers as a torch.nn.Sequential with the same weights, and `x` for it.

    Raises if the two do not compute the same.
    """
    import torch
    from torch import nn

    class ChannelsLastFlatten(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    parts = []
    for layer in model.layers:
        weights = [torch.tensor(np.asarray(w)) for w in layer.get_weights()]
        if isinstance(layer, keras.layers.Conv2D):
            part = nn.Conv2d(*weights[0].shape[2:], layer.kernel_size, padding="same", bias=layer.use_bias)
            part.weight.data = weights[0].permute(3, 2, 0, 1).contiguous()
        elif isinstance(layer, keras.layers.Dense):
            part = nn.Linear(*weights[0].shape, bias=layer.use_bias)
            part.weight.data = weights[0].T.contiguous()
        elif isinstance(layer, keras.layers.MaxPooling2D):
            part = nn.MaxPool2d(2)
        elif isinstance(layer, keras.layers.AveragePooling2D):
            part = nn.AvgPool2d(2)
        elif isinstance(layer, keras.layers.Flatten):
            part = ChannelsLastFlatten()
        elif isinstance(layer, keras.layers.GlobalAveragePooling2D):
            part = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        else:
            continue
        if len(weights) == 2:
            part.bias.data = weights[1]
        parts += [part, nn.ReLU()] if getattr(layer, "activation", None) is keras.activations.relu else [part]
    network = nn.Sequential(*parts).eval()
    images = torch.tensor(x).permute(0, 3, 1, 2).contiguous()
    theirs, ours = network(images).detach().numpy(), model(x).numpy()
    if not np.allclose(theirs, ours, atol=1e-3):
        raise ValueError(f"{model.name!r} computes something else in PyTorch: {np.abs(theirs - ours).max():.3g} apart.")
    return network, images
