/** The status bar item, and the contexts that the walkthrough waits for. */
import * as vscode from "vscode";
import type { Connection } from "../agent/connection.ts";
import { languageIsOn } from "../ghost/silence.ts";
import { switches } from "../settings.ts";
import { type Kind, statusOf } from "./state.ts";

const ACTIONS: Readonly<Record<Kind, string>> = {
  absent: "sordino.startAgent",
  error: "sordino.why",
  loading: "sordino.menu",
  training: "sordino.menu",
  waiting: "sordino.menu",
  outdated: "sordino.menu",
  off: "sordino.chooseLanguages",
  paused: "sordino.menu",
  ready: "sordino.menu",
};

export class StatusBar implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem("sordino", vscode.StatusBarAlignment.Right, 90);
  private readonly disposables: vscode.Disposable[] = [this.item];
  private present: boolean | undefined;

  constructor(private readonly connection: Connection) {
    this.item.name = "Sordino";
    const draw = (): void => this.draw();
    const end = connection.onChange(draw);
    this.disposables.push(
      { dispose: () => void end() },
      vscode.window.onDidChangeActiveTextEditor(draw),
      vscode.workspace.onDidChangeConfiguration((event) => event.affectsConfiguration("sordino") && this.draw()),
    );
    this.draw();
    this.item.show();
  }

  dispose(): void {
    this.disposables.forEach((one) => void one.dispose());
  }

  private draw(): void {
    const document = vscode.window.activeTextEditor?.document;
    const language =
      document === undefined
        ? undefined
        : { id: document.languageId, on: languageIsOn(switches().languages, document.languageId) };
    const shown = statusOf(this.connection.situation, language);
    this.item.text = shown.text;
    this.item.tooltip = shown.explanation;
    this.item.accessibilityInformation = { label: `Sordino. ${shown.explanation}`, role: "button" };
    this.item.command = ACTIONS[shown.kind];
    this.item.backgroundColor =
      shown.level === "plain" ? undefined : new vscode.ThemeColor(`statusBarItem.${shown.level}Background`);
    const present = this.connection.situation.completion !== undefined;
    if (present !== this.present) {
      this.present = present;
      void vscode.commands.executeCommand("setContext", "sordino.present", present);
    }
  }
}
