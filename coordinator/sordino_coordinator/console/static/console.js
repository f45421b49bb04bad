// Keeps the page live: asks for it again, and replaces the sections that changed. Without script the page reloads itself.
"use strict";

const PERIOD = 2000;
const LONGEST = 60000;
const status = document.getElementById("live");
let tag = null;
let failures = 0;
let timer = 0;

function say(text) {
  // A screen reader is told when the state of the connection changes, not every two seconds.
  if (status && status.textContent !== text) status.textContent = text;
}

function wait() {
  // Full jitter, doubling, at most a minute: a coordinator that restarts is not met by every open page at once.
  return failures === 0 ? PERIOD : Math.random() * Math.min(LONGEST, PERIOD * 2 ** failures) + 500;
}

function take(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const section of fresh.querySelectorAll("[data-live]")) {
    const shown = document.getElementById(section.id);
    if (!shown) return window.location.reload();
    if (shown.outerHTML === section.outerHTML) continue;
    // What a person is reading or has opened stays as it is until they leave it.
    if (shown.contains(document.activeElement)) continue;
    const open = [...shown.querySelectorAll("details")].map((one) => one.open);
    const scrolled = shown.querySelector(".events")?.scrollTop ?? 0;
    const taken = document.importNode(section, true);
    taken.querySelectorAll("details").forEach((one, index) => { one.open = open[index] ?? false; });
    shown.replaceWith(taken);
    const list = taken.querySelector(".events");
    if (list) list.scrollTop = scrolled;
  }
  document.title = fresh.title;
}

async function look() {
  window.clearTimeout(timer);
  if (document.hidden) return;
  try {
    const reply = await fetch(window.location.pathname + window.location.search, {
      headers: tag ? { "If-None-Match": tag } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(10000),
    });
    if (reply.status === 401) return window.location.reload();
    if (!reply.ok && reply.status !== 304) throw new Error(String(reply.status));
    if (reply.status === 200) {
      tag = reply.headers.get("ETag");
      take(await reply.text());
    }
    failures = 0;
    document.body.classList.remove("stale");
    say("live");
  } catch {
    failures += 1;
    document.body.classList.add("stale");
    say("The coordinator does not answer: what you see may be old. Trying again.");
  }
  timer = window.setTimeout(look, wait());
}

document.addEventListener("visibilitychange", look);
look();
