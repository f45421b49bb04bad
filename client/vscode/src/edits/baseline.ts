/**
 * What a document was before the change that is being made in it. Pure. A change goes on while the same line is
 * edited; a line that comes or goes ends it, and so does an edit of several places at once. The language server keeps
 * the same (completion/lsp/baseline.py).
 */
import type { Edit } from "../ghost/outcome.ts";

const BREAK = /[\r\n]/;

export class Baseline {
  /** The text that the change began with. */
  before: string;
  /** The text as it is. */
  after: string;
  private line: number | undefined;

  constructor(text: string) {
    this.before = text;
    this.after = text;
  }

  /** The document was edited to `after`; `undone`: by the editor's undo or redo, which is no change of its own. */
  edited(edits: readonly Edit[], after: string, undone = false): void {
    const now = this.after;
    this.after = after;
    const [one] = edits;
    if (one === undefined || edits.length !== 1 || undone || BREAK.test(one.text + now.slice(one.offset, one.offset + one.removed))) {
      this.before = after;
      this.line = undefined;
      return;
    }
    const line = now.slice(0, one.offset).split("\n").length;
    if (line !== this.line) {
      this.before = now;
      this.line = line;
    }
  }
}
