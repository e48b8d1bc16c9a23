"""Cuánto tarda un paso de entrenamiento: micrograd, PyTorch, C escrito a mano y la cinta.

    python tests/benchmarks/bench_tape.py             las tablas
    python tests/benchmarks/bench_tape.py --picture   también images/cruce_pytorch.png

Todo en una misma corrida y con un solo hilo; cada número es la mediana. Un paso completo es poner
los gradientes en cero, forward, backward y actualizar con SGD. Lo que no está instalado se saltea.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import importlib
import importlib.util
import math
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from michigrad.engine import Value
from michigrad.nn import MLP
from michigrad.optim import SGD
from michigrad.tape import ParameterArray, Tape

ROOT = Path(__file__).parents[2]
LR = 1e-6  # casi nada: que la red sea la misma en todas las mediciones


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


def median(step: Callable[[], Any], seconds: float = 1.0, least: int = 3) -> float:
    """La mediana, en µs, de las corridas que entran en ese tiempo; la primera no cuenta."""
    step()
    times: list[float] = []
    while sum(times) < seconds or len(times) < least:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def micrograd_step(p: Problem) -> Callable[[], Any]:
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


def torch_step(p: Problem, dtype: str, scalar: bool = False) -> Callable[[], Any]:
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


def c_step(p: Problem, flags: list[str], folder: str) -> Callable[[], Any]:
    """La cuenta sola, en C: sin lo que cuesta llamarla ni la actualización."""
    library = Path(folder) / f'dense{"".join(flags)}.so'
    source = Path(__file__).with_name('dense.c')
    output = ['-shared', '-fPIC', '-o', str(library), str(source), '-lm']
    subprocess.run([shutil.which('cc') or 'gcc', *flags, *output], check=True)
    lib = ctypes.CDLL(str(library))
    rows, features = len(p.batch), p.sizes[0]
    params = np.array([w.data for w in model(p).parameters()])
    x, y = p.batch[:, :features].copy(), p.batch[:, features:].copy()
    arrays = [
        params,
        np.zeros_like(params),
        x,
        y,
        np.empty(rows),
        np.empty(2 * rows * sum(p.sizes)),
    ]
    sizes = np.array(p.sizes, dtype=np.int32)
    args = [ctypes.c_void_p(a.ctypes.data) for a in [*arrays, sizes]]
    layers = len(sizes) - 1

    def step() -> None:
        lib.step(*args, layers, rows)

    step()
    expected = record(p)[0].forward(p.batch)
    np.testing.assert_allclose(arrays[4], expected, rtol=1e-9)
    step.keep = arrays  # type: ignore[attr-defined]
    return step


def record(p: Problem, arrays: bool = False) -> tuple[Tape, list[Any]]:
    """La cinta de un problema y lo que su optimizador tiene que actualizar."""
    net = model(p)
    row = [Value(0.0) for _ in p.batch[0]]
    weights = ParameterArray(net.parameters()) if arrays else None
    t = Tape(loss(p, net, row), inputs=row, parameters=weights)
    return t, [weights] if weights else net.parameters()


def tape_step(p: Problem, arrays: bool) -> Callable[[], Any]:
    t, params = record(p, arrays)
    optimizer = SGD(params, lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        t.forward(p.batch)
        t.backward()
        optimizer.step()

    return step


def table(p: Problem, folder: str) -> None:
    rows: list[tuple[str, float]] = []

    def measure(name: str, make: Callable[[], Callable[[], Any]], seconds: float = 1.0) -> float:
        rows.append((name, median(make(), seconds)))
        gc.collect()
        return rows[-1][1]

    if importlib.util.find_spec('micrograd'):
        measure('micrograd', lambda: micrograd_step(p), 0)
    torch64 = math.nan
    if importlib.util.find_spec('torch'):
        measure('PyTorch, escalar por escalar', lambda: torch_step(p, 'float64', True), 0)
        measure('PyTorch, float32', lambda: torch_step(p, 'float32'))
        torch64 = measure('PyTorch, float64', lambda: torch_step(p, 'float64'))
    measure('cinta, con los Values', lambda: tape_step(p, False))
    measure('cinta, con ParameterArray', lambda: tape_step(p, True))
    if shutil.which('cc') or shutil.which('gcc'):
        for flags in (['-O3'], ['-O3', '-ffast-math'], ['-O3', '-ffast-math', '-march=native']):
            name = f'la cuenta sola: C {" ".join(flags)}'
            measure(name, functools.partial(c_step, p, flags, folder))
    net = ', '.join(map(str, p.sizes))
    print(f'\n{p.name}: red {net}, {len(p.batch)} ejemplos por paso\n')
    print(f'| {"":48} | {"µs por paso":>12} | {"× micrograd":>11} | {"× PyTorch":>9} |')
    print(f'|{"-" * 50}|{"-" * 13}:|{"-" * 12}:|{"-" * 10}:|')
    slowest = rows[0][1] if rows[0][0] == 'micrograd' else math.nan
    for name, us in rows:
        print(f'| {name:48} | {us:12,.1f} | {slowest / us:11,.0f} | {torch64 / us:9.2f} |')


def recording() -> None:
    print('\nGrabar: µs por nodo\n')
    for nodes in (10**3, 10**4, 10**5, 10**6):
        w = [Value(0.5), Value(-0.5)]
        x = Value(1.0)
        root = x
        for i in range(nodes // 4):
            root = (root + w[i % 2] * x) * w[0] + x
        times = []
        for _ in range(3):
            start = time.perf_counter()
            t = Tape(root, inputs=[x])
            times.append(time.perf_counter() - start)
            del t
        print(f'{nodes:>9,} nodos: {statistics.median(times) / nodes * 1e6:.2f}')


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
    print(
        f'\n1.000.000 de filas de la red A: {seconds:.2f} s y {extra:.1f} MiB además del resultado'
    )


def crossover(picture: bool) -> None:
    """El ancho desde el que conviene PyTorch: digits con una capa oculta de cada ancho."""
    widths = [4, 8, 16, 32, 64, 128, 256, 512]
    ours, arrays, theirs = [], [], []
    print('\nUn paso de una red 64, ancho, 10 con 32 ejemplos, en µs\n')
    print('| ancho | PyTorch float64 | cinta, ParameterArray | cinta, Values |')
    print('|------:|----------------:|----------------------:|--------------:|')
    for width in widths:
        p = problem('', [64, width, 10], 32)
        theirs.append(median(torch_step(p, 'float64'), 0.5))
        arrays.append(median(tape_step(p, True), 0.5))
        ours.append(median(tape_step(p, False), 0.5))
        print(f'| {width:5} | {theirs[-1]:15.0f} | {arrays[-1]:21.0f} | {ours[-1]:13.0f} |')
    for name, times in (('ParameterArray', arrays), ('Values', ours)):
        print(f'{name}: PyTorch gana desde un ancho de {crossing(widths, times, theirs)}')
    if picture:
        draw(widths, theirs, arrays, ours)


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


def draw(widths: list[int], theirs: list[float], arrays: list[float], ours: list[float]) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    figure, axes = plt.subplots(figsize=(7, 4.2), layout='constrained')
    series = [
        ('PyTorch, float64, un hilo', theirs, '#c0392b', 's'),
        ('cinta, con los Values', ours, '#7f8c8d', '^'),
        ('cinta, con ParameterArray', arrays, '#2471a3', 'o'),
    ]
    for label, times, color, marker in series:
        axes.loglog(widths, times, color=color, marker=marker, label=label)
    axes.set_xticks(widths, [str(w) for w in widths])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda us, _: f'{us:,.0f}'.replace(',', '.')))
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
    with tempfile.TemporaryDirectory() as folder:
        table(problem('A', [2, 16, 16, 1], 100), folder)
        table(problem('B', [64, 32, 10], 32), folder)
    recording()
    memory()
    if importlib.util.find_spec('torch'):
        crossover(args.picture)


if __name__ == '__main__':
    main()
