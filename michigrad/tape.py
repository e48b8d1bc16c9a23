"""La cinta: graba un grafo una vez y lo repite a toda velocidad, con otros datos.

Armar un grafo de Values en cada paso del entrenamiento es lo que hace lento a un autograd escalar.
Si el grafo es siempre el mismo y solo cambian los números, alcanza con armarlo una vez: `Tape` lo
traduce a una lista de instrucciones sobre arrays, que ejecuta numba (extra `fast`) o numpy.

    x0, x1, y = Value(0.0), Value(0.0), Value(1.0)
    loss = (1 - y * model([x0, x1])).relu()       # para UN ejemplo, como siempre
    tape = Tape(loss, inputs=[x0, x1, y])
    for epoch in range(100):
        optimizer.zero_grad()
        losses = tape.forward(batch)              # una fila por ejemplo, una columna por entrada
        tape.backward()                           # el gradiente promedio, en el .grad de las hojas
        optimizer.step()

Grabar tiene consecuencias:

- Los `if` y los `for` de Python quedan como estaban al grabar: la cinta repite las operaciones que
  se hicieron, no el programa que las hizo. También el `max` con que softmax y cross_entropy evitan
  que e^z se desborde: con un logit 709 mayor que el más grande al grabar, da OverflowError.
- El `data` de las hojas (parámetros y constantes) se lee de nuevo en cada `forward`.
- Los nodos intermedios no se enteran: la cinta no toca su `data` ni su `grad`.
"""

from __future__ import annotations

import functools
import logging
import os
import reprlib
import struct
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from michigrad import _kernels
from michigrad._kernels import ADD, DOT, MUL, OPCODES, POW_CONST, Backend, Floats, Ints, Task
from michigrad.engine import Value, topological_order

__all__ = ['ParameterArray', 'Tape']

_LEAF = -1
Positions = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

_NOTHING, _NO_ROWS, _NO_ROOTS = np.empty(0), np.empty((1, 0)), np.empty(0, dtype=np.int32)

# Un lote grande se reparte entre los núcleos en esta cantidad de partes, siempre la misma: así los
# gradientes salen con los mismos bits en cualquier máquina.
_PARTS = 8


class ParameterArray:
    """Los parámetros de un modelo en dos arrays de float64, `data` y `grad`.

    Con miles de parámetros, pasar los datos y los gradientes entre los Values y la cinta tarda más
    que la cuenta. Una cinta grabada con `parameters=` trabaja sobre estos arrays, y un optimizador
    también, porque un ParameterArray es para él un parámetro más:

        weights = ParameterArray(model.parameters())
        tape = Tape(loss, inputs=[x0, x1, y], parameters=weights)
        optimizer = SGD([weights], lr=0.1)
        ...                                       # el mismo entrenamiento
        weights.write_back()                      # recién ahora cambian los Values

    Args:
        parameters: los parámetros, como model.parameters(). Sus datos y gradientes se copian.

    Atributos: `data` y `grad`, en el orden de `parameters`. Asignarles un número o un array los
    rellena, sin reemplazarlos.

    Raises:
        TypeError: si algún parámetro no es un Value.
        ValueError: si no hay parámetros, si alguno está repetido o si alguno es el resultado de una
            operación.
    """

    def __init__(self, parameters: Iterable[Value]) -> None:
        self.values = _leaves('parameters', parameters)
        if not self.values:
            raise ValueError('parameters está vacía: no hay nada que entrenar')
        self._data = np.array([v.data for v in self.values], dtype=np.float64)
        self._grad = np.array([v.grad for v in self.values], dtype=np.float64)

    @property
    def data(self) -> Floats:
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        self._data[:] = data

    @property
    def grad(self) -> Floats:
        return self._grad

    @grad.setter
    def grad(self, grad: Any) -> None:
        self._grad[:] = grad

    def write_back(self) -> None:
        """Copia los datos y los gradientes a los Values."""
        for v, data, grad in zip(
            self.values, self._data.tolist(), self._grad.tolist(), strict=True
        ):
            v.data = data
            v.grad = grad


class Tape:
    """Un grafo grabado, que se recalcula y se deriva con otros datos sin volver a armarlo.

    Con `inputs`, las entradas no reciben gradiente: son datos, no algo que se entrene, y la cinta
    tampoco toca su `data`.

    Args:
        root: el resultado, o una lista de resultados.
        inputs: las hojas que toman un valor distinto en cada fila del lote.
        parameters: un ParameterArray, para que sus parámetros se lean y se deriven ahí.

    Raises:
        TypeError: si algo no es un Value, o `parameters` no es un ParameterArray.
        ValueError: si una entrada no es una hoja, está repetida, es un parámetro o no influye en el
            resultado, o si en el grafo hay una operación propia.
    """

    def __init__(
        self,
        root: Value | Iterable[Value],
        inputs: Iterable[Value] = (),
        parameters: ParameterArray | None = None,
    ) -> None:
        self._single = isinstance(root, Value)
        self._roots = [root] if isinstance(root, Value) else _values('root', root)
        if not self._roots:
            raise ValueError('root está vacía: pasá un Value o una lista con al menos uno')
        if parameters is not None and not isinstance(parameters, ParameterArray):
            raise TypeError(
                'parameters es un ParameterArray(model.parameters()): '
                f'llegó {reprlib.repr(parameters)}'
            )
        self._inputs = _leaves('inputs', inputs)
        self._parameters = parameters
        graph = _record(self._roots, self._inputs, parameters.values if parameters else [])
        self._graph = graph
        self._shared = np.zeros(graph.shared)
        first = graph.parameters + len(graph.leaves)
        self._shared[first : first + len(graph.exponents)] = graph.exponents
        self._pack = struct.Struct(f'{len(graph.leaves)}d')
        self._rows: Floats = np.empty((0, 0))
        self._row_grads: Floats = np.empty((0, 0))
        self._batch = 0  # cuántas filas tuvo el último forward
        self._block: Task | None = None  # el bloque que falta derivar
        self._sums: Floats = _NOTHING  # el gradiente de los números compartidos, sumando las filas

    def forward(self, batch: Any = None) -> Any:
        """Recalcula el resultado con los datos que tienen ahora las hojas.

        Args:
            batch: el lote, de forma (B, len(inputs)): una fila por ejemplo y una columna por
                entrada, en el orden de `inputs`. Sin entradas no va.

        Returns:
            Un array de float64 de forma (B,), o (B, cantidad) si la cinta tiene una lista de
            resultados. Sin entradas, el nuevo `data` del resultado, que queda también en el Value
            (con una lista, un array).

        Raises:
            TypeError, ValueError: si el lote no es de números reales o no tiene esa forma.
            ValueError, ZeroDivisionError, OverflowError: si una operación no tiene resultado, como
                en el motor. El mensaje dice en qué fila del lote; los Values no cambian.
        """
        rows = self._check(batch)
        backend = _backend()
        self._batch = 0  # si algo falla, para backward es como si no hubiera habido forward
        self._read_leaves(self._shared)
        self._run_once(backend)
        if rows is None:
            self._batch = 1
            self._sums = np.zeros(len(self._shared))
            self._sums[self._graph.roots[0]] = 1
            return self._set_roots()
        out = np.empty((len(rows), len(self._roots)))
        block = _block_size(backend, self._graph.rows)
        if len(rows) <= block:
            self._block = self._task(rows, self._buffers(len(rows)), out)
            _run(backend, self._block, self._graph.each.nodes, 0, len(rows))
        else:
            self._block = None
            self._sums = self._run_blocks(backend, rows, block, out)
        self._batch = len(rows)
        return out[:, 0] if self._single else out

    def backward(self, reduction: str = 'mean') -> None:
        """Suma en el `grad` de cada hoja el gradiente del último forward, como Value.backward.

        Args:
            reduction: 'mean', el gradiente promedio de las filas del lote, o 'sum', la suma.

        Raises:
            ValueError: si `reduction` no es ninguno de los dos.
            RuntimeError: si no hubo un forward, si falló, o si la cinta tiene una lista de
                resultados.
        """
        if reduction not in ('mean', 'sum'):
            raise ValueError(f"reduction es 'mean' o 'sum': llegó {reduction!r}")
        if not self._single:
            raise RuntimeError(
                'backward deriva un resultado y esta cinta tiene una lista: grabá Tape(loss)'
            )
        if not self._batch:
            raise RuntimeError('antes de backward() va un forward() que no haya fallado')
        backend = _backend()
        if self._block:
            self._derive_block(backend, self._block)
        grads = self._sums / self._batch if reduction == 'mean' else self._sums.copy()
        self._run_once(backend, grads)
        self._accumulate(grads)

    def to_jax(self) -> tuple[Callable[..., Any], Any, list[str]]:
        """Traduce el grafo a JAX, para entrenarlo en otras placas o en muchas máquinas.

            weights = ParameterArray(model.parameters())
            tape = Tape(loss, inputs=[x0, x1, y], parameters=weights)
            f, leaves, names = tape.to_jax()
            batch_loss = lambda leaves, batch: jax.vmap(f, (None, 0))(leaves, batch).mean()
            step = jax.jit(jax.value_and_grad(batch_loss))
            for epoch in range(100):
                loss, grads = step(leaves, batch)
                leaves -= 0.1 * grads
            tape.load(leaves)                         # recién ahora cambian los Values

        Returns:
            `f`, una función pura: f(leaves, inputs) es el resultado para un ejemplo, un array de
            forma () o, si la cinta tiene una lista de resultados, (cantidad,). jax.jit la compila,
            jax.grad la deriva y jax.vmap la aplica a un lote. Una operación sin resultado da inf o
            nan, porque dentro de una función compilada no hay errores.
            `leaves`, el `data` que tienen ahora las hojas, en un array de JAX: de float32, o de
            float64 después de jax.config.update('jax_enable_x64', True). Si la cinta se grabó con
            `parameters`, son esos parámetros y las demás hojas quedan fijas; si no, son todas
            las hojas, también las constantes, como el 1 de 1 - x, que no hay que entrenar.
            `names`, el nombre de cada una.

        Raises:
            ImportError: si JAX no está instalado.
            TypeError: si el `data` de una hoja no es un número.
            ValueError: si el grafo es demasiado largo: XLA tardaría minutos en compilarlo.
        """
        try:
            import jax.numpy as jnp

            from michigrad import _jax
        except ImportError:
            raise ImportError('to_jax usa JAX, que no está: pip install "michigrad[jax]"') from None
        trained = self._trained()
        shared = np.empty_like(self._shared)
        self._read_leaves(shared)
        f = _jax.to_function(self._roots, self._inputs, trained, self._single)
        return f, jnp.asarray(shared[: len(trained)]), [v.name for v in trained]

    def load(self, leaves: Any) -> None:
        """Pone en las hojas, y en el ParameterArray, los números de `leaves`.

        Los nodos intermedios no se recalculan: para ver el grafo entero con los números nuevos hay
        que volver a armarlo.

        Args:
            leaves: un array con la forma y el orden del que devolvió `to_jax`.

        Raises:
            TypeError, ValueError: si no es de números reales o no tiene esa forma. No cambia nada.
        """
        trained = self._trained()
        expected = f'load espera un array de forma ({len(trained)},)'
        numbers = _numbers(expected, leaves)
        if numbers.shape != (len(trained),):
            raise ValueError(f'{expected}; llegó uno de forma {numbers.shape}')
        if self._parameters:
            self._parameters.data = numbers
        for v, data in zip(trained, numbers.tolist(), strict=True):
            v.data = data

    def _trained(self) -> list[Value]:
        """Las hojas que cambian al entrenar en JAX."""
        return self._parameters.values if self._parameters else self._graph.leaves

    def _check(self, batch: Any) -> Floats | None:
        """Devuelve el lote como un array de float64, sin copiarlo si ya lo es."""
        if not self._inputs:
            if batch is not None:
                raise TypeError('esta cinta se grabó sin inputs: forward() va sin lote')
            return None
        expected = f'esta cinta espera un lote de forma (filas, {len(self._inputs)})'
        if batch is None:
            raise TypeError(f'{expected}: forward(lote)')
        rows = _numbers(expected, batch)
        if rows.ndim != 2 or rows.shape[1] != len(self._inputs):
            raise ValueError(f'{expected}; llegó uno de forma {rows.shape}')
        if not len(rows):
            raise ValueError(f'{expected}; llegó uno sin filas')
        return rows

    def _read_leaves(self, shared: Floats) -> None:
        """Pone en `shared` el data que tienen ahora las hojas."""
        leaves = self._graph.leaves
        if self._parameters:
            shared[: self._graph.parameters] = self._parameters.data
        try:  # struct convierte una lista de floats en la tercera parte del tiempo que numpy
            self._pack.pack_into(shared.data, 8 * self._graph.parameters, *[v.data for v in leaves])
        except struct.error:
            v = next(v for v in leaves if not hasattr(v.data, '__float__'))
            raise TypeError(f'el data de una hoja tiene que ser un número: {v!r}') from None

    def _set_roots(self) -> Any:
        """Sin entradas: pone en las raíces el data que se calculó."""
        values = self._shared[self._graph.roots]
        for v, data in zip(self._roots, values.tolist(), strict=True):
            v.data = data
        return self._roots[0].data if self._single else values

    def _run_once(self, backend: Backend, grads: Floats | None = None) -> None:
        """Calcula en `_shared` lo que no depende de las entradas o, con `grads`, lo deriva."""
        program, column = self._graph.once, self._shared.reshape(-1, 1)
        if not program.nodes:
            return
        column_grads = _NO_ROWS if grads is None else grads.reshape(-1, 1)
        task = Task(
            program.instructions,
            program.terms,
            shared=_NOTHING,
            shared_grads=_NOTHING,
            batch=_NO_ROWS,
            rows=column,
            row_grads=column_grads,
            roots=_NO_ROOTS,
            out=_NO_ROWS,
        )
        if grads is None:
            _run(backend, task, program.nodes, 0, 1)
        else:
            backend.run(*task, 0, 1, len(program.nodes) + 1, -1, True)

    def _task(self, batch: Floats, buffers: tuple[Floats, Floats], out: Floats) -> Task:
        """La tarea de calcular, y quizás derivar, lo que depende de las entradas."""
        graph = self._graph
        sums = np.zeros(len(self._shared))
        return Task(*graph.each[:2], self._shared, sums, batch, *buffers, graph.roots, out)

    def _buffers(self, n: int) -> tuple[Floats, Floats]:
        """Los renglones para un bloque de `n` filas; si el anterior era igual, los mismos."""
        if self._rows.shape[1] != _padded(n):
            self._rows = _buffer(self._graph.rows, n)
            self._row_grads = _buffer(self._graph.rows, n)
        return self._rows, self._row_grads

    def _run_blocks(self, backend: Backend, batch: Floats, block: int, out: Floats) -> Floats:
        """Calcula un lote grande de a un bloque y, con cada uno todavía en la caché, lo deriva.

        Así la memoria no depende del tamaño del lote. Devuelve la suma de los gradientes.
        """
        rows = self._graph.rows
        root = int(self._graph.roots[0]) - len(self._shared)

        def run(start: int, stop: int) -> Floats:
            task = self._task(batch, (_buffer(rows, block), _buffer(rows, block)), out)
            _run(backend, task, self._graph.each.nodes, start, stop, root, self._single)
            return task.shared_grads

        blocks = -(-len(batch) // block)
        if not backend.parallel or blocks < 4 * _PARTS:
            return run(0, len(batch))
        cuts = [blocks * k // _PARTS * block for k in range(_PARTS)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            sums = list(pool.map(run, cuts, [*cuts[1:], len(batch)]))
        return sum(sums[1:], start=sums[0])

    def _derive_block(self, backend: Backend, task: Task) -> None:
        """Deriva el bloque que calculó forward."""
        done = len(task.instructions) + 1
        root = int(task.roots[0]) - len(self._shared)
        backend.run(*task, 0, self._batch, done, root, True)
        self._sums, self._block = task.shared_grads, None

    def _accumulate(self, grads: Floats) -> None:
        """Suma los gradientes en las hojas: o en todas o, si alguna falla, en ninguna."""
        first, leaves = self._graph.parameters, self._graph.leaves
        loose = grads[first : first + len(leaves)].tolist()
        totals = [v.grad + grad for v, grad in zip(leaves, loose, strict=True)]
        if self._parameters:
            self._parameters.grad += grads[:first]
        for v, total in zip(leaves, totals, strict=True):
            v.grad = total


@functools.cache
def _backend() -> Backend:
    """Con qué se ejecutan las cintas: numba si está instalado y, si no, numpy."""
    try:
        return _kernels.compiled()
    except ImportError:
        logging.getLogger('michigrad').warning(
            'La cinta va a usar numpy; con numba es mucho más rápida: pip install "michigrad[fast]"'
        )
        return _kernels.NUMPY


def _padded(n: int) -> int:
    return -(-n // 8) * 8


def _buffer(rows: int, n: int) -> Floats:
    """Una matriz sin inicializar con lugar para `n` filas del lote y los dos renglones auxiliares.

    Cada renglón empieza en un múltiplo de 64 bytes: las instrucciones vectoriales los leen de a 64
    y, si no, cada lectura cuesta dos.
    """
    size = (rows + 2) * _padded(n)
    flat = np.empty(size + 8)
    start = -(flat.ctypes.data // 8) % 8
    return flat[start : start + size].reshape(rows + 2, -1)


def _block_size(backend: Backend, rows: int) -> int:
    """Cuántas filas del lote entran en la caché con sus gradientes."""
    return max(backend.block_bytes // (16 * (rows + 2)) // 8 * 8, 8)


def _run(
    backend: Backend,
    task: Task,
    nodes: list[Value],
    start: int,
    stop: int,
    root: int = -1,
    derive: bool = False,
) -> None:
    """Ejecuta una tarea; donde se detiene, controla si es que una operación no tiene resultado."""
    first = 0
    while start < stop:
        start, first = backend.run(*task, start, stop, first, root, derive)
        if start < stop:
            n = min(task.rows.shape[1], stop - start)
            _check_results(task, first, nodes[first], start, n)
            first += 1


def _check_results(task: Task, i: int, v: Value, start: int, n: int) -> None:
    """Repite con el motor lo que dio inf o nan en la instrucción `i`, que calcula `v`.

    Raises:
        ValueError, ZeroDivisionError, OverflowError: el del motor, con la fila del lote.
    """
    _, out, a, b, _ = task.instructions[i].tolist()
    shared = len(task.shared)
    for j in np.flatnonzero(~np.isfinite(task.rows[out, :n])).tolist():
        x, y = (float(task.shared[k] if k < shared else task.rows[k - shared, j]) for k in (a, b))
        try:
            _repeat(v, x, y)
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            name = f'{v.name}: ' if v.name else ''
            where = f' (fila {start + j} del lote)' if task.batch.shape[1] else ''
            raise type(error)(f'{name}{error}{where}') from None


def _repeat(v: Value, x: float, y: float) -> Any:
    """Hace con el motor la operación que dio `v`, para que dé su error si no tiene resultado."""
    left, right = v._prev[0], v._prev[-1]
    a, b = Value(x, name=left.name), Value(y, name=right.name)
    if v._op == '/':
        return a / b
    if v._op.startswith('**'):
        return a**b if v._op == '**' else a**y
    return getattr(a, v._op)()


def _numbers(expected: str, data: Any) -> Floats:
    """Devuelve `data` como un array de float64, sin copiarlo si ya lo es.

    Raises:
        TypeError, ValueError: si no es de números reales; el mensaje empieza con `expected`.
    """
    try:
        array = np.asarray(data)
    except ValueError:
        raise ValueError(f'{expected}; llegó uno con filas de distinto largo') from None
    if array.dtype.kind not in 'biuf':
        raise TypeError(f'{expected}, de números reales; llegó uno de {array.dtype}')
    return array.astype(np.float64, copy=False)


def _values(what: str, values: Any) -> list[Value]:
    """Controla que `values` sea una lista de Values."""
    if isinstance(values, Value) or not hasattr(values, '__iter__'):
        raise TypeError(f'{what} es una lista de Values: llegó {reprlib.repr(values)}')
    checked = list(values)
    for v in checked:
        if not isinstance(v, Value):
            raise TypeError(f'{what} es una lista de Values: tiene {reprlib.repr(v)}')
    return checked


def _leaves(what: str, values: Any) -> list[Value]:
    """Controla que `values` sea una lista de hojas sin repetir."""
    leaves = _values(what, values)
    seen = set()
    for v in leaves:
        if v._prev:
            raise ValueError(f'{what} lleva hojas, y {_named(v)} sale de la operación {v._op!r}')
        if v in seen:
            raise ValueError(f'{what} tiene repetido a {_named(v)}')
        seen.add(v)
    return leaves


def _named(v: Value) -> str:
    return v.name or repr(v)


# Grabar: del grafo de Values a los programas que describe michigrad._kernels.


class _Program(NamedTuple):
    instructions: Ints
    terms: Ints
    nodes: list[Value]  # el que calcula cada instrucción


class _Graph(NamedTuple):
    """Un grafo traducido.

    Los números compartidos por todas las filas son, en orden: los parámetros del ParameterArray,
    las demás hojas, los exponentes fijos y los nodos que no dependen de las entradas. A estos los
    calcula el programa `once`, una vez por forward: para él no hay números compartidos, y cada uno
    es un renglón de una sola columna. Los renglones del programa `each` son las entradas y los
    nodos que dependen de ellas.
    """

    parameters: int  # cuántos
    leaves: list[Value]
    exponents: list[float]
    shared: int  # cuántos números compartidos
    rows: int  # cuántos renglones
    roots: Ints  # como operandos de `each`
    once: _Program
    each: _Program


class _Columns(NamedTuple):
    """Los nodos en orden topológico y, detrás, los exponentes fijos: el 2 de x**2 es otra hoja."""

    code: Positions
    a: Positions  # las posiciones de los operandos: -1 en una hoja, y b = a si hay uno solo
    b: Positions
    varies: Mask  # si depende de las entradas


def _record(roots: list[Value], inputs: list[Value], parameters: list[Value]) -> _Graph:
    """Traduce el grafo de `roots`, en un tiempo proporcional a su cantidad de nodos."""
    order = topological_order(Value(0, roots))[:-1]  # el Value auxiliar queda último
    position: dict[Value | None, int] = {v: i for i, v in enumerate(order)}
    _check_graph(order)
    _check_inputs(inputs, position, parameters)
    ops = {v._op for v in order}
    exponents = sorted(op for op in ops if op.startswith('**') and op != '**')
    at_inputs, at_roots = [position[v] for v in inputs], [position[v] for v in roots]
    columns = _columns(order, position, exponents, at_inputs)
    chains, fused = _find_chains(columns, at_roots)

    # El lugar de cada nodo: primero los números compartidos y, a continuación, los renglones.
    is_leaf = columns.code == _LEAF
    place = np.full(len(is_leaf), -1)
    loose = is_leaf.copy()  # las hojas que no son entradas ni parámetros
    loose[at_inputs] = False
    for k, v in enumerate(parameters):
        if v in position:
            place[position[v]] = k
            loose[position[v]] = False
    once = np.flatnonzero(~is_leaf & ~columns.varies)
    each = np.flatnonzero(~is_leaf & columns.varies & ~fused)
    placed = np.concatenate([np.flatnonzero(loose), once, np.array(at_inputs, dtype=int), each])
    place[placed] = len(parameters) + np.arange(len(placed))
    rows = len(inputs) + len(each)
    shared = len(parameters) + len(placed) - rows
    once_code = _instructions(once, columns, place, 0)
    each_code = _instructions(each, columns, place, shared)
    terms = _write_dots(each_code, each, chains, columns, place, shared)
    return _Graph(
        parameters=len(parameters),
        leaves=[order[i] for i in np.flatnonzero(loose[: len(order)]).tolist()],
        exponents=[float(op[2:]) for op in exponents],
        shared=shared,
        rows=rows,
        roots=place[at_roots].astype(np.int32),
        once=_Program(once_code, terms[:0], [order[i] for i in once.tolist()]),
        each=_Program(each_code, terms, [order[i] for i in each.tolist()]),
    )


def _check_graph(order: list[Value]) -> None:
    for v in order:
        if v._rule or v._children:
            raise ValueError(
                f'una cinta no sabe repetir la operación propia {v._op!r}, que da {_named(v)}: '
                'armala con las operaciones de Value'
            )


def _check_inputs(
    inputs: list[Value], position: Mapping[Value | None, int], parameters: list[Value]
) -> None:
    trained = set(parameters)
    for v in inputs:
        if v not in position:
            raise ValueError(f'la entrada {_named(v)} no influye en el resultado')
        if v in trained:
            raise ValueError(f'{_named(v)} no puede ser a la vez una entrada y un parámetro')


def _columns(
    order: list[Value],
    position: dict[Value | None, int],
    exponents: list[str],
    at_inputs: list[int],
) -> _Columns:
    codes = OPCODES | dict.fromkeys(exponents, POW_CONST)
    nodes = len(order)
    code, a, b = np.full((3, nodes + len(exponents)), _LEAF)
    try:
        code[:nodes] = [_LEAF if v._a is None else codes[v._op] for v in order]
    except KeyError as error:
        raise ValueError(f'una cinta no conoce la operación {error}') from None
    a[:nodes] = [position.get(v._a, -1) for v in order]
    b[:nodes] = [position.get(v._b, -1) for v in order]
    b = np.where(b < 0, a, b)
    for i in np.flatnonzero(code == POW_CONST).tolist():
        b[i] = nodes + exponents.index(order[i]._op)
    varies = bytearray(len(code) + 1)  # uno de más, siempre en 0: el operando -1 de las hojas
    for i in at_inputs:
        varies[i] = 1
    if at_inputs:
        for i, (left, right) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
            if varies[left] or varies[right]:
                varies[i] = 1
    return _Columns(code, a, b, np.frombuffer(varies, dtype=bool)[:-1])


class _Chains(NamedTuple):
    """Las sumas de productos w·x, con w compartido y x de una fila, que hacen las neuronas.

    La suma k es el nodo de posición ends[k]; vale firsts[k] más los productos
    products[starts[k] : stops[k]], que ya no hace falta calcular por separado.
    """

    ends: Positions
    firsts: Positions
    starts: Positions
    stops: Positions
    products: Positions


def _find_chains(columns: _Columns, at_roots: list[int]) -> tuple[_Chains, Mask]:
    """Devuelve las cadenas y qué nodos quedan adentro de alguna, que no se usan en otra parte."""
    code, a, b, varies = columns
    operands = np.concatenate([a, b, at_roots])
    single = np.bincount(operands[operands >= 0], minlength=len(code)) == 1
    product = (code == MUL) & single & (varies[a] != varies[b])
    sums = np.flatnonzero((code == ADD) & (product[a] | product[b]))
    left, right = a[sums], b[sums]
    products = np.where(product[right], right, left)
    firsts = left + right - products
    # Una suma sigue la cadena de su primer sumando, si este también es una y no tiene otro uso.
    index = np.full(len(code), -1)
    index[sums] = np.arange(len(sums))
    chain = list(range(len(sums)))
    for i, previous in enumerate(np.where(single[firsts], index[firsts], -1).tolist()):
        if previous >= 0:
            chain[i] = chain[previous]
    by_chain = np.argsort(np.array(chain, dtype=int), kind='stable')
    starts = np.unique(np.array(chain, dtype=int)[by_chain], return_index=True)[1]
    stops = np.append(starts[1:], len(sums))[: len(starts)]
    ends = sums[by_chain][stops - 1]
    fused = np.zeros(len(code), dtype=bool)
    fused[products] = True
    fused[sums] = True
    fused[ends] = False
    return _Chains(ends, firsts[by_chain][starts], starts, stops, products[by_chain]), fused


def _instructions(positions: Positions, columns: _Columns, place: Positions, first: int) -> Ints:
    """Las instrucciones de los nodos de `positions`, que van a los renglones desde `first`."""
    instructions = np.zeros((len(positions), 5), dtype=np.int32)
    instructions[:, 0] = columns.code[positions]
    instructions[:, 1] = place[positions] - first
    instructions[:, 2] = place[columns.a[positions]]
    instructions[:, 3] = place[columns.b[positions]]
    return instructions


def _write_dots(
    instructions: Ints,
    positions: Positions,
    chains: _Chains,
    columns: _Columns,
    place: Positions,
    first: int,
) -> Ints:
    """Cambia por un DOT la instrucción de la última suma de cada cadena; devuelve los términos."""
    k = np.searchsorted(positions, chains.ends)
    instructions[k, 0] = DOT
    instructions[k, 2] = place[chains.firsts]
    instructions[k, 3] = chains.starts
    instructions[k, 4] = chains.stops
    left, right = columns.a[chains.products], columns.b[chains.products]
    x = np.where(columns.varies[left], left, right)
    w = left + right - x
    return np.column_stack([place[w], place[x] - first]).astype(np.int32)
