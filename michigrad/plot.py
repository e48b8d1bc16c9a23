"""Los gráficos de un entrenamiento, con matplotlib: la pérdida y la frontera de decisión.

Cada función dibuja en los ejes actuales, o en `ax`, y los devuelve para agregarles lo que haga
falta: `plot_loss(losses).set_title('XOR')`. Un notebook muestra el gráfico al final de la celda; un
script, con `plt.show()`, o lo guarda con `plt.savefig('perdida.png')`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from michigrad._checks import is_list, is_value
from michigrad._numbers import number, short
from michigrad.engine import Value
from michigrad.tape import Tape

try:
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap
except ModuleNotFoundError:
    raise ImportError(
        'michigrad.plot usa matplotlib, que no está: python -m pip install "michigrad[plot]"'
    ) from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['COLORS', 'plot_decision_boundary', 'plot_loss']

# Los de la primera clase, la segunda... Se distinguen también por la forma y por la luminosidad.
COLORS = ['#3d6fc4', '#d9690f', '#22863a', '#8250a8', '#b5890b', '#b03a5b']
_MARKERS = 'osD^vP'
_SHADES = ['#6f94d8', '#a9c1ea', '#ffffff', '#f3c08f', '#eb9a52']  # más claros que los puntos
_SIDE = 81  # la grilla tiene 81 × 81 puntos

Floats = npt.NDArray[np.float64]


def plot_loss(losses: Any, steps: Any = None, ax: Axes | None = None) -> Axes:
    """Dibuja cómo cambió la pérdida durante el entrenamiento.

        plot_loss(losses)
        plot_loss({'lineal': linear_losses, 'con tanh': tanh_losses})

    Args:
        losses: la lista de las pérdidas, números o Values, una por paso; o varias en un
            diccionario, cada una con el nombre que va en la leyenda.
        steps: en qué paso se midió cada pérdida, si no fue en todos: 0, 1, 2...
        ax: los ejes de matplotlib en los que se dibuja; si no, los actuales.

    Returns:
        Los ejes. Si una pérdida deja de ser finita, una línea roja marca en qué paso.

    Raises:
        TypeError: si alguna pérdida no es un número.
        ValueError: si no hay ninguna, o si no son tantas como `steps`.
    """
    named = losses if isinstance(losses, Mapping) else {'': losses}
    curves = {str(name): _numbers('losses', curve) for name, curve in named.items()}
    at = None if steps is None else _numbers('steps', steps)
    for curve in curves.values():
        if at is not None and len(at) != len(curve):
            raise ValueError(f'steps lleva un paso por pérdida: hay {len(at)} y {len(curve)}')
    if not curves or not all(map(len, curves.values())):
        raise ValueError('losses está vacía: no hay ninguna pérdida que dibujar')
    ax = plt.gca() if ax is None else ax
    for name, curve in curves.items():
        x = np.arange(len(curve)) if at is None else at
        (line,) = ax.plot(x, curve, '.-' if len(curve) <= 30 else '-', label=name)
        lost = np.flatnonzero(~np.isfinite(curve))
        if len(lost):
            ax.axvline(x[lost[0]], color='red', linestyle=':', label=f'{name} deja de ser finita')
        if not (curve < 0).any():  # el eje empieza en 0: se ve cuánto bajó de verdad
            ax.update_datalim([(x[0], 0)])
            line.sticky_edges.y.append(0)
    ax.set(xlabel='paso', ylabel='pérdida')
    if ax.get_legend_handles_labels()[1]:
        ax.legend()
    return ax


def plot_decision_boundary(
    model: Callable[[list[Value]], Any],
    points: Any,
    labels: Any,
    level: float | None = None,
    margin: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Dibuja qué contesta `model` en cada punto del plano, y los puntos con los que aprendió.

    El fondo es el puntaje: azul del lado de la primera clase, naranja del lado de la segunda, y más
    intenso cuanto más lejos de la frontera. La línea llena es la frontera, donde el puntaje vale
    `level`; las de puntos, el margen: donde vale `level` ± `margin`.

        plot_decision_boundary(model, X, Y)            # clases 0 y 1, o -1 y 1 con su margen
        plot_decision_boundary(model, X, Y, level=0)   # 0 y 1 con binary_cross_entropy_with_logits

    Un modelo que da un puntaje por clase (K Values, para cross_entropy) pinta cada punto con el
    color del más alto; ahí no hay `level` ni `margin`.

    Args:
        model: una red o una función: recibe un punto, [x0, x1], y da un Value o una lista de K.
        points: los puntos, de forma (n, 2): n pares de números.
        labels: la clase de cada punto: dos números cualesquiera o, si el modelo da K puntajes, de
            0 a K-1.
        level: el puntaje en el que la respuesta cambia; si no se dice, el promedio de las dos
            clases: 0 entre -1 y 1, y 1/2 entre 0 y 1.
        margin: a qué distancia de `level` se dibuja el margen; si no se dice, 1 cuando las clases
            son -1 y 1, como en hinge_loss, y ninguno en otro caso.
        ax: los ejes de matplotlib en los que se dibuja; si no, los actuales.

    Returns:
        Los ejes. Los puntos de cada clase llevan su `label`: `.legend()` los nombra.

    Raises:
        TypeError, ValueError: si los puntos no son pares de números finitos, si no hay una clase
            por punto o si las clases no son las que el modelo distingue, o si da
            nan o infinito.
        ValueError, ZeroDivisionError, OverflowError: si el modelo no tiene resultado en algún lugar
            del dibujo.
    """
    if not callable(model):
        raise TypeError(f'model es una función o una red que recibe un punto: llegó {short(model)}')
    xy, classes = _points(points), _numbers('labels', labels)
    if len(classes) != len(xy):
        raise ValueError(f'labels lleva una clase por punto: hay {len(classes)} y {len(xy)} puntos')
    low, high = xy.min(axis=0), xy.max(axis=0)
    room = np.where(high > low, 0.2 * (high - low), 1)
    x0, x1 = np.linspace(low - room, high + room, _SIDE).T
    grid = np.stack(np.meshgrid(x0, x1), axis=-1).reshape(-1, 2)
    scores = _scores(model, grid, xy).T.reshape(-1, _SIDE, _SIDE)
    if not np.isfinite(scores).all():
        raise ValueError('el modelo da nan o infinito: ¿se fue al entrenar? Probá con un lr menor')
    known = _known_classes(classes, len(scores))
    middle = sum(known) / 2 if level is None else number(level)
    if margin is None and known == [-1, 1]:
        margin = 1
    lines = [middle]
    if margin is not None:
        lines = [middle - number(margin), middle, middle + number(margin)]
    ax = plt.gca() if ax is None else ax
    if len(scores) > 1:
        _draw_regions(ax, x0, x1, scores)
    else:
        _draw_scores(ax, x0, x1, scores[0], lines, known[1] - known[0])
    for k, label in enumerate(known):
        x, y = xy[classes == label].T
        ax.scatter(
            x,
            y,
            s=40 + 600 / len(xy),
            color=COLORS[k % len(COLORS)],
            marker=_MARKERS[k % len(COLORS)],
            edgecolors='black',
            label=f'clase {label:g}',
            zorder=3,
        )
    ax.set(xlabel='x₀', ylabel='x₁')
    return ax


def _points(points: Any) -> Floats:
    """Pasa los puntos a un array de forma (n, 2)."""
    expected = 'points es una lista de puntos de dos números finitos, como [[0, 1], [1, 1]]'
    if not is_list(points):
        raise TypeError(f'{expected}: llegó {short(points)}')
    rows = [_numbers('cada punto', row) for row in points]
    if not rows or any(len(row) != 2 or not np.isfinite(row).all() for row in rows):
        raise ValueError(f'{expected}: llegó {short(points)}')
    return np.array(rows)


def _numbers(name: str, data: Any) -> Floats:
    """Pasa a un array una lista de números o Values."""
    if not is_list(data):
        raise TypeError(f'{name} es una lista de números: llegó {short(data)}')
    xs = list(data)
    if xs and is_list(xs[0]):
        raise TypeError(
            f'{name} es una lista de números y tiene {short(xs[0])}: si es un array de una '
            'columna, usá .ravel()'
        )
    return np.array([x.data if is_value(x) else number(x) for x in xs], dtype=float)


def _known_classes(classes: Floats, outputs: int) -> list[float]:
    """Las clases que hay, en orden, si son las que distingue un modelo de `outputs` salidas."""
    known: list[float] = np.unique(classes).tolist()
    if outputs > 1:
        if not {*known} <= {*range(outputs)}:
            raise ValueError(
                f'el modelo da {outputs} puntajes: las clases van de 0 a {outputs - 1}, y hay '
                f'{short(known)}'
            )
        return [*map(float, range(outputs))]
    if len(known) != 2:
        raise ValueError(
            'el modelo da un puntaje, que separa dos clases, como 0 y 1 o -1 y 1: hay '
            f'{short(known)}'
        )
    return known


def _scores(model: Callable[[list[Value]], Any], grid: Floats, points: Floats) -> Floats:
    """Lo que da `model` en cada punto de `grid`, de forma (cantidad de puntos, K).

    Graba el modelo en una cinta, que recorre la grilla mucho más rápido. Pero una cinta repite lo
    que el modelo hizo al grabarla: si en `points` no da lo mismo que él (tiene un if, o sortea
    números), o si no conoce una de sus operaciones, se llama al modelo punto por punto.
    """
    inputs = [Value(0.0), Value(0.0)]
    exact = _each_point(model, points)
    try:
        tape = Tape(_outputs(model, inputs), inputs)
        if np.allclose(tape.forward(points), exact, rtol=1e-9, atol=1e-9):
            return np.asarray(tape.forward(grid))
    except (ValueError, ArithmeticError):
        pass  # si de verdad no hay resultado, el modelo va a decir por qué
    return _each_point(model, grid)


def _each_point(model: Callable[[list[Value]], Any], points: Floats) -> Floats:
    return np.array([[v.data for v in _outputs(model, [*map(Value, p)])] for p in points.tolist()])


def _outputs(model: Callable[[list[Value]], Any], point: list[Value]) -> list[Value]:
    """Lo que da el modelo en un punto, siempre como una lista."""
    out = model(point)
    return [v if is_value(v) else Value(v) for v in (out if is_list(out) else [out])]


def _draw_scores(
    ax: Axes, x0: Floats, x1: Floats, scores: Floats, lines: list[float], gap: float
) -> None:
    """Pinta un solo puntaje; en `lines` van la frontera y, a sus lados, el margen."""
    middle = lines[len(lines) // 2]
    shades = LinearSegmentedColormap.from_list('clases', _SHADES)
    ax.contourf(
        x0, x1, scores, np.linspace(middle - gap, middle + gap, 41), cmap=shades, extend='both'
    )
    if scores.max() - scores.min() < gap / 20:  # ni un tono: contesta lo mismo en todos lados
        return
    for z in lines:
        if scores.min() < z < scores.max():  # si no pasa por acá, no hay línea
            style = '-' if z == middle else ':'
            ax.contour(x0, x1, scores, [z], colors='black', linestyles=style)


def _draw_regions(ax: Axes, x0: Floats, x1: Floats, scores: Floats) -> None:
    """Pinta cada punto del color de la clase de mayor puntaje."""
    for k, score in enumerate(scores):
        lead = score - np.delete(scores, k, axis=0).max(axis=0)
        if lead.max() > 0:
            color = COLORS[k % len(COLORS)]
            ax.contourf(x0, x1, lead, [0, lead.max()], colors=[color], alpha=0.35)
            if lead.min() < 0:
                ax.contour(x0, x1, lead, [0], colors='black')
