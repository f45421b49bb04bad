/**
 * Next edit: the change that was just made is offered at the next place where it applies. Tab goes there, Tab again
 * makes it, Escape hides it. The agent finds the place; nothing is offered where no suggestion would be.
 */
import * as vscode from "vscode";
import { type NextPlace, nextEdit } from "../agent/completions.ts";
import type { Connection } from "../agent/connection.ts";
import type { GhostText } from "../ghost/provider.ts";
import { switches } from "../settings.ts";
import { Baseline } from "./baseline.ts";

/** A pause this long ends a burst of keys. */
const PAUSE_MS = 200;
/** Larger files are not looked at; the agent's own bound. */
const MOST_CHARACTERS = 200_000;
const PENDING = "sordino.nextEdit";

interface Pending {
  readonly editor: vscode.TextEditor;
  readonly range: vscode.Range;
  readonly text: string;
  /** The line that was edited: the cursor is there, or at the place, or the offer is withdrawn. */
  readonly line: number;
}

export class NextEdit implements vscode.Disposable {
  private readonly baselines = new Map<vscode.TextDocument, Baseline>();
  private readonly old = vscode.window.createTextEditorDecorationType({
    backgroundColor: new vscode.ThemeColor("diffEditor.removedTextBackground"),
    textDecoration: "line-through",
  });
  private readonly hint = vscode.window.createTextEditorDecorationType({});
  private pending: Pending | undefined;
  private timer: NodeJS.Timeout | undefined;
  private control: AbortController | undefined;

  constructor(
    private readonly connection: Connection,
    private readonly ghost: GhostText,
    private readonly editor: string,
  ) {}

  dispose(): void {
    this.dismiss();
    this.old.dispose();
    this.hint.dispose();
  }

  /** A document came to the front. */
  shown(document: vscode.TextDocument): void {
    if (!this.baselines.has(document) && document.getText().length <= MOST_CHARACTERS) {
      this.baselines.set(document, new Baseline(document.getText()));
    }
  }

  /** A document is no longer open. */
  closed(document: vscode.TextDocument): void {
    this.baselines.delete(document);
  }

  /** The document in front was edited. */
  edited({ document, contentChanges, reason }: vscode.TextDocumentChangeEvent): void {
    this.dismiss();
    const text = document.getText();
    const baseline = this.baselines.get(document);
    if (baseline === undefined || text.length > MOST_CHARACTERS) {
      this.baselines.delete(document);
      this.shown(document);
      return;
    }
    const edits = contentChanges.map((one) => ({ offset: one.rangeOffset, removed: one.rangeLength, text: one.text }));
    baseline.edited(edits, text, reason !== undefined);
    if (baseline.before !== baseline.after) {
      this.timer = setTimeout(() => void this.look(document, baseline), PAUSE_MS);
    }
  }

  /** The cursor stands elsewhere. */
  moved(editor: vscode.TextEditor): void {
    const now = this.pending;
    if (now !== undefined) {
      const { line } = editor.selection.active;
      if (editor !== now.editor || (line !== now.line && line !== now.range.start.line)) {
        this.dismiss();
      } else {
        this.offer(now);
      }
    }
  }

  /** Goes to the place, or makes the change where the cursor is there already. */
  async take(): Promise<void> {
    const now = this.pending;
    if (now === undefined) {
      return;
    }
    if (now.range.contains(now.editor.selection.active)) {
      this.dismiss();
      await now.editor.edit((change) => change.replace(now.range, now.text));
      return;
    }
    now.editor.selection = new vscode.Selection(now.range.end, now.range.end);
    now.editor.revealRange(now.range, vscode.TextEditorRevealType.InCenterIfOutsideViewport);
    this.offer(now);
  }

  dismiss(): void {
    clearTimeout(this.timer);
    this.control?.abort();
    const now = this.pending;
    if (now !== undefined) {
      this.pending = undefined;
      now.editor.setDecorations(this.old, []);
      now.editor.setDecorations(this.hint, []);
      void vscode.commands.executeCommand("setContext", PENDING, false);
    }
  }

  private async look(document: vscode.TextDocument, baseline: Baseline): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const address = this.connection.situation.completion;
    const { nextEdit: on, show } = switches();
    if (!on || address === undefined || editor?.document !== document) {
      return;
    }
    const { version } = document;
    const { active } = editor.selection;
    if ((await this.ghost.silence(document, active, false, false)) !== undefined) {
      return;
    }
    const control = new AbortController();
    this.control = control;
    const { before, after } = baseline;
    const found = await nextEdit(address, {
      document: document.uri.toString(),
      before,
      after,
      show,
      editor: this.editor,
      signal: control.signal,
    }).catch(() => undefined); // the next key asks again
    if (found !== undefined && document.version === version && vscode.window.activeTextEditor === editor) {
      this.offer({ editor, ...rangeOf(found), line: active.line });
    }
  }

  private offer(next: Pending): void {
    this.pending = next;
    const { editor, range, text } = next;
    const there = range.contains(editor.selection.active);
    const inserted = {
      contentText: text,
      color: new vscode.ThemeColor("editor.foreground"),
      backgroundColor: new vscode.ThemeColor("diffEditor.insertedTextBackground"),
    };
    const line = editor.document.lineAt(editor.selection.active.line).range.end;
    const hint = there ? "    ⇥ make this change" : `    ⇥ same change in line ${range.start.line + 1}`;
    editor.setDecorations(this.old, [{ range, renderOptions: { after: inserted } }]);
    editor.setDecorations(this.hint, [
      {
        range: new vscode.Range(line, line),
        renderOptions: { after: { contentText: hint, color: new vscode.ThemeColor("editorCodeLens.foreground") } },
      },
    ]);
    // Where only blanks stand before the cursor, Tab goes on indenting.
    const { active } = editor.selection;
    const typed = editor.document.getText(new vscode.Range(new vscode.Position(active.line, 0), active)).trim() !== "";
    void vscode.commands.executeCommand("setContext", PENDING, there || typed);
  }
}

function rangeOf({ range, text }: NextPlace): { range: vscode.Range; text: string } {
  const { start, end } = range;
  return { range: new vscode.Range(start.line, start.character, end.line, end.character), text };
}
