"""Abre en Chromium cada notebook del sitio ya armado y ejecuta todas sus celdas.

    python .github/site/run_notebooks.py build/site

Termina con un error si una celda falla, si muestra otra cosa que la que trae guardada o si algo no
entra a lo ancho en la pantalla de un teléfono. Junto a la carpeta del sitio deja una captura de
cada notebook, y al final dice a qué servidores se les pidió algo.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[2]))

from playwright.sync_api import BrowserContext, Route

from tests.screenshots import open_chromium

PHONE = (390, 844)
MINUTES = 10  # como mucho, por notebook

READY = '() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel'

RUN = """
async (minutes) => {
  const notebook = window.jupyterapp.shell.currentWidget;
  const late = new Promise((_, reject) =>
    setTimeout(() => reject(new Error(`no terminó en ${minutes} minutos`)), minutes * 60000));
  await Promise.race([window.jupyterapp.commands.execute('notebook:run-all-cells'), late]);
  return notebook.content.model.toJSON().cells;
}
"""

# Lo que asoma a la derecha de su celda.
WIDE = """
() => [...document.querySelectorAll('.jp-OutputArea-output')]
  .filter((output) => output.scrollWidth > output.clientWidth + 1)
  .map((output) => `${output.dataset.mimeType}: ${output.scrollWidth} > ${output.clientWidth}`)
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """La dirección del sitio; como en GitHub Pages, no está en la raíz del servidor."""
    handler = functools.partial(Handler, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_port}/{folder.name}'
        finally:
            server.shutdown()
            thread.join()


def expose(route: Route) -> None:
    """La configuración del sitio, con la aplicación a la vista de las pruebas."""
    answer = route.fetch()
    config = answer.json()
    config['jupyter-config-data']['exposeAppInBrowser'] = True
    route.fulfill(response=answer, json=config)


def kinds(cell: dict[str, Any]) -> list[set[str]]:
    """De qué tipo es cada cosa que muestra una celda: en el navegador, el dibujo es solo SVG."""
    shown = [{output['output_type'], *output.get('data', {})} for output in cell['outputs']]
    return [kind - {'image/png'} if 'image/svg+xml' in kind else kind for kind in shown]


def problems(saved: list[dict[str, Any]], executed: list[dict[str, Any]]) -> Iterator[str]:
    """Lo que anduvo mal en las celdas de código, hasta el primer error."""
    for before, after in zip(saved, executed, strict=True):
        if before['cell_type'] != 'code':
            continue
        source = ''.join(before['source'])
        for output in after['outputs']:
            if output['output_type'] == 'error':
                yield f'{output["ename"]}: {output["evalue"]}, en\n{source}'
                return
        if not after['execution_count']:
            yield f'no se ejecutó\n{source}'
            return
        if kinds(after) != kinds(before):
            yield f'muestra {kinds(after)}, y guardado está {kinds(before)}, en\n{source}'


def run(context: BrowserContext, address: str, path: Path) -> list[str]:
    """Ejecuta un notebook y devuelve lo que anduvo mal."""
    page = context.new_page()
    page.goto(f'{address}/notebooks/index.html?path={path.name}')
    page.wait_for_function(READY, timeout=120_000)
    executed = page.evaluate(RUN, MINUTES)
    wide = page.evaluate(WIDE)
    page.screenshot(path=path.parents[2] / f'{path.stem}.png')
    page.close()
    saved = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [*problems(saved, executed), *wide]


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    hosts: Counter[str] = Counter()
    failed = False
    with serve(folder) as address, open_chromium() as browser:
        context = browser.new_context(viewport={'width': PHONE[0], 'height': PHONE[1]})
        context.route('**/jupyter-lite.json*', expose)
        context.on('request', lambda request: hosts.update([str(urlsplit(request.url).hostname)]))
        for path in sorted((folder / 'files').glob('*.ipynb')):
            start = time.monotonic()
            found = run(context, address, path)
            failed = failed or bool(found)
            print(f'{path.name}: {time.monotonic() - start:.0f} s', *found, sep='\n    ')
    print('Pedidos a cada servidor:', dict(hosts))
    sys.exit(failed)


if __name__ == '__main__':
    main()
