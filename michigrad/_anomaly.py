"""De dónde salió el nan: parar en la primera operación que da inf o nan."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from michigrad import engine
from michigrad._numbers import label, short
from michigrad._rules import NUMPY, Rule, key
from michigrad.engine import Value, topological_order

# Si en este hilo hay un detect_anomaly abierto.
watching: ContextVar[bool] = ContextVar('watching', default=False)

# Afuera de todo detect_anomaly el motor no se entera de que existe. Adentro, dos de sus piezas se
# cambian por otras que además miran; _open es cuántos hay abiertos, y _originals, lo que se cambió.
_lock = threading.Lock()
_open = 0
_originals: dict[str, Any] = {}


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Adentro de este `with`, la primera operación que da inf o nan lanza un error que la nombra.

        with detect_anomaly():
            loss = mse_loss(model(x), y)
            loss.backward()

    Mira cada operación que se hace, cada gradiente que reparte `backward` y, en una cinta, cada
    fila de `forward` y `backward`. De una operación propia se entera en la que usa su resultado. Es
    para buscar un error: adentro todo es más lento; afuera no cuesta nada. Vale solo para el hilo
    que lo abre. Es torch.autograd.detect_anomaly, que mira solo hacia atrás.

    Raises:
        RuntimeError: con la operación, sus operandos y, en una cinta, la fila.
    """
    global _open
    with _lock:
        if not _open:
            _originals.update(node=engine._node, backward=vars(Value)['_backward'])
            _replace(_watched_node, property(_watched_backward, _originals['backward'].fset))
        _open += 1
    token = watching.set(True)
    try:
        yield
    finally:
        watching.reset(token)
        with _lock:
            _open -= 1
            if not _open:
                _replace(_originals['node'], _originals['backward'])


def _replace(node: Any, backward: Any) -> None:
    for owner, name, new in ((engine, '_node', node), (Value, '_backward', backward)):
        setattr(owner, name, new)


def _watched_node(*args: Any) -> Value:
    out: Value = _originals['node'](*args)
    if watching.get():
        _check_data(out)
    return out


def _watched_backward(v: Value) -> Callable[[], None]:
    rule: Callable[[], None] = _originals['backward'].fget(v)
    if not watching.get():
        return rule

    def watched() -> None:
        _check_data(v)
        before = [u.grad for u in v._prev]
        rule()
        for u, old in zip(v._prev, before, strict=True):
            if not math.isfinite(u.grad):
                text = _backward_text(v, u, [x.data for x in v._prev], u.grad, v.grad)
                already = '' if math.isfinite(old) else f'; antes ya era {old}: ¿falta zero_grad()?'
                raise RuntimeError(text + already)

    return watched


def _check_data(out: Value) -> None:
    """Controla un resultado; si no es finito, la culpa es de la primera operación que dio eso."""
    if not math.isfinite(out.data):
        for v in topological_order(out):
            if v._prev and not math.isfinite(v.data):
                raise RuntimeError(_forward_text(v, [u.data for u in v._prev], v.data))


def _forward_text(v: Value, operands: list[float], data: float, where: str = '') -> str:
    name = f', que da {label(v)},' if v.name else ''
    return f'{short(v._op)}{name} dio {data}{where}, con {_with(v, operands)}'


def _backward_text(
    v: Value, u: Value, operands: list[float], grad: float, out_grad: float, where: str = ''
) -> str:
    operand = label(u) if u.name else f'{operands[v._prev.index(u)]}'
    return (
        f'al derivar {short(v._op)}{where}, con {_with(v, operands)}, el gradiente de {operand} '
        f'dio {grad}; el del resultado es {out_grad}'
    )


def _with(v: Value, operands: list[float]) -> str:
    """Los operandos de `v`, cada uno con su número."""
    pairs = zip(v._prev, operands, strict=True)
    return ' y '.join(f'{label(u)}={x}' if u.name else str(x) for u, x in pairs)


# La cinta calcula de a muchas filas y muchos nodos, así que no hay una operación donde parar: lo
# que hizo se repite con numpy, nodo por nodo.


def check_tape(
    roots: list[Value], batch: Mapping[Value, Any], leaves: Mapping[Value, float], derive: bool
) -> None:
    """Busca la primera operación de una cinta que da inf o nan, y la primera fila en que pasa.

    Args:
        roots: los resultados de la cinta.
        batch: la columna del lote de cada entrada.
        leaves: el data de las hojas que no lo tienen en el Value.
        derive: si mira también el backward pass.

    Raises:
        RuntimeError: si hay alguna.
    """
    order = topological_order(Value(0, roots, 'raíces'))[:-1]
    with np.errstate(all='ignore'):
        data: dict[Value, Any] = {}
        for v in order:
            if v._prev:
                x, y, rule = _step(v, data)
                data[v] = rule(x, y)
                j = _first_row(data[v])
                if j is not None:
                    operands = [_at(data[u], j) for u in v._prev]
                    number, where = _at(data[v], j), _where(data[v], j)
                    raise RuntimeError(_forward_text(v, operands, number, where))
            else:
                data[v] = batch[v] if v in batch else np.float64(leaves.get(v, v.data))
        if derive:
            _check_tape_backward(order, data, batch)


def _check_tape_backward(
    order: list[Value], data: Mapping[Value, Any], batch: Mapping[Value, Any]
) -> None:
    path: set[Value] = set()  # los nodos que reciben gradiente: las entradas no
    for v in order:
        if not path.isdisjoint(v._prev) if v._prev else v not in batch:
            path.add(v)
    grads: dict[Value, Any] = {order[-1]: 1.0}
    for v in reversed(order):
        if not v._prev or v not in grads:
            continue
        x, y, rule = _step(v, data)
        for u, share in zip(v._prev, (rule.to_x, rule.to_y), strict=False):
            if not share or u not in path:
                continue
            grads[u] = grads.get(u, 0.0) + share(x, y, data[v], grads[v])
            j = _first_row(grads[u])
            if j is not None:
                operands = [_at(data[w], j) for w in v._prev]
                numbers = _at(grads[u], j), _at(grads[v], j)
                raise RuntimeError(_backward_text(v, u, operands, *numbers, _where(grads[u], j)))


def _step(v: Value, data: Mapping[Value, Any]) -> tuple[Any, Any, Rule]:
    """Los operandos de `v`, o su exponente fijo, y su regla."""
    n = v._fixed_exponent
    return data[v._prev[0]], data[v._prev[-1]] if n is None else n, NUMPY[key(v._op)]


def _first_row(x: Any) -> int | None:
    """La primera fila donde `x` no es finito; la 0 si es el mismo número en todas."""
    bad = np.flatnonzero(~np.isfinite(x))
    return int(bad[0]) if len(bad) else None


def _where(x: Any, row: int) -> str:
    return f' en la fila {row} del lote' if getattr(x, 'ndim', 0) else ''


def _at(x: Any, row: int) -> float:
    return float(x[row] if getattr(x, 'ndim', 0) else x)
