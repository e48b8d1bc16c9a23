"""El guion de la página de show_backprop, sin la página: lo que calcula y lo que escribe.

Se corre en un Chromium de verdad; un grafo tarda un milisegundo.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import michigrad
from michigrad import stepper
from michigrad._drawing import graph_nodes
from michigrad._notation import labels
from michigrad.engine import Value

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = Path(michigrad.__file__).with_name('page')

# Las hojas valen lo que diga `leaves` (por nombre) y, si `start`, parten de sus gradientes.
TELL = """
({text, leaves, start}) => {
  const graph = readGraph(JSON.parse(text));
  const {nodes} = graph;
  const data = nodes.map((node) => leaves[node.name] ?? node.data);
  const grads = nodes.map((node) => (start ? node.grad : 0));
  const stale = staleNodes(nodes);
  const model = calculate(nodes, data, grads, stale);
  return {
    names: nodes.map((node) => node.name),
    data: model.data,
    grads: model.grads,
    stale: stale.map(Boolean),
    locked: lockedLeaves(nodes).map((owner) => owner && owner.name),
    slopes: nodes.map((node, i) => writeSlopes(graph, model, i)),
    steps: tellStory(graph, model).map((step) => (
      {...step, lines: step.lines.map((line) => ({...line, ...line.write()}))})),
  };
}
"""


# Solo los números, de muchos grafos de una vez.
CALCULATE = """
(cases) => cases.map(({text, leaves}) => {
  const {nodes} = readGraph(JSON.parse(text));
  const data = nodes.map((node) => leaves[node.name] ?? node.data);
  const {data: values, grads} = calculate(nodes, data, nodes.map(() => 0), staleNodes(nodes));
  return {data: values, grads, stale: staleNodes(nodes).some(Boolean)};
})
"""


def facts(root: Any) -> str:
    """El grafo como lo recibe la página, en JSON."""
    nodes = graph_nodes(root)
    _, measured = stepper.backpropagate(nodes)
    content = stepper.describe(nodes, labels(root, nodes), measured)
    assert not set('<>&') & set(content)  # nada que HTML pueda leer como suyo
    return content


def graph_of(root: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(facts(root))
    return content


class Script:
    """El motor, la notación y el relato de la página, cargados en una pestaña vacía."""

    def __init__(self, browser: Browser) -> None:
        self.page = browser.new_page()
        parts = ('engine.js', 'notation.js', 'story.js')
        text = '\n'.join((PAGE / name).read_text(encoding='utf-8') for name in parts)
        self.page.add_script_tag(content=f"'use strict';\n{text}")

    def tell(
        self, root: Any, leaves: dict[str, float] | None = None, start: bool = False
    ) -> dict[str, Any]:
        """Lo que la página cuenta de un grafo: números, pasos y renglones."""
        told: dict[str, Any] = self.page.evaluate(
            TELL, {'text': facts(root), 'leaves': leaves or {}, 'start': start}
        )
        return told

    def calculate(self, cases: list[tuple[Any, dict[str, float]]]) -> list[dict[str, Any]]:
        """Los números de cada grafo con las hojas que se dan por nombre."""
        texts = [{'text': facts(root), 'leaves': leaves} for root, leaves in cases]
        numbers: list[dict[str, Any]] = self.page.evaluate(CALCULATE, texts)
        return numbers

    def lines(self, root: Value, start: bool = False) -> list[dict[str, Any]]:
        return [line for step in self.tell(root, start=start)['steps'] for line in step['lines']]

    def formulas(self, root: Value) -> list[str]:
        return [line['text'] + line['answer'] for line in self.lines(root)]

    def notes(self, root: Value, start: bool = False) -> list[str]:
        return [line['note'] for line in self.lines(root, start) if line['note']]

    def call(self, expression: str, argument: object = None) -> Any:
        return self.page.evaluate(expression, argument)
