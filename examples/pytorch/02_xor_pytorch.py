"""El gemelo en PyTorch de 02_xor.py: otra biblioteca, las mismas líneas y los mismos números.

    python -m pip install -e ".[examples]"
    python examples/pytorch/02_xor_pytorch.py

Ponelo al lado de examples/02_xor.py. Cambian los nombres de las capas (Layer es nn.Linear), que los
datos son tensores y que una red de PyTorch recibe los cuatro ejemplos juntos. El ciclo de
entrenamiento es el mismo y, como empieza con los mismos pesos, imprime las mismas pérdidas.

Además de ese extra usa PyTorch, que se instala como dice pytorch.org. Tarda unos 5 segundos.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # ahí está common.py
from common import extras, read_options

with extras('examples'):
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import mse_loss
    from torch.optim import SGD
    from tqdm import tqdm

torch.set_default_dtype(torch.float64)  # los float de Python tienen 64 bits; los de PyTorch, 32

X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = torch.tensor([0.0, 1.0, 1.0, 0.0])


def linear_network() -> nn.Sequential:
    return start_like_michigrad(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)))


def tanh_network() -> nn.Sequential:
    return start_like_michigrad(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)))


def start_like_michigrad(model: nn.Sequential) -> nn.Sequential:
    """Pone los pesos iniciales de Michigrad: uniformes entre -1 y 1, y sesgos en 0."""
    random.seed(1)
    for layer in model:
        if isinstance(layer, nn.Linear):
            for neuron in layer.weight.data:
                neuron[:] = torch.tensor([random.uniform(-1, 1) for _ in neuron])
            layer.bias.data.zero_()
    return model


def mean_loss(model: nn.Sequential) -> Tensor:
    """El error cuadrático medio sobre los cuatro ejemplos."""
    return mse_loss(model(X).squeeze(1), Y)


def train(model: nn.Sequential, steps: int, name: str) -> list[float]:
    """Entrena y devuelve la pérdida de cada paso."""
    optimizer = SGD(model.parameters(), lr=0.3)
    losses = []
    bar = tqdm(range(steps), desc=name)
    for _ in bar:
        loss = mean_loss(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        bar.set_postfix_str(f'pérdida {loss:.4f}', refresh=False)
    return losses


def report(name: str, model: nn.Sequential, losses: list[float]) -> None:
    print(f'{name}: la pérdida va de {losses[0]:.4f} a {losses[-1]:.4f}')
    for x, y in zip(X, Y, strict=True):
        print(f'  {x[0]:.0f} xor {x[1]:.0f} = {y:.0f}: la red dice {model(x).item():.2f}')


def main() -> None:
    options = read_options(__doc__, '--rapido')
    linear, tanh = linear_network(), tanh_network()
    steps = 150 if options.rapido else 300
    losses = [train(linear, steps, 'lineal'), train(tanh, steps, 'con tanh')]
    report('Red lineal', linear, losses[0])
    report('Red con tanh', tanh, losses[1])


if __name__ == '__main__':
    main()
