"""Muchos dispositivos: el mismo modelo, con el lote repartido entre varias placas o máquinas.

    python -m pip install -e ".[examples,jax]"
    python examples/07_muchos_dispositivos.py

Tape.to_jax() da la pérdida de UN ejemplo como una función de JAX, y vmap la repite en un lote. Si
el lote está repartido entre varios dispositivos y los pesos están copiados en todos, jit compila un
programa en el que cada dispositivo deriva su parte y al final promedian los gradientes: eso es
paralelismo de datos. Al terminar, Tape.load trae los pesos de vuelta a los Values.

Usa las GPUs que haya. Si no hay ninguna, JAX hace de cuenta que la CPU son cuatro dispositivos:
sirve para probar el programa, no para que ande más rápido. Para entrenar en varias máquinas, cada
una llama a jax.distributed.initialize() y después a train, que no cambia: ahí jax.devices() son los
dispositivos de todas.

Entrena las dos lunas y los dígitos con un dispositivo y con todos, e imprime cuánto difieren las
pérdidas y los gradientes. Después mide cuántos ejemplos por segundo entrena cada cantidad de
dispositivos con lotes cada vez más grandes, al lado de Tape y, si está instalado, de PyTorch, y lo
dibuja (07_muchos_dispositivos.png). Tarda alrededor de un minuto.
"""

import importlib.util
import os
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from common import BLUE, GRAY, RED, extras, read_options, save_picture, subplots

# Antes de importar JAX. Solo cuenta si no hay GPU.
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=4')

with extras('examples,jax'):
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from sklearn.datasets import load_digits, make_moons
    from tqdm import tqdm

from michigrad.engine import Value
from michigrad.functional import cross_entropy, hinge_loss
from michigrad.nn import MLP
from michigrad.optim import SGD
from michigrad.tape import ParameterArray, Tape

jax.config.update('jax_enable_x64', True)  # float64, como los Values


class Problem(NamedTuple):
    name: str
    sizes: list[int]  # las entradas y el ancho de cada capa
    rows: Callable[[int], Any]  # n filas: las entradas y, detrás, el objetivo
    lr: float


def moons(n: int) -> Any:
    X, labels = make_moons(n_samples=n, noise=0.1, random_state=1337)
    return np.column_stack([X, 2 * labels - 1])


def digits(n: int) -> Any:
    """Imágenes al azar, repetidas si n es grande; el dígito va como diez probabilidades."""
    images, labels = load_digits(return_X_y=True)
    chosen = np.random.default_rng(42).integers(len(images), size=n)
    return np.hstack([images[chosen] / 16, np.eye(10)[labels[chosen]]])


PROBLEMS = [
    Problem('lunas', [2, 16, 16, 1], moons, lr=0.1),
    Problem('dígitos', [64, 32, 10], digits, lr=0.5),
]


def record(problem: Problem) -> tuple[MLP, ParameterArray, Tape]:
    """El modelo, sus parámetros y la cinta con la pérdida de un ejemplo."""
    random.seed(1337)
    inputs, *widths = problem.sizes
    model = MLP(inputs, widths)
    x = [Value(0.0) for _ in range(inputs)]
    y = [Value(1.0) for _ in range(widths[-1])]
    loss = hinge_loss(model(x), y[0]) if len(y) == 1 else cross_entropy(model(x), y)
    weights = ParameterArray(model.parameters())
    return model, weights, Tape(loss, inputs=x + y, parameters=weights)


# El paralelismo de datos


class Trainer:
    """Descenso por el gradiente, con el lote repartido entre `devices`."""

    def __init__(self, problem: Problem, tape: Tape, devices: list[Any]) -> None:
        f, leaves, _ = tape.to_jax()
        mesh = Mesh(np.array(devices), ('lote',))
        self.split = NamedSharding(mesh, PartitionSpec('lote'))  # a cada dispositivo, unas filas
        copied = NamedSharding(mesh, PartitionSpec())  # todos tienen lo mismo
        self.leaves = jax.device_put(leaves, copied)

        def mean_loss(leaves: Any, batch: Any) -> Any:
            return jax.vmap(f, in_axes=(None, 0))(leaves, batch).mean()

        def step(leaves: Any, batch: Any) -> Any:
            loss, grads = jax.value_and_grad(mean_loss)(leaves, batch)
            return loss, grads, leaves - problem.lr * grads

        self.compiled = jax.jit(step, out_shardings=copied)

    def share(self, rows: Any) -> Any:
        """El lote, repartido. Cada máquina lee solo las filas que les tocan a sus dispositivos."""
        return jax.make_array_from_callback(rows.shape, self.split, lambda part: rows[part])

    def step(self, batch: Any) -> tuple[Any, Any]:
        """Hace un paso y espera a que termine; devuelve la pérdida y los gradientes.

        Con pasos en cola, los dispositivos simulados se quedan esperando unos a otros.
        """
        loss, grads, self.leaves = jax.block_until_ready(self.compiled(self.leaves, batch))
        return loss, grads


def train(problem: Problem, devices: list[Any], steps: int) -> tuple[Trainer, Any, Any]:
    """Entrena; devuelve también la pérdida y los gradientes de cada paso."""
    trainer = Trainer(problem, record(problem)[2], devices)
    batch = trainer.share(problem.rows(1000))
    bar = tqdm(range(steps), desc=f'{problem.name}, {len(devices)} disp.')
    history = [trainer.step(batch) for _ in bar]
    losses, grads = zip(*history, strict=True)
    return trainer, np.array(losses), np.array(grads)


def compare(problem: Problem, steps: int) -> None:
    """Con un dispositivo y con todos da lo mismo; los pesos vuelven a los Values."""
    devices = jax.devices()
    _, losses, grads = train(problem, devices[:1], steps)
    trainer, again, grads_again = train(problem, devices, steps)
    model, _, tape = record(problem)
    tape.load(trainer.leaves)
    print(f'{problem.name}: la pérdida va de {losses[0]:.4f} a {losses[-1]:.4f}')
    print(
        f'  entre 1 y {len(devices)} dispositivos, las pérdidas difieren en '
        f'{abs(again - losses).max():.0e} y los gradientes en '
        f'{abs(grads_again - grads).max():.0e}, como máximo'
    )
    print(f'  exactitud, con los pesos de vuelta en los Values: {accuracy(problem, model):.1%}')


def accuracy(problem: Problem, model: MLP) -> float:
    """La proporción de ejemplos que el modelo clasifica bien; a la salida la calcula una cinta."""
    inputs = problem.sizes[0]
    x = [Value(0.0) for _ in range(inputs)]
    out = model(x)
    rows = problem.rows(1000)
    scores = Tape(out if isinstance(out, list) else [out], inputs=x).forward(rows[:, :inputs])
    targets = rows[:, inputs:]
    if scores.shape[1] == 1:
        return float(((scores > 0) == (targets > 0)).mean())
    return float((scores.argmax(axis=1) == targets.argmax(axis=1)).mean())


# Ejemplos por segundo


def jax_step(devices: list[Any], problem: Problem, rows: Any) -> Callable[[], Any]:
    trainer = Trainer(problem, record(problem)[2], devices)
    batch = trainer.share(rows)
    return lambda: trainer.step(batch)


def tape_step(problem: Problem, rows: Any) -> Callable[[], Any]:
    _, weights, tape = record(problem)
    optimizer = SGD([weights], lr=problem.lr)

    def step() -> None:
        optimizer.zero_grad()
        tape.forward(rows)
        tape.backward()
        optimizer.step()

    return step


def torch_step(problem: Problem, rows: Any) -> Callable[[], Any]:
    """La misma red, con una operación de PyTorch por capa."""
    import torch

    layers: list[torch.nn.Module] = []
    for nin, nout in zip(problem.sizes, problem.sizes[1:], strict=False):
        layers += [torch.nn.Linear(nin, nout, dtype=torch.float64), torch.nn.ReLU()]
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = torch.nn.Sequential(*layers[:-1]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.lr)
    x, y = torch.tensor(rows, device=device).tensor_split([problem.sizes[0]], dim=1)

    def step() -> Any:
        optimizer.zero_grad()
        out = model(x)
        if y.shape[1] == 1:
            loss = (1 - y * out).relu().mean()
        else:
            loss = torch.nn.functional.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        return loss.item()  # espera a que termine

    return step


def examples_per_second(step: Callable[[], Any], examples: int) -> float:
    """Con la mediana de los pasos que entran en medio segundo; el primero no cuenta."""
    step()
    times: list[float] = []
    while sum(times) < 0.5 or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return examples / statistics.median(times)


def measure(problem: Problem, batches: list[int]) -> dict[str, list[float]]:
    """Los ejemplos por segundo de cada forma de entrenar, con cada tamaño de lote."""
    ways: dict[str, Callable[[Problem, Any], Callable[[], Any]]] = {}
    for n in (1, 2, 4):
        if n <= jax.device_count():
            name = f'JAX, {n} dispositivo{"s" if n > 1 else ""}'
            ways[name] = partial(jax_step, jax.devices()[:n])
    ways['Tape'] = tape_step
    if importlib.util.find_spec('torch'):
        ways['PyTorch'] = torch_step
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    bar = tqdm(total=len(batches) * len(ways), desc=f'{problem.name}, midiendo')
    for size in batches:
        rows = problem.rows(size)
        for name, make in ways.items():
            speeds[name].append(examples_per_second(make(problem, rows), size))
            bar.update()
    bar.close()
    return speeds


def report(problem: Problem, batches: list[int], speeds: dict[str, list[float]]) -> None:
    network = '-'.join(map(str, problem.sizes))
    print(f'\n{problem.name}, red {network}: miles de ejemplos por segundo\n')
    print(f'| lote | {" | ".join(speeds)} |')
    print(f'| ---: |{" ---: |" * len(speeds)}')
    for i, size in enumerate(batches):
        print(f'| {size} | {" | ".join(f"{each[i] / 1000:.0f}" for each in speeds.values())} |')


def draw(results: dict[str, dict[str, list[float]]], batches: list[int], file: Path) -> None:
    fig, axes = subplots(1, len(results), height=6, sharey=True)
    colors = {'Tape': GRAY, 'PyTorch': RED}
    blues = dict(zip('124', ['#a9c1ea', BLUE, '#1b3a73'], strict=True))
    for ax, (name, speeds) in zip(axes, results.items(), strict=True):
        for way, values in speeds.items():
            color = colors.get(way) or blues[way.split()[1]]
            ax.loglog(batches, values, marker='o', color=color, label=way)
        ax.set(title=name, xlabel='ejemplos por lote')
        ax.grid(alpha=0.3)
    axes[0].set_ylabel('ejemplos por segundo')
    axes[-1].legend(loc='upper center', ncols=2)
    fig.suptitle(f'Entrenar en {hardware()}: más es mejor', weight='bold')
    save_picture(fig, file)


def hardware() -> str:
    """Dónde se midió."""
    device = jax.devices()[0]
    if device.platform != 'cpu':
        return f'{jax.device_count()} × {device.device_kind}'
    return f'{jax.device_count()} dispositivos simulados en {os.cpu_count()} núcleos'


def main() -> None:
    options = read_options(__doc__, '--rapido', '--salida')
    print(f'Dispositivos: {hardware()}')
    for problem in PROBLEMS:
        compare(problem, steps=20 if options.rapido else 200)
    batches = [1000, 4000] if options.rapido else [10**3, 10**4, 10**5]
    results = {problem.name: measure(problem, batches) for problem in PROBLEMS}
    for problem in PROBLEMS:
        report(problem, batches, results[problem.name])
    draw(results, batches, options.salida / '07_muchos_dispositivos.png')


if __name__ == '__main__':
    main()
