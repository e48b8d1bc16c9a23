"""La página de show_backprop en un Chromium de verdad, manejado con Playwright.

Donde falta Chromium o Playwright estas pruebas se saltean.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from michigrad.engine import Value, topological_order
from michigrad.stepper import show_backprop

pytest.importorskip('playwright', reason='falta Playwright: pip install playwright')

from playwright.sync_api import Browser, Locator, Page, Request, expect

from tests.screenshots import find_chromium, neuron, open_chromium, take
from tests.test_stepper import HOSTILE, cube, xor_loss

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

    def open(self, root: Value, rankdir: str = 'LR') -> Page:
        path = show_backprop(root, rankdir).save(self.folder / 'backprop.html')
        self.page.goto(path.as_uri())
        return self.page

    def close(self) -> None:
        """Cierra la pestaña; lo único que se pudo pedir es el archivo."""
        self.page.close()
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith('data:')] == [
            (self.folder / 'backprop.html').as_uri()
        ]


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


def decimals(number: float) -> str:
    return f'{number + 0.0:.4f}'.replace('-', '−')


def counter(page: Page) -> str:
    return page.locator('#counter').inner_text()


@pytest.mark.parametrize('rankdir', ['LR', 'TB'])
@pytest.mark.parametrize('graph', GRAPHS)
def test_step_by_step_to_what_backward_leaves(graph: str, rankdir: str, tab: Tab) -> None:
    root = GRAPHS[graph]()
    order = topological_order(root)
    page = tab.open(root, rankdir)
    total = len(order) + 2 + sum(bool(v._prev) for v in order)
    for i, v in enumerate(order):
        assert counter(page) == f'Paso {i + 1} de {total}'
        assert shown(page, i) == [f'data {decimals(v.data)}', 'grad 0.0000']
        assert [shown(page, j) for j in range(i + 1, len(order))] == [['data', 'grad']] * (
            len(order) - i - 1
        )
        near = {f'n{i}', *(f'n{order.index(u)}' for u in v._prev)}
        active = page.locator('.node.active:not([data-op])')
        assert {element.get_attribute('id') for element in active.all()} == near
        assert page.locator('.edge.active').count() == len(v._prev) + bool(v._prev)
        button(page, 'Paso siguiente').click()
    root.backward()
    assert shown(page, len(order) - 1)[1] == 'grad 1.0000'
    for v in [v for v in reversed(order) if v._prev]:
        button(page, 'Paso siguiente').click()
        assert page.locator('#lines li').count() == len(v._prev)
        assert page.locator('.edge.active').count() == len(v._prev) + 1
        assert shown(page, order.index(v))[1] == f'grad {decimals(v.grad)}'
    button(page, 'Paso siguiente').click()
    expect(page.locator('#caption')).to_contain_text('así deja los gradientes backward()')
    assert counter(page) == f'Paso {total} de {total}'
    for i, v in enumerate(order):
        assert shown(page, i) == [f'data {decimals(v.data)}', f'grad {decimals(v.grad)}']
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
        '∂L/∂x += ∂L/∂L · x = 1.0000 · 3.0000 = 3.0000 acumula 3.0000 + 3.0000 = 6.0000'
    )
    expect(page.locator('[aria-live]').filter(has=lines.first)).to_have_attribute(
        'aria-atomic', 'true'
    )


def test_buttons_slider_and_keys(tab: Tab) -> None:
    page = tab.open(neuron())
    slider = page.get_by_label('Paso', exact=True)
    button(page, 'Último paso').click()
    assert counter(page) == 'Paso 20 de 20'
    expect(button(page, 'Paso siguiente')).to_be_disabled()
    button(page, 'Paso anterior').click()
    expect(slider).to_have_value('18')
    button(page, 'Primer paso').click()
    assert counter(page) == 'Paso 1 de 20'
    slider.fill('12')
    assert counter(page) == 'Paso 13 de 20'
    expect(slider).to_have_attribute('aria-valuetext', 'Paso 13 de 20, backward')
    for key, expected in [('ArrowRight', 14), ('ArrowLeft', 13), ('End', 20), ('Home', 1)]:
        page.keyboard.press(key)  # el foco sigue en la barra
        assert counter(page) == f'Paso {expected} de 20'
    page.locator('body').click(position={'x': 5, 'y': 5})
    page.keyboard.press('ArrowRight')
    assert counter(page) == 'Paso 2 de 20'
    page.keyboard.press('ArrowLeft')
    page.keyboard.press('ArrowLeft')
    assert counter(page) == 'Paso 1 de 20'


def test_play_and_pause(tab: Tab) -> None:
    tab.page.clock.install()
    page = tab.open(neuron())
    page.keyboard.press(' ')
    expect(button(page, 'Pausar')).to_be_visible()
    page.clock.run_for(4100)
    assert counter(page) == 'Paso 3 de 20'
    page.get_by_label('Velocidad').select_option('4×')
    page.clock.run_for(2100)
    assert counter(page) == 'Paso 7 de 20'
    button(page, 'Pausar').press(' ')
    page.clock.run_for(10000)
    assert counter(page) == 'Paso 7 de 20'
    button(page, 'Paso siguiente').press(' ')  # con el foco en un botón, espacio es ese botón
    page.clock.run_for(10000)
    assert counter(page) == 'Paso 8 de 20'
    button(page, 'Reproducir').click()
    page.clock.run_for(20000)
    assert counter(page) == 'Paso 20 de 20'
    button(page, 'Reproducir').click()  # terminó: vuelve a empezar
    assert counter(page) == 'Paso 1 de 20'


def test_predict(tab: Tab) -> None:
    page = tab.open(square())
    page.get_by_label('Predecir').check()
    reveal = button(page, 'Mostrar')
    expect(reveal).to_be_hidden()  # una hoja no se calcula
    page.keyboard.press('ArrowRight')
    expect(page.locator('#lines b')).to_have_text('?')
    assert shown(page, 1) == ['data ?', 'grad']
    assert '9' not in str(node(page, 1).get_attribute('aria-label'))
    node(page, 1).press('Enter')
    assert '9' not in page.locator('#card').inner_text()
    reveal.click()
    expect(page.locator('#lines b')).to_have_text('9.0000')
    expect(reveal).to_be_hidden()
    page.keyboard.press('ArrowRight')
    page.keyboard.press('ArrowRight')
    assert shown(page, 1)[1] == 'grad 1.0000'
    page.keyboard.press('ArrowRight')
    assert page.locator('#lines b').all_inner_texts() == ['?', '?']
    reveal.click()
    assert page.locator('#lines b').all_inner_texts() == ['3.0000', '?']
    expect(page.get_by_text('acumula')).to_have_count(0)
    assert shown(page, 0)[1] == 'grad ?'
    page.keyboard.press('ArrowRight')
    expect(page.get_by_text('acumula 3.0000 + 3.0000 = 6.0000')).to_be_visible()
    assert shown(page, 0)[1] == 'grad 6.0000'
    page.get_by_label('Predecir').uncheck()
    page.keyboard.press('ArrowLeft')
    expect(page.locator('#lines b')).to_have_text('1.0000')


def test_the_card_of_a_node(tab: Tab) -> None:
    page = tab.open(neuron())
    card = page.get_by_role('complementary', name='Nodo elegido')
    node(page, 3).click()
    expect(card).to_contain_text('x₀·W₀')
    expect(card).to_contain_text('todavía no se calculó')
    page.keyboard.press('End')
    expect(card).to_contain_text('0.18727005942368125')
    expect(card).to_contain_text('∂(x₀·W₀)/∂W₀ = x₀ = 0.5000')
    button(page, 'Cerrar').click()
    expect(card).to_be_hidden()
    page.locator('#n6op').click()  # también desde la operación
    expect(card).to_contain_text('*: x₁·W₁')
    page.keyboard.press('Escape')
    expect(card).to_be_hidden()
    node(page, 1).focus()
    page.keyboard.press(' ')
    expect(card).to_contain_text('ninguna: es una hoja')


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
    button(page, 'Ajustar').click()
    assert graph.evaluate('e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight')


@pytest.mark.parametrize('size', [(390, 844), (800, 1000), (1440, 900)])
@pytest.mark.parametrize('rankdir', ['LR', 'TB'])
def test_what_works_is_in_sight(
    size: tuple[int, int], rankdir: str, chromium: Browser, tmp_path: Path
) -> None:
    tab = Tab(chromium, tmp_path, viewport={'width': size[0], 'height': size[1]})
    page = tab.open(neuron(), rankdir)
    zoom = page.locator('#zoom').bounding_box()
    assert zoom is not None
    for _ in range(20):
        board = page.locator('#graph').bounding_box()
        assert board is not None
        for active in page.locator('.active').all():
            box = active.bounding_box()
            assert box is not None
            assert box['x'] > board['x'] - 2
            assert box['x'] + box['width'] < board['x'] + board['width'] + 2
            assert box['y'] > zoom['y'] + zoom['height'] - 2
            assert box['y'] + box['height'] < board['y'] + board['height'] + 2
        page.keyboard.press('ArrowRight')
    overflow = 'document.documentElement.scrollWidth > innerWidth'
    assert not page.evaluate(overflow)
    for control in page.locator('button:visible').all():  # se aciertan con el dedo
        box = control.bounding_box()
        assert box is not None
        assert min(box['width'], box['height']) >= 44
    expect(button(page, 'Paso siguiente')).to_be_in_viewport()
    tab.close()


def luminance(color: str) -> float:
    """La luminancia relativa de WCAG 2 de un color 'rgb(r, g, b)'."""
    parts = [int(part) / 255 for part in re.findall(r'\d+', color)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('step', ['Home', 'End'])
def test_contrast(scheme: str, step: str, chromium: Browser, tmp_path: Path) -> None:
    tab = Tab(chromium, tmp_path, color_scheme=scheme)
    page = tab.open(square())
    page.keyboard.press(step)
    page.keyboard.press('ArrowLeft')
    style = '(e, name) => getComputedStyle(e)[name]'
    paper = luminance(page.locator('#player').evaluate(style, 'backgroundColor'))
    assert (paper > 0.5) == (scheme == 'light')
    for text in page.locator('#phase, #counter, #caption, #lines li, #lines b').all():
        ink = luminance(text.evaluate(style, 'color'))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 4.5
    tab.close()


@pytest.mark.parametrize('name', HOSTILE)
def test_a_name_is_text(name: str, tab: Tab) -> None:
    x = Value(2.0, name=name)
    page = tab.open(Value(4.0, (x,), name) + x)
    page.keyboard.press('End')
    page.keyboard.press('ArrowLeft')
    node(page, 0).press('Enter')
    assert page.locator('img').count() == 0
    visible = ' '.join(name.split())
    if visible.isprintable() and 0 < len(visible) <= 24:
        expect(page.locator('#card h2')).to_have_text(visible)


def test_every_control_has_a_name(tab: Tab) -> None:
    page = tab.open(neuron())
    tree = page.locator('body').aria_snapshot()
    assert not re.findall(r'- (?:button|slider|checkbox|combobox)(?::|$)', tree, re.MULTILINE)
    assert 'button "W₀: todavía no se calculó"' in tree
    page.keyboard.press('End')
    assert 'button "W₀: data 0.3745, grad −0.1300"' in page.locator('body').aria_snapshot()
    assert page.locator('html').get_attribute('lang') == 'es'


def test_the_keyboard_alone_reaches_everything(tab: Tab) -> None:
    page = tab.open(square())
    reached = set()
    for _ in range(20):
        page.keyboard.press('Tab')
        reached.add(page.evaluate('document.activeElement.id'))
    controls = {'first', 'previous', 'play', 'next', 'last', 'slider', 'predict', 'speed'}
    assert controls | {'smaller', 'fit', 'larger', 'n0', 'n1'} <= reached


def test_in_an_executed_notebook(chromium: Browser, tmp_path: Path) -> None:
    nbformat = pytest.importorskip('nbformat')
    nbclient = pytest.importorskip('nbclient')
    nbconvert = pytest.importorskip('nbconvert')
    pytest.importorskip('ipykernel')
    cell = nbformat.v4.new_code_cell(
        'from michigrad.engine import Value\n'
        'from michigrad.stepper import show_backprop\n'
        "x = Value(3.0, name='x')\n"
        'show_backprop(x * x)'
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, kernel_name='python3').execute()
    html, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    path = tmp_path / 'notebook.html'
    path.write_text(html, encoding='utf-8')
    page = chromium.new_page()
    asked: list[str] = []

    def remember(request: Request) -> None:
        if request.frame.parent_frame:  # lo que pide el iframe, y no nbconvert
            asked.append(request.url)

    page.route(re.compile('^https?:'), lambda route: route.abort())
    page.on('request', remember)
    page.goto(path.as_uri())
    frame = page.frame_locator('iframe[title="Backpropagation paso a paso"]')
    frame.get_by_role('button', name='Último paso').click()
    assert frame.locator('#n0 text').last.text_content() == 'grad 6.0000'
    page.get_by_text('El grafo como imagen fija').click()
    picture = page.get_by_alt_text('El grafo con los gradientes que deja backward()')
    expect(picture).to_be_visible()
    assert picture.evaluate('image => image.naturalWidth') > 100
    assert not [url for url in asked if url.startswith('http')]
    page.close()


def test_the_screenshots_of_the_readme(chromium: Browser, tmp_path: Path) -> None:
    take(chromium, tmp_path)
    sizes = {}
    for path in tmp_path.glob('*.png'):
        sizes[path.name] = struct.unpack('>II', path.read_bytes()[16:24])
    assert sizes == {'backprop.png': (1440, 760), 'backprop-celular.png': (780, 1520)}
