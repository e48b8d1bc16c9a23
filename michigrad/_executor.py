"""Ejecutar con numpy los grupos de un grafo grabado: hacia adelante y hacia atrás.

Los números de un espacio son una matriz con un renglón por número y una columna por fila del
bloque (en el espacio compartido, una sola), y hay otra igual con sus gradientes. Un programa es,
para una cantidad de filas, una lista de llamadas a numpy que ya tienen elegido sobre qué pedazo de
esas matrices trabajan. Como los nodos están ordenados, casi siempre es una vista y no se copia
nada; si los números que hacen falta están salteados, antes se juntan en un array aparte.

Los gradientes se suman, pero lo primero que llega a cada lugar se asigna: así no hace falta empezar
poniéndolos a todos en cero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from michigrad import _rules
from michigrad._numbers import label
from michigrad._record import (
    Dots,
    Elementwise,
    Group,
    Ints,
    Lists,
    Mask,
    Operand,
    Record,
    Sums,
)
from michigrad.engine import Value

Floats = npt.NDArray[np.float64]
Call = Callable[[], Any]

# Un lote grande se calcula de a bloques de filas, para que los números y los gradientes entren en
# la caché. Con bloques demasiado chicos se va el tiempo en llamar a numpy.
_BLOCK_BYTES, _BLOCK_ROWS = 2**21, 64


class Executor:
    """Un grafo grabado y los números de su último forward: cada hilo tiene el suyo.

    Args:
        record: el grafo.
        inputs: cuántas entradas tiene.
        derive: si se lo va a derivar.

    Atributos: `numbers` y `grads`, los números compartidos y sus gradientes; `rows`, cuántas filas
    tuvo el último forward, o 0 si falló.
    """

    def __init__(self, record: Record, inputs: int, derive: bool) -> None:
        self.rows = 0
        self._roots, self._inputs, self._derive = record.roots, inputs, derive
        self._height = record.rows
        self._groups, self._ones = list(record.groups(by_row=True)), frozenset(record.ones)
        self._shared = _Space(record.shared, 1)
        self._once = _Program(record.groups(by_row=False), {False: self._shared})
        if derive:
            self._once.bind_backward({False: np.ones(record.shared, dtype=bool)})
        self._programs: dict[int, _Program] = {}  # por cantidad de filas
        self._pending: _Program | None = None  # el bloque que falta derivar
        self._sums: Floats = np.empty(0)  # o los gradientes que ya sumaron los bloques
        self.numbers = self._shared.data[:, 0]
        self.grads = self._shared.grads[:, 0]

    def forward(self, batch: Floats | None) -> Floats:
        """Calcula los resultados de cada fila del lote, con las hojas que están en `numbers`.

        Raises:
            ValueError, ZeroDivisionError, OverflowError: si una operación no tiene resultado.
        """
        with np.errstate(all='ignore'):
            self._once.forward()
            if batch is not None:
                return self._forward_rows(batch)
        self._pending, self._sums = None, np.zeros(len(self.grads))
        self._sums[self._roots[0].places] = 1
        return np.array([[self.numbers[root.places] for root in self._roots]])

    def backward(self, divisor: int) -> None:
        """Deja en `grads` el gradiente del último forward, dividido por `divisor`."""
        with np.errstate(all='ignore'):
            if self._pending:
                self._run_backward(self._pending, 1 / divisor)
            else:
                np.divide(self._sums, divisor, out=self.grads)
            self._once.backward()

    def _forward_rows(self, batch: Floats) -> Floats:
        """Un lote grande, de a un bloque: como es de memoria fija, cada uno se deriva ahí mismo."""
        out = np.empty((len(batch), len(self._roots)))
        size = max(_BLOCK_BYTES // (16 * self._height), _BLOCK_ROWS)
        blocks = -(-len(batch) // size)
        derive = self._derive and blocks > 1
        sums = np.zeros(len(self.grads) if derive else 0)
        for k in range(blocks):  # parejos: a lo sumo hay dos tamaños
            start, stop = len(batch) * k // blocks, len(batch) * (k + 1) // blocks
            program = self._program(stop - start)
            program.spaces[True].data[: self._inputs] = batch[start:stop].T
            program.forward(start)
            for column, root in enumerate(self._roots):
                out[start:stop, column] = program.spaces[root.by_row].data[root.places]
            if derive:
                self._run_backward(program, 1.0)
                sums += self.grads
        self._pending, self._sums = None if blocks > 1 else program, sums
        return out

    def _program(self, rows: int) -> _Program:
        """El programa para esa cantidad de filas; se guardan los dos últimos."""
        program = self._programs.pop(rows, None)
        if program is None:
            if len(self._programs) > 1:
                del self._programs[next(iter(self._programs))]
            spaces = {False: self._shared, True: _Space(self._height, rows)}
            spaces[True].data[list(self._ones)] = 1
            program = _Program(self._groups, spaces, self._inputs, self._ones)
            if self._derive:
                self._bind_backward(program)
        self._programs[rows] = program
        return program

    def _run_backward(self, program: _Program, seed: float) -> None:
        """Deja en `grads` el gradiente de un bloque, si el de la raíz es `seed` en cada fila."""
        program.spaces[True].grads[self._roots[0].places] = seed
        program.backward()

    def _bind_backward(self, program: _Program) -> None:
        root = self._roots[0]
        spaces = program.spaces.items()
        written = {by_row: np.zeros(len(space.data), dtype=bool) for by_row, space in spaces}
        written[True][: self._inputs] = True
        written[True][list(self._ones)] = True
        written[True][root.places] = True
        program.bind_backward(written)


class _Space:
    """Los números de un espacio y sus gradientes: un renglón por número."""

    def __init__(self, numbers: int, columns: int) -> None:
        self.columns = columns
        self.data = np.zeros((numbers, columns))
        self.grads = np.zeros((numbers, columns))


class _Program:
    """Las llamadas que calculan unos grupos, y las que los derivan.

    Args:
        spaces: de dónde leen y adónde escriben.
        inputs: cuántas entradas hay; no necesitan gradiente.
        ones: los renglones que valen 1.
    """

    def __init__(
        self,
        groups: Iterable[Group],
        spaces: dict[bool, _Space],
        inputs: int = 0,
        ones: frozenset[int] = frozenset(),
    ) -> None:
        self.spaces, self.inputs, self.ones = spaces, inputs, ones
        self.first_row: int | None = None  # la fila del lote donde empieza el bloque
        self.calls: list[Call] = []
        self.back_calls: list[Call] = []
        self._bound = [_bind(group, self) for group in groups]

    def forward(self, first_row: int | None = None) -> None:
        self.first_row = first_row
        for call in self.calls:
            call()

    def backward(self) -> None:
        for call in self.back_calls:
            call()

    def bind_backward(self, written: dict[bool, Mask]) -> None:
        """Arma las llamadas que derivan; `written` son los gradientes que ya valen algo."""
        self.written = written
        self.assigned = {by_row: mask.copy() for by_row, mask in written.items()}
        for bound in reversed(self._bound):
            bound.bind_backward()
        zeros: list[Call] = []
        for by_row, mask in self.assigned.items():
            grads = self.spaces[by_row].grads
            zeros += [partial(grads[start:stop].fill, 0.0) for start, stop in _runs(~mask)]
        self.back_calls[:0] = zeros

    def own(self, group: Group) -> tuple[Floats, Floats]:
        """Los números de los nodos de un grupo, y sus gradientes."""
        space, part = self.spaces[group.by_row], slice(group.start, group.start + len(group.nodes))
        return space.data[part], space.grads[part]

    def read(self, operand: Operand, shape: tuple[int, ...]) -> Floats:
        """Los números de `operand`, con esa forma y una dimensión más, la de las filas.

        Si no son una vista, agrega la llamada que los junta.
        """
        data = self.spaces[operand.by_row].data
        view = _view(data, operand.places.reshape(shape))
        if view is not None:
            return view
        return self.gather(data, operand.places, shape)

    def gather(self, data: Floats, places: Ints, shape: tuple[int, ...]) -> Floats:
        flat = places.ravel()
        copied = np.empty((len(flat), data.shape[1]))
        self.calls.append(partial(np.take, data, flat, 0, copied, 'clip'))
        return copied.reshape(*shape, -1)

    def one_after(self, place: int) -> int:
        """Un renglón que vale 1: el que sigue a `place`, si es uno de ellos."""
        return place + 1 if place + 1 in self.ones else self.inputs

    def needs_grad(self, operand: Operand) -> bool:
        return not operand.by_row or bool(operand.places.max() >= self.inputs)


def _view(matrix: Floats, places: Ints) -> Floats | None:
    """Los renglones `places` de una matriz sin copiarlos, o None si no se puede."""
    strides = _strides(places)
    if strides is None:
        return None
    first, shape = places.item(0), (*places.shape, matrix.shape[1])
    steps = [stride for stride, size in zip(strides, places.shape, strict=True) if size > 1]
    if not steps:
        return matrix[first : first + 1].reshape(shape)
    if len(steps) == 1 and steps[0] > 0:
        return matrix[first : first + steps[0] * places.size : steps[0]].reshape(shape)
    row, item = matrix.strides
    return as_strided(matrix[first:], shape, (*(row * stride for stride in strides), item))


def _strides(places: Ints) -> tuple[int, ...] | None:
    """Cuánto avanzan las posiciones por dimensión, o None si no avanzan siempre lo mismo."""
    if places.size == 1:
        return (0,) * places.ndim
    first = places.item(0)
    expected: Any = first
    strides, apart = [], places.size
    for axis, size in enumerate(places.shape):
        apart //= size  # a qué distancia están dos seguidos de esta dimensión
        strides.append(places.item(apart) - first if size > 1 else 0)
        if strides[-1]:
            steps = np.arange(0, size * strides[-1], strides[-1])
            expected = expected + steps.reshape(-1, *[1] * (places.ndim - axis - 1))
    return tuple(strides) if places.size == 2 or (places == expected).all() else None


def _runs(mask: Mask) -> list[tuple[int, int]]:
    """Los tramos seguidos donde `mask` es verdadera."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


class _Target:
    """Donde se suma el gradiente de los números que leyó un grupo.

    Atributos: `add`, que suma ahí un array de la forma que se leyó; y `out`, si lo que llega es lo
    primero y puede escribirse directamente, adónde.
    """

    def __init__(self, program: _Program, operand: Operand, shape: tuple[int, ...], columns: int):
        space = program.spaces[operand.by_row]
        places = operand.places.reshape(shape)
        strides = _strides(places)
        # Si un número se leyó varias veces, antes se suma lo que le llega de cada una.
        axes = [
            axis for axis, size in enumerate(shape) if strides and size > 1 and not strides[axis]
        ]
        for axis in axes:
            places = places.take([0], axis)
        if columns > space.columns:
            axes.append(len(shape))
        repeated = not (strides and places.size in places.shape) and _repeated(places)
        written, assigned = program.written[operand.by_row], program.assigned[operand.by_row]
        first = not repeated and not written[places].any()
        written[places] = True
        if first:
            assigned[places] = True
        view = None if repeated else _view(space.grads, places)
        self.out = view if first and not axes else None
        self.add: Callable[[Floats], Any]
        if view is not None:
            self.add = partial(np.copyto if first else _increase, view)
        elif repeated:
            self.add = partial(_increase_repeated, space.grads, *_sorted_places(places))
        elif first:
            self.add = partial(space.grads.__setitem__, places)
        else:
            self.add = partial(_increase_at, space.grads, places)
        if axes == [len(shape)]:
            self.add = partial(_add_row_sums, self.add, np.ones(columns))
        elif axes:
            self.add = partial(_add_sums, self.add, tuple(axes))


def _repeated(places: Ints) -> bool:
    return len(np.unique(places)) < places.size


def _increase(view: Floats, grads: Floats) -> None:
    np.add(view, grads, out=view)


def _increase_at(matrix: Floats, places: Ints, grads: Floats) -> None:
    matrix[places] += grads


def _sorted_places(places: Ints) -> tuple[Ints, Ints, Ints]:
    """Los lugares sin repetir, el orden que junta los repetidos y dónde empieza cada uno."""
    flat = places.ravel()
    order = np.argsort(flat, kind='stable')
    unique, starts = np.unique(flat[order], return_index=True)
    return unique, order, starts


def _increase_repeated(
    matrix: Floats, places: Ints, order: Ints, starts: Ints, grads: Floats
) -> None:
    rows = grads.reshape(len(order), -1).take(order, 0)
    matrix[places] += np.add.reduceat(rows, starts, axis=0)


def _add_sums(add: Callable[[Floats], Any], axes: tuple[int, ...], grads: Floats) -> None:
    add(np.add.reduce(grads, axis=axes, keepdims=True))


def _add_row_sums(add: Callable[[Floats], Any], ones: Floats, grads: Floats) -> None:
    """Suma las filas del lote: como producto de matrices es más rápido."""
    add((grads.reshape(-1, len(ones)) @ ones).reshape(*grads.shape[:-1], 1))


# Los grupos


def _bind(group: Group, program: _Program) -> _BoundElementwise | _BoundSums:
    bind = _BoundElementwise if isinstance(group, Elementwise) else _BoundSums
    return bind(group, program)  # type: ignore[arg-type]


class _BoundElementwise:
    """Un grupo de la misma operación, sobre los arrays de un programa."""

    def __init__(self, group: Elementwise, program: _Program) -> None:
        self._group, self._program = group, program
        self._rule = _rules.NUMPY[_rules.key(group.op)]
        self._shape = _shape(group)
        out, g = program.own(group)
        self._out, self._g = out.reshape(*self._shape, -1), g.reshape(*self._shape, -1)
        self._x = program.read(group.x, self._shape)
        self._y: Any = program.read(group.y, self._shape) if group.y else group.exponent
        operands = (self._x,) if self._rule.unary else (self._x, self._y)
        value = partial(self._rule.value, *operands)
        if isinstance(value.func, np.ufunc):
            program.calls.append(partial(value, out=self._out))
        else:
            program.calls.append(partial(_evaluate, value, self._out))
        if self._rule.fallible:
            program.calls.append(partial(self._check, self._out.ravel()))

    def bind_backward(self) -> None:
        for operand, slope in ((self._group.x, self._rule.to_x), (self._group.y, self._rule.to_y)):
            if operand and slope and self._program.needs_grad(operand):
                target = _Target(self._program, operand, self._shape, self._out.shape[-1])
                call = partial(_send, target.add, slope, self._x, self._y, self._out, self._g)
                if self._group.op == 'ReLU' and target.out is not None:
                    on = np.empty(self._out.shape, dtype=bool)
                    call = partial(_send_relu, target.out, self._x, self._g, on)
                self._program.back_calls.append(call)

    def _check(self, out: Floats) -> None:
        """Si algo dio inf o nan, controla si es que la operación no tiene resultado."""
        if not _all_finite(out):
            _check_results(self._group.nodes, self._x, self._y, self._out, self._program.first_row)


def _evaluate(value: Callable[[], Floats], out: Floats) -> None:
    np.copyto(out, value())


def _send(
    add: Callable[[Floats], Any],
    slope: Callable[..., Floats],
    x: Floats,
    y: Any,
    out: Floats,
    g: Floats,
) -> None:
    add(slope(x, y, out, g))


def _send_relu(to_x: Floats, x: Floats, g: Floats, on: Mask) -> None:
    """La relu, aparte: es la más usada, y multiplicar por la máscara es más rápido que np.where."""
    np.less_equal(x, 0.0, out=on)
    np.logical_not(on, out=on)
    np.multiply(g, on, out=to_x)
    if not _all_finite(to_x.ravel()):  # 0·inf es nan, y por una relu apagada no pasa nada
        np.copyto(to_x, np.where(on, g, 0.0))


def _all_finite(flat: Floats) -> bool:
    """Si no hay inf ni nan. También dice que no si hay números de más de 1e150."""
    return math.isfinite(flat.dot(flat))


def _shape(group: Elementwise) -> tuple[int, ...]:
    """Con qué forma un grupo lee sus operandos: (n,), o dos dimensiones si alguno es periódico."""
    n = len(group.nodes)
    for operand in (group.x, group.y):
        if n > 2 and operand:
            steps = np.diff(operand.places)
            breaks = np.flatnonzero(steps != steps[0])
            if len(breaks) and n % (breaks[0] + 1) == 0:
                return n // (int(breaks[0]) + 1), int(breaks[0]) + 1
    return (n,)


class _BoundSums:
    """Un grupo de sumas: un producto de matrices, más lo que se suma término por término."""

    def __init__(self, group: Sums, program: _Program) -> None:
        self._program = program
        out, g = program.own(group)
        self._terms: list[_BoundDots | _BoundLists] = []
        if group.dots:
            self._terms.append(_BoundDots(group.dots, program, out, g))
        for lists in group.lists:
            self._terms.append(_BoundLists(lists, program, out, g, first=not self._terms))

    def bind_backward(self) -> None:
        for term in self._terms:
            term.bind_backward()


class _BoundDots:
    """Productos de matrices. El bias es un w más, y lo que multiplica, un renglón que vale 1."""

    def __init__(self, dots: Dots, program: _Program, out: Floats, g: Floats) -> None:
        self._program, self._x_operand, self._w_operand = program, dots.x, dots.w
        self._shape = dots.x.places.shape
        blocks, _, lists = self._shape
        self._columns = out.shape[1]
        places, self._w_places = dots.x.places, dots.w.places
        if dots.bias:
            ones = np.full((blocks, 1, lists), program.one_after(int(places[-1, -1, -1])))
            places = np.concatenate([places, ones], axis=1)
            self._w_places = np.concatenate([self._w_places, dots.bias.places[:, :, None]], axis=2)
        self._w = self._read_weights(program.spaces[dots.w.by_row].data)
        self._x = self._read_rows(program.spaces[dots.x.by_row].data, places)
        self._g = g.reshape(blocks, -1, lists * self._columns)
        program.calls.append(_product(self._w, self._x, out.reshape(self._g.shape)))

    def bind_backward(self) -> None:
        program, products = self._program, self._shape[1]
        target = _Target(program, Operand(False, self._w_places), self._w_places.shape, 1)
        out = None if target.out is None else target.out[..., 0]
        to_w = _product(self._g, self._x.swapaxes(1, 2), out)
        if out is None:
            to_w = partial(_send_product, target.add, to_w, (*self._w_places.shape, 1))
        program.back_calls.append(to_w)
        if program.needs_grad(self._x_operand):
            target = _Target(program, self._x_operand, self._shape, self._columns)
            out = None if target.out is None else _merged(target.out)
            to_x = _product(self._w[:, :, :products].swapaxes(1, 2), self._g, out)
            if out is None:
                to_x = partial(_send_product, target.add, to_x, (*self._shape, self._columns))
            program.back_calls.append(to_x)

    def _read_weights(self, data: Floats) -> Floats:
        """Las matrices w. BLAS las lee por renglones o por columnas, pero no salteadas."""
        strides = _strides(self._w_places)
        _, rows, columns = self._w_places.shape
        if strides and (strides[2] == 1 or columns == 1) and (strides[1] >= columns or rows == 1):
            view = _view(data, self._w_places)
            assert view is not None
            return view[..., 0]
        return self._program.gather(data, self._w_places, self._w_places.shape)[..., 0]

    def _read_rows(self, data: Floats, places: Ints) -> Floats:
        """Las matrices x, con las filas del lote de cada lista de x una al lado de la otra."""
        view = _view(data, places)
        merged = None if view is None else _merged(view)
        if merged is None:
            gathered = self._program.gather(data, places, places.shape)
            merged = gathered.reshape(*places.shape[:2], -1)
        return merged


def _product(a: Floats, b: Floats, out: Floats | None) -> Call:
    """La llamada que multiplica las matrices.

    np.dot es solo para dos matrices, pero tarda menos en arrancar. Con una de 1×1 no hace la
    cuenta si es 0, y 0·inf es nan.
    """
    contiguous = out is None or out[0].flags.c_contiguous
    if len(a) > 1 or not contiguous or a.size == 1 or b.size == 1:
        return partial(np.matmul, a, b, out=out)
    return partial(np.dot, a[0], b[0], None if out is None else out[0])


def _merged(view: Floats) -> Floats | None:
    """`view` con las dos últimas dimensiones en una sola, o None si para eso hay que copiarla."""
    *shape, columns, rows = view.shape
    if columns > 1 and view.strides[-2] != rows * view.itemsize:
        return None
    return view.reshape(*shape, columns * rows)


def _send_product(
    add: Callable[[Floats], Any], product: Callable[[], Floats], shape: tuple[int, ...]
) -> None:
    add(product().reshape(shape))


class _BoundLists:
    """Listas de productos o de términos, todas del mismo largo o no."""

    def __init__(
        self, lists: Lists, program: _Program, out: Floats, g: Floats, first: bool
    ) -> None:
        self._lists, self._program, self._g = lists, program, g
        n, longest = len(lists.lengths), int(lists.lengths.max())
        self._regular = bool((lists.lengths == longest).all())
        self._shape: tuple[int, ...] = (n, longest) if self._regular else (len(lists.x.places),)
        self._starts = np.cumsum(lists.lengths) - lists.lengths
        self._x = program.read(lists.x, self._shape)
        terms = self._x
        if lists.y:
            self._y = self._x if lists.y is lists.x else program.read(lists.y, self._shape)
            terms = np.empty(np.broadcast_shapes(self._x.shape, self._y.shape))
            program.calls.append(partial(np.multiply, self._x, self._y, out=terms))
        program.calls.append(self._total(terms, out, first))

    def _total(self, terms: Floats, out: Floats, first: bool) -> Call:
        if not self._regular:
            total = partial(np.add.reduceat, terms, self._starts, axis=0)
        elif self._shape[1] > 1:
            total = partial(np.add.reduce, terms, axis=1)
        elif first:
            return partial(np.copyto, out, terms[:, 0])
        else:
            return partial(np.add, out, terms[:, 0], out=out)
        return partial(total, out=out) if first else partial(_add_total, out, total)

    def bind_backward(self) -> None:
        program, columns = self._program, self._g.shape[1]
        if self._regular:
            g = np.broadcast_to(self._g[:, None], (*self._shape, columns))
        else:
            g = np.empty((*self._shape, columns))
            owner = np.repeat(np.arange(len(self._g)), self._lists.lengths)
            program.back_calls.append(partial(np.take, self._g, owner, 0, g, 'clip'))
        if self._lists.y is None:
            target = _Target(program, self._lists.x, self._shape, columns)
            program.back_calls.append(partial(target.add, g))
            return
        for operand, other in ((self._lists.x, self._y), (self._lists.y, self._x)):
            if program.needs_grad(operand):
                target = _Target(program, operand, self._shape, columns)
                program.back_calls.append(partial(_send_scaled, target.add, other, g))


def _add_total(out: Floats, total: Callable[[], Floats]) -> None:
    np.add(out, total(), out=out)


def _send_scaled(add: Callable[[Floats], Any], x: Floats, g: Floats) -> None:
    add(x * g)


# Lo que no tiene resultado


def _check_results(nodes: list[Value], x: Floats, y: Any, out: Floats, row: int | None) -> None:
    """Repite con el motor lo que dio inf o nan; `row` es la primera fila, si `out` tiene filas.

    Raises:
        ValueError, ZeroDivisionError, OverflowError: el del motor, con la fila del lote.
    """
    shape = len(nodes), -1
    xs = np.broadcast_to(x, out.shape).reshape(shape)
    ys = xs if y is None else np.broadcast_to(y, out.shape).reshape(shape)
    for j, i in np.argwhere(~np.isfinite(out.reshape(shape)).T).tolist():
        v = nodes[i]
        try:
            _repeat(v, float(xs[i, j]), float(ys[i, j]))
        except (ValueError, ArithmeticError) as error:
            name = f'{label(v)}: ' if v.name else ''
            where = '' if row is None else f' (fila {row + j} del lote)'
            raise type(error)(f'{name}{error}{where}') from None


def _repeat(v: Value, x: float, y: float) -> Any:
    """Hace con el motor la operación que dio `v`, para que dé su error si no tiene resultado."""
    left, right = v._prev[0], v._prev[-1]
    a, b = Value(x, name=left.name), Value(y, name=right.name)
    if v._op == '/':
        return a / b
    if v._op == '**':
        return a**b
    if v._fixed_exponent is not None:
        return a**y
    return getattr(a, v._op)()
