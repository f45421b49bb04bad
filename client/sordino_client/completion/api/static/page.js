"use strict";
// Everything is set as text, never as markup; the charts are SVG made element by element.
const byId = (id) => document.getElementById(id);
const percent = (x) => (x === null ? "–" : `${Math.round(100 * x)} %`);
const ms = (x) => (x === null ? "–" : `${Math.round(x)} ms`);

function element(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function bars(into, days, series, unit) {
  const width = 720, height = 170, floor = 145, top = 12;
  const most = Math.max(1, ...days.flatMap((day) => series.map((one) => one.value(day) || 0)));
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.append(element("line", { x1: 40, x2: width, y1: floor, y2: floor }));
  svg.append(element("text", { x: 0, y: top + 8 }, `${Math.round(most)}${unit}`), element("text", { x: 0, y: floor }, "0"));
  const slot = (width - 44) / Math.max(days.length, 7);
  days.forEach((day, number) => {
    series.forEach((one, place) => {
      const tall = ((floor - top) * (one.value(day) || 0)) / most;
      const bar = element("rect", { class: one.class, x: 44 + number * slot + (place * slot * 0.8) / series.length,
        y: floor - tall, width: (slot * 0.75) / series.length, height: tall, rx: 2 });
      bar.append(element("title", {}, `${day.day}: ${one.name} ${Math.round(one.value(day) || 0)}${unit}`));
      svg.append(bar);
    });
    if (number % Math.ceil(days.length / 8) === 0) svg.append(element("text", { x: 44 + number * slot, y: height - 6 }, day.day.slice(5)));
  });
  byId(into).replaceChildren(svg);
}

function show(found) {
  byId("state").textContent = found.model ? `Model ${found.model}` : "No model on this machine yet";
  const figures = [["shown", found.shown], ["accepted", found.accepted], ["acceptance", percent(found.acceptance)],
    ["of the code completed", percent(found.completed_ratio)], ["half faster than", ms(found.latency_p50_ms)],
    ["95 % faster than", ms(found.latency_p95_ms)]];
  byId("figures").replaceChildren(...figures.map(([name, value]) => {
    const box = document.createElement("div"), number = document.createElement("b");
    number.textContent = value;
    box.append(number, name);
    return box;
  }));
  bars("events", found.days, [{ class: "one", name: "shown", value: (d) => d.shown }, { class: "two", name: "accepted", value: (d) => d.accepted }], "");
  bars("latency", found.days, [{ class: "one", name: "p50", value: (d) => d.latency_p50_ms }, { class: "two", name: "p95", value: (d) => d.latency_p95_ms }], " ms");
  const reasons = Object.entries(found.reasons).sort((a, b) => b[1] - a[1]);
  byId("reasons").replaceChildren(...reasons.map(([reason, count]) => {
    const row = document.createElement("tr");
    for (const text of [count, found.explanations[reason] || reason]) row.insertCell().textContent = text;
    return row;
  }));
  byId("figures").hidden = byId("charts").hidden = false;
}

async function load() {
  const token = location.hash.slice(1);
  if (!token) return;
  const answer = await fetch("/v1/statistics", { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
  if (answer.ok) show(await answer.json());
  else byId("state").textContent = answer.status === 401 ? "The token is wrong." : `The endpoint answered ${answer.status}.`;
}

addEventListener("hashchange", load);
load();
