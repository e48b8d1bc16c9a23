"""Dibujos del grafo de un Value con Graphviz: nombres, datos y gradientes."""

from __future__ import annotations

import os
from pathlib import Path

from michigrad._drawing import Box, PortableDigraph, draw, graph_nodes, name_of
from michigrad.engine import Value
from michigrad.stepper import show_backprop


def trace(root: Value) -> tuple[list[Value], list[tuple[Value, Value]]]:
    """Devuelve los nodos y las aristas del grafo de `root`.

    Los nodos están en orden topológico: cada uno después de sus operandos. Hay una arista
    (operando, resultado) por cada operando, así que en x*x son dos.

    Raises:
        TypeError: si `root` no es un Value.
    """
    nodes = graph_nodes(root)
    return nodes, [(operand, v) for v in nodes for operand in v._prev]


def show_graph(
    root: Value, format: str = 'svg', rankdir: str = 'LR', max_nodes: int = 1500
) -> PortableDigraph:
    """Dibuja el grafo que termina en `root`.

    Cada Value es una caja con su nombre, su dato y su gradiente, y cada operación una elipse. Los
    datos y las constantes son grises, los parámetros (las hojas con nombre de peso o de sesgo:
    W₀, b, L0.N1.w0) azules, los valores intermedios blancos y el resultado naranja.

    Args:
        root: el resultado; se dibuja todo lo que hizo falta para calcularlo.
        format: el formato de `render()`: 'svg', 'png' u otro de Graphviz.
        rankdir: hacia dónde avanza el cálculo: 'LR', 'TB', 'RL' o 'BT'.
        max_nodes: cuántos Values se aceptan como máximo.

    Returns:
        Un graphviz.Digraph: un notebook lo dibuja, y `.render('archivo')` lo guarda. No hace
        falta instalar Graphviz: si no está el comando dot se usa graphviz-pure.

    Raises:
        TypeError: si `root` no es un Value.
        ValueError: si `format` o `rankdir` no existen o si hay más de `max_nodes` Values.
    """
    nodes = graph_nodes(root)
    if len(nodes) > max_nodes:
        raise ValueError(
            f'el grafo tiene {len(nodes)} Values y se dibujan {max_nodes} como máximo: dibujá la '
            f'pérdida de un solo ejemplo, o pasá max_nodes={len(nodes)} y esperá'
        )
    boxes = {v: Box(name_of(v), _decimal(v.data), _decimal(v.grad), v._op) for v in nodes}
    return draw(nodes, boxes, format, rankdir)


def show_graph_interactive(root: Value, filename: str | os.PathLike[str] = 'graph.html') -> Path:
    """Escribe en `filename` la página que arma `show_backprop(root)` y devuelve su ruta.

    Raises:
        Los errores de show_backprop, y OSError si no se puede escribir.
    """
    return show_backprop(root).save(filename)


def _decimal(number: float) -> str:
    """Cuatro decimales, o notación científica si el número no entraría en su caja."""
    return f'{number:.4f}' if abs(number) < 1e9 else f'{number:.4e}'
