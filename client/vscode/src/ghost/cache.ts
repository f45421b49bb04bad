/**
 * Recent suggestions, by the text they continue. Typing along a suggestion, accepting a part of it or going back asks
 * nobody: the rest of what is known is the answer. Pure.
 */
const ENTRIES = 16;

/** A place in a document: the text on both sides of the cursor. */
export interface Place {
  readonly document: string;
  readonly prefix: string;
  readonly suffix: string;
}

export interface Known {
  readonly id: string;
  readonly model: string;
  readonly texts: readonly string[];
  /** True where a person asked by hand: all that was written is there, and the alternatives. */
  readonly byHand: boolean;
}

/** What is left of a known suggestion at a place. `choices` are the alternatives' numbers in the agent's answer. */
export interface Rest extends Known {
  readonly choices: readonly number[];
  readonly typed: number;
}

export class SuggestionCache {
  private readonly entries: { readonly place: Place; readonly known: Known }[] = [];

  put(place: Place, known: Known): void {
    const same = this.entries.findIndex(
      ({ place: old }) => old.document === place.document && old.prefix === place.prefix && old.suffix === place.suffix,
    );
    if (same >= 0) {
      this.entries.splice(same, 1);
    }
    this.entries.unshift({ place, known });
    this.entries.length = Math.min(this.entries.length, ENTRIES);
  }

  /** The rest of the newest suggestion that the text at `place` follows, or undefined. */
  find(place: Place): Rest | undefined {
    for (const { place: old, known } of this.entries) {
      if (old.document !== place.document || old.suffix !== place.suffix || !place.prefix.startsWith(old.prefix)) {
        continue;
      }
      const typed = place.prefix.slice(old.prefix.length);
      const choices = known.texts.flatMap((text, number) =>
        text.length > typed.length && text.startsWith(typed) ? [number] : [],
      );
      if (choices.length > 0 || (known.texts.length === 0 && typed === "")) {
        const texts = choices.map((number) => (known.texts[number] as string).slice(typed.length));
        return { ...known, texts, choices, typed: typed.length };
      }
    }
    return undefined;
  }

  /** Another model answers now: what the old one said is of no more use. */
  clear(): void {
    this.entries.length = 0;
  }
}
