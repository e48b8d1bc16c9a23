"""Dos lunas: la frontera de decisión de una red, y el mismo entrenamiento con y sin Tape.

    python -m pip install -e ".[examples]"
    python examples/03_lunas.py

Es la demostración de micrograd: MLP(2, [16, 16, 1]) separa dos medialunas de puntos con la pérdida
de margen máximo, max(0, 1 - y·s). Esa pérdida pide no solo que el puntaje s tenga el signo de y,
sino que quede del otro lado de 1 o de -1: el margen, que en la imagen son las líneas de puntos.

Entrena dos veces desde los mismos pesos. Con Values arma en cada paso un grafo de 100 ejemplos; con
Tape arma el de un solo ejemplo, una vez, y lo repite. Imprime el tiempo de las dos, cuánto difieren
sus pérdidas y la exactitud, y dibuja la frontera a lo largo del entrenamiento (03_lunas.png). Tarda
unos 20 segundos.
"""

import random
import time
from pathlib import Path
from typing import Any

from common import extras, read_options, save_picture, subplots

with extras('examples'):
    import numpy as np
    from sklearn.datasets import make_moons
    from tqdm import tqdm

    from michigrad.plot import plot_decision_boundary

from michigrad.engine import Value
from michigrad.functional import hinge_loss
from michigrad.nn import MLP
from michigrad.optim import SGD
from michigrad.tape import Tape

X, labels = make_moons(n_samples=100, noise=0.1, random_state=1337)
Y = 2 * labels - 1  # las clases son -1 y 1
ALPHA = 1e-4  # cuánto pesa en la pérdida la suma de los cuadrados de los parámetros


def new_model() -> MLP:
    random.seed(1337)
    return MLP(2, [16, 16, 1])


def new_optimizer(model: MLP) -> SGD:
    return SGD(model.parameters(), lr=1.0, weight_decay=2 * ALPHA)  # la derivada de ALPHA·p²


def train_with_values(
    model: MLP, steps: int, snapshots: list[int]
) -> tuple[list[float], list[Any]]:
    """Entrena y devuelve la pérdida de cada paso y los pesos en los pasos de `snapshots`."""
    optimizer = new_optimizer(model)
    losses, states = [], []
    bar = tqdm(range(steps), desc='con Values')
    for step in bar:
        if step in snapshots:
            states.append(model.state_dict())
        optimizer.lr = 1 - 0.9 * step / steps
        optimizer.zero_grad()
        loss = hinge_loss([model(x) for x in X], Y)
        loss.backward()
        optimizer.step()
        losses.append(loss.data)
        bar.set_postfix_str(f'pérdida {loss:.4f}', refresh=False)
    return losses, [*states, model.state_dict()]


def record_loss(model: MLP) -> Tape:
    """Graba la pérdida de un ejemplo; el valor de las entradas no importa."""
    x0, x1, y = Value(0.0, name='x₀'), Value(0.0, name='x₁'), Value(1.0, name='y')
    return Tape(hinge_loss(model([x0, x1]), y), inputs=[x0, x1, y])


def train_with_tape(model: MLP, steps: int, tape: Tape) -> list[float]:
    """El mismo entrenamiento; `tape` recalcula la pérdida de todos los ejemplos a la vez."""
    optimizer = new_optimizer(model)
    batch = np.column_stack([X, Y])
    losses = []
    bar = tqdm(range(steps), desc='con Tape  ')
    for step in bar:
        optimizer.lr = 1 - 0.9 * step / steps
        optimizer.zero_grad()
        loss = tape.forward(batch).mean()
        tape.backward()
        optimizer.step()
        losses.append(loss)
        bar.set_postfix_str(f'pérdida {loss:.4f}', refresh=False)
    return losses


def accuracy(model: MLP) -> float:
    """La proporción de puntos en que el signo del puntaje es el de su clase."""
    return float(np.mean([(model(x).data > 0) == (y > 0) for x, y in zip(X, Y, strict=True)]))


def draw(model: MLP, snapshots: list[int], states: list[Any], file: Path) -> None:
    """La frontera en varios momentos del entrenamiento."""
    fig, axes = subplots(2, 3, height=9, sharex=True, sharey=True)
    for ax, step, state in zip(axes.flat, snapshots, states, strict=True):
        model.load_state_dict(state)
        plot_decision_boundary(model, X, Y, ax=ax).label_outer()
        loss = hinge_loss([model(x) for x in X], Y)
        ax.set_title(f'paso {step}: pérdida {loss:.3f}, exactitud {accuracy(model):.0%}')
    fig.suptitle('La frontera (línea llena) y el margen (de puntos)', weight='bold')
    save_picture(fig, file)


def main() -> None:
    options = read_options(__doc__, '--rapido', '--salida')
    steps = 20 if options.rapido else 100
    snapshots = [0, steps // 20, steps // 10, steps // 5, steps // 2, steps]
    model, twin = new_model(), new_model()

    start = time.perf_counter()
    losses, states = train_with_values(model, steps, snapshots)
    with_values = time.perf_counter() - start

    start = time.perf_counter()
    tape = record_loss(twin)
    preparation = time.perf_counter() - start

    start = time.perf_counter()
    tape_losses = train_with_tape(twin, steps, tape)
    with_tape = time.perf_counter() - start

    print(f'Pérdida: de {losses[0]:.4f} a {losses[-1]:.4f}')
    print(f'Exactitud: {accuracy(model):.0%}')
    print(f'Con Values: {with_values:.2f} s, {1000 * with_values / steps:.2f} ms por paso')
    print(f'Con Tape:   {with_tape:.2f} s, {1000 * with_tape / steps:.2f} ms por paso')
    print(f'            más {1000 * preparation:.0f} ms de grabarla, una sola vez')
    print(f'Tape es {with_values / with_tape:.0f} veces más rápida')
    difference = max(abs(a - b) for a, b in zip(losses, tape_losses, strict=True))
    print(f'Las pérdidas difieren en {difference:.0e} como máximo')
    draw(model, snapshots, states, options.salida / '03_lunas.png')


if __name__ == '__main__':
    main()
