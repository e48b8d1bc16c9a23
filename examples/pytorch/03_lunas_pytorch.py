"""El gemelo en PyTorch de 03_lunas.py: otra biblioteca, las mismas líneas y los mismos números.

    python -m pip install -e ".[examples]"
    python examples/pytorch/03_lunas_pytorch.py

Ponelo al lado de examples/03_lunas.py. Donde Michigrad arma el grafo de cada número, o repite con
Tape el de un ejemplo, PyTorch hace una operación con el tensor de los 100. Empieza con los mismos
pesos e imprime la misma pérdida y la misma exactitud.

Además de ese extra usa PyTorch, que se instala como dice pytorch.org. Tarda unos 5 segundos.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # ahí está common.py
from common import extras, read_options

with extras('examples'):
    import torch
    from sklearn.datasets import make_moons
    from torch import Tensor, nn
    from torch.nn.functional import relu
    from torch.optim import SGD
    from tqdm import tqdm

torch.set_default_dtype(torch.float64)  # los float de Python tienen 64 bits; los de PyTorch, 32

points, labels = make_moons(n_samples=100, noise=0.1, random_state=1337)
X = torch.tensor(points)
Y = torch.tensor(2 * labels - 1)  # las clases son -1 y 1
ALPHA = 1e-4  # cuánto pesa en la pérdida la suma de los cuadrados de los parámetros


def new_model() -> nn.Sequential:
    random.seed(1337)
    layers = nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)
    return start_like_michigrad(nn.Sequential(*layers))


def start_like_michigrad(model: nn.Sequential) -> nn.Sequential:
    """Pone los pesos iniciales de Michigrad: uniformes entre -1 y 1, y sesgos en 0."""
    for layer in model:
        if isinstance(layer, nn.Linear):
            for neuron in layer.weight.data:
                neuron[:] = torch.tensor([random.uniform(-1, 1) for _ in neuron])
            layer.bias.data.zero_()
    return model


def new_optimizer(model: nn.Sequential) -> SGD:
    return SGD(model.parameters(), lr=1.0, weight_decay=2 * ALPHA)  # la derivada de ALPHA·p²


def hinge_loss(scores: Tensor, target: Tensor) -> Tensor:
    return relu(1 - target * scores).mean()


def train(model: nn.Sequential, steps: int) -> list[float]:
    """Entrena y devuelve la pérdida de cada paso."""
    optimizer = new_optimizer(model)
    losses = []
    bar = tqdm(range(steps), desc='PyTorch')
    for step in bar:
        for group in optimizer.param_groups:
            group['lr'] = 1 - 0.9 * step / steps
        optimizer.zero_grad()
        loss = hinge_loss(model(X).squeeze(1), Y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        bar.set_postfix_str(f'pérdida {loss:.4f}', refresh=False)
    return losses


def accuracy(model: nn.Sequential) -> float:
    """La proporción de puntos en que el signo del puntaje es el de su clase."""
    return float(((model(X).squeeze(1) > 0) == (Y > 0)).double().mean())


def main() -> None:
    options = read_options(__doc__, '--rapido')
    steps = 20 if options.rapido else 100
    model = new_model()
    losses = train(model, steps)
    print(f'Pérdida: de {losses[0]:.4f} a {losses[-1]:.4f}')
    print(f'Exactitud: {accuracy(model):.0%}')


if __name__ == '__main__':
    main()
