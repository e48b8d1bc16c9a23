"""Escribe en images/ las capturas de show_backprop que muestra el README.

    python -m tests.screenshots

Usan Chromium sin ventana y Playwright, que no descarga ningún navegador: maneja el que esté
instalado (en Debian y Ubuntu, `apt-get install chromium`).
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from michigrad.engine import Value
from michigrad.stepper import show_backprop

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]


def find_chromium() -> str | None:
    """La ruta de Chromium o de Chrome, si hay alguno en el PATH."""
    names = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
    return next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def open_chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield browser
        browser.close()


def neuron() -> Value:
    """El ejemplo del README: la pérdida de una neurona con un ejemplo."""
    W0 = Value(0.3745401188473625, name='W₀')
    W1 = Value(0.9507143064099162, name='W₁')
    b = Value(0.7319939418114051, name='b')
    yhat = Value(0.5, name='x₀') * W0 + Value(1.0, name='x₁') * W1 + b
    yhat.name = 'ŷ'
    loss = (Value(2.0, name='y') - yhat) ** 2
    loss.name = 'L'
    return loss


def take(browser: Browser, folder: Path) -> None:
    """Escribe en `folder` las capturas: la página en una pantalla ancha y en un teléfono."""
    with tempfile.TemporaryDirectory() as temporary:
        wide = show_backprop(neuron()).save(Path(temporary, 'LR.html'))
        tall = show_backprop(neuron(), rankdir='TB').save(Path(temporary, 'TB.html'))

        page = browser.new_page(
            viewport={'width': 1440, 'height': 760}, color_scheme='light', reduced_motion='reduce'
        )
        page.goto(wide.as_uri())
        page.keyboard.press('End')
        page.keyboard.press('ArrowLeft')
        page.screenshot(path=folder / 'backprop.png')
        page.close()

        phone = browser.new_page(
            viewport={'width': 390, 'height': 760},
            device_scale_factor=2,
            color_scheme='dark',
            reduced_motion='reduce',
        )
        phone.goto(tall.as_uri())
        phone.get_by_label('Predecir').check()
        phone.get_by_label('Paso', exact=True).fill('12')
        phone.get_by_role('button', name='Mostrar').click()
        phone.screenshot(path=folder / 'backprop-celular.png')
        phone.close()


if __name__ == '__main__':
    if find_chromium() is None:
        sys.exit('no encontré Chromium: instalalo con "apt-get install chromium"')
    with open_chromium() as chromium:
        take(chromium, Path(__file__).parents[1] / 'images')
