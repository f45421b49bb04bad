/** The settings of package.json, read anew whenever they are needed: the editor keeps them in memory. */
import * as vscode from "vscode";
import { type Show, SHOWS } from "./agent/completions.ts";
import type { Switches } from "./ghost/silence.ts";

export interface Settings extends Switches {
  readonly exclude: readonly string[];
  readonly longestDelay: number;
  readonly alternatives: number;
  readonly lookAhead: boolean;
  readonly nextEdit: boolean;
  readonly show: Show;
  readonly statistics: boolean;
}

export function switches(): Settings {
  const section = vscode.workspace.getConfiguration("sordino");
  return {
    enable: section.get("enable", true),
    languages: section.get<Record<string, boolean>>("languages", { "*": true }),
    exclude: section.get<string[]>("exclude", []),
    suggestInComments: section.get("suggestInComments", true),
    suggestInStrings: section.get("suggestInStrings", true),
    whileListIsOpen: section.get<"extend" | "hide">("whileListIsOpen", "extend"),
    longestDelay: bounded(section.get("longestDelay", 150), 0, 2000),
    alternatives: Math.round(bounded(section.get("alternatives", 3), 1, 8)),
    lookAhead: section.get("lookAhead", true),
    nextEdit: section.get("nextEdit", true),
    show: SHOWS.find((show) => show === section.get("show")) ?? "balanced",
    statistics: section.get("statistics", true),
  };
}

/** Where the agent is, and how it is started: only the user's own settings count (scope "machine"). */
export function agentSettings(): { folder: string; command: string; serveAlone: boolean; base: string } {
  const section = vscode.workspace.getConfiguration("sordino");
  return {
    folder: section.get("folder", ""),
    command: section.get("command", "sordino"),
    serveAlone: section.get("serveAlone", true),
    base: section.get("base", ""),
  };
}

const bounded = (value: number, least: number, most: number): number =>
  Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : least;
