"""Los gráficos: qué se dibuja y dónde, que la cinta y el modelo den lo mismo, y los errores."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.needs import need

matplotlib = need('matplotlib')
matplotlib.use('agg')

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.contour import QuadContourSet  # noqa: E402

from michigrad import plot  # noqa: E402
from michigrad.engine import Value  # noqa: E402
from michigrad.nn import MLP, Layer, Sequential, Softmax, Tanh  # noqa: E402
from michigrad.plot import plot_decision_boundary, plot_loss  # noqa: E402

CORNERS = [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.fixture(autouse=True)
def figure() -> Iterator[None]:
    yield
    plt.close('all')


def lines(ax: Any) -> dict[float, str]:
    """El puntaje de cada curva de nivel dibujada y cómo es: '-' o ':'."""
    found = {}
    for contour in ax.collections:
        if isinstance(contour, QuadContourSet) and not contour.filled:
            (level,) = contour.levels
            found[float(level)] = str(contour.linestyles)
    return found


def background(ax: Any) -> Any:
    return next(c for c in ax.collections if isinstance(c, QuadContourSet) and c.filled)


# La pérdida


def test_una_curva_de_numeros_y_de_values_desde_cero() -> None:
    ax: Any = plot_loss([Value(3.0), 2, np.float32(1.5)])
    assert ax is plt.gca()
    (line,) = ax.lines
    assert np.asarray(line.get_xydata()).tolist() == [[0, 3], [1, 2], [2, 1.5]]
    assert ax.get_ylim()[0] == 0
    assert (ax.get_xlabel(), ax.get_ylabel()) == ('paso', 'pérdida')
    assert ax.get_legend() is None
    ax.axhline(9)  # lo que se agregue después entra en el dibujo
    assert ax.get_ylim()[1] > 9


def test_varias_curvas_con_su_nombre_y_sus_pasos() -> None:
    _, (left, right) = plt.subplots(1, 2)
    ax: Any = plot_loss({'lineal': [1.0, 0.5], 'tanh': [-1.0, -2.0]}, steps=[0, 100], ax=left)
    assert ax is left
    assert not right.lines
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ['lineal', 'tanh']
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0, 100], [0, 100]]
    assert ax.get_ylim()[0] < -2


def test_marca_donde_la_perdida_deja_de_ser_finita() -> None:
    ax: Any = plot_loss([1.0, 5.0, math.inf, math.nan])
    _, mark = ax.lines
    assert mark.get_xdata()[0] == 2
    assert 'deja de ser finita' in ax.get_legend().get_texts()[0].get_text()
    plt.gcf().canvas.draw()


@pytest.mark.parametrize(
    ('losses', 'steps', 'error', 'message'),
    [
        ([], None, ValueError, 'no hay ninguna pérdida'),
        ({}, None, ValueError, 'no hay ninguna pérdida'),
        ({'a': [1.0], 'b': []}, None, ValueError, 'no hay ninguna pérdida'),
        (3.0, None, TypeError, 'losses es una lista de números'),
        (Value(3.0), None, TypeError, 'losses es una lista de números'),
        (['3'], None, TypeError, 'se esperaba un número real'),
        ([1.0, 2.0], [0], ValueError, 'hay 1 y 2'),
        ([1.0, 2.0], 5, TypeError, 'steps es una lista de números'),
    ],
)
def test_perdidas_que_no_lo_son(losses: Any, steps: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        plot_loss(losses, steps)
    assert not plt.get_fignums()  # no quedó un gráfico a medias


# La frontera


def test_la_frontera_y_el_margen_estan_donde_dice_el_modelo() -> None:
    ax: Any = plot_decision_boundary(lambda x: 2 * x[0] - 1, CORNERS, [-1, -1, 1, 1])
    assert lines(ax) == {-1: ':', 0: '-', 1: ':'}
    for level, x0 in ((0, 0.5), (1, 1.0)):
        contour = next(c for c in ax.collections if getattr(c, 'levels', [9])[0] == level)
        (path,) = contour.get_paths()
        assert path.vertices[:, 0] == pytest.approx(x0)


@pytest.mark.parametrize(
    ('labels', 'kwargs', 'expected'),
    [
        ([0, 0, 1, 1], {}, {0.5: '-'}),
        ([False, False, True, True], {}, {0.5: '-'}),
        ([0, 0, 1, 1], {'level': 0}, {0: '-'}),
        ([0, 0, 1, 1], {'level': 0.25, 'margin': 0.5}, {-0.25: ':', 0.25: '-', 0.75: ':'}),
        ([-1, -1, 1, 1], {'margin': 0.5}, {-0.5: ':', 0: '-', 0.5: ':'}),
        ([-1, -1, 1, 1], {'margin': 100}, {0: '-'}),  # tan lejos no llega el dibujo
        ([0, 0, 1, 1], {'level': 100}, {}),
    ],
)
def test_el_puntaje_de_la_frontera(
    labels: Any, kwargs: dict[str, Any], expected: dict[float, str]
) -> None:
    assert (
        lines(plot_decision_boundary(lambda x: 2 * x[0] - 1, CORNERS, labels, **kwargs)) == expected
    )


def test_un_modelo_que_contesta_siempre_lo_mismo_no_tiene_frontera() -> None:
    almost: Any = plot_decision_boundary(lambda x: 0.5 + 0.01 * (x[0] - 0.5), CORNERS, [0, 1, 1, 0])
    assert lines(almost) == {}
    plt.close()
    enough: Any = plot_decision_boundary(lambda x: 0.5 + 0.1 * (x[0] - 0.5), CORNERS, [0, 1, 1, 0])
    assert lines(enough) == {0.5: '-'}


def test_cada_clase_con_su_color_su_forma_y_su_nombre() -> None:
    ax: Any = plot_decision_boundary(lambda x: x[0], np.array(CORNERS), np.array([0, 1, 1, 0]))
    first, second = ax.collections[-2:]
    assert first.get_offsets().tolist() == [[0, 0], [1, 1]]
    assert second.get_offsets().tolist() == [[0, 1], [1, 0]]
    assert (first.get_label(), second.get_label()) == ('clase 0', 'clase 1')
    assert first.get_facecolor().tolist() != second.get_facecolor().tolist()
    assert len(first.get_paths()[0].vertices) != len(second.get_paths()[0].vertices)


def test_un_modelo_de_varias_clases_pinta_la_de_mayor_puntaje() -> None:
    random.seed(3)
    model = Sequential(Layer(2, 3, nonlin=False), Softmax())
    ax: Any = plot_decision_boundary(model, CORNERS, [0, 1, 2, 2])
    regions = [c for c in ax.collections if isinstance(c, QuadContourSet) and c.filled]
    colors = [matplotlib.colors.to_hex(region.get_facecolor()[0]) for region in regions]
    for x0, x1 in [(0.1, 0.2), (0, 1), (1, 0), (1, 1), (-0.1, 0.2)]:
        scores = [v.data for v in model([x0, x1])]
        inside = [
            color
            for region, color in zip(regions, colors, strict=True)
            if any(path.contains_point((x0, x1)) for path in region.get_paths())
        ]
        assert inside == [plot.COLORS[int(np.argmax(scores))]]


def same_as_the_model(model: Any, seed: int = 0) -> None:
    """La grilla tiene lo que el modelo da, punto por punto."""
    rng = random.Random(seed)
    points = np.array([[rng.uniform(-2, 2), rng.uniform(-2, 2)] for _ in range(60)])
    found = plot._scores(model, points, points[:20])
    expected = [model([Value(x) for x in point]).data for point in points.tolist()]
    assert found[:, 0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize('seed', range(3))
def test_la_grilla_es_lo_que_da_la_red(seed: int) -> None:
    random.seed(seed)
    same_as_the_model(MLP(2, [5, 4, 1]), seed)
    same_as_the_model(Sequential(Layer(2, 3, nonlin=False), Tanh(), Layer(3, 1)), seed)


def test_la_grilla_es_lo_que_da_una_funcion_que_la_cinta_no_puede_repetir() -> None:
    def with_if(x: list[Value]) -> Value:
        return x[0] * 2 + x[1] if x[0].data > x[1].data else x[0] - x[1].tanh()

    def own_operation(x: list[Value]) -> Value:
        return Value(x[0].data ** 3, (x[0],), 'cubo')

    def only_one_input(x: list[Value]) -> Value:
        return x[1].sin()

    for model in (with_if, own_operation, only_one_input):
        same_as_the_model(model)


def test_un_modelo_que_da_numeros_y_el_fondo_en_orden() -> None:
    ax: Any = plot_decision_boundary(lambda x: x[0].data + 10 * x[1].data, CORNERS, [0, 1, 1, 0])
    grid = np.asarray(background(ax).zmax)
    assert grid == pytest.approx(11 * 1.2)
    assert ax.get_xlim() == ax.get_ylim() == pytest.approx((-0.2, 1.2))


def test_puntos_en_una_sola_recta_y_puntos_de_values() -> None:
    points = [[Value(1.0), Value(0.0)], [Value(1.0), Value(2.0)]]
    ax: Any = plot_decision_boundary(lambda x: x[1] - 1, points, [-1, 1])
    assert ax.get_xlim() == (0, 2)


@pytest.mark.parametrize(
    ('points', 'labels', 'error', 'message'),
    [
        (3.0, [0, 1], TypeError, 'points es una lista de puntos'),
        ([], [], ValueError, 'points es una lista de puntos'),
        ([1.0, 2.0], [0, 1], TypeError, 'cada punto es una lista de números'),
        ([[1, 2, 3], [1, 2, 3]], [0, 1], ValueError, 'puntos de dos números'),
        ([[1, math.nan], [1, 2]], [0, 1], ValueError, 'números finitos'),
        ([[1, 'a'], [1, 2]], [0, 1], TypeError, 'se esperaba un número real'),
        (CORNERS, [0, 1], ValueError, 'hay 2 y 4 puntos'),
        (CORNERS, [0, 1, 2, 3], ValueError, 'separa dos clases'),
        (CORNERS, [1, 1, 1, 1], ValueError, 'separa dos clases'),
        (CORNERS, 1, TypeError, 'labels es una lista de números'),
        (CORNERS, [[0], [1], [1], [0]], TypeError, r'labels .* usá \.ravel\(\)'),
        (CORNERS, np.array([[0], [1], [1], [0]]), TypeError, r'labels .* usá \.ravel\(\)'),
    ],
)
def test_puntos_y_clases_que_no_lo_son(points: Any, labels: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        plot_decision_boundary(lambda x: x[0] + x[1], points, labels)
    assert not plt.get_fignums()


@pytest.mark.parametrize('kwargs', [{'level': '0'}, {'margin': '1'}, {'margin': [1]}])
def test_una_frontera_o_un_margen_que_no_es_un_numero(kwargs: Any) -> None:
    with pytest.raises(TypeError, match='se esperaba un número real'):
        plot_decision_boundary(lambda x: x[0], CORNERS, [0, 1, 1, 0], **kwargs)
    assert not plt.get_fignums()


def test_un_modelo_de_tres_puntajes_con_una_clase_de_mas() -> None:
    with pytest.raises(ValueError, match='da 3 puntajes: las clases van de 0 a 2'):
        plot_decision_boundary(Layer(2, 3), CORNERS, [0, 1, 2, 3])


def test_los_errores_del_modelo_llegan_como_son() -> None:
    with pytest.raises(ValueError, match=r'espera un ejemplo.*de 3'):
        plot_decision_boundary(MLP(3, [1]), CORNERS, [0, 1, 1, 0])
    with pytest.raises(TypeError, match=r'model es una función o una red .* llegó 3'):
        plot_decision_boundary(3, CORNERS, [0, 1, 1, 0])  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError, match='el divisor no puede ser 0'):
        plot_decision_boundary(lambda x: x[1] / x[0], CORNERS, [0, 1, 1, 0])


def test_una_red_que_se_fue_a_nan_lo_dice() -> None:
    model = MLP(2, [2, 1])
    model.parameters()[0].data = math.nan
    with pytest.raises(ValueError, match='el modelo da nan o infinito'):
        plot_decision_boundary(model, CORNERS, [0, 1, 1, 0])


def test_sin_matplotlib_dice_como_instalarlo() -> None:
    code = 'import sys; sys.modules["matplotlib"] = None; import michigrad.plot'
    run = subprocess.run(
        [sys.executable, '-X', 'utf8', '-c', code],
        capture_output=True,
        encoding='utf-8',
        check=False,
    )
    assert 'ImportError' in run.stderr
    assert 'python -m pip install "michigrad[plot]"' in run.stderr
