"""La página de show_backprop en un Chromium de verdad, manejado con Playwright.

Donde falta Chromium o Playwright estas pruebas se saltean.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from michigrad._notation import significant
from michigrad.engine import Value, topological_order
from michigrad.functional import cross_entropy
from michigrad.nn import MLP
from michigrad.stepper import show_backprop
from tests.needs import need

pytest.importorskip('playwright', reason='falta Playwright: pip install -e ".[dev]"')

from playwright.sync_api import Browser, Locator, Page, Request, expect

from tests.helpers import cube
from tests.screenshots import find_chromium, neuron, open_chromium, take
from tests.test_stepper import HOSTILE, xor_loss

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason='falta Chromium: apt-get install chromium'
)


def square() -> Value:
    x = Value(3.0, name='x')
    return x * x


GRAPHS: dict[str, Callable[[], Value]] = {
    'neurona': neuron,
    'x*x': square,
    'xor': xor_loss,
    'propia': lambda: cube(Value(-2.0)),
}


def entropy() -> Value:
    random.seed(1)
    loss: Value = cross_entropy([MLP(2, [3, 3])([1.0, -0.5])], [1])
    return loss


def network() -> Value:
    random.seed(0)
    loss: Value = (MLP(3, [4, 4, 1])([0.5, -1.0, 2.0]) - 1) ** 2
    return loss


def large() -> Value:
    random.seed(0)
    loss: Value = (MLP(6, [8, 4, 1])([0.5, -1.0, 2.0, 0.1, 0.7, -0.3]) - 1) ** 2
    return loss


SIX = [neuron, square, xor_loss, entropy, network, large]


@pytest.fixture(scope='module')
def chromium() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


class Tab:
    """Una pestaña: lo que se vio en la consola y los pedidos que hizo."""

    def __init__(self, browser: Browser, folder: Path, **options: object) -> None:
        self.folder = folder
        self.page: Page = browser.new_page(reduced_motion='reduce', **options)  # type: ignore[arg-type]
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on('console', lambda message: self.complaints.append(message.text))
        self.page.on('pageerror', lambda error: self.complaints.append(str(error)))
        self.page.on('dialog', lambda dialog: self.complaints.append(dialog.message))
        self.page.on('request', lambda request: self.requests.append(request.url))

    def open(self, root: Value, rankdir: str = 'LR', hash: str = '') -> Page:
        path = show_backprop(root, rankdir).save(self.folder / 'backprop.html')
        self.page.goto(path.as_uri() + hash)
        return self.page

    def close(self) -> None:
        """Cierra la pestaña; lo único que se pudo pedir es el archivo."""
        self.page.close()
        assert self.complaints == []
        asked = {url.partition('#')[0] for url in self.requests if not url.startswith('data:')}
        assert asked == {(self.folder / 'backprop.html').as_uri()}


@pytest.fixture
def tab(chromium: Browser, tmp_path: Path) -> Iterator[Tab]:
    opened = Tab(chromium, tmp_path, viewport={'width': 1440, 'height': 900})
    yield opened
    opened.close()


def button(page: Page, name: str) -> Locator:
    return page.get_by_role('button', name=name, exact=True)


def node(page: Page, i: int) -> Locator:
    return page.locator(f'#n{i}')


def shown(page: Page, i: int) -> list[str]:
    """El dato y el gradiente que muestra la caja del nodo i."""
    return [text.strip() for text in node(page, i).locator('text').all_text_contents()[-2:]]


def counter(page: Page) -> str:
    return page.locator('#counter').inner_text()


# ---- Los pasos ----


@pytest.mark.parametrize('rankdir', ['LR', 'TB'])
@pytest.mark.parametrize('graph', GRAPHS)
def test_step_by_step_to_what_backward_leaves(graph: str, rankdir: str, tab: Tab) -> None:
    root = GRAPHS[graph]()
    order = topological_order(root)
    operations = [i for i, v in enumerate(order) if v._prev]
    page = tab.open(root, rankdir)
    total = 3 + 2 * len(operations)
    assert counter(page) == f'Paso 1 de {total}'
    for i, v in enumerate(order):
        data = '' if v._prev else f' {significant(v.data)}'
        assert shown(page, i) == [f'data{data}', 'grad' if v._prev else 'grad 0']
    for i in operations:
        v = order[i]
        button(page, 'Paso siguiente').click()
        assert shown(page, i) == [f'data {significant(v.data)}', 'grad 0']
        near = {f'n{i}', *(f'n{order.index(u)}' for u in v._prev)}
        active = page.locator('.node.active:not([data-op])')
        assert {element.get_attribute('id') for element in active.all()} == near
        assert page.locator('.edge.active').count() == len(v._prev) + 1
    root.backward()
    button(page, 'Paso siguiente').click()
    assert shown(page, len(order) - 1)[1] == 'grad 1'
    for i in reversed(operations):
        button(page, 'Paso siguiente').click()
        assert page.locator('#lines li').count() == len(order[i]._prev)
        assert page.locator('.edge.active').count() == len(order[i]._prev) + 1
        assert page.locator('.slope').count() == len(order[i]._prev)
        assert shown(page, i)[1] == f'grad {significant(order[i].grad)}'
    button(page, 'Paso siguiente').click()
    expect(page.locator('#caption')).to_contain_text('así deja los gradientes backward()')
    assert counter(page) == f'Paso {total} de {total}'
    for i, v in enumerate(order):
        assert shown(page, i) == [f'data {significant(v.data)}', f'grad {significant(v.grad)}']
        node(page, i).press('Enter')
        exact = page.locator('#card dd').all_inner_texts()
        assert [float(text.replace('−', '-')) for text in exact[1:3]] == [v.data, v.grad]
    page.keyboard.press('ArrowRight')
    assert counter(page) == f'Paso {total} de {total}'


def test_the_chain_rule_and_the_sum(tab: Tab) -> None:
    page = tab.open(square())
    page.get_by_label('Paso', exact=True).fill('3')
    lines = page.locator('#lines li')
    assert re.sub(r'\s+', ' ', lines.nth(1).inner_text()) == (
        '∂L/∂x += ∂L/∂L · ∂L/∂x = ∂L/∂L · x = 1 · 3 = 3 la suma: ∂L/∂x = 3 + 3 = 6'
    )
    assert page.locator('.slope').all_text_contents() == ['×3', '×3']
    expect(page.locator('[aria-live]').filter(has=lines.first)).to_have_attribute(
        'aria-atomic', 'true'
    )


def test_buttons_slider_and_keys(tab: Tab) -> None:
    page = tab.open(neuron())
    slider = page.get_by_label('Paso', exact=True)
    button(page, 'Último paso').click()
    assert counter(page) == 'Paso 15 de 15'
    expect(button(page, 'Paso siguiente')).to_be_disabled()
    button(page, 'Paso anterior').click()
    expect(slider).to_have_value('13')
    button(page, 'Primer paso').click()
    assert counter(page) == 'Paso 1 de 15'
    button(page, 'Backward').click()
    assert counter(page) == 'Paso 8 de 15'
    expect(page.locator('#lines')).to_contain_text('∂L/∂L += 1')
    slider.fill('11')
    assert counter(page) == 'Paso 12 de 15'
    expect(slider).to_have_attribute('aria-valuetext', 'Paso 12 de 15, backward')
    for key, expected in [('ArrowRight', 13), ('ArrowLeft', 12), ('End', 15), ('Home', 1)]:
        page.keyboard.press(key)  # el foco sigue en la barra
        assert counter(page) == f'Paso {expected} de 15'
    page.locator('#heading').click()
    page.keyboard.press('ArrowRight')
    assert counter(page) == 'Paso 2 de 15'
    page.keyboard.press('ArrowLeft')
    page.keyboard.press('ArrowLeft')
    assert counter(page) == 'Paso 1 de 15'


def test_play_and_pause(tab: Tab) -> None:
    tab.page.clock.install()
    page = tab.open(neuron())
    page.keyboard.press(' ')
    expect(button(page, 'Pausar')).to_be_visible()
    page.clock.run_for(4100)
    assert counter(page) == 'Paso 3 de 15'
    page.get_by_text('Opciones').click()
    page.get_by_label('Velocidad').select_option('4×')
    page.clock.run_for(2100)
    assert counter(page) == 'Paso 7 de 15'
    button(page, 'Pausar').press(' ')
    page.clock.run_for(10000)
    assert counter(page) == 'Paso 7 de 15'
    button(page, 'Paso siguiente').press(' ')  # con el foco en un botón, espacio es ese botón
    page.clock.run_for(10000)
    assert counter(page) == 'Paso 8 de 15'
    button(page, 'Reproducir').click()
    page.clock.run_for(20000)
    assert counter(page) == 'Paso 15 de 15'
    button(page, 'Reproducir').click()  # terminó: vuelve a empezar
    assert counter(page) == 'Paso 1 de 15'


def wait_for_hash(page: Page, hash: str) -> None:
    for _ in range(50):
        if page.evaluate('location.hash') == hash:
            return
        page.wait_for_timeout(100)
    raise AssertionError(page.url)


def test_the_address_says_the_step_and_the_numbers(tab: Tab) -> None:
    page = tab.open(neuron(), hash='#paso=12&n2=0.9')
    assert counter(page) == 'Paso 12 de 15'
    assert shown(page, 2)[0] == 'data 0.9'
    page.keyboard.press('ArrowRight')
    wait_for_hash(page, '#paso=13&n2=0.9')
    button(page, 'Volver').click()
    wait_for_hash(page, '#paso=13')
    assert shown(page, 2)[0] == 'data 0.3745'
    page.evaluate('location.hash = "#paso=3"')
    expect(page.locator('#counter')).to_have_text('Paso 3 de 15')
    for wrong in ('#paso=999', '#paso=x', '#n2=x&n999=1', '#%E0%A4%A'):
        page.evaluate('hash => { location.hash = hash; }', wrong)
    expect(page.locator('#counter')).to_have_text('Paso 1 de 15')
    assert shown(page, 2)[0] == 'data 0.3745'


# ---- Predecir ----


def answer(page: Page, number: str) -> None:
    page.get_by_label('Tu resultado').fill(number)
    page.keyboard.press('Enter')


def test_predict(tab: Tab) -> None:
    page = tab.open(square())
    page.get_by_label('Predecir').check()
    expect(button(page, 'Mostrar')).to_be_hidden()  # las hojas no se calculan
    page.keyboard.press('ArrowRight')
    expect(page.locator('#lines b')).to_have_text('?')
    assert shown(page, 1) == ['data ?', 'grad']
    assert '9' not in str(node(page, 1).text_content())
    node(page, 1).press('Enter')
    assert '9' not in page.locator('#card').inner_text()
    answer(page, '9,0')
    expect(page.locator('#lines b')).to_have_text('9')
    expect(page.locator('#lines')).to_contain_text('Bien')
    expect(page.locator('#score')).to_have_text('Bien: 1 de 1')
    button(page, 'Paso siguiente').click()
    button(page, 'Mostrar').click()
    assert shown(page, 1)[1] == 'grad 1'
    button(page, 'Paso siguiente').click()
    assert page.locator('#lines b').all_inner_texts() == ['?', '?']
    answer(page, 'tres')  # no es un número: no cuenta
    assert page.locator('#lines b').all_inner_texts() == ['?', '?']
    answer(page, '2.5')
    assert page.locator('#lines b').all_inner_texts() == ['3', '?']
    expect(page.locator('#lines')).to_contain_text('Pusiste 2.5')
    expect(page.get_by_text('la suma')).to_have_count(0)
    assert shown(page, 0)[1] == 'grad ?'
    answer(page, '3')
    expect(page.get_by_text('la suma: ∂L/∂x = 3 + 3 = 6')).to_be_visible()
    assert shown(page, 0)[1] == 'grad 6'
    expect(page.locator('#score')).to_have_text('Bien: 2 de 4')
    button(page, 'Paso anterior').click()  # volver no esconde lo que ya se contestó
    button(page, 'Paso anterior').click()
    expect(page.locator('#lines b')).to_have_text('9')
    expect(page.locator('#lines')).to_contain_text('Bien')
    page.get_by_label('Predecir').uncheck()
    expect(page.locator('#score')).to_be_hidden()


def test_what_is_predicted_may_differ_in_the_last_digit(tab: Tab) -> None:
    page = tab.open(neuron())
    page.get_by_label('Predecir').check()
    for typed, right in (('0.1874', 1), ('0.9507', 2), ('1.1385', 3), ('1.85', 3), ('−0.13', 3)):
        button(page, 'Paso siguiente').click()
        answer(page, typed)
        expect(page.locator('#score')).to_contain_text(f'Bien: {right} de')


# ---- La ficha ----


def test_the_card_of_a_node(tab: Tab) -> None:
    page = tab.open(neuron())
    card = page.get_by_role('complementary', name='Nodo elegido')
    node(page, 3).click()
    expect(card).to_contain_text('x₀·W₀')
    expect(card).to_contain_text('todavía no se calculó')
    page.keyboard.press('End')
    expect(card).to_contain_text('0.18727005942368125')
    expect(card).to_contain_text('∂(x₀·W₀)/∂W₀ = x₀ = 0.5')
    button(page, 'Ir a su valor').click()
    assert counter(page) == 'Paso 2 de 15'
    button(page, 'Ir a su gradiente').click()
    expect(page.locator('#lines')).to_contain_text('∂L/∂(x₀·W₀) +=')
    button(page, 'Cerrar').click()
    expect(card).to_be_hidden()
    page.locator('#n6op').click()  # también desde la operación
    expect(card).to_contain_text('·: x₁·W₁')
    page.keyboard.press('Escape')
    expect(card).to_be_hidden()
    node(page, 1).focus()
    page.keyboard.press(' ')
    expect(card).to_contain_text('ninguna: es una hoja')


# ---- Lo que se puede cambiar ----


def test_a_leaf_is_changed_and_everything_follows(tab: Tab) -> None:
    page = tab.open(neuron())
    node(page, 2).click()
    page.get_by_label('data', exact=True).fill('0,9')
    page.keyboard.press('Enter')
    page.keyboard.press('Escape')
    page.locator('#heading').click()
    page.keyboard.press('End')
    loss = neuron()
    W0 = topological_order(loss)[2]
    moved = (2 - (0.5 * (w := Value(0.9)) + 0.9507143064099162 + 0.7319939418114051)) ** 2
    moved.backward()
    assert shown(page, 2) == ['data 0.9', f'grad {significant(w.grad)}']
    assert shown(page, 11)[0] == f'data {significant(moved.data)}'
    button(page, 'Volver').click()
    loss.backward()
    assert shown(page, 2) == [f'data {significant(W0.data)}', f'grad {significant(W0.grad)}']
    expect(button(page, 'Volver')).to_be_hidden()


def test_the_dial_moves_a_leaf(tab: Tab) -> None:
    page = tab.open(square())
    page.keyboard.press('End')
    node(page, 0).click()
    page.get_by_label('data, con una barra').fill('-1.5')
    assert shown(page, 0) == ['data −1.5', 'grad −3']
    assert shown(page, 1)[0] == 'data 2.25'


def test_what_has_no_result_changes_nothing(tab: Tab) -> None:
    page = tab.open(Value(2.0, name='x').log())
    page.keyboard.press('End')
    node(page, 0).click()
    page.get_by_label('data', exact=True).fill('-1')
    page.keyboard.press('Enter')
    expect(page.get_by_role('alert')).to_contain_text('Con ese número L (log) no tiene resultado')
    assert shown(page, 0) == ['data 2', 'grad 0.5']
    page.get_by_label('data', exact=True).fill('uno')
    page.keyboard.press('Enter')
    expect(page.get_by_role('alert')).to_have_text('Escribí un número.')


def test_a_nudge_makes_the_derivative_felt(tab: Tab) -> None:
    page = tab.open(square())
    node(page, 0).click()
    assert page.locator('#felt').inner_text() == 'ΔL = 0.006001\n∂L/∂x · 0.001 = 0.006'
    page.get_by_label('Tamaño del empujón').fill('-1')
    assert page.locator('#felt').inner_text() == 'ΔL = −5\n∂L/∂x · (−1) = −6'


@pytest.mark.parametrize('size', [(1280, 720), (1440, 800), (1920, 1080)])
def test_the_nudge_is_in_view_on_a_wide_screen(size: tuple[int, int], tab: Tab) -> None:
    tab.page.set_viewport_size({'width': size[0], 'height': size[1]})
    page = tab.open(neuron())
    for step in ('Home', 'End'):
        page.keyboard.press(step)
        node(page, 2).click()
        for part in ('#datum', '#delta', '#felt', '#toData', '#close'):
            expect(page.locator(part)).to_be_in_viewport(ratio=1)
        page.keyboard.press('Escape')


def test_the_reason_a_number_is_refused_is_in_view(tab: Tab) -> None:
    tab.page.set_viewport_size({'width': 390, 'height': 760})
    x = Value(2.0, name='x')
    page = tab.open(x.log())
    node(page, 0).click()
    page.locator('#datum').fill('-1')
    page.locator('#datum').press('Enter')
    expect(page.locator('#mistake')).to_be_in_viewport(ratio=1)


def test_what_an_operation_of_ones_own_depends_on_cannot_be_changed(tab: Tab) -> None:
    page = tab.open(cube(Value(2.0, name='x')) * Value(3.0, name='w'))
    node(page, 0).click()
    expect(page.get_by_label('data', exact=True)).to_be_hidden()
    expect(page.locator('#locked')).to_have_text(
        'No se puede cambiar: de ella depende cubo(x), una operación propia que solo tu programa '
        'sabe calcular.'
    )
    node(page, 2).click()
    expect(page.get_by_label('data', exact=True)).to_be_visible()


def test_what_an_operation_of_ones_own_depends_on_is_not_adjusted(tab: Tab) -> None:
    page = tab.open(cube(Value(2.0, name='w0')) * Value(3.0, name='w1'))
    page.keyboard.press('End')
    updates = [row.inner_text().split('\t')[-1] for row in page.locator('#leaves tr').all()]
    assert updates == ['no se ajusta', '3 − 0.1 · 8 = 2.2']
    button(page, 'Dar un paso').click()
    assert shown(page, 0) == ['data 2', f'grad {significant(12 * 2.2)}']
    alone = tab.open(cube(Value(2.0, name='w0')))
    alone.keyboard.press('End')
    expect(button(alone, 'Dar un paso')).to_be_disabled()


def train(steps: int, eta: float) -> tuple[list[float], list[float]]:
    """Las pérdidas y los parámetros del bucle de siempre, en Python."""
    leaves = {v.name: v.data for v in topological_order(neuron()) if not v._prev}
    losses = []
    for _ in range(steps + 1):
        v = {name: Value(data) for name, data in leaves.items()}
        loss = (v['y'] - (v['x₀'] * v['W₀'] + v['x₁'] * v['W₁'] + v['b'])) ** 2
        loss.backward()
        losses.append(loss.data)
        for name in ('W₀', 'W₁', 'b'):
            leaves[name] -= eta * v[name].grad
    return losses, [leaves[name] for name in ('W₀', 'W₁', 'b')]


def test_ten_steps_of_descent_are_those_of_python(tab: Tab) -> None:
    page = tab.open(neuron())
    button(page, 'Último paso').click()
    rows = page.locator('#leaves tr')
    assert rows.nth(2).locator('td').all_inner_texts() == [
        '−0.1300',
        '0.3745 − 0.1 · (−0.1300) = 0.3875',
    ]
    assert rows.nth(0).locator('td').all_inner_texts() == ['0.2600', 'no se ajusta']
    page.get_by_label('η').fill('0,05')
    for _ in range(10):
        button(page, 'Dar un paso').click()
    losses, _ = train(10, 0.05)
    assert page.evaluate('losses') == pytest.approx(losses, rel=1e-12)
    expect(page.locator('#loss')).to_have_text(
        f'L: {significant(losses[0])} → {significant(losses[-1])} en 10 pasos'
    )
    curve = page.get_by_role('img', name='L en cada paso')
    expect(curve).to_be_visible()
    assert len(str(curve.locator('polyline').get_attribute('points')).split()) == 11
    button(page, 'Volver').click()
    expect(curve).to_be_hidden()
    assert shown(page, 11)[0] == f'data {significant(losses[0])}'


@pytest.mark.parametrize('size', [(390, 844), (800, 760), (1440, 800), (1920, 1080)])
@pytest.mark.parametrize('graph', [neuron, entropy])
def test_the_last_step_opens_with_its_button_in_view(
    graph: Callable[[], Value], size: tuple[int, int], tab: Tab
) -> None:
    tab.page.set_viewport_size({'width': size[0], 'height': size[1]})
    page = tab.open(graph())
    page.keyboard.press('End')
    for part in ('#eta', '#descend', '#loss', '#training thead'):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
    assert page.locator('#training').evaluate('area => area.scrollTop') == 0


def test_a_step_too_large_has_no_result(tab: Tab) -> None:
    page = tab.open(Value(2.0, name='w').log())
    page.keyboard.press('End')
    page.get_by_label('η').fill('10')
    button(page, 'Dar un paso').click()
    expect(page.locator('#loss')).to_contain_text('probá con un η más chico')
    assert shown(page, 0)[0] == 'data 2'


def test_gradients_start_from_zero_or_from_those_of_the_leaves(tab: Tab) -> None:
    x = Value(3.0, name='x')
    loss = x * x
    loss.backward()
    page = tab.open(loss)
    assert shown(page, 0)[1] == 'grad 0'
    page.keyboard.press('End')
    assert shown(page, 0)[1] == 'grad 6'
    page.get_by_text('Opciones').click()
    page.get_by_label('Sumar a los gradientes que ya tenían las hojas').check()
    assert shown(page, 0)[1] == 'grad 12'
    expect(page.locator('#caption')).to_contain_text('sumados a los que ya tenían las hojas')
    page.keyboard.press('Home')
    assert shown(page, 0)[1] == 'grad 6'
    fresh = tab.open(square())
    fresh.get_by_text('Opciones').click()
    expect(fresh.get_by_text('Sumar a los gradientes')).to_be_hidden()


def test_edges_as_wide_as_their_gradient(tab: Tab) -> None:
    a, b = Value(2.0, name='a'), Value(-8.0, name='b')
    page = tab.open(a * b)
    page.keyboard.press('End')
    page.get_by_text('Opciones').click()
    page.get_by_label('Grosor según el gradiente').check()
    edges = page.locator('.edge.weighed')
    widths = [
        float(e.evaluate('e => parseFloat(getComputedStyle(e.firstElementChild).strokeWidth)'))
        for e in edges.all()
    ]
    assert sorted(widths) == [4.5, 8.0]  # la raíz de 2/8, y todo
    assert page.locator('.edge.negative').count() == 1
    dashes = 'e => getComputedStyle(e.firstElementChild).strokeDasharray'
    assert page.locator('.edge.negative').evaluate(dashes) != 'none'  # no solo el color
    expect(page.locator('#legend')).to_be_visible()
    page.get_by_label('Grosor según el gradiente').uncheck()
    assert page.locator('.edge.weighed').count() == 0


# ---- Lo que se ve ----


def width(page: Page) -> float:
    box = page.locator('#graph svg').bounding_box()
    assert box is not None
    return box['width']


def test_zoom_fit_and_pan(tab: Tab) -> None:
    page = tab.open(xor_loss())
    before = width(page)
    button(page, 'Agrandar').click()
    assert width(page) == pytest.approx(before * 1.25, rel=1e-3)
    button(page, 'Achicar').click()
    assert width(page) == pytest.approx(before, rel=1e-3)
    graph = page.locator('#graph')
    graph.hover()
    page.keyboard.down('Control')
    page.mouse.wheel(0, -300)
    page.keyboard.up('Control')
    page.wait_for_function(f'document.querySelector("#graph svg").clientWidth > {before * 2}')
    scroll = 'element => [element.scrollLeft, element.scrollTop]'
    left, top = graph.evaluate(scroll)
    page.mouse.down()
    page.mouse.move(500, 150, steps=4)
    page.mouse.up()
    assert graph.evaluate(scroll) != [left, top]
    expect(page.locator('#card')).to_be_hidden()  # arrastrar no es elegir
    button(page, 'Ver todo').click()
    assert graph.evaluate('e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight')


def test_two_fingers_on_the_board_change_its_size(chromium: Browser, tmp_path: Path) -> None:
    tab = Tab(chromium, tmp_path, viewport={'width': 390, 'height': 844}, has_touch=True)
    page = tab.open(neuron())
    before = width(page)
    device = page.context.new_cdp_session(page)

    def touch(kind: str, gap: int) -> None:
        points = [{'x': 195 - gap, 'y': 200}, {'x': 195 + gap, 'y': 200}]
        device.send(
            'Input.dispatchTouchEvent',
            {'type': kind, 'touchPoints': [] if kind == 'touchEnd' else points},
        )

    touch('touchStart', 30)
    touch('touchMove', 60)
    touch('touchEnd', 0)
    assert width(page) == pytest.approx(2 * before, rel=0.01)
    assert page.evaluate('visualViewport.scale') == 1  # se agranda el grafo, no la página
    tab.close()


# De cada paso: si algo de lo activo queda afuera, si entraría con letras de 9 píxeles, si se ve lo
# que cambia, y de cuántos píxeles son las letras.
CUT_STEPS = """() => {
  const board = document.getElementById('graph');
  return steps.map((step, i) => {
    go(i);
    const frame = board.getBoundingClientRect();
    const active = [...svg.querySelectorAll('.node.active')];
    const boxes = active.map((node) => node.getBoundingClientRect());
    if (!boxes.length) return null;
    const [left, top] = ['left', 'top'].map((side) => Math.min(...boxes.map((box) => box[side])));
    const [right, bottom] = ['right', 'bottom'].map(
      (side) => Math.max(...boxes.map((box) => box[side])));
    const cut = left < frame.left - 1 || right > frame.left + board.clientWidth + 1
      || top < frame.top - 1 || bottom > frame.top + board.clientHeight + 1;
    const least = 9 / (14 * view.scale);
    const fits = (right - left) * least < board.clientWidth - 14
      && (bottom - top) * least < board.clientHeight - 14;
    const seen = step.lines.slice(0, 1).every(({to}) => {
      const box = shapes[to].box.getBoundingClientRect();
      return box.right > frame.left && box.left < frame.right
        && box.bottom > frame.top && box.top < frame.bottom;
    });
    return {cut, fits, seen: seen || step.given === true, text: 14 * view.scale};
  }).filter(Boolean);
}"""


@pytest.mark.parametrize('size', [(390, 844), (800, 1000), (1440, 900)])
@pytest.mark.parametrize('rankdir', ['LR', 'TB'])
@pytest.mark.parametrize('graph', SIX)
def test_the_step_is_never_cut_where_nine_pixels_allow_it(
    graph: Callable[[], Value],
    rankdir: str,
    size: tuple[int, int],
    chromium: Browser,
    tmp_path: Path,
) -> None:
    tab = Tab(chromium, tmp_path, viewport={'width': size[0], 'height': size[1]})
    page = tab.open(graph(), rankdir)
    steps = page.evaluate(CUT_STEPS)
    assert not [step for step in steps if step['cut'] and step['fits']]
    assert min(step['text'] for step in steps) >= 8.999
    assert all(step['seen'] for step in steps)
    assert any(not step['cut'] for step in steps)
    tab.close()


@pytest.mark.parametrize('rankdir', ['LR', 'TB'])
def test_the_page_opens_where_the_address_says(rankdir: str, tab: Tab) -> None:
    page = tab.open(network(), rankdir, hash='#paso=70')
    board = page.locator('#graph').bounding_box()
    assert board is not None
    for active in page.locator('.node.active').all():
        expect(active).to_be_in_viewport(ratio=1)
        box = active.bounding_box()
        assert box is not None
        assert board['y'] <= box['y']
        assert box['y'] + box['height'] <= board['y'] + board['height']


# 720 × 450 es una pantalla de 1440 × 900 agrandada al 200 %.
SIZES = [(320, 640), (390, 844), (720, 450), (800, 600), (844, 390), (800, 1000), (1440, 900)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('rankdir', ['LR', 'TB'])
def test_every_control_is_at_hand(
    size: tuple[int, int], rankdir: str, chromium: Browser, tmp_path: Path
) -> None:
    tab = Tab(chromium, tmp_path, viewport={'width': size[0], 'height': size[1]})
    page = tab.open(neuron(), rankdir)
    for step in ('Home', 'ArrowRight', 'End'):
        page.keyboard.press(step)
        node(page, 2).press('Enter')
        assert not page.evaluate('document.documentElement.scrollWidth > innerWidth')
        for control in page.locator('button:visible').all():  # se aciertan con el dedo
            box = control.bounding_box()
            assert box is not None
            assert min(box['width'], box['height']) >= 43.9
        expect(button(page, 'Paso siguiente')).to_be_in_viewport()
        board = page.locator('#graph').bounding_box()
        assert board is not None
        assert min(board['width'], board['height']) >= 100
        page.locator('#card h2').scroll_into_view_if_needed()
        expect(page.locator('#card h2')).to_be_in_viewport()
        expect(button(page, 'Paso siguiente')).to_be_in_viewport()
        page.keyboard.press('Escape')
    page.get_by_text('Opciones').click()
    for part in ('#speed', '#widths', '#more p'):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
    tab.close()


def test_numbers_stay_in_their_cells(tab: Tab) -> None:
    x = Value(-1.23456e-7, name='x')
    page = tab.open(x * Value(-9.87654e12, name='un nombre') * 1e-200)
    page.keyboard.press('End')
    for box in page.locator('.node[role="button"]').all():
        for text in box.locator('text').all():
            inside = 'e => [e.getBBox().width, e.parentNode.firstElementChild.getBBox().width]'
            drawn, room = text.evaluate(inside)
            assert drawn <= room


def luminance(color: str) -> float:
    """La luminancia relativa de WCAG 2 de un color 'rgb(r, g, b)'."""
    parts = [int(part) / 255 for part in re.findall(r'\d+', color)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# El color de un texto y el de lo que tiene detrás.
SEEN = """(element) => {
  const look = (part) => getComputedStyle(part);
  const box = element.closest('.node')?.firstElementChild;
  if (box) return [look(element).fill, look(box).fill];
  if (element.closest('#graph')) return [look(element).fill, look(document.body).backgroundColor];
  let back = element;
  while (/, 0\\)|transparent/.test(look(back).backgroundColor)) back = back.parentElement;
  return [look(element).color, look(back).backgroundColor];
}"""


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_contrast(scheme: str, chromium: Browser, tmp_path: Path) -> None:
    tab = Tab(chromium, tmp_path, color_scheme=scheme, viewport={'width': 1440, 'height': 900})
    page = tab.open(neuron())
    paper = luminance(page.locator('#player').evaluate(SEEN)[1])
    assert (paper > 0.5) == (scheme == 'light')
    box = luminance(page.locator('#n0').locator('text').first.evaluate(SEEN)[1])
    assert (box > 0.5) == (scheme == 'light')  # las cajas también son oscuras
    page.get_by_text('Opciones').click()
    node(page, 0).click()
    checked = 0
    for step in ('Home', 'ArrowRight', 'End', 'ArrowLeft'):
        page.keyboard.press(step)
        for text in page.locator(
            '#phase, #counter, #caption, #lines li, #lines b, #card dt, #card dd, #more label,'
            ' #more p, button:visible, #graph text, #training td, #training th'
        ).all():
            ink, back = (luminance(color) for color in text.evaluate(SEEN))
            assert (max(ink, back) + 0.05) / (min(ink, back) + 0.05) > 4.5, text.text_content()
            checked += 1
    assert checked > 200
    tab.close()


def test_on_paper_the_whole_graph_and_no_controls(chromium: Browser, tmp_path: Path) -> None:
    tab = Tab(chromium, tmp_path, color_scheme='dark', viewport={'width': 1000, 'height': 700})
    page = tab.open(network())
    page.keyboard.press('ArrowRight')
    page.emulate_media(media='print')
    drawing = page.locator('#graph svg').bounding_box()
    assert drawing is not None
    assert drawing['x'] >= 0
    assert drawing['x'] + drawing['width'] <= 1000
    for part in ('#controls', '#slider', '#zoom'):
        expect(page.locator(part)).to_be_hidden()
    expect(page.locator('#lines')).to_be_visible()
    assert luminance(page.locator('body').evaluate(SEEN)[1]) == 1
    assert luminance(page.locator('#n0 text').first.evaluate(SEEN)[1]) > 0.5
    tab.close()


@pytest.mark.parametrize(('rankdir', 'landscape'), [('LR', True), ('TB', False)])
def test_a_wide_graph_is_printed_on_a_wide_sheet(rankdir: str, landscape: bool, tab: Tab) -> None:
    page = tab.open(network(), rankdir)
    sheets = re.findall(
        rb'/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]', page.pdf(prefer_css_page_size=True)
    )
    assert sheets
    assert all((float(width) > float(height)) == landscape for width, height in sheets)


@pytest.mark.parametrize('name', HOSTILE)
def test_a_name_is_text(name: str, tab: Tab) -> None:
    x = Value(2.0, name=name)
    own = Value(4.0, (x,), name)
    own._backward = lambda: None
    page = tab.open(own + x)
    page.keyboard.press('End')
    page.keyboard.press('ArrowLeft')
    node(page, 0).press('Enter')
    assert page.locator('img').count() == 0
    visible = ' '.join(name.split())
    if visible.isprintable() and 0 < len(visible) <= 24:
        expect(page.locator('#card h2')).to_have_text(visible)


# ---- Sin mouse ----


def test_every_control_has_a_name(tab: Tab) -> None:
    page = tab.open(neuron())
    tree = page.locator('body').aria_snapshot()
    assert not re.findall(r'- (?:button|slider|checkbox|combobox)(?::|$)', tree, re.MULTILINE)
    assert 'button "ŷ data grad"' in tree
    page.keyboard.press('End')
    assert 'button "W₀ data 0.3745 grad −0.1300"' in page.locator('body').aria_snapshot()
    assert page.locator('html').get_attribute('lang') == 'es'
    assert page.locator('.node[aria-label]').count() == 0  # lo que se lee es lo que se ve


def test_the_buttons_come_before_the_nodes(tab: Tab) -> None:
    page = tab.open(network())
    reached: list[str] = []
    while not reached or not re.fullmatch(r'n\d+', reached[-1]):
        page.keyboard.press('Tab')
        reached.append(page.evaluate('document.activeElement.id'))
    controls = {'first', 'previous', 'play', 'next', 'last', 'toBackward', 'slider', 'predict'}
    assert controls | {'smaller', 'fit', 'larger'} <= set(reached)
    assert len(reached) < 20


# ---- En un notebook ----


def notebook(tmp_path: Path, code: str) -> Path:
    nbformat, nbclient, nbconvert = need('nbformat'), need('nbclient'), need('nbconvert')
    need('ipykernel')
    cells = [nbformat.v4.new_code_cell(code)]
    written = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(written, kernel_name='python3').execute()
    html, _ = nbconvert.HTMLExporter().from_notebook_node(written)
    path = tmp_path / 'notebook.html'
    path.write_text(html, encoding='utf-8')
    return path


def test_in_an_executed_notebook(chromium: Browser, tmp_path: Path) -> None:
    path = notebook(
        tmp_path,
        'from michigrad.engine import Value\n'
        'from michigrad.stepper import show_backprop\n'
        "x = Value(3.0, name='x')\n"
        'show_backprop(x * x)',
    )
    page = chromium.new_page()
    asked: list[str] = []

    def remember(request: Request) -> None:
        if request.frame.parent_frame:  # lo que pide el iframe, y no nbconvert
            asked.append(request.url)

    page.route(re.compile('^https?:'), lambda route: route.abort())
    page.on('request', remember)
    page.goto(path.as_uri())
    frame = page.frame_locator('iframe[title="Backpropagation paso a paso"]')
    expect(frame.locator('#hint')).to_be_visible()  # el teclado todavía es del notebook
    frame.locator('#graph').click(position={'x': 5, 'y': 5})
    expect(frame.locator('#hint')).to_be_hidden()
    page.keyboard.press('ArrowRight')  # la primera tecla ya es de la página
    expect(frame.locator('#counter')).to_have_text('Paso 2 de 5')
    frame.get_by_role('button', name='Último paso').click()
    assert frame.locator('#n0 text').last.text_content() == 'grad 6'
    assert not [url for url in asked if url.startswith('http')]
    page.close()


def test_a_notebook_that_is_not_trusted_shows_the_picture(
    chromium: Browser, tmp_path: Path
) -> None:
    safe = re.sub('<iframe.*?</iframe>', '', show_backprop(neuron())._repr_html_())
    page = chromium.new_page(viewport={'width': 900, 'height': 900})
    page.set_content(re.sub(' style="[^"]*"', '', safe))  # también pierde los estilos
    picture = page.get_by_alt_text('El grafo con los gradientes que deja backward()')
    expect(picture).to_be_visible()
    assert picture.evaluate('image => image.naturalWidth') > 100
    page.close()


@pytest.mark.parametrize('width', [700, 900])
def test_in_a_notebook_a_tall_graph_goes_aside(
    width: int, chromium: Browser, tmp_path: Path
) -> None:
    tab = Tab(chromium, tmp_path, viewport={'width': width, 'height': 640})
    page = tab.open(neuron(), 'TB')
    board, player = (page.locator(part).bounding_box() for part in ('#board', '#player'))
    assert board is not None
    assert player is not None
    assert board['x'] + board['width'] <= player['x'] + 1
    assert board['height'] == 640
    tab.close()


def test_the_screenshots_of_the_readme(chromium: Browser, tmp_path: Path) -> None:
    take(chromium, tmp_path)
    sizes = {}
    for path in tmp_path.glob('*.png'):
        sizes[path.name] = struct.unpack('>II', path.read_bytes()[16:24])
    assert sizes == {'backprop.png': (1440, 760), 'backprop-celular.png': (780, 1520)}
