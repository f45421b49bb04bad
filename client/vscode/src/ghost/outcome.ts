/**
 * What became of each suggestion: shown, accepted (whole or in part), dismissed. The editor's stable API tells only
 * of whole acceptance; the rest follows from the edits. Pure but for the timer it is given.
 */
import type { Happening } from "../agent/completions.ts";

/** A suggestion counts as shown when it has stood this long: what flickers by between two keys was not seen. */
export const SEEN_MS = 250;

export interface Offered {
  readonly document: string;
  /** Where the rest of the text would be inserted, in characters from the start of the document. */
  readonly offset: number;
  readonly id: string;
  readonly choice: number;
  readonly text: string;
}

export interface Edit {
  readonly offset: number;
  readonly removed: number;
  readonly text: string;
}

export type Emit = (type: Happening, facts: { id?: string; choice?: number; characters?: number }) => void;
export type Later = (milliseconds: number, act: () => void) => () => void;

interface Standing extends Offered {
  readonly seen: boolean;
}

export class Outcomes {
  private standing: Standing | undefined;
  private cancel: (() => void) | undefined;
  private typed = 0;

  constructor(
    private readonly emit: Emit,
    private readonly later: Later,
  ) {}

  /** A suggestion was handed to the editor. */
  offered(next: Offered): void {
    if (this.standing?.id === next.id) {
      this.standing = { ...next, seen: this.standing.seen };
      return;
    }
    this.gone();
    this.standing = { ...next, seen: false };
    this.cancel = this.later(SEEN_MS, () => this.saw());
  }

  /** A document was edited, by hand or by an acceptance. */
  edited(document: string, edit: Edit): void {
    const now = this.standing;
    if (now?.document === document && edit.text.endsWith(now.text)) {
      return; // all of it: the acceptance itself follows, as a command
    }
    if (edit.removed === 0 && edit.text.length === 1) {
      this.typed += 1;
    }
    if (now === undefined || now.document !== document) {
      return;
    }
    if (edit.removed === 0 && edit.offset === now.offset && now.text.startsWith(edit.text) && edit.text !== "") {
      this.standing = { ...now, offset: now.offset + edit.text.length, text: now.text.slice(edit.text.length) };
      if (edit.text.length > 1) {
        this.saw();
        this.emit("partial", { id: now.id, choice: now.choice, characters: edit.text.length });
      }
      return;
    }
    this.gone();
  }

  /** The cursor stands elsewhere. */
  moved(document: string, offset: number): void {
    if (this.standing !== undefined && (this.standing.document !== document || this.standing.offset !== offset)) {
      this.gone();
    }
  }

  /** A whole suggestion was accepted; `characters` is what was still missing of it. */
  accepted(id: string, choice: number, characters: number): void {
    if (this.standing?.id === id) {
      this.saw();
      this.standing = undefined;
    }
    this.flush();
    this.emit("select", { id, choice, characters });
  }

  /** Reports what was typed by hand since the last report. */
  flush(): void {
    if (this.typed > 0) {
      this.emit("typed", { characters: this.typed });
      this.typed = 0;
    }
  }

  private saw(): void {
    this.cancel?.();
    this.cancel = undefined;
    if (this.standing !== undefined && !this.standing.seen) {
      this.standing = { ...this.standing, seen: true };
      this.emit("view", { id: this.standing.id, choice: this.standing.choice });
    }
  }

  private gone(): void {
    this.cancel?.();
    this.cancel = undefined;
    if (this.standing?.seen) {
      this.flush();
      this.emit("dismiss", { id: this.standing.id, choice: this.standing.choice });
    }
    this.standing = undefined;
  }
}
