/**
 * Run Federated Learning: shows the round that the coordinator offers and what it costs, asks once, then follows the
 * round to its end. The coordinator paces the rounds; this command makes the member ready for the next one.
 */
import * as vscode from "vscode";
import type { Connection } from "../agent/connection.ts";
import { agree, type Member, type Offer, setPaused, withdraw } from "../agent/member.ts";
import { consentText, outcomeText, progressText } from "../pages/words.ts";
import { progressOf } from "../status/state.ts";
import { offerToStart } from "./agent.ts";

const WITHDRAW_MS = 15_000;

export async function runFederatedLearning(connection: Connection): Promise<void> {
  await connection.refresh();
  const { control, member } = connection.situation;
  if (control === undefined || member === undefined) {
    await offerToStart(connection);
    return;
  }
  if (member.activity.phase !== "idle" || member.participation.agreed !== null) {
    await follow(connection, member.participation.agreed?.round ?? member.activity.round);
    return;
  }
  if (member.participation.paused && !(await resumed(connection))) {
    return;
  }
  const offer = await waitForOffer(connection);
  if (offer === undefined) {
    return;
  }
  const { question, detail, button } = consentText(connection.situation.member ?? member, offer);
  if (button === undefined) {
    await vscode.window.showWarningMessage(question, { modal: true, detail });
    return;
  }
  const chosen = await vscode.window.showInformationMessage(question, { modal: true, detail }, button);
  const door = connection.situation.control;
  if (chosen !== button || door === undefined) {
    return;
  }
  connection.learn(await agree(door, offer.id, offer.cost));
  await follow(connection, offer.round);
}

async function resumed(connection: Connection): Promise<boolean> {
  const resume = "Resume";
  const chosen = await vscode.window.showInformationMessage(
    "Federated learning is paused on this machine.",
    { modal: true, detail: "Resume it to take part in a round. The cost is shown before anything is trained." },
    resume,
  );
  const { control } = connection.situation;
  if (chosen !== resume || control === undefined) {
    return false;
  }
  connection.learn(await setPaused(control, false));
  return true;
}

/** The coordinator's offer; where it has not made one yet, waits for it, with the reason and a way out. */
async function waitForOffer(connection: Connection): Promise<Offer | undefined> {
  const at = connection.situation.member;
  if (at?.offer) {
    return at.offer;
  }
  return vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: "Waiting for the coordinator to offer a round", cancellable: true },
    (progress, token) =>
      until(connection, token, (now) => {
        progress.report({ message: now.link.state === "connected" ? "connected" : now.link.message || "not connected" });
        return now.offer ?? undefined;
      }),
  );
}

/** Follows a round until it has ended for this member. Cancelling withdraws, and says what that could still change. */
async function follow(connection: Connection, round: number): Promise<void> {
  const ended = await vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: "Federated learning", cancellable: true },
    (progress, token) => {
      let percent = 0;
      return until(connection, token, (now) => {
        const done = 100 * progressOf(now.activity.step, now.activity.steps);
        progress.report({ message: progressText(now), increment: Math.max(0, done - percent) });
        percent = Math.max(percent, done);
        return isOver(now, round) ? now : undefined;
      });
    },
  );
  let last = ended;
  const { control, member } = connection.situation;
  if (ended === undefined && member !== undefined && control !== undefined) {
    connection.learn(await withdraw(control));
    const patience = new vscode.CancellationTokenSource();
    const timer = setTimeout(() => patience.cancel(), WITHDRAW_MS);
    last = await until(connection, patience.token, (now) => (now.activity.phase === "idle" ? now : undefined));
    clearTimeout(timer);
    last ??= connection.situation.member;
  }
  const { text, good } = outcomeText(last, round, ended === undefined && last !== undefined);
  const show = "Show Privacy Ledger";
  const chosen = await (good ? vscode.window.showInformationMessage(text, show) : vscode.window.showWarningMessage(text, show));
  if (chosen === show) {
    await vscode.commands.executeCommand("sordino.showLedger");
  }
}

/** Whether the member has nothing more to do with the round that was agreed to. */
function isOver(now: Member, round: number): boolean {
  const left = now.participation.agreed === null && now.activity.phase === "idle";
  return left && now.last !== null && now.last.round >= round;
}

/** What `ready` finds in the member's state, now or after a change; undefined where it was cancelled or the agent left. */
function until<T>(connection: Connection, token: vscode.CancellationToken, ready: (now: Member) => T | undefined): Promise<T | undefined> {
  return new Promise((resolve) => {
    const look = (): void => {
      const now = connection.situation.member;
      const found = now === undefined ? undefined : ready(now);
      if (now === undefined || found !== undefined) {
        done(found);
      }
    };
    const end = connection.onChange(look);
    const cancelling = token.onCancellationRequested(() => done(undefined));
    function done(result: T | undefined): void {
      end();
      cancelling.dispose();
      resolve(result);
    }
    look();
  });
}
