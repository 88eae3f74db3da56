// Depth, load and memory over the same time as the stream, and how long messages waited and ran.
const S = D.samples;
const QUEUES = ["#3f7fc1", "#e0a33a", "#4aa58a", "#8a6fc0", "#7cb8e8", "#a8803c"];

function yAxis(pen, width, height, most, told) {
  const left = margin();
  pen.strokeStyle = ink.line;
  pen.lineWidth = 1;
  pen.strokeRect(left + 0.5, 0.5, width - left - 1, height - 1);
  pen.fillStyle = ink.soft;
  pen.textAlign = "right";
  pen.fillText(told(most), left - 6, 8);
  pen.fillText(told(0), left - 6, height - 7);
  pen.textAlign = "left";
}
// A share is of the time before its look: it is drawn there.
const shares = [...S.utilisation.slice(1), 0];
// Layers of numbers above each other; a value holds until the next look.
function stacked(canvas, layers, most, told) {
  const { pen, width, height } = paper(canvas, 110);
  const left = margin();
  paintGrid(pen, width, height);
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, width - left, height);
  pen.clip();
  let floor = S.time.map(() => 0);
  for (const { values, colour } of layers) {
    const ceiling = floor.map((value, place) => value + (values[place] || 0));
    const y = (value) => height - (value / most) * (height - 6);
    pen.beginPath();
    S.time.forEach((time, place) => {
      const x = xOf(time, width);
      pen.lineTo(x, y(ceiling[place]));
      pen.lineTo(xOf(S.time[place + 1] ?? END, width), y(ceiling[place]));
    });
    for (let place = S.time.length - 1; place >= 0; place--) {
      pen.lineTo(xOf(S.time[place + 1] ?? END, width), y(floor[place]));
      pen.lineTo(xOf(S.time[place], width), y(floor[place]));
    }
    pen.closePath();
    pen.fillStyle = colour;
    pen.globalAlpha = 0.85;
    pen.fill();
    floor = ceiling;
  }
  pen.restore();
  yAxis(pen, width, height, most, told);
}
const largest = (values) => values.reduce((most, value) => Math.max(most, value || 0), 0);

const named = S.queues.map((name, queue) => ({ name, values: S.depths.map((row) => row[queue]), colour: QUEUES[queue] }));
const rest = S.depth.map((depth, place) => depth - S.depths[place].reduce((sum, one) => sum + one, 0));
const queueLayers = [...named, ...(largest(rest) > 0 ? [{ name: "other queues", values: rest, colour: OTHER }] : [])];
const host = { name: "this program", values: S.memory.map((value) => value || 0), colour: QUEUES[0] };
const children = { name: "child processes", values: S.child_memory, colour: QUEUES[1] };
const memoryLayers = largest(children.values) > 0 ? [host, children] : [host];
const mostMemory = largest(S.memory.map((value, place) => (value || 0) + S.child_memory[place]));

function keys(into, layers) {
  for (const { name, colour } of layers) {
    const key = element("span");
    const chip = element("i", "", "chip");
    chip.style.background = colour;
    key.append(chip, element("span", name));
    key.title = name;
    into.append(key);
  }
}
keys(at("depth-keys"), queueLayers);
keys(at("memory-keys"), memoryLayers);
const share = (value) => `${Math.round(value * 100)} %`;
painters.push(
  () => stacked(at("depth"), queueLayers, Math.max(1, largest(S.depth)), whole),
  () => stacked(at("load"), [{ values: shares, colour: QUEUES[2] }], 1, share),
  () => stacked(at("memory"), memoryLayers, Math.max(1, mostMemory), bytes),
);
for (const [id, lines] of [
  ["depth", (place) => [`${whole(S.depth[place])} queued, ${whole(S.running[place])} running`,
    ...queueLayers.filter(({ values }) => values[place]).map(({ name, values }) => `${name}: ${whole(values[place])}`)]],
  ["load", (place) => [`${share(shares[place])} of the time of all places`]],
  ["memory", (place) => [`this program: ${bytes(S.memory[place] || 0)}`,
    ...(memoryLayers.length > 1 ? [`${S.children[place]} child processes: ${bytes(S.child_memory[place])}`] : [])]],
]) {
  at(id).addEventListener("pointermove", (event) => {
    const box = at(id).getBoundingClientRect();
    const time = timeOf(event.clientX - box.left, box.width);
    if (event.clientX - box.left < margin()) return hideTip();
    let place = S.time.findIndex((one) => one > time);
    place = (place < 0 ? S.time.length : Math.max(1, place)) - 1;
    showTip(event, (line) => {
      line(`at ${seconds(S.time[place] * UNIT)}`, "title");
      lines(place).forEach((text) => line(text));
    });
  });
  at(id).addEventListener("pointerleave", hideTip);
}

// The value that a share of the messages does not pass; within an eighth of it. A bucket is a quarter of a doubling.
function quantile(buckets, part) {
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [least, count] of buckets) {
    seen += count;
    if (seen >= total * part) return (least + bucketWidth(least) / 2) / 1e9;
  }
  return null;
}
const bucketWidth = (least) => (least < 16 ? 1 : 2 ** (Math.floor(Math.log2(least)) - 2));
function merged(all) {
  const sums = new Map();
  for (const buckets of all) for (const [least, count] of buckets) sums.set(least, (sums.get(least) || 0) + count);
  return [...sums].sort((one, two) => one[0] - two[0]);
}

function histogram(canvas, title, field) {
  const { pen, width, height } = paper(canvas, 170);
  const [left, bottom] = [44, height - 20];
  const shown = byRun.filter((numbers) => !hidden.has(numbers.type) && numbers[field].length);
  const all = merged(shown.map((numbers) => numbers[field]));
  pen.strokeStyle = ink.line;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(left, bottom + 0.5);
  pen.lineTo(width, bottom + 0.5);
  pen.stroke();
  if (!all.length) {
    pen.fillStyle = ink.soft;
    pen.fillText("no message was timed", left + 8, bottom / 2);
    return [];
  }
  const low = Math.log2(Math.max(64, all[0][0])) - 0.5;
  const high = Math.max(low + 4, Math.log2(all[all.length - 1][0] * 1.25 + 1) + 0.5);
  const x = (nanos) => left + ((Math.log2(Math.max(64, nanos)) - low) / (high - low)) * (width - left - 4);
  const most = largest(all.map(([, count]) => count));
  pen.fillStyle = ink.soft;
  pen.textAlign = "right";
  pen.fillText(whole(most), left - 6, 16);
  pen.textAlign = "center";
  for (let power = 2; power <= 13; power++) {
    const place = x(10 ** power);
    if (place < left + 12 || place > width - 22) continue;
    pen.fillText(seconds(10 ** power / 1e9), place, bottom + 11);
    pen.strokeStyle = ink.line;
    pen.beginPath();
    pen.moveTo(Math.round(place) + 0.5, 8);
    pen.lineTo(Math.round(place) + 0.5, bottom);
    pen.stroke();
  }
  pen.textAlign = "left";
  const bars = all.map(([least]) => ({ least, from: x(least), to: x(least + bucketWidth(least)), told: [] }));
  const tops = new Map(all.map(([least]) => [least, 0]));
  for (const numbers of shown) {
    pen.fillStyle = colourOf[numbers.type];
    for (const [least, count] of numbers[field]) {
      const bar = bars.find((one) => one.least === least);
      const before = tops.get(least);
      tops.set(least, before + count);
      bar.told.push([numbers.type, count]);
      const y = (value) => bottom - (value / most) * (bottom - 14);
      pen.fillRect(bar.from, Math.min(y(before) - 0.8, y(before + count)), Math.max(1, bar.to - bar.from - 0.6), Math.max(0.8, y(before) - y(before + count)));
    }
  }
  for (const [part, name] of [[0.5, "p50"], [0.99, "p99"]]) {
    const value = quantile(all, part);
    const place = x(value * 1e9);
    pen.strokeStyle = ink.ink;
    pen.setLineDash([3, 3]);
    pen.beginPath();
    pen.moveTo(place, 4);
    pen.lineTo(place, bottom);
    pen.stroke();
    pen.setLineDash([]);
    const text = `${name} ${seconds(value)}`;
    const room = pen.measureText(text).width + 8;
    const [from, y] = [place + room > width ? place - room : place + 1, part === 0.5 ? 8 : 22];
    pen.fillStyle = ink.paper;
    pen.fillRect(from, y - 7, room - 1, 14);
    pen.fillStyle = ink.ink;
    pen.fillText(text, from + 3, y);
  }
  return bars;
}
const drawn = {};
for (const [id, title, field] of [["waits", "Waited", "waits"], ["runs", "Ran", "runs"]]) {
  painters.push(() => { drawn[id] = histogram(at(id), title, field); });
  at(id).addEventListener("pointermove", (event) => {
    const x = event.clientX - at(id).getBoundingClientRect().left;
    const bar = (drawn[id] || []).find((one) => x >= one.from && x < one.to);
    if (!bar) return hideTip();
    showTip(event, (line) => {
      line(`${seconds(bar.least / 1e9)} to ${seconds((bar.least + bucketWidth(bar.least)) / 1e9)}`, "title");
      for (const [type, count] of bar.told) line(`${D.types[type]}: ${whole(count)}`);
    });
  });
  at(id).addEventListener("pointerleave", hideTip);
}
