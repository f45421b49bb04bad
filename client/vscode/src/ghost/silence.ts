/** Why nothing is asked at a place: every rule has a name, and a sentence for *Why No Suggestion*. Pure. */
import type { Region } from "./lexical.ts";

export const SILENCE = {
  off: "suggestions as you type are switched off (sordino.enable)",
  language: "suggestions are switched off for this language (sordino.languages)",
  excluded: "this file matches a glob that is switched off (sordino.exclude)",
  secret: "this file is named like one that holds secrets; such files never get suggestions",
  comment: "suggestions in comments are switched off (sordino.suggestInComments)",
  string: "suggestions in strings are switched off (sordino.suggestInStrings)",
  size: "this file is larger than 2 million characters",
  scheme: "this is not a file that you edit",
  cursors: "there is more than one cursor",
  list: "the editor's suggestion list is open (sordino.whileListIsOpen)",
  absent: "the agent does not run",
  unsafe: "the agent's token file can be read by others, so it is not used",
} as const;

export type Silence = keyof typeof SILENCE;

export interface Switches {
  readonly enable: boolean;
  readonly languages: Readonly<Record<string, boolean>>;
  readonly suggestInComments: boolean;
  readonly suggestInStrings: boolean;
  readonly whileListIsOpen: "extend" | "hide";
}

export interface Circumstances {
  readonly scheme: string;
  readonly language: string;
  readonly characters: number;
  readonly excluded: boolean;
  readonly cursors: number;
  readonly asked: boolean;
  readonly listOpen: boolean;
  /** Computed only when it matters: it reads the document. */
  readonly region: () => Region;
}

export const MAX_CHARACTERS = 2_000_000;
// What an editor shows but nobody writes: output, settings, differences, search results.
const WRITTEN = new Set(["file", "untitled", "vscode-remote", "vscode-userdata", "vscode-notebook-cell", "vscode-vfs"]);

/** Whether a language is switched on: its own entry, else that of `*`. */
export function languageIsOn(languages: Readonly<Record<string, boolean>>, language: string): boolean {
  return languages[language] ?? languages["*"] ?? true;
}

/** The first rule that forbids asking here, or undefined. */
export function silenceHere(switches: Switches, here: Circumstances): Silence | undefined {
  if (!switches.enable && !here.asked) {
    return "off";
  }
  if (!WRITTEN.has(here.scheme)) {
    return "scheme";
  }
  if (!languageIsOn(switches.languages, here.language)) {
    return "language";
  }
  if (here.excluded) {
    return "excluded";
  }
  if (here.characters > MAX_CHARACTERS) {
    return "size";
  }
  if (here.cursors > 1) {
    return "cursors";
  }
  if (here.listOpen && switches.whileListIsOpen === "hide") {
    return "list";
  }
  if (switches.suggestInComments && switches.suggestInStrings) {
    return undefined;
  }
  const region = here.region();
  if (region === "comment" && !switches.suggestInComments) {
    return "comment";
  }
  return region === "string" && !switches.suggestInStrings ? "string" : undefined;
}
