// El tablero: qué dice y cómo se ve cada nodo del dibujo, y qué parte del grafo está a la vista.

const SMALLEST_TEXT = 9;  // en píxeles: la vista nunca achica más por su cuenta
const FONT_SIZE = 14;     // la del dibujo
const LARGEST = 4;
const MARGIN = 6;

const $ = (id) => document.getElementById(id);
const svg = document.querySelector('#graph svg');
const size = svg.viewBox.baseVal;
const calm = matchMedia('(prefers-reduced-motion: reduce)');

const origin = svg.querySelector('.graph').transform.baseVal.consolidate().matrix;

const view = {scale: 0, chosen: false};  // chosen: si la escala la eligió una persona

/* ---- Los nodos ---- */

// Las partes del dibujo de cada nodo: su caja, la elipse de su operación y las flechas de ella.
function findShapes(nodes) {
  return nodes.map((node, i) => {
    const box = $(`n${i}`);
    const [data, grad] = [...box.querySelectorAll('text')].slice(-2);
    const parts = [...svg.querySelectorAll(`[data-op="n${i}"]`)];
    const edges = parts.filter((part) => part.classList.contains('edge'));
    const incoming = edges.filter((edge) => edge.dataset.slot);
    incoming.sort((a, b) => a.dataset.slot - b.dataset.slot);
    const operation = parts.find((part) => part.id);
    const bounds = box.firstElementChild.getBBox();
    return {
      box, data, grad, parts, incoming, bounds, name: box.querySelector('text').textContent,
      operationBounds: operation ? [operation.getBBox()] : [], room: bounds.width - 8, told: '',
    };
  });
}

// Escribe una caja, si cambió. Un número que no entra en su celda se angosta.
function drawNode(shape, {data, grad, changed, future}) {
  const told = `${data}|${grad}|${changed}|${future}`;
  if (told === shape.told) return;
  shape.told = told;
  writeCell(shape.data, `data ${data}`, shape.room, changed === 'data');
  writeCell(shape.grad, `grad ${grad}`, shape.room, changed === 'grad');
  shape.box.classList.toggle('future', future);
  for (const part of shape.parts) part.classList.toggle('future', future);
}

// Mide un texto sin que el navegador tenga que acomodar todo el dibujo.
const ruler = document.createElement('canvas').getContext('2d');
ruler.font = `bold ${FONT_SIZE}px Arial, "Liberation Sans", Helvetica, sans-serif`;

function writeCell(cell, text, room, changed) {
  cell.classList.toggle('changed', changed);
  cell.textContent = text;
  cell.removeAttribute('textLength');
  if (ruler.measureText(text).width > room) {
    cell.setAttribute('textLength', room);
    cell.setAttribute('lengthAdjust', 'spacingAndGlyphs');
  }
}

/* ---- Las flechas ---- */

const labels = [];  // las derivadas escritas sobre las flechas

// Escribe en una flecha la derivada local que la cruza.
function labelEdge(edge, text, place) {
  const path = edge.querySelector('path');
  const {x, y} = path.getPointAtLength(path.getTotalLength() * place);
  const label = document.createElementNS(svg.namespaceURI, 'text');
  label.setAttribute('class', 'slope');
  label.setAttribute('x', x);
  label.setAttribute('y', y + 4);
  label.textContent = text;
  edge.parentNode.append(label);  // encima de todo lo demás
  labels.push(label);
}

function clearEdgeLabels() {
  for (const label of labels.splice(0)) label.remove();
}

// El grosor de una flecha dice cuánto gradiente pasó por ella, y el trazo, su signo.
function weighEdge(edge, gain, largest) {
  const share = largest > 0 && Number.isFinite(gain) ? Math.sqrt(Math.abs(gain) / largest) : 0;
  edge.classList.toggle('negative', gain < 0);
  edge.classList.add('weighed');
  edge.style.setProperty('--width', `${1 + 7 * share}px`);
}

function unweighEdge(edge) {
  edge.classList.remove('weighed', 'negative');
}

/* ---- Qué parte se ve ---- */

function setScale(scale) {
  view.scale = scale;
  svg.style.width = `${size.width * scale}px`;
}

function clamp(x, low, high) {
  return Math.min(Math.max(x, low), high);
}

// La escala, con el centro de lo que se ve quieto.
function zoomTo(target, chosen = true) {
  const graph = $('graph');
  const x = (graph.scrollLeft + graph.clientWidth / 2) / graph.scrollWidth;
  const y = (graph.scrollTop + graph.clientHeight / 2) / graph.scrollHeight;
  view.chosen = chosen;
  setScale(clamp(target, 0.02, LARGEST));
  graph.scrollTo(x * graph.scrollWidth - graph.clientWidth / 2, y * graph.scrollHeight - graph.clientHeight / 2);
}

// Lo que entra sin desplazarse, sin los márgenes.
function room() {
  const {clientWidth, clientHeight} = $('graph');
  return {width: clientWidth - 2 * MARGIN, height: clientHeight - 2 * MARGIN};
}

function fitScale() {
  const {width, height} = room();
  return Math.min(width / size.width, height / size.height);
}

function fitsWhole() {
  return fitScale() >= SMALLEST_TEXT / FONT_SIZE;
}

// La escala mientras nadie la elige: el grafo entero si se lee bien y, si no, una cómoda.
function homeScale() {
  const whole = fitScale();
  return whole >= 0.75 ? Math.min(whole, 1.6) : 1;
}

// El rectángulo que ocupan varios.
function surround(boxes) {
  const left = Math.min(...boxes.map((box) => box.x));
  const top = Math.min(...boxes.map((box) => box.y));
  const right = Math.max(...boxes.map((box) => box.x + box.width));
  const bottom = Math.max(...boxes.map((box) => box.y + box.height));
  return {left, top, width: right - left, height: bottom - top};
}

// Muestra los rectángulos `boxes`: si no entran achica, hasta el menor texto legible. Lo que así
// tampoco entra se resigna, y queda en el centro `focus`: lo que cambia.
function follow(boxes, focus) {
  const area = room();
  const fits = ({width, height}) => Math.min(area.width / width, area.height / height);
  const wanted = Math.max(Math.min(homeScale(), fits(surround(boxes))), SMALLEST_TEXT / FONT_SIZE);
  const strays = view.scale > wanted || view.scale < 0.8 * wanted;  // por menos no vale la pena
  if (!view.chosen && strays) setScale(wanted);
  const options = [boxes, focus, focus.slice(0, 1)].map(surround);
  reach(options.find((option) => fits(option) >= view.scale * 0.999) ?? options.at(-1));
}

// Desplaza el tablero hasta que se vea un rectángulo del dibujo; si ya se ve, nada.
function reach(target) {
  const graph = $('graph');
  const [left, width] = [place(target.left, 'width') - graph.scrollLeft, target.width * view.scale];
  const [top, height] = [place(target.top, 'height') - graph.scrollTop, target.height * view.scale];
  const seen = left >= MARGIN - 1 && left + width <= graph.clientWidth - MARGIN + 1
    && top >= MARGIN - 1 && top + height <= graph.clientHeight - MARGIN + 1;
  if (seen) return;
  graph.scrollBy({
    left: left + width / 2 - graph.clientWidth / 2,
    top: top + height / 2 - graph.clientHeight / 2,
    behavior: calm.matches ? 'auto' : 'smooth',
  });
}

// Dónde queda, en lo que se desplaza, un punto del dibujo; el dibujo va centrado si sobra lugar.
function place(x, side) {
  const offset = side === 'width' ? origin.e : origin.f;
  const spare = room()[side] - size[side] * view.scale;
  return MARGIN + Math.max(spare / 2, 0) + (x + offset) * view.scale;
}

// Al principio: el grafo entero o, si así no se lee, desde donde empieza el cálculo.
function openBoard(rankdir) {
  view.chosen = false;
  setScale(Math.max(Math.min(fitScale(), 1.6), SMALLEST_TEXT / FONT_SIZE));
  const graph = $('graph');
  graph.scrollTo(
    rankdir === 'RL' ? graph.scrollWidth : rankdir === 'LR' ? 0 : (graph.scrollWidth - graph.clientWidth) / 2,
    rankdir === 'BT' ? graph.scrollHeight : rankdir === 'TB' ? 0 : (graph.scrollHeight - graph.clientHeight) / 2,
  );
}

/* ---- Mouse y dedos ---- */

let drag = null;
let pinch = null;

function spread({touches: [a, b]}) {
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
}

function handleBoard() {
  const graph = $('graph');
  graph.addEventListener('pointerdown', (event) => {
    if (event.pointerType === 'mouse' && event.button === 0) drag = {moved: false};
  });
  addEventListener('pointermove', (event) => {
    if (!drag) return;
    drag.moved ||= Math.abs(event.movementX) + Math.abs(event.movementY) > 2;
    graph.classList.toggle('dragging', drag.moved);
    graph.scrollBy(-event.movementX, -event.movementY);
  });
  addEventListener('pointerup', () => {
    graph.classList.remove('dragging');
    setTimeout(() => { drag = null; });  // después del click que cierra el arrastre
  });
  graph.addEventListener('wheel', (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoomTo(view.scale * Math.exp(-event.deltaY / 300));
  }, {passive: false});
  graph.addEventListener('touchstart', (event) => {
    if (event.touches.length === 2) pinch = {spread: spread(event), scale: view.scale};
  });
  graph.addEventListener('touchmove', (event) => {
    if (!pinch || event.touches.length !== 2) return;
    event.preventDefault();
    zoomTo(pinch.scale * spread(event) / pinch.spread);
  }, {passive: false});
  graph.addEventListener('touchend', () => { pinch = null; });
}
