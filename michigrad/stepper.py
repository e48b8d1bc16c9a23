"""Backpropagation paso a paso: una página para recorrer el forward y el backward nodo por nodo.

La página está en page/ y hace las cuentas ella misma. De acá recibe el grafo con sus números, cómo
se escribe, el dibujo y, de las operaciones propias, lo que se midió llamando a su `_backward`.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
import html
import importlib.resources
import json
import math
import os
import re
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from michigrad._drawing import Box, draw, graph_nodes, kind, name_of
from michigrad._notation import Row, Term, box_name, labels, row, significant
from michigrad._numbers import assigned
from michigrad._restore import unchanged
from michigrad.engine import Value

if sys.platform == 'emscripten':
    from michigrad import _browser

_MAX_VALUES = 300
_SVG = 'http://www.w3.org/2000/svg'
_SCRIPTS = (
    *('engine.js', 'notation.js', 'story.js'),  # las cuentas y lo que se escribe
    *('board.js', 'predict.js', 'card.js', 'training.js', 'page.js'),  # lo que se ve y se maneja
)

# Para medir una operación propia hay que cambiar, un momento, los gradientes de verdad.
_measuring = threading.Lock()

# El texto que le da el ancho a cada caja: los números de la página cambian, y la caja no.
_WIDEST_NUMBER = '−0.01235'

# Lo que un notebook pone en su marco: la página, comprimida. El dibujo que queda donde no se
# permiten scripts va aparte, y así todo junto no pesa más que la página sola.
_UNPACK = (
    '<script>(async () => {'
    'const bytes = Uint8Array.from(atob("PAGE"), (letter) => letter.charCodeAt());'
    'const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));'
    'const page = await new Response(plain).text();'
    'document.open(); document.write(page); document.close();'
    '})()</script>'
)


@dataclasses.dataclass(frozen=True)
class BackpropPage:
    """La página que arma show_backprop: un notebook la muestra sola.

    Atributos: `html`, la página completa, que no pide nada a la red; `picture`, el grafo con los
    gradientes que deja `backward()`, como texto SVG.
    """

    html: str = dataclasses.field(repr=False)
    picture: str = dataclasses.field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Guarda la página en `path` (por ejemplo 'backprop.html') y devuelve su ruta."""
        path = Path(path)
        path.write_text(self.html, encoding='utf-8', newline='\n')
        return path

    def show(self) -> None:
        """Abre la página en el navegador o, si no hay ninguno, dice dónde quedó guardada.

        Si Python ya corre en el navegador, la muestra en el notebook, debajo de la celda.
        """
        if sys.platform == 'emscripten':
            _browser.show(self)
            return
        path = self.save(Path(tempfile.mkdtemp(prefix='michigrad-')) / 'backprop.html')
        if not webbrowser.open(path.as_uri()):
            print(f'No encontré un navegador: abrí {path}')

    def _repr_html_(self) -> str:
        # El marco tapa la imagen. Un notebook que no es de confianza borra el marco, y queda ella.
        picture = base64.b64encode(self.picture.encode()).decode()
        page = base64.b64encode(gzip.compress(self.html.encode(), mtime=0)).decode()
        return (
            '<div style="display: grid; grid-template-columns: minmax(0, 1fr)">'
            '<img alt="El grafo con los gradientes que deja backward()"'
            ' style="grid-area: 1 / 1; max-width: 100%; max-height: 640px; background: white"'
            f' src="data:image/svg+xml;base64,{picture}">'
            '<iframe title="Backpropagation paso a paso" sandbox="allow-scripts"'
            ' style="grid-area: 1 / 1; width: 100%; height: 640px; border: 0; background: white"'
            f' srcdoc="{html.escape(_UNPACK).replace("PAGE", page)}"></iframe>'
            '</div>'
        )


def show_backprop(root: Value, rankdir: str = 'LR') -> BackpropPage:
    """Arma una página para recorrer, de a un nodo, el cálculo de `root` y de sus gradientes.

    Primero se ven las hojas; después cada operación calcula su valor; después el resultado recibe
    gradiente 1 y cada operación lo reparte entre sus operandos, con la regla de la cadena escrita:
    ∂L/∂W₀ += ∂L/∂u · ∂u/∂W₀ = ∂L/∂u · x₀ = −0.2600 · 0.5 = −0.1300. El último paso muestra lo que
    deja `root.backward()` con los gradientes en cero, como después de `zero_grad()`; si alguna hoja
    ya tenía un gradiente, en «Opciones» se puede partir de él.

    En la página se prueba: se cambia el número de una hoja y lo demás lo sigue, y se dan pasos de
    descenso por el gradiente. Se ajustan las hojas con nombre de peso o de sesgo (W₀, b,
    L0.N1.w0) o, si no hay ninguna, todas las que tienen nombre. Una hoja de la que depende una
    operación propia no se puede cambiar: la página no sabe calcularla.

    El grafo queda como estaba: ni los datos ni los gradientes cambian.

    Args:
        root: el resultado; se muestra todo lo que hizo falta para calcularlo. También puede ser de
            una clase propia que tenga `data`, `grad`, `_prev`, `_op` y `_backward`.
        rankdir: hacia dónde avanza el cálculo: 'LR', 'TB', 'RL' o 'BT'.

    Returns:
        Una BackpropPage: un notebook la muestra, `.show()` la abre en el navegador y
        `.save('backprop.html')` la guarda.

    Raises:
        TypeError: si `root` no es un Value, si algún `data` o `grad` no es un número o si a una
            clase propia le falta `_backward`.
        ValueError: si `rankdir` no existe, si hay más de 300 Values o si a una operación propia le
            falta su `_backward`.
        RuntimeError: si no hay con qué dibujar el grafo.
    """
    nodes = graph_nodes(root)
    if len(nodes) > _MAX_VALUES:
        raise ValueError(
            f'el grafo tiene {len(nodes)} Values y paso a paso se siguen {_MAX_VALUES} como '
            'máximo: mostrá la pérdida de un solo ejemplo, con una red más chica'
        )
    terms = labels(root, nodes)
    with _measuring:
        grads, measured = backpropagate(nodes)
        data = [assigned(v, 'data') for v in nodes]
        graph = describe(nodes, terms, measured, rankdir)
    svg = _picture(nodes, terms, data, grads, rankdir)
    content = {
        'style': _read('style.css'),
        'script': '\n'.join(map(_read, _SCRIPTS)),
        'svg': svg,
        'graph': graph,
    }
    # De una sola pasada: un nombre que se escriba como una marca no se reemplaza.
    page = re.sub(r'<!--(\w+)-->', lambda mark: content[mark[1]], _read('index.html'))
    return BackpropPage(page, svg)


# ---- Los gradientes ----


class _Gain(NamedTuple):
    """Lo que una operación propia le da al nodo `to`: su parte, y cuánto por unidad de gradiente.

    `overwrites` dice si la puso en lugar de lo que había, con = en vez de +=.
    """

    to: int
    gain: float
    slope: float
    overwrites: bool


class _Measured(NamedTuple):
    """Lo que reparte una operación propia cuando recibe el gradiente `grad`."""

    grad: float
    gains: list[_Gain]


def backpropagate(nodes: Sequence[Any]) -> tuple[list[float], dict[Any, _Measured]]:
    """Los gradientes que deja `backward` desde cero, y lo que se midió en las operaciones propias.

    No cambia ningún nodo, salvo mientras corre el `_backward` de una operación propia.
    """
    places = {v: i for i, v in enumerate(nodes)}
    grads = [0.0] * len(nodes)
    grads[-1] = 1.0
    measured = {}
    for v in reversed(nodes):
        grad = grads[places[v]]
        slopes = getattr(v, '_local_derivatives', None if v._prev else ())
        if slopes is None:
            if not callable(getattr(v, '_backward', None)):
                raise TypeError(
                    f'show_backprop sigue el backward pass con el _backward de cada resultado, y '
                    f'{type(v).__name__} no lo tiene: para ver solo el grafo usá show_graph'
                )
            measured[v] = _measure(v, nodes, grad)
            for to, gain, _, overwrites in measured[v].gains:
                grads[to] = gain if overwrites else grads[to] + gain
        else:
            for operand, slope in zip(v._prev, slopes, strict=True):
                if slope is not None:
                    grads[places[operand]] += slope * grad
    return grads, measured


def _measure(v: Any, nodes: Sequence[Any], grad: float) -> _Measured:
    """Lo que el `_backward` de `v` le da a cada nodo; datos y gradientes quedan como estaban."""
    with unchanged(nodes, 'data', 'grad'):
        gains = _run(v, nodes, grad, 0.0)
        per_unit = _run(v, nodes, 1.0, 0.0)
        onto_one = _run(v, nodes, grad, 1.0)
    touched = [
        i
        for i, u in enumerate(nodes)
        if u is not v and (u in v._prev or gains[i] or onto_one[i] != 1)
    ]
    # Sumada a 1, una parte enorme no cambia: no por eso pisó lo que había.
    return _Measured(
        grad,
        [
            _Gain(i, gains[i], per_unit[i], onto_one[i] == gains[i] and abs(gains[i]) < 1e15)
            for i in sorted(touched, key=lambda i: _slot(v, nodes[i]))
        ],
    )


def _run(v: Any, nodes: Sequence[Any], grad: float, start: float) -> list[float]:
    """Los gradientes que deja el `_backward` de `v` si recibió `grad` y los demás eran `start`."""
    for u in nodes:
        u.grad = start
    v.grad = grad
    v._backward()
    return [float(assigned(u, 'grad')) for u in nodes]


def _slot(v: Any, operand: Any) -> int:
    """El lugar de `operand` entre los operandos de `v`; si no es uno, al final."""
    operands = list(v._prev)
    return operands.index(operand) if operand in operands else len(operands)


# ---- Lo que la página sabe ----


def describe(
    nodes: Sequence[Any],
    terms: Mapping[Any, Term],
    measured: Mapping[Any, _Measured],
    rankdir: str = 'LR',
) -> str:
    """El grafo en JSON, con nodos nombrados por su lugar: números, operaciones y cómo se escriben.

    Se puede escribir adentro de un <script>: nada en él parece HTML.
    """
    places = {v: i for i, v in enumerate(nodes)}
    rows: dict[Row, int] = {}
    kinds = [kind(v, None) for v in nodes]
    facts = []
    for v, look in zip(nodes, kinds, strict=True):
        exponent = getattr(v, '_fixed_exponent', None)
        is_leaf = not v._prev
        facts.append(
            {
                'name': terms[v].text,
                'rank': terms[v].rank,
                'operands': [places[operand] for operand in v._prev],
                'row': rows.setdefault(row(v), len(rows)),
                'rule': None
                if is_leaf or v in measured
                else '**n'
                if exponent is not None
                else v._op,
                'exponent': exponent,
                'data': assigned(v, 'data'),
                'grad': assigned(v, 'grad') if is_leaf else 0,
                'slopes': getattr(v, '_local_derivatives', ()) or (),
                'measured': measured.get(v),
                'trainable': is_leaf
                and (look == 'parameter' if 'parameter' in kinds else bool(name_of(v))),
            }
        )
    content = {'rankdir': rankdir, 'rows': [r._asdict() for r in rows], 'nodes': facts}
    text = json.dumps(_plain(content), separators=(',', ':'))
    return text.replace('&', r'\u0026').replace('<', r'\u003c').replace('>', r'\u003e')


def _plain(content: Any) -> Any:
    """Lo mismo, sin lo que JSON no tiene: los infinitos y nan pasan a ser texto."""
    if isinstance(content, dict):
        return {key: _plain(x) for key, x in content.items()}
    if isinstance(content, (list, tuple)):
        if isinstance(content, _Measured):
            return {'grad': _plain(content.grad), 'gains': _plain([*map(list, content.gains)])}
        return [_plain(x) for x in content]
    if isinstance(content, float):
        return float(content) if math.isfinite(content) else str(content).replace('inf', 'Infinity')
    return content


@functools.cache
def _read(name: str) -> str:
    """Uno de los archivos de la página."""
    file = importlib.resources.files('michigrad').joinpath('page', name)
    return file.read_text(encoding='utf-8').strip()


# ---- El dibujo ----


def _picture(
    nodes: Sequence[Any],
    terms: Mapping[Any, Term],
    data: Sequence[float],
    grads: Sequence[float],
    rankdir: str,
) -> str:
    """El SVG del grafo, con un id en cada nodo, flecha y operación, y lo que deja `backward`."""
    boxes = {
        v: Box(box_name(v, terms), _WIDEST_NUMBER, _WIDEST_NUMBER, row(v).symbol) for v in nodes
    }
    graph = draw(nodes, boxes, rankdir=rankdir)
    # En las flechas se escribe la derivada local: que haya lugar.
    graph.graph_attr |= {'ranksep': '0.75', 'nodesep': '0.25'}
    text = graph.pipe('svg', encoding='utf-8')
    for repeated in _REPEATED:
        text = text.replace(repeated, '')
    svg = ElementTree.fromstring(text)
    _name_parts(svg, nodes)
    texts = {group.get('id'): group.findall('text') for group in svg.iter('g')}
    for i, numbers in enumerate(zip(data, grads, strict=True)):
        for cell, field, number in zip(texts[f'n{i}'][-2:], ('data', 'grad'), numbers, strict=True):
            cell.text = f'{field} {significant(number)}'
    _lighten(svg)
    svg.set('xmlns', _SVG)
    return ElementTree.tostring(svg, encoding='unicode')


def _name_parts(svg: ElementTree.Element, nodes: Sequence[Any]) -> None:
    """Dice qué es cada parte: la caja n3, la elipse n3op y, de una flecha, a qué operando lleva."""
    places = {v: i for i, v in enumerate(nodes)}
    slots: dict[str, list[int]] = {}
    for v, i in places.items():
        for slot, operand in enumerate(v._prev):
            slots.setdefault(f'n{places[operand]}->n{i}op', []).append(slot)
    for group in svg.iter('g'):
        name = group.findtext('title', '')
        for title in group.findall('title'):
            group.remove(title)  # se vería al apuntar con el mouse
        operation = re.search(r'(n\d+)op', name)
        if operation:  # la elipse o una de sus flechas
            group.set('data-op', operation[1])
        if name in slots:
            group.set('data-slot', str(slots[name].pop()))
        group.attrib.pop('id', None)
        if group.get('class') == 'node':
            group.set('id', name)
            look = 'operation' if operation else kind(nodes[int(name[1:])], nodes[-1])
            group.set('class', f'node {look}')


# Lo que Graphviz repite en cada parte, y la página dice una sola vez. En un nombre no puede estar:
# ahí las comillas se escriben &quot;.
_REPEATED = (
    *(f' xmlns="{_SVG}"', ' xml:space="preserve"', ' text-anchor="middle"'),
    *(' font-family="Helvetica,sans-Serif"', ' font-size="14.00"'),
    *(' stroke="black"', ' fill="none"'),
)
_ONCE = {
    **{'font-family': 'Arial, Liberation Sans, Helvetica, sans-serif', 'font-size': '14'},
    **{'text-anchor': 'middle', 'stroke': '#000'},
}
_STYLE = '.edge path,.node polyline{fill:none}.node text{stroke:none}'
_EXTRA_DIGITS = re.compile(r'(?<=\.\d)\d+')


def _lighten(svg: ElementTree.Element) -> None:
    """Achica el dibujo: sin las cifras que no se ven, y con las cajas como rectángulos."""
    for part in svg.iter():
        is_text = part.tag == 'text'
        part.tail = ' ' if is_text else None  # un lector de pantalla lee de corrido
        part.text = (part.text or '').replace('\xa0', ' ') if is_text else None
        for name in ('d', 'points', 'x', 'y'):
            if name in part.attrib:
                part.set(name, _EXTRA_DIGITS.sub('', part.attrib[name]))
        if part.get('id', 'op')[-2:] != 'op':
            _square(part[0])
    for graph in svg.iterfind('g'):
        graph.attrib.update(_ONCE)
    style = ElementTree.Element('style')
    style.text = _STYLE
    svg.insert(0, style)


def _square(outline: ElementTree.Element) -> None:
    """Pasa a <rect> el contorno de una caja, que Graphviz escribe punto por punto."""
    rounded = outline.tag == 'path'
    points = outline.attrib.pop('d' if rounded else 'points')
    numbers = [float(x) for x in re.findall(r'-?\d+\.?\d*', points)]
    xs, ys = numbers[::2], numbers[1::2]
    outline.tag = 'rect'
    for name, low, high in (('x', min(xs), max(xs)), ('y', min(ys), max(ys))):
        outline.set(name, f'{low:.1f}')
        outline.set('width' if name == 'x' else 'height', f'{high - low:.1f}')
    if rounded:
        outline.set('rx', '8')
