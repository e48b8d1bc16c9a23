// La notación: números con cuatro cifras significativas y las plantillas de michigrad/_notation.py.

const DIGITS = 4;
const MINUS = '−';

// `x` con `digits` cifras significativas; si es justo un número más corto, ese: 2, 0.5. Nunca -0.
function significant(x, digits = DIGITS) {
  if (x === 0) return '0';
  if (!Number.isFinite(x)) return String(x).replace('Infinity', 'inf').replace('-', MINUS).toLowerCase();
  const [mantissa, power] = x.toExponential(digits - 1).split('e');
  const exponent = Number(power);
  let text = `${mantissa}e${power[0]}${power.slice(1).padStart(2, '0')}`;
  if (exponent >= -4 && exponent < 6) {
    text = x.toFixed(Math.max(digits - 1 - exponent, 0));
    if (text.includes('.') && Number(text) === x) text = text.replace(/\.?0+$/, '');
  }
  return text.replaceAll('-', MINUS);
}

function parseNumber(text) {
  return text.trim() === '' ? NaN : Number(text.trim().replace(MINUS, '-').replace(',', '.'));
}

// `x` con todas las cifras que hacen falta para volver a escribirlo.
function exact(x) {
  return String(x + 0).replace('Infinity', 'inf').replaceAll('-', MINUS).toLowerCase();
}

// Lo que vale una unidad de la última cifra que se muestra de `x`.
function lastUnit(x) {
  return x === 0 ? 0 : 10 ** (Number(x.toExponential(DIGITS - 1).split('e')[1]) - DIGITS + 1);
}

// Con cuántas cifras hay que escribir los números de una cuenta para que, hecha con ellos, dé el
// resultado que se muestra: 0.99999 − 1.00001 no se puede escribir 1.000 − 1.000.
function digitsThatHold(numbers, compute, answer) {
  if (![...numbers, answer].every(Number.isFinite)) return DIGITS;
  const shown = Number(answer.toExponential(DIGITS - 1));
  for (let digits = DIGITS; digits < 17; digits += 1) {
    const rounded = numbers.map((x) => parseNumber(significant(x, digits)));
    if (Math.abs(compute(...rounded) - shown) <= lastUnit(answer) * (1 + 1e-9)) return digits;
  }
  return 17;
}

// Un término es una expresión escrita y cuánto ata: 0 un signo, 1 la suma, 2 el producto...
function within({text, rank}, least) {
  return rank >= least ? text : `(${text})`;
}

function numberTerm(x, digits = DIGITS) {
  const text = significant(x, digits);
  return {text, rank: text.startsWith(MINUS) ? 0 : 4};
}

// Llena una plantilla: {0:2} es el primer término, entre paréntesis si ata menos que 2.
function fill(template, terms) {
  return template.replace(/\{\{|\}\}|\{(\d+)(?::(\d))?\}/g, (mark, index, rank) => (
    index === undefined ? mark[0] : within(terms[index], Number(rank ?? 0))
  ));
}

// La operación con números. El signo del primero no se confunde: −2 · 3, pero (−2)².
function fillNumbers(row, numbers, digits) {
  const terms = numbers.map((x) => numberTerm(x, digits));
  if (/^\{0(:[12])?\}/.test(row.text)) terms[0].rank = 4;
  return fill(row.text, terms).replaceAll('·', ' · ');
}

function sum(numbers) {
  return numbers.reduce((total, x) => total + x, 0);
}

// 1 + 3 + (−3) = 1
function writeSum(numbers, total) {
  const digits = digitsThatHold(numbers, (...xs) => sum(xs), total);
  const [first, ...rest] = numbers.map((x) => numberTerm(x, digits));
  return `${[first.text, ...rest.map((term) => within(term, 1))].join(' + ')} = ${significant(total)}`;
}
