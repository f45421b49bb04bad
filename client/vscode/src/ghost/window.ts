/** The text around a cursor that is sent: as much as the engine reads, and only whole characters. Pure. */

/** More text than this is not read by the agent either, before and behind the cursor. */
export const BEFORE = 64 << 10;
export const BEHIND = 16 << 10;
/** The window moves in steps, not with each key: what is known of a place must stay findable. */
export const STEP = 4 << 10;

/** What is read of a file in which nobody has placed the cursor yet: no more than a larger base's window surely holds. */
export const OPENED = 4 << 10;

/** Where a window that ends at `at` begins. */
export const first = (at: number): number => Math.max(0, Math.ceil((at - BEFORE) / STEP) * STEP);

/** Without the half of a surrogate pair that a cut left at either end. */
export function whole(text: string): string {
  const start = isLow(text.charCodeAt(0)) ? 1 : 0;
  const end = isHigh(text.charCodeAt(text.length - 1)) ? text.length - 1 : text.length;
  return text.slice(start, Math.max(start, end));
}

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit <= 0xdfff;
