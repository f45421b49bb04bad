/**
 * Pages without script: text, tables and drawings, in the editor's own colours, so that high contrast, large type and
 * screen readers work without anything more. Pure.
 */
const STYLE = `
body { font: var(--vscode-font-size, 13px)/1.5 var(--vscode-font-family, sans-serif); color: var(--vscode-foreground);
  background: var(--vscode-editor-background); padding: 0 1.5rem 2rem; max-width: 60rem; }
h1 { font-size: 1.6em; font-weight: 600; } h2 { font-size: 1.2em; font-weight: 600; margin-top: 2em; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: var(--vscode-descriptionForeground); padding: .4em 0; }
th, td { text-align: right; padding: .35em .8em; border-bottom: 1px solid var(--vscode-panel-border, currentColor); font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
dl { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.5em 0; } dt { color: var(--vscode-descriptionForeground); } dd { margin: 0; font-size: 1.6em; }
svg { width: 100%; height: auto; } svg text { fill: var(--vscode-foreground); font: 12px var(--vscode-font-family, sans-serif); }
svg .axis { stroke: var(--vscode-descriptionForeground); stroke-width: 1; } svg .grid { stroke: var(--vscode-panel-border, #8884); stroke-width: 1; }
svg .line { stroke: var(--vscode-charts-blue, #3794ff); stroke-width: 2.5; fill: none; } svg .dot { fill: var(--vscode-charts-blue, #3794ff); }
.bar { border: 1px solid var(--vscode-contrastBorder, var(--vscode-panel-border, currentColor)); height: 1.1em; border-radius: 3px; overflow: hidden; }
.bar div { background: var(--vscode-charts-blue, #3794ff); height: 100%; }
.quiet { color: var(--vscode-descriptionForeground); }`;

export const escaped = (text: string): string =>
  text.replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);

/** A whole page. `body` is markup that the caller escaped; `nonce` lets exactly this style in, and nothing else. */
export function page(title: string, body: string, nonce: string): string {
  return `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'nonce-${nonce}'">
<title>${escaped(title)}</title><style nonce="${nonce}">${STYLE}</style></head>
<body><main><h1>${escaped(title)}</h1>${body}</main></body></html>`;
}

/** A table with a caption; the first column names the row. */
export function table(caption: string, heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = heads.map((text) => `<th scope="col">${escaped(text)}</th>`).join("");
  const body = rows
    .map(([first = "", ...rest]) => `<tr><th scope="row">${escaped(first)}</th>${rest.map((text) => `<td>${escaped(text)}</td>`).join("")}</tr>`)
    .join("");
  return `<table><caption>${escaped(caption)}</caption><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>`;
}

/** Named figures, large. */
export function figures(pairs: readonly (readonly [string, string])[]): string {
  return `<dl>${pairs.map(([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`).join("")}</dl>`;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

const WIDTH = 720;
const HEIGHT = 320;
const MARGIN = { left: 64, right: 20, top: 20, bottom: 44 };
const GRID_LINES = 4;

/** A line chart as SVG. `description` is what a screen reader says; the figures stand in a table beside it. */
export function chart(points: readonly Point[], names: { x: string; y: string; description: string }): string {
  const xs = points.map((point) => point.x);
  const ys = points.map((point) => point.y);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const pad = Math.max((Math.max(...ys) - Math.min(...ys)) * 0.1, 1e-4);
  const [low, high] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const x = (value: number): number =>
    MARGIN.left + ((WIDTH - MARGIN.left - MARGIN.right) * (value - left)) / Math.max(right - left, 1);
  const y = (value: number): number => HEIGHT - MARGIN.bottom - ((HEIGHT - MARGIN.top - MARGIN.bottom) * (value - low)) / (high - low);
  const grid = Array.from({ length: GRID_LINES + 1 }, (_, number) => low + ((high - low) * number) / GRID_LINES)
    .map(
      (value) =>
        `<line class="grid" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(value)}" y2="${y(value)}"/>` +
        `<text x="${MARGIN.left - 8}" y="${y(value) + 4}" text-anchor="end">${value.toFixed(3)}</text>`,
    )
    .join("");
  const step = Math.max(1, Math.ceil(points.length / 12));
  const ticks = points
    .filter((_, number) => number % step === 0)
    .map((point) => `<text x="${x(point.x)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${point.x}</text>`)
    .join("");
  const line = `<polyline class="line" points="${points.map((point) => `${x(point.x)},${y(point.y)}`).join(" ")}"/>`;
  const dots = points.map((point) => `<circle class="dot" cx="${x(point.x)}" cy="${y(point.y)}" r="4"/>`).join("");
  return (
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(names.description)}">${grid}` +
    `<line class="axis" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${HEIGHT - MARGIN.bottom}" y2="${HEIGHT - MARGIN.bottom}"/>` +
    `${ticks}${line}${dots}<text x="${(WIDTH + MARGIN.left) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${escaped(names.x)}</text>` +
    `<text x="${-(HEIGHT - MARGIN.bottom + MARGIN.top) / 2}" y="14" transform="rotate(-90)" text-anchor="middle">${escaped(names.y)}</text></svg>`
  );
}
