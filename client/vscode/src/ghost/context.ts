/** Pieces of other files that go along with a request: open tabs, and places that were just edited. Pure. */

/** As much as the agent takes: more is not looked at there either. */
export const MAX_PIECES = 8;
export const MAX_BYTES = 32 << 10;
/** One file may hold no more than its share, so that eight of them always fit. */
export const PIECE_BYTES = MAX_BYTES / MAX_PIECES;
const EDITED = 64;

export interface Piece {
  readonly path: string;
  readonly text: string;
}

export interface Tab {
  /** The document's URI. */
  readonly document: string;
  /** Whole lines of it, with the place that counts: an offset in them. */
  readonly text: string;
  readonly place: number;
}

/** Where each document was last edited, the newest first. */
export class Edits {
  private readonly places = new Map<string, number>();

  /** The document changed at `offset`; -1 where only its tab came to the front. */
  touched(document: string, offset: number): void {
    const known = this.places.get(document);
    this.places.delete(document);
    this.places.set(document, offset < 0 ? (known ?? 0) : offset);
    if (this.places.size > EDITED) {
      this.places.delete(this.places.keys().next().value as string);
    }
  }

  /** The documents of which a piece would be sent, the one that was touched last first. Others come behind, as given. */
  order(documents: readonly string[]): string[] {
    const newest = [...this.places.keys()].reverse();
    const rank = (document: string): number => (this.places.has(document) ? newest.indexOf(document) : newest.length);
    return [...documents].sort((a, b) => rank(a) - rank(b)).slice(0, MAX_PIECES);
  }

  /** Where the piece of a document lies: around its last edit. */
  place(document: string): number {
    return this.places.get(document) ?? 0;
  }
}

/** The pieces of these tabs, in their order, within the bounds. */
export function pieces(tabs: readonly Tab[]): Piece[] {
  return tabs
    .slice(0, MAX_PIECES)
    .map(({ document, text, place }) => ({ path: document.slice(0, 4096), text: around(text, place, PIECE_BYTES) }))
    .filter(({ text }) => text.trim() !== "");
}

/**
 * Whole lines around a place, in `limit` bytes of UTF-8 at most: those above and below it in turn. A line is never cut:
 * half a credential is no longer known for one.
 */
export function around(text: string, place: number, limit: number): string {
  let start = lineStart(text, Math.min(place, text.length));
  let end = start;
  let left = limit;
  const take = (from: number, to: number): boolean => {
    // A character is at least a byte: a line that is too long is not encoded to find that out.
    const size = to - from > left ? left + 1 : Buffer.byteLength(text.slice(from, to));
    if (to === from || size > left) {
      return false;
    }
    left -= size;
    return true;
  };
  let above = true;
  let below = true;
  while (above || below) {
    if (below) {
      const next = text.indexOf("\n", end);
      const to = next < 0 ? text.length : next + 1;
      below = take(end, to);
      end = below ? to : end;
    }
    if (above) {
      const from = lineStart(text, start - 1);
      above = take(from, start);
      start = above ? from : start;
    }
  }
  return text.slice(start, end);
}

/** Where the line begins that holds the character before `at`. */
const lineStart = (text: string, at: number): number => (at <= 0 ? 0 : text.lastIndexOf("\n", at - 1) + 1);
