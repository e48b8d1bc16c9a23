"""Softmax y las funciones de pérdida, escritas con operaciones de Value: el gradiente sale solo.

Reciben Values o números. Cada pérdida acepta un ejemplo o una lista de ejemplos (una lista, tupla,
array o cualquier iterable) y devuelve un solo Value: con reduction='mean' el promedio, con
reduction='sum' la suma. Con reduction='none' devuelve todas, con la forma de la entrada. Los
nombres y los resultados son los de torch.nn.functional.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from michigrad._checks import check_reduction, is_list, is_value, lift, setting
from michigrad._numbers import number, parentheses, short
from michigrad.engine import Value

_SMALLEST = math.exp(-100)  # el log de binary_cross_entropy no baja de -100, como en PyTorch


def softmax(logits: Any) -> Any:
    """Convierte números cualesquiera en probabilidades: softmax(z)_i = e^z_i / Σ_j e^z_j.

    Args:
        logits: una lista de n números o Values, o una lista de listas.

    Returns:
        Una lista de n Values entre 0 y 1 que suman 1, o una por ejemplo. De un Value solo, un Value
        que vale 1.

    Raises:
        TypeError, ValueError: si algo no es un número o si la lista está vacía.
    """
    if not is_list(logits):
        return _softmax([logits])[0]
    return _each_example(_softmax, logits)


def log_softmax(logits: Any) -> Any:
    """El logaritmo de softmax: log_softmax(z)_i = z_i - log(Σ_j e^z_j).

    Con softmax(z)[i].log(), una probabilidad que da 0 no tiene logaritmo; así no pasa por ella.

    Args:
        logits: una lista de n números o Values, o una lista de listas.

    Returns:
        Una lista de n Values hasta 0, o una por ejemplo. De un Value solo, un Value que vale 0.

    Raises:
        TypeError, ValueError: si algo no es un número o si la lista está vacía.
    """
    if not is_list(logits):
        return _log_softmax([logits])[0]
    return _each_example(_log_softmax, logits)


def softplus(x: Any) -> Any:
    """log(1 + e^x), una relu sin esquina, de un número o de cada número de una lista.

    Raises:
        TypeError: si algo no es un número.
    """
    return [softplus(xi) for xi in x] if is_list(x) else lift(x).softplus()


def mse_loss(prediction: Any, target: Any, reduction: str = 'mean') -> Any:
    """Error cuadrático: (ŷ - y)^2 de cada número.

    Args:
        prediction: ŷ, un número o Value, una lista o una lista de listas.
        target: y, de la misma forma.
        reduction: 'mean' promedia sobre todos los números; 'sum' los suma; 'none' los deja.

    Raises:
        TypeError, ValueError: si algo no es un número o si las formas no coinciden.
    """
    return _loss(lambda p, t: (p - t) ** 2, prediction, target, reduction)


def hinge_loss(score: Any, target: Any, reduction: str = 'mean') -> Any:
    """Pérdida de margen máximo (la de las SVM): max(0, 1 - y·s).

    Args:
        score: s, el puntaje, o una lista; su signo es la clase que predice.
        target: y, -1 o 1, de la misma forma.
        reduction: 'mean' promedia sobre todos los números; 'sum' los suma; 'none' los deja.

    Raises:
        TypeError, ValueError: si algo no es un número, si las formas no coinciden o si y no es
            -1 ni 1.
    """

    def hinge(s: Value, t: Any) -> Any:
        if not is_value(t) and t not in (-1, 1):
            raise ValueError(
                f'en hinge_loss el objetivo es -1 o 1: llegó {short(t)}; si es 0 o 1, usá 2*y - 1'
            )
        return (1 - t * s).relu()

    return _loss(hinge, score, target, reduction)


def binary_cross_entropy(probability: Any, target: Any, reduction: str = 'mean') -> Any:
    """Entropía cruzada de dos clases: -(y·log(p) + (1 - y)·log(1 - p)).

    Como en PyTorch, el log no baja de -100, así que la pérdida es finita también en p = 0 y p = 1.
    Donde el log está recortado su derivada es 0 (PyTorch pone ahí hasta 1e12). Si p sale de un
    sigmoid, binary_cross_entropy_with_logits hace lo mismo y no se recorta nunca.

    Args:
        probability: p, entre 0 y 1, o una lista.
        target: y, la probabilidad verdadera, entre 0 y 1, de la misma forma.
        reduction: 'mean' promedia sobre todos los números; 'sum' los suma; 'none' los deja.

    Raises:
        TypeError, ValueError: si algo no es un número o no está entre 0 y 1, o si las formas no
            coinciden.
    """

    def cross_entropy(p: Value, t: Any) -> Any:
        _check_probability(t, 'el objetivo')
        if not 0 <= p.data <= 1:
            raise ValueError(
                f'la probabilidad está entre 0 y 1: llegó {p.data}; si es un logit, '
                'usá binary_cross_entropy_with_logits'
            )
        q = 1 - p
        # q se redondea, y con p = 1e-13 le quedan tres cifras de las de p. Lo que perdió es
        # (1 - q) - p, que sí es exacto, y log(1 - p) es log(q) más eso.
        log_q = _log(q) + ((1 - q) - p)
        return -(t * _log(p) + (1 - t) * log_q)

    return _loss(cross_entropy, probability, target, reduction)


def binary_cross_entropy_with_logits(logit: Any, target: Any, reduction: str = 'mean') -> Any:
    """Entropía cruzada de dos clases con p = sigmoid(z), exacta para cualquier z.

    Es y·softplus(-z) + (1 - y)·softplus(z), porque -log(p) = softplus(-z) y
    -log(1 - p) = softplus(z). Su derivada es sigmoid(z) - y.

    Args:
        logit: z, cualquier número o Value, o una lista.
        target: y, la probabilidad verdadera, entre 0 y 1, de la misma forma.
        reduction: 'mean' promedia sobre todos los números; 'sum' los suma; 'none' los deja.

    Raises:
        TypeError, ValueError: si algo no es un número, si las formas no coinciden o si y no está
            entre 0 y 1.
    """

    def cross_entropy(z: Value, t: Any) -> Any:
        _check_probability(t, 'el objetivo')
        if not is_value(t) and t in (0, 1):  # sin el término que vale 0, aunque z sea infinito
            return (-z).softplus() if t else z.softplus()
        return t * (-z).softplus() + (1 - t) * z.softplus()

    return _loss(cross_entropy, logit, target, reduction)


def cross_entropy(
    logits: Any, target: Any, reduction: str = 'mean', label_smoothing: float = 0.0
) -> Any:
    """Entropía cruzada de n clases: -Σ_i p_i·log(softmax(z)_i), que con un índice c es
    log(Σ_j e^z_j) - z_c.

    Antes se le resta a cada z el mayor, que no cambia el resultado, y así e^z no se desborda.

    Args:
        logits: z, una lista de n números o Values sin normalizar, o una lista de listas.
        target: el índice de la clase verdadera (un int de 0 a n-1) o las n probabilidades. Si
            logits es una lista de ejemplos, una lista de eso.
        reduction: 'mean' promedia sobre los ejemplos; 'sum' los suma; 'none' los deja.
        label_smoothing: ε, de 0 a 1: cada probabilidad p_i pasa a ser (1 - ε)·p_i + ε/n, para que
            la red no tenga que estar segura del todo.

    Raises:
        TypeError, ValueError: si los logits no son números, si el índice no es de una clase, si las
            probabilidades no son n que suman 1, o si no hay un objetivo por ejemplo.
    """
    smoothing = setting('label_smoothing', label_smoothing)
    if smoothing > 1:
        raise ValueError(f'label_smoothing va de 0 a 1: llegó {smoothing}')

    def one(example: list[Any], t: Any) -> Value:
        return _cross_entropy(example, t, smoothing)

    return _classification(one, logits, target, reduction)


def nll_loss(log_probabilities: Any, target: Any, reduction: str = 'mean') -> Any:
    """Menos el logaritmo de la probabilidad de la clase verdadera: -l_c.

    nll_loss(log_softmax(z), c) es cross_entropy(z, c).

    Args:
        log_probabilities: l, una lista de n logaritmos, como los de log_softmax, o una lista de
            listas.
        target: el índice de la clase verdadera (un int de 0 a n-1), o una lista de índices.
        reduction: 'mean' promedia sobre los ejemplos; 'sum' los suma; 'none' los deja.

    Raises:
        TypeError, ValueError: si algo no es un número, si el índice no es de una clase o si no hay
            un objetivo por ejemplo.
    """

    def one(example: list[Any], t: Any) -> Value:
        values = _one_per_class(example)
        return -values[_class_index(t, len(values))]

    return _classification(one, log_probabilities, target, reduction)


def _softmax(example: list[Any]) -> list[Value]:
    exps = [z.exp() for z in _shifted(example)]
    total = _sum(exps)
    return [e / total for e in exps]


def _log_softmax(example: list[Any]) -> list[Value]:
    shifted = _shifted(example)
    log_total = _sum([z.exp() for z in shifted]).log()
    return [z - log_total for z in shifted]


def _cross_entropy(example: list[Any], target: Any, smoothing: float) -> Value:
    shifted = _shifted(example)
    classes = len(shifted)
    log_total = _sum([z.exp() for z in shifted]).log()
    if is_list(target):
        probabilities = _probabilities(target, classes)
    else:
        expected = 'el índice (un int) de una clase o la lista de sus probabilidades'
        index = _class_index(target, classes, expected)
        if not smoothing:
            return log_total - shifted[index]
        probabilities = [int(i == index) for i in range(classes)]
    if smoothing:
        probabilities = [(1 - smoothing) * p + smoothing / classes for p in probabilities]
    return _sum([p * (log_total - z) for p, z in zip(probabilities, shifted, strict=True)])


def _one_per_class(example: list[Any]) -> list[Value]:
    if not example:
        raise ValueError('se espera una lista con uno por clase: llegó una lista vacía')
    return [lift(z) for z in example]


def _shifted(example: list[Any]) -> list[Value]:
    """Le resta a cada logit el mayor, como constante: la derivada total respecto de él es 0."""
    values = _one_per_class(example)
    highest = Value(max(z.data for z in values), name='máximo')
    return [z - highest for z in values]


def _class_index(
    target: Any, classes: int, expected: str = 'el índice (un int) de una clase'
) -> int:
    try:
        index = operator.index(target)
    except TypeError:
        hint = '; si y es un array de una columna, usá y.ravel()' if is_list(target) else ''
        raise TypeError(f'el objetivo es {expected}: llegó {short(target)}{hint}') from None
    if not 0 <= index < classes:
        raise ValueError(
            f'con {classes} clases el índice va de 0 a {classes - 1}: llegó {short(index)}'
        )
    return index


def _probabilities(target: Any, classes: int) -> list[Any]:
    """Controla las probabilidades verdaderas; las que son Values pueden cambiar y no se miran."""
    numbers = [_number_or_value(p) for p in target]
    if len(numbers) != classes:
        raise ValueError(
            f'hay {classes} clases y el objetivo es una lista de {len(numbers)}: van sus '
            'probabilidades o un índice; si y es un array de una columna, usá y.ravel()'
        )
    for p in numbers:
        _check_probability(p, 'cada probabilidad')
    if not any(map(is_value, numbers)) and abs(sum(numbers) - 1) > 1e-4:
        raise ValueError(
            f'las probabilidades suman 1: las que llegaron suman {sum(numbers)}; si son índices, '
            'los logits son una lista de listas: por cada ejemplo, un número por clase'
        )
    return numbers


def _check_probability(p: Any, what: str) -> None:
    if not is_value(p) and not 0 <= p <= 1:
        raise ValueError(f'{what} está entre 0 y 1: llegó {short(p)}')


def _log(p: Value) -> Value:
    """log(p), pero no menos que -100."""
    return p.clip(min=_SMALLEST).log()


def _number_or_value(x: Any) -> Any:
    return x if is_value(x) else number(x)


def _sum(values: list[Value]) -> Value:
    """La suma, sin el 0 + ... de sum(), que en el grafo serían dos nodos de más."""
    return functools.reduce(operator.add, values)


# Las formas: un número, una lista o una lista de listas.


def _listed(x: Any, levels: int = 2) -> Any:
    """`x` con listas en lugar de tuplas, arrays y demás iterables, que se recorren una sola vez."""
    if not is_list(x):
        return x
    if not levels:
        raise TypeError('se espera un ejemplo o una lista de ejemplos: llegaron más niveles')
    return [_listed(xi, levels - 1) for xi in x]


def _is_batch(x: list[Any]) -> bool:
    return bool(x) and isinstance(x[0], list)


def _one_example(row: Any) -> list[Any]:
    if not isinstance(row, list):
        raise TypeError(
            f'en una lista de ejemplos cada uno es una lista de números: llegó {short(row)}'
        )
    return row


def _each_example(f: Callable[[list[Any]], Any], x: Any) -> Any:
    """f(x) si `x` es un ejemplo, o la lista de los f(xi) si es una lista de ejemplos."""
    examples = _listed(x)
    return [f(_one_example(row)) for row in examples] if _is_batch(examples) else f(examples)


def _classification(
    f: Callable[[list[Any], Any], Value], scores: Any, target: Any, reduction: str
) -> Any:
    """La pérdida f(z, y) de un ejemplo con sus n puntajes, o las de una lista, ya reducidas."""
    check_reduction(reduction, 'mean', 'sum', 'none')
    scores, target = _listed(scores), _listed(target)
    if not isinstance(scores, list):
        raise TypeError(
            f'se espera una lista con uno por clase: llegó {short(scores)}{parentheses(scores)}'
        )
    if not _is_batch(scores):
        return f(scores, target)
    if not isinstance(target, list) or len(target) != len(scores):
        raise ValueError(
            f'hay {len(scores)} ejemplos y hace falta un objetivo por ejemplo: '
            f'llegó {short(target)}'
        )
    losses = [f(_one_example(z), t) for z, t in zip(scores, target, strict=True)]
    return _reduce(losses, reduction)


def _loss(f: Callable[[Value, Any], Any], prediction: Any, target: Any, reduction: str) -> Any:
    """La pérdida f(ŷ, y) de un número, o las de una lista, ya reducidas."""
    check_reduction(reduction, 'mean', 'sum', 'none')
    prediction, target = _listed(prediction), _listed(target)
    _check_column(prediction, target)
    return _reduce(_each_pair(f, prediction, target), reduction)


def _check_column(prediction: Any, target: Any) -> None:
    """Explica el error más común: el objetivo es un array de una columna."""
    if isinstance(prediction, list):
        several = not _is_batch(prediction) and isinstance(target, list)
        if several and target and all(isinstance(t, list) and len(t) == 1 for t in target):
            raise ValueError(
                f'la predicción es {_length(prediction)} y el objetivo tiene una columna: '
                'usá y.ravel()'
            )
    elif isinstance(target, list) and len(target) == 1:
        lift(prediction)
        raise ValueError('la predicción es un número y el objetivo, una lista de 1: usá y.item()')


def _each_pair(f: Callable[[Value, Any], Any], prediction: Any, target: Any) -> Any:
    """Los f(ŷ, y) de cada número, con la forma de la predicción, que es la del objetivo."""
    if not isinstance(prediction, list) and not isinstance(target, list):
        return f(lift(prediction), _number_or_value(target))
    if _length(prediction) != _length(target):
        raise ValueError(
            'la predicción y el objetivo tienen que tener la misma forma: llegaron '
            f'{_length(prediction)} y {_length(target)}'
        )
    return [_each_pair(f, p, t) for p, t in zip(prediction, target, strict=True)]


def _length(x: Any) -> str:
    if isinstance(x, list):
        return f'una lista de {len(x)}'
    lift(x)
    return 'un número'


def _reduce(losses: Any, reduction: str) -> Any:
    if reduction == 'none' or is_value(losses):
        return losses
    flat = [loss for row in losses for loss in (row if isinstance(row, list) else [row])]
    if not flat:
        raise ValueError('hace falta al menos un ejemplo: llegó una lista vacía')
    total = _sum(flat)
    return total if reduction == 'sum' or len(flat) == 1 else total / len(flat)
