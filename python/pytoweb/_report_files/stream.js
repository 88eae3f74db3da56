// The task stream: a lane for each thread or child, a bar for each message.
const B = (() => {
  const count = D.bars.begin.length;
  const made = { count, begin: new Float64Array(count), run: new Float64Array(count), wait: D.bars.wait, look: D.bars.look };
  let time = 0;
  for (let number = 0; number < count; number++) {
    time += D.bars.begin[number];
    made.begin[number] = time;
    made.run[number] = D.bars.run[number];
  }
  return made;
})();
const [LANE, ROW, WORKER, TYPE, TOGETHER, FATE] = [0, 1, 2, 3, 4, 5];
const lookOf = (bar) => D.bars.looks[B.look[bar]];
root.dataset.bars = String(B.count);

const ROW_HEIGHT = 18, MANY_ROWS = 9, GAP = 7, FAILURES_HEIGHT = 18;
const lanes = D.lanes.map((lane) => ({ ...lane, bars: Array.from({ length: lane.rows }, () => []), busy: [], longest: 0 }));
for (let bar = 0; bar < B.count; bar++) {
  const lane = lanes[lookOf(bar)[LANE]];
  lane.bars[lookOf(bar)[ROW]].push(bar);
  lane.longest = Math.max(lane.longest, B.run[bar]);
}
for (const [lane, worker, begin, end, time] of D.busy) lanes[lane].busy.push({ worker, begin, end, time });
let below = D.failures.length ? FAILURES_HEIGHT + GAP : GAP;
for (const lane of lanes) {
  lane.busy.sort((one, two) => one.begin - two.begin);
  lane.row = lane.rows > 1 ? MANY_ROWS : ROW_HEIGHT;
  lane.top = below;
  lane.height = lane.row * lane.rows + (lane.busy.length ? 4 : 0);
  below += lane.height + GAP;
}
const STREAM_HEIGHT = Math.max(60, below);
const errorOf = new Map();
for (const failure of D.failures) {
  if (failure.begin !== null) errorOf.set(`${failure.lane} ${failure.begin} ${failure.worker}`, failure.text);
}
const names = [D.workers, D.types].map((all) => all.map((name) => name.toLowerCase()));
const isDim = (look) => wanted !== "" && !names[0][look[WORKER]].includes(wanted) && !names[1][look[TYPE]].includes(wanted);

// The first bar of a row that may reach a time.
function firstFrom(bars, time) {
  let [low, high] = [0, bars.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (B.begin[bars[middle]] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

let hatch = null;
function hatched(pen) {
  if (hatch && hatch.colour === ink.hatch) return hatch.pattern;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const own = tile.getContext("2d");
  own.strokeStyle = ink.hatch;
  own.globalAlpha = 0.65;
  own.lineWidth = 1.4;
  own.beginPath();
  for (const shift of [-6, 0, 6]) { own.moveTo(shift, 6); own.lineTo(shift + 6, 0); }
  own.stroke();
  hatch = { colour: ink.hatch, pattern: pen.createPattern(tile, "repeat") };
  return hatch.pattern;
}

function paintBar(pen, x, y, width, height, look) {
  const fate = D.fates[look[FATE]];
  if (fate === "failed" || fate === "crashed") {
    width = Math.max(width, 3);
    pen.fillStyle = ink.red;
    pen.fillRect(x, y, width, height);
    if (width > 5) {
      pen.fillStyle = hatched(pen);
      pen.fillRect(x, y, width, height);
    }
  } else if (fate === "expired") {
    width = Math.max(width, 4);
    pen.strokeStyle = ink.red;
    pen.lineWidth = 2;
    pen.strokeRect(x + 1, y + 1, width - 2, height - 2);
  } else if (fate === "retried") {
    pen.fillStyle = colourOf[look[TYPE]];
    pen.fillRect(x, y, Math.max(width, 3), height);
    pen.fillStyle = ink.red;
    pen.fillRect(x, y + height - 3, Math.max(width, 3), 3);
  } else {
    pen.fillStyle = fate === "cancelled" ? ink.grey : colourOf[look[TYPE]];
    pen.fillRect(x, y, width, height);
  }
}

function paintStream() {
  const left = margin();
  const { pen, width } = paper(at("stream"), STREAM_HEIGHT);
  let painted = 0;
  paintGrid(pen, width, STREAM_HEIGHT);
  for (const lane of lanes) {
    pen.fillStyle = ink.lane;
    pen.fillRect(left, lane.top, width - left, lane.height);
    pen.fillStyle = ink.soft;
    pen.fillText(fitted(pen, lane.name, left - 10), 4, lane.top + Math.min(lane.height / 2, 12));
    pen.save();
    pen.beginPath();
    pen.rect(left, lane.top, width - left, lane.height);
    pen.clip();
    let last = -1;
    for (const { begin, end, time } of lane.busy) {
      if (end < view.from || begin > view.to) continue;
      const [x, to] = [xOf(begin, width), xOf(end, width)];
      if (to <= last) continue;
      last = Math.max(to, x + 1);
      pen.globalAlpha = 0.35 + 0.65 * Math.min(1, time / Math.max(1, end - begin));
      pen.fillStyle = ink.busy;
      pen.fillRect(x, lane.top + lane.height - 3, Math.max(1, to - x), 3);
    }
    pen.globalAlpha = 1;
    lane.bars.forEach((bars, row) => {
      const y = lane.top + row * lane.row;
      const height = lane.row - (lane.rows > 1 ? 1 : 0);
      const failed = [];
      let filled = -1;
      for (let place = firstFrom(bars, view.from - lane.longest); place < bars.length; place++) {
        const bar = bars[place];
        if (B.begin[bar] > view.to) break;
        const look = lookOf(bar);
        if (hidden.has(look[TYPE]) || B.begin[bar] + B.run[bar] < view.from) continue;
        const x = Math.max(left - 4, xOf(B.begin[bar], width));
        const to = xOf(B.begin[bar] + B.run[bar], width);
        if (look[FATE] !== 0) {
          failed.push([x, to, look]);
          continue;
        }
        // A pixel that has a bar is not painted again.
        if (to < filled + 0.5) continue;
        // Neighbours of one type are told apart where there is place for a seam.
        const wide = Math.max(1, to - x - (to - x > 3 ? 0.7 : 0));
        filled = Math.floor(Math.max(to, x + 1));
        pen.globalAlpha = isDim(look) ? 0.15 : 1;
        paintBar(pen, x, y, wide, height, look);
        painted++;
        if (wide > 60 && lane.rows === 1 && !isDim(look)) {
          pen.fillStyle = inkOn[colourOf[look[TYPE]]];
          pen.fillText(fitted(pen, D.types[look[TYPE]], wide - 8), x + 4, y + height / 2 + 0.5);
        }
      }
      for (const [x, to, look] of failed) {
        pen.globalAlpha = isDim(look) ? 0.3 : 1;
        paintBar(pen, x, y, Math.max(1, to - x), height, look);
        painted++;
      }
      pen.globalAlpha = 1;
    });
    pen.restore();
  }
  if (D.failures.length) paintFailures(pen, width, left);
  root.dataset.painted = String(painted);
}

function paintGrid(pen, width, height) {
  const left = margin();
  const every = step(view.to - view.from, (width - left) / 110);
  pen.strokeStyle = ink.line;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let time = Math.ceil(view.from / every) * every; time <= view.to; time += every) {
    const x = Math.round(xOf(time, width)) + 0.5;
    pen.moveTo(x, 0);
    pen.lineTo(x, height);
  }
  pen.stroke();
}

// All failures, wherever they were: a mark of its own shape, not only a colour.
function paintFailures(pen, width, left) {
  pen.fillStyle = ink.red;
  pen.fillText("failures", 4, FAILURES_HEIGHT / 2 + 1);
  let last = -9;
  for (const failure of D.failures) {
    const time = failure.begin === null ? failure.at : failure.begin + failure.run;
    if (time < view.from || time > view.to || hidden.has(failure.type)) continue;
    const x = xOf(time, width);
    if (x - last < 4 || x < left) continue;
    last = x;
    pen.fillStyle = failure.fate === "retried" ? ink.paper : ink.red;
    pen.strokeStyle = ink.red;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x - 5, 4);
    pen.lineTo(x + 5, 4);
    pen.lineTo(x, 14);
    pen.closePath();
    pen.fill();
    pen.stroke();
  }
}

function paintAxis() {
  const { pen, width } = paper(at("axis"), 20);
  const left = margin();
  const span = view.to - view.from;
  const every = step(span, (width - left) / 110);
  pen.fillStyle = ink.soft;
  const far = view.to * UNIT;
  const unit = far >= 1 ? [1, "s"] : far >= 1e-3 ? [1e3, "ms"] : [1e6, "us"];
  const digits = Math.max(0, -Math.floor(Math.log10(every * UNIT * unit[0]) + 1e-9));
  for (let time = Math.ceil(view.from / every) * every; time <= view.to; time += every) {
    const text = `${(time * UNIT * unit[0]).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${unit[1]}`;
    const x = xOf(time, width);
    if (x + pen.measureText(text).width + 4 < width) pen.fillText(text, x + 4, 11);
  }
}

// How many lanes were busy at the same time, and which part of that is looked at.
const BINS = 600;
const density = new Float64Array(BINS);
for (let bar = 0; bar < B.count; bar++) {
  const [from, to] = [(B.begin[bar] / END) * BINS, ((B.begin[bar] + B.run[bar]) / END) * BINS];
  for (let bin = Math.max(0, Math.floor(from)); bin < Math.min(BINS, to); bin++) {
    density[bin] += Math.min(to, bin + 1) - Math.max(from, bin);
  }
}
const densest = density.reduce((most, value) => Math.max(most, value), 1e-9);
function paintOverview() {
  const { pen, width, height } = paper(at("overview"), 44);
  const left = margin();
  pen.fillStyle = ink.soft;
  pen.fillText(fitted(pen, seconds(D.seconds), left - 8), 4, height / 2);
  pen.fillStyle = ink.accent;
  pen.globalAlpha = 0.45;
  for (let bin = 0; bin < BINS; bin++) {
    const high = (density[bin] / densest) * (height - 8);
    const x = left + (bin / BINS) * (width - left);
    pen.fillRect(x, height - high, (width - left) / BINS + 0.5, high);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = ink.red;
  for (const failure of D.failures) {
    if (failure.fate !== "retried") pen.fillRect(xOf(failure.at, width, left, 0, END) - 1, 0, 2, 6);
  }
  const [from, to] = [xOf(view.from, width, left, 0, END), xOf(view.to, width, left, 0, END)];
  pen.fillStyle = ink.paper;
  pen.globalAlpha = 0.72;
  pen.fillRect(left, 0, from - left, height);
  pen.fillRect(to, 0, width - to, height);
  pen.globalAlpha = 1;
  pen.strokeStyle = ink.accent;
  pen.lineWidth = 2;
  pen.strokeRect(from + 1, 1, Math.max(2, to - from - 2), height - 2);
}
painters.push(paintOverview, paintAxis, paintStream);

// The bar under a point of the canvas: the nearest within four pixels.
function barAt(x, y, width) {
  const lane = lanes.find((one) => y >= one.top && y < one.top + one.height);
  if (!lane || x < margin()) return { lane, bar: null };
  const row = Math.min(lane.rows - 1, Math.floor((y - lane.top) / lane.row));
  const [time, slack] = [timeOf(x, width), ((view.to - view.from) / (width - margin())) * 4];
  const bars = lane.bars[row];
  let [found, best] = [null, Infinity];
  for (let place = firstFrom(bars, time - slack - lane.longest); place < bars.length; place++) {
    const bar = bars[place];
    if (B.begin[bar] > time + slack) break;
    if (hidden.has(lookOf(bar)[TYPE])) continue;
    let off = Math.max(0, B.begin[bar] - time, time - B.begin[bar] - B.run[bar]);
    if (off <= slack && lookOf(bar)[FATE] !== 0) off -= slack;
    if (off <= slack && off <= best) [found, best] = [bar, off];
  }
  return { lane, bar: found };
}
function failureAt(x, y, width) {
  if (!D.failures.length || y > FAILURES_HEIGHT) return null;
  let [found, best] = [null, 7];
  for (const failure of D.failures) {
    const time = failure.begin === null ? failure.at : failure.begin + failure.run;
    const off = Math.abs(xOf(time, width) - x);
    if (off < best) [found, best] = [failure, off];
  }
  return found;
}
function laneText(lane, time) {
  const pid = (lane.pids || []).filter(([, seen]) => seen <= time).pop() || (lane.pids || [])[0];
  return pid ? `${lane.name} (pid ${pid[0]})` : lane.name;
}
function tellBar(event, lane, bar) {
  const look = lookOf(bar);
  const [begin, run, wait] = [B.begin[bar] * UNIT, B.run[bar] * UNIT, B.wait[bar] * UNIT];
  const error = errorOf.get(`${look[LANE]} ${B.begin[bar]} ${look[WORKER]}`);
  showTip(event, (line) => {
    line(D.types[look[TYPE]], "title");
    line(`worker ${D.workers[look[WORKER]]}, ${laneText(lane, B.begin[bar])}`);
    line(`ran ${seconds(run)}${wait < 0 ? " at most" : `, waited ${seconds(wait)}`}, began at ${seconds(begin, 5)}`);
    if (look[TOGETHER] > 1) line(`a batch of ${whole(look[TOGETHER])}`);
    if (look[FATE] !== 0) line(`${D.fates[look[FATE]]}${error ? `: ${error}` : ""}`, "bad");
  });
}

const stream = at("stream");
const pointers = new Map();
let dragged = null;
stream.addEventListener("pointerdown", (event) => {
  pointers.set(event.pointerId, event.clientX);
  dragged = { x: event.clientX, from: view.from, to: view.to, moved: false };
  stream.setPointerCapture(event.pointerId);
});
stream.addEventListener("pointermove", (event) => {
  const box = stream.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  if (pointers.has(event.pointerId) && dragged) {
    const others = [...pointers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      // Two fingers: their distance says how much.
      const [, other] = others[0];
      const [before, now] = [Math.abs(pointers.get(event.pointerId) - other), Math.abs(event.clientX - other)];
      if (before > 8 && now > 8) zoom(before / now, timeOf((event.clientX + other) / 2 - box.left, box.width));
      pointers.set(event.pointerId, event.clientX);
      dragged = { x: event.clientX, from: view.from, to: view.to, moved: true };
      return;
    }
    const by = event.clientX - dragged.x;
    if (Math.abs(by) > 3) {
      dragged.moved = true;
      stream.classList.add("dragging");
      hideTip();
      const time = (by / (box.width - margin())) * (dragged.to - dragged.from);
      look(dragged.from - time, dragged.to - time);
    }
    return;
  }
  tellAt(event, x, y, box.width);
});
function tellAt(event, x, y, width) {
  const failure = failureAt(x, y, width);
  if (failure) {
    showTip(event, (line) => {
      line(D.types[failure.type], "title");
      line(`worker ${D.workers[failure.worker]}, at ${seconds(failure.at * UNIT, 5)}`);
      line(`${failure.fate}: ${failure.text}`, "bad");
    });
    return;
  }
  const { lane, bar } = barAt(x, y, width);
  if (bar !== null) tellBar(event, lane, bar);
  else if (lane && x < margin()) {
    const count = lane.bars.reduce((sum, bars) => sum + bars.length, 0);
    showTip(event, (line) => {
      line(laneText(lane, view.to), "title");
      line(`${whole(count)} bars${(lane.pids || []).length > 1 ? `, ${lane.pids.length} processes one after the other` : ""}`);
    });
  } else hideTip();
}
for (const name of ["pointerup", "pointercancel"]) {
  stream.addEventListener(name, (event) => {
    pointers.delete(event.pointerId);
    stream.classList.remove("dragging");
    const box = stream.getBoundingClientRect();
    if (dragged && !dragged.moved && name === "pointerup") tellAt(event, event.clientX - box.left, event.clientY - box.top, box.width);
    if (!pointers.size) dragged = null;
  });
}
stream.addEventListener("pointerleave", hideTip);
stream.addEventListener("dblclick", (event) => {
  const box = stream.getBoundingClientRect();
  zoom(0.4, timeOf(event.clientX - box.left, box.width));
});
stream.addEventListener("wheel", (event) => {
  const box = stream.getBoundingClientRect();
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    zoom(Math.exp(Math.max(-0.5, Math.min(0.5, event.deltaY / 200))), timeOf(event.clientX - box.left, box.width));
  } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
    event.preventDefault();
    const by = (sideways / box.width) * (view.to - view.from);
    look(view.from + by, view.to + by);
  }
}, { passive: false });
stream.addEventListener("keydown", (event) => {
  const span = view.to - view.from;
  const moves = {
    ArrowLeft: () => look(view.from - span / 8, view.to - span / 8),
    ArrowRight: () => look(view.from + span / 8, view.to + span / 8),
    "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => look(0, END),
    Home: () => look(0, span), End: () => look(END - span, END),
  };
  if (moves[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    moves[event.key]();
  }
});
const overview = at("overview");
let chosen = null;
overview.addEventListener("pointerdown", (event) => {
  const box = overview.getBoundingClientRect();
  chosen = ((event.clientX - box.left - margin()) / (box.width - margin())) * END;
  overview.setPointerCapture(event.pointerId);
});
overview.addEventListener("pointermove", (event) => {
  if (chosen === null) return;
  const box = overview.getBoundingClientRect();
  const time = ((event.clientX - box.left - margin()) / (box.width - margin())) * END;
  if (Math.abs(time - chosen) > END / 300) look(Math.min(time, chosen), Math.max(time, chosen));
});
for (const name of ["pointerup", "pointercancel"]) overview.addEventListener(name, () => { chosen = null; });
overview.addEventListener("dblclick", () => look(0, END));
at("zoom-in").addEventListener("click", () => zoom(0.6));
at("zoom-out").addEventListener("click", () => zoom(1 / 0.6));
at("zoom-all").addEventListener("click", () => look(0, END));
at("find").addEventListener("input", (event) => {
  wanted = event.target.value.trim().toLowerCase();
  redraw();
});
