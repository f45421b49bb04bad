/** The extension's one entry: makes the parts and connects them. Nothing runs until the editor or the agent speaks. */
import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import { Alone } from "./agent/alone.ts";
import { Connection } from "./agent/connection.ts";
import { report } from "./agent/completions.ts";
import { memberFolder } from "./agent/folder.ts";
import { menu, pause, startAgent } from "./commands/agent.ts";
import { Pages } from "./commands/pages.ts";
import { runFederatedLearning } from "./commands/round.ts";
import { chooseLanguages, why } from "./commands/why.ts";
import { NextEdit } from "./edits/next.ts";
import { Outcomes } from "./ghost/outcome.ts";
import { GhostText } from "./ghost/provider.ts";
import { agentSettings, switches } from "./settings.ts";
import { StatusBar } from "./status/bar.ts";

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const folder = (): string => memberFolder(agentSettings().folder);
  const connection = new Connection(folder());
  // A name for this window, so that a newer request of it replaces an older one. It says nothing about anybody.
  const editor = `vscode-${randomBytes(6).toString("hex")}`;
  const outcomes = new Outcomes(
    (type, facts) => {
      const { completion } = connection.situation;
      if (completion !== undefined && switches().statistics) {
        report(completion, type, facts).catch(() => undefined); // a count that is lost is no fault
      }
    },
    (milliseconds, act) => {
      const timer = setTimeout(act, milliseconds);
      return () => clearTimeout(timer);
    },
  );
  const ghost = new GhostText(connection, outcomes, editor);
  const next = new NextEdit(connection, ghost, editor);
  const pages = new Pages(connection);
  const alone = new Alone(
    connection,
    () => ({
      on: agentSettings().serveAlone && vscode.workspace.isTrusted,
      command: agentSettings().command,
      base: agentSettings().base,
      folders: (vscode.workspace.workspaceFolders ?? []).filter(({ uri }) => uri.scheme === "file").map(({ uri }) => uri.fsPath),
    }),
    () => sayOnce(context),
  );
  const command = (name: string, act: (...given: never[]) => unknown): vscode.Disposable =>
    vscode.commands.registerCommand(`sordino.${name}`, async (...given: never[]) => {
      try {
        await act(...given);
      } catch (error) {
        void vscode.window.showErrorMessage(`Sordino: ${error instanceof Error ? error.message : String(error)}`);
        void connection.refresh();
      }
    });
  let model: string | undefined;
  const answers = (now: string | undefined): void => {
    if (now !== model) {
      model = now;
      ghost.settled(now === undefined ? undefined : vscode.window.activeTextEditor);
    }
  };
  context.subscriptions.push(
    { dispose: () => connection.dispose() },
    alone,
    ghost,
    next,
    pages,
    new StatusBar(connection),
    vscode.languages.registerInlineCompletionItemProvider({ pattern: "**" }, ghost),
    command("runFederatedLearning", () => runFederatedLearning(connection)),
    command("pause", () => pause(connection, true)),
    command("resume", () => pause(connection, false)),
    command("showLedger", pages.ledger),
    command("showLosses", pages.losses),
    command("showStatistics", pages.statistics),
    command("why", () => why(connection, ghost, editor)),
    command("chooseLanguages", chooseLanguages),
    command("startAgent", () => startAgent(connection)),
    command("menu", () => menu(connection)),
    command("takeNextEdit", () => next.take()),
    command("dismissNextEdit", () => next.dismiss()),
    command("accepted", (id: string, choice: number, characters: number) => {
      outcomes.accepted(id, choice, characters);
      void vscode.commands.executeCommand("setContext", "sordino.accepted", true);
    }),
    vscode.workspace.onDidChangeTextDocument((event) => {
      const { document, contentChanges, reason } = event;
      const last = contentChanges.at(-1);
      if (last !== undefined) {
        ghost.touched(document.uri.toString(), last.rangeOffset);
      }
      if (document !== vscode.window.activeTextEditor?.document) {
        return;
      }
      if (contentChanges.length > 0) {
        next.edited(event);
      }
      for (const { rangeOffset, rangeLength, text } of contentChanges) {
        if (reason === undefined) {
          ghost.pressed();
        }
        outcomes.edited(document.uri.toString(), { offset: rangeOffset, removed: rangeLength, text });
      }
    }),
    vscode.window.onDidChangeActiveTextEditor((shown) => {
      next.dismiss();
      if (shown !== undefined) {
        next.shown(shown.document);
        ghost.touched(shown.document.uri.toString(), -1);
      }
      ghost.settled(shown);
    }),
    vscode.workspace.onDidCloseTextDocument((document) => next.closed(document)),
    { dispose: connection.onChange(({ health }) => answers(health?.model)) },
    vscode.window.onDidChangeTextEditorSelection(({ textEditor, kind }) => {
      // The cursor also moves with each edit; only the mouse and the arrow keys leave a suggestion.
      if (kind === vscode.TextEditorSelectionChangeKind.Mouse || kind === vscode.TextEditorSelectionChangeKind.Keyboard) {
        const { document, selection } = textEditor;
        outcomes.moved(document.uri.toString(), document.offsetAt(selection.active));
        next.moved(textEditor);
        ghost.settled(textEditor);
      }
    }),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("sordino.folder")) {
        void connection.open(folder());
      }
      if (event.affectsConfiguration("sordino.serveAlone")) {
        alone.look();
      }
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(() => alone.look()),
  );
  const front = vscode.window.activeTextEditor;
  if (front !== undefined) {
    next.shown(front.document);
  }
  await connection.open(folder());
}

/** Says once, on this machine, that completions are served without a federation, and where that ends. */
function sayOnce(context: vscode.ExtensionContext): void {
  const said = "sordino.saidAlone";
  if (context.globalState.get(said) !== true) {
    void context.globalState.update(said, true);
    void vscode.window.showInformationMessage(
      "Sordino serves completions on this machine, from its base model and a local memory of this workspace. " +
        "Nothing leaves the machine. It ends with this window; the setting sordino.serveAlone switches it off.",
    );
  }
}
