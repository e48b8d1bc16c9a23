"""Grabar un grafo: de los Values a grupos de nodos que se calculan juntos.

Un nodo por vez, numpy es lento y XLA, que compila para JAX, tarda muchísimo. Por eso el grafo se
reparte en grupos, y cada grupo es una sola operación sobre arrays:

- La altura de un nodo es uno más que la mayor de sus operandos. Los que tienen la misma altura y la
  misma operación no dependen unos de otros: son un grupo.
- Una cadena de sumas, como w₀·x₀ + w₁·x₁ + b, cuenta como un solo nodo; si no, cada + tendría otra
  altura. Las sumas que combinan cada lista de w con cada lista de x, como las de una capa, son un
  producto de matrices.

Los números viven en dos espacios. En el de las filas están las entradas y los nodos que dependen
de ellas, que valen algo distinto en cada fila del lote. En el compartido están, en este orden, los
parámetros, las demás hojas y los nodos que no dependen de las entradas, que se calculan una sola
vez. El lugar de un número es en qué espacio está y su posición ahí; cada grupo ocupa posiciones
seguidas, y los nodos se ordenan para que lo que lee un grupo también esté seguido.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from michigrad import _rules
from michigrad._numbers import label, short
from michigrad.engine import Value, topological_order

Ints = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

_ARITY = {op: 1 if rule.to_y is None else 2 for op, rule in _rules.NUMPY.items()}


class Operand(NamedTuple):
    """Los números que lee un grupo: posiciones de uno de los dos espacios."""

    by_row: bool  # si son del espacio de las filas
    places: Ints


class Elementwise(NamedTuple):
    """La misma operación con cada par de operandos."""

    op: str
    by_row: bool  # en qué espacio están los nodos
    start: int  # desde qué posición
    nodes: list[Value]
    x: Operand
    y: Operand | None  # None: tiene un solo operando

    @property
    def exponent(self) -> float | None:
        """El exponente fijo, si es una potencia."""
        return self.nodes[0]._fixed_exponent


class Dots(NamedTuple):
    """Las sumas Σ w·x + b de cada lista de w con cada lista de x, en uno o más bloques."""

    w: Operand  # (bloques, listas de w, productos)
    x: Operand  # (bloques, productos, listas de x); los nodos, (bloques, listas de w, de x)
    bias: Operand | None  # (bloques, listas de w)


class Lists(NamedTuple):
    """Una lista de productos x·y, o de términos x, por cada suma; están una detrás de otra."""

    x: Operand
    y: Operand | None
    lengths: Ints


class Sums(NamedTuple):
    """Sumas de varios términos: la de `dots`, si hay, más la de cada una de las listas."""

    by_row: bool
    start: int
    nodes: list[Value]
    dots: Dots | None
    lists: list[Lists]


Group = Elementwise | Sums


class Record:
    """El grafo de `roots`, en grupos. Se arma en un tiempo proporcional a su cantidad de nodos.

    Atributos: `leaves`, las hojas que no son entradas ni parámetros; `first_node`, dónde terminan
    en el espacio compartido; `shared` y `rows`, cuántos números tiene cada espacio; `roots`, el
    lugar de cada resultado; `ones`, renglones de sobra del espacio de las filas, que valen 1: hay
    uno detrás de las entradas y de cada grupo de varios.

    Raises:
        ValueError: si alguna entrada no influye en el resultado o es también un parámetro, o si hay
            una operación propia.
    """

    def __init__(self, roots: list[Value], inputs: list[Value], parameters: list[Value]) -> None:
        self._order = topological_order(Value(0, roots))[:-1]  # el Value auxiliar queda último
        position = {v: i for i, v in enumerate(self._order)}
        _check_inputs(inputs, position, parameters)
        at_roots = np.array([position[v] for v in roots])
        self._columns = _columns(self._order, position, inputs)
        self._chains = _find_chains(self._columns, at_roots)

        # El lugar de cada nodo. A los del espacio de las filas se les suma _first_row.
        leaf = self._columns.code == 0
        self._first_row = len(parameters) + len(leaf)
        self._place = np.full(len(leaf), -1)
        for first, given in ((0, parameters), (self._first_row, inputs)):
            for k, v in enumerate(given, first):
                if v in position:
                    self._place[position[v]] = k
        loose = np.flatnonzero(leaf & (self._place < 0))
        self._place[loose] = len(parameters) + np.arange(len(loose))
        self.leaves = [self._order[i] for i in loose.tolist()]

        self._members: dict[bool, list[Ints]] = {False: [], True: []}  # los nodos de cada grupo
        self._shapes: dict[int, tuple[int, ...]] = {}  # los bloques del que empieza en ese nodo
        self.first_node = len(parameters) + len(loose)
        next_place = [self.first_node, self._first_row + len(inputs) + 1]
        self.ones = [len(inputs)]
        for nodes in _same_key(self._columns, self._chains):
            by_row = bool(self._columns.varies[nodes[0]])
            for members in self._arrange(nodes):
                self._members[by_row].append(members)
                start = next_place[by_row]
                next_place[by_row] += len(members)
                self._place[members] = np.arange(start, next_place[by_row])
                if by_row and len(members) > 1:
                    self.ones.append(next_place[by_row] - self._first_row)
                    next_place[by_row] += 1
        self.shared, self.rows = next_place[0], next_place[1] - self._first_row
        self.roots = [self._operand(i) for i in at_roots]

    def groups(self, by_row: bool) -> Iterator[Group]:
        """Los grupos de un espacio, cada uno después de los que necesita."""
        ops, code, a, b, _ = self._columns
        for members in self._members[by_row]:
            first = members[0]
            start = int(self._place[first]) - by_row * self._first_row
            nodes = [self._order[i] for i in members.tolist()]
            if self._chains.number[first] >= 0:
                dots = self._dots(members)
                lists = self._lists(members, bias=bool(dots and dots.bias))
                yield Sums(by_row, start, nodes, dots, lists)
            else:
                op = ops[code[first]]
                x = self._operand(a[members])
                y = self._operand(b[members]) if _arity(op) == 2 else None
                yield Elementwise(op, by_row, start, nodes, x, y)

    def _operand(self, nodes: Any) -> Operand:
        """El lugar de `nodes`, que están todos en el mismo espacio."""
        places = self._place[nodes]
        by_row = places.item(0) >= self._first_row
        return Operand(by_row, places - by_row * self._first_row)

    def _dots(self, members: Ints) -> Dots | None:
        if not self._chains.counts[self._chains.number[members[0]], _DOTS]:
            return None
        blocks = members.reshape(self._shapes.get(int(members[0]), (len(members), 1, 1)))
        w, _ = self._factors(blocks[:, :, 0])
        _, x = self._factors(blocks[:, 0, :])
        return Dots(self._operand(w), self._operand(x.swapaxes(1, 2)), self._bias(blocks))

    def _bias(self, blocks: Ints) -> Operand | None:
        """El término compartido de cada lista de w, si es uno solo y el mismo con todas las x."""
        terms, lengths = self._chains.items_of(blocks.ravel(), _SHARED_TERMS)
        if (lengths != 1).any():
            return None
        bias = terms.reshape(blocks.shape)
        return self._operand(bias[:, :, 0]) if (bias == bias[:, :, :1]).all() else None

    def _lists(self, members: Ints, bias: bool) -> list[Lists]:
        """Las listas de lo que suman las cadenas, aparte de los productos de matrices y su bias."""
        lists = []
        for kind in (_PRODUCTS, _TERMS) if bias else (_PRODUCTS, _TERMS, _SHARED_TERMS):
            items, lengths = self._chains.items_of(members, kind)
            if kind == _PRODUCTS and len(items):
                x, y = self._columns.a[items], self._columns.b[items]
                lists.append(Lists(self._operand(x), self._operand(y), lengths))
            elif len(items):
                lists.append(Lists(self._operand(items), None, lengths))
        return lists

    def _factors(self, members: Ints) -> tuple[Ints, Ints]:
        """Los w y los x de los productos de clase _DOTS, en una dimensión más que `members`."""
        items, _ = self._chains.items_of(members.ravel(), _DOTS)
        left, right = self._columns.a[items], self._columns.b[items]
        w = np.where(self._columns.varies[left], right, left)
        return w.reshape(*members.shape, -1), (left + right - w).reshape(*members.shape, -1)

    # Ordenar los nodos de un grupo

    def _arrange(self, nodes: Ints) -> Iterable[Ints]:
        """Ordena nodos de igual clave por el lugar de sus operandos, y los reparte en grupos."""
        if len(nodes) == 1:
            return (nodes,)
        counts = self._chains.counts[self._chains.number[nodes[0]]]
        if counts[_DOTS]:
            return self._arrange_dots(nodes)
        _, _, a, b, varies = self._columns
        firsts = nodes
        if counts.any():  # una cadena se ordena por lo primero que suma
            firsts, _ = self._chains.items_of(nodes, _PRODUCTS if counts[_PRODUCTS] else _TERMS, 1)
        if counts.any() and not counts[_PRODUCTS]:
            return (nodes[np.argsort(self._place[firsts], kind='stable')],)
        a, b = a[firsts], b[firsts]
        first, second = (b, a) if varies[a[0]] < varies[b[0]] else (a, b)  # antes, los de las filas
        return (nodes[np.lexsort((self._place[second], self._place[first]))],)

    def _arrange_dots(self, nodes: Ints) -> Iterable[Ints]:
        """Un grupo por cada forma que tienen los bloques."""
        w, x = (_ranks(self._place[factors]) for factors in self._factors(nodes))
        by_shape = defaultdict(list)
        for block in _blocks(w, x):
            by_shape[block.shape].append(nodes[block].ravel())
        for shape, blocks in by_shape.items():
            members = np.concatenate(blocks)
            self._shapes[int(members[0])] = (len(blocks), *shape)
            yield members


# Las columnas


class _Columns(NamedTuple):
    """Los nodos en orden topológico, con sus operandos como posiciones en ese orden."""

    ops: list[str]
    code: Ints  # qué operación de `ops`: la 0 es ser una hoja
    a: Ints  # en una hoja, -1
    b: Ints  # si tiene un solo operando, a
    varies: Mask  # si depende de las entradas


def _columns(order: list[Value], position: dict[Value, int], inputs: list[Value]) -> _Columns:
    ops, code, a, b = {'': 0}, [], [], []
    for v in order:
        operands = v._prev
        if operands:
            code.append(ops[v._op] if v._op in ops else _new_operation(v, ops))
            a.append(position[operands[0]])
            b.append(position[operands[-1]])
            if v._local_derivatives is None:
                raise ValueError(
                    f'una cinta no sabe repetir la operación propia {short(v._op)}, que da '
                    f'{label(v)}: armala con las operaciones de Value'
                )
        else:
            code.append(0)
            a.append(-1)
            b.append(-1)
    varies = bytearray(len(order) + 1)  # uno de más, siempre en 0: el operando -1 de las hojas
    for v in inputs:
        varies[position[v]] = 1
    for i, (left, right) in enumerate(zip(a, b, strict=True) if inputs else ()):
        if varies[left] or varies[right]:
            varies[i] = 1
    mask = np.frombuffer(varies, dtype=bool)[:-1]
    return _Columns(list(ops), np.array(code), np.array(a), np.array(b), mask)


def _new_operation(v: Value, ops: dict[str, int]) -> int:
    if v._local_derivatives is not None and _rules.key(v._op) not in _ARITY:
        raise ValueError(f'una cinta no conoce la operación {short(v._op)}')
    ops[v._op] = len(ops)
    return ops[v._op]


def _check_inputs(
    inputs: list[Value], position: Mapping[Value, int], parameters: list[Value]
) -> None:
    trained = set(parameters)
    for v in inputs:
        if v not in position:
            raise ValueError(f'la entrada {label(v)} no influye en el resultado')
        if v in trained:
            raise ValueError(f'{label(v)} no puede ser a la vez una entrada y un parámetro')


def _arity(op: str) -> int:
    return _ARITY[_rules.key(op)]


# Las cadenas


class _Chains(NamedTuple):
    """Las cadenas de sumas y lo que suma cada una, de izquierda a derecha.

    Lo que suma está en `items`, ordenado por cadena y por clase: lo de clase k de la cadena c son
    counts[c, k] nodos, desde starts[c, k]. La última cadena está vacía: es la -1.
    """

    inner: Mask  # los nodos que son solo un pedazo de la cadena que los usa
    number: Ints  # qué cadena termina en cada nodo, o -1
    items: Ints
    starts: Ints
    counts: Ints

    def items_of(self, ends: Ints, kind: int, most: int | None = None) -> tuple[Ints, Ints]:
        """Lo de clase `kind` que suman las cadenas que terminan en `ends`, y cuánto es de cada una.

        `most` es cuánto se toma, como mucho, de cada cadena.
        """
        numbers = self.number[ends]
        if len(numbers) == 1:
            start, length = self.starts.item(numbers[0], kind), self.counts.item(numbers[0], kind)
            length = min(length, most or length)
            return self.items[start : start + length], np.array([length])
        lengths = np.minimum(self.counts[numbers, kind], most or len(self.items))
        skipped = self.starts[numbers, kind] - (np.cumsum(lengths) - lengths)
        return self.items[np.repeat(skipped, lengths) + np.arange(lengths.sum())], lengths


# Las clases de lo que suma una cadena. En el espacio de las filas: productos de algo compartido por
# algo de las filas, productos entre cosas de las filas, términos de las filas y términos
# compartidos. En el espacio compartido, todos los productos son de la primera.
_DOTS, _PRODUCTS, _TERMS, _SHARED_TERMS = range(4)


def _find_chains(columns: _Columns, at_roots: Ints) -> _Chains:
    ops, code, a, b, varies = columns
    plus, times = (code == ops.index(op) if op in ops else code < 0 for op in ('+', '*'))
    binary = np.array([op != '' and _arity(op) == 2 for op in ops])[code]
    operands = np.concatenate([a[code > 0], b[binary], at_roots])
    single = np.bincount(operands, minlength=len(code)) == 1

    sums = np.flatnonzero(plus)
    parent = np.full(len(code), -1)
    for side in (a[sums], b[sums]):
        inner = single[side] & (plus | times)[side] & (varies[side] == varies[sums])
        parent[side[inner]] = sums[inner]
    inner = parent >= 0
    end = _follow(np.where(inner, parent, np.arange(len(code))))
    ends = np.unique(end[inner])
    number = np.full(len(code), -1)
    number[ends] = np.arange(len(ends))

    sums = sums[number[end[sums]] >= 0]  # las que son parte de una cadena
    items, owner = np.column_stack([a[sums], b[sums]]).ravel(), np.repeat(end[sums], 2)
    pieces = inner[items] & plus[items]
    items, owner = items[~pieces], owner[~pieces]
    product = np.where(varies[a[items]] & varies[b[items]], _PRODUCTS, _DOTS)
    term = np.where(varies[items] == varies[owner], _TERMS, _SHARED_TERMS)
    slot = 4 * number[owner] + np.where(inner[items], product, term)
    counts = np.bincount(slot, minlength=4 * (len(ends) + 1))
    starts = np.cumsum(counts) - counts
    items = items[np.argsort(slot, kind='stable')]
    return _Chains(inner, number, items, starts.reshape(-1, 4), counts.reshape(-1, 4))


def _follow(following: Ints) -> Ints:
    """Adónde se llega desde cada posición yendo siempre a la siguiente; en las últimas, i -> i."""
    while True:
        further = following[following]
        if np.array_equal(further, following):
            return following
        following = further


# Los grupos


def _same_key(columns: _Columns, chains: _Chains) -> Iterator[Ints]:
    """Reparte los nodos por altura, espacio, operación y qué operandos son de las filas.

    Las cadenas, por cuántos productos de clase _DOTS suman y por qué otras clases tienen.
    """
    ops, code, a, b, varies = columns
    outer = (code > 0) & ~chains.inner
    height = _heights(a.tolist(), b.tolist(), outer.tolist())
    nodes = np.flatnonzero(outer)
    number = chains.number[nodes]
    counts = chains.counts[number]
    op = np.where(number >= 0, len(ops), code[nodes])
    kinds = (counts[:, 1:] > 0) @ [1, 2, 4]
    pattern = np.where(number >= 0, kinds, varies[a[nodes]] + 2 * varies[b[nodes]])
    key = 2 * np.array(height)[nodes] + varies[nodes]
    key = (key * (len(ops) + 1) + op) * 8 + pattern
    key = key * (counts[:, _DOTS].max(initial=0) + 1) + counts[:, _DOTS]
    by_key = np.argsort(key, kind='stable')
    key, nodes = key[by_key], nodes[by_key]
    cuts = [0, *(np.flatnonzero(np.diff(key)) + 1).tolist(), len(nodes)]
    for start, stop in itertools.pairwise(cuts if len(nodes) else []):
        yield nodes[start:stop]


def _heights(a: list[int], b: list[int], outer: list[bool]) -> list[int]:
    heights = [0] * (len(a) + 1)  # uno de más, siempre en 0: el operando -1 de las hojas
    for i, (left, right, step) in enumerate(zip(a, b, outer, strict=True)):
        x, y = heights[left], heights[right]
        heights[i] = (x if x > y else y) + step
    return heights[:-1]


def _ranks(lists: Ints) -> list[int]:
    """El puesto de cada lista entre las distintas, en orden alfabético."""
    tuples = [tuple(numbers) for numbers in lists.tolist()]
    rank = {numbers: i for i, numbers in enumerate(sorted(set(tuples)))}
    return [rank[numbers] for numbers in tuples]


def _blocks(w: list[int], x: list[int]) -> Iterator[Ints]:
    """Reparte las sumas de lista w[i] y lista x[i] en bloques: matrices (listas de w, listas de x).

    En un bloque están las x que se combinan con las mismas w.
    """
    by_x = defaultdict(list)
    for i in np.lexsort((x, w)).tolist():
        by_x[x[i]].append(i)
    by_w = defaultdict(list)
    for column in by_x.values():
        by_w[tuple(w[i] for i in column)].append(column)
    for columns in by_w.values():
        yield np.array(columns).T
