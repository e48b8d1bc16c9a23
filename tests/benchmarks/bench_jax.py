"""Cuánto tarda JAX en compilar un paso de entrenamiento, según el tamaño del grafo.

    python -m tests.benchmarks.bench_jax

Un paso es la pérdida promedio de 100 ejemplos y su gradiente, en float32. Los tiempos, en segundos,
son la mediana de tres veces, cada una con una función nueva, porque JAX guarda lo que compila. Al
lado, la traducción directa, con una operación de JAX por nodo: una sola vez y hasta 5000 nodos,
que son varios minutos. Al final, los grafos más largos que to_jax acepta, donde nada se agrupa.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from michigrad._rules import rules
from michigrad.engine import Value, topological_order
from michigrad.tape import ParameterArray, Tape
from tests.benchmarks.bench_tape import loss, model, problem

Graph = tuple[Value, list[Value], list[Value]]  # el resultado, las entradas y los parámetros


def network(*sizes: int) -> Graph:
    p = problem('', list(sizes), 1)
    net = model(p)
    row = [Value(x) for x in p.batch[0].tolist()]
    return loss(p, net, row), row, net.parameters()


def longest_chain(link: Callable[[Value, Value], Value]) -> Graph:
    """La cadena más larga de eslabones, cada uno operando del siguiente, que to_jax acepta."""
    x, w = Value(0.5), Value(0.9)
    v = link(w, x)
    while True:
        longer = link(w, v)
        try:
            Tape(longer, [x]).to_jax()
        except ValueError:
            return v, [x], [w]
        v = longer


def ours(root: Value, inputs: list[Value], parameters: list[Value]) -> Callable[..., Any]:
    return Tape(root, inputs, ParameterArray(parameters)).to_jax()[0]


def direct(root: Value, inputs: list[Value], parameters: list[Value]) -> Callable[..., Any]:
    """Una operación por nodo. Alcanza para las redes, que no tienen potencias."""
    order, table = topological_order(root), rules(jnp)

    def f(leaves: Any, row: Any) -> Any:
        found = dict(zip([*parameters, *inputs], [*leaves, *row], strict=True))
        for v in order:
            if v._prev:
                found[v] = table[v._op](found[v._prev[0]], found[v._prev[-1]])
            else:
                found.setdefault(v, v.data)
        return found[root]

    return f


def measure(translate: Callable[..., Callable[..., Any]], graph: Graph) -> tuple[int, Any]:
    """Cuántas operaciones recibe XLA y cuánto se tarda en traducir, en trazar y en compilar."""
    _, inputs, parameters = graph
    start = time.perf_counter()
    f = translate(*graph)
    translated = time.perf_counter()

    def mean(leaves: Any, rows: Any) -> Any:
        return jax.vmap(f, in_axes=(None, 0))(leaves, rows).mean()

    step = jax.jit(jax.value_and_grad(mean))
    lowered = step.lower(jnp.ones(len(parameters)), jnp.ones((100, len(inputs))))
    traced = time.perf_counter()
    lowered.compile()
    compiled = time.perf_counter()
    times = translated - start, traced - translated, compiled - traced, compiled - start
    return str(lowered.as_text()).count('stablehlo.'), times


def main() -> None:
    columns = ['nodos', 'ops. de XLA', 'to_jax', 'trazar', 'compilar', 'total', 'total, directa']
    print(f'| {"":26} | {" | ".join(f"{c:>14}" for c in columns)} |')
    print(f'|{"-" * 28}|{(("-" * 15) + ":|") * len(columns)}')
    graphs = {
        'red 2-16-16-1': network(2, 16, 16, 1),
        'red 64-32-10': network(64, 32, 10),
        'red 64-132-10': network(64, 132, 10),
        'red de 60 capas de 12': network(12, *[12] * 60),
        'tanh(w·x), encadenadas': longest_chain(lambda w, v: (w * v).tanh()),
        'x + sen(w·x), encadenadas': longest_chain(lambda w, v: v + (w * v).sin()),
        'w^x, encadenadas': longest_chain(lambda w, v: w**v),
    }
    for name, graph in graphs.items():
        nodes = sum(bool(v._prev) for v in topological_order(graph[0]))
        counts, times = zip(*(measure(ours, graph) for _ in range(3)), strict=True)
        cells = [f'{nodes:14}', f'{counts[0]:14}']
        cells += [f'{statistics.median(each):14.2f}' for each in zip(*times, strict=True)]
        total = f'{measure(direct, graph)[1][-1]:14.2f}' if name in list(graphs)[:2] else f'{"":14}'
        print(f'| {name:26} | {" | ".join([*cells, total])} |', flush=True)


if __name__ == '__main__':
    main()
