"""Cómo se ejecuta el programa de una cinta: con numpy o, si está instalado, con numba.

`michigrad.tape` traduce un grafo a un programa: una matriz con una instrucción por renglón,

    (código, out, a, b, 0)            out = a (operación) b; si la operación es de uno solo, b = a
    (DOT, out, a, desde, hasta)       out = a + Σ w·x, con los (w, x) de terms[desde:hasta]

que se ejecuta de a un bloque de filas del lote. La matriz `rows` tiene una columna por fila del
bloque y un renglón por nodo; `out` y `x` son renglones. `w` es un índice de `shared`, los números
que son los mismos en todas las filas, como los parámetros. `a` y `b` pueden ser cualquiera de las
dos cosas: los menores que len(shared) son uno de esos números; los demás, el renglón que queda al
restarles len(shared).

Todo está escrito dos veces: `run_numpy` hace cada instrucción con una llamada a numpy y `run_loops`
con un bucle, que en Python es lentísimo y compilado con numba es lo más rápido. Las derivadas son
las de `michigrad.engine`, operación por operación.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


class Task(NamedTuple):
    """Un programa con los arrays sobre los que trabaja.

    Los primeros renglones de `rows` son las columnas de `batch`, que no necesitan gradiente, y los
    dos últimos son auxiliares.
    """

    instructions: Ints
    terms: Ints
    shared: Floats
    shared_grads: Floats  # donde se suma el gradiente de los números compartidos
    batch: Floats
    rows: Floats
    row_grads: Floats
    roots: Ints  # los operandos que se copian en las columnas de `out`
    out: Floats


ADD, SUB, MUL, DIV, POW, POW_CONST, NEG, ABS = range(8)
EXP, LOG, SQRT, SIN, COS, TANH, SIGMOID, RELU, DOT = range(8, 17)

# El código de cada operación del motor; '**' es la potencia de exponente Value y '**n', la de
# exponente fijo, que en el motor lleva el exponente escrito: '**2', '**0.5'.
OPCODES = {
    '+': ADD,
    '-': SUB,
    '*': MUL,
    '/': DIV,
    '**': POW,
    '**n': POW_CONST,
    'neg': NEG,
    'abs': ABS,
    'exp': EXP,
    'log': LOG,
    'sqrt': SQRT,
    'sin': SIN,
    'cos': COS,
    'tanh': TANH,
    'sigmoid': SIGMOID,
    'ReLU': RELU,
}

# Las que no siempre tienen resultado real. En todas, la falta de resultado se nota en que da inf o
# nan; como también puede darlo bien (exp(inf)), `run` se detiene ahí y decide quien la llamó.
FALLIBLE = (DIV, POW, POW_CONST, EXP, LOG, SQRT, SIN, COS)


def value_table(xp: Any) -> dict[int, Callable[[Any, Any], Any]]:
    """Lo que vale cada operación, con las funciones de `xp`: numpy o jax.numpy."""

    def sigmoid(x: Any, _: Any) -> Any:
        e = xp.exp(-xp.abs(x))
        return xp.where(x >= 0, 1 / (1 + e), e / (1 + e))

    return {
        ADD: xp.add,
        SUB: xp.subtract,
        MUL: xp.multiply,
        DIV: xp.divide,
        POW: xp.float_power,  # np.power con 0.5 es np.sqrt: da nan en -inf
        POW_CONST: xp.float_power,
        NEG: lambda x, _: -x,
        ABS: lambda x, _: xp.abs(x),
        EXP: lambda x, _: xp.exp(x),
        LOG: lambda x, _: xp.log(x),
        SQRT: lambda x, _: xp.sqrt(x),
        SIN: lambda x, _: xp.sin(x),
        COS: lambda x, _: xp.cos(x),
        TANH: lambda x, _: xp.tanh(x),
        SIGMOID: sigmoid,
        RELU: lambda x, _: xp.where(x < 0, 0.0, x),
    }


def grad_table(xp: Any) -> dict[int, Callable[[Any, Any, Any, Any], tuple[Any, Any]]]:
    """Lo que cada operación out = x (operación) y les pasa a x e y del gradiente g de out.

    Es lineal en g. El segundo es None si no hay segundo operando o si es fijo.
    """

    def base_grad(x: Any, y: Any, g: Any) -> Any:
        slope = xp.where(y == 0, 0.0, y * xp.float_power(x, y - 1))
        return xp.where(y == 0, 0.0, slope * g)  # ni siquiera un gradiente infinito

    def exponent_grad(x: Any, out: Any, g: Any) -> Any:
        slope = xp.where(x > 0, out * xp.log(x), xp.where(x == 0, 0.0, np.nan))
        return slope * g

    def sign(x: Any) -> Any:
        return xp.where(x > 0, 1.0, xp.where(x < 0, -1.0, 0.0))

    return {
        ADD: lambda x, y, out, g: (g, g),
        SUB: lambda x, y, out, g: (g, -g),
        MUL: lambda x, y, out, g: (y * g, x * g),
        DIV: lambda x, y, out, g: (1 / y * g, -out / y * g),
        POW: lambda x, y, out, g: (base_grad(x, y, g), exponent_grad(x, out, g)),
        POW_CONST: lambda x, y, out, g: (base_grad(x, y, g), None),
        NEG: lambda x, y, out, g: (-g, None),
        ABS: lambda x, y, out, g: (sign(x) * g, None),
        EXP: lambda x, y, out, g: (out * g, None),
        LOG: lambda x, y, out, g: (1 / x * g, None),
        SQRT: lambda x, y, out, g: (0.5 / out * g, None),
        SIN: lambda x, y, out, g: (xp.cos(x) * g, None),
        COS: lambda x, y, out, g: (-xp.sin(x) * g, None),
        TANH: lambda x, y, out, g: ((1 - out * out) * g, None),
        SIGMOID: lambda x, y, out, g: (out * (1 - out) * g, None),
        RELU: lambda x, y, out, g: (xp.where(x > 0, g, 0.0), None),
    }


_VALUES, _GRADS = value_table(np), grad_table(np)


def _operand_numpy(i: int, shared: Floats, rows: Floats, n: int) -> Any:
    return shared[i] if i < len(shared) else rows[i - len(shared), :n]


def _forward_numpy(
    instructions: Ints, terms: Ints, shared: Floats, rows: Floats, n: int, first: int
) -> int:
    """Calcula las `n` filas de un bloque; si se detiene, devuelve la posición de la instrucción."""
    with np.errstate(all='ignore'):
        for i, (op, out, a, b, end) in enumerate(instructions[first:].tolist(), first):
            x = _operand_numpy(a, shared, rows, n)
            if op == DOT:
                w, r = terms[b:end].T
                rows[out, :n] = x + shared[w] @ rows[r, :n]
                continue
            rows[out, :n] = _VALUES[op](x, _operand_numpy(b, shared, rows, n))
            if op in FALLIBLE and not np.isfinite(rows[out, :n]).all():
                return i
    return len(instructions)


def _backward_numpy(
    instructions: Ints,
    terms: Ints,
    shared: Floats,
    shared_grads: Floats,
    rows: Floats,
    grads: Floats,
    inputs: int,
    n: int,
) -> None:
    """Lleva hacia atrás los gradientes que tiene `grads`, en las `n` filas de un bloque."""

    def accumulate(i: int, grad: Any) -> None:
        if i >= len(shared):
            grads[i - len(shared), :n] += grad
        else:
            shared_grads[i] += np.sum(grad)

    with np.errstate(all='ignore'):
        for op, out, a, b, end in reversed(instructions.tolist()):
            g = grads[out, :n]
            if op == DOT:
                w, r = terms[b:end].T
                accumulate(a, g)
                np.add.at(shared_grads, w, rows[r, :n] @ g)  # add.at: un w puede estar repetido
                w, r = w[r >= inputs], r[r >= inputs]
                np.add.at(grads[:, :n], r, np.outer(shared[w], g))
                continue
            x = _operand_numpy(a, shared, rows, n)
            y = _operand_numpy(b, shared, rows, n)
            to_x, to_y = _GRADS[op](x, y, rows[out, :n], g)
            accumulate(a, to_x)
            if to_y is not None:
                accumulate(b, to_y)


def run_numpy(
    instructions: Ints,
    terms: Ints,
    shared: Floats,
    shared_grads: Floats,
    batch: Floats,
    rows: Floats,
    row_grads: Floats,
    roots: Ints,
    out: Floats,
    start: int,
    stop: int,
    first: int,
    root: int,
    derive: bool,
) -> tuple[int, int]:
    """Ejecuta una tarea (ver Task) sobre las filas start a stop del lote, de a un bloque.

    Args:
        first: desde qué instrucción se calcula; si no es la primera, `rows` ya tiene lo anterior.
            Con len(instructions) + 1 ya está todo calculado y solo falta derivar.
        root: el renglón de `row_grads` que se pone en 1, y los demás en 0, antes de derivar; -1 si
            ya tiene los gradientes de los que hay que partir.
        derive: si cada bloque, además de calcularse, se deriva.

    Returns:
        (stop, 0), o la fila donde empieza el bloque y la posición de una instrucción de FALLIBLE
        que dio, ya calculada, inf o nan.
    """
    inputs = batch.shape[1]
    while start < stop:
        n = min(rows.shape[1], stop - start)
        if first == 0:
            rows[:inputs, :n] = batch[start : start + n].T
        if first <= len(instructions):
            i = _forward_numpy(instructions, terms, shared, rows, n, first)
            if i < len(instructions):
                return start, i
            for k, i in enumerate(roots.tolist()):
                out[start : start + n, k] = _operand_numpy(i, shared, rows, n)
        if derive:
            if root >= 0:
                row_grads[:] = 0
                row_grads[root] = 1
            _backward_numpy(instructions, terms, shared, shared_grads, rows, row_grads, inputs, n)
        start, first = start + n, 0
    return stop, 0


def run_loops(
    instructions: Ints,
    terms: Ints,
    shared: Floats,
    shared_grads: Floats,
    batch: Floats,
    rows: Floats,
    row_grads: Floats,
    roots: Ints,
    out: Floats,
    start: int,
    stop: int,
    first: int,
    root: int,
    derive: bool,
) -> tuple[int, int]:
    """Lo mismo que run_numpy."""
    inputs = batch.shape[1]
    while start < stop:
        n = min(rows.shape[1], stop - start)
        if first == 0:
            for i in range(inputs):
                for j in range(n):
                    rows[i, j] = batch[start + j, i]
        if first <= len(instructions):
            i = _forward_loops(instructions, terms, shared, rows, n, first)
            if i < len(instructions):
                return start, i
            for k in range(len(roots)):
                row = roots[k] - len(shared)
                for j in range(n):
                    out[start + j, k] = rows[row, j] if row >= 0 else shared[roots[k]]
        if derive:
            if root >= 0:
                for i in range(len(row_grads)):
                    for j in range(n):
                        row_grads[i, j] = 1.0 if i == root else 0.0
            _backward_loops(instructions, terms, shared, shared_grads, rows, row_grads, inputs, n)
        start += n
        first = 0
    return stop, 0


def _forward_loops(
    instructions: Ints, terms: Ints, shared: Floats, rows: Floats, n: int, first: int
) -> int:
    scratch = len(rows) - 2
    for i in range(first, len(instructions)):
        op = instructions[i, 0]
        out = instructions[i, 1]
        x = _operand_row(instructions[i, 2], shared, rows, scratch, n)
        if op == DOT:
            for j in range(n):
                rows[out, j] = rows[x, j]
            _add_products(out, instructions[i, 3], instructions[i, 4], terms, shared, rows, n)
            continue
        y = _operand_row(instructions[i, 3], shared, rows, scratch + 1, n)
        # Las más usadas tienen un bucle propio, que se compila a instrucciones vectoriales.
        if op == ADD:
            for j in range(n):
                rows[out, j] = rows[x, j] + rows[y, j]
        elif op == SUB:
            for j in range(n):
                rows[out, j] = rows[x, j] - rows[y, j]
        elif op == MUL:
            for j in range(n):
                rows[out, j] = rows[x, j] * rows[y, j]
        elif op == RELU:
            for j in range(n):
                rows[out, j] = 0.0 if rows[x, j] < 0 else rows[x, j]
        else:
            finite = True
            for j in range(n):
                rows[out, j] = _value(op, rows[x, j], rows[y, j])
                finite = finite and math.isfinite(rows[out, j])
            if not finite and op in FALLIBLE:
                return i
    return len(instructions)


def _backward_loops(
    instructions: Ints,
    terms: Ints,
    shared: Floats,
    shared_grads: Floats,
    rows: Floats,
    grads: Floats,
    inputs: int,
    n: int,
) -> None:
    scratch = len(rows) - 2
    for i in range(len(instructions) - 1, -1, -1):
        op = instructions[i, 0]
        out = instructions[i, 1]
        a = instructions[i, 2]
        b = instructions[i, 3]
        x = _operand_row(a, shared, rows, scratch, n)
        to_x = _grad_row(a, shared, grads, scratch, n)
        if op == DOT:
            for j in range(n):
                grads[to_x, j] += grads[out, j]
            end = instructions[i, 4]
            _products_backward(out, b, end, terms, shared, shared_grads, rows, grads, inputs, n)
        else:
            y = _operand_row(b, shared, rows, scratch + 1, n)
            to_y = _grad_row(b, shared, grads, scratch + 1, n)
            if op == ADD:
                for j in range(n):
                    grads[to_x, j] += grads[out, j]
                for j in range(n):
                    grads[to_y, j] += grads[out, j]
            elif op == MUL:
                for j in range(n):
                    grads[to_x, j] += rows[y, j] * grads[out, j]
                for j in range(n):
                    grads[to_y, j] += rows[x, j] * grads[out, j]
            elif op == RELU:
                for j in range(n):
                    grads[to_x, j] += grads[out, j] if rows[x, j] > 0 else 0.0
            else:
                for j in range(n):
                    gx, gy = _grads(op, rows[x, j], rows[y, j], rows[out, j], grads[out, j])
                    grads[to_x, j] += gx
                    grads[to_y, j] += gy
            if b < len(shared):
                shared_grads[b] += _sum(grads, to_y, n)
        if a < len(shared):
            shared_grads[a] += _sum(grads, to_x, n)


def _value(op: int, x: float, y: float) -> float:
    """x (operación) y; si no tiene resultado, inf o nan."""
    if op == DIV:
        return x / y
    if op in (POW, POW_CONST):
        return x * x if y == 2 else x**y  # el cuadrado, aparte: es mucho más rápido
    if op == NEG:
        return -x
    if op == ABS:
        return abs(x)
    if op == EXP:
        return math.exp(x)
    if op == LOG:
        return math.log(x)
    if op == SQRT:
        return math.sqrt(x)
    if op == SIN:
        return math.sin(x)
    if op == COS:
        return math.cos(x)
    if op == TANH:
        return math.tanh(x)
    e = math.exp(-abs(x))  # SIGMOID
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


def _grads(op: int, x: float, y: float, out: float, g: float) -> tuple[float, float]:
    """Lo que la operación le pasa a x y a y (0, si no tiene o no pasa nada) del gradiente `g`."""
    if op == SUB:
        return g, -g
    if op == DIV:
        return 1 / y * g, -out / y * g
    if op in (POW, POW_CONST):
        gx = 0.0 if y == 0 else 2 * x * g if y == 2 else y * x ** (y - 1) * g
        if op == POW_CONST:
            return gx, 0.0
        return gx, (out * math.log(x) if x > 0 else 0.0 if x == 0 else math.nan) * g
    if op == NEG:
        return -g, 0.0
    if op == ABS:
        return (1.0 if x > 0 else -1.0 if x < 0 else 0.0) * g, 0.0
    if op == EXP:
        return out * g, 0.0
    if op == LOG:
        return 1 / x * g, 0.0
    if op == SQRT:
        return 0.5 / out * g, 0.0
    if op == SIN:
        return math.cos(x) * g, 0.0
    if op == COS:
        return -math.sin(x) * g, 0.0
    if op == TANH:
        return (1 - out * out) * g, 0.0
    return out * (1 - out) * g, 0.0  # SIGMOID


def _operand_row(i: int, shared: Floats, rows: Floats, scratch: int, n: int) -> int:
    """El renglón del operando `i`; si es un número compartido, lo copia en el renglón `scratch`."""
    if i >= len(shared):
        return i - len(shared)
    for j in range(n):
        rows[scratch, j] = shared[i]
    return scratch


def _grad_row(i: int, shared: Floats, grads: Floats, scratch: int, n: int) -> int:
    """El renglón del gradiente del operando `i`; si es compartido, `scratch`, puesto en 0."""
    if i >= len(shared):
        return i - len(shared)
    for j in range(n):
        grads[scratch, j] = 0.0
    return scratch


# Los bucles de DOT van de a cuatro términos, para leer el renglón en común una vez y no cuatro.


def _add_products(
    out: int, start: int, stop: int, terms: Ints, shared: Floats, rows: Floats, n: int
) -> None:
    """out += Σ w·x, en el orden en que suma el motor: da los mismos bits."""
    k = start
    while k + 4 <= stop:
        w1, w2 = shared[terms[k, 0]], shared[terms[k + 1, 0]]
        w3, w4 = shared[terms[k + 2, 0]], shared[terms[k + 3, 0]]
        x1, x2, x3, x4 = terms[k, 1], terms[k + 1, 1], terms[k + 2, 1], terms[k + 3, 1]
        for j in range(n):
            total = rows[out, j] + w1 * rows[x1, j] + w2 * rows[x2, j]
            rows[out, j] = total + w3 * rows[x3, j] + w4 * rows[x4, j]
        k += 4
    for m in range(k, stop):
        w, x = shared[terms[m, 0]], terms[m, 1]
        for j in range(n):
            rows[out, j] += w * rows[x, j]


def _products_backward(
    out: int,
    start: int,
    stop: int,
    terms: Ints,
    shared: Floats,
    shared_grads: Floats,
    rows: Floats,
    grads: Floats,
    inputs: int,
    n: int,
) -> None:
    """dL/dw += Σ x·dL/dout, sumando las filas, y dL/dx += w·dL/dout."""
    k = start
    while k + 4 <= stop:
        x1, x2, x3, x4 = terms[k, 1], terms[k + 1, 1], terms[k + 2, 1], terms[k + 3, 1]
        s1, s2, s3, s4 = _inner_products(rows, x1, x2, x3, x4, grads, out, n)
        shared_grads[terms[k, 0]] += s1
        shared_grads[terms[k + 1, 0]] += s2
        shared_grads[terms[k + 2, 0]] += s3
        shared_grads[terms[k + 3, 0]] += s4
        k += 4
    for m in range(k, stop):
        shared_grads[terms[m, 0]] += _inner_product(rows, terms[m, 1], grads, out, n)
    for m in range(start, stop):
        w, x = shared[terms[m, 0]], terms[m, 1]
        if x >= inputs:
            for j in range(n):
                grads[x, j] += w * grads[out, j]


def _sum(grads: Floats, row: int, n: int) -> float:
    total = 0.0
    for j in range(n):
        total += grads[row, j]
    return total


def _inner_product(rows: Floats, x: int, grads: Floats, out: int, n: int) -> float:
    total = 0.0
    for j in range(n):
        total += rows[x, j] * grads[out, j]
    return total


def _inner_products(
    rows: Floats, x1: int, x2: int, x3: int, x4: int, grads: Floats, out: int, n: int
) -> tuple[float, float, float, float]:
    s1, s2, s3, s4 = 0.0, 0.0, 0.0, 0.0
    for j in range(n):
        s1 += rows[x1, j] * grads[out, j]
        s2 += rows[x2, j] * grads[out, j]
        s3 += rows[x3, j] * grads[out, j]
        s4 += rows[x4, j] * grads[out, j]
    return s1, s2, s3, s4


class Backend(NamedTuple):
    """Con qué se ejecutan los programas, y cuánto ocupa el bloque de filas que más le conviene."""

    run: Callable[..., tuple[int, int]]
    block_bytes: int
    parallel: bool


NUMPY = Backend(run_numpy, block_bytes=2**22, parallel=False)


def compiled() -> Backend:
    """run_loops compilada con numba, que la guarda en disco: solo tarda la primera vez.

    Raises:
        ImportError: si numba no está instalado.
    """
    from numba import njit, types
    from numba.extending import register_jitable

    register_jitable(_forward_loops)
    register_jitable(_backward_loops)
    register_jitable(_operand_row)
    register_jitable(_grad_row)
    register_jitable(_add_products)
    register_jitable(_products_backward)
    register_jitable(_value)
    register_jitable(_grads)
    # Sumar las filas en otro orden deja usar las instrucciones vectoriales. Solo en estas sumas: en
    # todo lo demás, cada fila da los mismos bits que el motor.
    reorder = register_jitable(fastmath={'reassoc', 'contract', 'nsz'})
    reorder(_sum)
    reorder(_inner_product)
    reorder(_inner_products)
    ints, vector, matrix = types.int32[:, ::1], types.float64[::1], types.float64[:, ::1]
    batch = types.Array(types.float64, 2, 'A', readonly=True)  # cualquiera, sin copiarlo
    index = types.int64
    signature = types.UniTuple(index, 2)(
        *(ints, ints, vector, vector, batch, matrix, matrix, types.int32[::1], matrix),
        *(index, index, index, index, types.boolean),
    )
    notice = threading.Timer(
        1,
        logging.getLogger('michigrad').warning,
        ['Compilando la cinta con numba: tarda unos segundos, y solo esta vez.'],
    )
    notice.start()
    options = {'nogil': True, 'error_model': 'numpy'}
    try:
        run = njit(signature, cache=True, **options)(run_loops)
    except RuntimeError:  # no hay ninguna carpeta donde guardarlo
        run = njit(signature, **options)(run_loops)
    finally:
        notice.cancel()
    return Backend(run, block_bytes=2**19, parallel=True)
