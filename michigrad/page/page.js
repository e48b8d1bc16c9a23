// La página: qué paso se ve, qué se respondió, qué números se cambiaron, y los controles.

const graph = readGraph(JSON.parse($('data').textContent));
const {nodes} = graph;
const shapes = findShapes(nodes);
const locked = lockedLeaves(nodes);
locked.forEach((owner, i) => { nodes[i].trainable &&= owner === null; });
const given = {
  leaves: nodes.map((node) => node.data),
  grads: nodes.map((node) => (isLeaf(node) ? node.grad : 0)),
  stale: staleNodes(nodes),
};
const zeros = nodes.map(() => 0);

let model = null;     // los números: lo que calculan forward y backward
let steps = [];
let leaves = given.leaves;
let start = zeros;    // los gradientes con los que empiezan las hojas
let losses = [];      // el resultado antes y después de cada paso de descenso
let step = 0;         // el paso a la vista
let answers = new Map();  // lo que se predijo, por paso y cuenta
let selected = null;  // el nodo de la ficha
let timer = null;     // el de la reproducción

// Pone esos números en las hojas; si alguna operación no tiene resultado, nada cambia y lo dice.
function setLeaves(data) {
  try {
    const before = leaves;
    model = calculate(nodes, data, start, given.stale);
    leaves = data;
    steps = tellStory(graph, model);
    if (before !== data) answers = new Map();
    $('restore').hidden = leaves.every((x, i) => Object.is(x, given.leaves[i]));
    return '';
  } catch (error) {
    if (!(error instanceof NoResult)) throw error;
    const {name, row} = nodes[error.node];
    return `Con ese número ${name} (${graph.rows[row].symbol}) no tiene resultado: el motor da un error.`;
  }
}

function lossNow() {
  return model.data.at(-1);
}

/* ---- Qué se ve en cada paso ---- */

function isShown(i, j) {
  return !$('predict').checked || steps[i].given || answers.has(`${i}:${j}`);
}

function firstPending() {
  return steps[step].lines.findIndex((line, j) => !isShown(step, j));
}

// Los datos y gradientes a la vista: los de los pasos anteriores y los de las cuentas reveladas.
function currentState() {
  const state = nodes.map((node, i) => (
    {known: false, grad: isLeaf(node) ? start[i] : 0, pending: false, changed: ''}));
  for (let i = 0; i <= step; i += 1) {
    steps[i].lines.forEach(({to, kind, after}, j) => {
      const seen = state[to];
      if (i === step) seen.changed = steps[i].given ? '' : kind;
      if (i === step && !isShown(i, j)) seen.pending = true;
      else if (kind === 'data') seen.known = true;
      else seen.grad = after;
    });
  }
  return state;
}

// Lo que dice la caja de un nodo.
function cellTexts({known, grad, pending, changed}, i) {
  const shown = (kind, text) => (pending && changed === kind ? '?' : text);
  return {
    data: shown('data', known ? significant(model.data[i]) : ''),
    grad: shown('grad', known ? significant(grad) : ''),
  };
}

function render() {
  const state = currentState();
  document.body.classList.toggle('backward', steps[step].phase === 'backward');
  state.forEach((seen, i) => drawNode(shapes[i], {
    ...cellTexts(seen, i), changed: seen.changed, future: !seen.known && !seen.pending,
  }));
  markActive();
  drawEdges();
  writeStep(steps[step]);
  showControls();
  showScore();
  showTraining();
  showCard(state);
  updateAddress();
}

function writeStep({phase, node, caption, lines}) {
  $('phase').textContent = phase === 'forward' ? 'Forward: los valores' : 'Backward: los gradientes';
  $('counter').textContent = `Paso ${step + 1} de ${steps.length}`;
  $('caption').textContent = node < 0 ? captionAtEnds(caption) : caption;
  const pending = firstPending();
  $('lines').classList.toggle('leaves', phase === 'forward' && node < 0);
  $('lines').replaceChildren(...lines.map((line, j) => writeLine(line, j, pending)));
}

function showControls() {
  $('slider').value = step;
  $('slider').setAttribute('aria-valuetext', `${$('counter').textContent}, ${steps[step].phase}`);
  for (const id of ['first', 'previous']) $(id).setAttribute('aria-disabled', step === 0);
  for (const id of ['next', 'last']) $(id).setAttribute('aria-disabled', step === steps.length - 1);
}

function captionAtEnds(caption) {
  if (!steps[step].last || start === zeros) return caption;
  return `${caption}, sumados a los que ya tenían las hojas`;
}

// Los nodos del paso: el que trabaja y los que le dan o reciben de él.
function activeNodes() {
  const {phase, node, lines} = steps[step];
  const near = new Set(lines.map((line) => line.to));
  if (node >= 0) near.add(node);
  if (node >= 0 && phase === 'forward') nodes[node].operands.forEach((i) => near.add(i));
  return near;
}

// Si en el paso trabaja una operación: no, donde el resultado recibe su 1.
function works({node, lines}) {
  return node >= 0 && (lines[0]?.kind === 'data' || lines[0]?.flow !== undefined);
}

function markActive() {
  const {node} = steps[step];
  const near = activeNodes();
  const acts = works(steps[step]);
  shapes.forEach((shape, i) => {
    shape.box.classList.toggle('active', near.has(i));
    for (const part of shape.parts) part.classList.toggle('active', acts && i === node);
  });
}

// Las derivadas locales sobre las flechas del paso y, si se pide, el grosor de todas.
function drawEdges() {
  clearEdgeLabels();
  const weigh = $('widths').checked;
  $('legend').hidden = !weigh;
  const flows = steps.slice(0, step + 1).flatMap(({lines}) => lines.map((line) => line.flow ?? []).flat());
  if (weigh) {
    const largest = Math.max(...flows.map(({gain}) => Math.abs(gain)).filter(Number.isFinite), 0);
    for (const shape of shapes) shape.incoming.forEach(unweighEdge);
    for (const {from, slot, gain} of flows) if (slot >= 0) weighEdge(shapes[from].incoming[slot], gain, largest);
  }
  const received = steps[step].lines.map((line) => line.flow).filter((flow) => flow && flow.slot >= 0);
  received.forEach(({from, to, slot, slope}, j) => {
    const twin = received.some((other, k) => k !== j && other.to === to);
    labelEdge(shapes[from].incoming[slot], `×${significant(slope ?? 0)}`, twin ? 0.3 + 0.4 * (j % 2) : 0.5);
  });
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Una cuenta. La que está por predecirse tiene un campo; las que siguen, un signo de pregunta.
function writeLine(line, j, pending) {
  const item = document.createElement('li');
  const {text, answer, note} = line.write();
  const parts = text.split(/ (?== )/).map((part) => element('span', part));
  const shown = isShown(step, j);
  parts.at(-1).append(element('b', shown ? answer : '?', shown ? {} : {class: 'hidden'}));
  item.append(...parts.flatMap((part) => [part, ' ']));
  if (shown && note) item.append(element('small', note));
  const reply = answers.get(`${step}:${j}`);
  if (shown && reply?.typed) {
    item.append(element('small', reply.right ? '✓ Bien' : `✗ Pusiste ${reply.typed}`, {class: 'reply'}));
  }
  if (j === pending) item.append(askForm(line, answer));
  return item;
}

/* ---- Ir de un paso a otro ---- */

function go(target) {
  step = clamp(target, 0, steps.length - 1);
  render();
  $('reading').scrollTop = 0;
  look();
}

// Lleva la vista a lo que pasa en este paso.
function look() {
  const {node, last, lines} = steps[step];
  if (node < 0 && !view.chosen && (!last || fitsWhole())) {
    openBoard(graph.rankdir);
    return;
  }
  if (node < 0) {
    if (last) follow([shapes.at(-1).bounds], [shapes.at(-1).bounds]);
    return;
  }
  const near = [...activeNodes()].map((i) => shapes[i].bounds);
  const operation = works(steps[step]) ? shapes[node].operationBounds : [];
  const asked = Math.max(firstPending(), 0);  // lo que se pregunta, antes que lo que se contestó
  follow([...near, ...operation], lines.slice(asked).map((line) => shapes[line.to].bounds));
}

function next() {
  if (firstPending() >= 0) reveal('', false);
  else go(step + 1);
}

function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(tick, 2000 / Number($('speed').value)) : null;
  $('play').setAttribute('aria-label', on ? 'Pausar' : 'Reproducir');
  $('play').querySelector('path').setAttribute('d', on ? 'M6 5h4v14H6zM14 5h4v14h-4z' : 'M7 4v16l13-8z');
}

function tick() {
  next();
  if (step === steps.length - 1) play(false);
}

function togglePlay() {
  if (!timer && step === steps.length - 1) go(0);
  play(!timer);
}

/* ---- La dirección: #paso=17&n3=0.5 ---- */

let addressTimer = null;

// Los navegadores no dejan cambiarla muchas veces por segundo: se escribe al detenerse.
function updateAddress() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(writeAddress, 200);
}

function writeAddress() {
  const parts = [`paso=${step + 1}`];
  leaves.forEach((x, i) => { if (!Object.is(x, given.leaves[i])) parts.push(`n${i}=${x}`); });
  try {
    history.replaceState(null, '', `#${parts.join('&')}`);
  } catch {
    // adentro de un notebook la página no tiene dirección
  }
}

function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const numbers = given.leaves.map((x, i) => {
    const text = asked.get(`n${i}`);
    const number = text === null ? NaN : Number(text);
    return isLeaf(nodes[i]) && !locked[i] && Number.isFinite(number) ? number : x;
  });
  if (setLeaves(numbers)) setLeaves(given.leaves);
  go(Number.parseInt(asked.get('paso'), 10) - 1 || 0);
}

/* ---- Los controles ---- */

const actions = {
  first: () => go(0),
  previous: () => go(step - 1),
  play: togglePlay,
  next,
  last: () => go(steps.length - 1),
  toBackward: () => go(steps.findIndex(({phase}) => phase === 'backward')),
  restore,
  smaller: () => zoomTo(view.scale / 1.25),
  larger: () => zoomTo(view.scale * 1.25),
  fit: () => zoomTo(Math.min(fitScale(), 2), false),
  close: () => select(null),
  toData: () => jump('data'),
  toGrad: () => jump('grad'),
  descend: descendOnce,
};

const keys = {
  ArrowRight: next, ArrowLeft: actions.previous, Home: actions.first, End: actions.last,
  ' ': togglePlay, '+': actions.larger, '-': actions.smaller, 0: actions.fit, Escape: actions.close,
};

function handleKey(event) {
  const {target, key} = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.matches?.('.node') && (key === 'Enter' || key === ' ')) {
    event.preventDefault();
    select(nodeAt(target));
    return;
  }
  const writes = target.matches?.('input:not([type="checkbox"]):not(#slider), select');
  const presses = key === ' ' && target.matches?.('button, summary, input');
  if (!keys[key] || presses || (writes && key !== 'Escape')) return;
  event.preventDefault();
  keys[key]();
}

function nodeAt(shape) {
  return Number((shape.dataset.op ?? shape.id).slice(1));
}

function handleControls() {
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener('click', action);
  $('slider').addEventListener('input', () => go(Number($('slider').value)));
  $('speed').addEventListener('change', () => play(Boolean(timer)));
  $('predict').addEventListener('change', () => go(step));
  $('widths').addEventListener('change', () => {
    for (const shape of shapes) shape.incoming.forEach(unweighEdge);
    drawEdges();
  });
  $('accumulate').addEventListener('change', () => {
    start = $('accumulate').checked ? given.grads : zeros;
    setLeaves([...leaves]);
    render();
  });
  $('datum').addEventListener('change', () => editLeaf(parseNumber($('datum').value)));
  $('dial').addEventListener('input', () => editLeaf(Number($('dial').value)));
  $('delta').addEventListener('input', showNudge);
  $('eta').addEventListener('input', showTraining);
  svg.addEventListener('click', (event) => {
    const shape = event.target.closest('.node');
    if (shape && !drag?.moved) select(nodeAt(shape));
  });
  addEventListener('keydown', handleKey);
  addEventListener('hashchange', readAddress);
}

// Adentro de un notebook el teclado es del notebook hasta que se hace clic en la página.
function handleFocus() {
  if (window === window.parent) return;
  const tell = () => { $('hint').hidden = document.hasFocus(); };
  for (const event of ['focus', 'blur']) addEventListener(event, tell);
  addEventListener('pointerdown', () => window.focus());
  tell();
}

/* ---- Empezar ---- */

function begin() {
  svg.setAttribute('role', 'group');
  svg.setAttribute('aria-label', 'Los nodos del grafo');
  for (const {box} of shapes) {
    box.setAttribute('role', 'button');
    box.setAttribute('tabindex', '0');
  }
  document.body.classList.toggle('tall', size.height > size.width);
  $('accumulateLabel').hidden = given.grads.every((grad) => grad === 0);
  setLeaves(given.leaves);
  $('slider').max = steps.length - 1;
  handleBoard();
  handleControls();
  handleFocus();
  play(false);
  readAddress();
  // Mientras nadie elija la escala, la vista se acomoda al tamaño: un teléfono que gira, un
  // notebook que termina de cargar.
  new ResizeObserver(() => { if (!view.chosen) look(); }).observe($('graph'));
}

begin();
