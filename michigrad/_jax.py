"""Una cinta en JAX: el grafo de un ejemplo, como una función pura sobre arrays.

XLA, el compilador de JAX, tarda según cuántas operaciones sobre arrays recibe, y no según cuántos
números tienen: con una por nodo, una red mediana tardaría minutos en compilarse. Por eso el grafo
se reparte en pasos, y cada uno calcula todos los nodos que puede:

- La altura de un nodo es uno más que la mayor de sus operandos. Los que tienen la misma altura y la
  misma operación no dependen unos de otros: son una sola operación sobre arrays.
- Una cadena de sumas, como w₀·x₀ + w₁·x₁ + b, cuenta como un nodo; si no, cada + tendría otra
  altura. Las sumas que combinan cada lista de x con cada lista de w, como las de una capa, son un
  producto de matrices.

Cada paso da un array de una dimensión. El lugar de un nodo es qué array y qué posición.
"""

from __future__ import annotations

import itertools
import reprlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from michigrad._kernels import OPCODES, grad_table, value_table
from michigrad.engine import Value, topological_order

# Cuántas operaciones sobre arrays puede tener un grafo. Lo que tarda XLA crece con el cuadrado:
# tests/benchmarks/bench_jax.py mide cuánto es, en el peor caso, con esta cantidad.
MAX_OPERATIONS = 500

Places = npt.NDArray[np.intp]  # la última dimensión es el par (array, posición)

_VALUES, _GRADS = value_table(jnp), grad_table(jnp)


def to_function(
    roots: list[Value], examples: list[Value], trained: list[Value], single: bool
) -> Callable[..., Any]:
    """La función f(leaves, inputs) que calcula `roots`.

    `leaves` es el data de `trained` e `inputs`, el de `examples`; las demás hojas son constantes.
    """
    steps, places, constants = _schedule(roots, examples, trained)

    def f(leaves: Any, inputs: Any = ()) -> Any:
        """El resultado del grafo grabado, para un ejemplo.

        Args:
            leaves: un número por hoja, en el orden de los nombres que dio `to_jax`.
            inputs: un número por entrada, en el orden de `inputs`. Sin entradas no va.

        Raises:
            TypeError, ValueError: si no son arrays de números reales de esas formas.
        """
        leaves = _array('leaves', leaves, len(trained))
        inputs = _array('inputs', inputs, len(examples))
        dtype = jnp.result_type(float, leaves, inputs)
        arrays = [x.astype(dtype) for x in (leaves, inputs, jnp.asarray(constants))]
        for step in steps:
            arrays.append(step.run(arrays))
        out = _read(arrays, places)
        return out[0] if single else out

    return f


def _array(name: str, numbers: Any, size: int) -> Any:
    expected = f'{name} es un array de forma ({size},)'
    try:
        array = jnp.asarray(numbers)
    except (TypeError, ValueError):
        raise TypeError(f'{expected}: llegó {reprlib.repr(numbers)}') from None
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f'{expected}, de números reales: llegó uno de {array.dtype}')
    if array.shape != (size,):
        raise ValueError(
            f'{expected} y llegó uno de forma {array.shape}: f calcula un ejemplo; '
            'para un lote, jax.vmap(f, in_axes=(None, 0))(leaves, lote)'
        )
    return array


# Los pasos


class Elementwise(NamedTuple):
    """La misma operación con cada par de operandos."""

    code: int
    a: Places
    b: Places | float | None  # None: tiene un solo operando; un número: el exponente fijo

    def run(self, arrays: list[Any]) -> Any:
        a = _read(arrays, self.a)
        if self.b is None:
            return _apply(self.code, a, a)
        return _apply(self.code, a, self.b if isinstance(self.b, float) else _read(arrays, self.b))


class Sums(NamedTuple):
    """Las sumas Σ términos + Σ w·x de uno o más bloques.

    En un bloque están las sumas de cada lista de x con cada lista de w.
    """

    terms: Places  # (bloques, listas de x, listas de w, términos)
    x: Places  # (bloques, listas de x, productos)
    w: Places  # (bloques, listas de w, productos)

    def run(self, arrays: list[Any]) -> Any:
        if not self.w.size:
            return _read(arrays, self.terms).sum(-1).ravel()
        x, w = _read(arrays, self.x), _read(arrays, self.w)
        # Con menos precisión, una GPU redondea los float32 a tres dígitos antes de multiplicarlos.
        out = jnp.einsum('bim,bjm->bij', x, w, precision='highest')
        if self.terms.size:
            out += _read(arrays, self.terms).sum(-1)
        return out.ravel()


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _apply(code: int, x: Any, y: Any) -> Any:
    """x (operación) y, con las derivadas del motor: en los bordes, JAX tiene otras."""
    return _VALUES[code](x, y)


@_apply.defjvp
def _apply_jvp(code: int, operands: Any, tangents: Any) -> tuple[Any, Any]:
    x, y = operands
    out = _apply(code, x, y)
    from_x = _GRADS[code](x, y, out, tangents[0])[0]
    from_y = _GRADS[code](x, y, out, tangents[1])[1]
    return out, from_x if from_y is None else from_x + from_y


def _read(arrays: list[Any], places: Places) -> Any:
    """Los números que están en `places`, con su forma."""
    sources, positions = places.reshape(-1, 2).T
    pieces = [_take(arrays[k], positions[sources == k]) for k in np.unique(sources)]
    by_source = np.argsort(sources, kind='stable')
    return _take(jnp.concatenate(pieces), np.argsort(by_source)).reshape(places.shape[:-1])


def _take(array: Any, positions: npt.NDArray[np.intp]) -> Any:
    """array[positions]; si son correlativas, con una porción, que se deriva mucho más rápido."""
    start, stop = int(positions[0]), int(positions[-1]) + 1
    if np.array_equal(positions, np.arange(start, stop)):
        return jax.lax.slice(array, [start], [stop])
    return array.at[positions].get(mode='promise_in_bounds')


# Repartir el grafo en pasos


class Sum(NamedTuple):
    """Una cadena de sumas, Σ términos + Σ w·x, que calcula `node`."""

    node: Value
    w: tuple[Value, ...]
    x: tuple[Value, ...]
    terms: list[Value]


def _schedule(
    roots: list[Value], inputs: list[Value], leaves: list[Value]
) -> tuple[list[Elementwise | Sums], Places, npt.NDArray[np.float64]]:
    """Los pasos en orden, el lugar de cada resultado y el array de las constantes.

    Los arrays de los pasos van a continuación de los tres que están dados: las hojas, las entradas
    y las constantes.

    Raises:
        ValueError: si el grafo tiene más de MAX_OPERATIONS.
    """
    order = topological_order(Value(0, roots))[:-1]  # el Value auxiliar queda último
    given = {*leaves, *inputs}
    constants = [v for v in order if not v._prev and v not in given]
    schedule = _Schedule(leaves, inputs, constants)
    groups = sorted(_groups(order, inputs, roots).items(), key=lambda group: group[0])
    for (_, _, op, *_), nodes in groups:
        if op == '+':
            schedule.add_sums(nodes)
        else:
            schedule.add_elementwise(op, nodes)
        if schedule.operations > MAX_OPERATIONS:
            raise ValueError(
                f'el grafo tiene {groups[-1][0][0]} operaciones una detrás de otra: para JAX son '
                f'más de {MAX_OPERATIONS} operaciones sobre arrays y podría tardar minutos en '
                'compilarlas. Usá Tape.forward, que no compila el grafo y no tiene máximo'
            )
    return schedule.steps, schedule.places(roots), np.array([v.data for v in constants], float)


def _groups(order: list[Value], inputs: list[Value], roots: list[Value]) -> dict[Any, list[Any]]:
    """Los nodos que se pueden calcular a la vez, por altura y operación; las sumas, como Sum.

    También se separa lo que no depende de las entradas, para que vmap no lo repita en cada fila.
    """
    uses = Counter(itertools.chain(roots, *(v._prev for v in order)))
    varies = set(inputs)
    inner: set[Value] = set()  # los que son solo un pedazo de la suma que los usa
    for v in order:
        if not varies.isdisjoint(v._prev):
            varies.add(v)
        if v._op == '+':
            pieces = (u for u in v._prev if u._prev and u._op in ('+', '*') and uses[u] == 1)
            inner.update(u for u in pieces if (u in varies) == (v in varies))
    height: dict[Value, int] = {}
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for v in order:
        height[v] = max((height[u] for u in v._prev), default=-1) + (v not in inner)
        if v in inner or not v._prev:
            continue
        key = (height[v], v in varies, v._op)
        if v._op == '+':
            found = _sum(v, inner)
            groups[(*key, len(found.terms), len(found.w))].append(found)
        else:
            groups[key].append(v)
    return groups


def _sum(node: Value, inner: set[Value]) -> Sum:
    """La cadena de sumas que termina en `node`, de izquierda a derecha."""
    terms, w, x = [], [], []
    pending = [node]
    while pending:
        v = pending.pop()
        if v is not node and v not in inner:
            terms.append(v)
        elif v._op == '+':
            pending.extend(v._prev[::-1])
        else:
            left, right = v._prev
            w.append(left)
            x.append(right)
    return Sum(node, tuple(w), tuple(x), terms)


class _Schedule:
    """Los pasos que ya están, y el lugar donde dejan cada nodo."""

    def __init__(self, *given: Sequence[Value]) -> None:
        self.steps: list[Elementwise | Sums] = []
        self.operations = 0
        self._place: dict[Value, tuple[int, int]] = {}
        self._arrays = itertools.count()
        for values in given:
            self._put(values)

    def places(self, values: Any) -> Places:
        """Los lugares de listas de Values, o de listas de listas."""
        nodes = np.array(values, dtype=object)
        return np.array(self._where(nodes.ravel()), dtype=np.intp).reshape(*nodes.shape, 2)

    def add_elementwise(self, op: str, nodes: list[Value]) -> None:
        nodes.sort(key=lambda v: self._where(v._prev))  # así, suelen leerse con una porción
        a, *b = (self.places(operands) for operands in zip(*(v._prev for v in nodes), strict=True))
        if op.startswith('**') and op != '**':
            self._add(Elementwise(OPCODES['**n'], a, float(op[2:])), nodes)
        else:
            self._add(Elementwise(OPCODES[op], a, b[0] if b else None), nodes)

    def add_sums(self, sums: list[Sum]) -> None:
        """Un paso por cada forma que tienen los bloques."""
        shapes = defaultdict(list)
        for block in self._blocks(sums):
            shapes[len(block), len(block[0])].append(block)
        for blocks in shapes.values():
            step = Sums(
                terms=self.places([[[s.terms for s in row] for row in block] for block in blocks]),
                x=self.places([[row[0].x for row in block] for block in blocks]),
                w=self.places([[s.w for s in block[0]] for block in blocks]),
            )
            self._add(step, [s.node for block in blocks for row in block for s in row])

    def _blocks(self, sums: list[Sum]) -> Iterable[list[list[Sum]]]:
        """Junta en un bloque las listas de x que se combinan con las mismas listas de w."""
        rows = defaultdict(list)
        for s in sorted(sums, key=lambda s: [self._where(vs) for vs in s[1:]]):
            rows[s.x or s.node].append(s)
        blocks = defaultdict(list)
        for row in rows.values():
            blocks[tuple(s.w for s in row)].append(row)
        return blocks.values()

    def _where(self, values: Iterable[Value]) -> list[tuple[int, int]]:
        return [self._place[v] for v in values]

    def _add(self, step: Elementwise | Sums, nodes: list[Value]) -> None:
        self.steps.append(step)
        self._put(nodes)
        operands = [places for places in step if isinstance(places, np.ndarray)]
        self.operations += 1 + sum(len(np.unique(places[..., 0])) for places in operands)

    def _put(self, nodes: Sequence[Value]) -> None:
        """Los nodos pasan a estar, en ese orden, en el próximo array."""
        array = next(self._arrays)
        self._place.update((v, (array, i)) for i, v in enumerate(nodes))
