// What is told in words and numbers.
const C = D.counts;
const plural = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;

at("about").textContent = `${D.backend === "process" ? plural(D.size, "child process", "child processes") : plural(D.size, "thread")}`
  + `, pool ${D.pool}, ${seconds(D.seconds)} from ${D.clock}, Python ${D.python}, pytoweb ${D.pytoweb}`;

const ended = C.completed + C.failed + C.expired + C.cancelled;
const mean = (() => {
  let [sum, time] = [0, 0];
  S.time.forEach((from, place) => {
    const span = (S.time[place + 1] ?? from) - from;
    sum += span * shares[place];
    time += span;
  });
  return time ? sum / time : 0;
})();
for (const [name, value, small, isBad] of [
  ["messages", whole(ended), ""],
  ["per second", D.seconds > 0 ? whole(Math.round(ended / D.seconds)) : "0", ""],
  ["failed", whole(C.failed), "", C.failed > 0],
  ["tried again", whole(C.retried), ""],
  ["expired, cancelled", `${whole(C.expired)}, ${whole(C.cancelled)}`, ""],
  ["dropped, refused", `${whole(C.dropped)}, ${whole(C.rejected + C.shed)}`, "", C.dropped + C.rejected + C.shed > 0],
  ["utilisation", share(mean), ""],
  ["longest queue", whole(largest(S.depth)), ""],
  ["peak memory", bytes(mostMemory), ""],
]) {
  const tile = element("div", undefined, isBad ? "bad" : "");
  tile.append(element("dt", name), element("dd", value + small));
  at("tiles").append(tile);
}

at("stream-text").textContent = `${plural(lanes.length, "lane")}, ${plural(B.count, "bar")}`
  + `${D.left_out.bars ? ` of ${whole(D.left_out.recorded)}` : ""}, ${plural(D.failures.length, "failure")}.`
  + " Drag to move, Ctrl and wheel or two fingers to zoom; keys: left, right, +, -, 0. Point at a bar for more.";
at("mark-busy").hidden = !D.busy.length;

const MOST_BUTTONS = 24;
byRun.slice(0, MOST_BUTTONS).forEach(({ type }) => button(D.types[type], colourOf[type], [type]));
if (byRun.length > MOST_BUTTONS) {
  const others = byRun.slice(MOST_BUTTONS).map(({ type }) => type);
  button(`${others.length} other types`, OTHER, others);
}
function button(name, colour, types) {
  const made = element("button");
  const chip = element("i", "", "chip");
  chip.style.background = colour;
  made.type = "button";
  made.title = name;
  made.setAttribute("aria-pressed", "true");
  made.append(chip, element("span", name));
  made.addEventListener("click", () => {
    const show = made.getAttribute("aria-pressed") === "false";
    made.setAttribute("aria-pressed", String(show));
    types.forEach((type) => (show ? hidden.delete(type) : hidden.add(type)));
    redraw();
  });
  at("legend").append(made);
}

function head(table, names, texts) {
  const row = element("tr");
  names.forEach((name, place) => {
    const cell = element("th", name, place < texts ? "text" : "");
    cell.scope = "col";
    row.append(cell);
  });
  const made = element("thead");
  made.append(row);
  table.append(made);
}
const mostRun = largest(D.numbers.map((numbers) => numbers.run_seconds)) || 1;
head(at("types"), ["type", "completed", "failed", "expired", "cancelled", "tried again", "wait p50", "p99", "run p50", "p99", "run, all", ""], 1);
const rows = element("tbody");
for (const numbers of byRun.slice(0, 100)) {
  const row = element("tr");
  const name = element("td", undefined, "text name");
  const chip = element("i", "", "chip");
  chip.style.background = colourOf[numbers.type];
  name.append(chip, ` ${D.types[numbers.type]}`);
  row.append(name);
  const failed = numbers.failed + numbers.crashed;
  for (const [value, isBad] of [[numbers.completed], [failed, true], [numbers.expired, true], [numbers.cancelled], [numbers.retried]]) {
    row.append(element("td", whole(value), value === 0 ? "zero" : isBad ? "bad" : ""));
  }
  for (const [buckets, part] of [[numbers.waits, 0.5], [numbers.waits, 0.99], [numbers.runs, 0.5], [numbers.runs, 0.99]]) {
    const value = quantile(buckets, part);
    row.append(element("td", value === null ? "" : seconds(value, 2)));
  }
  row.append(element("td", seconds(numbers.run_seconds)));
  const bar = element("span", "", "share");
  const fill = element("i");
  fill.style.width = `${(100 * numbers.run_seconds) / mostRun}%`;
  fill.style.background = colourOf[numbers.type];
  bar.append(fill);
  const cell = element("td");
  cell.append(bar);
  row.append(cell);
  rows.append(row);
}
at("types").append(rows);

const FIRST_FAILURES = 50;
function failureRow(failure) {
  const row = element("tr");
  row.tabIndex = 0;
  const lane = failure.lane === null ? "" : laneText(lanes[failure.lane], failure.at);
  row.append(element("td", seconds(failure.at * UNIT, 4), "text"));
  row.append(element("td", failure.fate === "retried" ? "\u25bd tried again" : `\u25bc ${failure.fate}`, `text${failure.fate === "retried" ? "" : " bad"}`));
  row.append(element("td", D.workers[failure.worker], "text name"), element("td", D.types[failure.type], "text name"));
  row.append(element("td", lane, "text"), element("td", failure.text, "text error"));
  const show = () => {
    const begin = failure.begin === null ? failure.at : failure.begin;
    const span = Math.max(LEAST * 10, (failure.run || 0) * 6, END / 200);
    look(begin - span / 2, begin + span / 2);
    stream.scrollIntoView({ block: "center" });
  };
  row.addEventListener("click", show);
  row.addEventListener("keydown", (event) => { if (event.key === "Enter") show(); });
  return row;
}
if (D.failures.length) {
  head(at("failures"), ["at", "how", "worker", "type", "where", "error"], 6);
  const body = element("tbody");
  at("failures").append(body);
  D.failures.slice(0, FIRST_FAILURES).forEach((failure) => body.append(failureRow(failure)));
  const left = D.failures.length - FIRST_FAILURES;
  if (left > 0) {
    const more = at("more-failures");
    more.textContent = `show ${plural(left, "more", "more")}`;
    more.hidden = false;
    more.addEventListener("click", () => {
      D.failures.slice(FIRST_FAILURES).forEach((failure) => body.append(failureRow(failure)));
      more.hidden = true;
    });
  }
} else at("no-failures").hidden = false;

const L = D.left_out;
for (const [is, text] of [
  [L.bars, `${plural(L.bars, "message is", "messages are")} not drawn: of ${whole(L.recorded)} the long ones and an even choice of the`
    + " short ones are. Numbers, times and failures are of all."],
  [L.untimed, `${plural(L.untimed, "message was", "messages were")} not timed: posted before the recording began, or one of a batch`
    + " that another process ran. The counts have them."],
  [L.failures, `${plural(L.failures, "failure is", "failures are")} counted, and not listed.`],
  [L.lanes, `${plural(L.lanes, "lane")} of threads that did least.`],
  [D.busy.length, `Breaks in the work of a thread that are shorter than ${seconds(L.busy_gap * UNIT)}.`],
  [true, `Queues, utilisation and memory between two looks, which were ${seconds(L.sample_seconds)} apart at the end.`],
  [D.backend === "process", "The way of an answer: a message in a child process is drawn to end when its answer came, or just before the next one began."],
  [true, "Messages that still ran or were queued at the end."],
]) {
  if (is) at("left-out").append(element("li", text));
}

function start() {
  readInk();
  redraw();
}
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", start);
// A printer gets the colours of paper: the sizes and colours of the page as it is printed.
for (const name of ["beforeprint", "afterprint"]) {
  addEventListener(name, () => {
    readInk();
    painters.forEach((paint) => paint());
  });
}
matchMedia("print").addEventListener("change", () => {
  readInk();
  painters.forEach((paint) => paint());
});
start();
