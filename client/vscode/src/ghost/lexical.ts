/**
 * Whether a cursor stands in code, in a comment or in a string. A small scanner by families of languages, because the
 * editor's own tokens are not open to extensions. Pure. Where a language is not known, everything is code.
 */
export type Region = "code" | "comment" | "string";

interface Family {
  readonly line: readonly string[];
  readonly block: readonly (readonly [string, string])[];
  /** Longest first; `multiline` ones may span lines. */
  readonly strings: readonly { readonly open: string; readonly close: string; readonly multiline: boolean; readonly escape: boolean }[];
}

const quoted = (open: string, multiline = false, escape = true) => ({ open, close: open, multiline, escape });
const cComments = { line: ["//"], block: [["/*", "*/"]] } as const;
const FAMILIES: readonly (readonly [string, Family])[] = [
  ["java kotlin scala groovy swift csharp dart", { ...cComments, strings: [quoted('"""', true), quoted('"'), quoted("'")] }],
  ["javascript javascriptreact typescript typescriptreact", { ...cComments, strings: [quoted("`", true), quoted('"'), quoted("'")] }],
  ["go", { ...cComments, strings: [quoted("`", true, false), quoted('"'), quoted("'")] }],
  // A quote in Rust also opens a lifetime, so characters are left to be code.
  ["rust", { ...cComments, strings: [quoted('"', true)] }],
  ["c cpp objective-c objective-cpp cuda-cpp jsonc css scss less", { ...cComments, strings: [quoted('"'), quoted("'")] }],
  ["php", { line: ["//", "#"], block: [["/*", "*/"]], strings: [quoted('"', true), quoted("'", true)] }],
  ["python", { line: ["#"], block: [], strings: [quoted('"""', true), quoted("'''", true), quoted('"'), quoted("'")] }],
  ["ruby perl shellscript", { line: ["#"], block: [], strings: [quoted('"', true), quoted("'", true)] }],
  ["yaml toml dockerfile makefile r julia elixir", { line: ["#"], block: [], strings: [quoted('"'), quoted("'")] }],
  ["sql", { line: ["--"], block: [["/*", "*/"]], strings: [quoted("'", true, false)] }],
  ["lua", { line: ["--"], block: [["--[[", "]]"]], strings: [quoted('"'), quoted("'"), { open: "[[", close: "]]", multiline: true, escape: false }] }],
  ["haskell", { line: ["--"], block: [["{-", "-}"]], strings: [quoted('"')] }],
  ["html xml vue", { line: [], block: [["<!--", "-->"]], strings: [] }],
];
const BY_LANGUAGE = new Map(FAMILIES.flatMap(([names, family]) => names.split(" ").map((name) => [name, family] as const)));

/** Where the end of `prefix`, the text of a document up to the cursor, stands. */
export function regionAtEnd(prefix: string, language: string): Region {
  const family = BY_LANGUAGE.get(language);
  if (family === undefined) {
    return "code";
  }
  let at = 0;
  while (at < prefix.length) {
    const here = opening(prefix, at, family);
    if (here === undefined) {
      at += 1;
      continue;
    }
    const end = here.end(at + here.length);
    if (end === undefined) {
      return here.region;
    }
    at = end;
  }
  return "code";
}

interface Opened {
  readonly region: Region;
  readonly length: number;
  /** The place behind what was opened, or undefined where the text ends inside it. */
  readonly end: (from: number) => number | undefined;
}

function opening(text: string, at: number, family: Family): Opened | undefined {
  const block = family.block.find(([open]) => text.startsWith(open, at));
  if (block !== undefined) {
    return { region: "comment", length: block[0].length, end: (from) => after(text, block[1], from) };
  }
  const line = family.line.find((mark) => text.startsWith(mark, at));
  if (line !== undefined) {
    return { region: "comment", length: line.length, end: (from) => after(text, "\n", from) };
  }
  const string = family.strings.find(({ open }) => text.startsWith(open, at));
  if (string === undefined) {
    return undefined;
  }
  const end = (from: number): number | undefined => {
    for (let place = from; place < text.length; place += 1) {
      if (string.escape && text[place] === "\\") {
        place += 1;
      } else if (text.startsWith(string.close, place)) {
        return place + string.close.length;
      } else if (!string.multiline && text[place] === "\n") {
        return place; // it was never closed: the line's end closes it, as the compiler would say
      }
    }
    return undefined;
  };
  return { region: "string", length: string.open.length, end };
}

function after(text: string, mark: string, from: number): number | undefined {
  const found = text.indexOf(mark, from);
  return found < 0 ? undefined : found + mark.length;
}
