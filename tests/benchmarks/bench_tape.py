"""Cuánto tarda un paso de entrenamiento: la cinta, numpy a mano, PyTorch y micrograd.

    python -m tests.benchmarks.bench_tape             las tablas
    python -m tests.benchmarks.bench_tape --picture   también images/cruce_pytorch.png

Todo con un solo hilo y en float64; cada número es la mediana, en µs, y en cada tabla los que se
comparan corren por turnos. Un paso completo es poner los gradientes en cero, forward, backward y
actualizar. Numpy a mano es el límite: la misma cuenta, escrita con matrices para esa red y nada
más. Lo que no está instalado se saltea.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import math
import random
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from michigrad.engine import Value, topological_order
from michigrad.nn import MLP
from michigrad.optim import SGD, Adam
from michigrad.tape import ParameterArray, Tape

Step = Callable[[], Any]

ROOT = Path(__file__).parents[2]
LR = 1e-6  # casi nada: que la red sea la misma en todas las mediciones
ARRAYS, VALUES = 'cinta, con ParameterArray', 'cinta, con los Values'
HAND, TORCH = 'numpy a mano', 'PyTorch'


class Problem(NamedTuple):
    """Una red y un lote; con una sola salida la pérdida es hinge y con varias, entropía cruzada."""

    name: str
    sizes: list[int]
    batch: Any  # las entradas y, detrás, y = ±1 o la clase en one-hot


def problem(name: str, sizes: list[int], rows: int) -> Problem:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, sizes[0]))
    classes = rng.integers(0, max(sizes[-1], 2), rows)
    y = 2.0 * classes[:, None] - 1 if sizes[-1] == 1 else np.eye(sizes[-1])[classes]
    return Problem(name, sizes, np.hstack([x, y]))


def model(p: Problem) -> MLP:
    random.seed(0)
    net = MLP(p.sizes[0], p.sizes[1:])
    for w in net.parameters():
        w.data /= math.sqrt(p.sizes[0])
    return net


def loss(p: Problem, net: Any, row: list[Any]) -> Any:
    """La pérdida de un ejemplo; sirve para los Values de michigrad y los de micrograd."""
    x, y = row[: p.sizes[0]], row[p.sizes[0] :]
    z = net(x)
    if p.sizes[-1] == 1:
        return (1 - y[0] * z).relu()
    top = max(v.data for v in z)
    exps = [(v - top).exp() for v in z]
    return sum(exps[1:], exps[0]).log() - sum(yi * (v - top) for yi, v in zip(y, z, strict=True))


def medians(steps: Mapping[str, Step], seconds: float = 1.0) -> dict[str, float]:
    """La mediana, en µs, de lo que tarda cada uno. Corren por turnos, para que un rato en que la
    máquina está ocupada les toque a todos."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():  # la primera vez no cuenta
        step()
    for _ in range(10):
        gc.collect()
        for name, step in steps.items():
            if len(times[name]) > 2 and times[name][-1] > seconds / 10:
                continue  # de los que tardan mucho alcanza con tres
            end = time.perf_counter() + seconds / 10
            while time.perf_counter() < end:
                start = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) * 1e6 for name, found in times.items()}


def micrograd_step(p: Problem) -> Step:
    engine: Any = importlib.import_module('micrograd.engine')
    nn: Any = importlib.import_module('micrograd.nn')

    def exp(v: Any) -> Any:  # micrograd no los trae
        out = engine.Value(math.exp(v.data), (v,), 'exp')

        def backward() -> None:
            v.grad += out.data * out.grad

        out._backward = backward
        return out

    def log(v: Any) -> Any:
        out = engine.Value(math.log(v.data), (v,), 'log')

        def backward() -> None:
            v.grad += out.grad / v.data

        out._backward = backward
        return out

    engine.Value.exp, engine.Value.log = exp, log
    net = nn.MLP(p.sizes[0], p.sizes[1:])
    rows = p.batch.tolist()

    def step() -> None:
        net.zero_grad()
        losses = [loss(p, net, row) for row in rows]
        total = sum(losses) * (1 / len(losses))
        total.backward()
        for w in net.parameters():
            w.data -= LR * w.grad

    return step


def torch_step(p: Problem, dtype: str, scalar: bool = False) -> Step:
    torch: Any = importlib.import_module('torch')
    torch.set_num_threads(1)
    kind = getattr(torch, dtype)
    features = p.sizes[0]
    if scalar:
        weights = [
            torch.tensor(w.data, dtype=kind, requires_grad=True) for w in model(p).parameters()
        ]
        optimizer = torch.optim.SGD(weights, lr=LR)
        rows = [[torch.tensor(x, dtype=kind) for x in row] for row in p.batch.tolist()]

        def scalar_step() -> None:
            optimizer.zero_grad()
            losses = []
            for row in rows:
                x, k = row[:features], 0
                for i, (nin, nout) in enumerate(zip(p.sizes, p.sizes[1:], strict=False)):
                    acts = []
                    for _ in range(nout):
                        act = weights[k + nin]
                        for w, xi in zip(weights[k : k + nin], x, strict=True):
                            act = act + w * xi
                        acts.append(act.relu() if i + 2 < len(p.sizes) else act)
                        k += nin + 1
                    x = acts
                if len(x) == 1:
                    losses.append((1 - row[features] * x[0]).relu())
                else:
                    exps = [v.exp() for v in x]
                    products = [yi * v for yi, v in zip(row[features:], x, strict=True)]
                    losses.append(sum(exps[1:], exps[0]).log() - sum(products[1:], products[0]))
            (sum(losses[1:], losses[0]) / len(losses)).backward()
            optimizer.step()

        return scalar_step

    layers: list[Any] = []
    for nin, nout in zip(p.sizes, p.sizes[1:], strict=False):
        layers += [torch.nn.Linear(nin, nout, dtype=kind), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    x = torch.tensor(p.batch[:, :features], dtype=kind)
    hinge = p.sizes[-1] == 1
    y = torch.tensor(p.batch[:, features:], dtype=kind)
    labels = y.argmax(1)
    cross_entropy = torch.nn.functional.cross_entropy

    def step() -> None:
        optimizer.zero_grad()
        z = net(x)
        out = (1 - y * z).relu().mean() if hinge else cross_entropy(z, labels)
        out.backward()
        optimizer.step()

    return step


def hand_step(p: Problem) -> Step:
    """El mismo paso, escrito con matrices de numpy; devuelve la pérdida."""
    params = iter([w.data for w in model(p).parameters()])
    layers = []
    for nin, nout in zip(p.sizes, p.sizes[1:], strict=False):
        rows = np.array([[next(params) for _ in range(nin + 1)] for _ in range(nout)])
        layers.append((rows[:, :-1].T.copy(), rows[:, -1].copy()))
    x, y = (part.copy() for part in np.split(p.batch, [p.sizes[0]], axis=1))

    def step() -> float:
        outs = [x]
        for w, b in layers:
            z = outs[-1] @ w
            z += b
            outs.append(np.maximum(z, 0.0, out=z) if w is not layers[-1][0] else z)
        loss, grad = hand_loss(outs[-1], y)
        for (w, b), out in zip(layers[::-1], outs[-2::-1], strict=True):
            to_w, to_b = out.T @ grad, grad.sum(0)
            if out is not x:
                grad = grad @ w.T
                grad *= out > 0
            w -= LR * to_w
            b -= LR * to_b
        return loss

    return step


def hand_loss(z: Any, y: Any) -> tuple[float, Any]:
    """La pérdida promedio y su gradiente."""
    if z.shape[1] == 1:
        margin = 1 - y * z
        return float(np.maximum(margin, 0).mean()), np.where(margin > 0, -y, 0.0) / len(y)
    exps = np.exp(z - z.max(1, keepdims=True))
    probabilities = exps / exps.sum(1, keepdims=True)
    loss = -np.log((probabilities * y).sum(1)).mean()
    return float(loss), (probabilities - y) / len(y)


def record(p: Problem, arrays: bool = False) -> tuple[Tape, list[Any]]:
    """La cinta de un problema y lo que su optimizador tiene que actualizar."""
    net = model(p)
    row = [Value(0.0) for _ in p.batch[0]]
    weights = ParameterArray(net.parameters()) if arrays else None
    t = Tape(loss(p, net, row), inputs=row, parameters=weights)
    return t, [weights] if weights else net.parameters()


def tape_step(p: Problem, arrays: bool) -> Step:
    t, params = record(p, arrays)
    optimizer = SGD(params, lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        t.forward(p.batch)
        t.backward()
        optimizer.step()

    return step


def contenders(p: Problem) -> dict[str, Step]:
    steps = {
        ARRAYS: tape_step(p, arrays=True),
        VALUES: tape_step(p, arrays=False),
        HAND: hand_step(p),
    }
    np.testing.assert_allclose(record(p)[0].forward(p.batch).mean(), steps[HAND](), rtol=1e-9)
    if importlib.util.find_spec('torch'):
        steps[TORCH] = torch_step(p, 'float64')
    return steps


def table(p: Problem) -> None:
    """Todos, también los lentos."""
    steps = contenders(p)
    if TORCH in steps:
        steps |= {
            'PyTorch, float32': torch_step(p, 'float32'),
            'PyTorch, escalar por escalar': torch_step(p, 'float64', True),
        }
    if importlib.util.find_spec('micrograd'):
        steps['micrograd'] = micrograd_step(p)
    found = medians(steps)
    slowest, torch = found.get('micrograd', math.nan), found.get(TORCH, math.nan)
    print(f'\n{p.name}: red {", ".join(map(str, p.sizes))}, {len(p.batch)} ejemplos por paso\n')
    head('', ['µs por paso', '× micrograd', '× PyTorch', 'numpy a mano = 1'])
    for name, us in sorted(found.items(), key=lambda item: item[1]):
        cells = f'{us:.1f}', f'{slowest / us:.0f}', f'{torch / us:.2f}', f'{us / found[HAND]:.2f}'
        line(name, cells)


def head(first: str, columns: Sequence[str]) -> None:
    line(first, columns)
    print(f'|{"-" * 30}|{("-" * 26 + ":|") * len(columns)}')


def line(first: str, cells: Sequence[str]) -> None:
    print(f'| {first:28} | {" | ".join(f"{cell:>25}" for cell in cells)} |', flush=True)


def more_tables() -> None:
    """Redes y lotes más grandes."""
    names = [ARRAYS, VALUES, HAND, TORCH]
    print('\nEn µs\n')
    head('red', ['ejemplos', *names])
    for sizes, rows in (([2, 16, 16, 1], 10_000), ([64, 256, 256, 10], 256)):
        found = medians(contenders(problem('', sizes, rows)), 2.0)
        cells = [f'{found.get(name, math.nan):.0f}' for name in names]
        line(', '.join(map(str, sizes)), [f'{rows}', *cells])


def gpt() -> None:
    """El GPT del ejemplo 06 al lado de su gemelo en PyTorch, con nombres de ocho letras."""
    sys.path.insert(0, str(ROOT / 'examples'))
    ours: Any = load(ROOT / 'examples' / '06_gpt.py')
    names = [name for name in ours.load_names() if len(name) == ours.MAX_LENGTH][: ours.BATCH]
    weights_of = ours.build_model(random.Random(0))
    weights = ParameterArray(p for m in weights_of.values() for row in m for p in row)
    letters = [[Value(x) for x in ours.one_hot('a')] for _ in range(ours.MAX_LENGTH)]
    root = ours.name_loss(weights_of, letters)
    start = time.perf_counter()
    t = Tape(root, [x for letter in letters for x in letter], weights)
    recorded = time.perf_counter()
    batch = np.array([[x for letter in name for x in ours.one_hot(letter)] for name in names])
    optimizer = Adam([weights], lr=LR)

    def tape() -> float:
        optimizer.zero_grad()
        losses = t.forward(batch)
        t.backward()
        optimizer.step()
        return float(losses.mean())

    tape()
    ready = time.perf_counter()
    steps: dict[str, Step] = {ARRAYS: tape}
    if importlib.util.find_spec('torch'):
        twin: Any = load(ROOT / 'examples' / 'pytorch' / '06_gpt_pytorch.py')
        twin.torch.set_num_threads(1)
        tensors = twin.build_model(random.Random(0))
        torch_optimizer = twin.Adam(tensors.values(), lr=LR)

        def torch() -> float:
            torch_optimizer.zero_grad()
            loss = twin.names_loss(tensors, names)
            loss.backward()
            torch_optimizer.step()
            return float(loss.item())

        np.testing.assert_allclose(tape(), torch(), rtol=1e-3)
        steps[TORCH] = torch
    found = medians(steps, 2.0)
    nodes = len(topological_order(root))
    print(f'\nGPT del ejemplo 06, 8 letras y {len(names)} nombres por paso: {nodes} nodos\n')
    for name, us in found.items():
        print(f'{name}: {us:.0f} µs')
    print(f'Grabarlo: {recorded - start:.2f} s, y el primer paso, {ready - recorded:.2f} s')


def load(path: Path) -> Any:
    """Un ejemplo como módulo."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def layered(nodes: int) -> tuple[Value, list[Value]]:
    """Una red de capas de 16, con más o menos esos nodos."""
    x: list[Any] = [Value(0.5) for _ in range(16)]
    given = list(x)
    for _ in range(max(nodes // (16 * 34), 1)):
        x = [v.relu() for v in MLP(16, [16], nonlin=False)(x)]
    return sum(x[1:], x[0]), given


def chain(nodes: int) -> tuple[Value, list[Value]]:
    """Lo peor: cada nodo depende del anterior y no hay nada que agrupar."""
    w, x = [Value(0.5), Value(-0.5)], Value(1.0)
    root = x
    for i in range(nodes // 4):
        root = (root + w[i % 2] * x) * w[0] + x
    return root, [x]


def recording() -> None:
    print('\nGrabar: µs de procesador por nodo, y bytes por nodo en el momento en que más ocupa\n')
    for graph in (layered, chain):
        for size in (10**3, 10**4, 10**5, 10**6):
            root, inputs = graph(size)
            nodes = len(topological_order(root))
            times = []
            for _ in range(3):
                start = time.process_time()
                Tape(root, inputs)
                times.append(time.process_time() - start)
            us = statistics.median(times) / nodes * 1e6
            tracemalloc.start()
            Tape(root, inputs)
            peak = tracemalloc.get_traced_memory()[1] / nodes
            tracemalloc.stop()
            print(
                f'{graph.__name__:8} {nodes:>9} nodos: {us:5.2f} µs {peak:5.0f} bytes', flush=True
            )


def memory() -> None:
    p = problem('', [2, 16, 16, 1], 1000)
    t, _ = record(p)
    t.forward(np.tile(p.batch, (100, 1)))
    t.backward()
    batch = np.tile(p.batch, (1000, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    losses = t.forward(batch)
    t.backward()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    extra = max((after - before) / 1024 - losses.nbytes / 2**20, 0)
    print(f'\n1000000 de filas de la red A: {seconds:.2f} s y {extra:.1f} MiB además del resultado')


def crossover(picture: bool) -> None:
    """Con qué ancho conviene PyTorch: digits con una capa oculta de cada ancho."""
    widths = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    names = [ARRAYS, VALUES, HAND, TORCH]
    print('\nUn paso de una red 64, ancho, 10 con 32 ejemplos, en µs\n')
    head('ancho', names)
    found = []
    for width in widths:
        found.append(medians(contenders(problem('', [64, width, 10], 32))))
        line(str(width), [f'{found[-1][name]:.0f}' for name in names])
    series = {name: [each[name] for each in found] for name in names}
    for name in (ARRAYS, VALUES):
        where = crossing(widths, series[name], series[TORCH])
        print(f'{name}: PyTorch gana desde un ancho de {where}')
    if picture:
        draw(widths, series)


def crossing(widths: list[int], ours: list[float], theirs: list[float]) -> str:
    """Dónde se cruzan las dos curvas, como rectas entre medición y medición en escala log."""
    gaps = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    if gaps[0] > 0:
        return f'menos de {widths[0]}'
    for i in range(1, len(gaps)):
        if gaps[i] > 0:
            part = gaps[i - 1] / (gaps[i - 1] - gaps[i])
            return f'{widths[i - 1] * (widths[i] / widths[i - 1]) ** part:.0f}'
    return f'más de {widths[-1]}'


def draw(widths: list[int], series: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    figure, axes = plt.subplots(figsize=(7, 4.2), layout='constrained')
    styles = {
        TORCH: ('PyTorch, float64, un hilo', '#c0392b', 's'),
        VALUES: ('cinta, con los Values', '#7f8c8d', '^'),
        ARRAYS: ('cinta, con ParameterArray', '#2471a3', 'o'),
        HAND: ('numpy, escrito a mano', '#22863a', 'd'),
    }
    for name, (label, color, marker) in styles.items():
        axes.loglog(widths, series[name], color=color, marker=marker, label=label)
    axes.set_xticks(widths, [str(w) for w in widths])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda us, _: f'{us:.0f}'))
    axes.set_xlabel('ancho de la capa oculta')
    axes.set_ylabel('µs por paso de entrenamiento')
    axes.set_title('Red 64, ancho, 10 con 32 ejemplos por paso: menos es mejor')
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(ROOT / 'images' / 'cruce_pytorch.png', dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--picture', action='store_true', help='dibujar images/cruce_pytorch.png')
    args = parser.parse_args()
    table(problem('A', [2, 16, 16, 1], 100))
    table(problem('B', [64, 32, 10], 32))
    more_tables()
    if importlib.util.find_spec('torch'):
        crossover(args.picture)
    if importlib.util.find_spec('faker'):
        gpt()
    recording()
    memory()


if __name__ == '__main__':
    main()
