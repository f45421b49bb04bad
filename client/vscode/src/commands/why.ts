/** Why No Suggestion, and Choose Languages. */
import * as vscode from "vscode";
import type { Connection } from "../agent/connection.ts";
import { lastOutcomes } from "../agent/completions.ts";
import type { GhostText } from "../ghost/provider.ts";
import { languageIsOn, SILENCE, type Silence } from "../ghost/silence.ts";
import { switches } from "../settings.ts";
import { offerToStart } from "./agent.ts";

const SETTING: Partial<Record<Silence, string>> = {
  off: "sordino.enable",
  language: "sordino.languages",
  excluded: "sordino.exclude",
  comment: "sordino.suggestInComments",
  string: "sordino.suggestInStrings",
  list: "sordino.whileListIsOpen",
};

/** Says why nothing is suggested at the cursor: this side's rules first, then the agent's last word. */
export async function why(connection: Connection, ghost: GhostText, editorName: string): Promise<void> {
  await connection.refresh();
  const editor = vscode.window.activeTextEditor;
  if (editor === undefined) {
    void vscode.window.showInformationMessage("No suggestion: no file is open.");
    return;
  }
  const silence = await ghost.silence(editor.document, editor.selection.active, false, false);
  if (silence === "absent") {
    await offerToStart(connection);
    return;
  }
  if (silence !== undefined) {
    const setting = SETTING[silence];
    const sentence = silence === "unsafe" ? (connection.situation.unsafe ?? SILENCE.unsafe) : SILENCE[silence];
    await say(`No suggestion: ${sentence}.`, setting);
    return;
  }
  if (!vscode.workspace.getConfiguration("editor", editor.document).get("inlineSuggest.enabled", true)) {
    void vscode.window.showInformationMessage("No suggestion: the editor shows no inline suggestions (editor.inlineSuggest.enabled).");
    return;
  }
  if (ghost.refusal !== "") {
    void vscode.window.showInformationMessage(`No suggestion: ${ghost.refusal}.`);
    return;
  }
  const { completion } = connection.situation;
  const [last] = completion === undefined ? [] : await lastOutcomes(completion, editorName);
  if (last === undefined) {
    void vscode.window.showInformationMessage("Nothing was asked yet in this window. Type, or use Trigger Inline Suggestion.");
    return;
  }
  await say(`The agent's last answer: ${last.explanation}.`, last.reason === "unsure" ? "sordino.show" : undefined);
}

/** Says why, and opens the setting that decides it, where there is one. */
async function say(sentence: string, setting: string | undefined): Promise<void> {
  const open = "Open the Setting";
  const chosen = await vscode.window.showInformationMessage(sentence, ...(setting === undefined ? [] : [open]));
  if (chosen === open) {
    await vscode.commands.executeCommand("workbench.action.openSettings", setting);
  }
}

/** A list of all languages with a tick on those that are on. */
export async function chooseLanguages(): Promise<void> {
  const { languages } = switches();
  const open = vscode.window.activeTextEditor?.document.languageId;
  const known = (await vscode.languages.getLanguages()).sort((a, b) => Number(b === open) - Number(a === open) || a.localeCompare(b));
  const entries = known.map((id) => ({
    label: id,
    picked: languageIsOn(languages, id),
    ...(id === open ? { description: "the open file's" } : {}),
  }));
  const chosen = await vscode.window.showQuickPick(entries, {
    canPickMany: true,
    title: "Languages with suggestions",
    placeHolder: "Ticked languages get suggestions",
  });
  if (chosen === undefined) {
    return;
  }
  const on = new Set(chosen.map((entry) => entry.label));
  const fallback = languages["*"] ?? true;
  // Only what differs from `*` is written down; names of languages that are not installed here stay as they were.
  const kept = Object.entries(languages).filter(([id]) => id !== "*" && !known.includes(id));
  const written = known.filter((id) => on.has(id) !== fallback).map((id) => [id, on.has(id)] as const);
  await vscode.workspace
    .getConfiguration("sordino")
    .update("languages", { "*": fallback, ...Object.fromEntries([...kept, ...written]) }, vscode.ConfigurationTarget.Global);
}
