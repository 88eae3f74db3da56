// The data, times, colours, and the part of the time that is looked at.
const root = document.documentElement;
root.dataset.errors = "0";
addEventListener("error", () => { root.dataset.errors = String(Number(root.dataset.errors) + 1); });

const D = JSON.parse(document.getElementById("data").textContent);
const UNIT = D.unit_nanos / 1e9;                 // seconds of one unit of time
const END = Math.max(1, D.seconds / UNIT);
const at = (id) => document.getElementById(id);

function seconds(value, digits = 3) {
  const size = Math.abs(value);
  const told = (number, unit) => `${Number(number.toPrecision(digits)).toLocaleString("en-US")} ${unit}`;
  if (size >= 120) return told(value / 60, "min");
  if (size >= 1) return told(value, "s");
  if (size >= 1e-3) return told(value * 1e3, "ms");
  if (size > 0) return told(value * 1e6, "us");
  return "0";
}
const whole = (number) => number.toLocaleString("en-US");
function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < 4; unit++) value /= 1024;
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// No red in here: that is for failures. Told apart also by those who see fewer colours, by their lightness.
const COLOURS = ["#3f7fc1", "#e0a33a", "#4aa58a", "#8a6fc0", "#7cb8e8", "#a8803c", "#2f6f62", "#c5b3e6", "#9aa83a", "#5a6fd6"];
const OTHER = "#8a93a3";
const byRun = D.numbers.slice().sort((one, two) => two.run_seconds - one.run_seconds || two.completed - one.completed);
const colourOf = new Array(D.types.length).fill(OTHER);
byRun.forEach((numbers, place) => { if (place < COLOURS.length) colourOf[numbers.type] = COLOURS[place]; });

// Black or white, whichever is read more easily on a colour.
const inkOn = Object.fromEntries([...COLOURS, OTHER].map((colour) => {
  const [red, green, blue] = [1, 3, 5].map((place) => (parseInt(colour.slice(place, place + 2), 16) / 255) ** 2.2);
  return [colour, 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.19 ? "#0c1016" : "#ffffff"];
}));

let ink = {};
function readInk() {
  const style = getComputedStyle(root);
  for (const name of ["paper", "card", "ink", "soft", "line", "lane", "accent", "red", "hatch", "busy", "grey"]) {
    ink[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

const hidden = new Set();                        // types that are not shown
let wanted = "";                                 // what is looked for, in lower case
const view = { from: 0, to: END };
const LEAST = 200;                               // 20 us: closer there is nothing to see

function look(from, to) {
  const span = Math.min(END, Math.max(LEAST, to - from));
  view.from = Math.min(Math.max(0, from), END - span);
  view.to = view.from + span;
  redraw();
}
function zoom(factor, about = (view.from + view.to) / 2) {
  const from = about - (about - view.from) * factor;
  look(from, from + (view.to - view.from) * factor);
}

// A canvas of the width that it has on the page, sharp on every screen.
function paper(canvas, height) {
  const width = canvas.clientWidth;
  const ratio = Math.min(3, devicePixelRatio || 1);
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  return { pen, width, height };
}
const margin = () => (innerWidth < 620 ? 62 : 132);
function xOf(time, width, left = margin(), from = view.from, to = view.to) {
  return left + ((time - from) / (to - from)) * (width - left);
}
function timeOf(x, width, left = margin()) {
  return view.from + ((x - left) / (width - left)) * (view.to - view.from);
}
function fitted(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pen.measureText(`${text.slice(0, middle)}\u2026`).width <= width) low = middle;
    else high = middle - 1;
  }
  return low ? `${text.slice(0, low)}\u2026` : "";
}
// Round steps, of which about so many are shown.
function step(span, count) {
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
}

let asked = false;
const painters = [];
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    for (const paint of painters) paint();
    root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
  });
}

const tip = at("tip");
function showTip(event, fill) {
  tip.replaceChildren();
  fill((text, className) => tip.append(element(className === "title" ? "b" : "div", text, className === "bad" ? "bad" : "")));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const x = Math.min(event.clientX + 14, innerWidth - box.width - 6);
  const y = event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18;
  tip.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
}
const hideTip = () => { tip.hidden = true; };
