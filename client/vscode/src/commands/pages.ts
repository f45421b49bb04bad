/** Opens the pages, and draws them anew when the member's state changes while they can be seen. */
import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import type { Connection, Situation } from "../agent/connection.ts";
import { statistics } from "../agent/completions.ts";
import { readLedger, readReleases } from "../agent/member.ts";
import { ledgerBody, lossesBody, statisticsBody } from "../pages/content.ts";
import { escaped, page } from "../pages/html.ts";
import { offerToStart } from "./agent.ts";

interface Kind {
  readonly id: string;
  readonly title: string;
  /** The page's content, or undefined where nobody is there to give it. */
  readonly body: (situation: Situation) => Promise<string> | undefined;
}

const LEDGER: Kind = {
  id: "sordino.ledger",
  title: "Privacy ledger",
  body: ({ control }) => (control === undefined ? undefined : readLedger(control).then(ledgerBody)),
};
const LOSSES: Kind = {
  id: "sordino.losses",
  title: "Loss of the federation's models",
  body: ({ control }) => (control === undefined ? undefined : readReleases(control).then(lossesBody)),
};
const STATISTICS: Kind = {
  id: "sordino.statistics",
  title: "Completion statistics",
  body: ({ completion }) => (completion === undefined ? undefined : statistics(completion).then(statisticsBody)),
};

export class Pages implements vscode.Disposable {
  private readonly open = new Map<string, vscode.WebviewPanel>();

  constructor(private readonly connection: Connection) {}

  dispose(): void {
    this.open.forEach((panel) => panel.dispose());
  }

  readonly ledger = (): Promise<void> => this.show(LEDGER);
  readonly losses = (): Promise<void> => this.show(LOSSES);
  readonly statistics = (): Promise<void> => this.show(STATISTICS);

  private async show(kind: Kind): Promise<void> {
    await this.connection.refresh();
    if (kind.body(this.connection.situation) === undefined) {
      await offerToStart(this.connection);
      return;
    }
    const old = this.open.get(kind.id);
    if (old !== undefined) {
      old.reveal();
      await this.draw(kind, old);
      return;
    }
    const panel = vscode.window.createWebviewPanel(kind.id, kind.title, vscode.ViewColumn.Active, {
      enableScripts: false,
      localResourceRoots: [],
    });
    this.open.set(kind.id, panel);
    const end = this.connection.onChange(() => panel.visible && void this.draw(kind, panel));
    panel.onDidDispose(() => {
      end();
      this.open.delete(kind.id);
    });
    await this.draw(kind, panel);
  }

  private async draw(kind: Kind, panel: vscode.WebviewPanel): Promise<void> {
    let body: string | undefined;
    try {
      body = await kind.body(this.connection.situation);
    } catch (error) {
      body = `<p role="alert">${escaped(error instanceof Error ? error.message : "The agent does not answer.")}</p>`;
    }
    const drawn = page(kind.title, body ?? `<p role="alert">The agent does not run any more.</p>`, randomBytes(16).toString("hex"));
    // Only the nonce differs from one drawing to the next where nothing has changed: leave the page as it is then.
    if (this.open.get(kind.id) === panel && withoutNonce(panel.webview.html) !== withoutNonce(drawn)) {
      panel.webview.html = drawn;
    }
  }
}

const withoutNonce = (html: string): string => html.replace(/nonce[-=]"?[0-9a-f]{32}/g, "");
