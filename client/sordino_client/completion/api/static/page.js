"use strict";
// Everything is set as text, never as markup; the charts are SVG made element by element.
const byId = (id) => document.getElementById(id);
const number = (x) => x.toLocaleString("en").replaceAll(",", " ");
const percent = (x) => (x === null ? "–" : `${Math.round(100 * x)} %`);
const ms = (x) => (x === null ? "–" : `${number(Math.round(x))} ms`);

function drawn(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// The next of 1, 2 or 5 times a power of ten: an axis that ends on a round number.
function roundUp(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= most);
}

// One bar a day: the smaller series in front of the larger, which contains it.
function bars(into, days, back, front, unit, summary) {
  const width = 900, height = 210, left = 56, floor = 180, top = 12;
  const most = roundUp(Math.max(1, ...days.map((day) => back.value(day) ?? 0)));
  const y = (value) => floor - ((floor - top) * (value ?? 0)) / most;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary });
  for (const value of [0, most / 2, most]) {
    svg.append(drawn("line", { x1: left, x2: width, y1: y(value), y2: y(value) }));
    svg.append(drawn("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, `${number(value)}${unit}`));
  }
  const slot = (width - left) / Math.max(days.length, 10), thick = slot * 0.62;
  days.forEach((day, at) => {
    const x = left + at * slot + (slot - thick) / 2;
    const bar = drawn("g", {});
    for (const one of [back, front]) {
      const value = one.value(day) ?? 0;
      bar.append(drawn("rect", { class: one.class, x, y: y(value), width: thick, height: floor - y(value), rx: 2 }));
    }
    const said = [front, back].map((one) => `${one.name} ${number(Math.round(one.value(day) ?? 0))}${unit}`).join(", ");
    bar.append(drawn("title", {}, `${day.day}: ${said}`));
    svg.append(bar);
    if (at % Math.ceil(days.length / 10) === 0)
      svg.append(drawn("text", { x: x + thick / 2, y: height - 8, "text-anchor": "middle" }, day.day.slice(5)));
  });
  byId(into).replaceChildren(svg);
}

function rows(into, cells) {
  byId(into).replaceChildren(...cells.map((texts) => {
    const row = document.createElement("tr");
    for (const content of texts) {
      const cell = row.insertCell();
      if (typeof content === "number") cell.className = "number";
      cell.append(content instanceof Node ? content : typeof content === "number" ? number(content) : content);
    }
    return row;
  }));
}

function show(found, memory) {
  const held = memory.tokens ? `remembers ${number(memory.files)} files (${number(Math.round(memory.bytes / 1e5) / 10)} MB)` : "remembers no files";
  byId("state").textContent = found.model ? `${found.state} · ${held}` : found.state;
  byId("unread").textContent = memory.unread
    .map((gap) => `Not remembered: ${gap.repository} is ${gap.whole ? "missing" : "incomplete"} (${gap.reason}).`).join(" ");
  byId("unread").hidden = memory.unread.length === 0;
  const figures = [[number(found.shown), "shown"], [number(found.accepted), "accepted"], [percent(found.acceptance), "of the shown accepted"],
    [percent(found.completed_ratio), "of the code completed"], [ms(found.latency_p50_ms), "half are faster"],
    [ms(found.latency_p95_ms), "95 % are faster"]];
  byId("figures").replaceChildren(...figures.map(([value, label]) => {
    const box = document.createElement("div"), strong = document.createElement("b"), text = document.createElement("span");
    strong.textContent = value;
    text.textContent = label;
    text.className = "label";
    box.append(strong, text);
    return box;
  }));
  bars("events", found.days, { class: "one", name: "shown", value: (day) => day.shown },
    { class: "two", name: "accepted", value: (day) => day.accepted }, "",
    `Completions a day over ${found.days.length} days: ${found.shown} shown, ${found.accepted} accepted`);
  bars("latency", found.days, { class: "one", name: "95 % under", value: (day) => day.latency_p95_ms },
    { class: "two", name: "half under", value: (day) => day.latency_p50_ms }, " ms",
    `Time to answer: half under ${ms(found.latency_p50_ms)}, 95 % under ${ms(found.latency_p95_ms)}`);
  const silent = Object.entries(found.reasons).filter(([reason]) => reason !== "shown").sort((a, b) => b[1] - a[1]);
  const all = Object.values(found.reasons).reduce((sum, count) => sum + count, 0);
  rows("reasons", silent.length ? silent.map(([reason, count]) => {
    const meter = document.createElement("meter");
    meter.value = count / all;
    meter.textContent = percent(count / all);
    return [count, meter, found.explanations[reason] ?? reason];
  }) : [[0, "", "every request was answered with a completion"]]);
  rows("days", found.days.map((day) => [day.day, day.shown, day.accepted, Math.round(day.latency_p50_ms ?? 0), Math.round(day.latency_p95_ms ?? 0)]));
  byId("figures").hidden = byId("charts").hidden = false;
}

async function load() {
  const token = location.hash.slice(1);
  if (!token) return;
  const ask = (path) => fetch(path, { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
  const [answer, memory] = await Promise.all([ask("/v1/statistics"), ask("/v1/memory")]);
  if (answer.ok && memory.ok) show(await answer.json(), await memory.json());
  else byId("state").textContent = answer.status === 401 ? "The token is wrong." : `The endpoint answered ${answer.status}.`;
}

addEventListener("hashchange", load);
load();
