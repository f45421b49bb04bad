/** Starting the agent, pausing, and the menu behind the status bar. */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as vscode from "vscode";
import type { Connection } from "../agent/connection.ts";
import { setPaused } from "../agent/member.ts";
import { agentSettings } from "../settings.ts";
import { statusOf } from "../status/state.ts";

const LOG = "agent.log";
const START_MS = 120_000;
const TAIL_BYTES = 4096;

/** Starts the agent as a process of its own, which outlives this window, and waits until it answers or says why not. */
export async function startAgent(connection: Connection): Promise<void> {
  await connection.refresh();
  const { situation } = connection;
  if (situation.member !== undefined) {
    void vscode.window.showInformationMessage("The Sordino agent already runs.");
    return;
  }
  if (!situation.joined) {
    const open = "Open the Walkthrough";
    const chosen = await vscode.window.showWarningMessage(
      `This machine has not joined a federation: ${situation.folder} holds no member. ` +
        "Ask your operator for an invitation, then run `sordino client join`.",
      open,
    );
    if (chosen === open) {
      await vscode.commands.executeCommand("workbench.action.openWalkthrough", "sordino.sordino#start");
    }
    return;
  }
  const failure = await vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: "Starting the Sordino agent", cancellable: false },
    () => launch(connection, agentSettings().command, situation.folder),
  );
  if (failure !== undefined) {
    await vscode.window.showErrorMessage(`The Sordino agent did not start: ${failure}`);
  }
}

/** Undefined once the agent answers, or what it said when it ended. */
function launch(connection: Connection, command: string, folder: string): Promise<string | undefined> {
  const log = join(folder, LOG);
  const output = openSync(log, "a", 0o600);
  const child = spawn(command, ["client", "up", "--folder", folder], { detached: true, stdio: ["ignore", output, output] });
  closeSync(output);
  child.unref();
  return new Promise((resolve) => {
    const timer = setTimeout(() => done(`it does not answer after ${START_MS / 1000} s; see ${log}`), START_MS);
    const end = connection.onChange((now) => now.member !== undefined && done(undefined));
    child.on("error", (error) => done(`${command}: ${error.message} (setting sordino.command)`));
    child.on("exit", () => done(lastError(log)));
    function done(failure: string | undefined): void {
      clearTimeout(timer);
      end();
      child.removeAllListeners();
      child.on("error", () => undefined);
      resolve(failure);
    }
  });
}

/** The last line that begins with `error: `, as every sordino command says it. */
function lastError(log: string): string {
  const text = readFileSync(log, "utf8").slice(-TAIL_BYTES);
  const said = text.split("\n").findLast((line) => line.startsWith("error: "));
  return said?.slice("error: ".length) ?? `see ${log}`;
}

export async function pause(connection: Connection, paused: boolean): Promise<void> {
  const { control } = connection.situation;
  if (control === undefined) {
    await offerToStart(connection);
    return;
  }
  connection.learn(await setPaused(control, paused));
  void vscode.window.showInformationMessage(
    paused
      ? "Federated learning is paused. This machine takes part in no round until you resume; suggestions go on."
      : "Federated learning goes on.",
  );
}

/** Says that the agent is absent, with the one button that helps. */
export async function offerToStart(connection: Connection): Promise<void> {
  const start = "Start the Agent";
  const { joined, member } = connection.situation;
  if (joined || member === undefined) {
    const chosen = await vscode.window.showWarningMessage("The Sordino agent does not run on this machine.", start);
    if (chosen === start) {
      await startAgent(connection);
    }
  }
}

/** Every command, the one that fits best first. */
export async function menu(connection: Connection): Promise<void> {
  const { member } = connection.situation;
  const shown = statusOf(connection.situation, undefined);
  const paused = member?.participation.paused === true;
  const entries: readonly (readonly [string, string])[] = [
    ["$(play) Run Federated Learning", "sordino.runFederatedLearning"],
    paused ? ["$(debug-continue) Resume Federated Learning", "sordino.resume"] : ["$(debug-pause) Pause Federated Learning", "sordino.pause"],
    ["$(law) Show Privacy Ledger", "sordino.showLedger"],
    ["$(graph-line) Show Loss Graph", "sordino.showLosses"],
    ["$(dashboard) Show Statistics", "sordino.showStatistics"],
    ["$(question) Why No Suggestion", "sordino.why"],
    ["$(list-selection) Choose Languages", "sordino.chooseLanguages"],
    ["$(gear) Settings", "workbench.action.openSettings"],
  ];
  const chosen = await vscode.window.showQuickPick(
    entries.map(([label, command]) => ({ label, command })),
    { title: "Sordino", placeHolder: shown.explanation },
  );
  if (chosen !== undefined) {
    await vscode.commands.executeCommand(chosen.command, ...(chosen.command.startsWith("workbench") ? ["@ext:sordino.sordino"] : []));
  }
}
