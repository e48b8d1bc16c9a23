"""El motor al lado de micrograd: tiempo de un paso de entrenamiento y memoria por nodo.

    python -m tests.benchmarks.bench_engine

Un paso es forward, backward y actualización de MLP(2, [16, 16, 1]) sobre 100 puntos con pérdida
hinge, el mismo bucle para las dos bibliotecas, cada vez en un proceso propio y alternándolas.
"""

from __future__ import annotations

import gc
import importlib
import json
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from typing import Any

import numpy as np

ROUNDS, STEPS = 5, 5


def measure(library: str, collector: str) -> dict[str, float]:
    """Mide una biblioteca en este proceso; `collector` es 'con gc' o 'sin gc'."""
    nn = importlib.import_module(f'{library}.nn')
    if collector == 'sin gc':
        gc.disable()
    random.seed(1337)
    rng = np.random.default_rng(1337)
    points = rng.normal(size=(100, 2))
    labels = np.where(points[:, 0] * points[:, 1] > 0, 1, -1).tolist()
    model = nn.MLP(2, [16, 16, 1])

    def forward() -> Any:
        losses = [(1 + -y * model(x)).relu() for x, y in zip(points, labels, strict=True)]
        return sum(losses) * (1.0 / len(losses))

    def step() -> float:
        start = time.perf_counter()
        loss = forward()
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.1 * p.grad
        return time.perf_counter() - start

    step()
    seconds = statistics.median(step() for _ in range(STEPS))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    loss = forward()
    loss.backward()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0] - before
    nodes = count_nodes(loss) - len(model.parameters())
    return {'ms': 1000 * seconds, 'nodes': nodes, 'bytes': size / nodes}


def count_nodes(root: Any) -> int:
    seen, stack = {root}, [root]
    while stack:
        for operand in stack.pop()._prev:
            if operand not in seen:
                seen.add(operand)
                stack.append(operand)
    return len(seen)


def main() -> None:
    libraries, collectors = ('micrograd', 'michigrad'), ('con gc', 'sin gc')
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        for collector in collectors:
            for library in libraries:
                command = [sys.executable, '-m', __spec__.name, library, collector]
                answer = subprocess.run(command, capture_output=True, text=True, check=True)
                runs.setdefault((library, collector), []).append(json.loads(answer.stdout))

    def median(library: str, collector: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[library, collector])

    print(f'Medianas de {ROUNDS} procesos de {STEPS} pasos, Python {sys.version.split()[0]}\n')
    print('|                             | micrograd | michigrad | razón |')
    print('| --------------------------- | --------: | --------: | ----: |')
    for label, collector, key in (
        ('un paso, ms', 'con gc', 'ms'),
        ('un paso sin recolector, ms', 'sin gc', 'ms'),
        ('memoria por nodo, bytes', 'con gc', 'bytes'),
        ('nodos en un paso', 'con gc', 'nodes'),
    ):
        theirs, ours = (median(library, collector, key) for library in libraries)
        print(f'| {label:27} | {theirs:9.0f} | {ours:9.0f} | {theirs / ours:4.1f}x |')


if __name__ == '__main__':
    if len(sys.argv) == 3:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
