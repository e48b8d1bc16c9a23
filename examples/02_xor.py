"""XOR: lo que una red lineal no puede aprender y una con tanh sí.

    python -m pip install -e ".[examples]"
    python examples/02_xor.py

Entrena dos redes que empiezan con los mismos pesos y solo se distinguen en una capa: Tanh. La
lineal se queda en una pérdida de 1/4, por más capas o pasos que se le den. El porqué está en la
imagen: en una función lineal el centro del cuadrado es el promedio de dos esquinas opuestas. Las de
XOR que valen 0 piden que el centro sea 0 y las que valen 1 piden que sea 1. Lo mejor que puede
hacer es quedar a mitad de camino: 1/2 en todos lados, una pérdida de (1/2)² = 1/4.

Imprime la verificación de los gradientes y, de cada red, la pérdida y las cuatro predicciones.
Dibuja las curvas y el porqué (02_xor.png), y el grafo de la pérdida de un ejemplo, después del
forward pass y después del backward pass (02_grafo_forward.png, 02_grafo_backward.png). Tarda unos
3 segundos.
"""

import random
from pathlib import Path
from typing import Any

from common import BLUE, GRAY, GREEN, ORANGE, extras, read_options, save_picture, subplots

with extras('examples'):
    import numpy as np
    from tqdm import tqdm

    from michigrad.plot import plot_decision_boundary, plot_loss

from michigrad.engine import Value
from michigrad.functional import mse_loss
from michigrad.gradcheck import gradcheck
from michigrad.nn import Layer, Sequential, Tanh
from michigrad.optim import SGD
from michigrad.visualize import show_graph

X = [[0, 0], [0, 1], [1, 0], [1, 1]]
Y = [0, 1, 1, 0]
COLORS = BLUE, ORANGE  # la clase 0 y la clase 1
WHY = """¿Por qué 1/4?

Si la red es lineal, en el centro vale
el promedio de dos esquinas opuestas:

    f(0,0) + f(1,1)  =  f(0,1) + f(1,0)

pero XOR pide 0 + 0 y 1 + 1. Lo mejor
que puede hacer es repartir el error:
1/2 en cada esquina, y (1/2)² = 1/4.

Más capas lineales no cambian nada:
juntas son otra función lineal. Hace
falta algo que doble la recta: tanh."""


def linear_network() -> Sequential:
    random.seed(1)
    return Sequential(Layer(2, 2, nonlin=False), Layer(2, 1, nonlin=False))


def tanh_network() -> Sequential:
    random.seed(1)  # la misma semilla: los mismos pesos
    return Sequential(Layer(2, 2, nonlin=False), Tanh(), Layer(2, 1, nonlin=False))


def mean_loss(model: Sequential) -> Value:
    """El error cuadrático medio sobre los cuatro ejemplos."""
    loss: Value = mse_loss([model(x) for x in X], Y)
    return loss


def train(model: Sequential, steps: int, name: str) -> list[float]:
    """Entrena y devuelve la pérdida de cada paso."""
    optimizer = SGD(model.parameters(), lr=0.3)
    losses = []
    bar = tqdm(range(steps), desc=name)
    for _ in bar:
        loss = mean_loss(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.data)
        bar.set_postfix_str(f'pérdida {loss:.4f}', refresh=False)
    return losses


def report(name: str, model: Sequential, losses: list[float]) -> None:
    print(f'{name}: la pérdida va de {losses[0]:.4f} a {losses[-1]:.4f}')
    for x, y in zip(X, Y, strict=True):
        print(f'  {x[0]} xor {x[1]} = {y}: la red dice {model(x):.2f}')


def draw_graphs(model: Sequential, folder: Path) -> None:
    """Dibuja la pérdida de un ejemplo antes y después de backward."""
    x0, x1, y = Value(1, name='x₀'), Value(0, name='x₁'), Value(1, name='y')
    yhat = model([x0, x1])
    yhat.name = 'ŷ'
    loss = (yhat - y) ** 2
    loss.name = 'L'
    save_graph(loss, folder / '02_grafo_forward.png')
    loss.backward()
    save_graph(loss, folder / '02_grafo_backward.png')
    model.zero_grad()


def save_graph(loss: Value, file: Path) -> None:
    graph = show_graph(loss, rankdir='TB', groups=True)
    print(f'Imagen: {graph.save(file)}')


def draw(linear: Sequential, tanh: Sequential, losses: list[list[float]], file: Path) -> None:
    """Las pérdidas y, en una columna por red, lo que predice y un corte por las diagonales."""
    fig, axes = subplots(2, 3, height=9)
    draw_losses(axes[0, 0], *losses)
    draw_why(axes[1, 0])
    draw_map(axes[0, 1], linear, 'Lineal: lo mismo en todos lados')
    draw_map(axes[0, 2], tanh, 'Con tanh: una franja de ceros')
    draw_diagonals(axes[1, 1], linear, 'Lineal: cada diagonal es una recta')
    draw_diagonals(axes[1, 2], tanh, 'Con tanh: una diagonal se dobla')
    axes[1, 1].annotate('1/2', (0.03, 0.73), color=ORANGE)
    axes[1, 1].annotate('1/2', (0.03, 0.23), color=BLUE)
    fig.suptitle('XOR: en azul lo que vale 0, en naranja lo que vale 1', weight='bold')
    save_picture(fig, file)


def draw_losses(ax: Any, linear: list[float], tanh: list[float]) -> None:
    plot_loss({'lineal': linear, 'con tanh': tanh}, ax=ax).set_title('La lineal se estanca en 1/4')
    ax.lines[0].set(color=GRAY, linewidth=6)  # ancha: se ve aunque la otra pase por encima
    ax.lines[1].set(color=GREEN, linewidth=2.5)
    ax.annotate('1/4', (len(tanh), 1 / 4), xytext=(0, 7), textcoords='offset points', ha='right')
    ax.legend()


def draw_map(ax: Any, model: Sequential, title: str) -> None:
    """Colorea cada punto del plano con lo que la red predice ahí; en la línea predice 1/2."""
    plot_decision_boundary(model, X, Y, ax=ax)
    ax.plot([0, 1], [0, 1], color=BLUE)
    ax.plot([0, 1], [1, 0], color=ORANGE)
    for x, y in zip(X, Y, strict=True):
        ax.scatter(*x, s=1500, c=COLORS[y], edgecolors='black', zorder=3)
        style = {'color': 'white', 'weight': 'bold', 'ha': 'center', 'va': 'center', 'zorder': 4}
        ax.annotate(f'{model(x):.2f}', x, **style)
    ax.set(title=title, xticks=[0, 1], yticks=[0, 1], aspect='equal')


def draw_diagonals(ax: Any, model: Sequential, title: str) -> None:
    """Lo que la red predice al caminar por cada diagonal; las dos pasan por el centro."""
    t = np.linspace(0, 1, 41)
    same = [model([a, a]).data for a in t]
    different = [model([a, 1 - a]).data for a in t]
    # La naranja, cortada y encima: si coinciden, por los huecos se ve la azul.
    ax.plot(t, same, color=BLUE, linewidth=7, label='de (0, 0) a (1, 1)')
    ax.plot(t, different, color=ORANGE, linewidth=3, linestyle='--', label='de (0, 1) a (1, 0)')
    for y, path in ((0, same), (1, different)):
        ax.vlines([0, 1], y, [path[0], path[-1]], color=COLORS[y], linestyle=':', linewidth=2)
        ax.scatter([0, 1], [y, y], s=150, c=COLORS[y], edgecolors='black', zorder=3)
    ax.set(title=title, ylabel='predicción', xlim=(-0.1, 1.1), ylim=(-0.2, 1.2))
    ax.set_xticks([0, 0.5, 1], ['una esquina', 'el centro', 'la opuesta'])
    ax.legend(loc='upper center')


def draw_why(ax: Any) -> None:
    ax.axis('off')
    ax.text(0, 1, WHY, va='top', linespacing=1.5, transform=ax.transAxes)


def main() -> None:
    options = read_options(__doc__, '--rapido', '--salida')

    linear, tanh = linear_network(), tanh_network()
    gradcheck(lambda *_: mean_loss(tanh), *tanh.parameters())
    print(f'gradcheck: los {len(tanh.parameters())} gradientes son los de las diferencias finitas')
    draw_graphs(tanh, options.salida)

    steps = 150 if options.rapido else 300
    losses = [train(linear, steps, 'lineal'), train(tanh, steps, 'con tanh')]
    report('Red lineal', linear, losses[0])
    report('Red con tanh', tanh, losses[1])
    draw(linear, tanh, losses, options.salida / '02_xor.png')


if __name__ == '__main__':
    main()
