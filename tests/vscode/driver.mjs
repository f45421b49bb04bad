// The hands and eyes of the editor test: reads one JSON command a line, drives Chromium, answers one JSON line.
//   node driver.mjs FOLDER-WITH-PLAYWRIGHT-CORE CHROMIUM
// Timings are taken inside the page, from the browser's own key event to the frame in which ghost text stands.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { chromium } = createRequire(`${process.argv[2]}/package.json`)("playwright-core");
const GHOST = "[class*='ghost-text']:not([class*='icon'])";

const browser = await chromium.launch({
  executablePath: process.argv[3],
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
await context.grantPermissions(["clipboard-read", "clipboard-write"]);
const page = await context.newPage();

// Monaco writes blanks as no-break spaces.
const plain = (text) => text.replaceAll("\u00a0", " ");
const texts = async (selector) => (await page.locator(selector).allTextContents()).map(plain);

async function until(seconds, what, look) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not seen within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const has = (selector, part) => async () => (await texts(selector)).find((text) => text.includes(part)) ?? "";

const actions = {
  open: async ({ url }) => {
    // The editor is there when its status bar is: how long all of its files take says nothing on a busy machine.
    await page.goto(url, { waitUntil: "commit", timeout: 180_000 });
    await page.waitForSelector(".monaco-workbench .statusbar-item", { timeout: 180_000 });
  },
  press: ({ key }) => page.keyboard.press(key),
  type: ({ text, delay = 30 }) => page.keyboard.type(text, { delay }),
  click: ({ selector, text }) => page.locator(selector, text ? { hasText: text } : {}).first().click({ timeout: 10_000 }),
  texts: ({ selector }) => texts(selector),
  see: ({ selector, text, seconds = 10 }) => until(seconds, `${text} in ${selector}`, has(selector, text)),
  gone: async ({ selector, text, seconds = 10 }) => {
    await until(seconds, `no ${text} in ${selector}`, async () => !(await has(selector, text)()));
  },
  ghost: async ({ seconds = 10 }) => until(seconds, "ghost text", async () => (await texts(GHOST)).join("")),
  ghostNow: async () => (await texts(GHOST)).join(""),
  noGhost: async ({ seconds }) => {
    const end = Date.now() + seconds * 1000;
    while (Date.now() < end) {
      const text = (await texts(GHOST)).join("");
      if (text) throw new Error(`ghost text: ${text}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
  // Text that the editor only draws beside the file's own, by a style sheet.
  drawn: async ({ text, seconds = 10 }) => {
    const look = (part) =>
      [...document.querySelectorAll(".view-lines span")].some((one) => getComputedStyle(one, "::after").content.replaceAll("\u00a0", " ").includes(part));
    await until(seconds, `${text}, drawn`, () => page.evaluate(look, text));
  },
  screenshot: async ({ path, clip }) => {
    await page.screenshot({ path, clip });
  },
  attribute: ({ selector, name }) => page.locator(selector).first().getAttribute(name),
  // The text of the page in a web view, which lies two frames deep.
  webview: async ({ text, seconds = 15 }) =>
    until(seconds, `${text} in a web view`, async () => {
      for (const frame of page.frames().slice(1)) {
        const main = await frame.locator("main").first().innerText({ timeout: 200 }).catch(() => "");
        if (main.includes(text)) return main;
      }
      return "";
    }),
  // Milliseconds from the browser's key event to ghost text on the screen, or null after `patience`; and whether some
  // stood there before the key.
  timed: ({ key, patience = 3000 }) =>
    page
      .evaluate(
        ([selector, patience]) => {
          const ghost = () => [...document.querySelectorAll(selector)].map((one) => one.textContent).join("");
          window.timed = new Promise((resolve) => {
            const began = (event) => {
              const [start, before] = [event.timeStamp, ghost()];
              const look = () => {
                const now = ghost();
                const taken = performance.now() - start;
                if ((now && now !== before) || taken > patience) resolve({ before, taken: now && now !== before ? taken : null });
                else requestAnimationFrame(look);
              };
              requestAnimationFrame(look);
            };
            window.addEventListener("keydown", began, { capture: true, once: true });
          });
        },
        [GHOST, patience],
      )
      .then(() => page.keyboard.press(key))
      .then(() => page.evaluate(() => window.timed)),
  close: () => browser.close(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { action, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await actions[action](given)) ?? null };
  } catch (error) {
    answer = { error: String(error.message).split("\n")[0] };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  if (action === "close") break;
}
