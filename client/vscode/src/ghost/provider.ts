/** Ghost text: what the editor asks for as one types, answered from what is known, or by the agent. */
import * as vscode from "vscode";
import type { Connection } from "../agent/connection.ts";
import { complete, isSecretName, readAhead, type Suggested } from "../agent/completions.ts";
import type { Address } from "../agent/folder.ts";
import { AbsentError, AbortedError, RefusedError } from "../agent/request.ts";
import { switches } from "../settings.ts";
import { type Place, type Rest, SuggestionCache } from "./cache.ts";
import { regionAtEnd } from "./lexical.ts";
import type { Outcomes } from "./outcome.ts";
import { Edits, type Piece, PIECE_BYTES, pieces, type Tab } from "./context.ts";
import { Pace } from "./pace.ts";
import { type Silence, silenceHere } from "./silence.ts";
import { BEHIND, first, OPENED, whole } from "./window.ts";

const AHEAD_MS = 350;
// A cursor that rests so long is where the next key may come.
const SETTLED_MS = 250;
const REMEMBERED_NAMES = 500;

interface Ahead {
  readonly place: Place;
  readonly control: AbortController;
  readonly answer: Promise<Suggested | undefined>;
}

export class GhostText implements vscode.InlineCompletionItemProvider, vscode.Disposable {
  private readonly pace = new Pace();
  private readonly cache = new SuggestionCache();
  private readonly names = new Map<string, boolean>();
  private readonly edits = new Edits();
  private ahead: Ahead | undefined;
  private aheadTimer: NodeJS.Timeout | undefined;
  private settledTimer: NodeJS.Timeout | undefined;
  private edited = -Infinity;
  private model = "";

  constructor(
    private readonly connection: Connection,
    private readonly outcomes: Outcomes,
    private readonly editor: string,
  ) {}

  dispose(): void {
    clearTimeout(this.aheadTimer);
    clearTimeout(this.settledTimer);
    this.ahead?.control.abort();
  }

  /** A document was edited at an offset, or (-1) came to the front: a piece of it may go along with requests in others. */
  touched(document: string, offset: number): void {
    this.edits.touched(document, offset);
  }

  pressed(): void {
    this.edited = Date.now();
    this.pace.pressed(this.edited);
    clearTimeout(this.aheadTimer);
    clearTimeout(this.settledTimer);
  }

  /**
   * The cursor was placed, or a file came to the front: the agent reads what stands there while nobody types, so that
   * the first suggestion need not wait. What it has read already costs it nothing.
   */
  settled(shown: vscode.TextEditor | undefined): void {
    clearTimeout(this.settledTimer);
    if (shown === undefined || Date.now() - this.edited < SETTLED_MS) {
      return; // the cursor moved with a key, which asks by itself
    }
    this.settledTimer = setTimeout(() => void this.readAhead(shown), SETTLED_MS);
  }

  private async readAhead(shown: vscode.TextEditor): Promise<void> {
    const { document, selection } = shown;
    const address = this.connection.situation.completion;
    if (address === undefined || (await this.silence(document, selection.active, false, false)) !== undefined) {
      return;
    }
    const untouched = document.offsetAt(selection.active) === 0;
    const { place } = placeAt(document, untouched ? document.positionAt(OPENED) : selection.active, undefined);
    const read = untouched ? { ...place, suffix: "" } : place;
    await readAhead(address, read, `${this.editor}/opened`).catch(() => undefined); // then the first key waits
  }

  async provideInlineCompletionItems(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Promise<vscode.InlineCompletionItem[] | undefined> {
    const asked = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    if ((await this.silence(document, position, asked, context.selectedCompletionInfo !== undefined)) !== undefined) {
      return undefined;
    }
    const address = this.connection.situation.completion;
    if (address === undefined || token.isCancellationRequested) {
      return undefined;
    }
    const { place, range, chosen } = placeAt(document, position, context.selectedCompletionInfo);
    let rest = this.known(place, asked);
    if (rest === undefined) {
      const wait = asked ? 0 : this.pace.delay(lineBefore(place.prefix), switches().longestDelay);
      if (wait > 0 && !(await uncancelled(wait, token))) {
        return undefined;
      }
      await this.ask(address, place, asked, token);
      rest = this.known(place, asked);
    }
    if (rest === undefined || token.isCancellationRequested || rest.texts.length === 0) {
      return undefined;
    }
    return this.items(document, place, range, chosen, rest);
  }

  /** Why nothing is asked for at a place, or undefined. The same rules answer *Why No Suggestion*. */
  async silence(
    document: vscode.TextDocument,
    position: vscode.Position,
    asked: boolean,
    listOpen: boolean,
  ): Promise<Silence | undefined> {
    const set = switches();
    const forbidden = silenceHere(set, {
      scheme: document.uri.scheme,
      language: document.languageId,
      characters: document.offsetAt(document.lineAt(document.lineCount - 1).range.end),
      excluded: set.exclude.some((pattern) => vscode.languages.match({ pattern }, document) > 0),
      cursors: vscode.window.activeTextEditor?.document === document ? vscode.window.activeTextEditor.selections.length : 1,
      asked,
      listOpen,
      region: () => regionAtEnd(document.getText(new vscode.Range(new vscode.Position(0, 0), position)), document.languageId),
    });
    if (forbidden !== undefined) {
      return forbidden;
    }
    const { completion, unsafe } = this.connection.situation;
    if (completion === undefined) {
      return unsafe === undefined ? "absent" : "unsafe";
    }
    return (await this.isSecret(completion, document.uri)) ? "secret" : undefined;
  }

  private async isSecret(address: Address, uri: vscode.Uri): Promise<boolean> {
    const known = this.names.get(uri.path);
    if (known !== undefined) {
      return known;
    }
    let secret = true; // where the agent cannot say, nothing is asked
    try {
      secret = await isSecretName(address, uri.path);
      if (this.names.size >= REMEMBERED_NAMES) {
        this.names.clear();
      }
      this.names.set(uri.path, secret);
    } catch (error) {
      this.missed(error);
    }
    return secret;
  }

  private known(place: Place, asked: boolean): Rest | undefined {
    const rest = this.cache.find(place);
    return rest !== undefined && (!asked || rest.byHand) ? rest : undefined;
  }

  /** Pieces of the other open files, where they may be completed in too: no secrets, nothing that is switched off. */
  private async beside(address: Address, document: string): Promise<Piece[]> {
    const set = switches();
    const open = vscode.workspace.textDocuments.filter(
      (other) =>
        other.uri.toString() !== document &&
        silenceHere({ ...set, suggestInComments: true, suggestInStrings: true }, {
          scheme: other.uri.scheme,
          language: other.languageId,
          characters: other.offsetAt(other.lineAt(other.lineCount - 1).range.end),
          excluded: set.exclude.some((pattern) => vscode.languages.match({ pattern }, other) > 0),
          cursors: 1,
          asked: true,
          listOpen: false,
          region: () => "code",
        }) === undefined,
    );
    const chosen = this.edits.order(open.map(({ uri }) => uri.toString())).flatMap((uri) => open.find((other) => other.uri.toString() === uri) ?? []);
    const secret = await Promise.all(chosen.map(({ uri }) => this.isSecret(address, uri)));
    const tabs = chosen.filter((_, number) => secret[number] === false);
    return pieces(tabs.map((other) => tabOf(other, this.edits.place(other.uri.toString()))));
  }

  private async ask(address: Address, place: Place, asked: boolean, token: vscode.CancellationToken): Promise<void> {
    if (!asked && this.ahead !== undefined && samePlace(this.ahead.place, place)) {
      await this.ahead.answer; // it is being computed already
      return;
    }
    this.ahead?.control.abort();
    const control = new AbortController();
    const listening = token.onCancellationRequested(() => control.abort());
    const began = Date.now();
    try {
      const { alternatives, show } = switches();
      const found = await complete(address, {
        ...place,
        alternatives: asked ? alternatives : 1,
        show: asked ? "all" : show, // who asks by hand decides for himself what is worth a look
        context: await this.beside(address, place.document),
        editor: this.editor,
        signal: control.signal,
      });
      this.pace.answered(Date.now() - began);
      this.keep(place, found, asked);
    } catch (error) {
      this.missed(error);
    } finally {
      listening.dispose();
    }
  }

  private keep(place: Place, found: Suggested, byHand: boolean): void {
    if (found.model !== this.model) {
      this.cache.clear();
      this.model = found.model;
    }
    this.cache.put(place, { ...found, byHand });
    this.refusal = "";
  }

  /** What the agent said to the last request that it refused: for *Why No Suggestion*. */
  refusal = "";

  private missed(error: unknown): void {
    if (error instanceof RefusedError) {
      this.refusal = error.message;
    }
    // A refusal (busy, withdrawn, no model yet) is the agent's own affair and counted there.
    if (error instanceof AbsentError && !(error instanceof AbortedError)) {
      void this.connection.refresh();
    }
  }

  private items(
    document: vscode.TextDocument,
    place: Place,
    range: vscode.Range,
    chosen: string,
    rest: Rest,
  ): vscode.InlineCompletionItem[] {
    const offset = document.offsetAt(range.end);
    const best = rest.texts[0] as string;
    this.outcomes.offered({ document: place.document, offset, id: rest.id, choice: rest.choices[0] as number, text: best });
    this.planAhead(place, best);
    return rest.texts.map(
      (text, number) =>
        new vscode.InlineCompletionItem(chosen + text, range, {
          command: "sordino.accepted",
          title: "Accepted",
          arguments: [rest.id, rest.choices[number], text.length],
        }),
    );
  }

  /** Once a suggestion has stood for a moment, computes what would follow it: the processor is idle then. */
  private planAhead(place: Place, text: string): void {
    clearTimeout(this.aheadTimer);
    if (!switches().lookAhead) {
      return;
    }
    this.aheadTimer = setTimeout(() => {
      const address = this.connection.situation.completion;
      const next = { ...place, prefix: place.prefix + text };
      if (address === undefined || this.cache.find(next) !== undefined) {
        return;
      }
      const control = new AbortController();
      const { signal } = control;
      const asked = this.beside(address, next.document).then((context) =>
        complete(address, { ...next, alternatives: 1, show: switches().show, context, editor: `${this.editor}/ahead`, signal }),
      );
      const answer = asked.then(
        (found) => {
          this.keep(next, found, false);
          return found;
        },
        () => undefined,
      );
      this.ahead = { place: next, control, answer };
      void answer.finally(() => {
        if (this.ahead?.control === control) {
          this.ahead = undefined;
        }
      });
    }, AHEAD_MS);
  }
}

function placeAt(
  document: vscode.TextDocument,
  position: vscode.Position,
  selected: vscode.SelectedCompletionInfo | undefined,
): { place: Place; range: vscode.Range; chosen: string } {
  const range = selected?.range ?? new vscode.Range(position, position);
  const chosen = selected?.text ?? "";
  const at = document.offsetAt(range.start);
  const end = document.offsetAt(position);
  const from = document.positionAt(first(at));
  const until = document.positionAt(end + BEHIND);
  const prefix = whole(document.getText(new vscode.Range(from, range.start))) + chosen;
  const suffix = whole(document.getText(new vscode.Range(position, until)));
  return { place: { document: document.uri.toString(), prefix, suffix }, range, chosen };
}

/** The whole lines around a place of another document from which a piece is taken. */
function tabOf(document: vscode.TextDocument, place: number): Tab {
  const from = new vscode.Position(document.positionAt(place - PIECE_BYTES).line, 0);
  const until = new vscode.Position(document.positionAt(place + PIECE_BYTES).line + 1, 0);
  const text = document.getText(new vscode.Range(from, until));
  return { document: document.uri.toString(), text, place: place - document.offsetAt(from) };
}

const samePlace = (a: Place, b: Place): boolean => a.document === b.document && a.prefix === b.prefix && a.suffix === b.suffix;

const lineBefore = (prefix: string): string => prefix.slice(prefix.lastIndexOf("\n") + 1);

/** Waits; false where the editor has no use for the answer any more. */
function uncancelled(milliseconds: number, token: vscode.CancellationToken): Promise<boolean> {
  return new Promise((resolve) => {
    const listening = token.onCancellationRequested(() => done(false));
    const timer = setTimeout(() => done(true), milliseconds);
    function done(result: boolean): void {
      clearTimeout(timer);
      listening.dispose();
      resolve(result);
    }
  });
}
